"""Forecasts of a backtest: made as of each decision day, cached once, shared by all policies.

The boosters are trained again every `refit_days`; between two trainings they stay and the features move on to each decision day. Every
forecast is made from `history.until(day)`: none knows anything after its own day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from invpipe.errors import ForecastError
from invpipe.forecast.forecaster import DemandForecaster
from invpipe.forecast.law import WindowDemand
from invpipe.forecast.params import ForecastParams
from invpipe.history import ShopHistory


@dataclass(frozen=True)
class ForecastSchedule(Mapping[date, WindowDemand]):
    """Window demand by cutoff; all forecasts have the same SKUs and windows."""

    forecasts: dict[date, WindowDemand]

    def __getitem__(self, day: date) -> WindowDemand:
        """Return the forecast made at the end of the day."""
        return self.forecasts[day]

    def __iter__(self) -> Iterator[date]:
        """Iterate over the cutoffs."""
        return iter(self.forecasts)

    def __len__(self) -> int:
        """Return the number of forecasts."""
        return len(self.forecasts)

    @classmethod
    def make(
        cls,
        history: ShopHistory,
        days: Sequence[date],
        windows: Sequence[tuple[int, int]],
        params: ForecastParams,
        *,
        refit_days: int,
        progress: Callable[[str], object] = lambda _: None,
    ) -> ForecastSchedule:
        """Forecast the windows at the end of each day.

        Parameters
        ----------
        history
            Shop; the forecast of a day reads it up to that day.
        days
            Decision days, rising.
        windows
            Windows of days after each decision day.
        params
            Parameters of the forecaster; daily boosters are not trained.
        refit_days
            Train again when the boosters are at least so many days old.
        progress
            Told what was done, in words.

        Raises
        ------
        ForecastError
            Where there is no day, or the history before the first one is too short.
        """
        if not days:
            msg = "no decision day to forecast for; give at least one"
            raise ForecastError(msg)
        window_only = params.model_copy(update={"daily_taus": ()})
        forecaster: DemandForecaster | None = None
        forecasts = {}
        for i, day in enumerate(days):
            if forecaster is None or (day - forecaster.fitted_on).days >= refit_days:
                forecaster = DemandForecaster.fit(history, day, window_only)
                progress(f"trained as of {day}, decision day {i + 1} of {len(days)}")
            else:
                forecaster = forecaster.as_of(history, day)
            forecasts[day] = forecaster.window_demand(windows)
        return cls(forecasts)

    def save(self, directory: Path) -> None:
        """Write the forecasts into a new directory."""
        directory.mkdir()
        laws = list(self.forecasts.values())
        np.save(directory / "cutoffs.npy", np.array([day.isoformat() for day in self.forecasts]))
        np.save(directory / "skus.npy", np.array(laws[0].skus))
        np.save(directory / "windows.npy", np.array(laws[0].windows))
        np.save(directory / "mean.npy", np.stack([law.mean for law in laws]))
        np.save(directory / "size.npy", np.stack([law.size for law in laws]))

    @classmethod
    def open(cls, directory: Path) -> ForecastSchedule:
        """Read forecasts written by :meth:`save`."""
        cutoffs, skus, windows, mean, size = (np.load(directory / f"{name}.npy") for name in ("cutoffs", "skus", "windows", "mean", "size"))
        names, spans = tuple(skus.tolist()), tuple((int(a), int(b)) for a, b in windows)
        days = [date.fromisoformat(day) for day in cutoffs.tolist()]
        return cls({day: WindowDemand(names, day, spans, mean[i], size[i]) for i, day in enumerate(days)})
