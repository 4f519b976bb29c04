"""What the forecasts are worth by class of SKU, and why they are what they are."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from invpipe.allocation import protection_windows
from invpipe.defs.common import AFTER_THE_PLAN, ONE_RUN, ShopSettings, declared, known
from invpipe.defs.forecast.assets import forecast_params
from invpipe.defs.forecast.registry import ModelRegistry
from invpipe.defs.io import PartitionStream
from invpipe.defs.partitions import Partitions
from invpipe.forecast import DemandForecaster, walk_forward_folds
from invpipe.forecast.classes import pool, score_classes, whole_slab
from invpipe.forecast.explain import drivers, family_importance, fan_rows, forecast_fan, top_rows
from invpipe.history import ShopHistory
from invpipe.report.charts import Chart
from invpipe.report.forecast_charts import bracket_curve_chart, class_fold_chart, decile_chart, family_chart, fan_chart, pit_chart
from invpipe.report.images import png_markdown
from invpipe.report.tables import class_table, drivers_table, markdown

#: SKUs whose drivers are kept, those with the highest expected demand; TreeSHAP costs about a millisecond each.
DRIVER_SKUS = 1000
#: SKUs over which the contributions of families are averaged, evenly spread over the catalogue.
FAMILY_SKUS = 1000
#: SKUs with a fan, and its knots in days.
FAN_SKUS, FAN_DAYS = 10, (7, 14, 21, 28, 42, 60)
#: SKUs shown in the metadata of the drivers.
SHOWN_SKUS = 15


def _picture(chart: Chart) -> dg.MetadataValue:
    return dg.MetadataValue.md(png_markdown(chart))


def insight_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets that say how good the forecasts are where, and what drives them."""
    shared = declared("report", __file__, "planning") | {"group_name": "forecast"}

    @dg.asset(
        partitions_def=partitions.fold,
        backfill_policy=ONE_RUN,
        io_manager_key="objects",
        **declared("forecast", __file__, "forecast", "folds", "seed", kinds={"lightgbm"}),
    )
    def fold_model(context: dg.AssetExecutionContext, shop_history: ShopHistory, settings: ShopSettings) -> PartitionStream:
        """Train the model of each walk-forward fold on the days up to its cutoff; everything that scores a fold opens it."""
        now, keys = settings.get(), list(context.partition_keys)
        folds = walk_forward_folds(shop_history.first_day, shop_history.last_day, **now.folds.model_dump())

        def fit(key: str) -> DemandForecaster:
            context.log.info(f"fold {key}: cutoff {folds[int(key)].cutoff}, tested to {folds[int(key)].test_last}")
            return DemandForecaster.fit(shop_history, folds[int(key)].cutoff, forecast_params(now))

        def fitted() -> Generator[tuple[str, DemandForecaster], None, None]:
            with ThreadPoolExecutor(now.threads) as threads:  # one LightGBM thread per fold
                yield from zip(keys, threads.map(fit, keys), strict=True)

        return PartitionStream(fitted())

    @dg.asset(partitions_def=partitions.fold, backfill_policy=ONE_RUN, **declared("forecast", __file__, "folds"))
    def fold_class_scores(
        shop_history: ShopHistory, true_demand: pl.DataFrame, fold_model: dict[str, Path], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Window scores of a fold, summed by window length, demand class and volume decile, all known at the cutoff."""
        now = settings.get()
        folds = walk_forward_folds(shop_history.first_day, shop_history.last_day, **now.folds.model_dump())

        def score(key: str) -> pl.DataFrame:
            return score_classes(DemandForecaster.open(fold_model[key], shop_history), shop_history, folds[int(key)], known(true_demand))

        with ThreadPoolExecutor(now.threads) as threads:
            return dict(zip(fold_model, threads.map(score, fold_model), strict=True))

    @dg.asset(**declared("report", __file__) | {"group_name": "forecast"})
    def fold_calibration(context: dg.AssetExecutionContext, fold_class_scores: dict[str, pl.DataFrame]) -> pl.DataFrame:
        """Window scores pooled over the folds by demand class and volume decile: brackets with their violation, coverage, rps, bias."""
        sums = pl.concat(fold_class_scores[key] for key in sorted(fold_class_scores))
        slab = whole_slab(sums)
        tables = {
            "by_fold": pool(slab, "fold", "cutoff"),
            "by_demand_class": pool(slab, "demand_class"),
            "by_volume_decile": pool(slab, "volume_decile"),
            "by_window_days": pool(sums, "window_days"),
        }
        pictures = {
            "calibration": bracket_curve_chart(sums),
            "pit": pit_chart(sums),
            "bracket_90_by_decile": decile_chart(sums),
            "rps_by_class_and_fold": class_fold_chart(sums),
        }
        shown = {name: dg.MetadataValue.md(markdown(class_table(table))) for name, table in tables.items()}
        context.add_output_metadata(shown | {name: _picture(chart) for name, chart in pictures.items()})
        return pool(slab, "demand_class", "volume_decile")

    outs = {
        "feature_families": "What each feature family is worth: its share of the gain, and how far it moves the log rate of a SKU.",
        "forecast_drivers": "Which features move the forecast most and by which factor, for the SKUs with the highest expected demand.",
        "forecast_fan": "Recent sales of ten SKUs of all sizes, and quantiles of what they will sell from the cutoff to each day.",
    }

    @dg.multi_asset(
        outs={name: dg.AssetOut(description=text, **shared) for name, text in outs.items()},
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        name="explain_forecast",
        op_tags=AFTER_THE_PLAN,
    )
    def explain_forecast(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, serving_model: dict[str, pl.DataFrame], settings: ShopSettings
    ) -> Iterator[dg.Output[dict[str, pl.DataFrame]]]:
        """Explain each day's forecast, as its model made it, over the longest window that orders have to cover."""
        now = settings.get()
        registry, longest = ModelRegistry(now), protection_windows(shop_history, now.planning.review_period_days)[-1]
        spread = np.unique(np.linspace(0, len(shop_history.skus) - 1, FAMILY_SKUS).astype(np.int64))
        frames: dict[str, dict[str, pl.DataFrame]] = {name: {} for name in outs}
        for day, row in serving_model.items():
            found = row.row(0, named=True)
            forecaster = registry.open(found["model"], found["model_hash"], shop_history, found["day"])
            demand = forecaster.window_demand([(1, days) for days in FAN_DAYS])
            made = {
                "feature_families": family_importance(forecaster, longest, spread),
                "forecast_drivers": drivers(forecaster, longest, top_rows(demand, DRIVER_SKUS)),
                "forecast_fan": forecast_fan(demand, shop_history, fan_rows(demand, FAN_SKUS)),
            }
            shown = {
                "feature_families": _picture(family_chart(made["feature_families"])),
                "forecast_drivers": dg.MetadataValue.md(markdown(drivers_table(made["forecast_drivers"], SHOWN_SKUS))),
                "forecast_fan": _picture(fan_chart(made["forecast_fan"])),
            }
            for name, frame in made.items():
                frames[name][day] = frame
                context.add_asset_metadata({"shown": shown[name]}, asset_key=name, partition_key=day)
        yield from (dg.Output(days, name) for name, days in frames.items())

    return [fold_model, fold_class_scores, fold_calibration, explain_forecast]
