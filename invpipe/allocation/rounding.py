"""Whole plans of a :class:`~invpipe.allocation.procurement.ProcurementProblem` without a search: rounding, filling up, and a baseline.

:func:`rounded_plan` rounds an order down to lots, gives up vendors that refuse it, and spends what is left. :func:`greedy_plan` is the
baseline every other method is compared with, not a recommendation: each SKU's cheapest offer, ordered as if there were no limits, most
profitable per share of the capacities first, in full or not at all.
"""

from __future__ import annotations

import numpy as np

from invpipe.allocation.decomposition import SkuItems
from invpipe.allocation.procurement import LIMIT_TOLERANCE, BoolArray, FloatArray, IntArray, ProcurementProblem


def without_refused(problem: ProcurementProblem, order_units: IntArray) -> IntArray:
    """Return the order without vendors that are below their minimum or do not earn their fixed cost, the worst first, shape (m,)."""
    units = order_units.copy()
    while True:
        values, least = problem.vendor_values(units), problem.vendor_min_order_value
        used = problem.vendor_used(units)
        short = used & (values < least * (1.0 - LIMIT_TOLERANCE))
        if short.any():
            drop = int(np.where(short, values / np.where(short, least, 1.0), np.inf).argmin())
        else:
            charged = np.flatnonzero(used & (problem.vendor_fixed_cost > 0))
            gains = [problem.objective(np.where(problem.offer_vendor == v, 0, units)) for v in charged]
            if not gains or max(gains) <= problem.objective(units):
                return units
            drop = int(charged[int(np.argmax(gains))])
        units[problem.offer_vendor == drop] = 0


def _filled(problem: ProcurementProblem, order_units: IntArray, is_open: BoolArray, prices: FloatArray) -> IntArray:
    """Return the order with further lots of the open offers, most value per priced use first, while they fit."""
    finite = np.isfinite(problem.capacity_limit)
    use, limit = problem.capacity_use[finite], problem.capacity_limit[finite]
    barred = (use[limit == 0] > 0).any(axis=0)
    skus = SkuItems(problem, np.where(is_open & ~barred, problem.most_units, 0), use)
    most = np.where(order_units > 0, np.maximum(skus.most_units, order_units), skus.most_units)
    skus = SkuItems(problem, most, use)
    choice = skus.improved(skus.choice(order_units), limit - use @ order_units, prices[finite])
    return skus.units(choice.option)


def rounded_plan(problem: ProcurementProblem, order_units: FloatArray, prices: FloatArray) -> IntArray:
    """Return whole lots from fractions of units: rounded down, without vendors that refuse, filled up at the capacities' prices.

    Parameters
    ----------
    problem
        What may be ordered.
    order_units
        Units per offer within the capacities, but for a solver's tolerance, shape (m,).
    prices
        Price of each capacity, shape (k,).
    """
    first, pack = problem.first_lot_units, problem.pack_units
    whole = np.minimum(np.floor(order_units + 1e-9).astype(np.int64), problem.most_units)
    units = np.where(whole >= first, first + (whole - first) // pack * pack, 0)
    limit = problem.capacity_limit
    while (over := problem.usage(units) > limit + LIMIT_TOLERANCE * np.where(np.isfinite(limit), limit, 0.0)).any():
        k = int(over.argmax())  # by a solver's tolerance: give back the smallest order that uses it
        row = int(np.where((units > 0) & (problem.capacity_use[k] > 0), problem.capacity_use[k] * units, np.inf).argmin())
        units[row] -= pack[row] if units[row] > first[row] else units[row]
    units = without_refused(problem, units)
    return _filled(problem, units, (problem.vendor_used(units) | ~problem.has_vendor_terms)[problem.offer_vendor], prices)


def greedy_plan(problem: ProcurementProblem) -> IntArray:
    """Return the units of the baseline per offer, shape (m,)."""
    limit = problem.capacity_limit
    finite = np.isfinite(limit)
    cheapest = np.lexsort((problem.charge, problem.offer_sku))
    first_of_sku = problem.offer_start[:-1][np.diff(problem.offer_start) > 0]
    is_cheapest = np.zeros(len(problem), dtype=bool)
    is_cheapest[cheapest[first_of_sku]] = True
    alone = SkuItems(problem, np.where(is_cheapest, problem.most_units, 0), problem.capacity_use)
    target = alone.orders(problem.charge)
    gain = alone.choice(target).value[problem.offer_sku]
    share = (problem.capacity_use[finite] / np.maximum(limit[finite], 1e-300)[:, None]).sum(axis=0) * target
    rank = np.where(target > 0, gain / np.maximum(share, 1e-300), -np.inf)
    order = np.argsort(-rank, kind="stable")
    order = order[rank[order] > 0]
    is_open = np.ones(len(problem.vendors), dtype=bool)
    use = problem.capacity_use[finite].T
    while True:
        units, left = np.zeros(len(problem), dtype=np.int64), limit[finite].copy()
        for o in order:
            wanted = use[o] * target[o]
            if is_open[problem.offer_vendor[o]] and (wanted <= left).all():
                units[o] = target[o]
                left -= wanted
        kept = without_refused(problem, units)
        refused = problem.vendor_used(units) & ~problem.vendor_used(kept)
        if not refused.any():
            return units
        is_open &= ~refused
