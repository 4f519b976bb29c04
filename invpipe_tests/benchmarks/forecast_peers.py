"""Peers for ``invpipe bench forecast``: the prototype, TSB and Croston (statsforecast), LightGBM with conformal intervals (mlforecast).

All get what the package's methods get: the history up to the cutoff. What they do about stock-outs is said with each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.bench.forecast import Method, law_method
from invpipe.bench.forecast_folds import Quantiles, Question
from invpipe.forecast.baselines import rate_laws, units_per_orderable_day
from invpipe.forecast.law import CountLaw
from invpipe.history import ShopHistory
from invpipe_tests.benchmarks.prototype import Prototype

FloatArray = npt.NDArray[np.float64]

#: Smoothing of TSB's demand size and of its probability of a sale day: of .05 to .2 and .005 to .1 the pair whose ranked probability
#: score was least above the best pair's (5 %) on the worst of three shops, one fold of each; .02 was best on Complete Journey, .1 on two.
TSB_ALPHA_SIZE, TSB_ALPHA_PROBABILITY = 0.1, 0.05

#: Longest step of the series that mlforecast sees, days: a divisor of the window.
MAX_STEP_DAYS = 7
#: Windows that conformal errors are taken from: at least the library's least, at most so many, and never more than a third of the series.
MIN_WINDOWS, MAX_WINDOWS = 2, 10
#: Weeks that make a year: its lag is the same window of last year.
YEAR_DAYS = 364
LIGHTGBM = {
    "objective": "tweedie", "tweedie_variance_power": 1.3, "n_estimators": 200, "n_jobs": 1, "random_state": 0, "deterministic": True,
    "force_row_wise": True, "verbosity": -1,
}  # fmt: skip


def prototype(question: Question) -> CountLaw:
    """Units that will be sold in the window: the prototype knows no stock-outs, neither in what it learns from nor in the window."""
    known = question.known
    return Prototype(known).window_demand(known.n_days - 1, question.days).law(0)


def _rate(history: ShopHistory, forecast: Callable[[npt.NDArray[np.float32]], float]) -> FloatArray:
    """Rate per orderable day by a model that sees each SKU's orderable days as one series; 0 for SKUs without a sale."""
    units, days = units_per_orderable_day(history)
    rate = np.zeros(len(days))
    for i in np.flatnonzero(units.any(axis=1)):
        rate[i] = forecast(units[i, units.shape[1] - days[i] :].astype(np.float32))
    return rate


def tsb_rate(history: ShopHistory) -> FloatArray:
    """Rate by Teunter, Syntetos and Babai's method (statsforecast)."""
    from statsforecast.models import TSB

    model = TSB(alpha_d=TSB_ALPHA_SIZE, alpha_p=TSB_ALPHA_PROBABILITY)
    return _rate(history, lambda series: model.forecast(series, 1)["mean"][0])


def croston_rate(history: ShopHistory) -> FloatArray:
    """Rate by Croston's method with the correction of Syntetos and Boylan (statsforecast, smoothing .1)."""
    from statsforecast.models import CrostonSBA

    model = CrostonSBA()
    return _rate(history, lambda series: model.forecast(series, 1)["mean"][0])


def step_days(window_days: int) -> int:
    """Longest divisor of the window that is no longer than a week."""
    return max(step for step in range(1, MAX_STEP_DAYS + 1) if window_days % step == 0)


def window_series(history: ShopHistory, days: int, step: int) -> FloatArray:
    """Units of the `days` days up to each step, the last step on the last day, shape (n_sku, n_step).

    A window in which a SKU was not always orderable counts its units per orderable day times `days`; one without an orderable day repeats
    the window before it.
    """
    n, last = len(history.skus), history.n_days - 1
    sales, arrays = history.arrays.sales, history.arrays
    units, seen = np.zeros((n, history.n_days + 1)), np.zeros((n, history.n_days + 1))
    units[np.repeat(np.arange(n), np.diff(sales.ptr)), sales.day + 1] = sales.value
    owner = np.repeat(np.arange(n), np.diff(arrays.span_ptr))
    np.add.at(seen, (owner, arrays.span_from + 1), 1)
    ended = arrays.span_to < last
    np.add.at(seen, (owner[ended], arrays.span_to[ended] + 2), -1)
    units, seen = units.cumsum(axis=1), seen.cumsum(axis=1).cumsum(axis=1)
    ends = np.arange(last, days - 2, -step)[::-1] + 1
    sold, exposure = units[:, ends] - units[:, ends - days], seen[:, ends] - seen[:, ends - days]
    series = np.where(exposure > 0, sold / np.maximum(exposure, 1) * days, np.nan)
    for k in range(len(ends)):
        series[:, k] = np.where(np.isnan(series[:, k]), series[:, k - 1] if k else 0.0, series[:, k])
    return series


def conformal(question: Question) -> Quantiles:
    """Window units by one LightGBM over lags of past windows, with intervals from each SKU's own conformity scores.

    Every lag lies at or before the origin, so the forecast of the window is direct. Window sums are taken per orderable day, and the
    answer is scaled to the orderable days of the window. The median is the point forecast: the library's intervals lie around it.
    """
    from mlforecast import MLForecast
    from mlforecast.lag_transforms import ExpandingMean, RollingMean
    from mlforecast.utils import PredictionIntervals

    known, days = question.known, question.days
    step = step_days(days)
    horizon = days // step
    series = window_series(known, days, step)
    sold = np.flatnonzero(series.any(axis=1))
    n_step = series.shape[1]
    n_windows = int(np.clip(n_step // 3 // horizon, MIN_WINDOWS, MAX_WINDOWS))
    frame = pl.DataFrame(
        {
            "unique_id": np.repeat(sold, n_step),
            "ds": np.tile(np.arange(n_step), len(sold)),
            "y": series[sold].ravel().astype(np.float32),
            "price": np.repeat(known.items["list_price"].to_numpy()[sold], n_step),
        }
    )
    lags = {horizon, horizon + 1, 2 * horizon, round(YEAR_DAYS / step)}
    transforms = {horizon: [ExpandingMean(), RollingMean(13, min_samples=1)]}
    model = MLForecast({"lgb": lgb.LGBMRegressor(**LIGHTGBM)}, freq=1, lags=sorted(lags), lag_transforms=transforms)
    model.fit(frame, static_features=["price"], dropna=False, prediction_intervals=PredictionIntervals(n_windows, horizon))
    forecast = model.predict(horizon, level=[80]).filter(pl.col("ds") == n_step - 1 + horizon).sort("unique_id")
    answer = np.zeros((len(known.skus), 3))
    answer[sold] = forecast.select("lgb-lo-80", "lgb", "lgb-hi-80").to_numpy()
    answer = np.maximum(answer, 0.0) * (question.exposure / days)[:, None]
    return Quantiles(answer, answer[:, 1])


#: Peers by name.
METHODS: dict[str, Method] = {
    "prototype": Method(prototype),
    "TSB + Poisson": law_method(partial(rate_laws, rate=tsb_rate, overdispersed=False)),
    "TSB + negative binomial": law_method(partial(rate_laws, rate=tsb_rate, overdispersed=True)),
    "Croston SBA + Poisson": law_method(partial(rate_laws, rate=croston_rate, overdispersed=False)),
    "Croston SBA + negative binomial": law_method(partial(rate_laws, rate=croston_rate, overdispersed=True)),
    "LightGBM + conformal": Method(conformal),
}
