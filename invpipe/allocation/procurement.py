r"""The procurement problem: several offers per SKU, lots, vendor charges and minimums, and any number of capacities.

With :math:`x_o` units ordered of offer :math:`o` of SKU :math:`i`, :math:`V_i` the worth of that many more units of the SKU (concave,
piecewise linear), :math:`c_o` the charge of a unit, :math:`a_{ko}` its use of capacity :math:`k`, and :math:`y_v` whether vendor
:math:`v` gets an order:

.. math:: \max \; w_0 + \sum_i V_i\Big(\sum_{o \in i} x_o\Big) - \sum_o c_o x_o - \sum_v F_v y_v \quad \text{s.t.} \quad
    \sum_o a_{ko} x_o \le b_k, \quad \sum_{o \in v} p_o x_o \ge m_v y_v, \quad x_o \in \{0\} \cup \{l_o, l_o + q_o, \dots\},
    \quad x_o \le u_o y_v, \quad \sum_{o \in i} x_o \le s_i .

:math:`V_i` is given as segments: so many units, each worth so much, falling, the last without end. Two models of demand come with it:
:meth:`ProcurementProblem.from_quantiles` and :meth:`ProcurementProblem.from_survival`. A cap on a category is a capacity whose use is 1
for the offers of the category and 0 elsewhere.

Limits: an order never goes past the lot that holds the SKU's last unit worth its charge, so no plan fills a vendor's minimum with units
that lose money; capacities are dense arrays, one entry per offer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.errors import AllocationError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Units = FloatArray | IntArray

#: Sums are compared with limits with this relative tolerance: rounding noise of a sum, far below any unit.
LIMIT_TOLERANCE = 1e-12
#: No order of one offer may be larger, units: above it a table of values per unit would not fit in memory.
MAX_ORDER_UNITS = 10_000_000


@njit(cache=True, nogil=True, error_model="numpy")
def worth_of(segment_start: IntArray, segment_units: FloatArray, segment_value: FloatArray, units: FloatArray) -> FloatArray:
    """Return the worth V of each SKU's units, money, shape (n,)."""
    out = np.zeros(len(units))
    for i in range(len(units)):
        left = units[i]
        for j in range(segment_start[i], segment_start[i + 1]):
            taken = min(left, segment_units[j])
            out[i] += taken * segment_value[j]
            left -= taken
            if left <= 0.0:
                break
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def span_worth(
    segment_start: IntArray, segment_units: FloatArray, segment_value: FloatArray, sku: IntArray, before: FloatArray, lot: IntArray
) -> FloatArray:
    """Return the worth of `lot` units of each offer's SKU after `before` units of it, money, shape (m,)."""
    out = np.zeros(len(lot))
    for o in range(len(lot)):
        skip, need = before[o], float(lot[o])
        for j in range(segment_start[sku[o]], segment_start[sku[o] + 1]):
            if need <= 0.0:
                break
            room = segment_units[j] - skip
            if room <= 0.0:
                skip -= segment_units[j]
                continue
            taken = min(need, room)
            out[o] += taken * segment_value[j]
            need, skip = need - taken, 0.0
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _most_units(
    segment_start: IntArray,
    segment_units: FloatArray,
    segment_value: FloatArray,
    offer_sku: IntArray,
    charge: FloatArray,
    first_lot_units: IntArray,
    pack_units: IntArray,
    cap_units: FloatArray,
) -> IntArray:
    """Return the largest order of each offer in whole lots: up to its last unit worth its charge, rounded up, and within its cap."""
    out = np.zeros(len(charge), np.int64)
    for o in range(len(charge)):
        i, wanted = offer_sku[o], 0.0
        for j in range(segment_start[i], segment_start[i + 1]):
            if segment_value[j] <= charge[o]:
                break
            wanted += segment_units[j]
        wanted = np.ceil(min(wanted, cap_units[o]))
        if wanted <= 0.0:
            continue
        if wanted > MAX_ORDER_UNITS:
            out[o] = -1
            continue
        first, pack = first_lot_units[o], pack_units[o]
        units = first + -(-max(int(wanted) - first, 0) // pack) * pack
        if units > cap_units[o]:
            units -= pack if units > first else first
        out[o] = units if units <= cap_units[o] else 0
    return out


@dataclass(frozen=True, eq=False)
class QuantileModel:
    """The document's model of demand, kept so that its own three-variable programme can be written, one entry per SKU.

    Parameters
    ----------
    unit_price, unit_cost, holding_cost
        Money per unit over the horizon, shape (n,).
    inventory_position_units, median_units, upper_units
        Stock and the two quantiles, units, shape (n,).
    penalty
        Money per unit missing at the upper quantile, shape (n,).
    capital
        Money.
    """

    unit_price: FloatArray
    unit_cost: FloatArray
    holding_cost: FloatArray
    inventory_position_units: FloatArray
    median_units: FloatArray
    upper_units: FloatArray
    penalty: FloatArray
    capital: float

    def __len__(self) -> int:
        """Return the number of SKUs."""
        return len(self.unit_price)


def _zeros() -> FloatArray:
    return np.zeros(1)


def _ones() -> IntArray:
    return np.ones(1, dtype=np.int64)


def _unlimited() -> FloatArray:
    return np.full(1, np.inf)


@dataclass(frozen=True, eq=False)
class ProcurementProblem:
    """What each vendor offers, what the units of each SKU are worth, and what they may use. Validates itself.

    Arrays of shape (1,) stand for all offers, SKUs or vendors where a default is named.

    Parameters
    ----------
    skus, vendors
        Names, no duplicates, n SKUs and v vendors.
    segment_start, segment_units, segment_value
        Worth of each SKU's further units: its segments are segment_start[i] .. segment_start[i + 1] (shape (n + 1,)), each of so many
        units (> 0, the last inf) worth so much per unit, money, falling.
    offer_sku, offer_vendor
        Index of the SKU (rising) and of the vendor of each offer, shape (m,).
    unit_cost
        Money paid per unit, shape (m,), >= 0.
    capacity_names, capacity_use, capacity_limit
        k capacities: what a unit of each offer uses, shape (k, m), >= 0, and how much there is, shape (k,), >= 0, inf is no limit.
    min_order_units, pack_units
        Smallest order and size of a pack of each offer, units, shape (m,), >= 1. Default 1.
    available_units
        What the offer can deliver, units, shape (m,), >= 0. Default inf.
    lead_time_days
        Days until the offer's units arrive, shape (m,), >= 0. Default 0.
    delay_cost_per_unit_day
        What a unit of the SKU loses in worth per day of lead time, money, shape (n,), >= 0. Default 0.
    sku_max_units
        Most units of the SKU over all offers, shape (n,), >= 0. Default inf.
    vendor_fixed_cost, vendor_min_order_value
        Charge of an order at the vendor whatever its size, and smallest value it accepts, money, shape (v,), >= 0. Default 0.
    base_value
        Worth of ordering nothing, money.
    quantiles
        Set by :meth:`from_quantiles`.

    Raises
    ------
    AllocationError
        Where an array has the wrong shape or type, or a value is out of the bounds above, or buying without limit would pay.
    """

    skus: tuple[str, ...]
    vendors: tuple[str, ...]
    segment_start: IntArray
    segment_units: FloatArray
    segment_value: FloatArray
    offer_sku: IntArray
    offer_vendor: IntArray
    unit_cost: FloatArray
    capacity_names: tuple[str, ...]
    capacity_use: FloatArray
    capacity_limit: FloatArray
    min_order_units: IntArray = field(default_factory=_ones)
    pack_units: IntArray = field(default_factory=_ones)
    available_units: FloatArray = field(default_factory=_unlimited)
    lead_time_days: FloatArray = field(default_factory=_zeros)
    delay_cost_per_unit_day: FloatArray = field(default_factory=_zeros)
    sku_max_units: FloatArray = field(default_factory=_unlimited)
    vendor_fixed_cost: FloatArray = field(default_factory=_zeros)
    vendor_min_order_value: FloatArray = field(default_factory=_zeros)
    base_value: float = 0.0
    quantiles: QuantileModel | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n, m, v, k = len(self.skus), len(self.offer_sku), len(self.vendors), len(self.capacity_names)
        for names, what in ((self.skus, "skus"), (self.vendors, "vendors"), (self.capacity_names, "capacity_names")):
            self._check_names(tuple(names), what)
        for name, length, least in (
            ("offer_sku", m, 0),
            ("offer_vendor", m, 0),
            ("segment_start", n + 1, 0),
            ("min_order_units", m, 1),
            ("pack_units", m, 1),
        ):
            self._set(name, np.int64, (length,), least=least)
        segments = len(self.segment_units)
        self._set("segment_value", np.float64, (segments,), least=-np.inf)
        self._set("segment_units", np.float64, (segments,), may_be_inf=True)
        self._set("capacity_use", np.float64, (k, m))
        for name, length, may_be_inf in (
            ("unit_cost", m, False),
            ("capacity_limit", k, True),
            ("available_units", m, True),
            ("lead_time_days", m, False),
            ("delay_cost_per_unit_day", n, False),
            ("sku_max_units", n, True),
            ("vendor_fixed_cost", v, False),
            ("vendor_min_order_value", v, False),
        ):
            self._set(name, np.float64, (length,), may_be_inf=may_be_inf)
        self._check_codes()
        self._check_segments()
        self._check_bounded()

    def __len__(self) -> int:
        """Return the number of offers."""
        return len(self.offer_sku)

    @classmethod
    def from_quantiles(
        cls,
        unit_price: FloatArray,
        unit_cost: FloatArray,
        holding_cost: FloatArray,
        stock_units: FloatArray,
        q50: FloatArray,
        q90: FloatArray,
        stockout_penalty: FloatArray,
        capital: float,
    ) -> ProcurementProblem:
        r"""Return the document's problem over two quantiles of demand, one offer per SKU.

        With order x, sales s and units u missing at the upper quantile, the plan earns

        .. math:: \sum p s - c x - h (P + x - s) - \lambda u, \quad s \le \min(P + x, q_{50}), \quad u \ge q_{90} - (P + x),

        so a further unit is worth :math:`p + \lambda` up to the median, :math:`\lambda - h` up to the upper quantile, :math:`-h` past it,
        and ordering nothing is worth what the stock P sells, less its holding and what is missing.

        Parameters
        ----------
        unit_price, unit_cost, holding_cost, stockout_penalty
            p, c, h over the horizon, and lambda, money per unit, shape (n,), >= 0.
        stock_units, q50, q90
            P and the quantiles of the demand over the horizon, units, shape (n,), >= 0, fractions allowed, q50 <= q90.
        capital
            Money available, >= 0; inf is no limit.

        Raises
        ------
        AllocationError
            As the class; q90 below q50; shapes that differ.
        """
        names = ("unit_price", "unit_cost", "holding_cost", "stock_units", "q50", "q90", "stockout_penalty")
        given = (unit_price, unit_cost, holding_cost, stock_units, q50, q90, stockout_penalty)
        p, c, h, stock, low, high, penalty = (_floats(name, array, len(given[0])) for name, array in zip(names, given, strict=True))
        _refuse(high < low, "q90", "below q50", lambda i: f"{high[i]} < {low[i]}", "sort the quantiles")
        n = len(p)
        units = np.stack([np.maximum(low - stock, 0.0), np.maximum(high - np.maximum(stock, low), 0.0), np.full(n, np.inf)], axis=1)
        value = np.stack([p + penalty, penalty - h, -h], axis=1)
        start, used = _compressed(units > 0)
        base = p @ np.minimum(stock, low) - h @ np.maximum(stock - low, 0.0) - penalty @ np.maximum(high - stock, 0.0)
        model = QuantileModel(p, c, h, stock, low, high, penalty, float(capital))
        return cls._one_offer_each(c, capital, start, units[used], value[used], base_value=float(base), quantiles=model)

    @classmethod
    def from_survival(
        cls,
        unit_value: FloatArray,
        salvage_value: FloatArray,
        unit_cost: FloatArray,
        holding_cost: FloatArray,
        stock_units: IntArray,
        survival: FloatArray,
        capital: float,
    ) -> ProcurementProblem:
        r"""Return the problem whose n-th unit of stock earns :math:`v S(n) + (g - h)(1 - S(n)) - c`, one offer per SKU.

        Parameters
        ----------
        unit_value, salvage_value, unit_cost, holding_cost
            v of a unit sold, g of a unit left over, c, and h of a unit left over, money, shape (n,), >= 0.
        stock_units
            Units of stock there are, whole, shape (n,), >= 0; ordering nothing counts as 0.
        survival
            P(D >= 1), P(D >= 2), ... of each SKU, shape (n, k), within [0, 1], never rising; 0 past the last column.
        capital
            Money available, >= 0; inf is no limit.

        Raises
        ------
        AllocationError
            As the class; a left-over unit worth more than a sold one; a survival that rises or leaves [0, 1].
        """
        names = ("unit_value", "salvage_value", "unit_cost", "holding_cost", "stock_units")
        given = (unit_value, salvage_value, unit_cost, holding_cost, stock_units)
        v, g, c, h, stock = (_floats(name, array, len(given[0])) for name, array in zip(names, given, strict=True))
        _refuse(np.not_equal(stock, np.floor(stock)), "stock_units", "not whole", lambda i: str(stock[i]), "units of stock are counted")
        _refuse(g - h > v, "salvage_value - holding_cost", "above unit_value", lambda i: f"{g[i]} - {h[i]} > {v[i]}")
        sells = np.asarray(survival, dtype=np.float64)
        if sells.ndim != 2 or len(sells) != len(v):
            msg = f"survival has shape {sells.shape}; {len(v)} SKUs need ({len(v)}, k)"
            raise AllocationError(msg)
        _refuse(
            np.asarray(np.logical_not((sells >= 0) & (sells <= 1)).any(axis=1)),
            "survival",
            "outside [0, 1]",
            lambda i: str(sells[i].tolist()),
        )
        _refuse(
            np.asarray(np.greater(np.diff(sells, axis=1), 0).any(axis=1)),
            "survival",
            "rising",
            lambda i: str(sells[i].tolist()),
            "sort it downwards",
        )
        over = (g - h)[:, None]
        value = np.concatenate([v[:, None] * sells + over * (1.0 - sells), over], axis=1)
        value = np.minimum.accumulate(value, axis=1)  # falls but for rounding
        units = np.ones(value.shape)
        units[:, -1] = np.inf
        needed = np.concatenate([(np.arange(1, sells.shape[1] + 1) > stock[:, None]) & (sells > 0), np.ones((len(v), 1), bool)], axis=1)
        start, used = _compressed(needed)
        return cls._one_offer_each(c, capital, start, units[used], value[used])

    @classmethod
    def _one_offer_each(
        cls,
        unit_cost: FloatArray,
        capital: float,
        segment_start: IntArray,
        segment_units: FloatArray,
        segment_value: FloatArray,
        base_value: float = 0.0,
        quantiles: QuantileModel | None = None,
    ) -> ProcurementProblem:
        n = len(unit_cost)
        if not capital >= 0:
            msg = f"capital is {capital}; it must be >= 0 (inf is no limit)"
            raise AllocationError(msg)
        width = len(str(max(n - 1, 0)))
        return cls(
            skus=tuple(f"{i:0{width}d}" for i in range(n)),
            vendors=("",),
            segment_start=segment_start,
            segment_units=segment_units,
            segment_value=segment_value,
            offer_sku=np.arange(n),
            offer_vendor=np.zeros(n, dtype=np.int64),
            unit_cost=unit_cost,
            capacity_names=("capital",),
            capacity_use=unit_cost[None, :],
            capacity_limit=np.array([capital], dtype=np.float64),
            base_value=base_value,
            quantiles=quantiles,
        )

    @cached_property
    def charge(self) -> FloatArray:
        """What a unit of each offer costs in worth: its cost and its delay, money, shape (m,)."""
        return self.unit_cost + self.delay_cost_per_unit_day[self.offer_sku] * self.lead_time_days

    @cached_property
    def offer_start(self) -> IntArray:
        """First offer of each SKU and the number of offers, shape (n + 1,)."""
        return np.searchsorted(self.offer_sku, np.arange(len(self.skus) + 1)).astype(np.int64)

    @cached_property
    def first_lot_units(self) -> IntArray:
        """Units of the smallest order: the minimum rounded up to whole packs, shape (m,)."""
        return -(-self.min_order_units // self.pack_units) * self.pack_units

    @cached_property
    def cap_units(self) -> FloatArray:
        """Most units of each offer as it is given: availability and the SKU's cap, shape (m,)."""
        return np.minimum(self.available_units, self.sku_max_units[self.offer_sku])

    @cached_property
    def most_units(self) -> IntArray:
        """Largest order of each offer: whole lots up to its last unit worth its charge, within its cap, shape (m,)."""
        out = _most_units(
            self.segment_start, self.segment_units, self.segment_value, self.offer_sku, self.charge, self.first_lot_units, self.pack_units,
            self.cap_units,
        )  # fmt: skip
        sku = self.offer_sku
        _refuse(
            out < 0, "an order", f"above {MAX_ORDER_UNITS:,} units worth having", lambda o: f"sku {self.skus[sku[o]]!r}", "count in packs"
        )
        return np.asarray(out)

    @cached_property
    def has_vendor_terms(self) -> BoolArray:
        """Whether a vendor has a fixed cost or a minimum, shape (v,)."""
        return (self.vendor_fixed_cost > 0) | (self.vendor_min_order_value > 0)

    def sku_units(self, order_units: Units) -> FloatArray:
        """Return the units of each SKU over all its offers, shape (n,)."""
        return _sums(self.offer_sku, order_units, len(self.skus))

    def vendor_values(self, order_units: Units) -> FloatArray:
        """Return the value of the order at each vendor, money, shape (v,)."""
        return _sums(self.offer_vendor, order_units * self.unit_cost, len(self.vendors))

    def vendor_used(self, order_units: Units) -> BoolArray:
        """Return whether each vendor gets an order, shape (v,)."""
        return np.bincount(self.offer_vendor, weights=np.asarray(order_units) > 0, minlength=len(self.vendors)) > 0

    def usage(self, order_units: Units) -> FloatArray:
        """Return what the order uses of each capacity, shape (k,)."""
        return np.asarray(self.capacity_use @ np.asarray(order_units, dtype=np.float64))

    def objective(self, order_units: Units) -> float:
        """Return what the order earns, money."""
        worth = worth_of(self.segment_start, self.segment_units, self.segment_value, self.sku_units(order_units))
        fixed = self.vendor_fixed_cost @ self.vendor_used(order_units)
        return float(self.base_value + worth.sum() - self.charge @ order_units - fixed)

    def faults(self, order_units: IntArray) -> list[str]:
        """Return which of its constraints the order breaks, in words; empty where none."""
        used, limit = self.usage(order_units), self.capacity_limit
        over = np.flatnonzero(used > limit + LIMIT_TOLERANCE * np.where(np.isfinite(limit), limit, 0.0))
        found = [f"{self.capacity_names[k]}: {used[k]} used of {limit[k]}" for k in over]
        ordered = order_units > 0
        whole = (order_units >= self.first_lot_units) & (order_units % self.pack_units == 0)
        values, least = self.vendor_values(order_units), self.vendor_min_order_value
        short = self.vendor_used(order_units) & (values < least * (1.0 - LIMIT_TOLERANCE))
        for bad, what in (
            (order_units < 0, "orders below 0"),
            (ordered & ~whole, "orders that are no whole lots"),
            (order_units > self.most_units, "orders past the last unit worth having or the availability"),
            (self.sku_units(order_units) > self.sku_max_units, "SKUs above their cap"),
            (short, "vendors below their minimum"),
        ):
            if bad.any():
                found.append(f"{int(bad.sum())} {what}, first at {int(bad.argmax())}")
        return found

    def _check_names(self, names: tuple[str, ...], what: str) -> None:
        object.__setattr__(self, what, names)
        if len(set(names)) != len(names):
            repeated = next(name for i, name in enumerate(names) if name in names[:i])
            msg = f"{len(names) - len(set(names))} of {len(names)} {what} are repeated, first {repeated!r}; name each once"
            raise AllocationError(msg)

    def _set(self, name: str, dtype: type[np.generic], shape: tuple[int, ...], *, least: float = 0.0, may_be_inf: bool = False) -> None:
        given = np.asarray(getattr(self, name))
        if given.shape != shape and not (given.shape == (1,) and len(shape) == 1 and name in _FOR_ALL):
            msg = f"{name} has shape {given.shape}; {shape} is needed"
            raise AllocationError(msg)
        if given.dtype.kind not in ("iu" if dtype is np.int64 else "iuf"):
            msg = f"{name} has type {given.dtype}; give {'whole numbers' if dtype is np.int64 else 'numbers'} (cast to {dtype.__name__})"
            raise AllocationError(msg)
        array = np.ascontiguousarray(np.broadcast_to(given, shape), dtype=dtype)
        object.__setattr__(self, name, array)
        flat = array.ravel()
        _refuse(np.isnan(flat) | (np.isinf(flat) & (not may_be_inf)), name, "not finite", lambda i: str(flat[i]))
        _refuse(np.less(flat, least), name, f"below {least:g}", lambda i: str(flat[i]))

    def _check_codes(self) -> None:
        for name, count in (("offer_sku", len(self.skus)), ("offer_vendor", len(self.vendors))):
            codes: IntArray = getattr(self, name)
            _refuse(codes >= count, name, f"above {count - 1}", codes.astype(str).__getitem__)
        falls = np.diff(self.offer_sku, prepend=0) < 0
        _refuse(falls, "offer_sku", "falling", lambda o: str(self.offer_sku[o]), "sort the offers by SKU")

    def _check_segments(self) -> None:
        start, units, value = self.segment_start, self.segment_units, self.segment_value
        if start[0] != 0 or start[-1] != len(units) or (np.diff(start) < 1).any():
            msg = f"segment_start must rise from 0 to the {len(units)} segments, at least one per SKU"
            raise AllocationError(msg)
        last = np.zeros(len(units), bool)
        last[start[1:] - 1] = True
        _refuse(units <= 0, "segment_units", "not above 0", lambda j: str(units[j]), "leave out empty segments")
        _refuse(np.isinf(units) != last, "segment_units", "wrong at the end", lambda j: str(units[j]), "only a SKU's last segment is inf")
        rises = np.diff(value, prepend=np.inf) > 0
        rises[start[:-1]] = False
        _refuse(
            rises, "segment_value", "rising", lambda j: f"{value[j - 1]} then {value[j]}", "a further unit is worth no more than the last"
        )

    def _check_bounded(self) -> None:
        tail = self.segment_value[self.segment_start[1:] - 1][self.offer_sku]
        endless = (tail > self.charge) & np.isinf(self.cap_units)
        sku = self.offer_sku
        _refuse(
            endless,
            "unit_cost",
            "below what every further unit is worth",
            lambda o: f"sku {self.skus[sku[o]]!r}: {self.charge[o]} < {tail[o]}",
            "buying without limit would pay",
        )


#: Fields of which one entry may stand for all.
_FOR_ALL = {
    "min_order_units", "pack_units", "available_units", "lead_time_days", "delay_cost_per_unit_day", "sku_max_units", "vendor_fixed_cost",
    "vendor_min_order_value",
}  # fmt: skip


def _sums(index: IntArray, weights: Units, length: int) -> FloatArray:
    return np.bincount(index, weights=weights, minlength=length).astype(np.float64)


def _refuse(bad: npt.NDArray[np.bool_], name: str, fault: str, value: Callable[[int], str], hint: str = "") -> None:
    if bad.any():
        first = int(bad.argmax())
        msg = f"{int(bad.sum())} of {len(bad)} entries have {name} {fault}, first at {first}: {value(first)}"
        raise AllocationError(f"{msg}; {hint}" if hint else msg)


def _floats(name: str, given: npt.ArrayLike, n: int) -> FloatArray:
    array = np.asarray(given)
    if array.shape != (n,):
        msg = f"{name} has shape {array.shape}; {n} SKUs need ({n},)"
        raise AllocationError(msg)
    if array.dtype.kind not in "iuf":
        msg = f"{name} has type {array.dtype}; give numbers"
        raise AllocationError(msg)
    numbers = array.astype(np.float64)
    _refuse(~(np.isfinite(numbers) & (numbers >= 0)), name, "below 0 or not finite", lambda i: str(numbers[i]))
    return numbers


def _compressed(needed: BoolArray) -> tuple[IntArray, BoolArray]:
    """Return the start of each row in the needed entries, and the entries."""
    return np.concatenate([[0], np.cumsum(needed.sum(axis=1))]).astype(np.int64), needed
