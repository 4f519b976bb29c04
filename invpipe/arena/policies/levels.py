r"""Stock level policies: (s, S) and base stock on the EWMA velocity, each SKU by itself.

With velocity v, protection window n = L + R (L = ceil of the mean lead time, R = review period), lead time deviation
:math:`\sigma_L` and z = `safety_factor`:

.. math:: x = v n + z \sqrt{v n (1 + n / E) + v^2 \sigma_L^2}, \quad s = \lfloor x + 1/2 \rfloor - 1, \quad
   S = \lfloor x + v \cdot \text{cover days} + 1/2 \rfloor

The variance is that of Poisson demand, of the velocity itself - an EWMA with gain g has that of a mean over E = (2 - g) / g days - and of
the lead time. A SKU whose inventory position is at or below s orders up to S, in whole lots, rounded up. Base stock is the case without
cover days, S = s + 1.

There is no shared optimisation: lines go by cover left (position / velocity, least first, ties to the first SKU), each in full or not at
all, while the capital lasts; lines of vendors that would refuse them are left out. The two parameters are for a sweep to tune.

Source: Silver, Pyke and Thomas (2017), Inventory and Production Management in Supply Chains, 4th ed., ch. 6-7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.arena.policies.base import LazyVelocity, Orders, ShopView, above_vendor_minimum
from invpipe.arena.policies.candidates import Shelf, ewma_exposure_days, shelf_of
from invpipe.errors import ArenaError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@njit(cache=True, nogil=True, error_model="numpy")
def _levels(
    shelf: Shelf,
    lazy: LazyVelocity,
    lead_time_days_sd: FloatArray,
    review_days: int,
    exposure_days: float,
    safety_factor: float,
    cover_days: float,
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the SKUs at or below s, the units up to S, and the days their position covers."""
    n, count = len(shelf.unit_price), 0
    rows, units, cover = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n)
    for sku in range(n):
        v = lazy.velocity[sku]
        if v <= 0.0 or not shelf.unit_cost[sku] < shelf.unit_price[sku]:  # without an offer the cost is inf
            continue
        v *= lazy.decay
        vendor = shelf.offer_vendor[shelf.offer_index[sku]]
        window = shelf.lead_days[vendor] + review_days
        spread = np.sqrt(v * window * (1.0 + window / exposure_days) + (v * lead_time_days_sd[vendor]) ** 2)
        level = v * window + safety_factor * spread
        position = shelf.on_hand[sku] + shelf.on_order[sku]
        if v > 0.0 and position < np.floor(level + 0.5):
            rows[count], units[count] = sku, int(np.floor(level + v * cover_days + 0.5)) - position
            cover[count] = position / v
            count += 1
    return rows[:count].copy(), units[:count].copy(), cover[:count].copy()


@njit(cache=True, nogil=True)
def _fitting(cost: FloatArray, capital: float) -> npt.NDArray[np.bool_]:
    fits, left = np.zeros(len(cost), np.bool_), capital
    for line in range(len(cost)):
        if cost[line] <= left:
            fits[line] = True
            left -= cost[line]
    return fits


def while_capital_lasts(view: ShopView, rows: IntArray, units: IntArray) -> Orders:
    """Return the lines that fit the capital, in the given order, in full or not at all, and that their vendors accept.

    Parameters
    ----------
    view
        State of the shop.
    rows, units
        Lines wanted, units > 0; rounded up to whole lots here.
    """
    terms = view.offer_terms(rows)
    pack = terms.pack_units
    units = -(-np.maximum(units, terms.min_order_units) // pack) * pack
    fits = _fitting(units * view.unit_cost[rows], view.capital_available)
    rows, units = rows[fits], units[fits]
    accepted = above_vendor_minimum(view, rows, units)
    return Orders(rows[accepted], units[accepted])


@dataclass(frozen=True)
class SsPolicy:
    """(s, S): at or below the reorder point s, order up to S.

    Parameters
    ----------
    safety_factor
        Standard deviations of the window's demand above its mean, finite.
    cover_days
        Days of demand between s and S, >= 0.
    name
        Name in tables and error messages.
    """

    safety_factor: float = 1.0
    cover_days: float = 14.0
    name: str = "ss"

    def __post_init__(self) -> None:
        if not np.isfinite(self.safety_factor):
            msg = f"safety_factor is {self.safety_factor}; it must be finite, 1 covers one standard deviation"
            raise ArenaError(msg)
        if not 0.0 <= self.cover_days < np.inf:
            msg = f"cover_days is {self.cover_days}; it must be >= 0 and finite, 0 is a base stock"
            raise ArenaError(msg)

    def decide(self, view: ShopView) -> Orders:
        """Return the lines up to S, least cover first, while the capital lasts."""
        rows, units, cover = _levels(
            shelf_of(view),
            view.lazy_velocity,
            view.vendor_terms.lead_time_days_sd,
            view.review_period_days,
            ewma_exposure_days(view.velocity_half_life_days),
            self.safety_factor,
            self.cover_days,
        )
        urgent = np.argsort(cover, kind="stable")
        return while_capital_lasts(view, rows[urgent], units[urgent])


@dataclass(frozen=True)
class BaseStock:
    """Base stock: order up to S on every review day; (s, S) without cover days.

    Parameters
    ----------
    safety_factor
        Standard deviations of the window's demand above its mean, finite.
    name
        Name in tables and error messages.
    """

    safety_factor: float = 1.0
    name: str = "base_stock"

    def __post_init__(self) -> None:
        SsPolicy(self.safety_factor, 0.0)

    def decide(self, view: ShopView) -> Orders:
        """Return the lines up to S, least cover first, while the capital lasts."""
        return SsPolicy(self.safety_factor, 0.0, self.name).decide(view)
