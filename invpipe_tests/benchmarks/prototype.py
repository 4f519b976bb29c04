"""The yardsticks' prototype, written from its description, with and without training targets that reach past the cutoff.

Tweedie mean (power 1.3, 200 rounds) on sums and sale-day shares over 7..182 days, age, recency, price, last year's same window and days to
Christmas; a negative binomial whose size is fitted per bin of the mean on the training cells. Origins every two weeks.

`reach_days` is how far the targets of the last training origins reach past the cutoff: 0 is honest. The figures that were handed down for
60-day windows come out with 32, that is, with the origins of 28-day windows; without it the same model is 7 % worse.
"""

from __future__ import annotations

from datetime import date, timedelta

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from invpipe.forecast.dispersion import fit_dispersion
from invpipe.forecast.law import WindowDemand
from invpipe.history import ShopHistory

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]

ROLLING_DAYS = (7, 14, 28, 56, 91, 182)
ORIGIN_STEP_DAYS = 14
MIN_HISTORY_DAYS = 28
PARAMS = {"objective": "tweedie", "tweedie_variance_power": 1.3, "num_threads": 1, "seed": 0, "deterministic": True, "verbosity": -1}


class Prototype:
    """Dense cumulative units and sale days of a history, SKU x day; build it once per shop."""

    def __init__(self, history: ShopHistory) -> None:
        sales, n = history.arrays.sales, len(history.skus)
        sku = np.repeat(np.arange(n), np.diff(sales.ptr))
        self.history = history
        self.units = np.zeros((n, history.n_days + 1), dtype=np.float32)
        self.sale_days = np.zeros_like(self.units)
        self.units[sku, sales.day + 1] = sales.value
        self.sale_days[sku, sales.day + 1] = 1
        self.first = np.where(self.units.any(axis=1), self.units.argmax(axis=1), np.inf)
        self.first[sku[::-1]] = sales.day[::-1]  # the last write is the first sale
        last = np.where(self.units > 0, np.arange(-1, history.n_days), -1)
        self.last_sale = np.maximum.accumulate(last, axis=1).astype(np.int32)
        self.units.cumsum(axis=1, out=self.units)
        self.sale_days.cumsum(axis=1, out=self.sale_days)
        self.price = history.items["list_price"].to_numpy()

    def _between(self, cumulative: npt.NDArray[np.float32], sku: IndexArray, first: int, last: int) -> npt.NDArray[np.float32]:
        return cumulative[sku, last + 1] - cumulative[sku, max(first, 0)]

    def inputs(self, sku: IndexArray, origin: int, days: int) -> npt.NDArray[np.float32]:
        """Return the features of SKUs at the end of the origin day, shape (n, 17)."""
        sums = [self._between(self.units, sku, origin - d + 1, origin) for d in ROLLING_DAYS]
        shares = [self._between(self.sale_days, sku, origin - d + 1, origin) / d for d in ROLLING_DAYS]
        year_ago = origin + 1 - 364
        last_year = self._between(self.units, sku, year_ago, year_ago + days - 1) if year_ago >= 0 else np.full(len(sku), np.nan)
        day = self.history.first_day + timedelta(days=origin + 1)
        christmas = date(day.year + ((day.month, day.day) > (12, 25)), 12, 25)
        rest = [origin - self.first[sku], origin - self.last_sale[sku, origin + 1], last_year, np.full(len(sku), (christmas - day).days)]
        return np.column_stack([*sums, *shares, *rest, self.price[sku]]).astype(np.float32)

    def window_demand(self, cutoff: int, days: int, reach_days: int = 0) -> WindowDemand:
        """Return the law of the `days` days after the cutoff (day indices)."""
        origins = range(cutoff - days + min(reach_days, days - 1), MIN_HISTORY_DAYS - 1, -ORIGIN_STEP_DAYS)
        matrices, targets = [], []
        for origin in origins:
            sold = np.flatnonzero(self.units[:, origin + 1] > 0)
            matrices.append(self.inputs(sold, origin, days))
            targets.append(self._between(self.units, sold, origin + 1, origin + days).astype(np.float64))
        matrix, target = np.concatenate(matrices), np.concatenate(targets)
        booster = lgb.train(PARAMS, lgb.Dataset(matrix, target, params={"verbosity": -1}), num_boost_round=200)
        log_mean, log_size = fit_dispersion(np.asarray(booster.predict(matrix, num_threads=1)), target)
        n = len(self.history.skus)
        mean = np.asarray(booster.predict(self.inputs(np.arange(n), cutoff, days), num_threads=1), dtype=np.float64)
        size = np.exp(np.interp(np.log(mean), log_mean, log_size))
        cutoff_day = self.history.first_day + timedelta(days=cutoff)
        return WindowDemand(self.history.skus, cutoff_day, ((1, days),), mean[:, None], size[:, None])
