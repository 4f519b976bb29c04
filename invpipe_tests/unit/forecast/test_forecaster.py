"""The forecaster: nothing after the cutoff is read, the same bytes every time, saved and opened as it was."""

import re
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from invpipe.contracts import CONTRACTS
from invpipe.errors import ForecastError, HistoryError
from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.forecast.baselines import sum_of_daily_quantiles
from invpipe.history import ShopHistory
from invpipe_tests.unit.history.worlds import poisoned

WINDOWS = [(1, 7), (1, 28), (8, 21)]


def answer(forecaster: DemandForecaster) -> bytes:
    """All forecasts, as bytes."""
    law = forecaster.window_demand(WINDOWS)
    parts = [law.mean.tobytes(), law.size.tobytes()]
    if forecaster.daily is not None:
        parts += [column.to_numpy().tobytes() for column in forecaster.daily_quantiles(28).select("q10", "q50", "q90")]
    return b"".join(parts)


def frames_of(history: ShopHistory) -> dict[str, pl.DataFrame]:
    return {name: getattr(history, name) for name in CONTRACTS}


def test_poison_after_the_cutoff_changes_no_byte(
    history: ShopHistory, cutoff: date, quick: ForecastParams, forecaster: DemandForecaster
) -> None:
    """Prevents reading the future anywhere in training or prediction: all tables after the cutoff are overwritten with noise."""
    noisy = ShopHistory.from_frames(**poisoned(frames_of(history), cutoff, seed=3))
    assert noisy.sales_daily["sales_units"].sum() > 100 * history.sales_daily["sales_units"].sum()
    assert answer(DemandForecaster.fit(noisy, cutoff, quick)) == answer(forecaster)


def test_poison_before_the_cutoff_is_seen(history: ShopHistory, cutoff: date, quick: ForecastParams, forecaster: DemandForecaster) -> None:
    """Prevents a poison test that would pass with any input."""
    noisy = ShopHistory.from_frames(**poisoned(frames_of(history), cutoff - timedelta(days=1), seed=3))
    assert answer(DemandForecaster.fit(noisy, cutoff, quick)) != answer(forecaster)


@pytest.mark.parametrize("threads", [1, 2])
def test_trained_again_gives_the_same_bytes(
    history: ShopHistory, cutoff: date, quick: ForecastParams, forecaster: DemandForecaster, threads: int
) -> None:
    """Prevents forecasts that depend on the run or on the number of threads."""
    again = DemandForecaster.fit(history, cutoff, quick.model_copy(update={"threads": threads}))
    assert answer(again) == answer(forecaster)


def test_seed_decides_the_samples(history: ShopHistory, cutoff: date, quick: ForecastParams, forecaster: DemandForecaster) -> None:
    """Prevents a seed that nothing reads."""
    other = DemandForecaster.fit(history, cutoff, quick.model_copy(update={"seed": 1}))
    assert not other.daily_quantiles(7).equals(forecaster.daily_quantiles(7))


def test_saved_forecaster_opens_as_it_was(history: ShopHistory, cutoff: date, forecaster: DemandForecaster, tmp_path: Path) -> None:
    """Prevents rounding on the way to disk, and a model that looks at another day than it did."""
    forecaster.save(tmp_path / "model")
    opened = DemandForecaster.open(tmp_path / "model", history)
    assert (opened.cutoff, opened.fitted_on, opened.daily is not None) == (cutoff, cutoff, True)
    assert answer(opened) == answer(forecaster)
    later = DemandForecaster.open(tmp_path / "model", history, cutoff + timedelta(days=9))
    assert answer(later) == answer(forecaster.as_of(history, cutoff + timedelta(days=9)))


def test_forecaster_without_daily_boosters(history: ShopHistory, cutoff: date, quick: ForecastParams, tmp_path: Path) -> None:
    """Prevents daily quantiles out of nothing, and a file of other boosters found by chance."""
    plain = DemandForecaster.fit(history, cutoff, quick.model_copy(update={"daily_taus": ()}))
    plain.save(tmp_path / "model")
    opened = DemandForecaster.open(tmp_path / "model", history)
    assert answer(opened) == answer(plain)
    message = "the forecaster was fitted without daily boosters; fit it with ForecastParams(daily_taus=(.1, .5, .9))"
    with pytest.raises(ForecastError, match=re.escape(message)):
        opened.daily_quantiles(7)


def test_as_of_moves_the_features_not_the_boosters(
    history: ShopHistory, shop: object, cutoff: date, quick: ForecastParams, forecaster: DemandForecaster
) -> None:
    """Prevents a moved forecaster that still looks at its old day, or that sees past its new one."""
    later = cutoff + timedelta(days=10)
    moved = forecaster.as_of(history, later)
    assert (moved.cutoff, moved.fitted_on) == (later, cutoff)
    assert moved.window_demand(WINDOWS).cutoff == later
    assert answer(moved) != answer(forecaster)
    noisy = ShopHistory.from_frames(**poisoned(frames_of(history), later, seed=5))
    assert answer(forecaster.as_of(noisy, later)) == answer(moved)
    assert answer(forecaster.as_of(history, cutoff)) == answer(forecaster)


def test_as_of_before_the_boosters_is_refused(history: ShopHistory, cutoff: date, forecaster: DemandForecaster) -> None:
    """Prevents boosters that know days after the day they are asked for."""
    early = cutoff - timedelta(days=1)
    with pytest.raises(
        ForecastError, match=rf"as-of day {early} lies before the boosters' cutoff {cutoff}; fit at or before the day you ask for"
    ):
        forecaster.as_of(history, early)
    with pytest.raises(HistoryError, match=r"lies outside the history"):
        forecaster.as_of(history, history.last_day + timedelta(days=1))


def test_a_new_genre_moves_no_other_code(history: ShopHistory, cutoff: date, forecaster: DemandForecaster, tmp_path: Path) -> None:
    """Prevents a nightly run that fails, or codes that mean other genres, because a genre came that sorts before all others."""
    added = history.items.with_columns(genre=pl.when(pl.col("sku") == history.skus[0]).then(pl.lit("aardvarks")).otherwise("genre"))
    changed = ShopHistory.from_frames(**(frames_of(history) | {"items": added}))
    forecaster.save(tmp_path / "model")
    before = forecaster.window_demand(WINDOWS)
    for model in (forecaster.as_of(changed, cutoff), DemandForecaster.open(tmp_path / "model", changed)):
        after = model.window_demand(WINDOWS)
        assert after.mean[1:].tobytes() == before.mean[1:].tobytes()
        assert after.size[1:].tobytes() == before.size[1:].tobytes()
        assert np.isnan(model.store.genre[0])
        assert "aardvarks" not in model.categories["genre"]


def test_a_new_sku_needs_no_new_boosters_unless_they_know_skus(
    history: ShopHistory, cutoff: date, quick: ForecastParams, forecaster: DemandForecaster
) -> None:
    """Prevents refusing an ordinary new item, and SKU codes that mean other SKUs where the SKU is a feature."""
    new = history.items.head(1).with_columns(sku=pl.lit("A000"))
    frames = frames_of(history) | {"items": pl.concat([new, history.items])}
    grown = ShopHistory.from_frames(**frames)
    law = forecaster.as_of(grown, cutoff).window_demand(WINDOWS)
    assert law.skus[0] == "A000"
    assert law.mean[1:].tobytes() == forecaster.window_demand(WINDOWS).mean.tobytes()
    by_sku = DemandForecaster.fit(history, cutoff, quick.model_copy(update={"sku_as_category": True}))
    with pytest.raises(ForecastError, match=r"1 SKUs came or went since the boosters were fitted, first 'A000', .*fit again"):
        by_sku.as_of(grown, cutoff)


@pytest.mark.parametrize("window", [(0, 7), (5, 4), (1, 367)])
def test_windows_outside_1_to_366_are_refused(forecaster: DemandForecaster, window: tuple[int, int]) -> None:
    """Prevents windows that contain the cutoff itself, or reach past the calendar."""
    with pytest.raises(ForecastError, match=rf"window \({window[0]}, {window[1]}\) must satisfy 1 <= first_day <= last_day <= 366"):
        forecaster.window_demand([(1, 7), window])
    assert np.isfinite(forecaster.window_demand([(1, 366), (366, 366)]).mean).all()


@pytest.mark.parametrize("days", [0, 367])
def test_days_outside_1_to_366_are_refused(forecaster: DemandForecaster, days: int) -> None:
    """Prevents quantiles of no day, or past the calendar."""
    with pytest.raises(ForecastError, match=rf"days is {days}; it must lie between 1 and 366"):
        forecaster.daily_quantiles(days)


def test_daily_quantiles_are_complete_and_never_cross(history: ShopHistory, cutoff: date, forecaster: DemandForecaster) -> None:
    """Prevents crossing or negative quantiles, a day before the cutoff, and a lost SKU or day."""
    frame = forecaster.daily_quantiles(28)
    assert frame.columns == ["sku", "day", "q10", "q50", "q90"]
    assert frame.select("sku", "day").n_unique() == len(frame) == 28 * len(history.skus)
    assert frame.equals(frame.sort("sku", "day"))
    assert (frame["day"].min(), frame["day"].max()) == (cutoff + timedelta(days=1), cutoff + timedelta(days=28))
    q = frame.select("q10", "q50", "q90").to_numpy()
    assert (q >= 0).all()
    assert (np.diff(q, axis=1) >= 0).all()
    assert frame.filter(pl.col("day") <= cutoff + timedelta(days=5)).equals(forecaster.daily_quantiles(5))


def test_chunks_do_not_change_daily_quantiles(forecaster: DemandForecaster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a seam between the blocks in which many cells are predicted."""
    whole = forecaster.daily_quantiles(7)
    monkeypatch.setattr("invpipe.forecast.forecaster.CHUNK_CELLS", 7 * 11)
    assert forecaster.daily_quantiles(7).equals(whole)


def test_threads_do_not_change_a_forecast(forecaster: DemandForecaster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents windows or chunks in the order in which threads end."""
    windows = [(1, 7), (1, 14), (8, 14), (1, 28)]
    alone, together = forecaster.window_demand(windows), forecaster.window_demand(windows, threads=3)
    assert (alone.mean.tobytes(), alone.size.tobytes()) == (together.mean.tobytes(), together.size.tobytes())
    monkeypatch.setattr("invpipe.forecast.forecaster.CHUNK_CELLS", 70)
    assert forecaster.daily_quantiles(7, threads=3).equals(forecaster.daily_quantiles(7))


def test_sum_of_daily_quantiles_is_not_the_quantile_of_the_window(cutoff: date, forecaster: DemandForecaster) -> None:
    """Keeps the finding the window law exists for: added daily q90s of sparse demand are about twice the window's q90."""
    daily = sum_of_daily_quantiles(forecaster.daily_quantiles(28), cutoff, 28)
    window = forecaster.window_demand([(1, 28)]).quantile(0.9)[:, 0]
    assert daily["q90"].sum() > 1.5 * window.sum()
    assert (np.abs(daily["q90"].to_numpy() - window) > 1).mean() > 0.3


def test_a_history_that_ends_before_the_cutoff_is_an_error(history: ShopHistory) -> None:
    """Prevents a forecast for a day nobody has data for."""
    late = history.last_day + timedelta(days=1)
    with pytest.raises(HistoryError, match=rf"cutoff {late} lies outside the history"):
        DemandForecaster.fit(history, late)


def test_daily_boosters_need_a_cell(history: ShopHistory, cutoff: date, quick: ForecastParams) -> None:
    """Prevents boosters trained on nothing where all of the history is kept for the features."""
    with pytest.raises(ForecastError, match=r"no orderable cell on or after day index 301 of \d+; choose a later cutoff"):
        DemandForecaster.fit(history, cutoff, quick.model_copy(update={"min_history_days": 300}))
