"""Last year's total against the forecasts' sum: by hand, on a shop with a season, and without a glance past the cutoff."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from invpipe.features.kernel import YEAR_DAYS
from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.forecast.season import GROWTH_DAYS, MIN_GROWTH_DAYS, season_step, seasonal_total
from invpipe.history import ShopHistory
from invpipe_tests.unit.forecast.conftest import FIRST, open_shop

WINDOW = [(1, 28)]


def seasonal_shop(n_sku: int = 400, n_days: int = 600) -> tuple[ShopHistory, date, float]:
    """Return a shop that sells 1.4 times as much in the 28 days after the cutoff and a year before, its cutoff, and what it sells then."""
    g = np.random.default_rng(2)
    cutoff = n_days - 29
    season = 1.0 + 0.4 * ((np.arange(n_days) - cutoff - 1) % YEAR_DAYS < 28)
    units = g.poisson(g.gamma(1.0, 0.15, n_sku)[:, None] * season)
    return open_shop(units), FIRST + timedelta(days=cutoff), float(units[:, cutoff + 1 :].sum())


@pytest.mark.parametrize(("n_days", "growth_days"), [(YEAR_DAYS + MIN_GROWTH_DAYS, MIN_GROWTH_DAYS), (700, GROWTH_DAYS)])
def test_total_is_last_years_times_the_growth_since(n_days: int, growth_days: int) -> None:
    """Prevents a window or a growth that is off by a day: sums over slices of the units, from the definition."""
    units = np.random.default_rng(n_days).poisson(2.0, (3, n_days))
    by_day, t = units.sum(axis=0), n_days - 1
    now = by_day[t - growth_days + 1 : t + 1].sum()
    before = by_day[t - growth_days + 1 - YEAR_DAYS : t + 1 - YEAR_DAYS].sum()
    for first, last in ((1, 1), (1, 7), (15, 28)):
        wanted = by_day[t + first - YEAR_DAYS : t + last - YEAR_DAYS + 1].sum() * now / before
        assert seasonal_total(open_shop(units).arrays, first, last) == pytest.approx(wanted)


def test_no_season_where_too_little_is_known() -> None:
    """Prevents a total from a year that is not there, from days still to come, or from nothing sold."""
    units = np.ones((2, YEAR_DAYS + MIN_GROWTH_DAYS), dtype=np.int64)
    assert seasonal_total(open_shop(units[:, 1:]).arrays, 1, 7) is None
    assert seasonal_total(open_shop(units).arrays, 360, YEAR_DAYS) == 10
    assert seasonal_total(open_shop(units).arrays, 360, YEAR_DAYS + 1) is None
    units[:, : MIN_GROWTH_DAYS + 60] = 0
    assert seasonal_total(open_shop(units).arrays, 1, 7) is None
    assert season_step(open_shop(units).arrays, 1, 7, 10.0) == 1.0


def test_step_weighs_the_season_by_the_window_and_is_bounded() -> None:
    """Prevents a step that ignores the window's length, and one strange year that doubles every order."""
    arrays = open_shop(np.ones((2, YEAR_DAYS + 100), dtype=np.int64)).arrays
    assert season_step(arrays, 1, 28, 50.0) == pytest.approx((56 / 50) ** 0.5)
    assert season_step(arrays, 1, 7, 12.0) == pytest.approx((14 / 12) ** 0.2)
    assert season_step(arrays, 1, 28, 1.0) == pytest.approx(1.5**0.5)
    assert season_step(arrays, 1, 28, 1e6) == pytest.approx(1.5**-0.5)
    assert season_step(arrays, 1, 28, 0.0) == 1.0


def test_season_brings_the_total_nearer(quick: ForecastParams, tmp_path: Path) -> None:
    """Prevents a step in the wrong direction, and one that a saved model forgets; a model saved before it was known has none."""
    history, cutoff, sold = seasonal_shop()
    params = quick.model_copy(update={"daily_taus": (), "origins": 20})
    forecaster = DemandForecaster.fit(history, cutoff, params)
    blind = replace(forecaster, window=replace(forecaster.window, wanted_per_sold=None))
    error, blind_error = (abs(np.log(each.window_demand(WINDOW).mean.sum() / sold)) for each in (forecaster, blind))
    assert error < 0.7 * blind_error

    forecaster.save(tmp_path / "model")
    opened = DemandForecaster.open(tmp_path / "model", history)
    assert opened.window_demand(WINDOW).mean.tobytes() == forecaster.window_demand(WINDOW).mean.tobytes()
    (tmp_path / "model" / "window.json").unlink()
    old = DemandForecaster.open(tmp_path / "model", history)
    assert old.window_demand(WINDOW).mean.tobytes() == blind.window_demand(WINDOW).mean.tobytes()


def test_poison_after_the_cutoff_changes_no_byte_of_a_season(quick: ForecastParams) -> None:
    """Prevents a growth or a window of last year that reads past the cutoff."""
    history, cutoff, _ = seasonal_shop(n_sku=80)
    noise = pl.when(pl.col("day") > cutoff).then(pl.col("sales_units") * 7).otherwise(pl.col("sales_units")).alias("sales_units")
    tables = {"items": history.items, "orderable_daily": history.orderable_daily}
    poisoned = ShopHistory.from_frames(**tables, sales_daily=history.sales_daily.with_columns(noise))
    params = quick.model_copy(update={"daily_taus": ()})
    clean, noisy = (DemandForecaster.fit(each, cutoff, params).window_demand([(1, 7), (1, 28)]) for each in (history, poisoned))
    assert history.sales_daily["sales_units"].sum() < poisoned.sales_daily["sales_units"].sum()
    assert clean.mean.tobytes() == noisy.mean.tobytes()
    assert clean.size.tobytes() == noisy.size.tobytes()
