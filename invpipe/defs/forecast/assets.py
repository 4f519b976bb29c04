"""Forecasts: models and their gates, the model that serves a day, its laws, and the walk-forward folds that say what they are worth."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import polars as pl

from invpipe.allocation import protection_windows
from invpipe.defs.common import ONE_RUN, ShopSettings, declared, figures, known
from invpipe.defs.forecast.registry import MODEL_GATES_SCHEMA, ModelRegistry, serving_row
from invpipe.defs.partitions import Partitions
from invpipe.errors import ForecastError, ProvenanceError
from invpipe.forecast import DemandForecaster, ForecastParams, score_fold, walk_forward_folds
from invpipe.forecast.gates import judge, score_candidate
from invpipe.history import ShopHistory
from invpipe.report.charts import calibration_chart, fold_scores_chart
from invpipe.report.images import png_markdown
from invpipe.report.tables import fold_table, markdown
from invpipe.settings import Settings

#: Days back from a day in which its model is looked for: a model older than a year is no model of the shop as it is.
MODEL_DAYS = 366


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

    @dg.asset(partitions_def=partitions.day, backfill_policy=ONE_RUN, **declared("forecast", __file__, "forecast", "folds", "seed"))
    def model_scores(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, demand_model: dict[str, Path], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Scores of a trained model's recipe on the last span before its cutoff, beside the baselines and the model that serves."""
        now = settings.get()
        registry, frames = ModelRegistry(now), {}
        for key in demand_model:
            day = date.fromisoformat(key)
            serving = _serving_before(context, registry, shop_history, day)
            found = score_candidate(shop_history, day, forecast_params(now), now.folds.horizon_days, serving)
            record = registry.store.record(("demand_model", key))
            model_hash = record.content_hash if record else ""
            frames[key] = found.scores.select(pl.lit(day).alias("model"), pl.lit(model_hash).alias("model_hash"), pl.all())
            shown = {"scores": dg.MetadataValue.md(markdown(found.scores)), "feature_drift": dg.MetadataValue.md(markdown(found.drift))}
            context.add_asset_metadata(shown, partition_key=key)
        return frames

    @dg.asset(partitions_def=partitions.day, backfill_policy=ONE_RUN, **declared("forecast", __file__, "gates"))
    def model_gates(model_scores: dict[str, pl.DataFrame], settings: ShopSettings) -> dict[str, pl.DataFrame]:
        """Verdict of every gate on a trained model, with what to do; a model that fails one that blocks never serves."""
        limits = settings.get().gates
        return {
            key: judge(scores, limits).select(
                pl.lit(scores["model"][0]).alias("model"), pl.lit(scores["model_hash"][0]).alias("model_hash"), pl.all()
            )
            for key, scores in model_scores.items()
        }

    up_to_the_day = dg.TimeWindowPartitionMapping(start_offset=-MODEL_DAYS, allow_nonexistent_upstream_partitions=True)

    @dg.asset(
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        ins={"model_gates": dg.AssetIn(partition_mapping=up_to_the_day, metadata={"allow_missing_partitions": True})},
        **declared("forecast", __file__),
    )
    def serving_model(
        context: dg.AssetExecutionContext, model_gates: dict[str, pl.DataFrame], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Which model serves the day, and why: the newest one whose gates passed, or the one pinned by `invpipe models`."""
        registry = ModelRegistry(settings.get())
        gates = pl.concat([pl.DataFrame(schema=MODEL_GATES_SCHEMA), *model_gates.values()])
        rows = {}
        for key in context.partition_keys:
            rows[key] = serving_row(date.fromisoformat(key), registry.choose(date.fromisoformat(key), gates), gates)
            row = rows[key].row(0, named=True)
            context.log.info(f"{key} is served by the model of {row['model']}, {row['why']}")
            if row["held_back"]:
                context.log.warning(f"{row['held_back']}. The model of {row['model']} goes on")
            age = (row["day"] - row["model"]).days
            context.add_asset_metadata({"model": str(row["model"]), "why": row["why"], "model_age_days": age}, partition_key=key)
        return rows

    def opened(row: pl.DataFrame, history: ShopHistory, settings: Settings) -> DemandForecaster:
        """Return the model of a row of `serving_model`, looking at the end of its day."""
        found = row.row(0, named=True)
        return ModelRegistry(settings).open(found["model"], found["model_hash"], history, found["day"])

    @dg.asset(partitions_def=partitions.day, backfill_policy=ONE_RUN, **declared("forecast", __file__, "forecast"))
    def demand_forecast(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, serving_model: dict[str, pl.DataFrame], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Quantiles of daily demand per SKU for the days after the partition's day. They describe days; they must not be added up."""
        now, frames = settings.get(), {}
        for day, row in serving_model.items():
            frames[day] = opened(row, shop_history, now).daily_quantiles(now.forecast.daily_days, now.threads)
            context.add_asset_metadata({"model": str(row["model"][0])}, partition_key=day)
        return frames

    @dg.asset(
        partitions_def=partitions.day,
        backfill_policy=ONE_RUN,
        **declared("allocation", __file__, "planning") | {"group_name": "forecast"},
    )
    def window_forecast(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, serving_model: dict[str, pl.DataFrame], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Count law of demand per SKU over each protection window (vendor lead time + review period): mean, size, quantiles."""
        now = settings.get()
        windows = protection_windows(shop_history, now.planning.review_period_days)
        frames = {}
        for day, row in serving_model.items():
            demand = opened(row, shop_history, now).window_demand(windows, now.threads)
            quantiles = [pl.Series(f"q{round(100 * tau)}", demand.quantile(tau).ravel()) for tau in (0.1, 0.5, 0.9)]
            frames[day] = demand.to_frame().with_columns(quantiles)
            units = {f"mean_units_in_{last}_days": float(demand.mean[:, j].sum()) for j, (_, last) in enumerate(windows)}
            context.add_asset_metadata({"model": str(row["model"][0]), **figures(units)}, partition_key=day)
        return frames

    @dg.asset(
        partitions_def=partitions.fold,
        backfill_policy=ONE_RUN,
        **declared("forecast", __file__, "folds"),
    )
    def fold_scores(
        shop_history: ShopHistory, true_demand: pl.DataFrame, fold_model: dict[str, Path], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """Scores of a walk-forward fold: forecaster and baselines on the same cells, coverage beside that of the interval [0, 0].

        Windows are scored against the true demand, which the forecaster never sees, and against the orderable days.
        """
        now = settings.get()
        folds = walk_forward_folds(shop_history.first_day, shop_history.last_day, **now.folds.model_dump())

        def score(key: str) -> pl.DataFrame:
            model = DemandForecaster.open(fold_model[key], shop_history)
            return score_fold(model, shop_history, folds[int(key)], demand=known(true_demand))

        with ThreadPoolExecutor(now.threads) as pool:
            return dict(zip(fold_model, pool.map(score, fold_model), strict=True))

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

    models = [demand_model, model_scores, model_gates, serving_model]
    return [*models, demand_forecast, window_forecast, fold_scores, fold_summary]


def _serving_before(context: dg.AssetExecutionContext, registry: ModelRegistry, history: ShopHistory, day: date) -> DemandForecaster | None:
    """Return the model a candidate of the day is held against, as it was trained; None where none serves or it cannot be opened."""
    choice = registry.choose(day - timedelta(days=1))
    if choice is None:
        context.log.info(f"no model before {day} serves; the candidate is held against baselines alone")
        return None
    try:
        return registry.open(choice.model, choice.model_hash, history, choice.model)
    except (ForecastError, ProvenanceError) as error:
        context.log.warning(f"the model of {choice.model} serves but cannot be compared: {error}")
        return None
