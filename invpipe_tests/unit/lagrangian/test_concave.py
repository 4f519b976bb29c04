"""Items taken by the unit, and the programme that finishes small problems."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from invpipe.errors import LagrangianError
from invpipe.lagrangian import ConcaveItems, LagrangianParams, polish, solve
from invpipe_tests.oracles import lagrangian as oracle

SEEDS = st.integers(0, 2**32 - 1)


def solved(items, capacity, **changes):
    return solve(items, capacity, start=np.zeros(items.n_items, dtype=np.int64), **changes)


@examples(max_examples=80)
@given(seed=SEEDS, n=st.integers(1, 5), m=st.integers(0, 3))
def test_bracket_and_polish_to_the_optimum(seed, n, m):
    """Prevents a bound below the best plan, a polished plan that is not the best, and units fixed that should not be."""
    items, capacity = oracle.random_concave(seed, n, 4, m)
    best = oracle.best_objective(items, capacity)
    result = solved(items, capacity)
    assert result.objective <= best + 1e-9 <= result.bound + 2e-9
    assert (result.choice.total_use() <= capacity * (1 + 1e-12)).all()
    finished = polish(items, capacity, result)
    assert finished.status == "optimal"
    assert finished.objective == pytest.approx(best, abs=1e-9)
    assert finished.bound >= best - 1e-9
    assert (finished.choice.total_use() <= capacity * (1 + 1e-12)).all()


@examples(max_examples=80)
@given(seed=SEEDS, n=st.integers(2, 5), rounds=st.integers(1, 3))
def test_narrow_window_and_fixing_still_find_the_optimum(seed, n, rounds):
    """Prevents units fixed that a better plan changes, and the bound of a window from counting for the plans outside it."""
    items, capacity = oracle.random_concave(seed, n, 5, 2)
    best = oracle.best_objective(items, capacity)
    finished = polish(items, capacity, solved(items, capacity, params=LagrangianParams(max_iterations=rounds)), window_units=1)
    assert finished.status == "optimal"
    assert finished.objective == pytest.approx(best, abs=1e-9)


@examples(max_examples=60)
@given(seed=SEEDS, n=st.integers(1, 6), m=st.integers(1, 3))
def test_best_is_best(seed, n, m):
    """Prevents an inexact best number of units: every other number of each item is worth no more under the multipliers."""
    items, _ = oracle.random_concave(seed, n, 6, m)
    for multipliers in np.random.default_rng(seed).exponential(0.7, (5, m)):
        choice = items.best(multipliers)
        for i, options in enumerate(oracle.options_of(items)):
            most = max(value - use @ multipliers for _, value, use in options)
            assert choice.value[i] - choice.use[i] @ multipliers == pytest.approx(most, abs=1e-12)


@examples(max_examples=60)
@given(seed=SEEDS, n=st.integers(1, 6), m=st.integers(1, 3))
def test_filling_leaves_no_unit_that_fits(seed, n, m):
    """Prevents capacity left over that a unit of positive value would fit, and a fill over a capacity."""
    items, capacity = oracle.random_concave(seed, n, 6, m)
    filled = items.improved(items.evaluate(np.zeros(n, dtype=np.int64)), capacity, np.ones(m))
    left = capacity - filled.total_use()
    assert (left >= -1e-9).all()
    for i in np.flatnonzero(filled.option < items.max_units):
        next_value = items.marginal[items.start[i] + filled.option[i]]
        assert next_value <= 0 or (items.unit_use[i] > left - 1e-9).any()


def test_gap_is_at_most_the_largest_units():
    """Prevents a plan that loses more than the m fractional units of the relaxation."""
    g = np.random.default_rng(2)
    n, m, most = 2_000, 3, 30
    marginal = np.sort(g.uniform(0, 5, (n, most)), axis=1)[:, ::-1]
    items = ConcaveItems(np.arange(n + 1) * most, marginal.ravel(), g.uniform(0.5, 1.5, (n, m)))
    capacity = 0.4 * most * items.unit_use.sum(axis=0)
    result = solved(items, capacity)
    assert result.bound - result.objective <= m * marginal.max() + 1e-7 * result.bound
    assert (result.choice.total_use() <= capacity).all()


def test_mixture_is_a_mixture_within_the_capacities():
    """Prevents lost weights: those of each item sum to 1, and together the mixed units are a relaxed plan worth the dual."""
    mixtures = []

    class Watched(ConcaveItems):
        def rounded(self, options, weights):
            mixtures.append((options * weights).sum(axis=0))
            np.testing.assert_allclose(weights.sum(axis=0), 1.0)
            return super().rounded(options, weights)

    items, capacity = oracle.random_concave(21, 40, 6, 3)
    watched = Watched(items.start, items.marginal, items.unit_use)
    for params in (LagrangianParams(), LagrangianParams(n_groups=1), LagrangianParams(n_groups=7, heuristic_cuts=2)):
        result = solved(watched, capacity, params=params)
        assert (mixtures[-1] @ items.unit_use <= capacity * (1 + 1e-6)).all()
        assert result.gap < 0.1
    assert len(mixtures) >= 3


def test_mixture_is_rounded_down():
    """Prevents noise of the weights from losing a unit, and rounding up over a capacity."""
    items = ConcaveItems(np.array([0, 4, 8]), np.ones(8), np.ones((2, 1)))
    assert items.rounded(np.array([[1, 3], [4, 3]]), np.array([[0.1, 1 / 3], [0.9, 2 / 3 - 1e-15]])).tolist() == [3, 3]


def test_polish_stops_at_its_limits_with_a_valid_bound():
    """Prevents a stopped programme from passing as a certificate, and a programme larger than allowed."""
    items, capacity = oracle.random_concave(12, 5, 4, 3)
    best = oracle.best_objective(items, capacity)
    result = solved(items, capacity, params=LagrangianParams(max_iterations=2))
    assert result.gap > 1e-9
    for limits in ({"max_free_units": 1}, {"max_nodes": 1}, {"time_limit_seconds": 1e-9}):
        stopped = polish(items, capacity, result, **limits)
        assert result.objective <= stopped.objective <= best + 1e-9
        assert best - 1e-9 <= stopped.bound <= result.bound


@pytest.mark.parametrize(
    ("start", "marginal", "unit_use", "message"),
    [
        ([0, 2], [1.0, 2.0], [[1.0]], "first item 0, unit 1: 1.0; give values that never rise"),
        ([0, 1, 3], [1.0, 2.0, np.nan], [[1.0], [1.0]], "1 units are not finite or worth less|first item 1, unit"),
        ([0, 2], [2.0, 1.0], [[-1.0]], "1 uses per unit are negative or not finite, first at item 0, row 0: -1.0"),
        ([0, 1], [2.0, 1.0], [[1.0]], "start does not rise from 0 to the number of units, 2"),
        ([0, 2], [2.0, 1.0], [1.0], r"give \(n \+ 1,\), \(number of units,\) and \(n, m\)"),
    ],
)
def test_items_are_checked(start, marginal, unit_use, message):
    """Prevents items that are not concave from being solved as if they were."""
    with pytest.raises(LagrangianError, match=message):
        ConcaveItems(np.array(start), np.array(marginal), np.array(unit_use))


def test_values_may_rise_from_item_to_item():
    """Prevents the check of falling values from looking across items."""
    items = ConcaveItems(np.array([0, 1, 1, 3]), np.array([1.0, 9.0, 2.0]), np.ones((3, 1)))
    assert items.best(np.zeros(1)).option.tolist() == [1, 0, 2]


def test_wrong_calls_are_refused():
    """Prevents units that do not exist, limits of 0, and a plan over its capacity from being polished."""
    items, capacity = oracle.random_concave(1, 3, 4, 1)
    with pytest.raises(LagrangianError, match="items have no such number of units, first item 0: 9 of"):
        items.evaluate(np.array([9, 0, 0]))
    result = solved(items, capacity)
    with pytest.raises(LagrangianError, match="max_nodes is 0; it must be at least 1"):
        polish(items, capacity, result, max_nodes=0)
    over = solve(items, np.full(1, -5.0), penalty=np.zeros(1))
    with pytest.raises(LagrangianError, match="the plan is over 1 capacities"):
        polish(items, np.full(1, -5.0), over)
