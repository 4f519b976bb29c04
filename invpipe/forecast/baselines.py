"""Baselines every forecast is held against; each gives a WindowDemand like the forecaster's.

*zero* never expects a sale; *ewma* is Poisson around an exponentially weighted rate; *gamma_poisson* lets each SKU's rate be gamma
distributed over the catalogue and updates it with the SKU's own count (empirical Bayes by moments): the posterior predictive
of a window of L days after n units on e orderable days is negative binomial with size a + n and mean L (a + n) / (b + e).
*rate_laws* makes laws of any rate per day, Poisson, or negative binomial with sizes by class of the mean that make the last L days
likeliest given the rates known before them. *empirical* is the distribution of what each SKU sold in past windows of as many orderable
days.
*sum_of_daily_quantiles* is the source document's way to a window: it adds daily quantiles, which is wrong by construction and kept
to show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.errors import ForecastError
from invpipe.features import FEATURES, FeatureStore
from invpipe.forecast.dispersion import fit_dispersion
from invpipe.forecast.law import WindowDemand
from invpipe.grid import window_labels
from invpipe.history import ShopHistory

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Windows = Sequence[tuple[int, int]]

#: Days from one past window of a SKU's empirical law to the next: weeks keep the day of the week and are enough to fill the law.
EMPIRICAL_STEP_DAYS = 7


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


def ewma_rate(history: ShopHistory) -> FloatArray:
    """Return the exponentially weighted units per orderable day (half-life 28 days) at the end of a history, shape (n_sku,)."""
    n = len(history.skus)
    one = np.ones(n, dtype=np.int64)
    rate = FeatureStore.of(history).matrix(np.arange(n), np.full(n, history.n_days - 1), one, one)[:, FEATURES.index("ewma_rate")]
    return np.asarray(np.nan_to_num(rate.astype(np.float64)))


def rate_laws(
    history: ShopHistory, cutoff: date, windows: Windows, rate: Callable[[ShopHistory], FloatArray], *, overdispersed: bool
) -> WindowDemand:
    """Return Poisson laws around a rate, or negative binomial ones whose size depends on the mean and the length of the window.

    Parameters
    ----------
    rate
        Units per orderable day known at the end of a history, >= 0, shape (n_sku,).
    overdispersed
        Fit the size: the rates of L days ago are held against the L days since.

    Raises
    ------
    HistoryError
        Where a size is to be fitted and nothing was sold up to L days before the cutoff.
    """
    known = history.until(cutoff)
    demand = _law(known, windows, rate(known), np.full(len(known.skus), np.inf))
    if not overdispersed:
        return demand
    lengths = [last - first + 1 for first, last in windows]
    knots = {days: _dispersion(known, rate(known.until(cutoff - timedelta(days=days))), days) for days in sorted(set(lengths))}
    log_mean = np.log(np.maximum(demand.mean, np.finfo(np.float64).tiny))
    size = [np.exp(np.interp(log_mean[:, j], *knots[days])) for j, days in enumerate(lengths)]
    return replace(demand, size=np.column_stack(size))


def _dispersion(known: ShopHistory, rate: FloatArray, days: int) -> tuple[FloatArray, FloatArray]:
    """Return knots (log mean, log size) that make the last days likeliest, given the rates known before them; Poisson where none tells."""
    n = len(known.skus)
    start, one = np.full(n, known.n_days - 1 - days), np.ones(n, dtype=np.int64)
    label = window_labels(known.arrays, np.arange(n), start, one, np.full(n, days))
    mean = rate * label.orderable_days
    tells = mean > 0
    return fit_dispersion(mean[tells], label.units[tells]) if tells.any() else (np.zeros(1), np.full(1, np.inf))


def ewma(history: ShopHistory, cutoff: date, windows: Windows) -> WindowDemand:
    """Return Poisson laws around the exponentially weighted rate."""
    return rate_laws(history, cutoff, windows, ewma_rate, overdispersed=False)


def ewma_negative_binomial(history: ShopHistory, cutoff: date, windows: Windows) -> WindowDemand:
    """Return negative binomial laws around the exponentially weighted rate."""
    return rate_laws(history, cutoff, windows, ewma_rate, overdispersed=True)


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


@dataclass(frozen=True)
class EmpiricalLaw:
    """Laws that put the same mass on each of a row's own samples.

    Parameters
    ----------
    samples
        Units, ascending along each row, then inf, shape (n, n_sample).
    count
        Samples of each row, >= 1, shape (n,).
    """

    samples: FloatArray
    count: IntArray

    @property
    def mean(self) -> FloatArray:
        """Expected units, shape (n,)."""
        return np.asarray(np.where(np.isfinite(self.samples), self.samples, 0.0).sum(axis=1) / self.count)

    def quantile(self, tau: float) -> FloatArray:
        """Return the smallest sample with P(D <= sample) >= tau, shape (n,), units."""
        rank = np.ceil(np.round(tau * self.count, 9)).astype(np.int64) - 1  # rounded: .1 * 30 is above 3
        return np.asarray(self.samples[np.arange(len(self.count)), np.maximum(rank, 0)])

    def survival(self, units: npt.NDArray[np.generic]) -> FloatArray:
        """Return P(D >= units) per row, units of shape (n,)."""
        return np.asarray(1.0 - (self.samples < np.asarray(units)[:, None]).sum(axis=1) / self.count)

    def ranked_probability_scores(self, units: FloatArray) -> FloatArray:
        """Return the ranked probability score of the units seen per row, shape (n,), units.

        For whole numbers it is E|D - y| - E|D - D'| / 2, and with n samples in order the latter is the mean of (2 i - n - 1) / n times
        the i-th (Gneiting, Raftery 2007).
        """
        given, n = np.isfinite(self.samples), self.count[:, None]
        samples = np.where(given, self.samples, 0.0)
        distance = np.where(given, np.abs(samples - np.asarray(units)[:, None]), 0.0)
        rank = 2.0 * np.arange(1, samples.shape[1] + 1) - n - 1.0
        return np.asarray((distance - samples * rank / n).sum(axis=1) / self.count)

    def take(self, rows: npt.NDArray[np.generic]) -> EmpiricalLaw:
        """Return the laws of the given rows (indices or a mask)."""
        return EmpiricalLaw(self.samples[rows], self.count[rows])


def units_per_orderable_day(history: ShopHistory) -> tuple[FloatArray, IntArray]:
    """Return the units of each SKU's orderable days in their order, and how many those are.

    Returns
    -------
    units
        Shape (n_sku, n_days), aligned at the last column; columns before a SKU's first orderable day are 0.
    days
        Orderable days, shape (n_sku,).
    """
    a, n = history.arrays, len(history.skus)
    change = np.zeros((n, a.n_days + 1), dtype=np.int32)
    owner = np.repeat(np.arange(n), np.diff(a.span_ptr))
    change[owner, a.span_from] += 1
    change[owner, a.span_to + 1] -= 1
    so_far = change[:, : a.n_days].cumsum(axis=1, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    days = so_far[:, -1].astype(np.int64)
    units = np.zeros((n, a.n_days))
    sku = np.repeat(np.arange(n), np.diff(a.sales.ptr))
    units[sku, a.n_days - days[sku] + so_far[sku, a.sales.day] - 1] = a.sales.value
    return units, days


def empirical(history: ShopHistory, cutoff: date, orderable_days: IntArray) -> EmpiricalLaw:
    """Return per SKU the law of its units in past windows of as many orderable days, one window a week, back from the cutoff.

    A SKU with fewer orderable days has one sample, its units scaled up to the window; one without any has the sample 0.

    Parameters
    ----------
    orderable_days
        Length of the window in orderable days, >= 1, shape (n_sku,).

    Raises
    ------
    ForecastError
        Where a window has no day.
    """
    if (orderable_days < 1).any():
        row = int(np.flatnonzero(orderable_days < 1)[0])
        msg = f"{int((orderable_days < 1).sum())} windows have no orderable day, first that of {history.skus[row]}; leave those SKUs out"
        raise ForecastError(msg)
    units, days = units_per_orderable_day(history.until(cutoff))
    total = np.concatenate([np.zeros((len(days), 1)), units.cumsum(axis=1)], axis=1)
    end = np.arange(units.shape[1], 0, -EMPIRICAL_STEP_DAYS)
    start = end[None, :] - orderable_days[:, None]
    past = start >= (units.shape[1] - days)[:, None]
    samples = np.where(past, total[:, end] - np.take_along_axis(total, np.maximum(start, 0), axis=1), np.inf)
    short = ~past[:, 0]
    samples[short, 0] = np.round(total[short, -1] / np.maximum(days[short], 1) * orderable_days[short])
    return EmpiricalLaw(np.sort(samples, axis=1), np.maximum(past.sum(axis=1), 1))


def sum_of_daily_quantiles(daily: pl.DataFrame, cutoff: date, last_day: int) -> pl.DataFrame:
    """Return per SKU the sums of the daily quantiles over days 1 .. last_day after the cutoff, key sku.

    The sum of quantiles is not the quantile of the sum; this is the source document's input to its allocator, for comparison only.
    """
    window = daily.filter((pl.col("day") - pl.lit(cutoff)).dt.total_days() <= last_day)
    return window.group_by("sku").agg(pl.exclude("sku", "day").sum()).sort("sku")
