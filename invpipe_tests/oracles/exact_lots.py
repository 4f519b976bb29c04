"""The exact method before rows were skipped by a bound and fitting lots by a list: prices every row, rescans all lots. Slow twin.

What has not changed, the recursion of the law and the taking of a prefix, is the method's own, which test_exact holds against definitions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from invpipe.allocation import exact
from invpipe.allocation.exact import MAX_LOTS, TAIL_PMF, _grown, _recursion, _seek, _start, _take_prefix
from invpipe.allocation.problem import CAPITAL_TOLERANCE, AllocationProblem, FloatArray, IntArray


@njit(cache=True, nogil=True, error_model="numpy")
def _price_lots(
    mean: FloatArray,
    size: FloatArray,
    slope: FloatArray,
    loss: FloatArray,
    unit_cost: FloatArray,
    position_units: IntArray,
    first_lot_units: IntArray,
    pack_units: IntArray,
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the lots worth buying as CSR: start per row, value and value per capital of each lot (never rising within a row)."""
    n_rows = len(mean)
    start = np.zeros(n_rows + 1, np.int64)
    value: FloatArray = np.empty(max(2 * n_rows, 64))
    ratio: FloatArray = np.empty(len(value))
    lots = 0
    for i in range(n_rows):
        start[i + 1] = lots
        if mean[i] <= 0 or slope[i] <= loss[i]:  # the first unit, even if sold for certain, does not pay
            continue
        alpha, beta = _recursion(mean[i], size[i])
        n, pmf = _start(mean[i], size[i])
        sure = n  # P(D >= n) is 1 up to here
        n, pmf, tail = _seek(position_units[i] + 1, mean[i], alpha, beta, n, pmf)
        at = position_units[i] + 1
        lot_units = first_lot_units[i]
        best = np.inf
        while True:
            end = at + lot_units
            sold = 0.0
            if at < sure:
                sold = float(min(sure, end) - at)
            while n < end and tail > 0:
                sold += tail
                tail -= pmf
                pmf *= (alpha + beta * n) / (n + 1)
                n += 1
                if pmf < TAIL_PMF and n > mean[i]:
                    tail = 0.0
            worth = slope[i] * sold - loss[i] * lot_units
            if worth <= 0:
                break
            if lots == len(value):
                if lots >= MAX_LOTS:
                    start[n_rows] = -1 - i
                    return start, value, ratio
                value, ratio = _grown(value), _grown(ratio)
            best = min(best, worth / (lot_units * unit_cost[i]))
            value[lots] = worth
            ratio[lots] = best
            lots += 1
            at = end
            lot_units = pack_units[i]
        start[i + 1] = lots
    return start, value[:lots], ratio[:lots]


@njit(cache=True, nogil=True, error_model="numpy")
def _buy(
    start: IntArray,
    value: FloatArray,
    ratio: FloatArray,
    unit_cost: FloatArray,
    first_lot_units: IntArray,
    pack_units: IntArray,
    capital: float,
    slack: float,
) -> tuple[IntArray, float, float]:
    """Return (lots taken per row, price of capital, certified bound on the value of any plan)."""
    n_rows, n_lots = len(start) - 1, len(ratio)
    cost, row = np.empty(n_lots), np.empty(n_lots, np.int64)
    spend = 0.0
    for i in range(n_rows):
        for lot in range(start[i], start[i + 1]):
            row[lot] = i
            cost[lot] = unit_cost[i] * (first_lot_units[i] if lot == start[i] else pack_units[i])
            spend += cost[lot]
    if spend <= capital + slack:
        return start[1:] - start[:-1], 0.0, value.sum()
    taken = np.zeros(n_rows, np.int64)
    left, split = _take_prefix(ratio, cost, row, np.arange(n_lots), capital, slack, taken)
    price, bound = 0.0, 0.0
    if split >= 0:
        price = ratio[split]
        bound = max(left, 0.0) * price
    for i in range(n_rows):
        bound += value[start[i] : start[i] + taken[i]].sum()
    fitting = np.empty(n_lots, np.int64)
    while split >= 0:
        count = 0
        for i in range(n_rows):
            for lot in range(start[i] + taken[i], start[i + 1]):
                if cost[lot] > left + slack:  # never fits again, and bars the further lots of its SKU
                    break
                fitting[count] = lot
                count += 1
        left, split = _take_prefix(ratio, cost, row, fitting[:count], left, slack, taken)
    return taken, price, bound


class Lots(exact.Lots):
    """The lots of all rows, priced and bought without shortcuts."""

    @classmethod
    def of(cls, problem: AllocationProblem) -> Lots:
        """Price the lots of all rows; more than `MAX_LOTS` are refused by the method itself."""
        start, value, ratio = _price_lots(
            problem.demand.mean,
            problem.demand.size,
            problem.value_slope,
            problem.value_loss,
            problem.unit_cost,
            problem.inventory_position_units,
            problem.first_lot_units,
            problem.pack_units,
        )
        return cls(problem, start, value, ratio)

    def buy(self, capital: float) -> exact.ExactSolution:
        """Buy the best lots under the capital."""
        problem = self.problem
        slack = CAPITAL_TOLERANCE * capital if np.isfinite(capital) else 0.0
        taken, price, bound = _buy(
            self.start, self.value, self.ratio, problem.unit_cost, problem.first_lot_units, problem.pack_units, capital, slack
        )
        order_units = np.where(taken > 0, problem.first_lot_units + (taken - 1) * problem.pack_units, 0)
        return exact.ExactSolution(order_units, float(price), float(bound))
