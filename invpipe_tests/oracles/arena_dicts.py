"""Readable engine in an optimised shape: dicts by SKU, deques of orders by arrival day, offers kept sorted by bisect; no array, no numba.

It does what a careful programmer does without compiled code: only SKUs with an event are touched, the cheapest offer is the head of a
sorted list, velocities decay when they are read, orders wait in the bucket of their day. Same results as the kernel, to the last bit.
"""

from __future__ import annotations

import dataclasses
import math
import time
from bisect import bisect_left, insort
from collections import defaultdict, deque
from datetime import timedelta

import numpy as np

from invpipe.arena.kpis import BacktestResult
from invpipe.arena.params import BacktestParams
from invpipe.arena.tape import Tape
from invpipe_tests.oracles.arena import Order, Sku, _result

NO_KPI = {
    **dict.fromkeys(("demand_units", "sales_units", "lost_sales_units", "arrival_units", "on_hand_units", "on_order_units"), 0),
    **dict.fromkeys(("skus_out_of_stock_with_demand", "order_units", "order_lines", "refused_lines"), 0),
    **dict.fromkeys(("revenue", "cogs", "holding_cost", "inbound_cost", "profit_at_cost", "inventory_value"), 0.0),
    **dict.fromkeys(("on_order_value", "arrival_value", "capital_available", "order_value", "lost_estimate_units"), 0.0),
}


class DictShop:
    """State of the shop in dicts."""

    def __init__(self, tape: Tape, params: BacktestParams, seed: int) -> None:
        a = tape.arrays
        self.tape, self.params = tape, params
        self.rate = params.holding_cost_frac_per_year / 365.0
        self.gain = 1.0 - 0.5 ** (1.0 / params.velocity_half_life_days)
        views, units = int(a.prior_conversion_views.sum()), int(a.prior_conversion_units.sum())
        self.prior_views = params.conversion_prior_views if views else 0.0
        self.prior_units = units / views * params.conversion_prior_views if views else 0.0
        oldest = max((int(x) for x in a.prior_sales_age_days[:1]), default=0)
        self.decay = [0.5 ** (k / params.velocity_half_life_days) for k in range(oldest + tape.n_days + 1)]
        n = range(len(tape.skus))
        self.price = dict(enumerate(a.unit_price.tolist()))
        self.on_hand = dict(enumerate(a.opening_on_hand_units.tolist()))
        self.on_order = dict.fromkeys(n, 0)
        self.average = dict(enumerate(a.opening_unit_cost.tolist()))
        self.velocity = dict.fromkeys(n, 0.0)
        self.velocity_day = dict.fromkeys(n, -oldest)
        self.bought = dict(enumerate(a.prior_conversion_units.tolist()))
        self.looked = dict(enumerate(a.prior_conversion_views.tolist()))
        self.held_until = dict.fromkeys(n, 0)
        self.totals: dict[str, dict[int, float]] = {name: defaultdict(int) for name in ("demand", "sales")}
        self.totals |= {name: defaultdict(float) for name in ("revenue", "cogs", "holding", "inbound")}
        self.sold_on: dict[int, int] = {}
        self.offer_sku, self.offer_vendor = a.offer_sku.tolist(), a.offer_vendor.tolist()
        self.cost = a.opening_offer_unit_cost.tolist()
        self.in_stock = a.opening_offer_in_stock.tolist()
        self.minimum = a.opening_offer_min_order_units.tolist()
        self.pack = a.opening_offer_pack_units.tolist()
        self.live: dict[int, list[tuple[float, int]]] = defaultdict(list)
        for offer, sku in enumerate(self.offer_sku):
            if self.in_stock[offer]:
                insort(self.live[sku], (self.cost[offer], offer))
        self.noise = np.random.Generator(np.random.Philox(seed)).standard_normal((tape.n_days, len(tape.vendors)))
        self.waiting: dict[int, deque[Order]] = defaultdict(deque)
        self.orders: list[Order] = []
        self.units_on_hand, self.units_on_order = sum(self.on_hand.values()), 0
        self.inventory_value, self.on_order_value = 0.0, 0.0
        for sku in n:
            self.inventory_value += self.on_hand[sku] * self.average[sku]
        for age, sku, units in zip(a.prior_sales_age_days.tolist(), a.prior_sales_sku.tolist(), a.prior_sales_units.tolist(), strict=True):
            self.see(sku, -age, float(units))

    def see(self, sku: int, day: int, units: float) -> None:
        """Decay the velocity to the day and add what was wanted."""
        self.velocity[sku] = self.velocity[sku] * self.decay[day - self.velocity_day[sku]] + self.gain * units
        self.velocity_day[sku] = day

    def charge(self, sku: int, day: int) -> None:
        """Charge the stretch of days before `day` on which the stock did not change."""
        days = day - self.held_until[sku]
        if days > 0:
            self.totals["holding"][sku] += self.rate * (self.on_hand[sku] * self.average[sku]) * days
            self.held_until[sku] = day

    def cheapest(self, sku: int) -> tuple[float, int] | None:
        """Return (unit cost, offer) of the cheapest offer in stock."""
        live = self.live.get(sku)
        return live[0] if live else None

    def capital_available(self) -> float:
        """Return max(0, limit - inventory - on order)."""
        return max(0.0, self.params.capital_limit - self.inventory_value - self.on_order_value)

    def change_offer(self, offer: int, cost: float, in_stock: int, minimum: int, pack: int) -> None:
        """Apply a delta and keep the SKU's live offers sorted."""
        live = self.live[self.offer_sku[offer]]
        if self.in_stock[offer]:
            del live[bisect_left(live, (self.cost[offer], offer))]
        if not math.isnan(cost):
            self.cost[offer] = cost
        if in_stock >= 0:
            self.in_stock[offer] = in_stock
        if self.in_stock[offer]:
            insort(live, (self.cost[offer], offer))
        self.minimum[offer] = minimum or self.minimum[offer]
        self.pack[offer] = pack or self.pack[offer]

    def receive(self, day: int, kpi: dict) -> None:
        """Put the day's arrivals on the shelf."""
        for order in self.waiting.pop(day, ()):
            sku = order.sku
            self.charge(sku, day)
            before, value = self.on_hand[sku], order.units * order.unit_cost
            self.average[sku] = (before * self.average[sku] + value) / (before + order.units)
            self.on_hand[sku] = before + order.units
            self.on_order[sku] -= order.units
            self.units_on_hand += order.units
            self.units_on_order -= order.units
            self.inventory_value += value
            self.on_order_value -= value
            kpi["arrival_units"] += order.units
            kpi["arrival_value"] += value

    def sell(self, sku: int, wanted: int, day: int, kpi: dict) -> None:
        """Serve one SKU's demand from the shelf."""
        sold, totals = min(wanted, self.on_hand[sku]), self.totals
        totals["demand"][sku] += wanted
        kpi["demand_units"] += wanted
        kpi["sales_units"] += sold
        kpi["lost_sales_units"] += wanted - sold
        kpi["skus_out_of_stock_with_demand"] += sold < wanted
        if sold == 0:
            return
        self.charge(sku, day)
        revenue, cogs = sold * self.price[sku], sold * self.average[sku]
        self.on_hand[sku] -= sold
        self.units_on_hand -= sold
        self.bought[sku] += sold
        self.sold_on[sku] = day
        self.see(sku, day, float(sold))
        totals["sales"][sku] += sold
        totals["revenue"][sku] += revenue
        totals["cogs"][sku] += cogs
        self.inventory_value -= cogs
        kpi["revenue"] += revenue
        kpi["cogs"] += cogs

    def look(self, sku: int, views: int, day: int, kpi: dict) -> None:
        """Count the views of a SKU on the shelf, or estimate what its empty shelf lost."""
        if self.on_hand[sku] > 0 or self.sold_on.get(sku) == day:
            self.looked[sku] += views
            return
        weight = self.looked[sku] + self.prior_views
        if weight > 0:
            lost = views * ((self.bought[sku] + self.prior_units) / weight)
            self.see(sku, day, lost)
            kpi["lost_estimate_units"] += lost

    def place(self, day: int, lines: list[tuple[int, int]], kpi: dict) -> None:
        """Order the lines, but for those of vendors below their minimum."""
        a, per_vendor = self.tape.arrays, defaultdict(float)
        for sku, units in lines:
            cost, offer = self.live[sku][0]
            per_vendor[self.offer_vendor[offer]] += units * cost
        for sku, units in lines:
            cost, offer = self.live[sku][0]
            vendor = self.offer_vendor[offer]
            if per_vendor[vendor] < a.min_order_value[vendor]:
                kpi["refused_lines"] += 1
                continue
            late = float(a.lead_time_days_mean[vendor]) + float(a.lead_time_days_sd[vendor]) * float(self.noise[day, vendor])
            order = Order(day, sku, vendor, units, cost, day + max(1, round(late)))
            self.orders.append(order)
            self.waiting[order.arrival_day].append(order)
            self.on_order[sku] += units
            self.units_on_order += units
            self.on_order_value += units * cost
            self.totals["inbound"][sku] += self.params.inbound_cost_per_line
            kpi["order_lines"] += 1
            kpi["order_units"] += units
            kpi["order_value"] += units * cost
            kpi["inbound_cost"] += self.params.inbound_cost_per_line

    def warm_up_ends(self, day: int) -> None:
        """Start the totals anew."""
        self.held_until = dict.fromkeys(self.held_until, day)
        for total in self.totals.values():
            total.clear()

    def objects(self) -> list[Sku]:
        """Return the end of the run as the objects of the other oracle."""
        out = []
        for s in self.on_hand:
            sku = Sku(
                self.price[s], self.on_hand[s], self.average[s], self.velocity[s], self.velocity_day[s], self.bought[s], self.looked[s]
            )
            for name, total in self.totals.items():
                setattr(sku, name, total.get(s, 0 if name in ("demand", "sales") else 0.0))
            out.append(sku)
        return out


def run_dicts(tape: Tape, policy, params: BacktestParams, seed: int = 0) -> BacktestResult:
    """Replay the tape; `policy.decide_dicts(shop, day)` returns [(sku index, units), ...]."""
    shop, a, days = DictShop(tape, params, seed), tape.arrays, []
    begun = time.perf_counter()
    for day in range(tape.n_days):
        if day == params.warm_up_days:
            shop.warm_up_ends(day)
        kpi = dict(NO_KPI)
        rows = slice(int(a.delta_start[day]), int(a.delta_start[day + 1]))
        names = ("delta_offer", "delta_unit_cost", "delta_in_stock", "delta_min_order_units", "delta_pack_units")
        for delta in zip(*(getattr(a, name)[rows].tolist() for name in names), strict=True):
            shop.change_offer(*delta)
        shop.receive(day, kpi)
        rows = slice(int(a.demand_start[day]), int(a.demand_start[day + 1]))
        for sku, wanted in zip(a.demand_sku[rows].tolist(), a.demand_units[rows].tolist(), strict=True):
            shop.sell(sku, wanted, day, kpi)
        rows = slice(int(a.views_start[day]), int(a.views_start[day + 1]))
        for sku, views in zip(a.views_sku[rows].tolist(), a.views[rows].tolist(), strict=True):
            shop.look(sku, views, day, kpi)
        if day % params.review_period_days == 0:
            shop.place(day, policy.decide_dicts(shop, day), kpi)
        kpi["holding_cost"] = shop.rate * shop.inventory_value
        kpi["profit_at_cost"] = kpi["revenue"] - kpi["cogs"] - kpi["holding_cost"] - kpi["inbound_cost"]
        kpi["inventory_value"] = shop.inventory_value
        kpi["on_order_value"] = shop.on_order_value
        kpi["capital_available"] = shop.capital_available()
        kpi["on_hand_units"], kpi["on_order_units"] = shop.units_on_hand, shop.units_on_order
        days.append({"day": tape.start + timedelta(days=day), "counted": day >= params.warm_up_days, **kpi})
    seconds = time.perf_counter() - begun
    for sku in shop.on_hand:
        shop.charge(sku, tape.n_days)
    shop.skus = shop.objects()
    return dataclasses.replace(_result(tape, policy, params, seed, shop, days), phase_seconds={"days": seconds})
