"""The window model on shops whose rates are known; its dispersion from the definition."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from scipy import optimize

from invpipe.errors import ForecastError
from invpipe.features import FeatureStore
from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.forecast.baselines import gamma_poisson, zero
from invpipe.forecast.dispersion import LOG_SIZE_BOUNDS, Curves, fit_dispersion, fit_size
from invpipe.forecast.law import CountLaw
from invpipe.forecast.metrics import bracket, pinball_loss, randomised_coverage, ranked_probability_score
from invpipe.forecast.window import WindowModel, training_origins
from invpipe.history import ShopHistory
from invpipe_tests.oracles import forecast as oracle
from invpipe_tests.unit.forecast.conftest import WINDOW_DAYS, KnownShop, open_shop

WINDOW = [(1, WINDOW_DAYS)]


def test_known_demand_is_recovered(known_shop: KnownShop) -> None:
    """Prevents a biased mean, a law that is too narrow or too wide, and a model that is no better than a prior with counts."""
    params = ForecastParams(threads=1, rounds=40, learning_rate=0.15, window_days=(7, WINDOW_DAYS), daily_taus=())
    law = DemandForecaster.fit(known_shop.history, known_shop.cutoff, params).window_demand(WINDOW).law()
    units = known_shop.demand_units
    assert law.mean.sum() == pytest.approx(known_shop.expected_units.sum(), rel=0.06)
    assert np.corrcoef(law.mean, known_shop.expected_units)[0, 1] > 0.9
    assert bracket(units, law.quantile(0.9), 0.9)[2] < 1.5
    assert randomised_coverage(law, units) == pytest.approx(0.8, abs=0.06)
    loss = pinball_loss(units, law.quantile(0.9), 0.9)
    for baseline in (gamma_poisson, zero):
        rival = baseline(known_shop.history, known_shop.cutoff, WINDOW).law()
        assert loss < pinball_loss(units, rival.quantile(0.9), 0.9)


def test_size_is_the_likeliest() -> None:
    """Prevents a likelihood with a lost term: compared with a search over the definition of the probabilities."""
    g = np.random.default_rng(4)
    mean = g.gamma(1.0, 3.0, 300) + 0.05
    units = g.poisson(mean * g.gamma(1.5, 1 / 1.5, 300)).astype(float)

    def loss(log_size: float) -> float:
        return -sum(np.log(oracle.pmf(m, np.exp(log_size), int(y))) for m, y in zip(mean, units, strict=True))

    wanted = optimize.minimize_scalar(loss, bounds=(-2, 3), method="bounded").x
    assert fit_size(mean, units) == pytest.approx(wanted, abs=1e-3)


def test_size_stays_within_its_bounds() -> None:
    """Prevents an endless search where counts vary less than Poisson, or hardly at all."""
    assert fit_size(np.full(400, 2.0), np.full(400, 2.0)) == pytest.approx(LOG_SIZE_BOUNDS[1], abs=0.01)
    rare = np.zeros(4000)
    rare[0] = 5000.0
    assert fit_size(np.full(4000, 1.25), rare) == pytest.approx(LOG_SIZE_BOUNDS[0], abs=0.01)


def test_size_is_fitted_per_class_of_the_mean() -> None:
    """Prevents one dispersion for fast and slow sellers: two classes with sizes 0.5 and 8 are told apart."""
    g = np.random.default_rng(5)
    mean = np.concatenate([g.uniform(0.4, 0.6, 3000), g.uniform(9.0, 11.0, 3000)])
    size = np.repeat([0.5, 8.0], 3000)
    units = g.poisson(mean * g.gamma(size) / size).astype(float)
    log_mean, log_size = fit_dispersion(mean, units)
    assert len(log_mean) == 12
    assert (np.diff(log_mean) > 0).all()
    assert np.exp(log_size[:6]) == pytest.approx(np.full(6, 0.5), rel=0.5)
    assert np.exp(log_size[6:]) == pytest.approx(np.full(6, 8.0), rel=0.6)
    dispersion = Curves((7,), (log_mean,), (log_size,))
    assert dispersion.at(np.array([0.5]), 7)[0] < 0 < dispersion.at(np.array([10.0]), 7)[0]


def test_size_between_window_lengths_is_interpolated_and_flat_outside() -> None:
    """Prevents jumps between window lengths and sizes that run away beyond the trained ones."""
    flat = (np.array([0.0]), np.array([0.0]))
    dispersion = Curves((7, 28), flat, (np.array([1.0]), np.array([3.0])))
    mean = np.array([0.1, 1.0, 50.0])
    for days, log_size in ((1, 1.0), (7, 1.0), (14, 2.0), (28, 3.0), (366, 3.0)):
        np.testing.assert_allclose(dispersion.at(mean, days), np.full(3, log_size), rtol=1e-12)


def test_zero_mean_has_a_size() -> None:
    """Prevents log(0) for a SKU nobody buys."""
    assert np.isfinite(Curves((7,), (np.array([0.0, 1.0]),), (np.array([0.0, 1.0]),)).at(np.zeros(1), 7)).all()


def test_too_short_a_history_is_an_error(history: ShopHistory, quick: ForecastParams) -> None:
    """Prevents a model trained on no window: 28 days of history and a window of 7 need 36 days."""
    day = history.first_day + timedelta(days=34)
    with pytest.raises(
        ForecastError,
        match=rf"the history has 35 days up to {day}; a window of 7 days after 28 days of history needs 36; choose a later cutoff",
    ):
        WindowModel.fit(FeatureStore.of(history.until(day)), quick)
    WindowModel.fit(FeatureStore.of(history.until(day + timedelta(days=1))), quick)


def test_no_sale_in_any_training_window_is_an_error(history: ShopHistory, quick: ForecastParams) -> None:
    """Prevents the logarithm of a rate of zero."""
    early = history.sales_daily.filter(pl.col("day") <= history.first_day + timedelta(days=5))
    dead = ShopHistory.from_frames(items=history.items, sales_daily=early, orderable_daily=history.orderable_daily)
    with pytest.raises(ForecastError, match=r"no units sold in [\d]+ training windows up to .*; the forecaster needs at least one sale"):
        WindowModel.fit(FeatureStore.of(dead), quick)


def test_capped_training_cells_still_train(known_shop: KnownShop) -> None:
    """Prevents a crash or a lost window length where cells are sampled."""
    params = ForecastParams(threads=1, rounds=20, window_days=(7, WINDOW_DAYS), max_window_cells=4000, daily_taus=())
    forecaster = DemandForecaster.fit(known_shop.history, known_shop.cutoff, params)
    assert forecaster.window.sold.dispersion.window_days == (7, WINDOW_DAYS)
    total = forecaster.window_demand(WINDOW).mean.sum()
    assert total == pytest.approx(known_shop.expected_units.sum(), rel=0.25)


def test_origins_move_closer_where_a_history_is_short() -> None:
    """Prevents a model of a young shop that has seen one or two weeks: less than eight origins a step apart become twice as many."""
    params = ForecastParams(origin_step_days=14, min_history_days=28, origins=10)
    assert list(training_origins(28 + 8 * 14, params)) == list(range(140, 27, -14))
    assert list(training_origins(28 + 8 * 14 - 1, params)) == list(range(139, 27, -7))[:10]
    assert list(training_origins(27, params)) == []


def shop_of_genres(sd: float) -> tuple[ShopHistory, npt.NDArray[np.float64]]:
    """Return 12 weeks of 2,000 SKUs, each week of their 40 genres times a factor of its own, and the units of 40 draws of the next week."""
    g, n, days, draws = np.random.default_rng(6), 2000, 84, 40
    genre, rate = np.arange(n) % 40, g.gamma(2.0, 1.0, n)[:, None]
    factor = np.exp(sd * g.standard_normal((40, days // 7 + draws)) - sd**2 / 2)[genre]
    units = g.poisson(rate * np.repeat(factor[:, : days // 7], 7, axis=1))
    history = open_shop(units, genre)
    return history, g.poisson(7 * rate * factor[:, days // 7 :]).astype(np.float64)


def test_law_knows_that_the_next_week_is_not_one_of_those_seen() -> None:
    """Prevents a law too narrow where SKUs move together: other SKUs of a genre tell of its weeks that were, none tells of the next."""
    params = ForecastParams(rounds=100, window_days=(7,), daily_taus=())
    history, units = shop_of_genres(0.5)
    store = FeatureStore.of(history)
    model = WindowModel.fit(store, params)
    blind = replace(model, sold=replace(model.sold, unseen_days=0.0))
    coverage, score = {}, {}
    for name, each in (("law", model), ("blind", blind)):
        mean, size = (np.repeat(part[:, 0], units.shape[1]) for part in each.predict(store, ((1, 7),)))
        coverage[name] = randomised_coverage(CountLaw(mean, size), units.ravel())
        score[name] = ranked_probability_score(CountLaw(mean, size), units.ravel())
    assert model.sold.unseen_days < -0.3
    assert coverage["blind"] < 0.76 < coverage["law"] < 0.84
    assert score["law"] < score["blind"]
    assert WindowModel.fit(FeatureStore.of(shop_of_genres(0.0)[0]), params).sold.unseen_days > -0.1


def test_history_without_days_to_hold_out_moves_nothing(history: ShopHistory, quick: ForecastParams) -> None:
    """Prevents a crash, or a guess, where all training windows overlap: one origin tells nothing of days not seen."""
    young = history.until(history.first_day + timedelta(days=36))
    assert WindowModel.fit(FeatureStore.of(young), quick).sold.unseen_days == 0.0


def test_skus_never_sold_have_a_law_of_their_own() -> None:
    """Prevents cold SKUs that take the rates of those that sell: each day one in 100 begins to, at 1 a day or at .2 by its genre."""
    g, n, days = np.random.default_rng(8), 4000, 112
    genre, begins = np.arange(n) % 2, g.geometric(0.01, n)
    rate = np.where(genre == 1, 1.0, 0.2)
    units = g.poisson(rate[:, None] * (np.arange(days) >= begins[:, None]))
    params = ForecastParams(rounds=60, window_days=(WINDOW_DAYS,), daily_taus=())
    store = FeatureStore.of(open_shop(units, genre))
    mean = WindowModel.fit(store, params).predict(store, ((1, WINDOW_DAYS),))[0][:, 0]
    days_selling = (1 - 0.99 ** np.arange(1, WINDOW_DAYS + 1)).sum()  # expected of 28, by a SKU that does not sell yet
    waiting, cold = begins >= days, units.sum(axis=1) == 0
    for k, units_per_day in ((0, 0.2), (1, 1.0)):
        of_genre = genre == k
        selling = (cold & ~waiting & of_genre).sum() * WINDOW_DAYS + (waiting & of_genre).sum() * days_selling
        assert mean[cold & of_genre].sum() == pytest.approx(units_per_day * selling, rel=0.2)
