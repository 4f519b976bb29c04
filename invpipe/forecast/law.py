r"""Count laws of demand: negative binomial per SKU, and per (SKU, window of days).

Demand of one SKU in one window is an integer count :math:`D \sim NB(m, r)` with mean :math:`m` and size :math:`r`, so that
:math:`Var D = m + m^2 / r`; :math:`r = \infty` is the Poisson law and :math:`m = 0` the certain zero. The gamma-Poisson posterior
predictive is a member of the family, so every forecaster and baseline of invpipe speaks it.

Quantiles do not add: the 90 % quantile of a sum is not the sum of the 90 % quantiles. A :class:`WindowDemand` therefore refuses `+`;
ask the forecaster for the longer window instead.

Source: any text on count regression, e.g. Hilbe (2011), *Negative Binomial Regression*, NB2 form.

>>> law = CountLaw(mean=np.array([2.0]), size=np.array([np.inf]))
>>> law.quantile(0.9).tolist(), law.survival(np.array([1])).round(4).tolist()
([4], [0.8647])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit
from scipy import special

from invpipe.errors import ForecastError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: A size above this is the Poisson law to double precision; it keeps the incomplete beta function out of its bad corner.
POISSON_SIZE = 1e8

#: Sums over outcomes start at the first whose log-probability exceeds this: before it, probabilities are carried as logarithms.
LOG_P_MIN = -500.0

#: Probability of an outcome above the mean with which a sum ends though rounding keeps it below its aim.
NEGLIGIBLE = 1e-18

#: Terms of the ranked probability score are summed while P(D > n) exceeds this or n < y.
RPS_TOLERANCE = 1e-6


def _check_law(mean: FloatArray, size: FloatArray) -> None:
    if mean.shape != size.shape:
        msg = f"mean has shape {mean.shape}, size has shape {size.shape}; give one size per mean"
        raise ForecastError(msg)
    bad = ~(np.isfinite(mean) & (mean >= 0))
    if bad.any():
        first = int(np.flatnonzero(bad.ravel())[0])
        msg = (
            f"{int(bad.sum())} of {bad.size} mean demands are negative or not finite, "
            f"first at flat index {first}: {mean.ravel()[first]}; check the forecast"
        )
        raise ForecastError(msg)
    bad = ~(size > 0)
    if bad.any():
        first = int(np.flatnonzero(bad.ravel())[0])
        msg = (
            f"{int(bad.sum())} of {bad.size} sizes are not above 0, "
            f"first at flat index {first}: {size.ravel()[first]}; inf is the Poisson law"
        )
        raise ForecastError(msg)


def _survival(mean: FloatArray, size: FloatArray, units: npt.NDArray[np.generic]) -> FloatArray:
    """P(D >= units), elementwise after broadcasting; units <= 0 give 1."""
    mean, size, n = np.broadcast_arrays(mean, size, np.asarray(units, dtype=np.float64))
    out = np.where(n <= 0, 1.0, 0.0)
    live = (n > 0) & (mean > 0)
    poisson = live & (size >= POISSON_SIZE)
    out[poisson] = special.gammainc(n[poisson], mean[poisson])
    nb = live & ~poisson
    # P(D >= n) = I_{m/(m+r)}(n, r), the regularised incomplete beta function
    out[nb] = special.betainc(n[nb], size[nb], mean[nb] / (mean[nb] + size[nb]))
    return out


@njit(cache=True, nogil=True)
def _ratio(mean: float, size: float, n: int) -> float:
    """Return P(D = n) / P(D = n - 1), n >= 1."""
    return mean / n if size >= POISSON_SIZE else mean / (mean + size) * (n - 1 + size) / n


@njit(cache=True, nogil=True)
def _first_outcome(mean: float, size: float) -> tuple[int, float]:
    """Return the first outcome that is not too rare for a double, and its probability; all before it add nothing to it."""
    log_p = -mean if size >= POISSON_SIZE else -size * math.log1p(mean / size)
    n = 0
    while log_p < LOG_P_MIN:
        n += 1
        log_p += math.log(_ratio(mean, size, n))
    return n, math.exp(log_p)


@njit(cache=True, nogil=True)
def _fill_quantiles(mean: FloatArray, size: FloatArray, tau: float, out: IntArray) -> None:
    """Fill out with the smallest n whose cumulative probability reaches tau."""
    for i in range(len(mean)):
        n, p = _first_outcome(mean[i], size[i])
        at_most = p
        while at_most < tau:
            n += 1
            p *= _ratio(mean[i], size[i], n)
            if p < NEGLIGIBLE and n > mean[i]:  # rounding keeps the sum below tau for ever
                break
            at_most += p
        out[i] = n


@njit(cache=True, nogil=True)
def _fill_ranked_probability_scores(mean: FloatArray, size: FloatArray, units: FloatArray, out: FloatArray) -> None:
    """Fill out with the sums over n >= 0 of (P(D <= n) - 1[units <= n])^2."""
    for i in range(len(mean)):
        n, p = _first_outcome(mean[i], size[i])
        score = max(n - math.ceil(units[i]), 0.0)  # of the outcomes before n
        at_most = p
        while True:
            seen = units[i] <= n
            score += (at_most - (1.0 if seen else 0.0)) ** 2
            if seen and (1.0 - at_most <= RPS_TOLERANCE or (n > mean[i] and p < NEGLIGIBLE)):
                break
            n += 1
            p *= _ratio(mean[i], size[i], n)
            at_most += p
        out[i] = score


def _quantile(mean: FloatArray, size: FloatArray, tau: float) -> IntArray:
    """Smallest n with P(D <= n) >= tau, flat."""
    if not 0 < tau < 1:
        msg = f"tau is {tau}; it must lie strictly between 0 and 1"
        raise ForecastError(msg)
    out = np.empty(mean.size, dtype=np.int64)
    _fill_quantiles(mean.ravel(), size.ravel(), tau, out)
    return out


@dataclass(frozen=True)
class CountLaw:
    """Independent count laws, one per row.

    Parameters
    ----------
    mean
        Expected units, >= 0 and finite, shape (n,).
    size
        Negative binomial size r > 0, inf for Poisson, shape (n,).

    Raises
    ------
    ForecastError
        Where shapes differ, a mean is negative or not finite, or a size is not positive.
    """

    mean: FloatArray
    size: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", np.ascontiguousarray(self.mean, dtype=np.float64))
        object.__setattr__(self, "size", np.ascontiguousarray(self.size, dtype=np.float64))
        _check_law(self.mean, self.size)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.mean)

    def quantile(self, tau: float) -> IntArray:
        """Return the smallest n with P(D <= n) >= tau, shape (n,), units."""
        return _quantile(self.mean, self.size, tau)

    def survival(self, units: npt.NDArray[np.generic]) -> FloatArray:
        """Return P(D >= units) per row; units has shape (n,) or broadcasts against it from the right, as (k, n)."""
        return _survival(self.mean, self.size, units)

    def cdf(self, units: npt.NDArray[np.generic]) -> FloatArray:
        """Return P(D <= units) per row, units of shape (n,) or (k, n)."""
        return 1.0 - self.survival(np.asarray(units) + 1)

    def ranked_probability_scores(self, units: FloatArray) -> FloatArray:
        """Return the ranked probability score of the units seen per row, shape (n,), units."""
        out = np.empty(len(self))
        _fill_ranked_probability_scores(self.mean, self.size, np.asarray(units, dtype=np.float64), out)
        return out

    def variance(self) -> FloatArray:
        """Return Var D = m + m^2 / r, shape (n,), units squared."""
        return self.mean + self.mean**2 / self.size

    def expected_sales(self, stock_units: npt.NDArray[np.generic]) -> FloatArray:
        """Return E[min(D, stock)] per row, units; stock_units has shape (n,), negative stock sells nothing.

        Uses E[min(D, x)] = m * P(D' <= x - 2) + x * P(D >= x) with D' ~ NB(m (r + 1) / r, r + 1), exact for both families.
        """
        x = np.maximum(np.asarray(stock_units, dtype=np.float64), 0.0)
        poisson = self.size >= POISSON_SIZE
        size = np.where(poisson, np.inf, self.size + 1.0)
        with np.errstate(invalid="ignore"):
            mean = np.where(poisson, self.mean, self.mean * (self.size + 1.0) / self.size)
        below = 1.0 - _survival(mean, size, x - 1)
        return np.asarray(self.mean * below + x * self.survival(x))

    def take(self, rows: npt.NDArray[np.generic]) -> CountLaw:
        """Return the laws of the given rows (indices or a mask)."""
        return CountLaw(self.mean[rows], self.size[rows])


@dataclass(frozen=True)
class WindowDemand:
    """Integer count law of demand per (SKU, window of days after the cutoff).

    Parameters
    ----------
    skus
        SKU per row, shape (n_sku,), sorted.
    cutoff
        Last day whose data the law may know; day 1 of a window is the day after.
    windows
        (first_day, last_day) of each window counted from the cutoff, 1 <= first_day <= last_day.
    mean, size
        Mean units and negative binomial size, shape (n_sku, n_window).

    Raises
    ------
    ForecastError
        Where shapes do not fit, a window is empty, or a mean or size is out of its bounds.
    """

    skus: tuple[str, ...]
    cutoff: date
    windows: tuple[tuple[int, int], ...]
    mean: FloatArray
    size: FloatArray

    def __post_init__(self) -> None:
        for first, last in self.windows:
            if not 1 <= first <= last:
                msg = f"window ({first}, {last}) is empty or starts before day 1; give 1 <= first <= last"
                raise ForecastError(msg)
        shape = (len(self.skus), len(self.windows))
        if self.mean.shape != shape:
            msg = f"mean has shape {self.mean.shape} for {shape[0]} SKUs and {shape[1]} windows"
            raise ForecastError(msg)
        _check_law(self.mean, self.size)

    def __add__(self, other: object) -> WindowDemand:
        """Refuse: quantiles do not add."""
        msg = "window demands cannot be added: quantiles do not add; ask the forecaster for the longer window"
        raise TypeError(msg)

    __radd__ = __add__

    def law(self, window: int | npt.NDArray[np.generic] = 0) -> CountLaw:
        """Return the law of one window per SKU: one window index for all, or one per SKU, shape (n_sku,)."""
        rows = np.arange(len(self.skus))
        return CountLaw(self.mean[rows, window], self.size[rows, window])

    def quantile(self, tau: float) -> IntArray:
        """Return the smallest n with P(D <= n) >= tau per (SKU, window), shape (n_sku, n_window), units."""
        return _quantile(self.mean, self.size, tau).reshape(self.mean.shape)

    def quantiles(self, taus: Sequence[float]) -> pl.DataFrame:
        """Return the integer quantiles, key (sku, first_day, last_day, tau), column demand_units."""
        n_sku = len(self.skus)
        frames = []
        for j, (first, last) in enumerate(self.windows):
            law = self.law(j)
            for tau in taus:
                frames.append(
                    pl.DataFrame(
                        {
                            "sku": list(self.skus),
                            "first_day": [self.cutoff + timedelta(days=first)] * n_sku,
                            "last_day": [self.cutoff + timedelta(days=last)] * n_sku,
                            "tau": np.full(n_sku, tau),
                            "demand_units": law.quantile(tau),
                        },
                        schema={
                            "sku": pl.String,
                            "first_day": pl.Date,
                            "last_day": pl.Date,
                            "tau": pl.Float64,
                            "demand_units": pl.Int64,
                        },
                    )
                )
        return pl.concat(frames).sort("sku", "first_day", "last_day", "tau")

    def to_frame(self) -> pl.DataFrame:
        """Return mean and size per window, key (sku, window_first, window_last), windows counted from the cutoff."""
        k = len(self.windows)
        return pl.DataFrame(
            {
                "sku": np.repeat(np.array(self.skus, dtype=object), k).tolist(),
                "cutoff": [self.cutoff] * (len(self.skus) * k),
                "window_first": np.tile([first for first, _ in self.windows], len(self.skus)),
                "window_last": np.tile([last for _, last in self.windows], len(self.skus)),
                "mean_units": self.mean.ravel(),
                "size": self.size.ravel(),
            },
            schema_overrides={"sku": pl.String, "cutoff": pl.Date},
        )

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> WindowDemand:
        """Return the law of a frame made by :meth:`to_frame`; more columns do not matter.

        Raises
        ------
        ForecastError
            Where the frame is empty, mixes cutoffs, or does not hold every window of every SKU once.
        """
        frame = frame.sort("sku", "window_first", "window_last")
        windows = tuple(frame.select("window_first", "window_last").unique().sort("window_first", "window_last").iter_rows())
        skus = tuple(frame["sku"].unique().sort())
        n_keys = frame.select("sku", "window_first", "window_last").n_unique()
        if len(frame) == 0 or frame["cutoff"].n_unique() != 1 or not n_keys == len(frame) == len(skus) * len(windows):
            msg = (
                f"{len(frame)} rows are not one law for each of {len(skus)} SKUs and {len(windows)} windows at one cutoff; "
                "take one partition"
            )
            raise ForecastError(msg)
        shape = (len(skus), len(windows))
        mean, size = (frame[name].to_numpy().reshape(shape) for name in ("mean_units", "size"))
        return cls(skus, frame["cutoff"][0], windows, mean, size)

    def survival(self, n: int) -> FloatArray:
        """Return P(D >= 1), ..., P(D >= n), shape (n_sku, n_window, n)."""
        units = np.arange(1, n + 1)
        return _survival(self.mean[:, :, None], self.size[:, :, None], units[None, None, :])
