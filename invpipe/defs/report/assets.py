"""The static HTML report: what the operator hands on."""

from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

from invpipe.defs.common import ShopSettings, declared, known
from invpipe.defs.partitions import BASELINE
from invpipe.history import ShopHistory
from invpipe.report import Report, render_report
from invpipe.report.charts import weekly_units

#: Tables that no public data set has; the embedded shop simulates them.
SIMULATED = ("vendors", "offers", "page views", "stock", "orderable days")

#: Assets of which the report shows the last day.
OF_LAST_DAY = ("order_plan", "order_plan_summary", "feature_families", "forecast_drivers", "forecast_fan")

#: File name inside the artifact.
FILE_NAME = "report.html"


@dataclass(frozen=True)
class HtmlReport:
    """A self-contained HTML page."""

    html: str

    def save(self, directory: Path) -> None:
        """Write the page into a new directory."""
        directory.mkdir()
        (directory / FILE_NAME).write_text(self.html, encoding="utf-8")

    @classmethod
    def open(cls, directory: Path) -> "HtmlReport":
        """Read a page written by :meth:`save`."""
        return cls((directory / FILE_NAME).read_text(encoding="utf-8"))


@dg.asset(
    io_manager_key="objects",
    ins={name: dg.AssetIn(partition_mapping=dg.LastPartitionMapping()) for name in OF_LAST_DAY},
    **declared("report", __file__, "source", "backtest", kinds={"html"}),
)
def report(
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
        simulated=SIMULATED if settings.get().source == "embedded" else (),
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
    return HtmlReport(render_report(page))
