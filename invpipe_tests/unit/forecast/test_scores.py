"""Baselines from their definitions, and the table of scores of a fold."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from invpipe.errors import ForecastError
from invpipe.forecast import DemandForecaster, Fold, ForecastParams, ForecastSchedule, score_fold
from invpipe.forecast.baselines import BASELINES, ewma, gamma_poisson, sum_of_daily_quantiles, zero
from invpipe.forecast.metrics import pinball_loss, ranked_probability_score
from invpipe.forecast.scores import SCORE_SCHEMA, window_target
from invpipe.history import ShopHistory
from invpipe.sources.tables import ShopTables
from invpipe_tests.oracles.features import Shop
from invpipe_tests.unit.history.worlds import day, poisoned, random_shop
from invpipe_tests.unit.history.worlds import history as history_of

WINDOWS = [(1, 7), (8, 28)]


@pytest.fixture
def fold(history: ShopHistory, cutoff: date) -> Fold:
    """The last 28 days."""
    return Fold(3, cutoff, cutoff + timedelta(days=1), history.last_day)


def test_zero_expects_nothing(history: ShopHistory, cutoff: date) -> None:
    """Prevents a floor under the simplest baseline."""
    law = zero(history, cutoff, WINDOWS)
    assert (law.skus, law.cutoff, law.windows) == (history.skus, cutoff, tuple(WINDOWS))
    assert law.quantile(0.999).sum() == 0


def test_ewma_is_the_weighted_rate_times_days(history: ShopHistory, cutoff: date) -> None:
    """Prevents a rate per calendar day instead of per orderable day, and a wrong number of days in a window."""
    law, shop = ewma(history, cutoff, WINDOWS), Shop(history.until(cutoff))
    origin = history.day_index(cutoff)
    assert np.isinf(law.size).all()
    for i in range(0, 300, 7):
        sku = history.skus[i]
        decayed = sum(n * 0.5 ** ((origin - d) / 28) for d, n in shop.sold[sku].items())
        days = sum(0.5 ** ((origin - d) / 28) for d in shop.open[sku])
        rate = decayed / days if days else 0.0
        np.testing.assert_allclose(law.mean[i], [7 * rate, 21 * rate], rtol=1e-5, atol=1e-12)


def test_gamma_poisson_is_the_posterior_predictive(history: ShopHistory, cutoff: date) -> None:
    """Prevents a wrong update: size a + n, mean L (a + n) / (b + e), prior by moments over the SKUs that ever sold."""
    law, shop = gamma_poisson(history, cutoff, WINDOWS, exposure_days=91), Shop(history.until(cutoff))
    origin = history.day_index(cutoff)
    recent = range(origin - 90, origin + 1)
    n = np.array([sum(shop.sold[sku].get(d, 0) for d in recent) for sku in history.skus], dtype=float)
    e = np.array([len(shop.open[sku] & set(recent)) for sku in history.skus], dtype=float)
    used = np.array([bool(shop.sold[sku]) for sku in history.skus]) & (e > 0)
    rate = n[used].sum() / e[used].sum()
    variance = (((n - rate * e)[used] ** 2).sum() - rate * e[used].sum()) / (e[used] ** 2).sum()
    b = rate / variance
    a = rate * b
    np.testing.assert_allclose(law.size, np.repeat((a + n)[:, None], 2, axis=1), rtol=1e-9)
    np.testing.assert_allclose(law.mean, ((a + n) / (b + e))[:, None] * [7, 21], rtol=1e-9)


def test_gamma_poisson_of_a_young_or_uniform_shop() -> None:
    """Prevents a window that starts before the first day, and a negative variance of the rates where SKUs do not differ."""
    frames = random_shop(1, n_sku=1, n_days=30)
    sold = pl.DataFrame({"sku": "S00", "day": [day(k) for k in range(30)], "sales_units": 1, "revenue": 1.0})
    law = gamma_poisson(history_of(frames, sales_daily=sold), day(20), [(1, 7)])
    assert law.mean[0, 0] == pytest.approx(7.0, rel=1e-3)
    assert law.size[0, 0] > 1e6


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_do_not_read_past_the_cutoff(name: str) -> None:
    """Prevents a baseline that wins by knowing the future."""
    frames = random_shop(2)
    clean, noisy = (BASELINES[name](history_of(tables), day(40), WINDOWS) for tables in (frames, poisoned(frames, day(40), 3)))
    assert (clean.mean.tobytes(), clean.size.tobytes()) == (noisy.mean.tobytes(), noisy.size.tobytes())


def test_sum_of_daily_quantiles_by_hand() -> None:
    """Prevents a day too many in the sum."""
    daily = pl.DataFrame({"sku": ["A"] * 3 + ["B"] * 3, "day": [day(k) for k in (1, 2, 3)] * 2, "q10": 0.0, "q50": [1.0, 2, 4, 0, 0, 1]})
    assert sum_of_daily_quantiles(daily, day(0), 2).rows() == [("A", 0.0, 3.0), ("B", 0.0, 0.0)]


@pytest.mark.parametrize("truth", [True, False])
def test_scores_of_a_fold(history: ShopHistory, shop: ShopTables, fold: Fold, forecaster: DemandForecaster, *, truth: bool) -> None:
    """Prevents a method scored on other cells than the rest, coverage without that of the zero interval, and figures of the wrong law."""
    demand = shop.demand_daily if truth else None
    scores = score_fold(forecaster, history, fold, demand)
    assert dict(scores.schema) == SCORE_SCHEMA
    windows = scores.filter(target="window")
    assert windows["method"].to_list() == ["window law", *BASELINES, "sum of daily quantiles"]
    assert scores.filter(target="daily")["method"].to_list() == ["quantile boosters", "zero"]
    assert set(windows["scored_on"]) == {"true demand" if truth else "orderable days"}
    assert set(scores["fold"]) == {3}
    assert set(scores["cutoff"]) == {fold.cutoff}
    for name in ("cells", "mean_units", "coverage_80_of_zero"):
        assert windows[name].n_unique() == 1
        assert scores.filter(target="daily")[name].n_unique() == 1
    quantiles_alone = scores.filter(pl.col("method").is_in(["sum of daily quantiles", "quantile boosters"]))
    assert quantiles_alone.select("rps", "randomised_coverage_80", "mean_forecast_units").null_count().row(0) == (2, 2, 2)
    assert windows.filter(method="zero")["pinball_90_vs_zero"].item() == 1.0

    units, share = window_target(history, fold, demand)
    seen = share > 0
    law = forecaster.window_demand([(1, 28)]).law()
    thinned = type(law)(law.mean[seen] * share[seen], law.size[seen])
    row = windows.row(0, named=True)
    assert row["cells"] == seen.sum()
    assert row["pinball_90"] == pinball_loss(units[seen], thinned.quantile(0.9), 0.9)
    assert row["rps"] == ranked_probability_score(thinned, units[seen])
    assert row["pinball_90_vs_zero"] < 0.5


def test_window_target_counts_what_was_wanted_or_seen(history: ShopHistory, shop: ShopTables, fold: Fold) -> None:
    """Prevents scoring censored sales as if they were the demand."""
    wanted, whole = window_target(history, fold, shop.demand_daily)
    seen, share = window_target(history, fold, None)
    slab = pl.col("day").is_between(fold.test_first, fold.test_last)
    assert wanted.sum() == shop.demand_daily.filter(slab)["demand_units"].sum()
    assert set(whole.tolist()) == {1.0}
    assert seen.sum() <= history.sales_daily.filter(slab)["sales_units"].sum()
    assert (seen <= wanted).all()
    assert ((share >= 0) & (share <= 1)).all()
    assert 0 < (share < 1).mean() < 1


def test_daily_scores_use_orderable_cells_alone(history: ShopHistory, fold: Fold, forecaster: DemandForecaster) -> None:
    """Prevents censored days from counting as days without demand."""
    row = score_fold(forecaster, history, fold).filter(target="daily", method="quantile boosters").row(0, named=True)
    open_days = sum(
        max(0, (min(b, fold.test_last) - max(a, fold.test_first)).days + 1)
        for _, a, b in history.orderable_daily.rows()
        if b >= fold.test_first
    )
    assert row["cells"] == open_days
    daily = forecaster.daily_quantiles(28)
    spans = history.orderable_daily.select("sku", pl.date_ranges("from_day", "to_day").alias("day")).explode("day")
    cells = daily.join(spans, on=["sku", "day"]).join(history.sales_daily, on=["sku", "day"], how="left")
    units = cells["sales_units"].fill_null(0).cast(pl.Float64).to_numpy()
    assert row["pinball_90"] == pytest.approx(pinball_loss(units, cells["q90"].to_numpy(), 0.9), rel=1e-12)


def test_scores_refuse_another_cutoff(history: ShopHistory, fold: Fold, forecaster: DemandForecaster) -> None:
    """Prevents scoring a forecaster on days it was trained on."""
    late = forecaster.as_of(history, fold.cutoff + timedelta(days=3))
    with pytest.raises(
        ForecastError, match=rf"the forecaster knows days up to {late.cutoff}, fold 3 has cutoff {fold.cutoff}; fit it at the fold's"
    ):
        score_fold(late, history, fold)


def test_scores_refuse_a_slab_after_the_history(history: ShopHistory, fold: Fold, forecaster: DemandForecaster) -> None:
    """Prevents days without data from counting as days without demand."""
    after = history.last_day + timedelta(days=1)
    beyond = Fold(3, fold.cutoff, fold.test_first, after)
    with pytest.raises(ForecastError, match=rf"fold 3 is tested up to {after}, after the history's last day {history.last_day}"):
        score_fold(forecaster, history, beyond)


def test_scores_refuse_other_quantiles(history: ShopHistory, fold: Fold, quick: ForecastParams) -> None:
    """Prevents a crash over a missing column after minutes of training; without daily boosters only windows are scored."""
    odd = DemandForecaster.fit(history, fold.cutoff, quick.model_copy(update={"daily_taus": (0.25, 0.75), "rounds": 2}))
    with pytest.raises(
        ForecastError, match=r"daily quantiles \(0\.25, 0\.75\); scores need \.1, \.5 and \.9 among them, or no daily boosters"
    ):
        score_fold(odd, history, fold)
    none = DemandForecaster.fit(history, fold.cutoff, quick.model_copy(update={"daily_taus": (), "rounds": 2}))
    assert set(score_fold(none, history, fold)["target"]) == {"window"}


def test_schedule_refits_and_moves(history: ShopHistory, cutoff: date, quick: ForecastParams) -> None:
    """Prevents a decision day whose forecast knows another day, and boosters older than allowed."""
    days = [cutoff + timedelta(days=k) for k in (0, 7, 14, 21)]
    said: list[str] = []
    schedule = ForecastSchedule.make(history, days, [(1, 7)], quick, refit_days=14, progress=said.append)
    assert list(schedule) == days
    assert len(said) == 2
    window_only = quick.model_copy(update={"daily_taus": ()})
    first = DemandForecaster.fit(history, days[0], window_only)
    second = DemandForecaster.fit(history, days[2], window_only)
    wanted = [first, first.as_of(history, days[1]), second, second.as_of(history, days[3])]
    for day_, forecaster in zip(days, wanted, strict=True):
        assert schedule[day_].cutoff == day_
        assert schedule[day_].mean.tobytes() == forecaster.window_demand([(1, 7)]).mean.tobytes()


def test_schedule_survives_the_disk(
    history: ShopHistory, cutoff: date, quick: ForecastParams, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Prevents forecasts that change, or change days, between the run that made them and the backtest that reads them."""
    days = [cutoff, cutoff + timedelta(days=7)]
    schedule = ForecastSchedule.make(history, days, [(1, 7), (1, 20)], quick, refit_days=14)
    folder = tmp_path_factory.mktemp("schedule") / "s"
    schedule.save(folder)
    opened = ForecastSchedule.open(folder)
    assert list(opened) == days
    for a, b in zip(schedule.values(), opened.values(), strict=True):
        assert (a.skus, a.cutoff, a.windows, a.mean.tobytes(), a.size.tobytes()) == (
            b.skus,
            b.cutoff,
            b.windows,
            b.mean.tobytes(),
            b.size.tobytes(),
        )


def test_schedule_of_no_day_is_refused(history: ShopHistory, quick: ForecastParams) -> None:
    """Prevents a backtest without a single forecast."""
    with pytest.raises(ForecastError, match=r"no decision day to forecast for; give at least one"):
        ForecastSchedule.make(history, [], [(1, 7)], quick, refit_days=7)
