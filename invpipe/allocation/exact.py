r"""Exact allocation by marginal value: sort the lots of all SKUs by value per unit of capital and buy from the top.

The value of a lot is the sum of its units' :math:`v_n = a S(n) - b` (see :mod:`invpipe.allocation.problem`). As :math:`v_n` never
increases, neither does the value per capital of a SKU's successive lots, so the linear relaxation

.. math:: \max \sum_{i,j} w_{ij} z_{ij} \quad \text{s.t.} \quad \sum_{i,j} k_{ij} z_{ij} \le K, \quad 0 \le z_{ij} \le 1

over lot values :math:`w` and lot costs :math:`k` is solved by taking lots in the order of :math:`w/k` until the capital :math:`K` is
spent (Dantzig, 1957). That gives the certified upper bound (with the split lot in part), and the price of capital: the ratio of the split
lot, 0 if no lot is split. The plan takes whole lots in the same order and, past the split lot, those that still fit, never a lot before
its predecessor of the same SKU.

Nothing is sorted: the split lot is found by a weighted selection with stable three-way partition, ties in the order (row, lot), so the
cost is linear in the lots worth buying. Their number is bounded by the newsvendor limit of each SKU, at which the recursion of the law
:math:`p_{n+1} = p_n (\alpha + \beta n)/(n + 1)` (Panjer, 1981) stops.

Limits: demand of different SKUs is valued separately (no substitution); at most `MAX_LOTS` lots worth buying.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from invpipe.allocation.problem import CAPITAL_TOLERANCE, AllocationProblem, FloatArray, IntArray
from invpipe.allocation.procurement import ProcurementProblem
from invpipe.errors import AllocationError
from invpipe.forecast.law import POISSON_SIZE

#: Above this many lots worth buying the catalogue should be ordered in packs.
MAX_LOTS = 20_000_000
#: Past the mode, a probability below this is the end of the law.
TAIL_PMF = 1e-22
#: Below this log P(D = 0) the recursion starts near the mode instead of at 0, where it would underflow.
LOG_P0_FLOOR = -500.0
#: Terms of the moment bound on P(D >= n): enough for small positions, where most rows are.
MOMENT_TERMS = 8
#: A row is skipped by its bound only with these margins, far above the rounding of the recursion.
SKIP_MARGIN_FRAC, SKIP_MARGIN_PROBABILITY = 1e-9, 1e-12


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
def cannot_pay(mean: float, size: float, slope: float, loss: float, position_units: int) -> bool:
    """Return True only where no unit past the position is worth anything, without an exponential.

    P(D >= n) is at most E[binomial(D, k)] for every k <= n, which for this family is the product over j < k of m (1 + j / r) / (j + 1),
    and at most m / n (Markov). False says nothing.
    """
    n = position_units + 1
    bound, product = min(1.0, mean / n), 1.0
    for j in range(min(n, MOMENT_TERMS)):
        product *= mean * (1.0 + j / size) / (j + 1)
        bound = min(bound, product)
    return slope * (bound + SKIP_MARGIN_PROBABILITY) <= loss * (1.0 - SKIP_MARGIN_FRAC)


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
def price_lots(
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
        if cannot_pay(mean[i], size[i], slope[i], loss[i], position_units[i]):
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
def _still_fitting(start: IntArray, cost: FloatArray, row: IntArray, taken: IntArray, most: float, lots: IntArray) -> int:
    """Move the lots not taken that cost at most `most` to the front, in order, and return their number.

    A lot that costs more never fits again, as the capital left only falls, and bars the further lots of its SKU.
    """
    count, barred = 0, -1
    for lot in lots:
        i = row[lot]
        if i == barred or lot < start[i] + taken[i]:
            continue
        if cost[lot] > most:
            barred = i
            continue
        lots[count] = lot
        count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def buy_lots(
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
    fitting, count = np.arange(n_lots), n_lots
    while split >= 0:
        count = _still_fitting(start, cost, row, taken, left + slack, fitting[:count])
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
        start, value, ratio = price_lots(
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
        taken, price, bound = buy_lots(
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


@njit(cache=True, nogil=True, error_model="numpy")
def _unit_worth(
    mean: FloatArray,
    size: FloatArray,
    slope: FloatArray,
    loss: FloatArray,
    left_over: FloatArray,
    position_units: IntArray,
    first_lot_units: IntArray,
    pack_units: IntArray,
) -> tuple[IntArray, FloatArray]:
    """Return as CSR the worth before cost of each row's further units, up to the lot that holds the last unit worth its cost."""
    n_rows = len(mean)
    start = np.zeros(n_rows + 1, np.int64)
    worth: FloatArray = np.empty(max(2 * n_rows, 64))
    units = 0
    for i in range(n_rows):
        start[i + 1] = units
        if mean[i] <= 0 or slope[i] <= loss[i]:
            continue
        if cannot_pay(mean[i], size[i], slope[i], loss[i], position_units[i]):
            continue
        alpha, beta = _recursion(mean[i], size[i])
        n, pmf = _start(mean[i], size[i])
        n, pmf, tail = _seek(position_units[i] + 1, mean[i], alpha, beta, n, pmf)
        last, at, count, pays = 0, position_units[i] + 1, 0, True
        while True:
            sells = 1.0 if at < n else tail
            pays = pays and slope[i] * sells > loss[i]
            if pays:
                last = first_lot_units[i] + -(-max(count + 1 - first_lot_units[i], 0) // pack_units[i]) * pack_units[i]
            elif count >= last:
                break
            if units == len(worth):
                worth = _grown(worth)
            worth[units] = slope[i] * sells + left_over[i]
            units, count = units + 1, count + 1
            if at >= n and tail > 0:
                tail = max(tail - pmf, 0.0)
                pmf *= (alpha + beta * n) / (n + 1)
                n += 1
                if pmf < TAIL_PMF and n > mean[i]:
                    tail = 0.0
            at += 1
        start[i + 1] = units
    return start, worth[:units]


def procurement_of(problem: AllocationProblem) -> ProcurementProblem:
    """Return the same problem with the worth of each unit written out, one offer per row: same plans, same values."""
    left_over = problem.salvage_value - problem.holding_cost
    law, first, pack = problem.demand, problem.first_lot_units, problem.pack_units
    start, worth = _unit_worth(
        law.mean, law.size, problem.value_slope, problem.value_loss, left_over, problem.inventory_position_units, first, pack
    )
    n, rows = len(problem), np.arange(len(problem))
    vendors = tuple(sorted(set(problem.vendors)))
    least = np.zeros(len(vendors))
    least[problem.vendor_codes] = problem.vendor_min_order_value
    return ProcurementProblem(
        skus=problem.skus,
        vendors=vendors,
        segment_start=start + np.arange(n + 1),  # the last segment of each row is the unit nobody wants
        segment_units=np.insert(np.ones(len(worth)), start[1:], np.inf),
        segment_value=np.insert(worth, start[1:], left_over),
        offer_sku=rows,
        offer_vendor=problem.vendor_codes,
        unit_cost=problem.unit_cost,
        capacity_names=("capital",),
        capacity_use=problem.unit_cost[None, :],
        capacity_limit=np.array([problem.capital]),
        min_order_units=problem.min_order_units,
        pack_units=pack,
        vendor_min_order_value=least,
    )
