r"""Lagrangian method: the capacities are priced, each SKU orders by itself, and sets of vendors are enumerated.

Under prices :math:`\mu \ge 0` of the capacities and :math:`\nu \ge 0` of the vendors' minimums a unit of offer o costs

.. math:: r_o = c_o + \sum_k \mu_k a_{ko} - \nu_{v(o)} p_o ,

and with the vendors in Y open the SKUs come apart: :math:`\phi_i(Y) = \max_x V_i(\sum_o x_o) - \sum_o r_o x_o` over whole lots of open
offers, an exact dynamic programme over units. So

.. math:: L(\mu, \nu) = w_0 + \mu^\top b + \max_Y \Big[ \sum_i \phi_i(Y) - \sum_{v \in Y} (F_v + \nu_v m_v) \Big]

is an upper bound on every plan. :math:`\phi_i` depends on the few vendors of SKU i only; the sums over all Y come from its Moebius
transform by one zeta transform over the sets of vendors (Yates, 1937), so all :math:`2^T` sets cost no more than :math:`T 2^T` additions.
The prices are those of :mod:`invpipe.lagrangian`.

Order of events: without vendor terms the items of the core are the SKUs, and its plan is the plan. With them the core first prices the
whole problem as one item; then sets of vendors are solved by themselves, most promising first, with the SKUs as items and the minimums as
rows: each gives a plan and a bound of its own, and the bound of the problem is the highest over sets solved and not solved.

Limits: beyond `MAX_TERM_VENDORS` vendors with terms those with the smallest are bounded without them, so the gap is wider.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numba import njit

from invpipe.allocation.procurement import LIMIT_TOLERANCE, BoolArray, FloatArray, IntArray, ProcurementProblem, span_worth, worth_of
from invpipe.errors import AllocationError
from invpipe.lagrangian import Choice, Items, LagrangianParams, solve

#: Sets of at most this many vendors are enumerated: 8 bytes x 2^20 per price vector.
MAX_TERM_VENDORS = 20
#: Highest price of a vendor's minimum, per unit of money: at 1 its goods are free.
MOST_MINIMUM_PRICE = 1.0
#: Item solutions of the core: whole problem, one set of vendors.
DUAL_ITERATIONS, SET_ITERATIONS = 300, 40
#: Nodes of the branch and bound over the orders seen.
PLAN_NODES = 2_000
#: The dual of the whole problem may use this share of the time.
DUAL_TIME_FRAC = 0.5
#: The search over sets of vendors ends after so many without a better plan.
IDLE_SETS = 32
#: The dual of the whole problem, or of a set, is not solved closer than this, relative: far above the rounding of its sums.
LEAST_DUAL_GAP = 1e-7
#: Nothing is ordered for a gain below this share of the worth, or below this share of a plan's value: rounding noise of their sums.
TIE, PLAN_TIE = 1e-12, 1e-9
#: Options of an item are numbered below this.
MAX_OPTIONS = 2**62
#: Passes over all offers that spend what is left.
FILL_PASSES = 20


@njit(cache=True, nogil=True, error_model="numpy")
def _units_above(segment_units: FloatArray, segment_value: FloatArray, price: float, most: int) -> int:
    """Return how many units are worth more than the price, rounded up, at most `most`."""
    units = 0.0
    for j in range(len(segment_value)):
        if segment_value[j] <= price or units >= most:
            break
        units += segment_units[j]
    return int(np.ceil(min(units, float(most))))


@njit(cache=True, nogil=True, error_model="numpy")
def _reach(
    segment_units: FloatArray,
    segment_value: FloatArray,
    price: FloatArray,
    first_lot: IntArray,
    pack: IntArray,
    most: IntArray,
    worth: FloatArray,
) -> int:
    """Return the most units that can pay at the prices, 0 where none do; fills `worth` of 0 .. that many units.

    An offer is not used where one of its lots could be given back without loss, so a total ends where its last lot begins to be worth
    less than its price. And where no offer's first lot pays by itself nothing does: worth is concave.
    """
    total, end, pays = 0, 0, False
    for o in range(len(price)):
        if segment_value[0] > price[o]:
            total += most[o]
    for o in range(len(price)):
        if most[o] > 0 and segment_value[0] > price[o]:
            end = max(end, _units_above(segment_units, segment_value, price[o], total) + max(first_lot[o], pack[o]))
    end, j, room = min(end, total), 0, segment_units[0]
    worth[0] = 0.0
    for x in range(1, end + 1):
        need, worth[x] = 1.0, worth[x - 1]
        while need > 0.0:
            taken = min(need, room)
            worth[x] += taken * segment_value[j]
            need -= taken
            room -= taken
            if room <= 0.0:
                j += 1
                room = segment_units[j]
    for o in range(len(price)):
        if 0 < first_lot[o] <= min(most[o], end) and worth[first_lot[o]] > price[o] * first_lot[o]:
            pays = True
    return end if pays else 0


@njit(cache=True, nogil=True, error_model="numpy")
def _sku_best(
    segment_units: FloatArray,
    segment_value: FloatArray,
    price: FloatArray,
    first_lot: IntArray,
    pack: IntArray,
    most: IntArray,
    sku_max: float,
    worth: FloatArray,
    score: FloatArray,
    pick: IntArray,
    units: IntArray,
) -> float:
    """Fill the best order of each of a SKU's offers into `units` and return what it earns at the prices; `most` 0 closes an offer."""
    units[:] = 0
    end = int(min(float(_reach(segment_units, segment_value, price, first_lot, pack, most, worth)), sku_max))
    if end <= 0:
        return 0.0
    layer = 0
    score[0, 0] = 0.0
    score[0, 1 : end + 1] = -np.inf
    for o in range(len(price)):
        score[layer + 1, : end + 1] = score[layer, : end + 1]
        pick[layer, : end + 1] = 0
        if segment_value[0] > price[o]:
            for y in range(first_lot[o], min(end, most[o]) + 1, pack[o]):
                spent = price[o] * y
                for x in range(y, end + 1 if layer > 0 else y + 1):
                    got = score[layer, x - y] - spent
                    if got > score[layer + 1, x]:
                        score[layer + 1, x], pick[layer, x] = got, y
        layer += 1
    best, at = TIE * worth[end], 0
    for x in range(end + 1):
        if worth[x] + score[layer, x] > best:
            best, at = worth[x] + score[layer, x], x
    for o in range(len(price) - 1, -1, -1):
        units[o] = pick[o, at]
        at -= units[o]
    return best if units.sum() > 0 else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _best_orders(
    offer_start: IntArray,
    segment_start: IntArray,
    segment_units: FloatArray,
    segment_value: FloatArray,
    price: FloatArray,
    first_lot: IntArray,
    pack: IntArray,
    most: IntArray,
    sku_max: FloatArray,
) -> IntArray:
    """Return the best order of each offer at the prices, shape (m,)."""
    units = np.zeros(len(price), np.int64)
    worth, score, pick = _scratch(offer_start, most)
    for i in range(len(offer_start) - 1):
        a, b, s, t = offer_start[i], offer_start[i + 1], segment_start[i], segment_start[i + 1]
        if a < b:
            _sku_best(
                segment_units[s:t], segment_value[s:t], price[a:b], first_lot[a:b], pack[a:b], most[a:b], sku_max[i], worth, score, pick,
                units[a:b],
            )  # fmt: skip
    return units


@njit(cache=True, nogil=True, error_model="numpy")
def _scratch(offer_start: IntArray, most: IntArray) -> tuple[FloatArray, FloatArray, IntArray]:
    longest, offers = 0, 0
    for i in range(len(offer_start) - 1):
        longest = max(longest, most[offer_start[i] : offer_start[i + 1]].sum())
        offers = max(offers, offer_start[i + 1] - offer_start[i])
    return np.zeros(longest + 1), np.zeros((offers + 1, longest + 1)), np.zeros((offers + 1, longest + 1), np.int64)


@njit(cache=True, nogil=True, error_model="numpy")
def _set_values(
    offer_start: IntArray,
    segment_start: IntArray,
    segment_units: FloatArray,
    segment_value: FloatArray,
    price: FloatArray,
    first_lot: IntArray,
    pack: IntArray,
    most: IntArray,
    sku_max: FloatArray,
    term: IntArray,
    n_terms: int,
    total: FloatArray,
) -> None:
    """Fill into `total`, shape (2^n_terms,), what all SKUs earn at the prices with each set of vendors open; `term` -1 is always open."""
    total[:] = 0.0
    worth, score, pick = _scratch(offer_start, most)
    open_most, units = most.copy(), np.zeros(len(price), np.int64)
    local, value = np.zeros(n_terms, np.int64), np.zeros(1)
    for i in range(len(offer_start) - 1):
        a, b, s, t = offer_start[i], offer_start[i + 1], segment_start[i], segment_start[i + 1]
        count = 0
        for o in range(a, b):
            known = term[o] < 0 or most[o] == 0
            for q in range(count):
                known |= local[q] == term[o]
            if not known:
                local[count] = term[o]
                count += 1
        if len(value) < 1 << count:
            value = np.zeros(1 << count)
        for subset in range(1 << count):
            for o in range(a, b):
                is_open = term[o] < 0
                for q in range(count):
                    is_open |= local[q] == term[o] and (subset >> q) & 1 == 1
                open_most[o] = most[o] if is_open else 0
            value[subset] = 0.0
            if a < b:
                value[subset] = _sku_best(
                    segment_units[s:t], segment_value[s:t], price[a:b], first_lot[a:b], pack[a:b], open_most[a:b], sku_max[i], worth, score,
                    pick, units[a:b],
                )  # fmt: skip
        for q in range(count):  # Moebius transform
            for subset in range(1 << count):
                if (subset >> q) & 1:
                    value[subset] -= value[subset ^ (1 << q)]
        for subset in range(1 << count):
            mask = 0
            for q in range(count):
                if (subset >> q) & 1:
                    mask |= 1 << local[q]
            total[mask] += value[subset]
    for q in range(n_terms):  # zeta transform
        bit = 1 << q
        for block in range(0, len(total), 2 * bit):
            for mask in range(block, block + bit):
                total[mask + bit] += total[mask]


@njit(cache=True, nogil=True, error_model="numpy")
def _fill(
    sku: IntArray,
    next_units: IntArray,
    ratio: FloatArray,
    order: IntArray,
    use: FloatArray,
    left: FloatArray,
    sku_left: FloatArray,
    touched: BoolArray,
    units: IntArray,
) -> bool:
    """Add one lot to each SKU, in order, where it fits; units, left, sku_left and touched in place. Return whether any was added."""
    added = False
    for o in order:
        i, lot = sku[o], next_units[o]
        if not ratio[o] > 0.0 or touched[i] or lot > sku_left[i]:
            continue
        fits = True
        for k in range(len(left)):
            if use[k, o] > 0.0 and lot * use[k, o] > left[k]:
                fits = False
                break
        if not fits:
            continue
        for k in range(len(left)):
            left[k] -= lot * use[k, o]
        units[o] += lot
        sku_left[i] -= lot
        touched[i] = True
        added = True
    return added


class SkuItems(Items):
    """SKUs as items of the Lagrangian core: an option is an order of each of the SKU's offers, numbered in mixed radix of lots.

    Parameters
    ----------
    problem
        What may be ordered; vendor terms are not looked at.
    most_units
        Largest order of each offer, shape (m,); 0 closes it.
    use
        Use of each linking row by a unit of each offer, shape (rows, m); negative for a lower limit.

    Raises
    ------
    AllocationError
        Where a SKU has more than `MAX_OPTIONS` options.
    """

    def __init__(self, problem: ProcurementProblem, most_units: IntArray, use: FloatArray) -> None:
        self.problem, self.most_units, self.use = problem, most_units, use
        lots = np.where(most_units > 0, (most_units - problem.first_lot_units) // problem.pack_units + 2, 1)
        self._stride = _strides(problem.offer_start, lots)
        self._lots = lots
        if (self._stride < 0).any():
            i = int(problem.offer_sku[int((self._stride < 0).argmax())])
            msg = f"sku {problem.skus[i]!r} has more than {MAX_OPTIONS} combinations of orders; order in larger packs"
            raise AllocationError(msg)

    @property
    def n_items(self) -> int:
        """Number of SKUs."""
        return len(self.problem.skus)

    @property
    def n_rows(self) -> int:
        """Number of linking rows."""
        return len(self.use)

    def units(self, option: IntArray) -> IntArray:
        """Return the units of each offer of one option per SKU, shape (m,)."""
        problem = self.problem
        lots = option[problem.offer_sku] // self._stride % self._lots
        return np.asarray(np.where(lots > 0, problem.first_lot_units + (lots - 1) * problem.pack_units, 0))

    def options(self, order_units: IntArray) -> IntArray:
        """Return the option of each SKU that orders these units, shape (n,)."""
        problem = self.problem
        lots = np.where(order_units > 0, (order_units - problem.first_lot_units) // problem.pack_units + 1, 0)
        out = np.zeros(self.n_items, dtype=np.int64)
        np.add.at(out, problem.offer_sku, lots * self._stride)
        return out

    def choice(self, order_units: IntArray) -> Choice:
        """Return the order as a choice of the core."""
        problem = self.problem
        worth = worth_of(problem.segment_start, problem.segment_units, problem.segment_value, problem.sku_units(order_units))
        spent = np.bincount(problem.offer_sku, weights=problem.charge * order_units, minlength=self.n_items)
        use = np.zeros((self.n_items, self.n_rows))
        for k, row in enumerate(self.use):
            use[:, k] = np.bincount(problem.offer_sku, weights=row * order_units, minlength=self.n_items)
        return Choice(self.options(order_units), worth - spent, use)

    def orders(self, price: FloatArray) -> IntArray:
        """Return the best units of each offer at these prices per unit, shape (m,)."""
        problem = self.problem
        return np.asarray(
            _best_orders(
                problem.offer_start, problem.segment_start, problem.segment_units, problem.segment_value, price, problem.first_lot_units,
                problem.pack_units, self.most_units, problem.sku_max_units,
            )
        )  # fmt: skip

    def best(self, multipliers: FloatArray) -> Choice:
        """Return the best option of every SKU."""
        return self.choice(self.orders(self.problem.charge + multipliers @ self.use))

    def evaluate(self, option: IntArray) -> Choice:
        """Return value and use of given options."""
        return self.choice(self.units(option))

    def improved(self, choice: Choice, left: FloatArray, multipliers: FloatArray) -> Choice:
        """Return the choice with further lots, most value per priced use first, while they fit."""
        problem, units, left = self.problem, self.units(choice.option), np.maximum(left, 0.0)
        priced = np.maximum(multipliers, 0.0) @ np.maximum(self.use, 0.0)
        for _ in range(FILL_PASSES):
            lot = np.where(units == 0, problem.first_lot_units, problem.pack_units)
            lot = np.where(units + lot <= self.most_units, lot, 0)
            total = problem.sku_units(units)
            gain = _lot_gain(problem, total, lot) - problem.charge * lot
            ratio = np.where((lot > 0) & (gain > 0), gain / np.maximum(priced * lot, 1e-12), 0.0)
            order = np.flatnonzero(ratio > 0)
            order = order[np.argsort(-ratio[order], kind="stable")]
            sku_left, touched = problem.sku_max_units - total, np.zeros(self.n_items, dtype=bool)
            if not _fill(problem.offer_sku, lot, ratio, order, self.use, left, sku_left, touched, units):
                break
        return self.choice(units)


def _lot_gain(problem: ProcurementProblem, sku_units: FloatArray, lot: IntArray) -> FloatArray:
    """Return what a further lot of each offer adds to the worth of its SKU, money, shape (m,)."""
    return np.asarray(
        span_worth(
            problem.segment_start, problem.segment_units, problem.segment_value, problem.offer_sku, sku_units[problem.offer_sku], lot
        )
    )


@njit(cache=True, nogil=True)
def _strides(offer_start: IntArray, lots: IntArray) -> IntArray:
    """Return the stride of each offer in its SKU's option number, -1 where the number would not fit."""
    stride = np.ones(len(lots), np.int64)
    for i in range(len(offer_start) - 1):
        product = 1
        for o in range(offer_start[i], offer_start[i + 1]):
            if product < 0 or product > MAX_OPTIONS // lots[o]:
                product = -1
            stride[o] = product
            product *= lots[o]
    return stride


@dataclass(frozen=True)
class _Rows:
    """The linking rows: capacities with a limit above 0, and the minimums of the vendors `minimum`; orders that may be placed at all."""

    capacity: IntArray
    minimum: IntArray
    most_units: IntArray

    @classmethod
    def of(cls, problem: ProcurementProblem) -> _Rows:
        limit = problem.capacity_limit
        barred = (problem.capacity_use[limit == 0] > 0).any(axis=0)
        most = np.where(barred, 0, problem.most_units)
        return cls(np.flatnonzero(np.isfinite(limit) & (limit > 0)), np.flatnonzero(problem.vendor_min_order_value > 0), most)


class _Whole(Items):
    """The whole problem as one item; its options are the plans seen, of which value and use are kept: the first orders nothing."""

    def __init__(self, problem: ProcurementProblem, rows: _Rows) -> None:
        self.problem, self.rows = problem, rows
        self.skus = SkuItems(problem, rows.most_units, problem.capacity_use[rows.capacity])
        terms = np.flatnonzero(problem.has_vendor_terms)
        size = problem.vendor_fixed_cost[terms] + problem.vendor_min_order_value[terms]
        self.terms = np.sort(terms[np.argsort(-size, kind="stable")[:MAX_TERM_VENDORS]])
        place = np.full(len(problem.vendors), -1, dtype=np.int64)
        place[self.terms] = np.arange(len(self.terms))
        self.term_of_offer = place[problem.offer_vendor]
        self.minimum = rows.minimum[place[rows.minimum] >= 0]
        self.term_of_minimum = place[self.minimum]
        self.values = np.zeros(1 << len(self.terms))
        self.seen = [(0.0, np.zeros(self.n_rows))]

    @property
    def n_items(self) -> int:
        """One."""
        return 1

    @property
    def n_rows(self) -> int:
        """Number of capacities and minimums."""
        return len(self.rows.capacity) + len(self.minimum)

    def price(self, multipliers: FloatArray) -> FloatArray:
        """Return what a unit of each offer costs under the multipliers, money, shape (m,)."""
        problem, k = self.problem, len(self.rows.capacity)
        discount = np.zeros(len(problem.vendors))
        discount[self.minimum] = multipliers[k:]
        priced = multipliers[:k] @ problem.capacity_use[self.rows.capacity]
        return np.asarray(problem.charge + priced - discount[problem.offer_vendor] * problem.unit_cost)

    def set_values(self, multipliers: FloatArray) -> FloatArray:
        """Return what each set of vendors with terms earns under the multipliers, shape (2^terms,); the array is used again."""
        problem, price = self.problem, self.price(multipliers)
        _set_values(
            problem.offer_start, problem.segment_start, problem.segment_units, problem.segment_value, price, problem.first_lot_units,
            problem.pack_units, self.rows.most_units, problem.sku_max_units, self.term_of_offer, len(self.terms), self.values,
        )  # fmt: skip
        cost = problem.vendor_fixed_cost[self.terms].copy()
        cost[self.term_of_minimum] += multipliers[len(self.rows.capacity) :] * problem.vendor_min_order_value[self.minimum]
        for q in range(len(self.terms)):
            self.values.reshape(-1, 2, 1 << q)[:, 1] -= cost[q]
        return self.values

    def most_units_of(self, mask: int) -> IntArray:
        """Return the largest orders with only this set of vendors with terms open, shape (m,)."""
        is_open = (self.term_of_offer < 0) | ((mask >> np.maximum(self.term_of_offer, 0)) & 1 == 1)
        return np.where(is_open, self.rows.most_units, 0)

    def best(self, multipliers: FloatArray) -> Choice:
        """Return the best plan with the best set of vendors."""
        mask = int(self.set_values(multipliers).argmax())
        skus = SkuItems(self.problem, self.most_units_of(mask), self.skus.use)
        value, use = self._figures(skus.orders(self.price(multipliers)), mask)
        if value - use @ multipliers <= PLAN_TIE * (abs(value) + np.abs(use) @ multipliers):
            return self.evaluate(np.zeros(1, dtype=np.int64))
        self.seen.append((value, use))
        return self.evaluate(np.array([len(self.seen) - 1]))

    def evaluate(self, option: IntArray) -> Choice:
        """Return value and use of a plan seen."""
        value, use = self.seen[int(option[0])]
        return Choice(option, np.array([value]), use[None])

    def _figures(self, units: IntArray, mask: int) -> tuple[float, FloatArray]:
        """Return what a plan with a set of vendors earns, and its use of capacities and minimums."""
        problem = self.problem
        is_open = (mask >> np.arange(len(self.terms))) & 1
        value = float(self.skus.choice(units).value.sum() - problem.vendor_fixed_cost[self.terms] @ is_open)
        short = problem.vendor_min_order_value[self.minimum] * is_open[self.term_of_minimum] - problem.vendor_values(units)[self.minimum]
        return value, np.concatenate([problem.usage(units)[self.rows.capacity], short])


@dataclass(frozen=True)
class LagrangianSolution:
    """Plan and bound of the Lagrangian method.

    Parameters
    ----------
    order_units
        Units per offer, whole lots, shape (m,).
    bound
        Upper bound on every plan, money.
    capacity_prices
        Price of each capacity, shape (k,).
    """

    order_units: IntArray
    bound: float
    capacity_prices: FloatArray


def solve_lagrangian(problem: ProcurementProblem, gap_frac: float, time_limit_seconds: float) -> LagrangianSolution:
    """Solve a problem of any size to a certified gap.

    Parameters
    ----------
    problem
        What may be ordered.
    gap_frac
        Relative gap at which to stop, >= 0.
    time_limit_seconds
        Wall clock, > 0; no further step is started after it.
    """
    rows = _Rows.of(problem)
    if problem.has_vendor_terms.any():
        return _Sets(problem, rows, gap_frac, time_limit_seconds).solve()
    skus = SkuItems(problem, rows.most_units, problem.capacity_use[rows.capacity])
    prices = np.zeros(len(problem.capacity_names))
    if not len(rows.capacity):
        units = skus.orders(problem.charge)
        return LagrangianSolution(units, problem.objective(units), prices)
    params = LagrangianParams(time_limit_seconds=time_limit_seconds, gap=gap_frac, plan_nodes=PLAN_NODES)
    nothing = np.zeros(skus.n_items, dtype=np.int64)
    result = solve(skus, problem.capacity_limit[rows.capacity], start=nothing, params=params)
    prices[rows.capacity] = result.multipliers
    return LagrangianSolution(skus.units(result.choice.option), problem.base_value + result.bound, prices)


class _Sets:
    """The search over sets of vendors: the whole problem's prices first, then one set after the other."""

    def __init__(self, problem: ProcurementProblem, rows: _Rows, gap_frac: float, time_limit_seconds: float) -> None:
        self.problem, self.rows, self.gap_frac = problem, rows, gap_frac
        self.until = perf_counter() + time_limit_seconds
        self.seconds = time_limit_seconds
        self.whole = _Whole(problem, rows)
        self.limit = problem.capacity_limit[rows.capacity]
        self.units = np.zeros(len(problem), dtype=np.int64)
        self.value = problem.objective(self.units)

    def solve(self) -> LagrangianSolution:
        """Return the best plan and the highest bound over all sets."""
        multipliers, bound = self._dual()
        k = len(self.rows.capacity)
        values = self.whole.set_values(multipliers) + self.problem.base_value + multipliers[:k] @ self.limit
        order = np.argsort(-values, kind="stable")
        bounds: list[float] = []
        best_at = 0
        for place, mask in enumerate(order):
            rest = max(float(values[mask]), *bounds) if bounds else float(values[mask])
            bound = min(bound, max(rest, self.value))
            if self._closed(bound) or values[mask] <= self.value or place - best_at > IDLE_SETS or perf_counter() > self.until:
                break
            before = self.value
            bounds.append(min(float(values[mask]), self._solve_set(int(mask), multipliers)))
            if place + 1 == len(order):
                bound = min(bound, max(*bounds, self.value))
            if self.value > before:
                best_at = place
        prices = np.zeros(len(self.problem.capacity_names))
        prices[self.rows.capacity] = multipliers[:k]
        return LagrangianSolution(self.units, max(bound, self.value), prices)

    def _closed(self, bound: float) -> bool:
        return bound - self.value <= self.gap_frac * abs(bound)

    def _dual(self) -> tuple[FloatArray, float]:
        """Return the prices of the whole problem and its bound."""
        whole, problem, k = self.whole, self.problem, len(self.rows.capacity)
        if whole.n_rows == 0:
            none = np.zeros(0)
            return none, problem.base_value + float(whole.set_values(none).max())
        capacity = np.concatenate([self.limit, np.zeros(len(whole.minimum))])
        penalty = np.concatenate([np.full(k, np.inf), np.full(len(whole.minimum), MOST_MINIMUM_PRICE)])
        params = LagrangianParams(
            n_groups=1,
            max_iterations=DUAL_ITERATIONS,
            time_limit_seconds=DUAL_TIME_FRAC * self.seconds,
            dual_gap=max(0.1 * self.gap_frac, LEAST_DUAL_GAP),
        )
        result = solve(whole, capacity, start=np.zeros(1, dtype=np.int64), penalty=penalty, params=params)
        return result.multipliers, problem.base_value + result.bound

    def _solve_set(self, mask: int, multipliers: FloatArray) -> float:
        """Solve the problem with this set of vendors, keep its plan if it is better, and return its bound."""
        problem, whole, k = self.problem, self.whole, len(self.rows.capacity)
        is_open = (mask >> np.arange(len(whole.terms))) & 1 == 1
        fixed = float(problem.vendor_fixed_cost[whole.terms[is_open]].sum())
        used = np.flatnonzero(is_open[whole.term_of_minimum])
        minimum = whole.minimum[used]
        spend = -problem.unit_cost * (problem.offer_vendor == minimum[:, None])
        skus = SkuItems(problem, whole.most_units_of(mask), np.concatenate([problem.capacity_use[self.rows.capacity], spend]))
        capacity = np.concatenate([self.limit, -problem.vendor_min_order_value[minimum]])
        if not len(capacity):
            units = skus.orders(problem.charge)
            self._keep(units)
            return problem.base_value + float(skus.choice(units).value.sum()) - fixed
        penalty = np.concatenate([np.full(k, np.inf), np.full(len(minimum), MOST_MINIMUM_PRICE)])
        first = np.concatenate([multipliers[:k], multipliers[k:][used]])
        left = max(self.until - perf_counter(), 1e-3)
        params = LagrangianParams(
            max_iterations=SET_ITERATIONS,
            time_limit_seconds=left,
            gap=0.5 * self.gap_frac,
            dual_gap=max(0.1 * self.gap_frac, LEAST_DUAL_GAP),
        )
        nothing = np.zeros(skus.n_items, dtype=np.int64)
        result = solve(skus, capacity, start=nothing, penalty=penalty, first_multipliers=first, params=params)
        self._keep(skus.units(result.choice.option))
        return problem.base_value + result.bound - fixed

    def _keep(self, units: IntArray) -> None:
        """Keep the plan if it is better, without the vendors that it leaves below their minimum or that do not earn their fixed cost."""
        problem = self.problem
        values = problem.vendor_values(units)
        short = values < problem.vendor_min_order_value * (1.0 - LIMIT_TOLERANCE)
        units = np.where(short[problem.offer_vendor], 0, units)
        value = problem.objective(units)
        if value > self.value and not problem.faults(units):
            self.units, self.value = units, value
