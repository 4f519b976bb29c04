"""Clairvoyant policy: orders with the tape's demand in hand, to show how much of the possible a policy without it earns.

On a review day it simulates, per SKU, the demand until an order placed now arrives (day d + L) against the inventory position, and buys
what will be missing from then until the order of the next review can arrive (d + L + R), plus `safety_sds` standard deviations of the
lead time. Where a vendor's minimum order value is not reached it looks further ahead (:data:`EXTENSION_DAYS`) for that vendor. Lines go
by profit per unit of money until the capital is spent.

It knows demand, not lead times or future offers, and it is a good heuristic, not an optimum: the proven limit is
:func:`invpipe.arena.clairvoyant.clairvoyant_bound`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from invpipe.arena.policies.base import Orders, ShopView, above_vendor_minimum
from invpipe.arena.policies.record import DemandRecord
from invpipe.arena.tape import Tape

IntArray = npt.NDArray[np.int64]

#: Further days of demand that are bought where a vendor's minimum is not reached, tried in this order.
EXTENSION_DAYS = (0, 7, 14, 28, 56, 112)


@dataclass(frozen=True)
class ClairvoyantPolicy:
    """Order what the tape's demand will need.

    Parameters
    ----------
    tape
        Tape whose demand it knows.
    safety_sds
        Standard deviations of the lead time to cover, >= 0.
    """

    tape: Tape
    name: str = "clairvoyant"
    safety_sds: float = 2.0

    @cached_property
    def record(self) -> DemandRecord:
        """The tape's demand by SKU, sorted when first read."""
        return DemandRecord.of(self.tape)

    def _lines(self, view: ShopView, rows: IntArray, extra_days: npt.NDArray[np.int64]) -> IntArray:
        """Return the units to order per row so that nothing is missing until the next order arrives, `extra_days` later."""
        wanted = self.record.units_between
        arrival = view.day_index + view.lead_days(rows)
        safety = np.ceil(self.safety_sds * view.lead_time_days_sd[rows]).astype(np.int64)
        position = view.on_hand_units[rows] + view.on_order_units[rows]
        left = np.maximum(position - wanted(rows, view.day_index + 1, arrival), 0)
        missing = np.maximum(wanted(rows, arrival, arrival + view.review_period_days + safety + extra_days) - left, 0)
        pack = view.pack_units[rows]
        units = -(-np.maximum(missing, view.min_order_units[rows]) // pack) * pack
        gain = view.unit_price[rows] * missing - view.unit_cost[rows] * (units - view.liquidation_frac * (units - missing))
        return np.where((missing > 0) & (gain > view.inbound_cost_per_line), units, 0)

    def decide(self, view: ShopView) -> Orders:
        """Return the lines that fit under the capital, best profit per unit of money first."""
        rows = np.flatnonzero((view.offer_index >= 0) & (view.unit_cost < view.unit_price))
        units = np.zeros(len(rows), dtype=np.int64)
        open_rows = np.ones(len(rows), dtype=np.bool_)
        for days in EXTENSION_DAYS:
            units[open_rows] = self._lines(view, rows[open_rows], np.full(int(open_rows.sum()), days, dtype=np.int64))
            open_rows = ~above_vendor_minimum(view, rows, units)
            if not open_rows.any():
                break
        cost = view.unit_cost[rows]
        order = np.argsort(-(view.unit_price[rows] - cost) / cost, kind="stable")
        rows, units = rows[order], units[order]
        rows, units = rows[units > 0], units[units > 0]
        fits = np.cumsum(units * view.unit_cost[rows]) <= view.capital_available
        rows, units = rows[fits], units[fits]
        accepted = above_vendor_minimum(view, rows, units)
        return Orders(rows[accepted], units[accepted])
