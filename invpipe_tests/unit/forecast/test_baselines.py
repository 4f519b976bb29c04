"""Laws of rates and empirical laws from their definitions."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.errors import ForecastError
from invpipe.forecast.baselines import (
    EMPIRICAL_STEP_DAYS,
    EmpiricalLaw,
    empirical,
    ewma,
    ewma_negative_binomial,
    ewma_rate,
    rate_laws,
    units_per_orderable_day,
)
from invpipe.forecast.metrics import ranked_probability_score
from invpipe.history import ShopHistory
from invpipe_tests.oracles import forecast as oracle
from invpipe_tests.oracles.features import Shop
from invpipe_tests.unit.history.worlds import day, poisoned, random_shop
from invpipe_tests.unit.history.worlds import history as history_of

COUNTS = st.lists(st.integers(0, 12), min_size=1, max_size=9)


def law_of(*samples: list[int]) -> EmpiricalLaw:
    """Law of some lists of samples, as :func:`empirical` stores them."""
    width = max(map(len, samples))
    rows = [sorted(row) + [np.inf] * (width - len(row)) for row in samples]
    return EmpiricalLaw(np.array(rows, dtype=float), np.array([len(row) for row in samples]))


@given(COUNTS, COUNTS, st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.99]), st.integers(0, 14))
def test_empirical_law_is_that_of_its_samples(a: list[int], b: list[int], tau: float, units: int) -> None:
    """Prevents padding from counting as a sample, a quantile one sample off, and P(D > n) for P(D >= n)."""
    law = law_of(a, b)
    assert law.survival(np.full(2, units)).tolist() == pytest.approx([np.mean(np.array(row) >= units) for row in (a, b)])
    smallest = [min(q for q in row if np.mean(np.array(row) <= q) >= tau - 1e-12) for row in (a, b)]
    assert law.quantile(tau).tolist() == smallest
    assert law.mean.tolist() == pytest.approx([np.mean(a), np.mean(b)])
    score = sum((np.mean(np.array(b) <= k) - (units <= k)) ** 2 for k in range(20))
    assert ranked_probability_score(law.take(np.array([1])), np.array([float(units)])) == pytest.approx(score)


def test_a_quantile_does_not_slip_by_rounding() -> None:
    """Prevents the fourth of thirty samples as the 10 % quantile because .1 * 30 is above 3."""
    assert law_of(list(range(30))).quantile(0.1).tolist() == [2]


def test_units_per_orderable_day_skip_stock_outs(history: ShopHistory) -> None:
    """Prevents stock-outs that count as days without demand, and series that do not end on the last orderable day."""
    units, days = units_per_orderable_day(history)
    shop = Shop(history)
    for i in range(0, len(history.skus), 7):
        sku = history.skus[i]
        series = [shop.sold[sku].get(d, 0) for d in sorted(shop.open[sku])]
        assert days[i] == len(series)
        assert units[i].tolist() == [0.0] * (history.n_days - len(series)) + series


def test_empirical_takes_past_windows_of_orderable_days(history: ShopHistory, cutoff: date) -> None:
    """Prevents windows across fewer orderable days than asked for, and windows that reach past the cutoff or before the first day."""
    shop = Shop(history.until(cutoff))
    length = np.random.default_rng(0).integers(1, 15, len(history.skus))
    law = empirical(history, cutoff, length)
    for i in range(0, len(history.skus), 7):
        sku, k = history.skus[i], int(length[i])
        series = [shop.sold[sku].get(d, 0) for d in sorted(shop.open[sku])]
        samples = [sum(series[end - k : end]) for end in range(len(series), k - 1, -EMPIRICAL_STEP_DAYS)]
        samples = samples or [round(sum(series) / max(len(series), 1) * k)]
        assert law.samples[i, : law.count[i]].tolist() == sorted(samples)
        assert np.isinf(law.samples[i, law.count[i] :]).all()


def test_empirical_of_a_young_sku() -> None:
    """Prevents an error, or a law of nothing, where a SKU has fewer orderable days than the window; a window without a day is refused."""
    frames = random_shop(1, n_sku=2, n_days=30)
    spans = pl.DataFrame({"sku": ["S00"], "from_day": [day(17)], "to_day": [day(25)]})
    sold = pl.DataFrame({"sku": "S00", "day": [day(18), day(20)], "sales_units": [2, 1], "revenue": 1.0}).cast({"sales_units": pl.Int32})
    history = history_of(frames, sales_daily=sold, orderable_daily=spans)
    law = empirical(history, day(20), np.array([8, 8]))
    assert (law.mean.tolist(), law.count.tolist()) == ([6.0, 0.0], [1, 1])  # 3 units in 4 days are 6 in 8
    with pytest.raises(ForecastError, match="1 windows have no orderable day, first that of S01; leave those SKUs out"):
        empirical(history, day(20), np.array([8, 0]))


def test_sizes_make_the_last_days_likeliest(history: ShopHistory, cutoff: date) -> None:
    """Prevents a size fitted to days the rate has already seen, or to another length of the window than it is for."""
    law = ewma_negative_binomial(history, cutoff, [(1, 14)])
    np.testing.assert_allclose(law.mean, ewma(history, cutoff, [(1, 14)]).mean)
    known = history.until(cutoff)
    shop = Shop(known)
    before = ewma_rate(history.until(cutoff - timedelta(days=14)))
    cells = []
    for rate, sku in zip(before, history.skus, strict=True):
        window = [d for d in range(known.n_days - 14, known.n_days) if d in shop.open[sku]]
        if rate > 0 and window:
            cells.append((rate * len(window), sum(shop.sold[sku].get(d, 0) for d in window)))
    assert len(cells) < 1000  # one class of the mean: one size for all
    size = law.size[0, 0]
    assert (law.size == size).all()

    def log_likelihood(r: float) -> float:
        return sum(np.log(oracle.pmf(mean, r, units)) for mean, units in cells)

    best = log_likelihood(size)
    assert best >= max(log_likelihood(size * factor) for factor in (0.5, 0.97, 1.03, 2.0))


def test_sizes_differ_by_the_length_of_the_window(history: ShopHistory, cutoff: date) -> None:
    """Prevents the size of one window from serving another."""
    both = ewma_negative_binomial(history, cutoff, [(1, 7), (1, 28)])
    alone = [ewma_negative_binomial(history, cutoff, [window]).size[:, 0] for window in ((1, 7), (1, 28))]
    np.testing.assert_array_equal(both.size, np.column_stack(alone))
    assert (both.size[:, 0] != both.size[:, 1]).any()


def test_rates_that_tell_nothing_give_poisson_laws(history: ShopHistory, cutoff: date) -> None:
    """Prevents an error where no SKU had a rate before the last days."""
    nothing = np.zeros(len(history.skus))
    law = rate_laws(history, cutoff, [(1, 7)], lambda _: nothing, overdispersed=True)
    assert np.isinf(law.size).all()
    assert law.mean.sum() == 0


def test_laws_do_not_read_past_the_cutoff() -> None:
    """Prevents a baseline that wins by knowing the future."""
    frames = random_shop(2)
    answers = []
    for tables in (frames, poisoned(frames, day(40), 3)):
        history = history_of(tables)
        law, own = ewma_negative_binomial(history, day(40), [(1, 7)]), empirical(history, day(40), np.full(4, 7))
        answers.append((law.mean.tobytes(), law.size.tobytes(), own.samples.tobytes()))
    assert answers[0] == answers[1]
