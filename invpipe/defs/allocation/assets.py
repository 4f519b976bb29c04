"""The order plan of a day."""

from collections.abc import Iterator
from datetime import date

import dagster as dg
import polars as pl

from invpipe.allocation import PlanningParams, allocate, capital_curve, daily_problem
from invpipe.defs.common import ONE_RUN, ShopSettings, declared
from invpipe.defs.partitions import Partitions
from invpipe.forecast import WindowDemand
from invpipe.history import ShopHistory
from invpipe.report.charts import capital_chart
from invpipe.report.images import png_markdown
from invpipe.report.tables import markdown, order_lines_table
from invpipe.settings import Settings
from invpipe.sources.databases.shop import DatabaseShop

#: Capitals of the what-if curve as shares of the day's capital.
CURVE = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


def planning_params(settings: Settings) -> PlanningParams:
    """Return the planning parameters."""
    return PlanningParams(**settings.planning.model_dump(exclude={"method", "inbound_cost_per_line"}))


def allocation_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets of the allocation room."""
    shared = declared("report", __file__, "planning", kinds={"polars", "highs"}) | {"group_name": "allocation"}
    outs = {
        "order_plan": "What to order today, from which vendor, how much, and why: one row per order line, best use of capital first.",
        "order_plan_summary": "Status, objective, certified bound, gap, capital and its price of the day's plan, one row.",
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
        lines, summaries, curves = {}, {}, {}
        for day, forecast in window_forecast.items():
            problem = daily_problem(shop_history, date.fromisoformat(day), WindowDemand.from_frame(forecast), planning_params(now))
            plan = allocate(problem, method=now.planning.method)
            summary = {name: value for name, value in plan.summary().items() if name != "seconds"}  # seconds differ from run to run
            metadata = {
                **summary,
                "first_lines": dg.MetadataValue.md(markdown(order_lines_table(plan.lines, 15))),
                "value_per_capital": dg.MetadataValue.md(png_markdown(capital_chart(plan.lines, plan.capital_price))),
            }
            context.add_asset_metadata(metadata, asset_key="order_plan", partition_key=day)
            lines[day], summaries[day] = plan.lines, pl.DataFrame([summary])
            curves[day] = capital_curve(problem, [share * problem.capital for share in CURVE])
        yield dg.Output(lines, "order_plan")
        yield dg.Output(summaries, "order_plan_summary")
        yield dg.Output(curves, "capital_curve")

    return [plan_orders]


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
