r"""Exact method of a separable :class:`~invpipe.allocation.procurement.ProcurementProblem`: one offer per SKU, at most one capacity.

The continuous optimum takes the SKUs' segments by their gain per unit of the capacity until it is spent (Dantzig, 1957); as the segments
of a SKU fall, the order within a SKU takes care of itself. That is the bound, and the ratio of the split segment is the price of the
capacity.

The plan takes whole lots in the same order, past a lot that does not fit those that still do, never a lot before its predecessor of the
same SKU. Equal lots of a SKU are one run with a count, so the cost does not depend on the number of units. Where this leaves a gap worth
closing, a depth-first search over the runs follows (Horowitz and Sahni, 1974), each node bounded by what the capital left would earn at
the next ratio; if it ends by itself the plan is optimal among all plans of whole lots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from invpipe.allocation.procurement import LIMIT_TOLERANCE, FloatArray, IntArray, ProcurementProblem
from invpipe.errors import AllocationError

#: The search starts above this gap to the continuous optimum, relative.
SEARCH_GAP = 1e-5
#: Most steps of the search, a fraction of a second.
SEARCH_STEPS = 20_000_000
#: A plan better by less than this, relative, is not better.
IMPROVEMENT = 1e-12


@dataclass(frozen=True)
class SeparableSolution:
    """Integer plan of the exact method.

    Parameters
    ----------
    order_units
        Units per offer, whole lots, shape (m,).
    bound
        Continuous optimum, money.
    price
        What one more unit of the capacity would earn there.
    proved
        Whether the search has shown that no plan of whole lots is better.
    """

    order_units: IntArray
    bound: float
    price: float
    proved: bool


def refuse_linked(problem: ProcurementProblem) -> None:
    """Refuse what is not separable.

    Raises
    ------
    AllocationError
        Where a SKU has two offers, there are two capacities, or a vendor has a fixed cost or a minimum.
    """
    several = int((np.diff(problem.offer_start) > 1).sum())
    capacities, terms = len(problem.capacity_names), int(problem.has_vendor_terms.sum())
    if several or capacities > 1 or terms:
        msg = (
            f"method 'exact' takes one offer per SKU, one capacity and no vendor terms; {several} SKUs have several offers, "
            f"{terms} vendors have a fixed cost or a minimum, there are {capacities} capacities; take 'lagrangian' or 'mip'"
        )
        raise AllocationError(msg)


def single_capacity(problem: ProcurementProblem) -> tuple[FloatArray, float]:
    """Return use per unit of the one capacity, shape (m,), and its limit; zeros and inf where there is none."""
    if not problem.capacity_names:
        return np.zeros(len(problem)), np.inf
    return problem.capacity_use[0], float(problem.capacity_limit[0])


def priced_segments(problem: ProcurementProblem) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return offer, units within the offer's cap, and gain per unit of all segments of SKUs with one offer; those that gain only."""
    start, offer_of = problem.segment_start, np.full(len(problem.skus), -1, dtype=np.int64)
    offer_of[problem.offer_sku] = np.arange(len(problem))
    offer = np.repeat(offer_of, np.diff(start))
    units = problem.segment_units
    before = np.concatenate([[0.0], np.cumsum(np.where(np.isinf(units), 0.0, units))])[:-1]
    before -= np.repeat(before[start[:-1]], np.diff(start))
    room = np.minimum(units, np.where(offer >= 0, problem.cap_units[offer], 0.0) - before)
    gain = problem.segment_value - problem.charge[offer]
    keep = np.flatnonzero((offer >= 0) & (room > 0) & (gain > 0))
    return offer[keep], room[keep], gain[keep]


def continuous_optimum(problem: ProcurementProblem) -> tuple[float, float]:
    """Return the optimum over fractions of units, money, and the price of the capacity."""
    offer, units, gain = priced_segments(problem)
    use, limit = single_capacity(problem)
    spend = units * use[offer]
    if not np.isfinite(limit) or spend.sum() <= limit:
        return problem.base_value + float(units @ gain), 0.0
    free = spend == 0.0
    value = float(units[free] @ gain[free])
    units, gain, spend, each = units[~free], gain[~free], spend[~free], use[offer[~free]]
    ratio = gain / each
    order = np.argsort(-ratio, kind="stable")
    total = np.cumsum(spend[order])
    whole = int(np.searchsorted(total, limit, side="right"))
    taken = order[:whole]
    value += float(units[taken] @ gain[taken])
    if whole == len(order):
        return problem.base_value + value, 0.0
    left = limit - (total[whole - 1] if whole else 0.0)
    price = float(ratio[order[whole]])
    return problem.base_value + value + left * price, price


@njit(cache=True, nogil=True, error_model="numpy")
def _runs(
    segment_start: IntArray,
    segment_units: FloatArray,
    segment_value: FloatArray,
    offer_sku: IntArray,
    charge: FloatArray,
    use: FloatArray,
    first_lot_units: IntArray,
    pack_units: IntArray,
    most_units: IntArray,
) -> tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]:
    """Return offer, lot units, count, value and value per use (never rising within an offer) of all runs of equal lots that gain."""
    size, runs = 64, 0
    offer, lot, count = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int64)
    value, ratio = np.empty(size), np.empty(size)
    for o in range(len(offer_sku)):
        at, j, best = 0.0, segment_start[offer_sku[o]], np.inf
        before, lot_units, left = 0.0, first_lot_units[o], most_units[o]
        while left >= lot_units and lot_units > 0:
            while at >= before + segment_units[j]:
                before += segment_units[j]
                j += 1
            whole = min((before + segment_units[j] - at) // lot_units, float(left // lot_units))
            lots = int(whole) if lot_units == pack_units[o] else int(min(whole, 1.0))
            if lots >= 1:
                worth = lot_units * (segment_value[j] - charge[o])
            else:
                lots, worth, need, k, low = 1, -charge[o] * lot_units, float(lot_units), j, at - before
                while need > 0.0:
                    taken = min(need, segment_units[k] - low)
                    worth += taken * segment_value[k]
                    need, k, low = need - taken, k + 1, 0.0
            if worth <= 0.0:
                break
            if runs == size:
                size *= 2
                offer, lot, count = _longer(offer, size), _longer(lot, size), _longer(count, size)
                value, ratio = _longer_floats(value, size), _longer_floats(ratio, size)
            each = lot_units * use[o]
            best = min(best, worth / each if each > 0.0 else np.inf)
            offer[runs], lot[runs], count[runs], value[runs], ratio[runs] = o, lot_units, lots, worth, best
            runs += 1
            at += lots * lot_units
            left -= lots * lot_units
            lot_units = pack_units[o]
    return offer[:runs], lot[:runs], count[:runs], value[:runs], ratio[:runs]


@njit(cache=True, nogil=True, error_model="numpy")
def _longer(array: IntArray, size: int) -> IntArray:
    out = np.empty(size, np.int64)
    out[: len(array)] = array
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _longer_floats(array: FloatArray, size: int) -> FloatArray:
    out = np.empty(size)
    out[: len(array)] = array
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _search(
    offer: IntArray, cost: FloatArray, count: IntArray, value: FloatArray, ratio: FloatArray, limit: float, goal: float, most_steps: int
) -> tuple[IntArray, bool]:
    """Return the best counts found over runs sorted by falling ratio, and whether the search ended by itself.

    The first descent is the plan by ratio; the search goes on until a plan reaches `goal`.
    """
    n = len(offer)
    cheapest = np.full(n + 1, np.inf)
    for j in range(n - 1, -1, -1):
        cheapest[j] = min(cheapest[j + 1], cost[j])
    slack = LIMIT_TOLERANCE * limit if np.isfinite(limit) else 0.0
    taken, best = np.zeros(n, np.int64), np.zeros(n, np.int64)
    barred_by = np.full(offer.max() + 1 if n > 0 else 0, n, np.int64)
    left, worth, best_worth, j, steps = limit, 0.0, -np.inf, 0, 0
    while True:
        pruned = False
        while j < n and left + slack >= cheapest[j]:
            steps += 1
            if barred_by[offer[j]] < j:
                j += 1
                continue
            fits = np.int64(count[j])
            if cost[j] > 0.0:
                fits = np.int64(min(float(count[j]), np.floor((left + slack) / cost[j])))
            taken[j] = fits
            left -= fits * cost[j]
            worth += fits * value[j]
            if fits < count[j]:
                barred_by[offer[j]] = j
                if worth + max(left, 0.0) * ratio[j] <= best_worth * (1.0 + IMPROVEMENT):
                    pruned = True
                    j += 1
                    break
            j += 1
        if not pruned and worth > best_worth:
            best_worth = worth
            best[:j] = taken[:j]
            best[j:] = 0
        if best_worth >= goal:
            return best, False
        while True:
            j -= 1
            if j < 0:
                return best, True
            steps += 1
            o = offer[j]
            if barred_by[o] < j:
                continue
            if steps > most_steps:
                return best, False
            barred_by[o] = n
            if taken[j] == 0:
                continue
            bound = worth - value[j] + max(left + cost[j], 0.0) * (ratio[j + 1] if j + 1 < n else 0.0)
            if bound > best_worth * (1.0 + IMPROVEMENT):
                taken[j] -= 1
                left += cost[j]
                worth -= value[j]
                barred_by[o] = j
                j += 1
                break
            left += taken[j] * cost[j]
            worth -= taken[j] * value[j]
            taken[j] = 0


def solve(problem: ProcurementProblem) -> SeparableSolution:
    """Solve a separable problem.

    Raises
    ------
    AllocationError
        Where the problem is not separable.
    """
    refuse_linked(problem)
    bound, price = continuous_optimum(problem)
    use, limit = single_capacity(problem)
    offer, lot, count, value, ratio = _runs(
        problem.segment_start, problem.segment_units, problem.segment_value, problem.offer_sku, problem.charge, use,
        problem.first_lot_units, problem.pack_units, problem.most_units,
    )  # fmt: skip
    order = np.argsort(-ratio, kind="stable")
    cost = lot * use[offer]
    goal = bound - problem.base_value - SEARCH_GAP * abs(bound)
    taken, ended = _search(offer[order], cost[order], count[order], value[order], ratio[order], limit, goal, SEARCH_STEPS)
    units = np.bincount(offer[order], weights=taken * lot[order], minlength=len(problem)).astype(np.int64)
    return SeparableSolution(units, bound, price, bool(ended))
