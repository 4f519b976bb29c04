"""Forecasts: the model and the laws of one day, and the walk-forward folds that say what they are worth."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl

from invpipe.allocation import protection_windows
from invpipe.defs.common import ONE_RUN, ShopSettings, declared, known
from invpipe.defs.partitions import Partitions
from invpipe.forecast import DemandForecaster, ForecastParams, score_fold, walk_forward_folds
from invpipe.history import ShopHistory
from invpipe.report.charts import calibration_chart, fold_scores_chart
from invpipe.report.images import png_markdown
from invpipe.report.tables import fold_table, markdown
from invpipe.settings import Settings


def forecast_params(settings: Settings) -> ForecastParams:
    """Return the forecaster's parameters."""
    section = settings.forecast
    return ForecastParams(
        window_days=section.window_days, daily_horizon_days=section.daily_days, daily_taus=section.taus, seed=settings.seed
    )


def forecast_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets of the forecast room."""

    @dg.asset(
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        io_manager_key="objects",
        **declared("forecast", __file__, "forecast", "seed", kinds={"lightgbm"}),
    )
    def demand_model(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, training_grid: pl.LazyFrame, settings: ShopSettings
    ) -> dict[str, DemandForecaster]:
        """Train boosters on the orderable cells up to the end of the day: the window model and one booster per daily quantile.

        The grid is read for its size, and because its blocking check stops the training when a censored cell is in it.
        """
        params = forecast_params(settings.get())
        models = {}
        for key in context.partition_keys:
            day = date.fromisoformat(key)
            models[key] = DemandForecaster.fit(shop_history, day, params)
            gain = sorted(models[key].window.gain_by_feature().items(), key=lambda item: -item[1])[:10]
            shown = {
                "orderable_cells": training_grid.filter(pl.col("day") <= day).select(pl.len()).collect().item(),
                "window_model_gain": dg.MetadataValue.table([dg.TableRecord({"feature": n, "gain_frac": round(g, 4)}) for n, g in gain]),
            }
            context.add_asset_metadata(shown, partition_key=key)
        return models

    @dg.asset(partitions_def=partitions.day, backfill_policy=ONE_RUN, **declared("forecast", __file__, "forecast"))
    def demand_forecast(shop_history: ShopHistory, demand_model: dict[str, Path], settings: ShopSettings) -> dict[str, pl.DataFrame]:
        """Quantiles of daily demand per SKU for the days after the partition's day. They describe days; they must not be added up."""
        days = settings.get().forecast.daily_days
        return {day: DemandForecaster.open(model, shop_history).daily_quantiles(days) for day, model in demand_model.items()}

    @dg.asset(
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        **declared("allocation", __file__, "planning") | {"group_name": "forecast"},
    )
    def window_forecast(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, demand_model: dict[str, Path], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Count law of demand per SKU over each protection window (vendor lead time + review period): mean, size, quantiles."""
        windows = protection_windows(shop_history, settings.get().planning.review_period_days)
        frames = {}
        for day, model in demand_model.items():
            demand = DemandForecaster.open(model, shop_history).window_demand(windows)
            quantiles = [pl.Series(f"q{round(100 * tau)}", demand.quantile(tau).ravel()) for tau in (0.1, 0.5, 0.9)]
            frames[day] = demand.to_frame().with_columns(quantiles)
            units = {f"mean_units_in_{last}_days": float(demand.mean[:, j].sum()) for j, (_, last) in enumerate(windows)}
            context.add_asset_metadata(units, partition_key=day)
        return frames

    @dg.asset(
        partitions_def=partitions.fold,
        backfill_policy=ONE_RUN,
        **declared("forecast", __file__, "forecast", "folds", "seed"),
    )
    def fold_scores(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, true_demand: pl.DataFrame, settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Scores of a walk-forward fold: forecaster and baselines on the same cells, coverage beside that of the interval [0, 0].

        Windows are scored against the true demand, which the forecaster never sees, and against the orderable days.
        """
        now = settings.get()
        folds = walk_forward_folds(shop_history.first_day, shop_history.last_day, **now.folds.model_dump())

        def score(key: str) -> pl.DataFrame:
            fold = folds[int(key)]
            model = DemandForecaster.fit(shop_history, fold.cutoff, forecast_params(now))
            scores = score_fold(model, shop_history, fold, demand=known(true_demand))
            context.log.info(f"fold {key}: cutoff {fold.cutoff}, tested to {fold.test_last}")
            return scores

        keys = list(context.partition_keys)
        with ThreadPoolExecutor(now.threads) as pool:  # one LightGBM thread per fold
            return dict(zip(keys, pool.map(score, keys), strict=True))

    @dg.asset(**declared("report", __file__) | {"group_name": "forecast"})
    def fold_summary(context: dg.AssetExecutionContext, fold_scores: dict[str, pl.DataFrame]) -> pl.DataFrame:
        """Mean scores over the folds per target and method: what the forecaster is worth."""
        scores = pl.concat(fold_scores.values())
        summary = fold_table(scores)
        context.add_output_metadata(
            {
                "scores": dg.MetadataValue.md(markdown(summary)),
                "pinball_by_fold": dg.MetadataValue.md(png_markdown(fold_scores_chart(scores))),
                "calibration": dg.MetadataValue.md(png_markdown(calibration_chart(scores))),
            }
        )
        return summary

    return [demand_model, demand_forecast, window_forecast, fold_scores, fold_summary]
