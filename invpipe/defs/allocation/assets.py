"""The order plan of a day."""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from invpipe.allocation import (
    AllocationParams,
    DailyOffers,
    OrderPlan,
    PlanningParams,
    ProcurementProblem,
    capital_curve,
    daily_offers,
    plan_changes,
)
from invpipe.defs.allocation.checks import faults
from invpipe.defs.allocation.exports import buyer_metadata, changes_metadata, exported, plan_before
from invpipe.defs.common import ONE_RUN, ShopSettings, declared, figures
from invpipe.defs.partitions import Partitions
from invpipe.forecast import WindowDemand
from invpipe.history import ShopHistory
from invpipe.report.charts import capital_chart
from invpipe.report.images import png_markdown
from invpipe.report.tables import markdown, order_lines_table
from invpipe.settings import Settings
from invpipe.sources.databases.shop import DatabaseShop

#: Capitals of the what-if curve as shares of the day's capital.
CURVE = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 4.0)
#: A day's plan stops at this gap, a tenth of a percent, and in any case long before a run is ended.
PLAN_PARAMS = AllocationParams(mip_gap_frac=1e-3, time_limit_seconds=300.0)


def planning_params(settings: Settings) -> PlanningParams:
    """Return the planning parameters."""
    return PlanningParams(**settings.planning.model_dump(exclude={"method", "inbound_cost_per_line"}))


def allocation_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets of the allocation room."""
    shared = declared("report", __file__, "planning", kinds={"polars", "highs"}) | {"group_name": "allocation"}
    outs = {
        "order_plan": "What to order today, from which vendor, how much, and why: one row per order line, best use of capital first.",
        "order_plan_summary": "Status, objective, certified bound, gap, capital and its price of the day's plan, one row.",
        "order_plan_changes": "Lines that are new, gone or changed in units since the plan before, each with the reason.",
        "capital_curve": "What more or less capital would be worth today: expected value and price of capital per capital.",
    }

    @dg.multi_asset(
        outs={name: dg.AssetOut(description=text, **shared) for name, text in outs.items()},
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        name="plan_orders",
    )
    def plan_orders(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, window_forecast: dict[str, pl.DataFrame], settings: ShopSettings
    ) -> Iterator[dg.Output[dict[str, pl.DataFrame]]]:
        """Spend each day's capital where its next unit earns most."""
        now = settings.get()
        lines, summaries, changes, curves = {}, {}, {}, {}
        for day, forecast in sorted(window_forecast.items()):
            offers = daily_offers(shop_history, date.fromisoformat(day), WindowDemand.from_frame(forecast), planning_params(now))
            plan = offers.plan(now.planning.method, PLAN_PARAMS)
            lines[day] = offers.lines(plan)
            summary = {name: value for name, value in plan.summary().items() if name != "seconds"}  # seconds differ from run to run
            summaries[day] = pl.DataFrame([summary])
            since, changed = _changes(now, day, offers, plan, lines)
            changes[day] = changed.with_columns(plan_before=pl.lit(since, pl.String).str.to_date())
            curves[day] = capital_curve(plan.problem, [share * offers.cheapest.capital for share in CURVE], plan)
            context.add_asset_metadata(figures(summary) | _shown(lines[day], plan), asset_key="order_plan", partition_key=day)
            shown = _for_buyers(now, day, offers, lines[day], since, changed)
            context.add_asset_metadata(shown, asset_key="order_plan_summary", partition_key=day)
        yield dg.Output(lines, "order_plan")
        yield dg.Output(summaries, "order_plan_summary")
        yield dg.Output(changes, "order_plan_changes")
        yield dg.Output(curves, "capital_curve")

    return [plan_orders]


def _shown(lines: pl.DataFrame, plan: OrderPlan) -> dict[str, Any]:
    """Return the first lines, the chart, and the price of each capacity, which Dagster draws over the days."""
    names = plan.problem.capacity_names if isinstance(plan.problem, ProcurementProblem) else ("capital",)
    return {
        **figures({f"price_of_{name}": float(price) for name, price in zip(names, plan.capacity_prices, strict=True)}),
        "first_lines": dg.MetadataValue.md(markdown(order_lines_table(lines, 15))),
        "value_per_capital": dg.MetadataValue.md(png_markdown(capital_chart(lines, plan.capital_price))),
    }


def _changes(
    settings: Settings, day: str, offers: DailyOffers, plan: OrderPlan, lines: dict[str, pl.DataFrame]
) -> tuple[str | None, pl.DataFrame]:
    """Return the day of the plan before and what has changed since; None and no row where there is none."""
    now, nothing = lines[day], lines[day].clear()
    known = plan_before(settings, day, lines)
    before, old, new = (None, nothing, nothing) if known is None else (*known, now)
    return before, plan_changes(old, new, offers.offered(plan.capital_price))


def _for_buyers(
    settings: Settings, day: str, offers: DailyOffers, now: pl.DataFrame, since: str | None, changes: pl.DataFrame
) -> dict[str, Any]:
    """Return tables by vendor, the changes since the plan before, and the files; a plan that its check will refuse is not written."""
    shown = buyer_metadata(now) | (changes_metadata(since, changes) if since else {})
    return shown if faults(now, offers.cheapest.capital) else shown | exported(settings.home, day, now, changes if since else None)


def proposal_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the asset that writes plans back, for shops that want it."""

    @dg.asset(
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        **declared("allocation", __file__, "proposals", kinds={"mariadb"}),
    )
    def order_proposals(
        context: dg.AssetExecutionContext, order_plan: dict[str, pl.DataFrame], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Lines written to the shop's table of proposals, one row: table, lines, value. The day's old proposals are replaced at once."""
        now = settings.get()
        shop = DatabaseShop(now, context.log.warning)
        written = {}
        for day, lines in order_plan.items():
            count = shop.write_proposals(date.fromisoformat(day), lines)
            written[day] = pl.DataFrame({"table": [now.proposals.table], "lines": [count], "order_value": [lines["order_value"].sum()]})
            context.log.info(f"order_proposals: {count} lines of {day} written to {now.proposals.table}")
        return written

    return [order_proposals]
