"""Scores by hand, by brute force, and on draws from a true law."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invpipe.forecast.law import CountLaw
from invpipe.forecast.metrics import (
    bracket,
    bracket_counts,
    bracket_violation_points,
    deciles,
    pinball_loss,
    randomised_coverage,
    randomised_pit,
    ranked_probability_score,
)
from invpipe_tests.oracles import forecast as oracle

COUNTS = st.integers(0, 30)


def draws(n: int, seed: int = 0) -> tuple[CountLaw, np.ndarray]:
    """Laws and one draw from each."""
    g = np.random.default_rng(seed)
    mean, size = g.gamma(0.5, 4.0, n), np.where(g.random(n) < 0.5, np.inf, g.gamma(2.0, 1.0, n) + 0.1)
    rate = np.where(np.isinf(size), mean, mean * g.gamma(np.where(np.isinf(size), 1.0, size)) / np.where(np.isinf(size), 1.0, size))
    return CountLaw(mean, size), g.poisson(rate).astype(float)


def test_pinball_by_hand() -> None:
    """Prevents tau on the wrong side: missing a sale costs .9 per unit at tau .9, a unit too many .1."""
    assert pinball_loss(np.array([4.0]), np.array([2.0]), 0.9) == pytest.approx(1.8)
    assert pinball_loss(np.array([0.0]), np.array([2.0]), 0.9) == pytest.approx(0.2)
    assert pinball_loss(np.array([0.0, 4.0, 2.0]), np.array([2, 2, 2]), 0.9) == pytest.approx(2.0 / 3)


@given(st.lists(st.tuples(COUNTS, COUNTS), min_size=1), st.floats(0.01, 0.99))
def test_pinball_equals_the_definition(cells: list[tuple[int, int]], tau: float) -> None:
    """Prevents a loss that is not the mean of the cells' losses."""
    units, q = np.array(cells, dtype=float).T
    assert pinball_loss(units, q, tau) == pytest.approx(np.mean([oracle.pinball(y, x, tau) for y, x in cells]), abs=1e-12)


def test_bracket_by_hand() -> None:
    """Prevents plain coverage: with atoms, 60 % below and 95 % at most the quantile is calibrated at .9, and at .5 is off by 10 points."""
    units = np.array([0.0] * 12 + [2.0] * 7 + [9.0])
    q = np.full(20, 2)
    assert bracket(units, q, 0.9) == (0.6, 0.95, 0.0)
    assert bracket(units, q, 0.5) == (0.6, 0.95, pytest.approx(10.0))
    assert bracket(units, q, 0.99) == (0.6, 0.95, pytest.approx(4.0))


@given(st.lists(st.tuples(COUNTS, COUNTS, st.integers(0, 2)), min_size=1), st.sampled_from([0.1, 0.5, 0.9]))
def test_bracket_counts_add_up_to_the_bracket(cells: list[tuple[int, int, int]], tau: float) -> None:
    """Prevents a cell in another class, shares that do not pool, and a class without a cell that counts as uncalibrated."""
    units, q, group = (np.array(column) for column in zip(*cells, strict=True))
    counts = bracket_counts(units.astype(float), q, group, 4)
    half = len(units) // 2
    parts = [bracket_counts(units[rows].astype(float), q[rows], group[rows], 4) for rows in (slice(half), slice(half, None))]
    np.testing.assert_array_equal(counts, sum(parts))
    violation = bracket_violation_points(counts, tau)
    for k in range(4):
        rows = group == k
        assert violation[k] == (pytest.approx(bracket(units[rows], q[rows], tau)[2], abs=1e-9) if rows.any() else 0.0)
    whole = bracket_violation_points(counts.sum(axis=0, keepdims=True), tau)
    assert whole[0] == pytest.approx(bracket(units, q, tau)[2], abs=1e-9)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_deciles_order_and_fill_evenly(rows: list[tuple[int, int]]) -> None:
    """Prevents deciles of unequal size where most volumes are equal, and ties that ignore the second volume."""
    first, second = np.array(rows, dtype=float).reshape(-1, 2).T
    decile = deciles(first, second)
    order = sorted(range(len(rows)), key=lambda i: (rows[i], i))
    assert (np.diff(decile[order]) >= 0).all()
    sizes = np.bincount(decile, minlength=10)
    assert len(sizes) == 10
    assert sizes.max() - sizes.min() <= 1


def test_bracket_holds_for_the_quantiles_of_the_true_law() -> None:
    """Prevents a yardstick that calls a true law uncalibrated."""
    law, units = draws(20_000)
    for tau in (0.1, 0.5, 0.9):
        assert bracket(units, law.quantile(tau), tau)[2] < 1.0


def test_randomised_pit_of_the_true_law_is_uniform() -> None:
    """Prevents a PIT with the atoms' mass on the wrong side; the seed alone decides the draw."""
    law, units = draws(20_000)
    pit = randomised_pit(law, units)
    assert stats.kstest(pit, "uniform").pvalue > 0.01
    assert pit.tobytes() == randomised_pit(law, units, seed=0).tobytes()
    assert pit.tobytes() != randomised_pit(law, units, seed=1).tobytes()
    for level in (0.5, 0.8):
        assert randomised_coverage(law, units, level) == pytest.approx(level, abs=0.01)


def test_randomised_pit_shows_a_wrong_law() -> None:
    """Prevents a check that nothing fails: a law with half the demand, and one without overdispersion, are found out."""
    law, units = draws(20_000)
    half = CountLaw(law.mean / 2, law.size)
    poisson = CountLaw(law.mean, np.full(len(law), np.inf))
    assert randomised_pit(half, units).mean() > 0.55
    assert randomised_coverage(poisson, units) < 0.77


@settings(max_examples=60)
@given(st.one_of(st.just(0.0), st.floats(1e-6, 20.0)), st.one_of(st.just(np.inf), st.floats(0.1, 20.0)), st.integers(0, 40))
def test_ranked_probability_score_equals_the_definition(mean: float, size: float, units: int) -> None:
    """Prevents a sum that stops before the tail, or before the outcome."""
    found = ranked_probability_score(CountLaw(np.array([mean]), np.array([size])), np.array([float(units)]))
    assert found == pytest.approx(oracle.ranked_probability_score(mean, size, units), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("size", [np.inf, 1e9, 1e5, 900.0, 3.0])
@pytest.mark.parametrize("units", [0, 1290, 4000])
def test_ranked_probability_score_of_laws_whose_zero_is_too_rare_for_a_double(size: float, units: int) -> None:
    """Prevents a score of 0 * ratio = 0 for ever where P(D = 0) is no double, and a sum that never ends."""
    law = CountLaw(np.array([1300.0]), np.array([size]))
    k = np.arange(60_000)
    expected = (((1.0 - law.survival(k[:, None] + 1)[:, 0]) - (units <= k)) ** 2).sum()
    assert ranked_probability_score(law, np.array([float(units)])) == pytest.approx(expected, rel=1e-7)


def test_ranked_probability_score_is_a_mean_and_proper() -> None:
    """Prevents a score that sums over cells, or that a wrong law can win."""
    law, units = draws(3000)
    each = [ranked_probability_score(law.take(np.array([i])), units[i : i + 1]) for i in range(50)]
    assert ranked_probability_score(law.take(np.arange(50)), units[:50]) == pytest.approx(np.mean(each), rel=1e-12)
    right = ranked_probability_score(law, units)
    for factor in (0.6, 1.6):
        assert right < ranked_probability_score(CountLaw(law.mean * factor, law.size), units)
    assert ranked_probability_score(CountLaw(np.zeros(3), np.ones(3)), np.array([0.0, 2.0, 4.0])) == pytest.approx(2.0)
