"""The allocation problem of one day, from what the history says at its end.

Rows are SKUs with a vendor in stock, at the cheapest unit cost, ties to the vendor first in the alphabet. SKUs that cost at least their
list price have no row: no unit of them can earn anything (the arena's policies leave them out alike). The protection window of a row is
its vendor's mean lead time, rounded up, plus the review period. Stock on hand is the opening stock of the day (its last row) less the
day's sales.

:func:`daily_offers` takes the other offers of these SKUs in as well: those below the list price whose vendor delivers no later than the
cheapest one. They differ in cost, packs, minimum and vendor; what a unit is worth is the same whoever brings it, over the window of the
cheapest offer, which is a little too low for a faster vendor. A vendor both dearer and slower could only help by its packs.

Limit: the contracts know no table of open orders, so units on their way are not counted; a shop that plans again before an order
has arrived must lower the capital or wait out the lead time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

import numpy as np
import polars as pl

from invpipe.allocation.exact import procurement_of
from invpipe.allocation.plan import Method, OrderPlan, allocate
from invpipe.allocation.problem import AllocationParams, AllocationProblem, IntArray
from invpipe.allocation.procurement import ProcurementProblem
from invpipe.allocation.reasons import LINE_COLUMNS, order_lines
from invpipe.errors import AllocationError
from invpipe.forecast.law import CountLaw, WindowDemand
from invpipe.history import ShopHistory

DailyMethod = Literal["auto"] | Method

#: Above so many offers branch and bound has no memory to spare.
MOST_MIP_OFFERS = 30_000


@dataclass(frozen=True)
class PlanningParams:
    """How orders are planned.

    Parameters
    ----------
    review_period_days
        Days between two decisions, >= 1.
    capital_limit
        Working capital, money; None: `capital_limit_frac` of the stock's value at cost.
    capital_limit_frac
        Share of the stock's value at cost, > 0.
    holding_cost_frac_per_year
        Holding cost of a unit per year as a share of its cost, >= 0.
    leftover_value_frac
        Value of a unit left over at the window's end as a share of its cost, 0 to below 1.
    """

    review_period_days: int = 7
    capital_limit: float | None = None
    capital_limit_frac: float = 1.25
    holding_cost_frac_per_year: float = 0.2
    leftover_value_frac: float = 0.9

    def limit(self, stock_value: float) -> float:
        """Return the working capital limit, money, for a stock of this value at cost."""
        return self.capital_limit if self.capital_limit is not None else self.capital_limit_frac * stock_value


def _required(history: ShopHistory, table: Literal["vendors", "offers", "stock_daily"]) -> pl.DataFrame:
    frame: pl.DataFrame | None = getattr(history, table)
    if frame is None:
        msg = f"table {table} is absent; an order plan needs vendors, offers and stock_daily. Map it in the source"
        raise AllocationError(msg)
    return frame


def protection_windows(history: ShopHistory, review_period_days: int) -> list[tuple[int, int]]:
    """Return the windows (1, lead time + review period) that occur among the vendors, rising."""
    lead = _required(history, "vendors")["lead_time_days_mean"].ceil().cast(pl.Int64)
    return [(1, int(days)) for days in (lead + review_period_days).unique().sort()]


def usable_offers(history: ShopHistory) -> pl.DataFrame:
    """Return the latest offers of vendors with stock at the end of the history's last day, by sku, unit_cost, vendor.

    Key (sku, vendor); columns unit_cost, min_order_units, pack_units, lead_days, min_order_value.
    """
    vendors = _required(history, "vendors").with_columns(pl.col("lead_time_days_mean").ceil().cast(pl.Int64).alias("lead_days"))
    latest = _required(history, "offers").group_by("sku", "vendor").agg(pl.all().sort_by("observed_at").last())
    columns = ("sku", "vendor", "unit_cost", "min_order_units", "pack_units", "lead_days", "min_order_value")
    return latest.filter("in_stock").join(vendors, on="vendor", how="inner").select(columns).sort("sku", "unit_cost", "vendor")


def cheapest_offers(history: ShopHistory) -> pl.DataFrame:
    """Return each SKU's cheapest vendor with stock at the end of the history's last day.

    Key sku; columns vendor, unit_cost, min_order_units, pack_units, lead_days, min_order_value. SKUs without a vendor in stock have no row.
    """
    return usable_offers(history).unique("sku", keep="first", maintain_order=True)


def closing_stock(history: ShopHistory) -> pl.DataFrame:
    """Return units on hand at the end of the history's last day, key sku, column on_hand_units, every SKU once."""
    last = history.last_day
    opening = _required(history, "stock_daily").group_by("sku").agg(pl.col("on_hand_units").sort_by("day").last())
    sold = history.sales_daily.filter(pl.col("day") == last).select("sku", "sales_units")
    stock = history.items.select("sku").join(opening, on="sku", how="left").join(sold, on="sku", how="left")
    on_hand = (pl.col("on_hand_units").fill_null(0) - pl.col("sales_units").fill_null(0)).clip(0)
    return stock.select("sku", on_hand.cast(pl.Int64)).sort("sku")


def stock_value(history: ShopHistory) -> float:
    """Return the value at cost of the stock at the end of the last day: units times the last known lowest cost, else list price, money."""
    costs = history.offers
    known = pl.DataFrame(schema={"sku": pl.String, "unit_cost": pl.Float64})
    if costs is not None:
        latest = costs.group_by("sku", "vendor").agg(pl.col("unit_cost").sort_by("observed_at").last())
        known = latest.group_by("sku").agg(pl.col("unit_cost").min())
    priced = closing_stock(history).join(known, on="sku", how="left").join(history.items, on="sku").sort("sku")
    return float((priced["on_hand_units"] * priced["unit_cost"].fill_null(priced["list_price"])).sum())


def daily_problem(history: ShopHistory, day: date, demand: WindowDemand, params: PlanningParams) -> AllocationProblem:
    """Return the allocation problem at the end of a day.

    Parameters
    ----------
    history
        Shop; nothing after the day is read.
    day
        Day of the decision, the cutoff of the demand.
    demand
        Law of demand of all SKUs over :func:`protection_windows`.
    params
        Costs and capital.

    Raises
    ------
    AllocationError
        Where vendors, offers or stock are absent, the demand has another cutoff, a window is missing, or there is nothing to order.
    """
    if demand.cutoff != day:
        msg = f"the demand was forecast at the end of {demand.cutoff}, the plan is for {day}; forecast at the plan's day"
        raise AllocationError(msg)
    known = history.until(day)
    rows = cheapest_offers(known).join(closing_stock(known), on="sku").join(known.items.select("sku", "list_price"), on="sku").sort("sku")
    rows = rows.filter(pl.col("unit_cost") < pl.col("list_price"))
    if len(rows) == 0:
        msg = (
            f"no vendor has stock of any of {len(known.skus)} SKUs below its list price at the end of {day}; "
            "check offers.in_stock, offers.unit_cost and items.list_price"
        )
        raise AllocationError(msg)
    days = rows["lead_days"].to_numpy() + params.review_period_days
    window_of = {last: j for j, (first, last) in enumerate(demand.windows) if first == 1}
    missing = sorted(set(days.tolist()) - set(window_of))
    if missing:
        msg = (
            f"the forecast lacks {len(missing)} windows, first (1, {missing[0]}); forecast protection_windows(history, review_period_days)"
        )
        raise AllocationError(msg)
    window = np.array([window_of[d] for d in days.tolist()])
    sku_row = pl.Series(demand.skus).search_sorted(rows["sku"]).to_numpy()
    law = CountLaw(demand.mean[sku_row, window], demand.size[sku_row, window])
    cost = rows["unit_cost"].to_numpy()
    value = stock_value(known)
    return AllocationProblem(
        skus=tuple(rows["sku"]),
        vendors=tuple(rows["vendor"]),
        unit_price=rows["list_price"].to_numpy(),
        unit_cost=cost,
        holding_cost=params.holding_cost_frac_per_year / 365.0 * cost * days,
        salvage_value=params.leftover_value_frac * cost,
        inventory_position_units=rows["on_hand_units"].to_numpy(),
        demand=law,
        capital=max(0.0, params.limit(value) - value),
        min_order_units=rows["min_order_units"].cast(pl.Int64).to_numpy(),
        pack_units=rows["pack_units"].cast(pl.Int64).to_numpy(),
        vendor_min_order_value=rows["min_order_value"].to_numpy(),
    )


@dataclass(frozen=True, eq=False)
class DailyOffers:
    """A day's problem with all usable offers of each SKU.

    Parameters
    ----------
    cheapest
        The problem of each SKU's cheapest offer, n rows.
    problem
        The same SKUs, what their units are worth and the capital, with m offers.
    """

    cheapest: AllocationProblem
    problem: ProcurementProblem

    @property
    def is_plain(self) -> bool:
        """Whether each SKU has one offer and no vendor a minimum, which is what the exact method solves."""
        return len(self.problem) == len(self.cheapest) and not self.problem.has_vendor_terms.any()

    def plan(self, method: DailyMethod, params: AllocationParams) -> OrderPlan:
        """Return the plan by a method; "auto" chooses "exact", "mip" or "lagrangian" by what the offers ask for."""
        if method == "auto":
            method = "exact" if self.is_plain else "mip" if len(self.problem) <= MOST_MIP_OFFERS else "lagrangian"
        return allocate(self.problem if method in ("mip", "lagrangian") else self.cheapest, method, params)

    def lines(self, plan: OrderPlan) -> pl.DataFrame:
        """Return the lines of a plan of either problem with the columns of `LINE_COLUMNS`, one per ordered offer, best use of money first.

        Where a SKU is ordered from several vendors, the dearer ones follow the cheaper ones: a line begins at the position that the lines
        before it have reached.
        """
        if plan.problem is self.cheapest:
            return plan.lines
        problem, position = self.problem, self.cheapest.inventory_position_units.copy()
        offers = np.flatnonzero(plan.order_units)
        parts = [order_lines(self.cheapest.take(offers[:0]), offers[:0], plan.capital_price, plan.method)]
        while len(offers):
            sku, first = np.unique(problem.offer_sku[offers], return_index=True)
            now = offers[first]
            units = plan.order_units[now]
            parts.append(order_lines(self._bought(sku, now, position[sku]), units, plan.capital_price, plan.method))
            position[sku] += units
            offers = np.delete(offers, first)
        lines = pl.concat(parts).sort(["value_per_capital", "sku", "vendor"], descending=[True, False, False])
        return lines.select(LINE_COLUMNS)

    def offered(self, capital_price: float) -> pl.DataFrame:
        """Return what can be ordered with its figures, for :func:`invpipe.allocation.buying.plan_changes`."""
        problem, cheapest, sku = self.problem, self.cheapest, self.problem.offer_sku
        return pl.DataFrame(
            {
                "sku": [problem.skus[i] for i in sku],
                "vendor": [problem.vendors[v] for v in problem.offer_vendor],
                "demand_mean_units": cheapest.demand.mean[sku],
                "position_units": cheapest.inventory_position_units[sku],
                "unit_cost": problem.unit_cost,
                "capital_price": np.full(len(problem), capital_price),
            }
        )

    def _bought(self, sku: IntArray, offer: IntArray, position: IntArray) -> AllocationProblem:
        """Return the problem of one offer for each of some SKUs that have this position."""
        problem, rows = self.problem, self.cheapest.take(sku)
        return replace(
            rows,
            vendors=tuple(problem.vendors[v] for v in problem.offer_vendor[offer]),
            unit_cost=problem.unit_cost[offer],
            inventory_position_units=position,
            min_order_units=problem.min_order_units[offer],
            pack_units=problem.pack_units[offer],
            vendor_min_order_value=problem.vendor_min_order_value[problem.offer_vendor[offer]],
        )


def daily_offers(history: ShopHistory, day: date, demand: WindowDemand, params: PlanningParams) -> DailyOffers:
    """Return the problem at the end of a day with all usable offers; arguments and errors as :func:`daily_problem`."""
    cheapest = daily_problem(history, day, demand, params)
    reference = pl.DataFrame({"sku": list(cheapest.skus), "sku_index": np.arange(len(cheapest)), "list_price": cheapest.unit_price})
    offers = usable_offers(history.until(day)).join(reference, on="sku", how="inner", maintain_order="left")
    fastest_needed = pl.col("lead_days").first().over("sku")  # that of the cheapest, which stands first
    offers = offers.filter((pl.col("lead_days") <= fastest_needed) & (pl.col("unit_cost") < pl.col("list_price")))
    vendors = offers.select("vendor", "min_order_value").unique("vendor").sort("vendor")
    lots = offers.group_by("sku_index").agg(pl.col("min_order_units", "pack_units").max().cast(pl.Int64)).sort("sku_index")
    # the worth of units is written out past the largest lot of any offer
    written = procurement_of(
        replace(cheapest, min_order_units=lots["min_order_units"].to_numpy(), pack_units=lots["pack_units"].to_numpy())
    )
    cost = offers["unit_cost"].to_numpy()
    problem = ProcurementProblem(
        skus=cheapest.skus,
        vendors=tuple(vendors["vendor"]),
        segment_start=written.segment_start,
        segment_units=written.segment_units,
        segment_value=written.segment_value,
        offer_sku=offers["sku_index"].to_numpy(),
        offer_vendor=vendors["vendor"].search_sorted(offers["vendor"]).to_numpy().astype(np.int64),
        unit_cost=cost,
        capacity_names=("capital",),
        capacity_use=cost[None, :],
        capacity_limit=np.array([cheapest.capital]),
        min_order_units=offers["min_order_units"].cast(pl.Int64).to_numpy(),
        pack_units=offers["pack_units"].cast(pl.Int64).to_numpy(),
        vendor_min_order_value=vendors["min_order_value"].to_numpy(),
    )
    return DailyOffers(cheapest, problem)
