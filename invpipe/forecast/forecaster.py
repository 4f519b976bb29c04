"""DemandForecaster: what is known of demand at the end of a cutoff day.

    forecaster = DemandForecaster.fit(history, cutoff=day)
    forecaster.daily_quantiles(days=60)          # frame(sku, day, q10, q50, q90)
    forecaster.window_demand([(1, 7), (1, 60)])  # WindowDemand

`fit` cuts the history at the cutoff before anything is computed, so nothing after it can be read. `as_of` moves a fitted forecaster to a
later day: boosters stay, features are those of the later day.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from invpipe.errors import ForecastError
from invpipe.features import CATEGORICAL, FeatureStore
from invpipe.forecast.daily import DailyModel
from invpipe.forecast.law import WindowDemand
from invpipe.forecast.params import ForecastParams, quantile_column
from invpipe.forecast.window import WindowModel
from invpipe.history import ShopHistory

#: Cells predicted at once by a thread, to bound memory: about 80 MB of features.
CHUNK_CELLS = 500_000


@dataclass(frozen=True)
class DemandForecaster:
    """Fitted models and the history they look at; build it with :meth:`fit` or :meth:`open`.

    Parameters
    ----------
    fitted_on
        Cutoff the boosters were trained at.
    window, daily
        Fitted models; daily is None where no daily quantiles were asked for.
    store
        Features of the history, cut at the forecaster's cutoff.
    """

    fitted_on: date
    window: WindowModel
    daily: DailyModel | None
    store: FeatureStore

    @property
    def categories(self) -> dict[str, list[str]]:
        """Values of each column of the catalogue that the boosters know by their place among them."""
        by_sku = {"sku": list(self.store.history.skus)} if self.daily is not None and self.daily.with_sku else {}
        return {name: list(values) for name, values in self.store.categories.items()} | by_sku

    @property
    def cutoff(self) -> date:
        """Last day whose data the forecasts know."""
        return self.store.history.last_day

    @classmethod
    def fit(cls, history: ShopHistory, cutoff: date, params: ForecastParams | None = None) -> DemandForecaster:
        """Train on everything known at the end of the cutoff day.

        Raises
        ------
        HistoryError
            Where the cutoff lies outside the history.
        ForecastError
            Where the history up to the cutoff is too short or has no sale.
        """
        params = params or ForecastParams()
        store = FeatureStore.of(history.until(cutoff))
        daily = DailyModel.fit(store, params) if params.daily_taus else None
        return cls(cutoff, WindowModel.fit(store, params), daily, store)

    def as_of(self, history: ShopHistory, cutoff: date) -> DemandForecaster:
        """Return the same boosters looking at the history as known at the end of a later day; categories new since are unknown to them.

        Raises
        ------
        ForecastError
            Where the day lies before the boosters were fitted, or they know SKUs by their place in a catalogue that changed since.
        """
        if cutoff < self.fitted_on:
            msg = f"as-of day {cutoff} lies before the boosters' cutoff {self.fitted_on}; fit at or before the day you ask for"
            raise ForecastError(msg)
        _check_skus(self.categories, history)
        return replace(self, store=FeatureStore.of(history.until(cutoff), categories=self.store.categories))

    def window_demand(self, windows: Sequence[tuple[int, int]], threads: int = 1) -> WindowDemand:
        """Return the law of the units wanted in each window of days after the cutoff, for every SKU of the catalogue.

        Parameters
        ----------
        windows
            (first_day, last_day) counted from the cutoff, 1 <= first_day <= last_day <= 366.
        threads
            Windows predicted side by side; the answer does not depend on it.

        Raises
        ------
        ForecastError
            Where a window is empty, starts before day 1 or ends after day 366.
        """
        asked = tuple((int(first), int(last)) for first, last in windows)
        for first, last in asked:
            if not 1 <= first <= last <= 366:
                msg = f"window ({first}, {last}) must satisfy 1 <= first_day <= last_day <= 366"
                raise ForecastError(msg)
        mean, size = self.window.predict(self.store, asked, threads)
        return WindowDemand(self.store.history.skus, self.cutoff, asked, mean, size)

    def daily_quantiles(self, days: int = 60, threads: int = 1) -> pl.DataFrame:
        """Return quantiles of the units wanted per day, key (sku, day), a column q10, q50, ... per tau; never crossing.

        Parameters
        ----------
        days
            Days after the cutoff, 1 .. 366.
        threads
            Chunks of SKUs predicted side by side; the answer does not depend on it.

        Raises
        ------
        ForecastError
            Where days lies outside 1 .. 366 or the daily boosters were not trained.
        """
        daily = self.daily
        if daily is None:
            msg = "the forecaster was fitted without daily boosters; fit it with ForecastParams(daily_taus=(.1, .5, .9))"
            raise ForecastError(msg)
        if not 1 <= days <= 366:
            msg = f"days is {days}; it must lie between 1 and 366"
            raise ForecastError(msg)
        skus = pl.Series("sku", self.store.history.skus, dtype=pl.String)
        dates = np.array([self.cutoff + timedelta(days=k) for k in range(1, days + 1)], dtype="datetime64[D]")
        names = [quantile_column(tau) for tau in daily.taus]
        step = max(1, CHUNK_CELLS // days)

        def chunk(start: int) -> pl.DataFrame:
            rows = np.arange(start, min(start + step, len(skus)))
            sku, ahead = np.repeat(rows, days), np.tile(np.arange(1, days + 1), len(rows))
            quantiles = daily.predict(self.store, sku, ahead)
            day = pl.Series("day", np.tile(dates, len(rows)), dtype=pl.Date)
            return pl.DataFrame([skus.gather(sku), day, *(pl.Series(name, quantiles[:, j]) for j, name in enumerate(names))])

        with ThreadPoolExecutor(threads) as pool:
            return pl.concat(pool.map(chunk, range(0, len(skus), step)))

    def save(self, directory: Path) -> None:
        """Write the boosters into a new directory."""
        directory.mkdir()
        (directory / "fitted_on.txt").write_text(self.fitted_on.isoformat())
        (directory / "categories.json").write_text(json.dumps(self.categories, indent=1))
        self.window.save(directory)
        if self.daily is not None:
            self.daily.save(directory)

    @classmethod
    def open(cls, directory: Path, history: ShopHistory, cutoff: date | None = None) -> DemandForecaster:
        """Read boosters written by :meth:`save` and let them look at a history (as known at the end of `cutoff`, else when fitted).

        Raises
        ------
        ForecastError
            Where the boosters know SKUs by their place in a catalogue that changed since.
        """
        categories = json.loads((directory / "categories.json").read_text())
        _check_skus(categories, history)
        fitted_on = date.fromisoformat((directory / "fitted_on.txt").read_text())
        daily = DailyModel.open(directory) if any(directory.glob("daily_*.txt")) else None
        known = {name: categories[name] for name in CATEGORICAL}
        store = FeatureStore.of(history.until(cutoff or fitted_on), categories=known)
        return cls(fitted_on, WindowModel.open(directory), daily, store)


def _check_skus(categories: Mapping[str, list[str]], history: ShopHistory) -> None:
    """Raise where boosters that know SKUs by their place in the catalogue meet another one."""
    if "sku" not in categories:
        return
    changed = sorted(set(categories["sku"]) ^ set(history.skus))
    if changed:
        msg = (
            f"{len(changed)} SKUs came or went since the boosters were fitted, first {changed[0]!r}, and they know SKUs by their place in "
            "the catalogue (sku_as_category); fit again on the new catalogue"
        )
        raise ForecastError(msg)
