"""What a policy sees at the end of a review day, and what it may answer.

A policy reads the state of the shop at the end of day d (after the day's offers, arrivals and sales) and orders from each SKU's cheapest
vendor with stock. It is called once per review day and keeps no state between calls, so that one policy object may serve many threads.

Not cheating is enforced: a line below `min_order_units`, not a multiple of `pack_units`, without an offer, or lines beyond
`capital_available` raise an :class:`~invpipe.errors.ArenaError`, because the view said so and a correct policy never does it. A vendor's
minimum order value is different - a vendor may turn an order down in real life - so the engine refuses those lines and counts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.arena.kernel import State, velocity_decay, velocity_now
from invpipe.arena.params import BacktestParams
from invpipe.arena.tape import Tape

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


def read_only(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """Return a view of the array that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


@njit(cache=True, nogil=True)
def _per_offer(offer_index: npt.NDArray[np.int32], values: npt.NDArray[np.int32], none: int) -> IntArray:
    """Return the value of each SKU's offer, `none` where it has none."""
    out = np.empty(len(offer_index), np.int64)
    for sku in range(len(offer_index)):
        out[sku] = values[offer_index[sku]] if offer_index[sku] >= 0 else none
    return out


@njit(cache=True, nogil=True)
def _per_vendor(offer_index: npt.NDArray[np.int32], offer_vendor: npt.NDArray[np.int32], values: FloatArray) -> FloatArray:
    """Return the value of the vendor of each SKU's offer, NaN where it has none."""
    out = np.full(len(offer_index), np.nan)
    for sku in range(len(offer_index)):
        if offer_index[sku] >= 0:
            out[sku] = values[offer_vendor[offer_index[sku]]]
    return out


class OfferTerms(NamedTuple):
    """Terms of the cheapest offers of some SKUs, which must have one; one entry per SKU."""

    vendor_index: IntArray
    min_order_units: IntArray
    pack_units: IntArray


class LazyVelocity(NamedTuple):
    """The velocity as it is kept, per SKU; today it is velocity * decay."""

    velocity: FloatArray
    decay: float


class VendorTerms(NamedTuple):
    """What holds per vendor: ceil of the mean lead time, its standard deviation, minimum order value."""

    lead_days: IntArray
    lead_time_days_sd: FloatArray
    min_order_value: FloatArray


@dataclass(frozen=True)
class Orders:
    """Order lines of one day: `order_units[i]` units of SKU `sku_index[i]`, each SKU at most once, in order of placement."""

    sku_index: IntArray
    order_units: IntArray

    @classmethod
    def none(cls) -> Orders:
        """Return no order."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class ShopView:
    """Read-only state of the shop at the end of one day, arrays per SKU; valid until `decide` returns.

    Attributes
    ----------
    day_index, day
        Day counted from the start of the tape, and its date.
    skus, vendors
        Names behind the indices.
    unit_price, on_hand_units, on_order_units
        Selling price, stock, and units ordered that have not arrived.
    unit_cost, offer_index
        Unit cost of the cheapest vendor with stock (inf where none) and the index of that offer (-1).
    offer_vendor, offer_min_order_units, offer_pack_units
        Vendor index, least units of a line and units it must be a multiple of, per offer.
    capital_available
        Money left under the capital limit; inf where there is none.
    review_period_days, holding_cost_frac_per_day, inbound_cost_per_line, liquidation_frac, velocity_half_life_days
        As in :class:`~invpipe.arena.params.BacktestParams`.
    """

    def __init__(self, tape: Tape, state: State, params: BacktestParams, day_index: int, day: date, capital_available: float) -> None:
        arrays = tape.arrays
        self.day_index = day_index
        self.day = day
        self.skus = tape.skus
        self.vendors = tape.vendors
        self.unit_price: FloatArray = arrays.unit_price
        self.on_hand_units: IntArray = read_only(state.on_hand)
        self.on_order_units: IntArray = read_only(state.on_order)
        self.unit_cost: FloatArray = read_only(state.best_cost)
        self.offer_index = read_only(state.best_offer)
        self.capital_available = capital_available
        self.review_period_days = params.review_period_days
        self.holding_cost_frac_per_day = params.holding_cost_frac_per_day
        self.inbound_cost_per_line = params.inbound_cost_per_line
        self.liquidation_frac = params.liquidation_frac
        self.velocity_half_life_days = params.velocity_half_life_days
        self._state = state
        self.offer_vendor: npt.NDArray[np.int32] = arrays.offer_vendor
        self.offer_min_order_units = read_only(state.offer_min_order_units)
        self.offer_pack_units = read_only(state.offer_pack_units)
        self._vendor_columns = (arrays.lead_time_days_mean, arrays.lead_time_days_sd, arrays.min_order_value)

    @cached_property
    def velocity(self) -> FloatArray:
        """EWMA of units sold and estimated lost, units per day."""
        return read_only(velocity_now(self._state, self.day_index))

    @cached_property
    def vendor_index(self) -> IntArray:
        """Vendor of the cheapest offer, -1 where none."""
        return read_only(_per_offer(self.offer_index, self.offer_vendor, -1))

    @cached_property
    def min_order_units(self) -> IntArray:
        """Least units of a line at the cheapest offer, 1 where none."""
        return read_only(_per_offer(self.offer_index, self.offer_min_order_units, 1))

    @cached_property
    def pack_units(self) -> IntArray:
        """Units a line must be a multiple of, 1 where there is no offer."""
        return read_only(_per_offer(self.offer_index, self.offer_pack_units, 1))

    @cached_property
    def lead_time_days_mean(self) -> FloatArray:
        """Mean lead time of the cheapest offer's vendor, NaN where none."""
        return read_only(_per_vendor(self.offer_index, self.offer_vendor, self._vendor_columns[0]))

    @cached_property
    def lead_time_days_sd(self) -> FloatArray:
        """Standard deviation of that vendor's lead time, NaN where none."""
        return read_only(_per_vendor(self.offer_index, self.offer_vendor, self._vendor_columns[1]))

    @cached_property
    def vendor_min_order_value(self) -> FloatArray:
        """Minimum order value of that vendor, NaN where none."""
        return read_only(_per_vendor(self.offer_index, self.offer_vendor, self._vendor_columns[2]))

    def lead_days(self, rows: IntArray) -> IntArray:
        """Return ceil(mean lead time) of the given SKUs, which must have an offer."""
        return self.vendor_terms.lead_days[self.offer_vendor[self.offer_index[rows]]]

    def offer_terms(self, rows: IntArray) -> OfferTerms:
        """Return the terms of the given SKUs' offers; costs what the rows cost, not the catalogue."""
        offer = self.offer_index[rows]
        columns = (self.offer_vendor, self.offer_min_order_units, self.offer_pack_units)
        return OfferTerms(*(column[offer].astype(np.int64) for column in columns))

    @cached_property
    def vendor_terms(self) -> VendorTerms:
        """Terms per vendor."""
        mean, sd, least = self._vendor_columns
        return VendorTerms(read_only(np.ceil(mean).astype(np.int64)), read_only(sd), read_only(least))

    @property
    def lazy_velocity(self) -> LazyVelocity:
        """The velocity without its decay to today, for kernels that need few SKUs' of it."""
        return LazyVelocity(read_only(self._state.velocity), float(velocity_decay(self._state, self.day_index)))


class Policy(Protocol):
    """Decides what to order; must not keep state between calls."""

    @property
    def name(self) -> str:
        """Name in tables and error messages."""
        ...

    def decide(self, view: ShopView) -> Orders:
        """Return the order lines of this day."""
        ...


@dataclass(frozen=True)
class OrderNothing:
    """Sell off what is there: the floor of every comparison."""

    name: str = "order_nothing"

    def decide(self, view: ShopView) -> Orders:
        """Return no order."""
        return Orders.none()


def above_vendor_minimum(view: ShopView, rows: IntArray, order_units: IntArray) -> npt.NDArray[np.bool_]:
    """Return which lines belong to vendors whose total of these lines reaches the vendor's minimum order value."""
    vendor = view.offer_vendor[view.offer_index[rows]]
    value = np.bincount(vendor, weights=order_units * view.unit_cost[rows], minlength=len(view.vendors))
    return np.asarray((value >= view.vendor_terms.min_order_value)[vendor])
