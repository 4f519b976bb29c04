r"""Gates: what a newly trained model has to show before it serves.

The candidate itself knows all days up to its cutoff, so its *recipe* is scored: the same parameters fitted `horizon_days` before the
cutoff T, on the units sold on the orderable days of (T - horizon, T]. On the same cells stand the baselines. The model that serves is
held against the recipe from the later of the beginning of the span and the day it was fitted on: it must not know what it is scored on,
and both look at the same days. A span of less than `MIN_SPAN_DAYS` is no evidence; that comparison is then left out. A young shop, whose
history is too short for the whole horizon, is scored on as many days as leave enough to fit before them; the scores name the first one.

Drift is the population stability index of a feature between two days,

.. math:: PSI = \sum_i (q_i - p_i) \ln (q_i / p_i)

with shares p, q of the cells in the deciles of the first day (and of missing values). Below .1 it is taken for stable, above .25 for moved
(Lewis 1994, An Introduction to Credit Scoring; Yurdakul 2018, Statistical Properties of Population Stability Index). What a model does
not use may move as it likes, so the gate weighs the features by their share of the booster's gain. The calendar is left out: it moves by
itself.

Limit: one span. A model that is good in one month may be bad in the next; `fold_scores` look at many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.errors import ForecastError
from invpipe.features import FEATURES, FeatureStore
from invpipe.forecast.baselines import ewma_negative_binomial, gamma_poisson, zero
from invpipe.forecast.folds import Fold
from invpipe.forecast.forecaster import DemandForecaster
from invpipe.forecast.law import WindowDemand
from invpipe.forecast.params import ForecastParams
from invpipe.forecast.scores import score_windows
from invpipe.forecast.window import least_history_days
from invpipe.history import ShopHistory
from invpipe.settings.gates import GateSettings

FloatArray = npt.NDArray[np.float64]

#: Shortest span, days, on which a model is scored: one week, so that every weekday counts once.
MIN_SPAN_DAYS = 7
#: Cells added to each bin of the index, so that an empty one has a finite logarithm.
PSEUDO_CELLS = 0.5
#: Features that say what day it is.
CALENDAR = frozenset({"day_of_week", "day_of_month", "days_to_christmas"})
#: Features named where the index is shown in one line.
SHOWN_FEATURES = 3

CANDIDATE, SERVING, ZERO = "candidate", "serving model", "zero"
BASELINES = {"gamma-Poisson": gamma_poisson, "EWMA + negative binomial": ewma_negative_binomial, ZERO: zero}

#: Scores of a candidate, key (against, method); drift in the candidate's rows only.
SCORE_SCHEMA = {
    "against": pl.String,
    "method": pl.String,
    "fitted_on": pl.Date,
    "first_day": pl.Date,
    "last_day": pl.Date,
    "cells": pl.Int64,
    "pinball_50": pl.Float64,
    "pinball_90": pl.Float64,
    "bracket_90_violation_points": pl.Float64,
    "bias_frac": pl.Float64,
    "drift_psi": pl.Float64,
    "moved_most": pl.String,
}

#: Verdicts, key gate; `blocks` says whether a model that fails it may serve.
GATE_SCHEMA = {
    "gate": pl.String,
    "value": pl.Float64,
    "limit": pl.Float64,
    "passed": pl.Boolean,
    "blocks": pl.Boolean,
    "message": pl.String,
}


def population_stability(reference: FloatArray, now: FloatArray) -> float:
    """Return the population stability index of a sample against a reference, 0 where their shares are equal, never negative.

    Parameters
    ----------
    reference, now
        Values, shapes (n,) and (m,); NaN is a bin of its own, the others are the deciles of `reference`.

    Raises
    ------
    ForecastError
        Where one of them is empty.
    """
    if not len(reference) or not len(now):
        msg = f"the stability index compares {len(reference)} with {len(now)} values; both samples need at least one"
        raise ForecastError(msg)
    known = reference[~np.isnan(reference)]
    edges = np.unique(np.quantile(known, np.arange(1, 10) / 10)) if len(known) else np.zeros(0)
    p, q = _shares(reference, edges), _shares(now, edges)
    return float(np.sum((q - p) * np.log(q / p)))


def _shares(values: FloatArray, edges: FloatArray) -> FloatArray:
    missing = np.isnan(values)
    counts = np.bincount(np.searchsorted(edges, values[~missing], side="left"), minlength=len(edges) + 1)
    cells = np.append(counts, missing.sum()) + PSEUDO_CELLS
    return np.asarray(cells / cells.sum())


def feature_drift(history: ShopHistory, reference_day: date, day: date, gain: Mapping[str, float]) -> pl.DataFrame:
    """Return per feature but the calendar's how far it moved over the SKUs: (feature, gain_frac, psi), the most moved first.

    Parameters
    ----------
    history
        Shop up to `day` or later.
    reference_day, day
        Days at whose ends the features are compared.
    gain
        Share of the booster's gain per feature; what is absent counts 0.
    """
    before, now = _features(history.until(reference_day)), _features(history.until(day))
    rows = [
        {"feature": name, "gain_frac": gain.get(name, 0.0), "psi": population_stability(before[:, j], now[:, j])}
        for j, name in enumerate(FEATURES)
        if name not in CALENDAR
    ]
    return pl.DataFrame(rows).sort("psi", "feature", descending=[True, False])


def _features(known: ShopHistory) -> FloatArray:
    n = len(known.skus)
    one = np.ones(n, dtype=np.int64)
    return FeatureStore.of(known).matrix(np.arange(n), np.full(n, known.n_days - 1), one, one).astype(np.float64)


@dataclass(frozen=True)
class CandidateScores:
    """What is known of a candidate: its scores (columns SCORE_SCHEMA) and the drift of every feature, see :func:`feature_drift`."""

    scores: pl.DataFrame
    drift: pl.DataFrame


def score_candidate(
    history: ShopHistory, cutoff: date, params: ForecastParams, horizon_days: int, serving: DemandForecaster | None = None
) -> CandidateScores:
    """Score the recipe of a candidate on the last span before its cutoff, beside the baselines and the model that serves.

    Parameters
    ----------
    history
        Shop; nothing after the cutoff is read.
    cutoff
        Day the candidate was trained at.
    params
        The candidate's parameters; its daily boosters are not scored.
    horizon_days
        Days of the span, >= 1; a young shop, whose history is too short to fit before so long a span, is scored on the longest that fits.
    serving
        The model that serves, fitted before the cutoff; None where there is none.

    Raises
    ------
    HistoryError
        Where the history begins after the beginning of the span, or nothing was sold before it.
    ForecastError
        Where not even a span of `MIN_SPAN_DAYS` fits, or `serving` knows SKUs by their place in a catalogue that changed since.
    """
    known = history.until(cutoff)
    horizon_days = _span_days(known, params, horizon_days)
    start = cutoff - timedelta(days=horizon_days)
    recipe = DemandForecaster.fit(known, start, params.model_copy(update={"daily_taus": ()}))
    span = [(1, horizon_days)]
    laws = {CANDIDATE: recipe.window_demand(span)} | {name: law(known, start, span) for name, law in BASELINES.items()}
    drift = feature_drift(known, start, cutoff, recipe.window.gain_by_feature())
    tables = [_scored("baselines", known, laws, {CANDIDATE: start}, drift)]
    origin = start if serving is None else max(start, serving.fitted_on)
    if serving is not None and (cutoff - origin).days >= MIN_SPAN_DAYS:
        span = [(1, (cutoff - origin).days)]
        laws = {CANDIDATE: recipe.as_of(known, origin).window_demand(span), SERVING: serving.as_of(known, origin).window_demand(span)}
        tables.append(_scored(SERVING, known, laws, {CANDIDATE: start, SERVING: serving.fitted_on}, drift))
    return CandidateScores(pl.concat(tables), drift)


def _span_days(known: ShopHistory, params: ForecastParams, horizon_days: int) -> int:
    """Return the days to score on: as many as asked for, or as many as leave enough history to fit before them."""
    needed = least_history_days(params)
    days = min(horizon_days, known.n_days - needed)
    if days < min(MIN_SPAN_DAYS, horizon_days):
        short = needed + min(MIN_SPAN_DAYS, horizon_days) - known.n_days
        msg = (
            f"the history has {known.n_days} days up to {known.last_day}; a model is fitted on at least {needed} and scored on "
            f"{MIN_SPAN_DAYS} after them: train from {known.last_day + timedelta(days=short)} on"
        )
        raise ForecastError(msg)
    return days


def _scored(
    against: str, known: ShopHistory, laws: dict[str, WindowDemand], fitted_on: Mapping[str, date], drift: pl.DataFrame
) -> pl.DataFrame:
    origin = laws[CANDIDATE].cutoff
    fold = Fold(0, origin, origin + timedelta(days=1), known.last_day)
    scores = score_windows(known, fold, laws, demand=None)
    moved = drift.filter(pl.col("gain_frac") > 0).sort(pl.col("gain_frac") * pl.col("psi"), descending=True).head(SHOWN_FEATURES)
    is_candidate = pl.col("method") == CANDIDATE
    return scores.select(
        pl.lit(against).alias("against"),
        "method",
        pl.col("method").replace_strict(fitted_on, default=None, return_dtype=pl.Date).alias("fitted_on"),
        pl.lit(fold.test_first).alias("first_day"),
        pl.lit(fold.test_last).alias("last_day"),
        "cells",
        "pinball_50",
        "pinball_90",
        "bracket_90_violation_points",
        (pl.col("mean_forecast_units") / pl.col("mean_units") - 1.0).alias("bias_frac"),
        pl.when(is_candidate).then(float((drift["gain_frac"] * drift["psi"]).sum())).alias("drift_psi"),
        pl.when(is_candidate).then(pl.lit(", ".join(f"{name} {psi:.2f}" for name, _, psi in moved.rows()))).alias("moved_most"),
    ).cast(SCORE_SCHEMA)  # type: ignore[arg-type]


def judge(scores: pl.DataFrame, limits: GateSettings) -> pl.DataFrame:
    """Return the verdict of every gate on a candidate, columns GATE_SCHEMA; a figure that is no number fails.

    Parameters
    ----------
    scores
        Columns SCORE_SCHEMA, see :func:`score_candidate`.
    limits
        Settings of the gates.
    """
    by_method = {(row["against"], row["method"]): row for row in scores.iter_rows(named=True)}
    own = by_method["baselines", CANDIDATE]
    baselines = [row for (against, method), row in by_method.items() if against == "baselines" and method not in (CANDIDATE, ZERO)]
    another_serves = (SERVING, SERVING) in by_method
    span = f"on {own['first_day']} .. {own['last_day']}"
    gates = [
        _gate(
            "beats_zero", own["pinball_90"] / by_method["baselines", ZERO]["pinball_90"], 1.0, strict=True,
            what=f"pinball-90 {span} as a share of that of a forecast of nothing",
            cure="the forecast is worth nothing: look whether sales or orderable days are missing before the cutoff, then train again",
        ),
        _gate(
            "pinball_against_baselines", _worse(own, baselines), limits.baseline_worse_frac, blocks=another_serves,
            what=f"pinball {span} above that of the best baseline, share",
            cure="a simple rate forecasts better: compare fold_scores, look for a change in the data, train again with a longer history",
        ),
        _gate(
            "bracket", own["bracket_90_violation_points"], limits.bracket_points,
            what=f"points by which .9 lies outside its bracket {span}",
            cure="safety stocks would be wrong: see the calibration of fold_summary; train again when the next weeks are known",
        ),
        _gate(
            "volume_bias", abs(own["bias_frac"]), limits.bias_frac,
            what=f"bias of the volume {span} ({own['bias_frac']:+.1%})",
            cure="look for a promotion, a season or missing sales in the span; train again when it is over",
        ),
        _gate(
            "feature_drift", own["drift_psi"], limits.drift_psi,
            what=f"stability index of the features between {own['fitted_on']} and {own['last_day']} (moved most: {own['moved_most']})",
            cure="look whether the source of these columns changed; if the change is real, raise gates.drift_psi or wait for more days",
        ),
    ]  # fmt: skip
    if another_serves:
        serving = by_method[SERVING, SERVING]
        days = f"on {serving['first_day']} .. {serving['last_day']}"
        gates.append(
            _gate(
                "pinball_against_serving", _worse(by_method[SERVING, CANDIDATE], [serving]), limits.pinball_worse_frac,
                what=f"pinball {days} above that of the model of {serving['fitted_on']}, which serves, share",
                cure="the old model goes on; if this fails for weeks, look at the data since its cutoff",
            )
        )  # fmt: skip
    return pl.DataFrame(gates, schema=GATE_SCHEMA)


def _worse(own: Mapping[str, float], others: list[dict[str, float]]) -> float:
    """Return the excess of the pinball loss over the best of the others as a share of it, the larger one of .5 and .9."""
    excess = []
    for name in ("pinball_50", "pinball_90"):
        best = min(row[name] for row in others)
        excess.append(own[name] / best - 1.0 if best > 0 else (np.inf if own[name] > 0 else 0.0))
    return float(np.max(excess))


def _gate(
    gate: str, value: float, limit: float, *, what: str, cure: str, blocks: bool = True, strict: bool = False
) -> dict[str, str | float | bool]:
    passed = bool(value < limit if strict else value <= limit)
    message = f"{gate}: {what} is {value:.3f}, limit {'below ' if strict else ''}{limit:g}" + ("" if passed else f"; {cure}")
    return {"gate": gate, "value": value, "limit": limit, "passed": passed, "blocks": blocks, "message": message}
