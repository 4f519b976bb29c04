"""The report of the whole shop: what the operator hands on."""

import dagster as dg
import polars as pl

from invpipe.defs.common import ShopSettings, declared, known
from invpipe.defs.partitions import BASELINE
from invpipe.defs.report.pages import HtmlReport, published, simulated
from invpipe.history import ShopHistory
from invpipe.report import Report, render_report
from invpipe.report.charts import weekly_units

#: Assets of which the report shows the last day.
OF_LAST_DAY = ("order_plan", "order_plan_summary", "feature_families", "forecast_drivers", "forecast_fan")


@dg.asset(
    io_manager_key="objects",
    ins={name: dg.AssetIn(partition_mapping=dg.LastPartitionMapping()) for name in OF_LAST_DAY},
    **declared("report", __file__, "source", "backtest", kinds={"html"}),
)
def report(
    context: dg.AssetExecutionContext,
    shop_history: ShopHistory,
    true_demand: pl.DataFrame,
    fold_scores: dict[str, pl.DataFrame],
    fold_class_scores: dict[str, pl.DataFrame],
    feature_families: pl.DataFrame,
    forecast_drivers: pl.DataFrame,
    forecast_fan: pl.DataFrame,
    order_plan: pl.DataFrame,
    order_plan_summary: pl.DataFrame,
    ablation: dict[str, pl.DataFrame],
    settings: ShopSettings,
) -> HtmlReport:
    """One page: the shop, fold scores by class, what drives the forecasts, the order plan with its reasons, and the ablation."""
    first_window = sorted(ablation)[0]
    table = ablation[first_window]
    shop = {
        "SKUs": len(shop_history.skus),
        "days": f"{shop_history.first_day} to {shop_history.last_day}",
        "units sold": int(shop_history.sales_daily["sales_units"].sum()),
        "backtest window": first_window,
    }
    demand = known(true_demand)
    if demand is not None:
        shop["units wanted"] = int(demand["demand_units"].sum())
    page = Report(
        title="invpipe report",
        shop=shop,
        simulated=simulated(settings.get()),
        weekly=weekly_units(shop_history.sales_daily, demand),
        fold_scores=pl.concat(fold_scores[key] for key in sorted(fold_scores)),
        class_scores=pl.concat(fold_class_scores[key] for key in sorted(fold_class_scores)),
        families=feature_families,
        drivers=forecast_drivers,
        fan=forecast_fan,
        order_lines=order_plan,
        order_summary=order_plan_summary.row(0, named=True),
        ablation=table,
        bound=float(table["clairvoyant_bound"][0]),
        baseline=BASELINE,
    )
    made = HtmlReport(render_report(page))
    context.add_output_metadata(published(settings.get(), "shop", made.html))
    return made
