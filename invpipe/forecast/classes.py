r"""Scores of window forecasts by demand class, volume decile and window length, kept as sums so that any of them can be pooled.

A class must be known before the outcome is: classes of the outcome make every good forecast look wrong, for those that sold most sold
more than expected. Both classes are measured at the cutoff, on the history known there.

*Demand class* (Syntetos, Boylan, Croston 2005, Journal of the Operational Research Society 56(5)): with the average demand interval
:math:`ADI` = orderable days per day with a sale, and :math:`CV^2` = squared coefficient of variation of the units
of days with a sale,

=============  ==================  ===============
class          ADI                 CV2
=============  ==================  ===============
smooth         < 1.32              < .49
erratic        < 1.32              >= .49
intermittent   >= 1.32             < .49
lumpy          >= 1.32             >= .49
cold start     no sale yet         no sale yet
=============  ==================  ===============

The period is one day; at 96 % days without a sale most SKUs are intermittent or lumpy. Counted are all orderable days, not those since the
first sale: a SKU that sold once, yesterday, would be smooth.

*Volume decile*: units per orderable day of the last 91 days, ties by all units sold, among the scored SKUs that sold before; 1 is the
least. SKUs that never sold have none.

Scores are sums over cells (a cell is one SKU's window), one row per (fold, window length, class, decile, method); :func:`pool` adds rows up
and divides. Shares pooled this way are shares of all cells, where a mean of folds' shares would count small folds as large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.errors import ForecastError
from invpipe.forecast.baselines import BASELINES
from invpipe.forecast.folds import Fold
from invpipe.forecast.forecaster import DemandForecaster
from invpipe.forecast.law import CountLaw
from invpipe.forecast.metrics import bracket_counts, deciles, pinball_losses, randomised_pit
from invpipe.forecast.scores import check_cutoff, window_target
from invpipe.grid import window_labels
from invpipe.history import ShopHistory

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Demand classes in the order of tables; the index is the class's number.
DEMAND_CLASSES = ("smooth", "erratic", "intermittent", "lumpy", "cold start")
COLD_START = DEMAND_CLASSES.index("cold start")
#: Cut-offs of Syntetos, Boylan and Croston.
ADI_CUTOFF, CV2_CUTOFF = 1.32, 0.49
#: Days whose units sort SKUs into volume deciles.
VOLUME_DAYS = 91
#: Window lengths scored beside the fold's own.
WINDOW_DAYS = (7, 14, 28)
#: Quantiles whose brackets are counted, in whole percents.
PERCENTS = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
#: Bins of the randomised PIT, so many that .1 and .9 are edges.
PIT_BINS = 20

_KEYS = {
    "fold": pl.Int64(),
    "cutoff": pl.Date(),
    "scored_on": pl.String(),
    "window_days": pl.Int64(),
    "demand_class": pl.Enum(DEMAND_CLASSES),
    "volume_decile": pl.Int64(),
    "method": pl.String(),
}
_MEASURES = ("units", "expected_units", "pinball_10", "pinball_50", "pinball_90", "pinball_90_of_zero", "rps")
_COUNTS = (
    "cells",
    *(f"{name}_{percent}" for percent in PERCENTS for name in ("below", "at_most")),
    *(f"pit_{k:02d}" for k in range(PIT_BINS)),
)
#: Columns of the sums: the key, then counts of cells and sums of scores over them.
CLASS_SCHEMA: dict[str, pl.DataType] = _KEYS | {name: pl.Int64() for name in _COUNTS} | {name: pl.Float64() for name in _MEASURES}


def demand_classes(known: ShopHistory) -> IntArray:
    """Return the demand class of every SKU at the end of a history, indices of :data:`DEMAND_CLASSES`, shape (n_sku,)."""
    sales, n = known.arrays.sales, len(known.skus)
    sale_days = np.diff(sales.ptr)
    sold = np.flatnonzero(sale_days > 0)
    ones = np.ones(len(sold), dtype=np.int64)
    interval = window_labels(known.arrays, sold, -ones, ones, known.n_days * ones).orderable_days / sale_days[sold]
    row = np.repeat(np.arange(n), sale_days)
    mean = np.bincount(row, sales.value, n)[sold] / sale_days[sold]
    square = np.bincount(row, sales.value**2, n)[sold] / sale_days[sold]
    out = np.full(n, COLD_START)
    out[sold] = 2 * (interval >= ADI_CUTOFF) + (square / mean**2 - 1.0 >= CV2_CUTOFF)
    return out


def volume_deciles(known: ShopHistory, rows: IntArray) -> IntArray:
    """Return the volume decile of SKUs at the end of a history, 1 (least) to 10, shape (len(rows),)."""
    ones, volumes = np.ones(len(rows), dtype=np.int64), []
    for days in (min(VOLUME_DAYS, known.n_days), known.n_days):
        label = window_labels(known.arrays, rows, known.n_days - 1 - days * ones, ones, days * ones)
        volumes.append((label.units, np.maximum(label.orderable_days, 1)))
    (recent, recent_days), (units, _) = volumes
    return deciles(recent / recent_days, units) + 1


def score_classes(
    forecaster: DemandForecaster,
    history: ShopHistory,
    fold: Fold,
    demand: pl.DataFrame | None = None,
    window_days: Sequence[int] = WINDOW_DAYS,
) -> pl.DataFrame:
    """Return the sums of scores of the window law and of all baselines, columns CLASS_SCHEMA.

    Parameters
    ----------
    forecaster
        Fitted on the history up to fold.cutoff.
    history
        The whole history; only its slab after the cutoff is compared with.
    demand
        True demand, key (sku, day), where it is known (evaluation only); else units of the orderable days are compared with.
    window_days
        Lengths of windows from the day after the cutoff; longer ones than the slab are left out, the slab itself is always scored.

    Raises
    ------
    ForecastError
        Where the forecaster knows another cutoff than the fold's, or the slab ends after the history.
    """
    check_cutoff(forecaster, fold)
    lengths = sorted({days for days in window_days if days < fold.horizon_days} | {fold.horizon_days})
    windows = [(1, days) for days in lengths]
    forecasts = {"window law": forecaster.window_demand(windows)}
    known = forecaster.store.history
    forecasts |= {name: baseline(known, fold.cutoff, windows) for name, baseline in BASELINES.items()}
    classes = demand_classes(known)
    parts = []
    for j, days in enumerate(lengths):
        units, share = window_target(history, replace(fold, test_last=fold.cutoff + timedelta(days=days)), demand)
        seen = np.flatnonzero(share > 0)
        decile = np.zeros(len(seen), dtype=np.int64)
        sold = classes[seen] != COLD_START
        decile[sold] = volume_deciles(known, seen[sold])
        for method, forecast in forecasts.items():
            law = forecast.law(j)
            sums = _sums(CountLaw(law.mean[seen] * share[seen], law.size[seen]), units[seen], classes[seen], decile)
            parts.append(sums.with_columns(method=pl.lit(method), window_days=pl.lit(days, pl.Int64)))
    scored_on = "true demand" if demand is not None else "orderable days"
    keys = {"fold": pl.lit(fold.index, pl.Int64), "cutoff": pl.lit(fold.cutoff), "scored_on": pl.lit(scored_on)}
    return pl.concat(parts).with_columns(**keys).select(pl.col(name).cast(dtype) for name, dtype in CLASS_SCHEMA.items())


def _sums(law: CountLaw, units: FloatArray, demand_class: IntArray, decile: IntArray) -> pl.DataFrame:
    """Return counts and sums per (class, decile), decile null where it is 0."""
    pairs, group = np.unique(demand_class * 11 + decile, return_inverse=True)
    n, group = len(pairs), group.astype(np.int64)
    by_percent = [bracket_counts(units, law.quantile(percent / 100), group, n).astype(np.int64) for percent in PERCENTS]
    bins = np.minimum((randomised_pit(law, units) * PIT_BINS).astype(np.int64), PIT_BINS - 1)
    pit = np.bincount(group * PIT_BINS + bins, minlength=n * PIT_BINS).reshape(n, PIT_BINS)
    sums = pl.DataFrame(
        {
            "demand_class": [DEMAND_CLASSES[pair // 11] for pair in pairs],
            "volume_decile": [int(pair % 11) or None for pair in pairs],
            "cells": by_percent[0][:, 0],
            **{f"below_{p}": counts[:, 1] for p, counts in zip(PERCENTS, by_percent, strict=True)},
            **{f"at_most_{p}": counts[:, 2] for p, counts in zip(PERCENTS, by_percent, strict=True)},
            **{f"pit_{k:02d}": pit[:, k] for k in range(PIT_BINS)},
        },
        schema_overrides={"demand_class": pl.String, "volume_decile": pl.Int64},
    )
    return sums.hstack(pl.DataFrame({name: np.bincount(group, each, n) for name, each in _measures(law, units).items()}))


def _measures(law: CountLaw, units: FloatArray) -> dict[str, FloatArray]:
    """Return the scores of each cell."""
    return {
        "units": units,
        "expected_units": law.mean,
        **{f"pinball_{p}": pinball_losses(units, law.quantile(p / 100), p / 100) for p in (10, 50, 90)},
        "pinball_90_of_zero": 0.9 * units,
        "rps": law.ranked_probability_scores(units),
    }


def pool(sums: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return the scores of all cells of each group, sorted by it; methods are always told apart.

    Parameters
    ----------
    sums
        Rows of :func:`score_classes`, any number of folds.
    by
        Columns of the key: fold, cutoff, scored_on, window_days, demand_class, volume_decile. Rows without one (a cold SKU has no decile)
        are left out.

    Returns
    -------
    pl.DataFrame
        Key (*by, method): cells, means per cell of units, pinball loss and rps, `pinball_90_vs_zero`, `bias_frac` (expected units over
        units, less 1), brackets and violation in points at .1, .5 and .9, `randomised_coverage_80`. NaN where a ratio has no meaning.

    Raises
    ------
    ForecastError
        Where a column is not of the key, or of the sums.
    """
    total = add_up(sums, *by)
    cells = pl.col("cells")
    tail = PIT_BINS // 10
    inside = pl.sum_horizontal(f"pit_{k:02d}" for k in range(tail, PIT_BINS - tail))
    brackets = [column.name.prefix(f"bracket_{percent}_") for percent in (10, 50, 90) for column in _bracket(percent)]
    return total.select(
        *by,
        "method",
        "cells",
        *((pl.col(name) / cells).alias(name) for name in ("pinball_10", "pinball_50", "pinball_90", "rps")),
        (pl.col("pinball_90") / pl.col("pinball_90_of_zero")).alias("pinball_90_vs_zero"),
        (pl.col("units") / cells).alias("mean_units"),
        (pl.col("expected_units") / pl.col("units") - 1.0).alias("bias_frac"),
        *brackets,
        (inside / cells).alias("randomised_coverage_80"),
    )


def _bracket(percent: int) -> list[pl.Expr]:
    """Return the columns low = P(y < q), high = P(y <= q) and by how many points tau lies outside of them."""
    tau, cells = percent / 100, pl.col("cells")
    low, high = pl.col(f"below_{percent}") / cells, pl.col(f"at_most_{percent}") / cells
    outside = 100.0 * pl.max_horizontal(low - tau, tau - high, pl.lit(0.0))
    return [low.alias("low"), high.alias("high"), outside.alias("violation_points")]


def calibration(sums: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return the bracket of every counted quantile, key (*by, method, tau): cells, low = P(y < q), high = P(y <= q), violation in points.

    Raises
    ------
    ForecastError
        As :func:`pool`.
    """
    total = add_up(sums, *by)
    parts = [total.select(*by, "method", "cells", pl.lit(percent / 100).alias("tau"), *_bracket(percent)) for percent in PERCENTS]
    return pl.concat(parts).sort(*by, "method", "tau")


def pit_histogram(sums: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return the histogram of the randomised PIT, key (*by, method, low): cells, bin low .. high, density (1 = uniform).

    Raises
    ------
    ForecastError
        As :func:`pool`.
    """
    total = add_up(sums, *by)
    parts = [
        total.select(
            *by,
            "method",
            "cells",
            low=pl.lit(k / PIT_BINS),
            high=pl.lit((k + 1) / PIT_BINS),
            density=PIT_BINS * pl.col(f"pit_{k:02d}") / pl.col("cells"),
        )
        for k in range(PIT_BINS)
    ]
    return pl.concat(parts).sort(*by, "method", "low")


def whole_slab(sums: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of the longest window, the slab itself: cells of several lengths are of the same days and do not pool."""
    return sums.filter(pl.col("window_days") == pl.col("window_days").max())


def add_up(sums: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Return the sums of each group, key (*by, method), sorted; as :func:`pool`, before it divides.

    Raises
    ------
    ForecastError
        As :func:`pool`.
    """
    missing = [name for name in CLASS_SCHEMA if name not in sums.columns]
    if missing:
        msg = f"sums of scores lack {len(missing)} of {len(CLASS_SCHEMA)} columns, first {missing[0]!r}; give what score_classes returned"
        raise ForecastError(msg)
    unknown = [name for name in by if name not in _KEYS or name == "method"]
    if unknown:
        msg = f"cannot pool by {unknown[0]!r}; choose from {', '.join(name for name in _KEYS if name != 'method')}"
        raise ForecastError(msg)
    methods = {name: k for k, name in enumerate(sums["method"].unique(maintain_order=True))}
    total = (sums.drop_nulls(by) if by else sums).group_by(*by, "method").agg(pl.col(*_COUNTS, *_MEASURES).sum())
    return total.sort(*by, pl.col("method").replace_strict(methods, return_dtype=pl.Int64))
