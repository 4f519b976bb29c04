"""Scores of one walk-forward fold: every method on the same cells, coverage beside that of the constant-zero interval.

Two targets. *daily*: units on one orderable day of the slab. *window*: units over the whole slab, its own target, never a sum of
daily quantiles (that way is scored too, as the named method of the source document). Where the true demand is known (simulated
supply), windows are scored against it; elsewhere against the units sold on the orderable days of the window, with the law's mean
scaled to those days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.errors import ForecastError
from invpipe.forecast.baselines import BASELINES, sum_of_daily_quantiles
from invpipe.forecast.folds import Fold
from invpipe.forecast.forecaster import DemandForecaster
from invpipe.forecast.law import CountLaw, WindowDemand
from invpipe.forecast.metrics import bracket, pinball_loss, randomised_coverage, ranked_probability_score
from invpipe.grid import window_labels
from invpipe.history import ShopHistory

FloatArray = npt.NDArray[np.float64]

#: Columns of the scores, key (fold, target, method); null where a method has no such figure (quantiles have no mean, no whole law).
SCORE_SCHEMA = {
    "fold": pl.Int64,
    "cutoff": pl.Date,
    "target": pl.String,
    "scored_on": pl.String,
    "method": pl.String,
    "cells": pl.Int64,
    "pinball_10": pl.Float64,
    "pinball_50": pl.Float64,
    "pinball_90": pl.Float64,
    "pinball_90_vs_zero": pl.Float64,
    "rps": pl.Float64,
    "bracket_90_low": pl.Float64,
    "bracket_90_high": pl.Float64,
    "bracket_90_violation_points": pl.Float64,
    "coverage_80": pl.Float64,
    "coverage_80_of_zero": pl.Float64,
    "randomised_coverage_80": pl.Float64,
    "mean_forecast_units": pl.Float64,
    "mean_units": pl.Float64,
}


def _row(units: FloatArray, q10: FloatArray, q50: FloatArray, q90: FloatArray) -> dict[str, float | int]:
    zero_loss = pinball_loss(units, np.zeros_like(units), 0.9)
    low, high, violation = bracket(units, q90, 0.9)
    loss_90 = pinball_loss(units, q90, 0.9)
    return {
        "cells": len(units),
        "pinball_10": pinball_loss(units, q10, 0.1),
        "pinball_50": pinball_loss(units, q50, 0.5),
        "pinball_90": loss_90,
        "pinball_90_vs_zero": loss_90 / zero_loss if zero_loss > 0 else float("nan"),
        "bracket_90_low": low,
        "bracket_90_high": high,
        "bracket_90_violation_points": violation,
        "coverage_80": float(np.mean((units >= q10) & (units <= q90))),
        "coverage_80_of_zero": float(np.mean(units == 0)),
        "mean_units": float(units.mean()),
    }


def score_law(law: CountLaw, units: FloatArray) -> dict[str, float | int]:
    """Return the scores of a count law, columns of SCORE_SCHEMA without the keys."""
    q10, q50, q90 = (law.quantile(tau).astype(np.float64) for tau in (0.1, 0.5, 0.9))
    return {
        **_row(units, q10, q50, q90),
        "rps": ranked_probability_score(law, units),
        "randomised_coverage_80": randomised_coverage(law, units),
        "mean_forecast_units": float(law.mean.mean()),
    }


def window_target(history: ShopHistory, fold: Fold, demand: pl.DataFrame | None) -> tuple[FloatArray, FloatArray]:
    """Return per SKU the units of the slab and the share of its days they were seen on.

    With `demand`, key (sku, day), the true units on all days (share 1); else the units sold on orderable days.

    Raises
    ------
    ForecastError
        Where the slab ends after the history.
    """
    if fold.test_last > history.last_day:
        msg = f"fold {fold.index} is tested up to {fold.test_last}, after the history's last day {history.last_day}"
        raise ForecastError(msg)
    n = len(history.skus)
    if demand is not None:
        slab = demand.filter(pl.col("day").is_between(fold.test_first, fold.test_last)).group_by("sku").agg(pl.col("demand_units").sum())
        units = history.items.select("sku").join(slab, on="sku", how="left", maintain_order="left")["demand_units"].fill_null(0)
        return units.cast(pl.Float64).to_numpy(), np.ones(n)
    origin = np.full(n, history.day_index(fold.cutoff))
    label = window_labels(history.arrays, np.arange(n), origin, np.ones(n, dtype=np.int64), np.full(n, fold.horizon_days))
    return label.units, label.orderable_days / fold.horizon_days


def score_windows(history: ShopHistory, fold: Fold, forecasts: dict[str, WindowDemand], demand: pl.DataFrame | None) -> pl.DataFrame:
    """Return one row per method: the law of the slab against its units, for SKUs seen on at least one day of it."""
    units, share = window_target(history, fold, demand)
    seen = share > 0
    rows = []
    for method, forecast in forecasts.items():
        law = forecast.law(0)
        thinned = CountLaw(law.mean[seen] * share[seen], law.size[seen])
        rows.append({"target": "window", "method": method, **score_law(thinned, units[seen])})
    return _frame(rows, fold, "true demand" if demand is not None else "orderable days")


def score_daily(history: ShopHistory, fold: Fold, quantiles: pl.DataFrame) -> pl.DataFrame:
    """Return the score of daily quantiles (sku, day, q10, q50, q90) and of zero on the orderable cells of the slab."""
    days = (
        history.orderable_daily.filter((pl.col("to_day") >= fold.test_first) & (pl.col("from_day") <= fold.test_last))
        .select("sku", pl.date_ranges(pl.col("from_day").clip(fold.test_first), pl.col("to_day").clip(None, fold.test_last)).alias("day"))
        .explode("day", empty_as_null=False)
    )
    cells = days.join(quantiles, on=["sku", "day"], how="inner").join(history.sales_daily, on=["sku", "day"], how="left")
    units = cells["sales_units"].fill_null(0).cast(pl.Float64).to_numpy()
    q10, q50, q90 = (cells[name].to_numpy() for name in ("q10", "q50", "q90"))
    none = np.zeros_like(units)
    rows = [
        {"target": "daily", "method": "quantile boosters", **_row(units, q10, q50, q90)},
        {"target": "daily", "method": "zero", **_row(units, none, none, none), "mean_forecast_units": 0.0},
    ]
    return _frame(rows, fold, "orderable days")


def score_daily_sums(history: ShopHistory, fold: Fold, daily: pl.DataFrame, demand: pl.DataFrame | None) -> pl.DataFrame:
    """Return the window score of the source document's way: daily quantiles added up."""
    units, share = window_target(history, fold, demand)
    sums = history.items.select("sku").join(
        sum_of_daily_quantiles(daily, fold.cutoff, fold.horizon_days), on="sku", how="left", maintain_order="left"
    )
    seen = share > 0
    q10, q50, q90 = (sums[name].to_numpy()[seen] * share[seen] for name in ("q10", "q50", "q90"))
    row = {"target": "window", "method": "sum of daily quantiles", **_row(units[seen], q10, q50, q90)}
    return _frame([row], fold, "true demand" if demand is not None else "orderable days")


def _frame(rows: Sequence[Mapping[str, object]], fold: Fold, scored_on: str) -> pl.DataFrame:
    full = [{"fold": fold.index, "cutoff": fold.cutoff, "scored_on": scored_on, **row} for row in rows]
    return pl.DataFrame(full, schema=SCORE_SCHEMA)


def check_cutoff(forecaster: DemandForecaster, fold: Fold) -> None:
    """Refuse a forecaster that knows other days than the fold says.

    Raises
    ------
    ForecastError
        Where the cutoffs differ.
    """
    if forecaster.cutoff != fold.cutoff:
        msg = (
            f"the forecaster knows days up to {forecaster.cutoff}, fold {fold.index} has cutoff {fold.cutoff}; fit it at the fold's cutoff"
        )
        raise ForecastError(msg)


def score_fold(forecaster: DemandForecaster, history: ShopHistory, fold: Fold, demand: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the scores of a forecaster fitted at the fold's cutoff and of all baselines, columns SCORE_SCHEMA.

    Parameters
    ----------
    forecaster
        Fitted on the history up to fold.cutoff.
    history
        The whole history; only its slab after the cutoff is compared with.
    demand
        True demand, key (sku, day), where it is known (evaluation only).

    Raises
    ------
    ForecastError
        Where the forecaster knows another cutoff than the fold's, or has daily quantiles other than .1, .5 and .9.
    """
    check_cutoff(forecaster, fold)
    if forecaster.daily is not None and not {0.1, 0.5, 0.9} <= set(forecaster.daily.taus):
        msg = f"the forecaster has daily quantiles {forecaster.daily.taus}; scores need .1, .5 and .9 among them, or no daily boosters"
        raise ForecastError(msg)
    window = [(1, fold.horizon_days)]
    forecasts = {"window law": forecaster.window_demand(window)}
    forecasts |= {name: baseline(forecaster.store.history, fold.cutoff, window) for name, baseline in BASELINES.items()}
    parts = [score_windows(history, fold, forecasts, demand)]
    if forecaster.daily is not None:
        daily = forecaster.daily_quantiles(fold.horizon_days)
        parts += [score_daily_sums(history, fold, daily, demand), score_daily(history, fold, daily)]
    return pl.concat(parts)
