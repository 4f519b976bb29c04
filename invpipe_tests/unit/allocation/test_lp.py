"""The linear programme against scipy on the model as written, its certificate, its rounding."""

from dataclasses import replace

import highspy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.allocation import AllocationParams, AllocationProblem, allocate, lp
from invpipe.errors import SolverError
from invpipe.forecast.law import CountLaw
from invpipe_tests.oracles import allocation as oracle

SEEDS = st.integers(0, 2**32 - 1)
SHARES = st.sampled_from([0.0, 0.1, 0.4, 1.0, 1000.0])


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 25), share=SHARES, penalty=st.sampled_from([0.0, 0.5, 1.0, 4.0]), fractions=st.booleans())
def test_objective_equals_scipy_on_the_written_model(seed, rows, share, penalty, fractions):
    """Prevents a wrong sign, row or bound in the column-major call: scipy solves the document's model without our added bounds."""
    problem = oracle.random_problem(seed, rows, capital_share=share, price_below_cost=True)
    median, upper = problem.demand.quantile(0.5).astype(float), problem.demand.quantile(0.9).astype(float)
    if fractions:
        median, upper = 0.9 * median + 0.25, 1.1 * upper + 0.25
        problem = replace(problem, median_units=median, upper_units=upper)
    plan = allocate(problem, "lp", AllocationParams(stockout_penalty_frac=penalty))
    expected = oracle.document_programme(problem, median, upper, penalty)
    assert plan.bound == pytest.approx(expected, rel=1e-7, abs=1e-6)
    assert plan.objective <= plan.bound + 1e-6
    assert plan.capital_price >= 0


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 40), share=SHARES)
def test_two_segment_sort_equals_the_programme(seed, rows, share):
    """Prevents belief in the solver alone: with one capital row the programme is a sort of two segments per SKU."""
    problem = oracle.random_problem(seed, rows, capital_share=share)
    penalty = 0.8
    median, upper = problem.demand.quantile(0.5), problem.demand.quantile(0.9)
    position = problem.inventory_position_units
    to_median = np.maximum(median - position, 0)
    to_upper = np.maximum(upper - position, 0) - to_median
    gain = penalty * problem.unit_price - problem.unit_cost
    worth = np.concatenate([gain + problem.unit_price, gain - problem.holding_cost])
    cost, units = np.tile(problem.unit_cost, 2), np.concatenate([to_median, to_upper])
    start = problem.unit_price @ np.minimum(position, median) - problem.holding_cost @ np.maximum(position - median, 0)
    value, left = start - penalty * problem.unit_price @ np.maximum(upper - position, 0), problem.capital
    for k in np.argsort(-worth / cost, kind="stable"):
        if worth[k] > 0:
            bought = min(units[k], left / cost[k])
            value += bought * worth[k]
            left -= bought * cost[k]
    plan = allocate(problem, "lp", AllocationParams(stockout_penalty_frac=penalty))
    assert plan.bound == pytest.approx(value, rel=1e-7, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 40), share=SHARES, packs=st.booleans())
def test_rounding_keeps_lots_and_capital(seed, rows, share, packs):
    """Prevents an integer plan over the cap, broken packs, and rounding up twice: with fractional quantiles every SKU has a remainder."""
    problem = oracle.random_problem(seed, rows, capital_share=share, packs=packs)
    problem = replace(problem, median_units=problem.demand.mean * 0.77, upper_units=problem.demand.mean * 2.31)
    plan = allocate(problem, "lp", AllocationParams(stockout_penalty_frac=1.5))
    ordered = plan.order_units > 0
    assert plan.order_value <= problem.capital * (1 + 1e-12)
    assert (plan.order_units[ordered] >= problem.min_order_units[ordered]).all()
    assert (plan.order_units % problem.pack_units == 0).all()
    assert plan.rounding_loss >= -1e-6


def test_largest_remainder_goes_first_and_respects_the_cap():
    """Prevents the leftover from going to the first row instead of the largest remainder, and past the capital."""
    problem = AllocationProblem(
        skus=("A", "B", "C"),
        vendors=("V",) * 3,
        unit_price=np.full(3, 10.0),
        unit_cost=np.full(3, 4.0),
        holding_cost=np.zeros(3),
        salvage_value=np.zeros(3),
        inventory_position_units=np.zeros(3, dtype=np.int64),
        demand=CountLaw(np.full(3, 9.0), np.full(3, np.inf)),
        capital=4.0 * 6,
        median_units=np.full(3, 8.0),
        upper_units=np.full(3, 8.0),
    )
    model = lp.LpModel.of(problem, AllocationParams())
    assert lp.round_to_lots(problem, model, np.array([1.3, 2.8, 1.9])).tolist() == [1, 3, 2]
    assert lp.round_to_lots(problem, model, np.array([1.3, 2.9, 1.8])).tolist() == [1, 3, 2]
    assert lp.round_to_lots(problem, model, np.array([2.0 + 1e-8, 2.0, 2.0])).tolist() == [2, 2, 2]
    one_less = replace(problem, capital=4.0 * 6 - 0.5)
    assert lp.round_to_lots(one_less, lp.LpModel.of(one_less, AllocationParams()), np.array([1.3, 2.6, 1.9])).tolist() == [1, 2, 2]


def test_solver_tolerance_cannot_overspend():
    """Prevents the solver's feasibility tolerance from buying a unit that the capital does not cover: one lot is given back."""
    problem = oracle.random_problem(1, 5)
    problem = replace(problem, median_units=np.full(5, 9.0), upper_units=np.full(5, 9.0), capital=float(problem.unit_cost.sum()) * 3 - 1e-7)
    units = lp.round_to_lots(problem, lp.LpModel.of(problem, AllocationParams()), np.full(5, 3.0))
    assert units.sum() == 14
    assert units @ problem.unit_cost <= problem.capital


def test_minimum_order_is_not_bought_for_the_sake_of_one_unit():
    """Prevents a remainder of 1/50 of a lot from being rounded up to a loss when capital abounds."""
    problem = oracle.random_problem(1, 1, mean=3.0)
    problem = replace(
        problem, capital=1e9, min_order_units=np.array([50]), median_units=np.ones(1) + 2, upper_units=np.ones(1) + 2,
        inventory_position_units=np.array([2]), holding_cost=np.ones(1),
    )  # fmt: skip
    assert allocate(problem, "lp").order_units.tolist() == [0]


def test_small_penalty_never_buys_past_the_median():
    """Prevents silent change of the objective: with lambda < (c + h) / p the document's programme stops at the median."""
    problem = replace(oracle.random_problem(4, 40, mean=6.0), capital=np.inf)
    shy = 0.99 * float(((problem.unit_cost + problem.holding_cost) / problem.unit_price).min())
    plan = allocate(problem, "lp", AllocationParams(stockout_penalty_frac=shy))
    after = problem.inventory_position_units + plan.order_units
    assert (after <= np.maximum(problem.demand.quantile(0.5), problem.inventory_position_units)).all()
    bold = allocate(problem, "lp", AllocationParams(stockout_penalty_frac=4.0))
    assert (bold.order_units >= plan.order_units).all()
    assert bold.order_units.sum() > plan.order_units.sum()


def test_time_limit_gives_no_plan():
    """Prevents a half-solved programme from passing as a plan."""
    problem = oracle.random_problem(4, 2_000)
    with pytest.raises(SolverError, match=r"HiGHS reached the time limit of 1e-06 s on 2000 SKUs; raise time_limit_seconds"):
        allocate(problem, "lp", AllocationParams(time_limit_seconds=1e-6))


def test_optimum_without_certificate_is_an_error(monkeypatch):
    """Prevents a wrong optimum from being called optimal because the solver says so."""
    problem = oracle.random_problem(4, 20)
    monkeypatch.setattr(lp, "_dual_objective", lambda *args: 1e6)
    with pytest.raises(SolverError, match=r"the optimum of HiGHS lacks its certificate: primal .*, dual 1000000.0"):
        allocate(problem, "lp")


def test_other_status_is_an_error(monkeypatch):
    """Prevents a plan from being read off a programme that the solver calls infeasible."""
    monkeypatch.setattr(highspy.Highs, "getModelStatus", lambda self: highspy.HighsModelStatus.kInfeasible)
    with pytest.raises(SolverError, match=r"HiGHS ended with status 'Infeasible' on 20 SKUs; no plan"):
        allocate(oracle.random_problem(4, 20), "lp")


def test_refused_model_is_an_error():
    """Prevents a model HiGHS does not take from being solved as an empty one."""
    problem = oracle.random_problem(4, 3)
    model = lp.LpModel(problem, np.full(3, np.nan), np.full(3, np.nan), np.full(3, np.nan))
    with pytest.raises(SolverError, match=r"HiGHS refuses the model of 3 SKUs"):
        lp.solve(model, 10.0)


def test_empty_and_penniless_problems():
    """Prevents a crash on a day without offers or without money."""
    problem = oracle.random_problem(4, 20)
    assert len(allocate(problem.take(np.arange(0)), "lp").order_units) == 0
    assert allocate(replace(problem, capital=0.0), "lp").order_units.sum() == 0
    assert allocate(replace(problem, capital=np.inf), "lp").capital_price == 0.0


def test_same_input_same_bytes():
    """Prevents a plan that depends on the run of the solver."""
    problem = oracle.random_problem(8, 400, packs=True)
    first, again = allocate(problem, "lp"), allocate(problem, "lp")
    assert first.order_units.tobytes() == again.order_units.tobytes()
    assert (first.objective, first.bound, first.capital_price) == (again.objective, again.bound, again.capital_price)
