"""Plans of all methods side by side, the greedy baseline, vendor minimums, order lines and their reasons."""

import doctest
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe import allocation
from invpipe.allocation import AllocationProblem, allocate, capital_curve, plan
from invpipe.allocation.greedy import fill_by_rank, target_units
from invpipe.allocation.reasons import LINE_COLUMNS
from invpipe.errors import AllocationError, SolverError
from invpipe.forecast.law import CountLaw
from invpipe_tests.oracles import allocation as oracle

METHODS = ("exact", "lp", "greedy")


def priced(price, cost, mean, capital, **changes):
    n = len(mean)
    return AllocationProblem(
        skus=tuple("ABCDEFGH"[:n]),
        unit_price=np.array(price),
        unit_cost=np.array(cost),
        holding_cost=np.zeros(n),
        demand=CountLaw(np.array(mean), np.full(n, np.inf)),
        capital=capital,
        **({"vendors": ("V",) * n, "inventory_position_units": np.zeros(n, np.int64), "salvage_value": np.zeros(n)} | changes),
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 40), share=st.sampled_from([0.0, 0.1, 0.5, 5.0]), packs=st.booleans())
def test_no_method_passes_the_exact_bound(seed, rows, share, packs):
    """Prevents a comparison in which a method seems to earn more than is possible, or spends more than there is."""
    problem = oracle.random_problem(seed, rows, capital_share=share, packs=packs)
    bound = allocate(problem).bound
    for method in METHODS:
        result = allocate(problem, method)
        assert result.expected_value <= bound * (1 + 1e-9) + 1e-9
        assert result.order_value <= problem.capital * (1 + 1e-12)
        assert result.gap >= 0
        assert result.status == ("optimal" if result.gap <= 1e-9 else "feasible")
        assert result.lines.height == np.count_nonzero(result.order_units)
        assert result.lines["reason"].str.len_chars().min() is None or result.lines["reason"].str.len_chars().min() > 40


def test_exact_beats_lp_and_greedy_on_a_catalogue():
    """Prevents a regression of the exact method behind the baselines where capital binds; greedy's gap is certified by the same bound."""
    problem = oracle.random_problem(2, 1_000, capital_share=0.3)
    exact, programme, greedy = (allocate(problem, method) for method in METHODS)
    assert exact.bound >= exact.expected_value > max(programme.expected_value, greedy.expected_value)
    assert greedy.bound == exact.bound
    assert exact.gap < 1e-3


def test_greedy_targets():
    """Prevents banker's rounding of the mean (2.5 is 3), orders past the target of stocked SKUs, and lots other than the nearest."""
    problem = priced(
        [9.0] * 5, [1.0] * 5, [0.49, 0.5, 2.5, 4.0, 7.0], 1e9,
        inventory_position_units=np.array([0, 0, 0, 6, 0]), pack_units=np.array([1, 1, 1, 1, 4]),
    )  # fmt: skip
    assert target_units(problem).tolist() == [0, 1, 3, 0, 8]
    assert target_units(replace(problem, min_order_units=np.array([1, 1, 7, 1, 9]))).tolist() == [0, 1, 0, 0, 12]


def test_greedy_fills_from_the_top_in_full_or_not_at_all():
    """Prevents partial orders, loss-making orders, and stopping at the first order that does not fit."""
    # profit per capital: A 1.0, B 2.0, C 0.5, D loses
    problem = priced([20.0, 30.0, 15.0, 12.0], [10.0, 10.0, 10.0, 11.9], [3.0, 2.0, 1.0, 0.6], 35.0)
    assert fill_by_rank(problem).tolist() == [0, 2, 1, 0]
    assert fill_by_rank(replace(problem, capital=50.0)).tolist() == [3, 2, 0, 0]
    assert fill_by_rank(replace(problem, capital=np.inf)).tolist() == [3, 2, 1, 0]


def test_vendor_below_its_minimum_is_deferred_and_its_capital_reused():
    """Prevents an order the vendor refuses, and capital lying idle that another vendor's order could use."""
    problem = priced(
        [30.0, 30.0, 28.0], [10.0, 10.0, 10.0], [2.0, 3.0, 4.0], 50.0,
        vendors=("small", "big", "big"), vendor_min_order_value=np.array([40.0, 30.0, 30.0]),
    )  # fmt: skip
    free = allocate(replace(problem, vendor_min_order_value=np.zeros(1)))
    assert 0 < free.order_units[0] * 10 < 40
    for method in METHODS:
        result = allocate(problem, method)
        assert result.deferred_vendors == ("small",)
        assert result.order_units[0] == 0
        # greedy orders a target in full or not at all
        assert result.order_units[1:].sum() == (3 if method == "greedy" else 5)
    exact = allocate(problem)
    assert exact.bound == free.bound
    assert exact.status == "feasible"


def test_freed_capital_may_lift_the_next_vendor():
    """Prevents deferring all short vendors at once: the one nearest to its minimum is lifted by the capital of the other."""
    problem = priced(
        [30.0, 30.0], [10.0, 10.0], [3.0, 3.0], 40.0, vendors=("far", "near"), vendor_min_order_value=np.array([100.0, 30.0])
    )  # fmt: skip
    free = allocate(replace(problem, vendor_min_order_value=np.zeros(1)))
    assert free.order_units.tolist() == [2, 2]
    result = allocate(problem)
    assert result.deferred_vendors == ("far",)
    assert result.order_units[1] >= 3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), least=st.floats(0.0, 300.0), method=st.sampled_from(METHODS), packs=st.booleans())
def test_every_vendor_order_reaches_the_minimum_or_is_none(seed, least, method, packs):
    """Prevents an order below a vendor's minimum, and a vendor that is deferred and ordered from at once."""
    problem = replace(oracle.random_problem(seed, 15, packs=packs), vendor_min_order_value=np.full(1, least))
    result = allocate(problem, method)
    assert result.order_value <= problem.capital * (1 + 1e-12)
    assert result.expected_value <= allocate(problem).bound * (1 + 1e-9) + 1e-9
    for vendor in set(problem.vendors):
        rows = [row for row, name in enumerate(problem.vendors) if name == vendor]
        total = float(result.order_units[rows] @ problem.unit_cost[rows])
        assert total == 0 or total >= least * (1 - 1e-12)
        assert total == 0 or vendor not in result.deferred_vendors


def test_all_vendors_deferred_is_an_empty_plan():
    """Prevents a loop without end or a plan below every minimum."""
    result = allocate(replace(oracle.random_problem(1, 30), vendor_min_order_value=np.full(1, 1e9)))
    assert result.order_units.sum() == 0
    assert result.deferred_vendors == ("V0", "V1", "V2")
    assert result.bound > 0
    assert result.lines.height == 0
    assert tuple(result.lines.columns) == LINE_COLUMNS


@pytest.mark.parametrize("method", METHODS)
def test_lines_agree_with_the_oracle(method):
    """Prevents figures in the order lines that belong to another SKU, another unit or another law."""
    problem = oracle.random_problem(6, 60, packs=True)
    result = allocate(problem, method)
    lines = result.lines
    assert tuple(lines.columns) == LINE_COLUMNS
    assert sorted(lines["sku"]) == [problem.skus[i] for i in np.flatnonzero(result.order_units)]
    assert lines["value_per_capital"].is_sorted(descending=True)
    assert lines["order_value"].sum() == pytest.approx(result.order_value)
    assert lines["capital_price"].unique().to_list() == [result.capital_price]
    for line in lines.iter_rows(named=True):
        row = problem.skus.index(line["sku"])
        order, after = int(result.order_units[row]), line["position_after_units"]
        assert (line["vendor"], line["order_units"]) == (problem.vendors[row], order)
        assert line["position_units"] + order == after
        assert line["sell_probability_last_unit"] == pytest.approx(oracle.survival(problem, row, after), rel=1e-9)
        assert line["marginal_value_last_unit"] == pytest.approx(oracle.unit_value(problem, row, after), rel=1e-9, abs=1e-9)
        last = int(problem.last_lot_units(result.order_units)[row])
        worth = oracle.order_value(problem, row, order) - oracle.order_value(problem, row, order - last)
        assert line["value_per_capital"] == pytest.approx(worth / (last * problem.unit_cost[row]), rel=1e-9, abs=1e-9)
        assert line["demand_q50_units"] <= line["demand_q90_units"]
        assert line["reason"].count(";") == 2
        assert line["reason"].endswith(".")


def reason_of(problem, method="exact", sku="A"):
    return allocate(problem, method).lines.filter(pl.col("sku") == sku)["reason"].item()


def test_reason_next_unit_does_not_pay():
    """Prevents 'capital binds' as the reason where capital abounds."""
    assert reason_of(priced([10.0], [5.0], [3.0], 1e6)) == (
        "3 units raise the position from 0 to 3; the last unit sells with a probability of 57.7 % and earns 0.77; "
        "1 further unit would lose 1.47."
    )


def test_reason_capital_binds():
    """Prevents a line cut short by capital from claiming that demand ends there."""
    problem = priced([10.0, 10.0], [5.0, 5.0], [3.0, 3.0], 10.0)
    assert allocate(problem).order_units.tolist() == [1, 1]
    assert reason_of(problem) == (
        "1 unit raises the position from 0 to 1; the last unit sells with a probability of 95.0 % and earns 4.50; "
        "1 further unit would earn 0.602 per unit of capital but costs 5.00 with 0.00 of capital left."
    )


def test_reason_other_lots_earn_more():
    """Prevents a line from blaming its own cost where the capital went to better lots."""
    problem = priced([10.0, 20.0], [5.0, 5.0], [3.0, 9.0], 50.0)
    assert allocate(problem).order_units.tolist() == [1, 9]
    assert reason_of(problem).endswith("1 further unit would earn 0.602 per unit of capital, less than the capital price of 0.65.")


def test_reason_names_minimum_order_and_pack():
    """Prevents a last unit that loses money from standing there unexplained."""
    assert "loses 1.47 by itself, but the minimum order of 4 units it belongs to earns" in reason_of(
        priced([10.0], [5.0], [3.0], 1e6, min_order_units=np.array([4]))
    )
    assert "by itself, but the pack of 5 units it belongs to earns" in reason_of(
        priced([10.0], [5.0], [8.0], 1e6, pack_units=np.array([5]))
    )


def test_reason_names_the_target_of_the_method():
    """Prevents lines of the baselines from being explained by a method that did not choose them."""
    problem = priced([10.0], [5.0], [3.0], 1e6)
    assert "towards the mean demand of 3;" in reason_of(problem, "greedy")
    assert "between the programme's median 3 and its upper quantile 5;" in reason_of(problem, "lp")
    given_quantiles = replace(problem, median_units=np.array([2.5]), upper_units=np.array([4.25]))
    assert "median 2.5 and its upper quantile 4.25;" in reason_of(given_quantiles, "lp")


def test_summary_agrees_with_the_plan():
    """Prevents key figures in the asset's metadata that differ from the plan."""
    problem = oracle.random_problem(6, 60)
    result = allocate(problem)
    summary = result.summary()
    assert summary["order_units"] == result.order_units.sum() == result.lines["order_units"].sum()
    assert summary["order_lines"] == result.lines.height
    assert summary["order_vendors"] == result.lines["vendor"].n_unique()
    assert summary["order_value"] == pytest.approx(result.lines["order_value"].sum())
    assert summary["gap_frac"] == result.gap
    assert summary["rounding_loss"] == result.bound - result.objective
    assert "problem" not in repr(result)


def test_curve_refuses_negative_capital():
    """Prevents a curve over sums that cannot exist."""
    problem = oracle.random_problem(6, 5)
    with pytest.raises(AllocationError, match=r"2 of 3 capitals are negative or not a number, first -1.0; give sums >= 0"):
        capital_curve(problem, [5.0, -1.0, np.nan])
    assert capital_curve(problem, []).height == 0


def test_curve_agrees_with_single_plans():
    """Prevents a what-if curve that promises what the plan does not hold."""
    problem = oracle.random_problem(6, 80, packs=True)
    curve = capital_curve(problem, [0.0, 50.0, 300.0, np.inf])
    for capital, value, bound, price, spent in curve.iter_rows():
        single = allocate(replace(problem, capital=capital))
        assert (single.expected_value, single.bound, single.capital_price, single.order_value) == (value, bound, price, spent)


def test_overspending_method_is_an_error(monkeypatch):
    """Prevents a defect of a method from becoming an order."""
    problem = oracle.random_problem(6, 5, capital_share=0.2)
    monkeypatch.setattr(plan.greedy, "fill_by_rank", lambda problem: np.full(5, 100))
    with pytest.raises(SolverError, match=r"method 'greedy' spends .* of a capital of .*; this is a defect of the method"):
        allocate(problem, "greedy")


def test_plan_above_its_bound_is_an_error(monkeypatch):
    """Prevents a bound that bounds nothing from being reported as a certificate."""
    problem = oracle.random_problem(6, 5)
    monkeypatch.setattr(plan.exact, "expected_values", lambda problem, order_units: np.array([1e6]))
    with pytest.raises(SolverError, match=r"method 'exact' gives a plan of 1000000.0 above its bound of .*; this is a defect"):
        allocate(problem)


def test_example_of_the_room():
    """Prevents the example in the room's docstring from growing stale."""
    assert doctest.testmod(allocation).failed == 0
