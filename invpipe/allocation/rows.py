r"""Orders straight from arrays: the orders of :func:`~invpipe.allocation.plan.allocate` without names, certificate and frames.

For callers that decide thousands of times, as a replay does. The rows may be fewer than the problem's: a row that cannot be ordered
changes nothing. Order of events as in :mod:`invpipe.allocation.plan`: solve as if no vendor had a minimum; while a vendor's order is
above 0 and below its minimum, defer the one with the smallest share of its minimum, ties to the first name, and solve the rest again.

- "exact": the lots worth buying, best value per capital first (:mod:`invpipe.allocation.exact`). They are priced once; where a vendor is
  deferred they are sorted once, and every further round is one pass over them.
- "greedy": up to the mean demand, best profit per capital first (:mod:`invpipe.allocation.greedy`). The ranking is a heap, so only what
  the capital reaches is sorted.
- :func:`unlimited_units`: what each row would order by itself, its newsvendor fractile in whole lots.

Limits: nothing is validated here, and no bound is proved; `invpipe_tests/oracles` holds the slow twins. Sums of money are taken in
another order than in `allocate`, so a lot that fits the capital to the last bit (1e-12 relative) may be decided otherwise.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.allocation.exact import MAX_LOTS, buy_lots, price_lots, span_values
from invpipe.allocation.problem import CAPITAL_TOLERANCE, FloatArray, IntArray
from invpipe.errors import AllocationError

BoolArray = npt.NDArray[np.bool_]

#: Where all orders together leave this share of the capital they all fit, however their sum is rounded.
CLEAR_FIT_FRAC = 1e-9
#: A ranking is thinned out where more than one in this many of its entries was too dear.
THIN_OUT_EVERY = 8
NONE = -1


class AllocationRows(NamedTuple):
    """Rows of an :class:`~invpipe.allocation.AllocationProblem` as arrays, shape (n,), in its order; vendors as indices.

    `vendor_min_order_value` and `vendor_rank` (place in the order of names) have one entry per vendor. All as validated there.
    """

    mean: FloatArray
    size: FloatArray
    unit_price: FloatArray
    unit_cost: FloatArray
    holding_cost: FloatArray
    salvage_value: FloatArray
    position_units: IntArray
    first_lot_units: IntArray
    pack_units: IntArray
    vendor: IntArray
    vendor_min_order_value: FloatArray
    vendor_rank: IntArray


@njit(cache=True, nogil=True, error_model="numpy")
def _shortest_vendor(rows: AllocationRows, units: IntArray) -> int:
    """Return the vendor whose order is the smallest share of its minimum and below it, NONE where all are large enough."""
    least = rows.vendor_min_order_value
    total = np.zeros(len(least))
    for i in range(len(units)):
        total[rows.vendor[i]] += units[i] * rows.unit_cost[i]
    found, lowest = NONE, np.inf
    for v in range(len(least)):
        if 0.0 < total[v] < least[v]:
            share = total[v] / least[v]
            if share < lowest or (share == lowest and rows.vendor_rank[v] < rows.vendor_rank[found]):
                found, lowest = v, share
    return found


# -------------------------------------------------------------------- greedy


@njit(cache=True, nogil=True, error_model="numpy")
def _targets(rows: AllocationRows) -> tuple[IntArray, FloatArray]:
    """Return the order up to the mean demand in whole lots, halves up, and its profit per unit of capital (-inf: not worth ordering)."""
    n = len(rows.mean)
    target, rank = np.zeros(n, np.int64), np.full(n, -np.inf)
    for i in range(n):
        wanted = max(int(np.floor(rows.mean[i] + 0.5)) - rows.position_units[i], 0)
        first, pack = rows.first_lot_units[i], rows.pack_units[i]
        down = first + (wanted - first) // pack * pack if wanted >= first else 0
        lot = first if down == 0 else pack
        units = down + (lot if 2 * (wanted - down) >= lot else 0)
        if units == 0:
            continue
        gap = max(rows.mean[i] - rows.position_units[i], 0.0)
        sold = min(float(units), gap)
        cost = rows.unit_cost[i] * units
        left_over = (rows.salvage_value[i] - rows.holding_cost[i]) * (units - sold)
        target[i] = units
        rank[i] = (rows.unit_price[i] * sold + left_over - cost) / cost
    return target, rank


@njit(cache=True, nogil=True, error_model="numpy")
def _sift(heap: IntArray, count: int, place: int, rank: FloatArray) -> None:
    """Let the entry at `place` sink to where it belongs: highest rank on top, ties to the lowest row."""
    row = heap[place]
    while True:
        child = 2 * place + 1
        if child >= count:
            break
        a, b = heap[child], heap[min(child + 1, count - 1)]
        if rank[b] > rank[a] or (rank[b] == rank[a] and b < a):
            child, a = child + 1, b
        if rank[row] > rank[a] or (rank[row] == rank[a] and row < a):
            break
        heap[place] = a
        place = child
    heap[place] = row


@njit(cache=True, nogil=True, error_model="numpy")
def _heapify(heap: IntArray, count: int, rank: FloatArray) -> None:
    for place in range(count // 2 - 1, -1, -1):
        _sift(heap, count, place, rank)


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(rank: FloatArray, cost: FloatArray, is_open: BoolArray, capital: float) -> BoolArray:
    """Return which rows are ordered: highest rank first, ties to the lowest row, in full or not at all, while they fit."""
    chosen, heap, count, spend = np.zeros(len(rank), np.bool_), np.empty(len(rank), np.int64), 0, 0.0
    for i in range(len(rank)):
        if is_open[i] and rank[i] > 0.0:
            heap[count] = i
            count += 1
            spend += cost[i]
    if spend <= capital * (1.0 - CLEAR_FIT_FRAC):
        chosen[heap[:count]] = True
        return chosen
    left, slack, too_dear = capital, CAPITAL_TOLERANCE * capital, 0
    _heapify(heap, count, rank)
    while count > 0:
        row = heap[0]
        count -= 1
        heap[0] = heap[count]
        _sift(heap, count, 0, rank)
        if cost[row] <= left + slack:
            chosen[row] = True
            left -= cost[row]
            continue
        too_dear += 1
        if THIN_OUT_EVERY * too_dear > count:  # what is too dear now stays so: the capital left only falls
            kept = 0
            for place in range(count):
                if cost[heap[place]] <= left + slack:
                    heap[kept] = heap[place]
                    kept += 1
            count, too_dear = kept, 0
            _heapify(heap, count, rank)
    return chosen


@njit(cache=True, nogil=True, error_model="numpy")
def greedy_units(rows: AllocationRows, capital: float) -> IntArray:
    """Return the orders of method "greedy", units, shape (n,)."""
    target, rank = _targets(rows)
    cost = rows.unit_cost * target
    is_open = np.ones(len(target), np.bool_)
    while True:
        units = np.where(_fill(rank, cost, is_open, capital), target, 0)
        vendor = _shortest_vendor(rows, units)
        if vendor == NONE:
            return units
        is_open &= rows.vendor != vendor


# --------------------------------------------------------------------- exact


@njit(cache=True, nogil=True, error_model="numpy")
def _lots_of(rows: AllocationRows) -> tuple[IntArray, FloatArray, FloatArray]:
    slope = rows.unit_price - rows.salvage_value + rows.holding_cost
    loss = rows.unit_cost - rows.salvage_value + rows.holding_cost
    return price_lots(rows.mean, rows.size, slope, loss, rows.unit_cost, rows.position_units, rows.first_lot_units, rows.pack_units)


@njit(cache=True, nogil=True, error_model="numpy")
def _units_of(rows: AllocationRows, taken: IntArray) -> IntArray:
    return np.where(taken > 0, rows.first_lot_units + (taken - 1) * rows.pack_units, 0)


@njit(cache=True, nogil=True, error_model="numpy")
def _take_in_order(rows: AllocationRows, start: IntArray, row: IntArray, order: IntArray, is_open: BoolArray, capital: float) -> IntArray:
    """Take the lots in the given order while they fit; one that does not fit bars the further lots of its row."""
    taken, barred = np.zeros(len(start) - 1, np.int64), ~is_open
    left, slack = capital, CAPITAL_TOLERANCE * capital if np.isfinite(capital) else 0.0
    for lot in order:
        i = row[lot]
        if barred[i]:
            continue
        cost = rows.unit_cost[i] * (rows.first_lot_units[i] if lot == start[i] else rows.pack_units[i])
        if cost <= left + slack:
            taken[i] += 1
            left -= cost
        else:
            barred[i] = True
    return taken


@njit(cache=True, nogil=True, error_model="numpy")
def _exact_units(rows: AllocationRows, start: IntArray, value: FloatArray, ratio: FloatArray, capital: float) -> IntArray:
    slack = CAPITAL_TOLERANCE * capital if np.isfinite(capital) else 0.0
    taken, _, _ = buy_lots(start, value, ratio, rows.unit_cost, rows.first_lot_units, rows.pack_units, capital, slack)
    units = _units_of(rows, taken)
    vendor = _shortest_vendor(rows, units)
    if vendor == NONE:
        return units
    order = np.argsort(-ratio, kind="mergesort")  # stable: ties in the order (row, lot)
    row = np.empty(len(ratio), np.int64)
    for i in range(len(taken)):
        row[start[i] : start[i + 1]] = i
    is_open = np.ones(len(taken), np.bool_)
    while vendor != NONE:
        is_open &= rows.vendor != vendor
        units = _units_of(rows, _take_in_order(rows, start, row, order, is_open, capital))
        vendor = _shortest_vendor(rows, units)
    return units


def _checked_lots(rows: AllocationRows) -> tuple[IntArray, FloatArray, FloatArray]:
    start, value, ratio = _lots_of(rows)
    if start[-1] < 0:
        msg = f"more than {MAX_LOTS:,} lots are worth buying, exceeded at row {-1 - start[-1]}; order in larger packs"
        raise AllocationError(msg)
    return start, value, ratio


def exact_units(rows: AllocationRows, capital: float) -> IntArray:
    """Return the orders of method "exact", units, shape (n,).

    Raises
    ------
    AllocationError
        Where more than `MAX_LOTS` lots are worth buying.
    """
    return np.asarray(_exact_units(rows, *_checked_lots(rows), capital))


def unlimited_units(rows: AllocationRows) -> IntArray:
    """Return what each row orders if capital and vendor minimums are no matter: all lots worth buying, units, shape (n,).

    Raises
    ------
    AllocationError
        As :func:`exact_units`.
    """
    start, _, _ = _checked_lots(rows)
    return np.asarray(_units_of(rows, np.diff(start)))


def order_units(rows: AllocationRows, capital: float, method: Literal["exact", "greedy"]) -> IntArray:
    """Return the units `allocate` would order of each row, shape (n,).

    Parameters
    ----------
    rows
        What may be ordered.
    capital
        Money available, >= 0; inf is no limit.
    method
        "exact" or "greedy".

    Raises
    ------
    AllocationError
        Where more than `MAX_LOTS` lots are worth buying.
    """
    return exact_units(rows, capital) if method == "exact" else np.asarray(greedy_units(rows, capital))


def row_values(rows: AllocationRows, units: IntArray) -> FloatArray:
    """Return the expected value of each row's order under its demand law, money, shape (n,)."""
    slope = rows.unit_price - rows.salvage_value + rows.holding_cost
    loss = rows.unit_cost - rows.salvage_value + rows.holding_cost
    return np.asarray(span_values(rows.mean, rows.size, slope, loss, rows.position_units, rows.position_units + units))
