"""Packing plans against every plan there is, and the figures of a plan against sums over the mass function."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from invpipe.errors import PackingError
from invpipe.forecast.law import CountLaw
from invpipe.packing import PackingParams, PackingProblem, load_to_mean, pack, plan_figures, simulate_revenue
from invpipe_tests.oracles import packing as oracle

SEEDS = st.integers(0, 2**32 - 1)


def problem(seed, n, m, mean=2.0, share=0.5, matrix=False):
    """Poisson, negative binomial and certain-zero demand, or a survival matrix; a share of the mean demand fits."""
    g = np.random.default_rng(seed)
    means = np.where(g.random(n) < 0.1, 0.0, g.gamma(2.0, mean / 2, n))
    law = CountLaw(means, np.where(g.random(n) < 0.5, np.inf, g.gamma(2.0, 1.0, n) + 0.1))
    use = np.round(g.uniform(0.0, 3.0, (n, m)) * (g.random((n, m)) < 0.8), 2)
    survival = np.sort(np.round(g.random((n, 6)), 2), axis=1)[:, ::-1]
    return PackingProblem(
        items=tuple(f"item{i}" for i in range(n)),
        capacities=tuple(f"capacity{j}" for j in range(m)),
        unit_revenue=np.round(g.uniform(0.0, 5.0, n), 2),
        demand=survival if matrix else law,
        unit_use=use,
        capacity=np.round(share * np.ceil(means) @ use, 2),
        max_units=g.integers(0, 7, n),
    )


@examples(max_examples=60)
@given(seed=SEEDS, n=st.integers(1, 4), m=st.integers(0, 3), share=st.sampled_from([0.0, 0.3, 1.0, 100.0]), matrix=st.booleans())
def test_plan_is_the_best_there_is(seed, n, m, share, matrix):
    """Prevents a plan called optimal that is not, one over a capacity or the most units, and a bound below the best plan."""
    asked = problem(seed, n, m, share=share, matrix=matrix)
    plan, best = pack(asked), oracle.best_revenue(asked, 6)
    assert plan.status == "optimal"
    assert plan.objective == pytest.approx(best, abs=1e-9, rel=1e-9)
    assert plan.bound >= best * (1 - 1e-9) - 1e-9
    assert (plan.units @ asked.unit_use <= asked.capacity * (1 + 1e-12)).all()
    assert (plan.units <= asked.max_units).all()
    unfinished = pack(asked, PackingParams(exact_items=0))
    assert unfinished.objective <= best + 1e-9 <= unfinished.bound * (1 + 1e-9) + 2e-9
    assert (load_to_mean(asked) @ asked.unit_use <= asked.capacity * (1 + 1e-9)).all()


@examples(max_examples=60)
@given(seed=SEEDS, n=st.integers(1, 5), matrix=st.booleans())
def test_figures_are_sums_over_the_mass_function(seed, n, matrix):
    """Prevents wrong moments of min(D, x), at 0 units and past the last unit anybody wants included."""
    asked = replace(problem(seed, n, 2, mean=4.0, share=100.0, matrix=matrix), max_units=None)
    units = np.random.default_rng(seed).integers(0, 9, n)
    figures = plan_figures(asked, units)
    moments = [oracle.moments(asked, i, int(x)) for i, x in enumerate(units)]
    assert figures.mean_revenue == pytest.approx(oracle.revenue(asked, units), rel=1e-9, abs=1e-9)
    variance = sum(r**2 * var for r, (_, var) in zip(asked.unit_revenue, moments, strict=True))
    assert figures.variance == pytest.approx(variance, rel=1e-7, abs=1e-9)
    np.testing.assert_allclose(figures.use, units @ asked.unit_use)


@pytest.mark.parametrize("matrix", [False, True])
def test_lines_know_the_next_unit(matrix):
    """Prevents a next unit that does not fit from being shown as one that nobody wants."""
    asked = problem(4, 5, 2, mean=5.0, matrix=matrix)
    plan = pack(asked)
    lines = plan.lines()
    for column, units in (("last_unit_sells", plan.units), ("next_unit_sells", plan.units + 1)):
        expected = [1.0 - oracle.mass(asked, i, int(x))[:-1].sum() for i, x in enumerate(units)]
        np.testing.assert_allclose(lines[column], expected, atol=1e-12)


@pytest.mark.parametrize("matrix", [False, True])
def test_simulation_agrees_with_the_figures(matrix):
    """Prevents draws from another law than the one the plan was made for."""
    asked = replace(problem(3, 6, 1, mean=4.0, matrix=matrix), max_units=None)
    units = np.array([3, 5, 0, 2, 6, 4])
    exact, simulated = plan_figures(asked, units), simulate_revenue(asked, units, 200_000, seed=1)
    low, high = simulated.mean_interval(0.999)
    assert low < exact.mean_revenue < high
    assert simulated.variance == pytest.approx(exact.variance, rel=0.02)
    again = simulate_revenue(asked, units, 200_000, seed=1)
    assert simulated.revenue.tobytes() == again.revenue.tobytes()


def test_hundreds_of_items_within_a_hair_of_their_bound():
    """Prevents a plan that loses more as items multiply, and one over a capacity."""
    asked = replace(problem(5, 800, 3, mean=40.0), max_units=None)
    plan = pack(asked)
    assert plan.gap < 1e-5
    assert (plan.units @ asked.unit_use <= asked.capacity * (1 + 1e-12)).all()
    lines = plan.lines()
    assert lines["expected_revenue"].sum() == pytest.approx(plan.objective, rel=1e-9)
    assert plan.capacity_lines()["utilisation_frac"].to_list() == pytest.approx((plan.units @ asked.unit_use / asked.capacity).tolist())


def test_same_bytes_on_every_run():
    """Prevents a plan that depends on the run."""
    one, two = (pack(replace(problem(6, 200, 2, mean=10.0), max_units=None)) for _ in range(2))
    assert one.units.tobytes() == two.units.tobytes()
    assert (one.objective, one.bound) == (two.objective, two.bound)


def test_table_is_the_same_in_blocks(monkeypatch):
    """Prevents items lost or doubled at the edges of the blocks in which the survival is computed."""
    asked = replace(problem(9, 60, 1, mean=10.0, share=100.0), max_units=None)
    start, whole = asked.loadable
    monkeypatch.setattr("invpipe.packing.problem.BLOCK_UNITS", 7)
    start_again, blocks = replace(asked).loadable
    assert (start_again == start).all()
    np.testing.assert_array_equal(blocks, whole)


def test_price_of_capacity_is_what_a_little_more_of_it_earns():
    """Prevents a price in wrong units: with many items the bound rises by the price times the capacity added."""
    asked = replace(problem(7, 400, 2, mean=30.0), max_units=None)
    plan = pack(asked)
    assert (plan.capacity_price > 0).all()
    for j in range(2):
        more = asked.capacity.copy()
        more[j] *= 1.001
        richer = pack(replace(asked, capacity=more))
        assert richer.bound - plan.bound == pytest.approx(plan.capacity_price[j] * 0.001 * asked.capacity[j], rel=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"items": ("a", "a", "b")}, "items has 1 names twice, first 'a'; names tell them apart"),
        (
            {"unit_revenue": np.array([1.0, -2.0, 1.0])},
            "1 of 3 figures of unit_revenue are negative .* first that of 'item1': -2.0",
        ),
        ({"unit_use": np.ones((3, 3))}, r"unit_use has shape \(3, 3\); give \(3, 2\)"),
        ({"capacity": np.array([1.0, np.nan])}, "1 of 2 figures of capacity are negative or not finite, first that of 'capacity1': nan"),
        ({"max_units": np.array([1, -1, 1])}, "1 of 3 figures of max_units are negative"),
        ({"demand": CountLaw(np.ones(2), np.ones(2))}, "demand has 2 laws for 3 items"),
        ({"demand": np.ones((2, 4))}, r"survival of demand has shape \(2, 4\); give one row for each of 3 items"),
        ({"demand": np.array([[0.9, 0.5], [0.5, 0.9], [0.1, 0.1]])}, r"first item 'item1', P\(D >= 2\) = 0.9; give"),
        ({"demand": np.array([[0.9], [np.nan], [1.1]])}, r"2 of 3 survival probabilities .* first item 'item1', P\(D >= 1\) = nan"),
    ],
)
def test_problems_are_checked(changes, message):
    """Prevents a malformed problem from being packed."""
    with pytest.raises(PackingError, match=message):
        replace(problem(1, 3, 2), **changes)


def test_wrong_calls_are_refused():
    """Prevents half units, missing items and limits of 0 from ending in figures."""
    asked = problem(1, 3, 2)
    for units in (np.array([1, 2]), np.array([1.0, 2.0, 3.0]), np.array([1, -1, 0])):
        with pytest.raises(PackingError, match="a plan is one whole number of units >= 0 for each of 3 items"):
            plan_figures(asked, units)
    with pytest.raises(PackingError, match="n_runs is 1; a variance needs at least 2"):
        simulate_revenue(asked, np.zeros(3, dtype=np.int64), 1)
    with pytest.raises(PackingError, match="confidence is 1.0; it must lie strictly between 0 and 1"):
        simulate_revenue(asked, np.zeros(3, dtype=np.int64), 10).mean_interval(1.0)
    with pytest.raises(PackingError, match="max_iterations is 0; it must be at least 1"):
        PackingParams(max_iterations=0)
    with pytest.raises(PackingError, match="time_limit_seconds is 0; it must be above 0"):
        PackingParams(time_limit_seconds=0)
