"""Bound, plan and cuts against every plan there is, and against an independent linear programme."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from invpipe.errors import LagrangianError
from invpipe.lagrangian import Choice, FiniteItems, LagrangianParams, solve
from invpipe.lagrangian.master import Master
from invpipe_tests.oracles import lagrangian as oracle

SEEDS = st.integers(0, 2**32 - 1)
STRATEGIES = st.sampled_from(
    [
        LagrangianParams(),
        LagrangianParams(n_groups=1, heuristic_cuts=0),
        LagrangianParams(n_groups=1),
        LagrangianParams(n_groups=2, heuristic_cuts=3),
        LagrangianParams(n_groups=1000, heuristic_cuts=0),
    ]
)


def tolerance(items):
    """Rounding noise of a sum of the items' values."""
    return 1e-9 * (1.0 + np.abs(np.where(np.isfinite(items.value), items.value, 0.0)).max(axis=1, initial=0.0).sum())


def instance(seed, n=5, k=4, m=2, two_sided=False):
    items, capacity = oracle.random_finite(seed, n, k, m, two_sided=two_sided)
    return items, capacity, np.zeros(n, dtype=np.int64)


@examples(max_examples=80)
@given(seed=SEEDS, n=st.integers(1, 6), m=st.integers(1, 3), two_sided=st.booleans(), params=STRATEGIES)
def test_every_step_brackets_the_optimum(seed, n, m, two_sided, params):
    """Prevents a bound below the best plan, a plan above it or over a capacity, and a history that goes back."""
    items, capacity, start = instance(seed, n, 3, m, two_sided)
    result = solve(items, capacity, start=start, params=params)
    best, noise = oracle.best_objective(items, capacity), tolerance(items)
    for step in result.history:
        assert step.objective <= best + noise
        assert step.bound >= best - noise
        assert step.master <= result.bound + noise + 1e-6 * abs(result.bound)
    for before, after in zip(result.history[:-1], result.history[1:], strict=True):
        assert after.bound <= before.bound
        assert after.master >= before.master
        assert after.objective >= before.objective
    assert result.objective <= best + noise
    assert result.bound >= best - noise
    assert (items.evaluate(result.choice.option).total_use() <= capacity * (1 + 1e-12)).all()
    assert result.objective == pytest.approx(float(items.value[np.arange(n), result.choice.option].sum()))
    assert not result.violation.any()


@examples(max_examples=60)
@given(seed=SEEDS, n=st.integers(1, 8), m=st.integers(1, 4), params=STRATEGIES)
def test_dual_reaches_its_optimum(seed, n, m, params):
    """Prevents a search that ends early, and multipliers boxed in too tightly: linprog solves the same relaxation."""
    items, capacity, start = instance(seed, n, 4, m, two_sided=True)
    result = solve(items, capacity, start=start, params=LagrangianParams(params.n_groups, params.heuristic_cuts, 2000))
    optimum = oracle.dual_optimum(items, capacity)
    if result.status == "optimal":
        assert optimum >= result.objective - tolerance(items)
    else:
        assert result.bound == pytest.approx(optimum, rel=1e-6, abs=1e-7)


@examples(max_examples=60)
@given(seed=SEEDS, n=st.integers(1, 5), price=st.sampled_from([0.0, 0.3, 5.0]), hard=st.booleans(), params=STRATEGIES)
def test_soft_rows_cost_their_penalty(seed, n, price, hard, params):
    """Prevents a penalty that is not exact: plan and bound bracket the best value less penalties, infeasible limits included."""
    items, capacity, start = instance(seed, n, 3, 2, two_sided=True)
    capacity[0] = -3.0  # more than some plans can give: a lower limit with its signs turned
    penalty = np.array([price, np.inf if hard else price])
    result = solve(items, capacity, start=start, penalty=penalty, params=params)
    best, noise = oracle.best_objective(items, capacity, penalty), tolerance(items) + 1e-9 * price
    assert result.objective <= best + noise
    assert best <= result.bound + noise
    over = np.maximum(result.choice.total_use() - capacity, 0.0)
    np.testing.assert_allclose(result.violation, over, atol=1e-9)
    assert result.objective == pytest.approx(float(result.choice.value.sum()) - price * over[0] - (0 if hard else price * over[1]))
    assert (result.status == "violated") == bool(result.violation.any())
    if hard:
        assert result.violation[1] == 0
    assert result.multipliers[0] <= price


@examples(max_examples=40)
@given(seed=SEEDS, params=STRATEGIES)
def test_every_cut_is_valid(seed, params):
    """Prevents a cut that removes a part of the dual function: for any multipliers it lies below the groups' best values."""
    items, capacity, start = instance(seed, 6, 4, 2, two_sided=True)
    cuts, groups = [], {}
    add = Master.add

    def spy(self, group, value, use):
        cuts.extend(zip(group, value, use, strict=True))
        add(self, group, value, use)

    permutation = np.random.default_rng(0).permutation(6)
    for i, place in enumerate(permutation):
        groups.setdefault(place % min(params.n_groups, 6), []).append(i)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Master, "add", spy)
        result = solve(items, capacity, start=start, params=params)
    assert cuts or result.status == "optimal"
    for multipliers in np.random.default_rng(seed).exponential(1.0, (20, 2)):
        priced = (items.value - items.use @ multipliers).max(axis=1)
        for group, value, use in cuts:
            assert value - use @ multipliers <= priced[groups[group]].sum() + 1e-9


def test_heuristic_cuts_save_item_solutions():
    """Prevents cuts from memory, and groups, that add nothing: the paper's order of the strategies on one made-up instance."""
    g = np.random.default_rng(5)
    items, capacity = FiniteItems(g.uniform(0, 10, (400, 12)), g.uniform(-0.9, 1.1, (400, 12, 20))), np.zeros(20)

    def history(n_groups, heuristic_cuts):
        params = LagrangianParams(n_groups, heuristic_cuts, max_iterations=60, dual_gap=1e-6)
        return solve(items, capacity, penalty=np.full(20, 50.0), params=params).history

    plain, from_memory, grouped, both = history(1, 0), history(1, 100), history(50, 0), history(50, 20)
    assert len(plain) == 60
    assert plain[-1].bound - plain[-1].master > 0.01 * plain[-1].bound
    assert len(from_memory) < len(grouped) < 30
    assert len(both) < len(from_memory)


def test_gap_vanishes_as_items_multiply():
    """Prevents repair and 1-opt that lose value: with m rows about m items are torn between options, whatever the number of items."""
    items, capacity, start = instance(11, 3000, 5, 3)
    result = solve(items, capacity, start=start)
    assert result.gap < 2e-4
    assert (result.choice.total_use() <= capacity * (1 + 1e-12)).all()


def test_row_worth_breaking_is_broken():
    """Prevents repair of a soft row whose penalty is lower than what keeping it would cost."""
    items, capacity, _ = instance(11, 3000, 5, 3)
    dear = solve(items, capacity, penalty=np.full(3, 1e3))
    assert not dear.violation.any()
    penalty = np.array([0.5 * dear.multipliers[0], 1e3, 1e3])
    cheap = solve(items, capacity, penalty=penalty)
    assert (cheap.violation > 0).tolist() == [True, False, False]
    assert cheap.status == "violated"
    assert cheap.objective > dear.objective
    assert max(cheap.gap, dear.gap) < 5e-4


def test_same_bytes_on_every_run():
    """Prevents a result that depends on the run: two solves agree in every byte but the seconds."""
    items, capacity, start = instance(3, 300, 5, 3, two_sided=True)
    one, two = (solve(items, capacity, start=start) for _ in range(2))
    assert one.choice.option.tobytes() == two.choice.option.tobytes()
    assert one.multipliers.tobytes() == two.multipliers.tobytes()
    steps = [[(s.iteration, s.bound, s.master, s.objective, s.cuts) for s in result.history] for result in (one, two)]
    assert steps[0] == steps[1]
    assert (one.objective, one.bound) == (two.objective, two.bound)


def test_stops_at_its_limits_with_plan_and_bound():
    """Prevents a stopped search without an answer: at either limit there are a plan, a valid bound and the callback's last step."""
    items, capacity, start = instance(2, 6, 4, 2)
    best = oracle.best_objective(items, capacity)
    for params in (LagrangianParams(max_iterations=1), LagrangianParams(time_limit_seconds=1e-9)):
        seen = []
        result = solve(items, capacity, start=start, params=params, on_step=seen.append)
        assert len(result.history) == 1
        assert tuple(seen) == result.history
        assert 0 < result.objective <= best + 1e-9 <= result.bound + 2e-9
        assert result.gap == pytest.approx((result.bound - result.objective) / result.bound)


def test_first_multipliers_near_the_optimum_save_rounds():
    """Prevents a warm start that is ignored."""
    items, capacity, start = instance(4, 500, 5, 3)
    cold = solve(items, capacity, start=start)
    warm = solve(items, capacity, start=start, first_multipliers=cold.multipliers)
    assert warm.history[0].bound == pytest.approx(cold.bound)
    assert len(warm.history) < len(cold.history)


def test_no_rows_and_no_items():
    """Prevents a crash where nothing links the items, or where there are none."""
    items, _, start = instance(0, 4, 3, 1)
    free = FiniteItems(items.value, np.zeros((4, 3, 0)))
    result = solve(free, np.zeros(0), start=start)
    assert (result.status, result.objective) == ("optimal", pytest.approx(items.value.max(axis=1).sum()))
    nothing = solve(FiniteItems(np.zeros((0, 1)), np.zeros((0, 1, 2))), np.ones(2), start=np.zeros(0))
    assert (nothing.status, nothing.objective, nothing.bound) == ("optimal", 0.0, 0.0)


class Careless(FiniteItems):
    """Items that break their contract in the way asked for."""

    fault = "best"

    def best(self, multipliers):
        return (
            self.evaluate(np.zeros(self.n_items, dtype=np.int64))
            if self.fault == "best" and multipliers.any()
            else super().best(multipliers)
        )

    def improved(self, choice, left, multipliers):
        return self.evaluate(self.value.argmax(axis=1)) if self.fault == "improved" else choice


@pytest.mark.parametrize(("fault", "message"), [("best", "know a better option than items.best gives"), ("improved", "must not get worse")])
def test_items_that_break_their_contract_are_caught(fault, message):
    """Prevents a bound that is none because an item was not solved exactly, and a plan over its capacities."""
    items, capacity, start = instance(8, 30, 4, 2)
    careless = Careless(items.value, items.use)
    careless.fault = fault
    with pytest.raises(LagrangianError, match=message):
        solve(careless, capacity, start=start)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": None}, "a hard row needs a start"),
        ({"start": np.zeros(2, dtype=np.int64)}, r"start has shape \(2,\); give one option for each of 5 items"),
        ({"capacity": np.array([0.0, 1.0])}, "leaves 0.0 of the capacity 0.0 of hard row 0"),
        ({"capacity": np.ones(3)}, r"capacity has shape \(3,\); give one number for each of 2 rows"),
        ({"capacity": np.array([1.0, np.inf])}, "first at row 1: inf; it must be finite"),
        (
            {"penalty": np.array([1.0, -1.0])},
            "penalty of 1 of 2 rows .* first at row 1: -1.0; it must be a number and at least 0",
        ),
        ({"first_multipliers": np.array([-1.0, 0.0])}, "first_multipliers of 1 of 2 rows"),
    ],
)
def test_errors_say_what_is_wrong(changes, message):
    """Prevents a wrong call from ending in a wrong answer."""
    items, capacity, start = instance(1)
    arguments = {"capacity": capacity, "start": start} | changes
    with pytest.raises(LagrangianError, match=message):
        solve(items, **arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_groups", 0), ("heuristic_cuts", -1), ("max_iterations", 0), ("time_limit_seconds", 0), ("dual_gap", -1e-9), ("gap", np.nan)],
)
def test_parameters_are_checked(name, value):
    """Prevents limits under which nothing is solved."""
    with pytest.raises(LagrangianError, match=f"{name} is {value}; it must be"):
        LagrangianParams(**{name: value})


def test_choices_and_tables_are_checked():
    """Prevents figures that are no numbers from passing into a bound."""
    with pytest.raises(LagrangianError, match=r"1 of 2 options have a value or use that is not finite, first at item 1"):
        Choice(np.zeros(2), np.array([0.0, np.nan]), np.zeros((2, 1)))
    with pytest.raises(LagrangianError, match=r"option has shape \(2,\), value \(3,\)"):
        Choice(np.zeros(2), np.zeros(3), np.zeros((2, 1)))
    with pytest.raises(LagrangianError, match=r"1 of 2 options have a figure that is not finite, first option 0 of item 0"):
        FiniteItems(np.array([[-np.inf, 1.0]]), np.zeros((1, 2, 1)))
    with pytest.raises(LagrangianError, match=r"give \(n, k\) and \(n, k, m\)"):
        FiniteItems(np.zeros((2, 2)), np.zeros((2, 3, 1)))
