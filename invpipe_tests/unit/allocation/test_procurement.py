"""Procurement problems: both models of demand, several offers, lots, vendor terms and capacities, by every method."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.allocation import (
    AllocationParams,
    AllocationProblem,
    ProcurementProblem,
    allocate,
    capital_curve,
    decomposition,
    procurement_of,
    separable,
)
from invpipe.allocation.programme import relaxed_value, solve_linear
from invpipe.errors import AllocationError, SolverError
from invpipe.lagrangian.master import Master
from invpipe_tests.oracles import allocation as rows_oracle
from invpipe_tests.oracles import allocation_procurement as oracle

SEEDS = st.integers(0, 2**32 - 1)
EXACTLY = AllocationParams(mip_gap_frac=0.0)


def small(seed):
    """A problem that can be enumerated, with or without lots, vendor terms and a second capacity."""
    g = np.random.default_rng(seed)
    return oracle.rich_problem(
        seed, 3, int(g.integers(2, 4)), terms=g.random() < 0.7, lots=g.random() < 0.7, capacities=int(g.integers(1, 4))
    )


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 30), fractions=st.booleans())
def test_exact_equals_both_programmes_on_quantiles(seed, rows, fractions):
    """Prevents an exact method, or one of the two forms of the programme, that solves another problem: ties, zeros, no limit included."""
    problem = oracle.quantile_problem(seed, rows, fractions=fractions)
    exact = allocate(problem, "exact")
    for form in ("segments", "three_variables"):
        linear = allocate(problem, "lp", AllocationParams(lp_form=form))
        assert linear.bound == pytest.approx(exact.bound, rel=1e-9, abs=1e-9), form
    assert exact.objective == pytest.approx(oracle.plan_value(problem, exact.order_units), rel=1e-9, abs=1e-9)
    assert oracle.is_allowed(problem, exact.order_units)


@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 30))
def test_exact_equals_the_programme_on_survival(seed, rows):
    """Prevents units valued out of order: certain, impossible and equally likely sales included."""
    problem = oracle.survival_problem(seed, rows)
    exact = allocate(problem, "exact")
    assert allocate(problem, "lp").bound == pytest.approx(exact.bound, rel=1e-9, abs=1e-9)
    assert exact.objective <= exact.bound
    assert oracle.is_allowed(problem, exact.order_units)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 20), quantiles=st.booleans())
def test_exact_plan_is_the_best_integer_plan(seed, rows, quantiles):
    """Prevents rounding that gives away more than one part in 10,000 of what branch and bound finds."""
    problem = oracle.quantile_problem(seed, rows, fractions=True) if quantiles else oracle.survival_problem(seed, rows)
    exact, best = allocate(problem, "exact").objective, allocate(problem, "mip", EXACTLY).objective
    assert exact >= best - 1e-4 * abs(best) - 1e-9


def test_quantile_objective_is_the_document_s():
    """Prevents a lost constant: stock sells, is held, and leaves units missing before anything is ordered."""
    figures = [np.array([v]) for v in (10.0, 4.0, 0.5, 3.0, 5.0, 8.0, 2.0)]
    problem = AllocationProblem.from_quantiles(*figures, 1000.0)
    for x in range(8):
        sales, missing = min(3.0 + x, 5.0), max(8.0 - 3.0 - x, 0.0)
        assert problem.objective(np.array([x])) == pytest.approx(10 * sales - 4 * x - 0.5 * (3 + x - sales) - 2 * missing)
    assert allocate(problem).order_units.tolist() == [2]
    overstocked = AllocationProblem.from_quantiles(*figures[:3], np.array([9.0]), *figures[4:], 1000.0)
    assert overstocked.objective(np.array([0])) == pytest.approx(10 * 5 - 0.5 * 4)


def test_survival_objective_counts_ordered_units():
    """Prevents the stock's own units from being counted, or salvage without holding cost."""
    survival = np.array([[1.0, 0.8, 0.3, 0.1]])
    one = [np.array([v]) for v in (10.0, 3.0, 4.0, 1.0)]
    problem = AllocationProblem.from_survival(*one, np.array([1]), survival, np.inf)
    worth = [10 * s + (3.0 - 1.0) * (1 - s) - 4 for s in (0.8, 0.3, 0.1, 0.0)]
    assert problem.objective(np.array([3])) == pytest.approx(sum(worth[:3]))
    plan = allocate(problem)
    assert (plan.order_units.tolist(), plan.status, plan.capital_price) == ([2], "optimal", 0.0)


@settings(max_examples=80, deadline=None)
@given(seed=SEEDS)
def test_methods_agree_with_enumeration(seed):
    """Prevents a unit over a capacity, a vendor below its minimum, a bound below the optimum, and a programme that misses it."""
    problem = small(seed)
    best = oracle.best_value(problem)
    plans = {method: allocate(problem, method, EXACTLY) for method in ("lp", "mip", "lagrangian", "greedy")}
    for method, plan in plans.items():
        assert oracle.is_allowed(problem, plan.order_units), method
        assert all(units in oracle.orders_of(problem, o) for o, units in enumerate(plan.order_units)), method
        assert plan.objective == pytest.approx(oracle.plan_value(problem, plan.order_units), abs=1e-9), method
        assert plan.objective <= best + 1e-9, method
        assert plan.bound >= best - 1e-6, method
    assert plans["mip"].objective == pytest.approx(best, abs=1e-6)
    assert plans["mip"].objective >= plans["lagrangian"].objective >= max(plans["greedy"].objective, problem.base_value) - 1e-9
    assert plans["lp"].bound >= plans["mip"].bound - 1e-6


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, packs=st.booleans(), share=st.sampled_from([0.1, 0.4, 1000.0]))
def test_daily_problem_is_the_same_written_out(seed, packs, share):
    """Prevents two problems where there is one: value by value and method by method."""
    problem = rows_oracle.random_problem(seed, 12, packs=packs, capital_share=share)
    written, exact = procurement_of(problem), allocate(problem, "exact")
    assert written.objective(exact.order_units) == pytest.approx(exact.expected_value, rel=1e-9, abs=1e-9)
    assert separable.solve(written).bound >= exact.objective - 1e-9
    mip = allocate(problem, "mip", EXACTLY)
    assert mip.objective >= exact.objective - 1e-7
    assert mip.expected_value == pytest.approx(mip.objective, rel=1e-9, abs=1e-9)
    assert mip.bound <= exact.bound + 1e-6


def test_daily_problem_keeps_vendor_minimums_by_mip():
    """Prevents vendor minimums from being lost where the problem is written out, or deferred where filling them pays."""
    problem = rows_oracle.random_problem(3, 12)
    least = np.round(0.2 * problem.capital * np.ones(12), 2)
    problem = replace(problem, vendor_min_order_value=least)
    heuristic, mip = allocate(problem, "exact"), allocate(problem, "mip", EXACTLY)
    spent = np.bincount(problem.vendor_codes, weights=mip.order_units * problem.unit_cost)
    assert (spent[spent > 0] >= least[0]).all()
    assert mip.objective >= heuristic.objective - 1e-7


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, rows=st.integers(1, 12), share=st.sampled_from([0.1, 0.6]))
def test_lp_forms_of_the_daily_problem_agree(seed, rows, share):
    """Prevents a segment form that reads other quantiles or another penalty than the programme as written."""
    problem = rows_oracle.random_problem(seed, rows, capital_share=share)
    written, segments = (allocate(problem, "lp", AllocationParams(lp_form=form)) for form in (None, "segments"))
    assert segments.bound == pytest.approx(written.bound, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, prices=st.lists(st.sampled_from([0.0, 0.1, 1.0, 5.0]), min_size=2, max_size=2))
def test_relaxed_value_bounds_the_relaxation(seed, prices):
    """Prevents a certificate that certifies too little: at any prices it is at least the optimum, at the duals equal to it."""
    problem = oracle.rich_problem(seed, 8, 3, 3)
    linear = solve_linear(problem, 10.0)
    assert relaxed_value(problem, np.array(prices)) >= linear.objective - 1e-7
    assert relaxed_value(problem, linear.capacity_prices) == pytest.approx(linear.objective, rel=1e-7)


def test_several_vendor_terms_are_certified():
    """Prevents a set search that stops with a loose bound, or differs between two runs."""
    problem = oracle.rich_problem(5, 150, 6, 3, capacities=1)
    problem = replace(problem, capacity_limit=np.array([0.3 * problem.unit_cost.sum()]))
    first, second = (allocate(problem, "lagrangian", AllocationParams(mip_gap_frac=1e-3)) for _ in range(2))
    assert first.gap <= 0.02
    assert first.order_units.tolist() == second.order_units.tolist()
    assert (first.bound, first.objective) == (second.bound, second.objective)
    assert not problem.faults(first.order_units)
    assert first.summary()["order_vendors"] == int(problem.vendor_used(first.order_units).sum())


@pytest.mark.parametrize("most", [0, 1])
def test_vendors_past_the_enumerated_ones_keep_a_valid_bound(monkeypatch, most):
    """Prevents a bound that forgets vendors: those past the limit are bounded without their terms, and still keep them in the plan."""
    monkeypatch.setattr(decomposition, "MAX_TERM_VENDORS", most)
    for seed in range(12):
        problem = oracle.rich_problem(seed, 3, 3)
        if seed % 2:  # nothing but fixed costs links the SKUs
            problem = replace(problem, capacity_limit=np.full(2, np.inf), vendor_min_order_value=np.zeros(3))
        plan, best = allocate(problem, "lagrangian", EXACTLY), oracle.best_value(problem)
        assert oracle.is_allowed(problem, plan.order_units)
        assert plan.objective <= best + 1e-9
        assert plan.bound >= best - 1e-6


def test_time_limit_leaves_a_plan():
    """Prevents no plan, or an error, where the clock runs out."""
    problem = oracle.rich_problem(5, 60, 6, 3)
    for method in ("lagrangian", "mip"):
        plan = allocate(problem, method, AllocationParams(mip_gap_frac=0.0, time_limit_seconds=1e-6))
        assert plan.objective >= problem.base_value
        assert plan.bound >= plan.objective


def test_reason_of_a_line():
    """Prevents lines without the comparison that decided them."""
    ones = np.ones(2)
    survival = np.array([[0.9, 0.6, 0.1], [0.9, 0.5, 0.1]])
    problem = AllocationProblem.from_survival(10 * ones, 0 * ones, 4 * ones, 0 * ones, np.zeros(2, np.int64), survival, 12.0)
    plan = allocate(problem)
    assert plan.order_units.tolist() == [2, 1]
    assert plan.lines["reason"].to_list() == [
        "unit 1 earns 1.25 per unit of capital, capital earns 0.25.",
        "unit 2 earns 0.5 per unit of capital, capital earns 0.25.",
    ]
    packs = replace(problem, pack_units=np.array([2, 1]))
    assert allocate(packs).lines["reason"].to_list()[1] == "units 1 to 2 earn 0.875 per unit of capital, capital earns 0.25."
    two = replace(
        problem, capacity_names=("capital", "volume"), capacity_use=np.stack([4 * ones, ones]), capacity_limit=np.array([12.0, 9])
    )
    assert allocate(two, "lagrangian").lines["reason"].to_list()[0].startswith("unit 1 earns 5.0; what it uses would earn ")
    none = replace(problem, capacity_names=(), capacity_use=np.zeros((0, 2)), capacity_limit=np.zeros(0))
    assert allocate(none).lines["reason"].to_list() == ["unit 2 earns 2.0.", "unit 2 earns 1.0."]


@pytest.mark.parametrize("capital", [0.0, np.inf])
@pytest.mark.parametrize("method", ["exact", "lp", "mip", "lagrangian", "greedy"])
def test_no_capital_and_no_limit(method, capital):
    """Prevents a division by a capacity of 0, and a solver's own infinity for ours."""
    problem = replace(oracle.survival_problem(4, 6), capacity_limit=np.array([capital]))
    plan = allocate(problem, method, EXACTLY)
    wanted = allocate(problem, "exact").order_units if np.isinf(capital) else np.zeros(6)
    assert plan.order_units.tolist() == wanted.tolist()
    assert plan.status == "optimal"


def test_no_sku_no_plan():
    """Prevents a crash on an empty day."""
    none = np.zeros(0)
    problem = AllocationProblem.from_survival(none, none, none, none, np.zeros(0, np.int64), np.zeros((0, 3)), 10.0)
    for method in ("exact", "lp", "mip", "lagrangian", "greedy"):
        plan = allocate(problem, method)
        assert (plan.objective, plan.lines.height) == (0.0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"skus": ("A", "A")}, r"1 of 2 skus are repeated, first 'A'; name each once"),
        ({"unit_cost": np.ones(2)}, r"unit_cost has shape \(2,\); \(3,\) is needed"),
        ({"unit_cost": np.array([1.0, -2.0, 1.0])}, r"1 of 3 entries have unit_cost below 0, first at 1: -2.0"),
        ({"unit_cost": np.array([1.0, 1.0, np.inf])}, r"1 of 3 entries have unit_cost not finite, first at 2: inf"),
        ({"capacity_limit": np.array([np.nan])}, r"1 of 1 entries have capacity_limit not finite"),
        ({"pack_units": np.array([1.5, 1.0, 1.0])}, r"pack_units has type float64; give whole numbers"),
        ({"min_order_units": np.array([1, 0, 1])}, r"1 of 3 entries have min_order_units below 1, first at 1: 0"),
        ({"offer_sku": np.array([0, 1, 0])}, r"1 of 3 entries have offer_sku falling, first at 2: 0; sort the offers by SKU"),
        ({"offer_vendor": np.array([0, 2, 0])}, r"1 of 3 entries have offer_vendor above 1, first at 1: 2"),
        ({"segment_start": np.array([0, 0, 4])}, r"segment_start must rise from 0 to the 4 segments, at least one per SKU"),
        ({"segment_units": np.array([1.0, np.inf, 0.0, np.inf])}, r"1 of 4 entries have segment_units not above 0, first at 2: 0.0"),
        ({"segment_units": np.array([1.0, 2.0, 1.0, np.inf])}, r"segment_units wrong at the end, first at 1: 2.0; only a SKU's last"),
        ({"segment_value": np.array([1.0, 3.0, 9.0, 0.0])}, r"segment_value rising, first at 1: 1.0 then 3.0"),
        ({"unit_cost": np.array([2.0, 0.5, 2.0])}, r"unit_cost below what every further unit is worth, first at 1: sku 'A': 0.5 < 1.0"),
    ],
)
def test_malformed_procurement_is_refused(changes, message):
    """Prevents a plan from numbers that mean nothing: each fault is named with its first place and value."""
    good = {
        "skus": ("A", "B"),
        "vendors": ("V", "W"),
        "segment_start": np.array([0, 2, 4]),
        "segment_units": np.array([1.0, np.inf, 2.0, np.inf]),
        "segment_value": np.array([9.0, 1.0, 9.0, 0.0]),
        "offer_sku": np.array([0, 0, 1]),
        "offer_vendor": np.array([0, 1, 0]),
        "unit_cost": np.array([2.0, 3.0, 2.0]),
        "capacity_names": ("capital",),
        "capacity_use": np.array([[2.0, 3.0, 2.0]]),
        "capacity_limit": np.array([10.0]),
    }
    assert allocate(ProcurementProblem(**good), "mip").objective == 7.0 + 14.0
    with pytest.raises(AllocationError, match=message):
        ProcurementProblem(**(good | changes))


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, np.array([1.0, -1.0]), r"1 of 2 entries have unit_price below 0 or not finite, first at 1: -1.0"),
        (5, np.array([1.0, np.inf]), r"1 of 2 entries have q90 below 0 or not finite, first at 1: inf"),
        (5, np.array([4.0, 1.0]), r"1 of 2 entries have q90 below q50, first at 1: 1.0 < 2.0; sort the quantiles"),
        (3, np.ones(3), r"stock_units has shape \(3,\); 2 SKUs need \(2,\)"),
        (7, -1.0, r"capital is -1.0; it must be >= 0"),
        (7, np.nan, r"capital is nan; it must be >= 0"),
    ],
)
def test_malformed_quantiles_are_refused(place, value, message):
    """Prevents an objective that is not a number, or quantiles in the wrong order."""
    given_figures = [np.ones(2), np.ones(2), np.ones(2), np.ones(2), 2 * np.ones(2), 3 * np.ones(2), np.ones(2), 5.0]
    given_figures[place] = value
    with pytest.raises(AllocationError, match=message):
        AllocationProblem.from_quantiles(*given_figures)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (1, np.array([9.0, 1.0]), r"salvage_value - holding_cost above unit_value, first at 0: 9.0 - 0.0 > 5.0"),
        (1, np.array([4.0, 1.0]), r"unit_cost below what every further unit is worth, first at 0: sku '0': 2.0 < 4.0"),
        (4, np.array([0.5, 1.0]), r"stock_units not whole, first at 0: 0.5; units of stock are counted"),
        (5, np.ones(3), r"survival has shape \(3,\); 2 SKUs need \(2, k\)"),
        (5, np.array([[0.5, 0.2], [1.5, 0.0]]), r"survival outside \[0, 1\], first at 1: \[1.5, 0.0\]"),
        (5, np.array([[0.5, np.nan], [0.5, 0.0]]), r"survival outside \[0, 1\], first at 0"),
        (5, np.array([[0.5, 0.2], [0.1, 0.2]]), r"survival rising, first at 1: \[0.1, 0.2\]; sort it downwards"),
    ],
)
def test_malformed_survival_is_refused(place, value, message):
    """Prevents further units from being worth more, and probabilities that are none."""
    given_figures = [5 * np.ones(2), np.ones(2), 2 * np.ones(2), np.zeros(2), np.zeros(2), np.full((2, 2), 0.5), 5.0]
    given_figures[place] = value
    with pytest.raises(AllocationError, match=message):
        AllocationProblem.from_survival(*given_figures)


def test_methods_refuse_what_they_cannot_solve():
    """Prevents an exact method that drops vendors, and the document's programme on a problem without quantiles."""
    problem = oracle.rich_problem(0, 3, 2)
    with pytest.raises(
        AllocationError, match=r"method 'exact' takes one offer per SKU, .*; 3 SKUs have several offers, .* take 'lagrangian'"
    ):
        allocate(problem, "exact")
    with pytest.raises(AllocationError, match=r"lp_form is 'three_variables', but the problem has no quantiles; make it by from_quantiles"):
        allocate(problem, "lp", AllocationParams(lp_form="three_variables"))
    with pytest.raises(AllocationError, match=r"lp_form is 'columns'; choose 'three_variables', 'segments' or None"):
        AllocationParams(lp_form="columns")
    with pytest.raises(AllocationError, match=r"mip_gap_frac is -1; it must be >= 0"):
        AllocationParams(mip_gap_frac=-1)


def test_plan_that_breaks_a_constraint_is_an_error(monkeypatch):
    """Prevents a defect of a method from reaching a vendor."""
    problem = oracle.survival_problem(4, 6)
    broken = separable.SeparableSolution(problem.most_units + 1, 1e9, 0.0, proved=False)
    monkeypatch.setattr(separable, "solve", lambda _: broken)
    with pytest.raises(SolverError, match=r"method 'exact' gives a plan that breaks its constraints: .*; this is a defect"):
        allocate(problem)


def test_search_of_a_gap_of_nothing_ends(monkeypatch):
    """Prevents thousands of cuts that repeat each other: with 3 SKUs and no gap allowed, rounding keeps bound and master apart for ever."""
    monkeypatch.setattr(decomposition, "LEAST_DUAL_GAP", 0.0)
    cuts = []
    add = Master.add

    def counted(self, group, value, use):
        cuts.append(len(group))
        add(self, group, value, use)

    monkeypatch.setattr(Master, "add", counted)
    problem = oracle.rich_problem(118, 3, 2, terms=True, capacities=2)
    found = decomposition.solve_lagrangian(problem, 0.0, 600.0)
    assert len(cuts) < 200
    assert problem.objective(found.order_units) <= oracle.best_value(problem) + 1e-9 <= found.bound + 2e-9


@pytest.mark.parametrize("seed", range(8))
def test_capital_curve_brackets_the_best_plan_of_each_capital(seed):
    """Prevents a curve that promises more than there is, vendor terms left out of its values, and one that falls."""
    problem = oracle.rich_problem(seed, 3, 2)
    capitals = [share * float(problem.capacity_limit[0]) for share in (2.0, 0.0, 0.25, 1.0, 0.5, 4.0)]
    plan = allocate(problem, "mip", EXACTLY)
    for known in (None, plan):
        curve = capital_curve(problem, capitals, known)
        assert curve["capital"].to_list() == capitals
        for row in curve.iter_rows(named=True):
            limit = np.concatenate([[row["capital"]], problem.capacity_limit[1:]])
            best = oracle.best_value(replace(problem, capacity_limit=limit))
            assert row["expected_value"] <= best + 1e-9 * abs(best)
            assert row["bound"] >= best - 1e-9 * abs(best)
            assert row["order_value"] <= row["capital"] * (1 + 1e-9)
        rising = curve.sort("capital")
        assert rising["expected_value"].is_sorted()
        assert rising["bound"].is_sorted()
    at = curve.filter(curve["capital"] == problem.capacity_limit[0])
    assert at["expected_value"][0] >= plan.objective


def test_capital_curve_needs_a_capital():
    """Prevents a curve along another capacity."""
    problem = replace(oracle.rich_problem(0, 3, 2), capacity_names=("volume", "weight"))
    with pytest.raises(AllocationError, match=r"the problem has the capacities volume, weight, none named 'capital'; name it so"):
        capital_curve(problem, [1.0])
