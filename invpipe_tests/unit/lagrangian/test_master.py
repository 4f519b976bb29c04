"""The master: what it does where the simplex gives up, and cuts that only repeat each other."""

import numpy as np
import pytest

from invpipe.errors import LagrangianError
from invpipe.lagrangian import Choice, FiniteItems, LagrangianParams, solve
from invpipe.lagrangian import master as master_module
from invpipe.lagrangian.master import Master
from invpipe_tests.oracles import lagrangian as oracle


def random_master(cuts):
    """A master of one group with random cuts."""
    g = np.random.default_rng(0)
    solver = Master(np.ones(6), np.full(6, 5.0), 1, np.ones(6), 10.0)
    solver.add(np.zeros(cuts, np.int64), g.uniform(0, 10, cuts), g.uniform(0, 3, (cuts, 6)))
    return solver


def test_simplex_without_iterations_is_given_up(monkeypatch):
    """Prevents a solve without end: at its limit of iterations the master says that it has no optimum."""
    assert random_master(80).solve() is not None
    monkeypatch.setattr(master_module, "MOST_ITERATIONS", 1)
    assert random_master(80).solve() is None


def test_time_limit_counts_from_the_call():
    """Prevents a clock that runs on from the first solve, after which every later one would be given up."""
    solver = random_master(80)
    first = solver.solve(60.0)
    again = solver.solve(60.0)
    assert first is not None
    assert again is not None
    assert again.lower == first.lower
    assert random_master(2000).solve(1e-12) is None


def test_search_keeps_plan_and_bound_where_the_master_gives_up(monkeypatch):
    """Prevents an answer that is lost with the solver: bound and plan so far still bracket the best plan."""
    items, capacity = oracle.random_finite(3, 6, 4, 3)
    best = oracle.best_objective(items, capacity)
    calls = []
    solve_master = Master.solve

    def second_fails(self, time_limit_seconds=np.inf):
        calls.append(time_limit_seconds)
        return None if len(calls) > 1 else solve_master(self, time_limit_seconds)

    monkeypatch.setattr(Master, "solve", second_fails)
    result = solve(items, capacity, start=np.zeros(6, np.int64), params=LagrangianParams(gap=0.0, heuristic_cuts=0))
    assert len(calls) == 2
    assert result.objective <= best + 1e-9 <= result.bound + 2e-9
    monkeypatch.setattr(Master, "solve", lambda self, time_limit_seconds=np.inf: None)
    result = solve(items, capacity, start=np.zeros(6, np.int64), params=LagrangianParams(gap=0.0))
    assert len(result.history) == 1
    assert result.objective <= best + 1e-9 <= result.bound + 2e-9


@pytest.mark.parametrize("n_groups", [1, 3])
def test_search_ends_where_cuts_lift_nothing(n_groups):
    """Prevents hundreds of rounds of equal cuts: a gap of 0 that rounding never reaches ends with the first cut that adds nothing."""
    g = np.random.default_rng(1)
    items = FiniteItems(np.c_[np.zeros(30), np.round(g.uniform(0, 9, (30, 3)), 2)], np.round(g.uniform(0, 3, (30, 4, 2)), 2))
    items.use[:, 0] = 0.0
    result = solve(items, np.array([7.3, 9.1]), start=np.zeros(30, np.int64), params=LagrangianParams(n_groups, 20, dual_gap=0.0, gap=0.0))
    assert len(result.history) < 40
    assert result.history[-1].bound == pytest.approx(result.history[-1].master, rel=1e-9)


def test_rounding_of_a_worthless_item_is_no_error():
    """Prevents a search that stops because 0 beats -2e-15: an option that ties with nothing, next to values of thousands."""

    class Rounded(FiniteItems):
        def best(self, multipliers):
            choice = super().best(multipliers)
            return Choice(choice.option, choice.value - self.fault * multipliers.any(), choice.use)

    value, use = np.array([[0.0, 0.0], [0.0, 3000.0]]), np.array([[[0.0], [0.0]], [[0.0], [2.0]]])
    items = Rounded(value, use)
    for fault in (0.0, 2e-15):
        items.fault = np.array([fault, 0.0])
        assert solve(items, np.ones(1), start=np.zeros(2, np.int64), params=LagrangianParams(gap=0.0)).bound == pytest.approx(1500.0)
    items.fault = np.array([1e-3, 0.0])
    with pytest.raises(LagrangianError, match=r"1 of 2 items know a better option than items.best gives, first item 0: 0.0 > -0.001"):
        solve(items, np.ones(1), start=np.zeros(2, np.int64), params=LagrangianParams(gap=0.0))
