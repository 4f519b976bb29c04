"""Every option the items have shown, and the kernels that read them: cuts, repair and 1-opt without solving any item again."""

from __future__ import annotations

import numpy as np
from numba import njit

from invpipe.lagrangian.items import Choice, FloatArray, IntArray

#: A move has to gain more than this share of the typical value, else rounding noise could move items for ever.
MOVE_TOLERANCE = 1e-12
#: A multiplier this close to its row's penalty, relative, is at it.
CAP_TOLERANCE = 1e-6
#: Passes over all items of one repair or 1-opt; each applies every move that still helps, so few are ever needed.
MAX_PASSES = 50


@njit(cache=True, nogil=True)
def _pick(value: FloatArray, use: FloatArray, count: int, multipliers: FloatArray, pick: IntArray, priced: FloatArray) -> None:
    """Fill pick and priced with the first best of the `count` choices per item and its value - multipliers @ use."""
    n, m = use.shape[1], use.shape[2]
    for i in range(n):
        best, best_k = -np.inf, 0
        for k in range(count):
            worth = value[k, i]
            for j in range(m):
                worth -= multipliers[j] * use[k, i, j]
            if worth > best:
                best, best_k = worth, k
        pick[i] = best_k
        priced[i] = best


@njit(cache=True, nogil=True)
def _group_sums(
    value: FloatArray, use: FloatArray, pick: IntArray, group: IntArray, group_value: FloatArray, group_use: FloatArray
) -> None:
    for i in range(len(pick)):
        group_value[group[i]] += value[pick[i], i]
        for j in range(use.shape[2]):
            group_use[group[i], j] += use[pick[i], i, j]


@njit(cache=True, nogil=True)
def _excess_drop(over: FloatArray, now: FloatArray, new: FloatArray, weight: FloatArray) -> float:
    """Return by how much a swap lowers the weighted sum of excesses; `over` is use less capacity."""
    drop = 0.0
    for j in range(len(over)):
        drop += weight[j] * (max(over[j], 0.0) - max(over[j] + new[j] - now[j], 0.0))
    return drop


@njit(cache=True, nogil=True)
def _repair(
    value: FloatArray,
    use: FloatArray,
    count: int,
    multipliers: FloatArray,
    weight: FloatArray,
    pick: IntArray,
    over: FloatArray,
    max_passes: int,
) -> None:
    """Swap options, least priced loss per excess removed first, until no row of weight is over or no swap helps; in place."""
    n, m = use.shape[1], use.shape[2]
    target, key = np.empty(n, np.int64), np.empty(n)
    for _ in range(max_passes):
        if not ((over > 0.0) & (weight > 0.0)).any():
            return
        for i in range(n):
            now, key[i], target[i] = pick[i], np.inf, -1
            for k in range(count):
                drop = _excess_drop(over, use[now, i], use[k, i], weight)
                if drop <= 0.0:
                    continue
                loss = value[now, i] - value[k, i]
                for j in range(m):
                    loss -= multipliers[j] * (use[now, i, j] - use[k, i, j])
                if loss / drop < key[i]:
                    key[i], target[i] = loss / drop, k
        moved = False
        for i in np.argsort(key, kind="mergesort"):
            if target[i] < 0 or not ((over > 0.0) & (weight > 0.0)).any():
                break
            if _excess_drop(over, use[pick[i], i], use[target[i], i], weight) > 0.0:
                over += use[target[i], i] - use[pick[i], i]
                pick[i] = target[i]
                moved = True
        if not moved:
            return


@njit(cache=True, nogil=True)
def _gain(value: FloatArray, use: FloatArray, i: int, now: int, new: int, over: FloatArray, penalty: FloatArray) -> float:
    """Return what a swap earns net of penalties; -inf where it would put a hard row over its capacity."""
    gain: float = value[new, i] - value[now, i]
    for j in range(len(over)):
        after = over[j] + use[new, i, j] - use[now, i, j]
        if np.isinf(penalty[j]):
            if after > 0.0 and after > over[j]:
                return -np.inf
        else:
            gain -= penalty[j] * (max(after, 0.0) - max(over[j], 0.0))
    return gain


@njit(cache=True, nogil=True)
def _one_opt(
    value: FloatArray,
    use: FloatArray,
    count: int,
    multipliers: FloatArray,
    penalty: FloatArray,
    least: float,
    pick: IntArray,
    over: FloatArray,
    max_passes: int,
) -> None:
    """Swap single items' options while that gains more than `least`, most gain per priced use first; pick and over in place."""
    n, m = use.shape[1], use.shape[2]
    target, key = np.empty(n, np.int64), np.empty(n)
    for _ in range(max_passes):
        for i in range(n):
            best = least
            key[i], target[i] = np.inf, -1
            for k in range(count):
                gain = _gain(value, use, i, pick[i], k, over, penalty)
                if gain > best:
                    best, target[i] = gain, k
            if target[i] >= 0:
                cost = 0.0
                for j in range(m):
                    cost += multipliers[j] * (use[target[i], i, j] - use[pick[i], i, j])
                key[i] = max(cost, 0.0) / best
        moved = False
        for i in np.argsort(key, kind="mergesort"):
            if target[i] < 0:
                break
            if _gain(value, use, i, pick[i], target[i], over, penalty) > least:
                over += use[target[i], i] - use[pick[i], i]
                pick[i] = target[i]
                moved = True
        if not moved:
            return


class Memory:
    """Choices seen, one after the other.

    Parameters
    ----------
    n_items, n_rows
        Shape of the choices.
    """

    def __init__(self, n_items: int, n_rows: int) -> None:
        self.count = 0
        self.option: IntArray = np.empty((8, n_items), dtype=np.int64)
        self.value: FloatArray = np.empty((8, n_items))
        self.use: FloatArray = np.empty((8, n_items, n_rows))

    def add(self, choice: Choice) -> int:
        """Store a choice and return its number."""
        if self.count == len(self.option):
            self.option, self.value, self.use = (np.concatenate([a, np.empty_like(a)]) for a in (self.option, self.value, self.use))
        number = self.count
        self.option[number], self.value[number], self.use[number] = choice.option, choice.value, choice.use
        self.count += 1
        return number

    def pick(self, multipliers: FloatArray, count: int | None = None) -> tuple[IntArray, FloatArray]:
        """Return, per item, which of the first `count` choices (default all) is worth most under the multipliers, and how much."""
        n = self.option.shape[1]
        pick, priced = np.zeros(n, dtype=np.int64), np.zeros(n)
        _pick(self.value, self.use, self.count if count is None else count, multipliers, pick, priced)
        return pick, priced

    def group_sums(self, pick: IntArray, group: IntArray, n_groups: int) -> tuple[FloatArray, FloatArray]:
        """Return value (g,) and use (g, m) of the picked options per group."""
        value, use = np.zeros(n_groups), np.zeros((n_groups, self.use.shape[2]))
        _group_sums(self.value, self.use, pick, group, value, use)
        return value, use

    def taken(self, pick: IntArray) -> Choice:
        """Return the picked options as a choice."""
        items = np.arange(len(pick))
        return Choice(self.option[pick, items], self.value[pick, items], self.use[pick, items])

    def distinct(self, plan: Choice) -> tuple[Choice, IntArray, IntArray]:
        """Return the options seen and those of a plan, item by item, none twice; where each item's begin; and which are the plan's."""
        everyone = np.arange(len(plan.option))
        option = np.concatenate([plan.option[None], self.option[: self.count]])
        item, first = np.broadcast_to(everyone, option.shape).ravel(), np.arange(option.size)
        order = np.lexsort((first, option.ravel(), item))
        item, code = item[order], option.ravel()[order]
        new = np.concatenate([[True], (np.diff(item) != 0) | (np.diff(code) != 0)])
        which = order[new]
        value = np.concatenate([plan.value[None], self.value[: self.count]]).ravel()[which]
        use = np.concatenate([plan.use[None], self.use[: self.count]]).reshape(option.size, -1)[which]
        start = np.searchsorted(item[new], np.arange(len(everyone) + 1)).astype(np.int64)
        return Choice(code[new], value, use), start, np.flatnonzero(which < len(everyone))

    def swapped(self, choice: Choice, capacity: FloatArray, slack: FloatArray, penalty: FloatArray, multipliers: FloatArray) -> Choice:
        """Return the choice after repair and 1-opt over its own options and all options seen.

        Parameters
        ----------
        choice
            Where to start; it may be over capacities.
        capacity, slack
            b and the rounding noise allowed above it, shape (m,).
        penalty
            Cost per unit of use above each capacity, inf for a hard row, shape (m,).
        multipliers
            What use is worth, to judge swaps by, shape (m,).
        """
        scale = np.abs(self.use[: self.count]).sum(axis=(0, 1)) / max(self.count, 1)
        # a multiplier at its penalty says that the row is worth breaking
        weight = np.where(multipliers < penalty * (1.0 - CAP_TOLERANCE), 1.0 / np.where(scale > 0, scale, 1.0), 0.0)
        least = MOVE_TOLERANCE * float(np.abs(choice.value).sum())
        number = self.add(choice)  # for the length of this call
        pick = np.full(len(choice.option), number, dtype=np.int64)
        over = choice.total_use() - capacity - slack
        _repair(self.value, self.use, self.count, multipliers, weight, pick, over, MAX_PASSES)
        _one_opt(self.value, self.use, self.count, multipliers, penalty, least, pick, over, MAX_PASSES)
        self.count = number
        return self.taken(pick)
