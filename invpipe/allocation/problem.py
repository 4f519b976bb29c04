r"""The allocation problem: one row per SKU with its one chosen offer, and one sum of capital for all of them.

With :math:`p` unit price, :math:`c` unit cost, :math:`h` holding cost and :math:`s` salvage value of a unit left over at the end of the
protection window, the :math:`n`-th unit of inventory position is worth

.. math:: v_n = p S(n) + (s - h)(1 - S(n)) - c = a S(n) - b, \quad S(n) = P(D \ge n), \quad a = p - s + h, \quad b = c - s + h .

Where :math:`a \ge 0` this never increases in :math:`n`, and where :math:`b > 0` it ends below 0: both are demanded here, so that every
method may rely on them. Orders come in lots: the first lot is the vendor's minimum rounded up to whole packs, every further lot is one
pack.

Source: the budgeted newsvendor (Hadley and Whitin, 1963, *Analysis of Inventory Systems*, ch. 6) in marginal form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.allocation.procurement import ProcurementProblem
from invpipe.errors import AllocationError
from invpipe.forecast.law import CountLaw

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Sums of money are compared with this relative tolerance: rounding noise of a sum, far below the price of any unit.
CAPITAL_TOLERANCE = 1e-12


def _ones() -> IntArray:
    return np.ones(1, dtype=np.int64)


def _zeros() -> FloatArray:
    return np.zeros(1)


@dataclass(frozen=True)
class AllocationParams:
    """Parameters of the methods.

    Parameters
    ----------
    stockout_penalty_frac
        Only method "lp": penalty per unit missing at the upper quantile, as a share of the unit price, >= 0. It has no market price, so
        it is a choice: where it is below (unit_cost + holding_cost) / unit_price nothing is bought past the median, far above 1 the plan
        buys every SKU up to its upper quantile whatever that earns.
    median_tau, upper_tau
        Only method "lp": the two quantiles it reads from the demand law, 0 < median_tau <= upper_tau < 1.
    lp_form
        Only method "lp": "three_variables" is the document's programme as it is written (order, sales and missing units of each SKU),
        "segments" the same optimum over bounded segments of worth, one row per capacity and, where a SKU has several offers, one per SKU;
        None: "three_variables" for an :class:`AllocationProblem`, "segments" for a ``ProcurementProblem``.
    time_limit_seconds
        Method "lp" stops here without a plan, "mip" and "lagrangian" with the best plan they have, > 0.
    mip_gap_frac
        Methods "mip" and "lagrangian" stop at this gap between plan and bound, relative, >= 0.

    Raises
    ------
    AllocationError
        Where a parameter is out of its bounds.
    """

    stockout_penalty_frac: float = 0.5
    median_tau: float = 0.5
    upper_tau: float = 0.9
    lp_form: Literal["three_variables", "segments"] | None = None
    time_limit_seconds: float = 600.0
    mip_gap_frac: float = 1e-4

    def __post_init__(self) -> None:
        if self.lp_form not in (None, "three_variables", "segments"):
            msg = f"lp_form is {self.lp_form!r}; choose 'three_variables', 'segments' or None"
            raise AllocationError(msg)
        if not self.mip_gap_frac >= 0:
            msg = f"mip_gap_frac is {self.mip_gap_frac}; it must be >= 0"
            raise AllocationError(msg)
        if not (np.isfinite(self.stockout_penalty_frac) and self.stockout_penalty_frac >= 0):
            msg = f"stockout_penalty_frac is {self.stockout_penalty_frac}; it must be finite and >= 0"
            raise AllocationError(msg)
        if not 0 < self.median_tau <= self.upper_tau < 1:
            msg = f"median_tau is {self.median_tau}, upper_tau is {self.upper_tau}; give 0 < median_tau <= upper_tau < 1"
            raise AllocationError(msg)
        if not self.time_limit_seconds > 0:
            msg = f"time_limit_seconds is {self.time_limit_seconds}; it must be above 0"
            raise AllocationError(msg)


@dataclass(frozen=True, eq=False)
class AllocationProblem:
    """What may be ordered today, what it is worth and how much capital there is. Validates itself.

    Parameters
    ----------
    skus, vendors
        SKU of each row, no duplicates, and the vendor of its chosen offer, length n.
    unit_price, unit_cost
        Money per unit, shape (n,), price >= 0, cost > 0. A price below the cost is allowed: such a SKU is not bought.
    holding_cost
        Money per unit left over at the end of the protection window, already multiplied by its days, shape (n,), >= 0.
    salvage_value
        Money a left-over unit is worth at the window's end, shape (n,). Net of holding cost it must not exceed the unit price (else the
        value of a further unit would rise) and must be below the unit cost (else buying without limit would pay).
    inventory_position_units
        On hand + on order, shape (n,), >= 0.
    demand
        Law of the demand in the row's own protection window, n rows.
    capital
        Money available, >= 0; inf is no limit.
    min_order_units, pack_units
        Smallest order and size of a pack, units, shape (n,) or (1,) for all rows, >= 1. Default 1.
    vendor_min_order_value
        Smallest order value the row's vendor accepts, money, shape (n,) or (1,), >= 0, equal in all rows of a vendor. Default 0.
    median_units, upper_units
        Only method "lp": the two quantiles it shall use instead of those of `demand`, units, shape (n,), fractions allowed; give both or
        neither.

    Raises
    ------
    AllocationError
        Where an array has the wrong shape or type, or a value is out of the bounds above.
    """

    skus: tuple[str, ...]
    vendors: tuple[str, ...]
    unit_price: FloatArray
    unit_cost: FloatArray
    holding_cost: FloatArray
    salvage_value: FloatArray
    inventory_position_units: IntArray
    demand: CountLaw
    capital: float
    min_order_units: IntArray = field(default_factory=_ones)
    pack_units: IntArray = field(default_factory=_ones)
    vendor_min_order_value: FloatArray = field(default_factory=_zeros)
    median_units: FloatArray | None = None
    upper_units: FloatArray | None = None

    def __post_init__(self) -> None:
        self._check_rows()
        for name in ("unit_price", "unit_cost", "holding_cost", "salvage_value"):
            self._set_floats(name)
        self._set_units("inventory_position_units", least=0)
        self._set_units("min_order_units", least=1)
        self._set_units("pack_units", least=1)
        self._set_floats("vendor_min_order_value")
        self._check_money()
        self._check_vendor_minimums()
        self._check_quantiles()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.skus)

    @cached_property
    def first_lot_units(self) -> IntArray:
        """Units of the smallest order: the minimum rounded up to whole packs, shape (n,)."""
        return -(-self.min_order_units // self.pack_units) * self.pack_units

    @cached_property
    def value_slope(self) -> FloatArray:
        """The a of v_n = a S(n) - b: unit price less net salvage, money, shape (n,), >= 0."""
        return self.unit_price - self.salvage_value + self.holding_cost

    @cached_property
    def value_loss(self) -> FloatArray:
        """The b of v_n = a S(n) - b: loss on a unit nobody wants, money, shape (n,), > 0."""
        return self.unit_cost - self.salvage_value + self.holding_cost

    @cached_property
    def vendor_codes(self) -> IntArray:
        """Vendor of each row as an index into the sorted distinct vendors, shape (n,)."""
        return pl.Series(self.vendors, dtype=pl.String).rank("dense").to_numpy().astype(np.int64) - 1

    @staticmethod
    def from_quantiles(
        unit_price: FloatArray,
        unit_cost: FloatArray,
        holding_cost: FloatArray,
        stock_units: FloatArray,
        q50: FloatArray,
        q90: FloatArray,
        stockout_penalty: FloatArray,
        capital: float,
    ) -> ProcurementProblem:
        """Return the document's problem over two quantiles of demand, see :meth:`ProcurementProblem.from_quantiles`."""
        return ProcurementProblem.from_quantiles(unit_price, unit_cost, holding_cost, stock_units, q50, q90, stockout_penalty, capital)

    @staticmethod
    def from_survival(
        unit_value: FloatArray,
        salvage_value: FloatArray,
        unit_cost: FloatArray,
        holding_cost: FloatArray,
        stock_units: IntArray,
        survival: FloatArray,
        capital: float,
    ) -> ProcurementProblem:
        """Return the problem of units that each sell with their own probability, see :meth:`ProcurementProblem.from_survival`."""
        return ProcurementProblem.from_survival(unit_value, salvage_value, unit_cost, holding_cost, stock_units, survival, capital)

    def take(self, rows: IntArray) -> AllocationProblem:
        """Return the problem of the given rows alone, with the whole capital."""
        given = self.median_units is not None and self.upper_units is not None
        return replace(
            self,
            skus=tuple(self.skus[i] for i in rows),
            vendors=tuple(self.vendors[i] for i in rows),
            unit_price=self.unit_price[rows],
            unit_cost=self.unit_cost[rows],
            holding_cost=self.holding_cost[rows],
            salvage_value=self.salvage_value[rows],
            inventory_position_units=self.inventory_position_units[rows],
            demand=self.demand.take(rows),
            min_order_units=self.min_order_units[rows],
            pack_units=self.pack_units[rows],
            vendor_min_order_value=self.vendor_min_order_value[rows],
            median_units=np.asarray(self.median_units)[rows] if given else None,
            upper_units=np.asarray(self.upper_units)[rows] if given else None,
        )

    def floor_to_lots(self, units: npt.NDArray[np.generic]) -> IntArray:
        """Return the largest order of whole lots that is not above `units`, shape (n,)."""
        whole = np.floor(np.asarray(units, dtype=np.float64)).astype(np.int64)
        further = (whole - self.first_lot_units) // self.pack_units * self.pack_units
        return np.where(whole >= self.first_lot_units, self.first_lot_units + further, 0)

    def next_lot_units(self, order_units: IntArray) -> IntArray:
        """Return the units of the lot that would follow the given orders, shape (n,)."""
        return np.where(order_units == 0, self.first_lot_units, self.pack_units)

    def last_lot_units(self, order_units: IntArray) -> IntArray:
        """Return the units of the last lot of the given orders, 0 where nothing is ordered, shape (n,)."""
        last = np.where(order_units == self.first_lot_units, self.first_lot_units, self.pack_units)
        return np.where(order_units == 0, 0, last)

    def _check_rows(self) -> None:
        n = len(self.skus)
        if len(self.vendors) != n or len(self.demand) != n:
            msg = f"{n} skus, {len(self.vendors)} vendors and {len(self.demand)} demand laws; give one of each per row"
            raise AllocationError(msg)
        object.__setattr__(self, "skus", tuple(self.skus))
        object.__setattr__(self, "vendors", tuple(self.vendors))
        if len(set(self.skus)) != n:
            seen: set[str] = set()
            repeated = next(sku for sku in self.skus if sku in seen or seen.add(sku))  # type: ignore[func-returns-value]
            msg = f"{n - len(set(self.skus))} of {n} skus are repeated, first {repeated!r}; choose one offer per SKU"
            raise AllocationError(msg)
        if not self.capital >= 0:
            msg = f"capital is {self.capital}; it must be >= 0 (inf is no limit)"
            raise AllocationError(msg)
        object.__setattr__(self, "capital", float(self.capital))

    def _set_array(self, name: str, dtype: type[np.generic]) -> npt.NDArray[np.generic]:
        n, given = len(self.skus), np.asarray(getattr(self, name))
        if given.shape != (n,) and not (given.shape == (1,) and name in {"min_order_units", "pack_units", "vendor_min_order_value"}):
            msg = f"{name} has shape {given.shape}; {n} SKUs need ({n},)"
            raise AllocationError(msg)
        if given.dtype.kind not in ("iu" if dtype is np.int64 else "iuf"):
            msg = f"{name} has type {given.dtype}; give {'whole numbers' if dtype is np.int64 else 'numbers'} (cast to {dtype.__name__})"
            raise AllocationError(msg)
        array = np.ascontiguousarray(np.broadcast_to(given, (n,)), dtype=dtype)
        object.__setattr__(self, name, array)
        return array

    def _set_floats(self, name: str) -> None:
        array = self._set_array(name, np.float64)
        self._refuse(~np.isfinite(array), name, "not finite", lambda i: str(array[i]))

    def _set_units(self, name: str, least: int) -> None:
        array = self._set_array(name, np.int64)
        self._refuse(np.less(array, least), name, f"below {least}", lambda i: str(array[i]))

    def _refuse(self, bad: npt.NDArray[np.bool_], name: str, fault: str, value: Callable[[int], str], hint: str = "") -> None:
        if bad.any():
            first = int(bad.argmax())
            msg = f"{int(bad.sum())} of {len(bad)} rows have {name} {fault}, first {self.skus[first]!r}: {value(first)}"
            raise AllocationError(f"{msg}; {hint}" if hint else msg)

    def _check_money(self) -> None:
        price, cost, holding, salvage = self.unit_price, self.unit_cost, self.holding_cost, self.salvage_value
        self._refuse(price < 0, "unit_price", "below 0", lambda i: str(price[i]))
        self._refuse(cost <= 0, "unit_cost", "not above 0", lambda i: str(cost[i]), "leave out offers without a cost")
        self._refuse(holding < 0, "holding_cost", "below 0", lambda i: str(holding[i]))
        self._refuse(
            self.value_slope < 0,
            "salvage_value - holding_cost",
            "above unit_price",
            lambda i: f"{salvage[i]} - {holding[i]} > {price[i]}",
            "a left-over unit cannot be worth more than a sold one",
        )
        self._refuse(
            self.value_loss <= 0,
            "salvage_value - holding_cost",
            "not below unit_cost",
            lambda i: f"{salvage[i]} - {holding[i]} >= {cost[i]}",
            "buying without limit would pay; lower the salvage value or state the holding cost",
        )

    def _check_vendor_minimums(self) -> None:
        least = self.vendor_min_order_value
        self._refuse(least < 0, "vendor_min_order_value", "below 0", lambda i: str(least[i]))
        if not least.any():
            return
        per_vendor = np.zeros(int(self.vendor_codes.max()) + 1)
        np.maximum.at(per_vendor, self.vendor_codes, least)
        self._refuse(
            least != per_vendor[self.vendor_codes],
            "vendor_min_order_value",
            "unlike other rows of the same vendor",
            lambda i: f"{least[i]} v {per_vendor[self.vendor_codes[i]]} of vendor {self.vendors[i]!r}",
            "give one minimum per vendor",
        )

    def _check_quantiles(self) -> None:
        if (self.median_units is None) != (self.upper_units is None):
            msg = "only one of median_units and upper_units is given; give both or neither"
            raise AllocationError(msg)
        if self.median_units is None:
            return
        self._set_floats("median_units")
        self._set_floats("upper_units")
        low, high = np.asarray(self.median_units), np.asarray(self.upper_units)
        self._refuse(low < 0, "median_units", "below 0", lambda i: str(low[i]))
        self._refuse(high < low, "upper_units", "below median_units", lambda i: f"{high[i]} < {low[i]}", "sort the quantiles")
