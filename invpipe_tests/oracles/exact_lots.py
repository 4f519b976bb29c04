"""The exact method before rows were skipped by a bound and fitting lots by a list: prices every row, rescans all lots. Slow twin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from invpipe.allocation.problem import CAPITAL_TOLERANCE, AllocationProblem, FloatArray, IntArray
from invpipe.errors import AllocationError
from invpipe.forecast.law import POISSON_SIZE

#: Above this many lots worth buying the catalogue should be ordered in packs.
MAX_LOTS = 20_000_000
#: Past the mode, a probability below this is the end of the law.
TAIL_PMF = 1e-22
#: Below this log P(D = 0) the recursion starts near the mode instead of at 0, where it would underflow.
LOG_P0_FLOOR = -500.0


@njit(cache=True, nogil=True, error_model="numpy")
def _recursion(mean: float, size: float) -> tuple[float, float]:
    """Return alpha and beta of p_{n+1} = p_n (alpha + beta n) / (n + 1)."""
    if size >= POISSON_SIZE:
        return mean, 0.0
    beta = mean / (mean + size)
    return size * beta, beta


@njit(cache=True, nogil=True, error_model="numpy")
def _start(mean: float, size: float) -> tuple[int, float]:
    """Return (n, P(D = n)) such that P(D < n) is 0 in double precision and P(D = n) is not."""
    log_p0 = -mean if size >= POISSON_SIZE else -size * np.log1p(mean / size)
    if log_p0 > LOG_P0_FLOOR:
        return 0, np.exp(log_p0)
    # weights relative to that of the mode, downwards to the first n that counts, then upwards for the normalisation
    alpha, beta = _recursion(mean, size)
    mode = max(int((alpha - 1.0) / (1.0 - beta)), 0)
    n, weight, total = mode, 1.0, 1.0
    while n > 0 and weight > TAIL_PMF:
        weight *= n / (alpha + beta * (n - 1))
        n -= 1
        total += weight
    first, first_weight = n, weight
    n, weight = mode, 1.0
    while weight > TAIL_PMF:
        weight *= (alpha + beta * n) / (n + 1)
        n += 1
        total += weight
    return first, first_weight / total


@njit(cache=True, nogil=True, error_model="numpy")
def _seek(units: int, mean: float, alpha: float, beta: float, n: int, pmf: float) -> tuple[int, float, float]:
    """Move from the start (n, pmf) of a law to `units`: return (n, P(D = n), P(D >= n)) at n = max(units, start)."""
    tail = 1.0
    while n < units:
        tail -= pmf
        pmf *= (alpha + beta * n) / (n + 1)
        n += 1
        if pmf < TAIL_PMF and n > mean:
            return units, 0.0, 0.0
    return n, pmf, max(tail, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def span_values(
    mean: FloatArray, size: FloatArray, slope: FloatArray, loss: FloatArray, first_units: IntArray, last_units: IntArray
) -> FloatArray:
    """Return the sum of a S(n) - b over n = first_units + 1 .. last_units of inventory position, money, shape (n,)."""
    out = np.zeros(len(mean))
    for i in range(len(mean)):
        if last_units[i] <= first_units[i]:
            continue
        sold = 0.0
        if mean[i] > 0:
            alpha, beta = _recursion(mean[i], size[i])
            start, pmf = _start(mean[i], size[i])
            n, pmf, tail = _seek(first_units[i] + 1, mean[i], alpha, beta, start, pmf)
            sold = float(min(n, last_units[i] + 1) - first_units[i] - 1)  # units below the start of the law sell for certain
            while n <= last_units[i] and tail > 0:
                sold += tail
                tail -= pmf
                pmf *= (alpha + beta * n) / (n + 1)
                n += 1
                if pmf < TAIL_PMF and n > mean[i]:
                    break
        out[i] = slope[i] * sold - loss[i] * (last_units[i] - first_units[i])
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _grown(array: FloatArray) -> FloatArray:
    bigger = np.empty(2 * len(array))
    bigger[: len(array)] = array
    return bigger


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
def _take_prefix(
    ratio: FloatArray, cost: FloatArray, row: IntArray, candidates: IntArray, left: float, slack: float, taken: IntArray
) -> tuple[float, int]:
    """Take candidate lots by falling ratio up to the first that does not fit.

    Ties are taken in the order of `candidates`. `taken` (lots per row) is counted up in place.

    Returns
    -------
    tuple
        (capital left, the lot that did not fit or -1)
    """
    here, scratch = candidates, np.empty(len(candidates), np.int64)
    while len(here) > 0:
        x, y, z = ratio[here[0]], ratio[here[len(here) // 2]], ratio[here[-1]]
        pivot = max(min(x, y), min(max(x, y), z))
        above, below, spend = 0, len(here), 0.0
        for lot in here:  # above the pivot to the left in order, below it to the right in reverse order
            if ratio[lot] > pivot:
                scratch[above] = lot
                above += 1
                spend += cost[lot]
            elif ratio[lot] < pivot:
                below -= 1
                scratch[below] = lot
        if spend > left + slack:
            here, scratch = scratch[:above], np.empty(above, np.int64)
            continue
        for lot in scratch[:above]:
            taken[row[lot]] += 1
        left -= spend
        for lot in here:
            if ratio[lot] == pivot:
                if cost[lot] > left + slack:
                    return left, lot
                taken[row[lot]] += 1
                left -= cost[lot]
        rest = scratch[below : len(here)][::-1].copy()
        here, scratch = rest, np.empty(len(rest), np.int64)
    return left, -1


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


@dataclass(frozen=True)
class Lots:
    """The lots worth buying of every row, in the order in which a row may take them.

    Parameters
    ----------
    problem
        Their problem; its capital is not used.
    start
        First lot of each row and the total number of lots, shape (n + 1,).
    value
        Value of each lot, money.
    ratio
        Value per unit of capital of each lot, never rising within a row.
    """

    problem: AllocationProblem
    start: IntArray
    value: FloatArray
    ratio: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem) -> Lots:
        """Price the lots of all rows.

        Raises
        ------
        AllocationError
            Where more than `MAX_LOTS` lots are worth buying.
        """
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
        if start[-1] < 0:
            sku = problem.skus[-1 - start[-1]]
            msg = f"more than {MAX_LOTS:,} lots are worth buying, exceeded at sku {sku!r}; order in larger packs"
            raise AllocationError(msg)
        return cls(problem, start, value, ratio)

    def buy(self, capital: float) -> ExactSolution:
        """Buy the best lots under the capital."""
        problem = self.problem
        slack = CAPITAL_TOLERANCE * capital if np.isfinite(capital) else 0.0
        taken, price, bound = _buy(
            self.start, self.value, self.ratio, problem.unit_cost, problem.first_lot_units, problem.pack_units, capital, slack
        )
        order_units = np.where(taken > 0, problem.first_lot_units + (taken - 1) * problem.pack_units, 0)
        return ExactSolution(order_units, float(price), float(bound))


@dataclass(frozen=True)
class ExactSolution:
    """Integer plan of the exact method.

    Parameters
    ----------
    order_units
        Units per row, whole lots, shape (n,).
    capital_price
        What one more unit of money would earn, 0 where the capital does not bind.
    bound
        Certified upper bound on the expected value of any plan, money.
    """

    order_units: IntArray
    capital_price: float
    bound: float


def expected_values(problem: AllocationProblem, order_units: IntArray) -> FloatArray:
    """Return the sum of v_n over the ordered units of each row under the full demand law, money, shape (n,)."""
    law, first = problem.demand, problem.inventory_position_units
    return np.asarray(span_values(law.mean, law.size, problem.value_slope, problem.value_loss, first, first + order_units))
