r"""Items of which one takes any number of units, each further unit worth no more than the one before and using the same.

An option is a number of units x; :math:`v_i(x) = \sum_{n \le x} w_{in}` with :math:`w_{i1} \ge w_{i2} \ge \dots`, and
:math:`u_i(x) = x a_i`. Under multipliers an item takes the units with :math:`w_{in} > \lambda^\top a_i`. The Lagrangian bound is then that
of the linear relaxation, a basic solution of which has at most m fractional items, m the number of rows: the absolute gap is at most the
sum of the m largest unit values, whatever the number of items.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numba import njit

from invpipe.errors import LagrangianError
from invpipe.lagrangian.items import Choice, FloatArray, IntArray, Items

#: Weighted means of whole units are rounded down after this is added: noise of the weights' sum.
UNIT_TOLERANCE = 1e-9


@njit(cache=True, nogil=True)
def _units_above(start: IntArray, marginal: FloatArray, threshold: FloatArray) -> IntArray:
    """Return how many units of each item are worth more than its threshold, by bisection."""
    units = np.zeros(len(threshold), np.int64)
    for i in range(len(threshold)):
        low, high = start[i], start[i + 1]
        while low < high:
            middle = (low + high) // 2
            if marginal[middle] > threshold[i]:
                low = middle + 1
            else:
                high = middle
        units[i] = low - start[i]
    return units


@njit(cache=True, nogil=True)
def _values(start: IntArray, marginal: FloatArray, units: IntArray) -> FloatArray:
    """Return the value of the first units of each item."""
    value = np.zeros(len(units))
    for i in range(len(units)):
        for n in range(start[i], start[i] + units[i]):
            value[i] += marginal[n]
    return value


@njit(cache=True, nogil=True)
def _fill(start: IntArray, marginal: FloatArray, unit_use: FloatArray, multipliers: FloatArray, left: FloatArray, units: IntArray) -> None:
    """Add units, most value per priced use first, while they fit; ties to the earlier item; units and left in place."""
    n, m = unit_use.shape
    price = np.zeros(n)
    queue = [(0.0, 0) for _ in range(0)]  # numba has to see the type of an empty list
    for i in range(n):
        for j in range(m):
            price[i] += multipliers[j] * unit_use[i, j]
        if start[i] + units[i] < start[i + 1] and marginal[start[i] + units[i]] > 0.0:
            queue.append((price[i] / marginal[start[i] + units[i]], i))
    heapify(queue)
    while len(queue) > 0:
        item = heappop(queue)[1]
        if not (unit_use[item] <= left).all():
            continue
        left -= unit_use[item]
        units[item] += 1
        at = start[item] + units[item]
        if at < start[item + 1] and marginal[at] > 0.0:
            heappush(queue, (price[item] / marginal[at], item))


class ConcaveItems(Items):
    """Items by the value of each unit.

    Parameters
    ----------
    start
        First unit of each item in `marginal`, and their number, shape (n + 1,).
    marginal
        Value of each unit, never rising within an item, shape (number of units,).
    unit_use
        Use of each row by one unit, >= 0, shape (n, m).

    Raises
    ------
    LagrangianError
        Where shapes do not fit, a figure is not finite, a use is negative, or a further unit is worth more.
    """

    def __init__(self, start: IntArray, marginal: FloatArray, unit_use: FloatArray) -> None:
        self.start = np.ascontiguousarray(start, dtype=np.int64)
        self.marginal = np.ascontiguousarray(marginal, dtype=np.float64)
        self.unit_use = np.ascontiguousarray(unit_use, dtype=np.float64)
        n = len(self.unit_use)
        if self.unit_use.ndim != 2 or self.start.shape != (n + 1,) or self.marginal.ndim != 1:
            msg = f"start has shape {self.start.shape}, marginal {self.marginal.shape}, unit_use {self.unit_use.shape}"
            raise LagrangianError(f"{msg}; give (n + 1,), (number of units,) and (n, m)")
        if self.start[0] != 0 or self.start[-1] != len(self.marginal) or (np.diff(self.start) < 0).any():
            msg = f"start does not rise from 0 to the number of units, {len(self.marginal)}"
            raise LagrangianError(msg)
        bad = ~(np.isfinite(self.unit_use) & (self.unit_use >= 0))
        if bad.any():
            item, row = (int(k) for k in np.argwhere(bad)[0])
            msg = f"{int(bad.sum())} uses per unit are negative or not finite, first at item {item}, row {row}: {self.unit_use[item, row]}"
            raise LagrangianError(msg)
        rises = ~(np.diff(self.marginal, append=-np.inf) <= 0) | ~np.isfinite(self.marginal)
        rises[self.start[1:][np.diff(self.start) > 0] - 1] = False
        rises |= ~np.isfinite(self.marginal)
        if rises.any():
            at = int(rises.argmax())
            item = int(np.searchsorted(self.start, at, side="right")) - 1
            msg = (
                f"{int(rises.sum())} units are not finite or worth less than the next one of their item, "
                f"first item {item}, unit {at - int(self.start[item]) + 1}: {self.marginal[at]}; give values that never rise"
            )
            raise LagrangianError(msg)

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.unit_use)

    @property
    def n_rows(self) -> int:
        """Number of linking rows."""
        return int(self.unit_use.shape[1])

    @property
    def max_units(self) -> IntArray:
        """Number of units there are of each item, shape (n,)."""
        return np.diff(self.start)

    def units_above(self, threshold: FloatArray) -> IntArray:
        """Return how many units of each item are worth more than its threshold, shape (n,)."""
        return np.asarray(_units_above(self.start, self.marginal, threshold))

    def best(self, multipliers: FloatArray) -> Choice:
        """Return the units worth more than their priced use."""
        return self.evaluate(self.units_above(self.unit_use @ multipliers))

    def evaluate(self, option: IntArray) -> Choice:
        """Return value and use of a number of units per item.

        Raises
        ------
        LagrangianError
            Where an item has fewer units, or a number is negative.
        """
        units = np.asarray(option, dtype=np.int64)
        bad = (units < 0) | (units > self.max_units)
        if bad.any():
            item = int(bad.argmax())
            msg = f"{int(bad.sum())} of {len(units)} items have no such number of units, first item {item}: {units[item]} of "
            raise LagrangianError(f"{msg}{self.max_units[item]}")
        return Choice(units, _values(self.start, self.marginal, units), units[:, None] * self.unit_use)

    def rounded(self, options: IntArray, weights: FloatArray) -> IntArray:
        """Return the mean number of units, rounded down: it uses no more than the mixture."""
        return np.asarray(np.floor((options * weights).sum(axis=0) + UNIT_TOLERANCE), dtype=np.int64)

    def improved(self, choice: Choice, left: FloatArray, multipliers: FloatArray) -> Choice:
        """Return the choice with units added, most value per priced use first, while they fit."""
        units = choice.option.copy()
        _fill(self.start, self.marginal, self.unit_use, multipliers, left.copy(), units)
        return self.evaluate(units)
