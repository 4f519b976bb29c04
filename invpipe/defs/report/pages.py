"""A page per planned day, per backtest and per window: kept as artifacts, and published under names that stay.

Published pages lie in `exports/reports` of the home: `<day>.html`, `<window>/<variant>.html`, `<window>/comparison.html`; that of the whole
shop is `shop.html`. They hold no time, so the same artifacts give the same bytes. As all exports they are what people were given:
`invpipe prune` takes the artifacts of old days, never the files there. Nothing depends on a page.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import polars as pl

from invpipe.arena import SeedRuns
from invpipe.atomic import atomic_replace
from invpipe.defs.arena.assets import arena_specs
from invpipe.defs.common import AFTER_THE_PLAN, ONE_RUN, ShopSettings, declared
from invpipe.defs.partitions import BASELINE, VARIANTS, Partitions
from invpipe.defs.provenance import ArtifactStore, stale_assets
from invpipe.errors import ProvenanceError
from invpipe.history import ShopHistory
from invpipe.report import Report, render_report
from invpipe.report.charts import weekly_units
from invpipe.settings import Settings

#: Tables that no public data set has; the embedded shop simulates them.
SIMULATED = ("vendors", "offers", "page views", "stock", "orderable days")
#: File name inside the artifact.
FILE_NAME = "report.html"
#: Directory of the published pages under the home.
PAGES = Path("exports", "reports")


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


def simulated(settings: Settings) -> tuple[str, ...]:
    """Return the tables that the page has to call simulated."""
    return SIMULATED if settings.source == "embedded" else ()


def published(settings: Settings, name: str, html: str) -> dict[str, dg.MetadataValue]:
    """Write a page among the published ones in one step; return where, and its address where `report.base_url` is set, as metadata."""
    path = settings.home / PAGES / f"{name}.html"
    with atomic_replace(path) as draft:
        draft.write_text(html, encoding="utf-8")
    base = settings.report.base_url.rstrip("/")
    shown: dict[str, dg.MetadataValue] = {"page": dg.MetadataValue.path(path.resolve())}
    return shown | ({"link": dg.MetadataValue.url(f"{base}/{quote(name)}.html")} if base else {})


def page_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the pages of days, backtests and windows."""
    return [*_day_reports(partitions), *_replay_reports(partitions)]


def _day_reports(partitions: Partitions) -> list[dg.AssetsDefinition]:
    @dg.asset(
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        io_manager_key="objects",
        op_tags=AFTER_THE_PLAN,
        **declared("report", __file__, "source", kinds={"html"}),
    )
    def day_report(
        context: dg.AssetExecutionContext,
        shop_history: ShopHistory,
        quarantine_counts: pl.DataFrame,
        serving_model: dict[str, pl.DataFrame],
        order_plan: dict[str, pl.DataFrame],
        order_plan_summary: dict[str, pl.DataFrame],
        order_plan_changes: dict[str, pl.DataFrame],
        capital_curve: dict[str, pl.DataFrame],
        feature_families: dict[str, pl.DataFrame],
        forecast_drivers: dict[str, pl.DataFrame],
        forecast_fan: dict[str, pl.DataFrame],
        settings: ShopSettings,
    ) -> dict[str, HtmlReport]:
        """Page of a day: the order plan and what changed, what capital is worth, which model served, what drives its forecasts."""
        now, pages = settings.get(), {}
        for day, lines in order_plan.items():
            sales = shop_history.sales_daily.filter(pl.col("day") <= date.fromisoformat(day))
            model = serving_model[day].row(0, named=True)
            plan = ArtifactStore.of(now).record(("order_plan", day))
            page = Report(
                title=f"Order plan of {day}",
                shop={
                    "SKUs": len(shop_history.skus),
                    "days": f"{shop_history.first_day} to {day}",
                    "units sold": int(sales["sales_units"].sum()),
                },
                simulated=simulated(now),
                weekly=weekly_units(sales),
                families=feature_families[day],
                drivers=forecast_drivers[day],
                fan=forecast_fan[day],
                order_lines=lines.join(shop_history.items.select("sku", "title"), on="sku", how="left", maintain_order="left"),
                order_summary=order_plan_summary[day].row(0, named=True),
                capital_curve=capital_curve[day],
                changes=order_plan_changes[day],
                serving=model,
                quarantine=quarantine_counts,
                notes=(f"order_plan {day}: {plan.content_hash if plan else ''}", f"demand_model {model['model']}: {model['model_hash']}"),
            )
            pages[day] = HtmlReport(render_report(page))
            context.add_asset_metadata(published(now, day, pages[day].html), partition_key=day)
        return pages

    return [day_report]


def _replay_reports(partitions: Partitions) -> list[dg.AssetsDefinition]:
    by_window = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="window")
    comparison = arena_specs(partitions)["ablation"]

    @dg.asset(
        partitions_def=partitions.backtest,
        backfill_policy=dg.BackfillPolicy.multi_run(),  # as the backtest, in whose run it is made
        io_manager_key="objects",
        **declared("report", __file__, "source", kinds={"html"}),
    )
    def backtest_report(context: dg.AssetExecutionContext, backtest: dict[str, SeedRuns], settings: ShopSettings) -> dict[str, HtmlReport]:
        """Page of a backtest: key figures with their spread over the seeds, profit, stock and orders by day, best and worst SKUs."""
        now, pages = settings.get(), {}
        for key, runs in backtest.items():
            variant, window = key.split("|")
            page = Report(
                title=f"Backtest {variant} on {window}",
                simulated=simulated(now),
                backtest=runs.results,
                notes=_fingerprints({variant: runs}),
            )
            pages[key] = HtmlReport(render_report(page))
            context.add_asset_metadata(published(now, f"{window}/{variant}", pages[key].html), partition_key=key)
        return pages

    @dg.asset(
        partitions_def=partitions.window,
        backfill_policy=ONE_RUN,
        io_manager_key="objects",
        ins={"backtest": dg.AssetIn(partition_mapping=by_window)},
        **declared("report", __file__, "source", kinds={"html"}),
    )
    def window_report(
        context: dg.AssetExecutionContext, ablation: dict[str, pl.DataFrame], backtest: dict[str, SeedRuns], settings: ShopSettings
    ) -> dict[str, HtmlReport]:
        """Page of a window: all variants side by side with their intervals, and profit and stock of each by day."""
        now, pages = settings.get(), {}
        for window, table in ablation.items():
            if reason := stale_assets(comparison, now, {"ablation": [window]}).get(("ablation", window)):
                msg = f"the comparison of {window} is not of its newest backtests: {reason}; run the job compare"
                raise ProvenanceError(msg)
            runs = {variant: backtest[f"{variant}|{window}"] for variant in VARIANTS}
            page = Report(
                title=f"Backtests on {window}",
                simulated=simulated(now),
                ablation=table,
                bound=float(table["clairvoyant_bound"][0]),
                baseline=BASELINE,
                days={variant: seeds.results[0].days for variant, seeds in runs.items()},
                notes=_fingerprints(runs),
            )
            pages[window] = HtmlReport(render_report(page))
            context.add_asset_metadata(published(now, f"{window}/comparison", pages[window].html), partition_key=window)
        return pages

    return [backtest_report, window_report]


def _fingerprints(runs: dict[str, SeedRuns]) -> list[str]:
    """Return what proves which replays a page shows: the tape's fingerprint, and that of every replay."""
    tape = next(iter(runs.values())).results[0].tape_fingerprint
    seeds = [f"{variant}, seed {result.seed}: {result.fingerprint()}" for variant, made in runs.items() for result in made.results]
    return [f"tape: {tape}", *seeds]
