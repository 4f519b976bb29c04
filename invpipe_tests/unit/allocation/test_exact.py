"""The exact method against enumeration, an independent linear programme and published numbers."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invpipe.allocation import AllocationProblem, allocate, capital_curve, expected_values
from invpipe.allocation.exact import span_values
from invpipe.forecast.law import CountLaw
from invpipe_tests.oracles import allocation as oracle

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0, 3.0, 1000.0])


def single(mean, price, cost, salvage, capital=np.inf, size=np.inf, **changes):
    return AllocationProblem(
        skus=("A",),
        vendors=("V",),
        unit_price=np.array([price]),
        unit_cost=np.array([cost]),
        holding_cost=np.zeros(1),
        salvage_value=np.array([salvage]),
        demand=CountLaw(np.array([mean]), np.array([size])),
        capital=capital,
        **({"inventory_position_units": np.zeros(1, dtype=np.int64)} | changes),
    )


def test_poisson_newsvendor_published():
    """Prevents an order one unit beside the newsvendor's: stockpyl documents S* = 56, cost 1.797235211809178 (h .18, p .70, mean 50)."""
    plan = allocate(single(50.0, price=1.70, cost=1.0, salvage=0.82))
    assert plan.order_units.tolist() == [56]
    assert plan.status == "optimal"
    assert 0.70 * 50 - plan.expected_value == pytest.approx(1.797235211809178, rel=1e-9)


@pytest.mark.parametrize(("units", "value"), [([0, 900, 466], 2073.25), ([572, 355, 669], 2244.10)])
def test_packing_values_published(units, value):
    """Prevents a wrong sum of P(D >= n): published values of two plans for Poisson demand 600, 900, 700 at 1.30, 1.60, 1.40."""
    values = span_values(
        np.array([600.0, 900.0, 700.0]), np.full(3, np.inf), np.array([1.3, 1.6, 1.4]), np.zeros(3), np.zeros(3, np.int64), np.array(units)
    )
    assert values.sum() == pytest.approx(value, abs=0.005)


@pytest.mark.parametrize("mean", [0.003, 0.4, 7.0, 480.0, 520.0, 3_000.0, 100_000.0])
@pytest.mark.parametrize("size", [0.2, 5.0, 700.0, 1e7, 1e9, np.inf])
def test_recursion_agrees_with_the_incomplete_beta_function(mean, size):
    """Prevents underflow of P(D = 0) at large means from passing as certain sales or none."""
    law = CountLaw(np.array([mean]), np.array([size]))
    for tau in (0.001, 0.3, 0.9, 0.999):
        stock = law.quantile(tau)
        got = span_values(law.mean, law.size, np.ones(1), np.zeros(1), np.zeros(1, np.int64), stock)
        assert got == pytest.approx(law.expected_sales(stock), rel=1e-9, abs=1e-12)
        later = span_values(law.mean, law.size, np.ones(1), np.zeros(1), stock, 2 * stock + 5)
        assert later == pytest.approx(law.expected_sales(2 * stock + 5) - law.expected_sales(stock), rel=1e-7, abs=1e-9 * mean)


@pytest.mark.parametrize("mean", [0.4, 30.0, 800.0])
@pytest.mark.parametrize("size", [0.5, 40.0, np.inf])
def test_limit_is_the_critical_fractile(mean, size):
    """Prevents buying one unit more or less than the smallest n with P(D <= n) >= (p - c) / (p - s)."""
    plan = allocate(single(mean, price=10.0, cost=6.0, salvage=3.5, size=size))
    fractile = 4.0 / 6.5
    quantile = stats.poisson.ppf(fractile, mean) if np.isinf(size) else stats.nbinom.ppf(fractile, size, size / (size + mean))
    assert plan.order_units.tolist() == [int(quantile)]
    stocked = single(mean, price=10.0, cost=6.0, salvage=3.5, size=size, inventory_position_units=np.array([int(quantile)]))
    assert allocate(stocked).order_units.tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 4), share=SHARES, packs=st.booleans())
def test_enumeration(seed, rows, share, packs):
    """Prevents a plan called optimal that is not, and a bound below the best integer plan."""
    problem = oracle.random_problem(seed, rows, capital_share=share, mean=1.0, packs=packs, price_below_cost=True)
    plan = allocate(problem)
    best = oracle.best_value(problem)
    scale = 1e-9 * max(abs(best), 1.0)
    assert plan.objective == pytest.approx(oracle.plan_value(problem, plan.order_units), abs=scale)
    assert plan.objective <= best + scale
    assert plan.bound >= best - scale
    if plan.status == "optimal":
        assert plan.objective == pytest.approx(best, abs=1e-8 * max(best, 1.0))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 30), share=SHARES, packs=st.booleans())
def test_bound_is_the_linear_relaxation_over_lots(seed, rows, share, packs):
    """Prevents a certificate that only the sort believes: HiGHS on the same lots, built from scipy's laws, gives the same to 1e-9."""
    problem = oracle.random_problem(seed, rows, capital_share=share, packs=packs, price_below_cost=True)
    assert allocate(problem).bound == pytest.approx(oracle.lot_relaxation(problem), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 60), share=SHARES, packs=st.booleans())
def test_plan_is_whole_lots_under_the_capital(seed, rows, share, packs):
    """Prevents overspending by one unit, broken packs and orders below the minimum; and a fitting, paying lot left on the table."""
    problem = oracle.random_problem(seed, rows, capital_share=share, packs=packs)
    plan = allocate(problem)
    ordered = plan.order_units > 0
    assert plan.order_value <= problem.capital * (1 + 1e-12)
    assert (plan.order_units[ordered] >= problem.min_order_units[ordered]).all()
    assert (plan.order_units % problem.pack_units == 0).all()
    left = problem.capital - plan.order_value
    for row in range(rows):
        lot = int(problem.next_lot_units(plan.order_units)[row])
        if problem.unit_cost[row] * lot < left * (1 - 1e-9):
            order = int(plan.order_units[row])
            assert oracle.order_value(problem, row, order + lot) - oracle.order_value(problem, row, order) <= 1e-9


def test_sequential_greedy_gives_the_same_plan():
    """Prevents the selection without a sort from leaving the order of the sorted lots, equal ratios included."""
    problem = oracle.random_problem(5, 300, capital_share=0.3, packs=True)
    twins = np.arange(300) // 3 * 3  # three rows each share everything, so that ratios tie exactly
    problem = _twins(problem, twins)
    lots = []
    for row in range(len(problem)):
        orders = oracle.admissible_orders(problem, row)
        worst = np.inf
        for k, (before, after) in enumerate(pairwise(orders)):
            cost = problem.unit_cost[row] * (after - before)
            worst = min(worst, round((oracle.order_value(problem, row, after) - oracle.order_value(problem, row, before)) / cost, 10))
            lots.append((-worst, row, k, cost, after))
    order_units, barred, left = np.zeros(len(problem), np.int64), set(), problem.capital
    for _, row, _, cost, after in sorted(lots):
        if row not in barred and cost <= left:
            order_units[row] = after
            left -= cost
        else:
            barred.add(row)
    assert allocate(problem).order_units.tolist() == order_units.tolist()


def _twins(problem, rows):
    return AllocationProblem(
        skus=problem.skus,
        vendors=problem.vendors,
        unit_price=problem.unit_price[rows],
        unit_cost=problem.unit_cost[rows],
        holding_cost=problem.holding_cost[rows],
        salvage_value=problem.salvage_value[rows],
        inventory_position_units=problem.inventory_position_units[rows],
        demand=problem.demand.take(rows),
        capital=problem.capital,
        min_order_units=problem.min_order_units[rows],
        pack_units=problem.pack_units[rows],
    )


def test_ties_lose_no_unit():
    """Prevents the sorting trap: equal marginals of many SKUs differ by rounding, unit n + 1 sorts before unit n and is lost."""
    n, each = 200, 4
    problem = AllocationProblem(
        skus=tuple(f"S{i:03d}" for i in range(n)),
        vendors=("V",) * n,
        unit_price=np.full(n, 3.0),
        unit_cost=np.full(n, 0.1),
        holding_cost=np.zeros(n),
        salvage_value=np.zeros(n),
        inventory_position_units=np.zeros(n, dtype=np.int64),
        demand=CountLaw(np.full(n, 1_000.0), np.full(n, np.inf)),  # the first units sell for certain: all ratios are equal
        capital=0.1 * n * each,
    )
    plan = allocate(problem)
    assert plan.order_units.sum() == n * each
    assert plan.order_value == pytest.approx(problem.capital)
    assert plan.status == "optimal"


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, packs=st.booleans())
def test_more_capital_never_earns_less(seed, packs):
    """Prevents a what-if curve whose bound falls or whose capital price rises with the capital."""
    problem = oracle.random_problem(seed, 20, packs=packs)
    capitals = problem.capital * np.linspace(0.0, 4.0, 17)
    curve = capital_curve(problem, capitals.tolist())
    bound, price = curve["bound"].to_numpy(), curve["capital_price"].to_numpy()
    assert (np.diff(bound) >= -1e-9).all()
    assert (np.diff(price) <= 1e-9).all()
    # the price is the slope of the bound: concave, so between the slopes left and right
    assert (np.diff(bound) <= price[:-1] * np.diff(capitals) + 1e-9).all()
    assert (np.diff(bound) >= price[1:] * np.diff(capitals) - 1e-9).all()
    assert (curve["expected_value"] <= curve["bound"] + 1e-9).all()
    assert (curve["order_value"] <= curve["capital"] + 1e-9).all()


def test_corners():
    """Prevents a crash or an order where there is nothing to spend, nothing to sell, nothing to choose from, or no limit."""
    problem = oracle.random_problem(3, 50)
    nothing = allocate(replace(problem, capital=0.0))
    assert nothing.order_units.sum() == 0
    assert nothing.status == "optimal"
    assert nothing.capital_price > 0
    unlimited = allocate(replace(problem, capital=np.inf))
    assert unlimited.status == "optimal"
    assert unlimited.capital_price == 0.0
    assert unlimited.order_units.tolist() == allocate(replace(problem, capital=1e15)).order_units.tolist()
    unwanted = allocate(replace(problem, demand=CountLaw(np.zeros(50), np.ones(50))))
    assert unwanted.order_units.sum() == 0
    assert (unwanted.bound, unwanted.capital_price, unwanted.status) == (0.0, 0.0, "optimal")
    empty = allocate(problem.take(np.arange(0)))
    assert (len(empty.order_units), empty.objective, empty.status) == (0, 0.0, "optimal")


def test_position_far_above_demand_orders_nothing():
    """Prevents the recursion from walking through a million units of stock, or from seeing demand past the end of the law."""
    problem = oracle.random_problem(3, 50)
    stocked = replace(problem, inventory_position_units=np.full(50, 10**12))
    assert allocate(stocked).order_units.sum() == 0


def test_huge_minimum_is_valued_whole():
    """Prevents a first lot far past the demand from being valued by its first units only."""
    problem = single(3.0, price=10.0, cost=1.0, salvage=0.9, min_order_units=np.array([200]))
    plan = allocate(problem)
    assert oracle.order_value(problem, 0, 200) > 0
    assert plan.order_units.tolist() == [200]
    assert plan.expected_value == pytest.approx(oracle.order_value(problem, 0, 200), rel=1e-9)
    assert allocate(replace(problem, min_order_units=np.array([500]))).order_units.tolist() == [0]


def test_too_many_lots_is_an_error(monkeypatch):
    """Prevents a catalogue of bulk goods ordered by the piece from filling the memory: the message says to order in packs."""
    from invpipe.allocation import exact
    from invpipe.errors import AllocationError

    def full(*args):
        return np.array([0, -1]), np.zeros(0), np.zeros(0)

    monkeypatch.setattr(exact, "price_lots", full)
    with pytest.raises(AllocationError, match=r"more than 20,000,000 lots are worth buying, exceeded at sku 'A'; order in larger packs"):
        allocate(single(3.0, price=10.0, cost=1.0, salvage=0.5))


def test_expected_value_of_any_order():
    """Prevents plans of different methods from being compared in different currencies."""
    problem = oracle.random_problem(11, 12)
    order_units = np.random.default_rng(0).integers(0, 7, 12)
    values = [oracle.order_value(problem, row, int(units)) for row, units in enumerate(order_units)]
    assert expected_values(problem, order_units) == pytest.approx(values, rel=1e-10, abs=1e-12)


def test_same_input_same_bytes():
    """Prevents a plan that depends on anything but the problem."""
    problem = oracle.random_problem(8, 500, packs=True)
    first, again = allocate(problem), allocate(replace(problem))
    assert first.order_units.tobytes() == again.order_units.tobytes()
    assert (first.objective, first.bound, first.capital_price) == (again.objective, again.bound, again.capital_price)
    assert first.lines.equals(again.lines)
