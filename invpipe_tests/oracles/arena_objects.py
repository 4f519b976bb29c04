"""Plain engine: one object per SKU that lives through every day, as a first version is written.

Every SKU is asked every day for its arrivals, sales, views, offers and value; nothing is kept in step that can be added up anew where the
sum is exact. Orders are looked for in the list of all open ones. Same results as the kernel, to the last bit.
"""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta

from invpipe.arena.kpis import BacktestResult
from invpipe.arena.params import BacktestParams
from invpipe.arena.tape import Tape
from invpipe_tests.oracles.arena import Offer, Order, ReferenceShop, Sku, _result, rows_of
from invpipe_tests.oracles.arena_dicts import NO_KPI


class PlainSku:
    """One SKU; asks the shop for what concerns all SKUs."""

    def __init__(self, shop: ReferenceShop, index: int, books: Sku) -> None:
        self.shop, self.index, self.books = shop, index, books
        self.sold_today = 0
        self.best: Offer | None = None
        self.on_order = 0
        self.velocity_now = 0.0

    def change_offers(self, changes: dict[int, tuple]) -> None:
        """Apply what vendors changed today and look up the cheapest offer."""
        for offer in self.books.offers:
            if offer.index in changes:
                cost, in_stock, minimum, pack = changes[offer.index]
                offer.unit_cost = offer.unit_cost if cost != cost else cost  # NaN: unchanged
                offer.in_stock = offer.in_stock if in_stock == -1 else bool(in_stock)
                offer.min_order_units = minimum or offer.min_order_units
                offer.pack_units = pack or offer.pack_units
        self.best = self.books.cheapest()

    def sell(self, demand: dict[int, int], day: int, kpi: dict) -> None:
        """Serve today's demand from the shelf."""
        sku, wanted, shop = self.books, demand.get(self.index, 0), self.shop
        sold = self.sold_today = min(wanted, sku.on_hand)
        kpi["demand_units"] += wanted
        kpi["sales_units"] += sold
        kpi["lost_sales_units"] += wanted - sold
        kpi["skus_out_of_stock_with_demand"] += sold < wanted
        sku.demand += wanted
        if sold:
            shop.charge_holding(sku, day)
            revenue, cogs = sold * sku.price, sold * sku.average_cost
            sku.on_hand -= sold
            sku.sales += sold
            sku.revenue += revenue
            sku.cogs += cogs
            shop.inventory_value -= cogs
            kpi["revenue"] += revenue
            kpi["cogs"] += cogs
            sku.conversion_units += sold
            shop.see_velocity(sku, day, float(sold))

    def look(self, views: dict[int, int], day: int, kpi: dict) -> None:
        """Count today's views, or estimate what an empty shelf lost."""
        sku, seen, shop = self.books, views.get(self.index, 0), self.shop
        if seen == 0:
            return
        if sku.on_hand > 0 or self.sold_today > 0:
            sku.conversion_views += seen
        elif sku.conversion_views + shop.prior_views > 0:
            lost = seen * ((sku.conversion_units + shop.prior_units) / (sku.conversion_views + shop.prior_views))
            kpi["lost_estimate_units"] += lost
            shop.see_velocity(sku, day, lost)

    def close(self, day: int) -> None:
        """Bring what the policy sees up to date."""
        self.velocity_now = self.shop.velocity(self.index, day)


def _receive(shop: ReferenceShop, plain: list[PlainSku], day: int, kpi: dict) -> None:
    for order in shop.orders:
        if order.arrival_day == day:
            sku = shop.skus[order.sku]
            shop.charge_holding(sku, day)
            value = order.units * order.unit_cost
            sku.average_cost = (sku.on_hand * sku.average_cost + value) / (sku.on_hand + order.units)
            sku.on_hand += order.units
            plain[order.sku].on_order -= order.units
            shop.inventory_value += value
            shop.on_order_value -= value
            kpi["arrival_units"] += order.units
            kpi["arrival_value"] += value


def _place(shop: ReferenceShop, plain: list[PlainSku], lines: list[tuple[int, int]], day: int, kpi: dict) -> None:
    per_vendor: dict[int, float] = {}
    for s, units in lines:
        offer = plain[s].best
        per_vendor[offer.vendor] = per_vendor.get(offer.vendor, 0.0) + units * offer.unit_cost
    for s, units in lines:
        offer = plain[s].best
        if per_vendor[offer.vendor] < shop.tape.arrays.min_order_value[offer.vendor]:
            kpi["refused_lines"] += 1
            continue
        shop.orders.append(Order(day, s, offer.vendor, units, offer.unit_cost, day + shop.lead_days(day, offer.vendor)))
        plain[s].on_order += units
        shop.on_order_value += units * offer.unit_cost
        shop.skus[s].inbound += shop.params.inbound_cost_per_line
        kpi["order_lines"] += 1
        kpi["order_units"] += units
        kpi["order_value"] += units * offer.unit_cost
        kpi["inbound_cost"] += shop.params.inbound_cost_per_line


def run_objects(tape: Tape, policy, params: BacktestParams, seed: int = 0) -> BacktestResult:
    """Replay the tape; `policy.decide_objects(shop, skus, day)` returns [(sku index, units), ...]."""
    shop, a, days = ReferenceShop(tape, params, seed), tape.arrays, []
    plain = [PlainSku(shop, s, books) for s, books in enumerate(shop.skus)]
    begun = time.perf_counter()
    for day in range(tape.n_days):
        if day == params.warm_up_days:
            for sku in shop.skus:
                sku.held_until = day
                sku.demand = sku.sales = 0
                sku.revenue = sku.cogs = sku.holding = sku.inbound = 0.0
        kpi = dict(NO_KPI)
        changes = {
            int(a.delta_offer[r]): (
                float(a.delta_unit_cost[r]),
                int(a.delta_in_stock[r]),
                int(a.delta_min_order_units[r]),
                int(a.delta_pack_units[r]),
            )
            for r in rows_of(a.delta_start, day)
        }
        demand = {int(a.demand_sku[r]): int(a.demand_units[r]) for r in rows_of(a.demand_start, day)}
        views = {int(a.views_sku[r]): int(a.views[r]) for r in rows_of(a.views_start, day)}
        for sku in plain:
            sku.change_offers(changes)
        _receive(shop, plain, day, kpi)
        for sku in plain:
            sku.sell(demand, day, kpi)
        for sku in plain:
            sku.look(views, day, kpi)
        for sku in plain:
            sku.close(day)
        if day % params.review_period_days == 0:
            _place(shop, plain, policy.decide_objects(shop, plain, day), day, kpi)
        kpi["holding_cost"] = shop.rate * shop.inventory_value
        kpi["profit_at_cost"] = kpi["revenue"] - kpi["cogs"] - kpi["holding_cost"] - kpi["inbound_cost"]
        kpi["inventory_value"], kpi["on_order_value"] = shop.inventory_value, shop.on_order_value
        kpi["capital_available"] = shop.capital_available()
        kpi["on_hand_units"] = sum(sku.books.on_hand for sku in plain)
        kpi["on_order_units"] = sum(sku.on_order for sku in plain)
        days.append({"day": tape.start + timedelta(days=day), "counted": day >= params.warm_up_days, **kpi})
    seconds = time.perf_counter() - begun
    for sku in shop.skus:
        shop.charge_holding(sku, tape.n_days)
    return dataclasses.replace(_result(tape, policy, params, seed, shop, days), phase_seconds={"days": seconds})
