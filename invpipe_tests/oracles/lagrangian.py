"""Linked items from the definition: the optimum by trying every plan, the dual's optimum by scipy's linprog; and made-up instances.

Shares no code with `invpipe.lagrangian` but the items it is given.
"""

from itertools import product

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from invpipe.lagrangian import ConcaveItems, FiniteItems


def options_of(items) -> list[list[tuple[int, float, np.ndarray]]]:
    """All (option, value, use) of each item."""
    if isinstance(items, FiniteItems):
        return [[(k, v, items.use[i, k]) for k, v in enumerate(row) if np.isfinite(v)] for i, row in enumerate(items.value)]
    spans = zip(items.start[:-1], items.start[1:], strict=True)
    return [
        [(x, float(items.marginal[a : a + x].sum()), x * items.unit_use[i]) for x in range(b - a + 1)] for i, (a, b) in enumerate(spans)
    ]


def best_objective(items, capacity, penalty=None) -> float:
    """Value less penalties of the best plan, -inf if none keeps the hard rows."""
    penalty = np.full(len(capacity), np.inf) if penalty is None else penalty
    best = -np.inf
    for plan in product(*options_of(items)):
        over = sum((use for _, _, use in plan), np.zeros(len(capacity))) - capacity
        over = np.where(over > 1e-9 * np.maximum(np.abs(capacity), 1.0), over, 0.0)
        if not (over[np.isinf(penalty)] > 0).any():
            soft = np.isfinite(penalty)
            best = max(best, sum(value for _, value, _ in plan) - float(penalty[soft] @ over[soft]))
    return best


def dual_optimum(items, capacity, penalty=None) -> float:
    """Optimum of the linear programme over weights of each item's options: by duality that of the Lagrangian dual."""
    options, m = options_of(items), len(capacity)
    value = np.array([v for row in options for _, v, _ in row])
    use = np.array([u for row in options for _, _, u in row]).reshape(len(value), m)
    item = np.repeat(np.arange(len(options)), [len(row) for row in options])
    soft = np.array([], dtype=int) if penalty is None else np.flatnonzero(np.isfinite(penalty))
    excess = np.zeros((m, len(soft)))
    excess[soft, np.arange(len(soft))] = -1.0
    weights = sparse.csr_array((np.ones(len(value)), (item, np.arange(len(value)))), shape=(len(options), len(value)))
    found = linprog(
        -np.concatenate([value, [] if penalty is None else -penalty[soft]]),
        A_ub=np.hstack([use.T, excess]) if m else None,
        b_ub=capacity if m else None,
        A_eq=sparse.hstack([weights, sparse.csr_array((len(options), len(soft)))]),
        b_eq=np.ones(len(options)),
    )
    assert found.status == 0, found.message
    return float(-found.fun)


def random_finite(seed: int, n: int, k: int, m: int, *, two_sided: bool = False) -> tuple[FiniteItems, np.ndarray]:
    """Items whose option 0 is worth and uses nothing, and capacities that bind; with some options that do not exist and ties."""
    g = np.random.default_rng(seed)
    value = np.round(g.uniform(0.0, 10.0, (n, k)), int(g.integers(0, 3)))
    use = np.round(g.uniform(-2.0 if two_sided else 0.0, 5.0, (n, k, m)), int(g.integers(0, 3)))
    value[:, 0], use[:, 0] = 0.0, 0.0
    value[:, 1:][g.random((n, k - 1)) < 0.15] = -np.inf
    return FiniteItems(value, use), g.uniform(0.1, 0.8, m) * np.abs(use).mean(axis=1).sum(axis=0) + 0.5


def random_concave(seed: int, n: int, most: int, m: int) -> tuple[ConcaveItems, np.ndarray]:
    """Concave items, some without units, with ties, and capacities that bind."""
    g = np.random.default_rng(seed)
    units = g.integers(0, most + 1, n)
    marginal = [np.sort(np.round(g.uniform(-1.0, 5.0, u), int(g.integers(0, 4))))[::-1] for u in units]
    use = np.round(g.uniform(0.0, 3.0, (n, m)), 1)
    items = ConcaveItems(np.concatenate([[0], np.cumsum(units)]), np.concatenate([*marginal, []]), use)
    return items, g.uniform(0.1, 0.8, m) * (units @ use) + 0.5
