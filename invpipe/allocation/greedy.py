r"""Greedy baseline: fill up to the mean demand, most profitable per unit of capital first.

Per SKU with mean demand :math:`m` and inventory position :math:`P` the target is :math:`\lfloor m + 1/2 \rfloor - P` units, rounded to
the nearest order of whole lots, halves up. The profit of the order as a point forecast sees it, with sales :math:`\min(x, (m - P)^+)`,
divided by its cost ranks the SKUs; orders that would lose money are left out, the others are filled from the top while they fit, in full
or not at all.

This is the baseline every other method is compared with, not a recommendation: it knows no uncertainty.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.allocation.problem import CAPITAL_TOLERANCE, AllocationProblem, FloatArray, IntArray


@njit(cache=True, nogil=True)
def _fill(order: IntArray, cost: FloatArray, capital: float, slack: float) -> npt.NDArray[np.bool_]:
    chosen = np.zeros(len(cost), np.bool_)
    left = capital
    for row in order:
        if cost[row] <= left + slack:
            chosen[row] = True
            left -= cost[row]
    return chosen


def target_units(problem: AllocationProblem) -> IntArray:
    """Return the order up to the mean demand in whole lots, nearest, halves up, shape (n,)."""
    wanted = np.maximum(np.floor(problem.demand.mean + 0.5).astype(np.int64) - problem.inventory_position_units, 0)
    down = problem.floor_to_lots(wanted)
    lot = problem.next_lot_units(down)
    return down + np.where(2 * (wanted - down) >= lot, lot, 0)


def fill_by_rank(problem: AllocationProblem) -> IntArray:
    """Return the units to order per row, shape (n,), never above the capital."""
    target = target_units(problem)
    gap = np.maximum(problem.demand.mean - problem.inventory_position_units, 0.0)
    sold = np.minimum(target, gap)
    cost = problem.unit_cost * target
    profit = problem.unit_price * sold + (problem.salvage_value - problem.holding_cost) * (target - sold) - cost
    rank = np.divide(profit, cost, out=np.full(len(problem), -np.inf), where=target > 0)
    order = np.argsort(-rank, kind="stable")
    chosen = _fill(order[rank[order] > 0], cost, problem.capital, CAPITAL_TOLERANCE * problem.capital)
    return np.where(chosen, target, 0)
