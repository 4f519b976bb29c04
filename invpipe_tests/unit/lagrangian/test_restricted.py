"""The search of the options seen: never over a capacity, never worse, and the best of them where it may look at all."""

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.lagrangian import LagrangianParams, solve
from invpipe.lagrangian.items import Choice
from invpipe.lagrangian.restricted import best_of_seen, free_options
from invpipe_tests.oracles import lagrangian as oracle

SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, m=st.integers(1, 3), soft=st.booleans())
def test_search_never_loses_and_never_breaks_a_row(seed, m, soft):
    """Prevents a plan of the search that is over a capacity, above the best plan there is, or worse than the one it began with."""
    items, capacity = oracle.random_finite(seed, 6, 4, m, two_sided=True)
    penalty = np.full(m, 2.0 if soft else np.inf)
    start = np.zeros(6, np.int64)
    plain, searched = (
        solve(items, capacity, start=start, penalty=penalty, params=LagrangianParams(plan_nodes=nodes)) for nodes in (0, 1000)
    )
    best = oracle.best_objective(items, capacity, penalty)
    assert plain.objective <= searched.objective <= best + 1e-9 * (1 + abs(best))
    assert searched.bound >= best - 1e-9 * (1 + abs(best))
    if not soft:
        assert (items.evaluate(searched.choice.option).total_use() <= capacity * (1 + 1e-12)).all()


def test_search_closes_most_of_what_swaps_leave():
    """Prevents a search that does nothing: with single swaps alone this made-up instance keeps a much larger gap."""
    items, capacity = oracle.random_finite(5, 300, 6, 4)
    start = np.zeros(300, np.int64)
    plain, searched = (solve(items, capacity, start=start, params=LagrangianParams(plan_nodes=nodes)) for nodes in (0, 2000))
    assert searched.gap < 0.6 * plain.gap


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, soft=st.booleans())
def test_programme_finds_the_best_of_its_options(seed, soft):
    """Prevents wrong signs of slack, scale or capacity: enumeration of all combinations of the options finds nothing better."""
    g = np.random.default_rng(seed)
    item = np.repeat(np.arange(4), 3)
    value, use = g.uniform(-2, 9, 12), g.uniform(-1, 3, (12, 2)) * [1.0, 100.0]
    is_plan = (np.arange(12) % 3 == 0).astype(float)
    penalty = np.array([1.5, 0.01]) if soft else np.full(2, np.inf)
    left = is_plan @ use + g.uniform(-2.0 if soft else 0.1, 3.0, 2) * [1.0, 100.0]

    def worth(rows):
        over = np.maximum(use[list(rows)].sum(axis=0) - left, 0.0)
        if not soft and (over > 0).any():
            return -np.inf
        return value[list(rows)].sum() - (over @ penalty if soft else 0.0)

    taken = best_of_seen(value, use, item, is_plan, left, penalty, gap=0.0, max_nodes=10_000, seconds=np.inf)
    assert taken is not None
    assert item[taken].tolist() == [0, 1, 2, 3]
    best = max(worth(rows) for rows in product(*(np.flatnonzero(item == i) for i in range(4))))
    np.testing.assert_allclose(worth(taken), best, rtol=1e-6, atol=1e-6)


def test_options_beyond_the_room_or_the_number_are_left_out():
    """Prevents a programme over options that no better plan takes, and a free item without its option of the plan."""
    seen = Choice(np.array([0, 1, 2, 0, 1, 0]), np.array([5.0, 4.0, 1.0, 3.0, 2.9, 7.0]), np.zeros((6, 1)))
    start, plan, best = np.array([0, 3, 5, 6]), np.array([1, 3, 5]), np.array([5.0, 3.0, 7.0])

    def free(room, most):
        return free_options(seen, start, plan, best, np.zeros(1), room, most).tolist()

    assert free(10.0, 9) == [0, 1, 2, 3, 4]
    assert free(1.0, 9) == [0, 1, 3, 4]
    assert free(1.0, 3) == [0, 1]
    assert free(10.0, 1) == []
