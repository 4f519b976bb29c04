"""Readable reference of the arena: one object per SKU, vendor and order, written from the definition of a day.

No array, no increment that the definition does not have: the cheapest offer is looked up among all offers, money in stock is added up per
day where that is exact. It reads a tape only through `Tape.arrays` and answers with a `BacktestResult`, so that fingerprints can be
compared. Floating point sums run in the order of the events, as the definition of the kernel says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import polars as pl

from invpipe.arena.kpis import BacktestResult
from invpipe.arena.params import BacktestParams
from invpipe.arena.tape import Tape


@dataclass
class Offer:
    """State of one vendor's offer."""

    index: int
    vendor: int
    unit_cost: float | None
    in_stock: bool
    min_order_units: int
    pack_units: int


@dataclass
class Order:
    """One placed order."""

    day: int
    sku: int
    vendor: int
    units: int
    unit_cost: float
    arrival_day: int


@dataclass
class Sku:
    """State and totals of one SKU."""

    price: float
    on_hand: int
    average_cost: float
    velocity: float
    velocity_day: int
    conversion_units: int
    conversion_views: int
    offers: list[Offer] = field(default_factory=list)
    held_until: int = 0
    demand: int = 0
    sales: int = 0
    revenue: float = 0.0
    cogs: float = 0.0
    holding: float = 0.0
    inbound: float = 0.0

    def cheapest(self) -> Offer | None:
        """Return the cheapest offer in stock, the first of equals."""
        return min((o for o in self.offers if o.in_stock), key=lambda o: (o.unit_cost, o.index), default=None)


class ReferenceShop:
    """The shop a reference run changes; also what a policy may look at."""

    def __init__(self, tape: Tape, params: BacktestParams, seed: int) -> None:
        a = tape.arrays
        self.tape, self.params, self.n_days = tape, params, tape.n_days
        self.rate = params.holding_cost_frac_per_year / 365.0
        self.gain = 1.0 - 0.5 ** (1.0 / params.velocity_half_life_days)
        views, units = int(a.prior_conversion_views.sum()), int(a.prior_conversion_units.sum())
        self.prior_views = params.conversion_prior_views if views else 0.0
        self.prior_units = units / views * params.conversion_prior_views if views else 0.0
        oldest = max((int(x) for x in a.prior_sales_age_days), default=0)
        self.skus = [
            Sku(
                price=float(a.unit_price[s]),
                on_hand=int(a.opening_on_hand_units[s]),
                average_cost=float(a.opening_unit_cost[s]),
                velocity=0.0,
                velocity_day=-oldest,
                conversion_units=int(a.prior_conversion_units[s]),
                conversion_views=int(a.prior_conversion_views[s]),
            )
            for s in range(len(tape.skus))
        ]
        self.offers: list[Offer] = []
        for o in range(len(a.offer_sku)):
            cost = float(a.opening_offer_unit_cost[o])
            offer = Offer(
                o,
                int(a.offer_vendor[o]),
                None if math.isnan(cost) else cost,
                bool(a.opening_offer_in_stock[o]),
                int(a.opening_offer_min_order_units[o]),
                int(a.opening_offer_pack_units[o]),
            )
            self.offers.append(offer)
            self.skus[a.offer_sku[o]].offers.append(offer)
        noise = np.random.Generator(np.random.Philox(seed)).standard_normal((tape.n_days, len(tape.vendors)))
        self.noise = noise
        self.orders: list[Order] = []
        self.inventory_value = 0.0
        self.on_order_value = 0.0
        for sku in self.skus:
            self.inventory_value += sku.on_hand * sku.average_cost
        for age, s, n in zip(a.prior_sales_age_days, a.prior_sales_sku, a.prior_sales_units, strict=True):
            self.see_velocity(self.skus[s], -int(age), float(n))

    def see_velocity(self, sku: Sku, day: int, units: float) -> None:
        """Decay the velocity to the day and add what was wanted."""
        sku.velocity = sku.velocity * 0.5 ** ((day - sku.velocity_day) / self.params.velocity_half_life_days) + self.gain * units
        sku.velocity_day = day

    def velocity(self, s: int, day: int) -> float:
        """Return the velocity at the end of the day."""
        sku = self.skus[s]
        return sku.velocity * 0.5 ** ((day - sku.velocity_day) / self.params.velocity_half_life_days)

    def charge_holding(self, sku: Sku, day: int) -> None:
        """Charge the stretch of days before `day` on which the stock did not change."""
        if day > sku.held_until:
            sku.holding += self.rate * (sku.on_hand * sku.average_cost) * (day - sku.held_until)
            sku.held_until = day

    def capital_available(self) -> float:
        """Return max(0, limit - inventory - on order)."""
        return max(0.0, self.params.capital_limit - self.inventory_value - self.on_order_value)

    def lead_days(self, day: int, vendor: int) -> int:
        """Return the lead time of an order placed on the day."""
        a = self.tape.arrays
        return max(1, round(float(a.lead_time_days_mean[vendor]) + float(a.lead_time_days_sd[vendor]) * float(self.noise[day, vendor])))


def rows_of(start: np.ndarray, day: int) -> range:
    """Return the event rows of a day."""
    return range(int(start[day]), int(start[day + 1]))


def run_reference(tape: Tape, policy, params: BacktestParams, seed: int = 0) -> BacktestResult:
    """Replay the tape; `policy.decide_reference(shop, day)` returns [(sku index, units), ...]."""
    shop, a, days = ReferenceShop(tape, params, seed), tape.arrays, []
    for day in range(tape.n_days):
        if day == params.warm_up_days:
            for sku in shop.skus:
                sku.held_until = day
                sku.demand = sku.sales = 0
                sku.revenue = sku.cogs = sku.holding = sku.inbound = 0.0
        kpi = {
            **dict.fromkeys(("demand_units", "sales_units", "lost_sales_units", "arrival_units", "on_hand_units", "on_order_units"), 0),
            **dict.fromkeys(("skus_out_of_stock_with_demand", "order_units", "order_lines", "refused_lines"), 0),
            **dict.fromkeys(("revenue", "cogs", "holding_cost", "inbound_cost", "profit_at_cost", "inventory_value"), 0.0),
            **dict.fromkeys(("on_order_value", "arrival_value", "capital_available", "order_value", "lost_estimate_units"), 0.0),
        }

        # 1. offer deltas
        for row in rows_of(a.delta_start, day):
            offer = shop.offers[a.delta_offer[row]]
            if not math.isnan(a.delta_unit_cost[row]):
                offer.unit_cost = float(a.delta_unit_cost[row])
            if a.delta_in_stock[row] != -1:
                offer.in_stock = bool(a.delta_in_stock[row])
            offer.min_order_units = int(a.delta_min_order_units[row]) or offer.min_order_units
            offer.pack_units = int(a.delta_pack_units[row]) or offer.pack_units

        # 2. arrivals, in order of placement
        for order in shop.orders:
            if order.arrival_day == day:
                sku = shop.skus[order.sku]
                shop.charge_holding(sku, day)
                value = order.units * order.unit_cost
                sku.average_cost = (sku.on_hand * sku.average_cost + value) / (sku.on_hand + order.units)
                sku.on_hand += order.units
                shop.inventory_value += value
                shop.on_order_value -= value
                kpi["arrival_units"] += order.units
                kpi["arrival_value"] += value
        opened_empty = {s for s, sku in enumerate(shop.skus) if sku.on_hand == 0}

        # 3. sales against demand
        for row in rows_of(a.demand_start, day):
            sku, wanted = shop.skus[a.demand_sku[row]], int(a.demand_units[row])
            sold = min(wanted, sku.on_hand)
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

        # 4. censored-demand estimate
        for row in rows_of(a.views_start, day):
            s, views = int(a.views_sku[row]), int(a.views[row])
            sku = shop.skus[s]
            if s not in opened_empty:
                sku.conversion_views += views
            elif sku.conversion_views + shop.prior_views > 0:
                conversion = (sku.conversion_units + shop.prior_units) / (sku.conversion_views + shop.prior_views)
                lost = views * conversion
                kpi["lost_estimate_units"] += lost
                shop.see_velocity(sku, day, lost)

        # 5. decide, 6. place orders
        if day % params.review_period_days == 0:
            lines = policy.decide_reference(shop, day)
            per_vendor: dict[int, float] = {}
            for s, units in lines:
                offer = shop.skus[s].cheapest()
                per_vendor[offer.vendor] = per_vendor.get(offer.vendor, 0.0) + units * offer.unit_cost
            for s, units in lines:
                offer = shop.skus[s].cheapest()
                if per_vendor[offer.vendor] < a.min_order_value[offer.vendor]:
                    kpi["refused_lines"] += 1
                    continue
                arrival = day + shop.lead_days(day, offer.vendor)
                shop.orders.append(Order(day, s, offer.vendor, units, offer.unit_cost, arrival))
                shop.on_order_value += units * offer.unit_cost
                shop.skus[s].inbound += params.inbound_cost_per_line
                kpi["order_lines"] += 1
                kpi["order_units"] += units
                kpi["order_value"] += units * offer.unit_cost
                kpi["inbound_cost"] += params.inbound_cost_per_line

        # 7. holding cost, 8. snapshot
        kpi["holding_cost"] = shop.rate * shop.inventory_value
        kpi["profit_at_cost"] = kpi["revenue"] - kpi["cogs"] - kpi["holding_cost"] - kpi["inbound_cost"]
        kpi["inventory_value"] = shop.inventory_value
        kpi["on_order_value"] = shop.on_order_value
        kpi["capital_available"] = shop.capital_available()
        kpi["on_hand_units"] = sum(sku.on_hand for sku in shop.skus)
        kpi["on_order_units"] = sum(o.units for o in shop.orders if o.arrival_day > day)
        days.append({"day": tape.start + timedelta(days=day), "counted": day >= params.warm_up_days, **kpi})
    for sku in shop.skus:
        shop.charge_holding(sku, tape.n_days)
    return _result(tape, policy, params, seed, shop, days)


def _result(tape: Tape, policy, params: BacktestParams, seed: int, shop: ReferenceShop, day_rows: list[dict]) -> BacktestResult:
    def day_of(index: int) -> date:
        return tape.start + timedelta(days=index)

    on_the_way: dict[int, list[Order]] = {s: [] for s in range(len(shop.skus))}
    for order in shop.orders:
        if order.arrival_day >= tape.n_days:
            on_the_way[order.sku].append(order)
    totals = [
        {
            "sku": tape.skus[s],
            "demand_units": sku.demand,
            "sales_units": sku.sales,
            "revenue": sku.revenue,
            "cogs": sku.cogs,
            "holding_cost": sku.holding,
            "inbound_cost": sku.inbound,
            "ending_on_hand_units": sku.on_hand,
            "ending_on_order_units": sum(o.units for o in on_the_way[s]),
            "ending_stock_value": sku.on_hand * sku.average_cost,
            "ending_pipeline_value": float(sum(o.units * o.unit_cost for o in on_the_way[s])),
        }
        for s, sku in enumerate(shop.skus)
    ]
    orders = [(day_of(o.day), tape.skus[o.sku], tape.vendors[o.vendor], o.units, o.unit_cost, day_of(o.arrival_day)) for o in shop.orders]
    span = [row for row in day_rows if row["counted"]]
    summary: dict[str, float] = {"n_days": len(span)}
    for name in ("demand_units", "sales_units", "lost_sales_units", "order_units", "order_lines", "refused_lines"):
        summary[name] = sum(row[name] for row in span)
    for name in ("revenue", "cogs", "holding_cost", "inbound_cost", "order_value", "lost_estimate_units"):
        summary[name] = math.fsum(row[name] for row in span)
    summary["fill_rate"] = summary["sales_units"] / summary["demand_units"] if summary["demand_units"] else 1.0
    summary["ending_stock_value"] = math.fsum(row["ending_stock_value"] for row in totals)
    summary["ending_pipeline_value"] = math.fsum(row["ending_pipeline_value"] for row in totals)
    used = [row["inventory_value"] for row in span] + [row["on_order_value"] for row in span]
    summary["capital_used_mean"] = math.fsum(used) / len(span)
    summary["capital_used_max"] = max(row["inventory_value"] + row["on_order_value"] for row in span)
    ending = summary["ending_stock_value"] + summary["ending_pipeline_value"]
    earned = summary["revenue"] - summary["cogs"] - summary["holding_cost"] - summary["inbound_cost"]
    summary["profit"] = earned - (1.0 - params.liquidation_frac) * ending
    summary["profit_ending_at_zero"] = earned - ending
    summary["profit_ending_at_cost"] = earned
    order_schema = {
        "day": pl.Date, "sku": pl.String, "vendor": pl.String, "order_units": pl.Int64, "unit_cost": pl.Float64, "arrival_day": pl.Date
    }  # fmt: skip
    return BacktestResult(
        policy=policy.name,
        seed=seed,
        params=params,
        tape_fingerprint=tape.fingerprint(),
        days=pl.DataFrame(day_rows),
        orders=pl.DataFrame(orders, schema=order_schema, orient="row"),
        sku_totals=pl.DataFrame(totals),
        summary=summary,
        phase_seconds={},
    )
