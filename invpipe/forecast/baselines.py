"""Baselines every forecast is held against; each gives a WindowDemand like the forecaster's.

*zero* never expects a sale; *ewma* is Poisson around an exponentially weighted rate; *gamma_poisson* lets each SKU's rate be gamma
distributed over the catalogue and updates it with the SKU's own count (empirical Bayes by moments): the posterior predictive
of a window of L days after n units on e orderable days is negative binomial with size a + n and mean L (a + n) / (b + e).
*sum_of_daily_quantiles* is the source document's way to a window: it adds daily quantiles, which is wrong by construction and kept
to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.features import FEATURES, FeatureStore
from invpipe.forecast.law import WindowDemand
from invpipe.grid import window_labels
from invpipe.history import ShopHistory

Windows = Sequence[tuple[int, int]]


def _law(history: ShopHistory, windows: Windows, rate: npt.NDArray[np.float64], size: npt.NDArray[np.float64]) -> WindowDemand:
    days = np.array([last - first + 1 for first, last in windows], dtype=np.float64)
    return WindowDemand(
        history.skus,
        history.last_day,
        tuple((int(a), int(b)) for a, b in windows),
        rate[:, None] * days[None, :],
        np.repeat(size[:, None], len(days), axis=1),
    )


def zero(history: ShopHistory, cutoff: date, windows: Windows) -> WindowDemand:
    """Return the law that expects nothing."""
    n = len(history.skus)
    return _law(history.until(cutoff), windows, np.zeros(n), np.full(n, np.inf))


def ewma(history: ShopHistory, cutoff: date, windows: Windows) -> WindowDemand:
    """Return Poisson laws around the exponentially weighted rate per orderable day (half-life 28 days)."""
    known = history.until(cutoff)
    n = len(known.skus)
    one = np.ones(n, dtype=np.int64)
    rate = FeatureStore.of(known).matrix(np.arange(n), np.full(n, known.n_days - 1), one, one)[:, FEATURES.index("ewma_rate")]
    return _law(known, windows, np.nan_to_num(rate.astype(np.float64)), np.full(n, np.inf))


def gamma_poisson(history: ShopHistory, cutoff: date, windows: Windows, exposure_days: int = 91) -> WindowDemand:
    """Return gamma-Poisson laws from the counts of the last `exposure_days`, prior by moments over the SKUs sold before.

    The prior is taken over SKUs with at least one sale up to the cutoff; the others get its predictive with no count.
    """
    known = history.until(cutoff)
    n = len(known.skus)
    days = min(exposure_days, known.n_days)
    start, one = np.full(n, known.n_days - 1 - days), np.ones(n, dtype=np.int64)
    label = window_labels(known.arrays, np.arange(n), start, one, np.full(n, days))
    units, exposure = label.units, label.orderable_days.astype(np.float64)
    sold = (np.diff(known.arrays.sales.ptr) > 0) & (exposure > 0)
    total = exposure[sold].sum()
    rate = units[sold].sum() / max(total, 1.0)
    excess = ((units[sold] - rate * exposure[sold]) ** 2).sum() - rate * total
    variance = max(excess / max((exposure[sold] ** 2).sum(), 1.0), 1e-12)
    b = max(rate, 1e-12) / variance
    a = max(rate, 1e-12) * b
    return _law(known, windows, (a + units) / (b + exposure), a + units)


#: Window baselines by name.
BASELINES: dict[str, Callable[[ShopHistory, date, Windows], WindowDemand]] = {
    "zero": zero,
    "EWMA + Poisson": ewma,
    "gamma-Poisson 91 d": gamma_poisson,
}


def sum_of_daily_quantiles(daily: pl.DataFrame, cutoff: date, last_day: int) -> pl.DataFrame:
    """Return per SKU the sums of the daily quantiles over days 1 .. last_day after the cutoff, key sku.

    The sum of quantiles is not the quantile of the sum; this is the source document's input to its allocator, for comparison only.
    """
    window = daily.filter((pl.col("day") - pl.lit(cutoff)).dt.total_days() <= last_day)
    return window.group_by("sku").agg(pl.exclude("sku", "day").sum()).sort("sku")
