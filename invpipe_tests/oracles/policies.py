"""Allocation policy the plain way: an AllocationProblem over every SKU with demand, solved by `allocate`. Slow twin of the fast policy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invpipe.allocation import AllocationProblem, allocate, expected_values
from invpipe.arena import AllocationPolicy, Orders, ShopView


@dataclass(frozen=True)
class PlainAllocationPolicy:
    """Decides as `policy` does, from the definition."""

    policy: AllocationPolicy

    @property
    def name(self) -> str:
        """The name of the policy it stands for."""
        return self.policy.name

    def decide(self, view: ShopView) -> Orders:
        """Build the whole problem, allocate, drop lines that do not pay or that their vendor would refuse."""
        policy = self.policy
        rows = np.flatnonzero((view.offer_index >= 0) & (view.unit_cost < view.unit_price))
        if len(rows) == 0 or view.capital_available <= 0.0:
            return Orders.none()
        lead = np.ceil(view.lead_time_days_mean)
        rows, law = policy.source.law(view, rows, lead[rows].astype(np.int64) + view.review_period_days)
        rows, law = rows[law.mean > 0.0], law.take(law.mean > 0.0)
        if len(rows) == 0:
            return Orders.none()
        cost, days = view.unit_cost[rows], lead[rows].astype(np.int64) + view.review_period_days
        problem = AllocationProblem(
            skus=tuple(view.skus[r] for r in rows),
            vendors=tuple(view.vendors[v] for v in view.vendor_index[rows]),
            unit_price=view.unit_price[rows],
            unit_cost=cost,
            holding_cost=view.holding_cost_frac_per_day * cost * days,
            salvage_value=policy.leftover_value_frac * cost,
            inventory_position_units=view.on_hand_units[rows] + view.on_order_units[rows],
            demand=law,
            capital=view.capital_available,
            min_order_units=view.min_order_units[rows],
            pack_units=view.pack_units[rows],
            vendor_min_order_value=view.vendor_min_order_value[rows],
        )
        units = np.asarray(allocate(problem, method=policy.method, params=policy.params).order_units, dtype=np.int64)
        keep = units > 0
        if view.inbound_cost_per_line > 0.0:
            keep &= expected_values(problem, units) > view.inbound_cost_per_line
        rows, units = rows[keep], units[keep]
        vendor = view.vendor_index[rows]
        value = np.bincount(vendor, weights=units * view.unit_cost[rows], minlength=len(view.vendors))
        accepted = value[vendor] >= view.vendor_min_order_value[rows]
        return Orders(rows[accepted], units[accepted])
