"""Lost demand against its definitions, day by day; what it does to bias is measured in benchmarks/censoring.py."""

import re
from dataclasses import replace
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.errors import ForecastError
from invpipe.forecast.censoring import CONSTANT, MAX_GAP_DAYS, LostDemand, Pace, fit_censored_size, sold_out_days, tail_mean
from invpipe.history import ShopHistory
from invpipe_tests.oracles import censoring as oracle
from invpipe_tests.unit.history.worlds import START, day, history, random_shop

SEEDS = st.integers(0, 2**32 - 1)
PACES = st.sampled_from([CONSTANT, Pace(7.0, 1.0), Pace(28.0, 10.0)])


def days_of(h: ShopHistory) -> list[set[int]]:
    """Day indices on which each SKU was orderable."""
    rows = h.orderable_daily.rows()
    return [{k for s, a, b in rows if s == sku for k in range(h.day_index(a), h.day_index(b) + 1)} for sku in h.skus]


def by_day(h: ShopHistory, values: np.ndarray) -> list[dict[int, float]]:
    """Values of the rows of arrays.sales as one dictionary of days per SKU."""
    sales = h.arrays.sales
    return [
        dict(zip(sales.day[a:b].tolist(), values[a:b].tolist(), strict=True)) for a, b in zip(sales.ptr[:-1], sales.ptr[1:], strict=True)
    ]


@given(st.floats(1e-3, 30), st.floats(0.3, 300), st.integers(0, 40))
def test_tail_mean_is_the_mean_of_the_tail(mean: float, size: float, units: int) -> None:
    """Prevents a sold-out day that is given less than it sold, or another law's expectation."""
    found = tail_mean(np.array([mean]), np.array([size]), np.array([float(units)]))[0]
    assert found >= units
    assert found == pytest.approx(oracle.tail_mean(mean, size, units), rel=1e-6)


def test_tail_mean_of_what_cannot_happen_is_what_was_sold() -> None:
    """Prevents a label that is not a number where a slow SKU sold hundreds."""
    assert tail_mean(np.array([1e-6]), np.array([400.0]), np.array([500.0])).tolist() == [500.0]
    assert tail_mean(np.array([2.0]), np.array([np.inf]), np.array([1.0]))[0] == pytest.approx(2 / (1 - np.exp(-2)))


def test_size_is_recovered_from_censored_days() -> None:
    """Prevents a fit that takes what a sold-out day sold for what was wanted, or that ignores how often a day counts."""
    g = np.random.default_rng(0)
    mean = g.uniform(0.5, 3, 20_000)
    wanted, stock = g.poisson(mean * g.gamma(0.7, 1 / 0.7, len(mean))), g.integers(1, 5, len(mean))
    units, sold_out, once = np.minimum(wanted, stock).astype(float), wanted >= stock, np.ones(len(mean))
    size = fit_censored_size(mean, units, sold_out, once)
    assert size == pytest.approx(0.7, rel=0.05)
    assert fit_censored_size(mean, units, np.zeros_like(sold_out), once) > 1.5 * size
    some = g.random(len(mean)) < 0.1
    rows = np.concatenate([np.flatnonzero(some), np.flatnonzero(some)])
    doubled = fit_censored_size(mean[rows], units[rows], sold_out[rows], np.ones(len(rows)))
    assert fit_censored_size(mean[some], units[some], sold_out[some], np.full(int(some.sum()), 2.0)) == pytest.approx(doubled, rel=1e-3)


@settings(max_examples=30)
@given(SEEDS)
def test_sold_out_days_are_those_that_sold_the_opening_stock(seed: int) -> None:
    """Prevents stock of another SKU or a later day from deciding, and flags on days of which stock says the contrary."""
    frames = random_shop(seed)
    h = history(frames)
    flags, sold, open_days = by_day(h, sold_out_days(h)), by_day(h, h.arrays.sales.value), days_of(h)
    counts = {(s, h.day_index(d)): units for s, d, units in frames["stock_daily"].rows()}
    blind = by_day(h, sold_out_days(replace(h, stock_daily=None)))
    for i, sku in enumerate(h.skus):
        for k, units in sold[i].items():
            ends = k + 1 < h.n_days and k + 1 not in open_days[i]
            before = [d for s, d in counts if s == sku and d <= k]
            assert bool(flags[i][k]) == (counts[sku, max(before)] <= units if before else ends)
            assert bool(blind[i][k]) == ends


def test_span_cut_by_the_cutoff_is_no_sell_out() -> None:
    """Prevents the last day known from being taken for a stock-out of every SKU that sold on it."""
    frames = {name: frame for name, frame in random_shop(3).items() if name != "stock_daily"}
    cutoff = day(30)
    h = history(frames).until(cutoff)
    assert not sold_out_days(h)[h.arrays.sales.day == h.n_days - 1].any()


@settings(max_examples=30, deadline=None)
@given(SEEDS, PACES)
def test_labels_add_up_day_by_day(seed: int, pace: Pace) -> None:
    """Prevents a window with a day too many, a gap filled with another day's rate, and units counted twice on sold-out days."""
    h = history(random_shop(seed))
    fitted = LostDemand.fit(h.arrays, sold_out_days(h), pace=pace)
    sold, completed, open_days = by_day(h, h.arrays.sales.value), by_day(h, fitted.completed), days_of(h)
    g = np.random.default_rng(seed)
    first = g.integers(1, 10, 20)
    last = first + g.integers(0, 15, 20)
    sku = g.integers(0, len(h.skus), 20)
    origin = np.array([g.integers(-1, h.n_days - b) for b in last])
    labels = fitted.labels(sku, origin, first, last)
    for k, i in enumerate(sku):
        window = set(range(origin[k] + first[k], origin[k] + last[k] + 1))
        gaps = oracle.counted_gaps(open_days[i], h.n_days, MAX_GAP_DAYS if sold[i] else 0) & window
        level = float(fitted.level[i])
        weight = 1 / (1 + level / float(fitted.size[i]))
        rates = [oracle.rate(completed[i], open_days[i], level, weight, pace.half_life_days, pace.strength, d) for d in gaps]
        more = [completed[i][d] - sold[i][d] for d in window & set(sold[i])]
        assert min(more, default=0) >= 0
        assert labels.units[k] == sum(sold[i].get(d, 0) for d in window)
        assert labels.lost_units[k] == pytest.approx(sum(rates) + sum(more), abs=1e-9)
        assert labels.days[k] == len(window & open_days[i]) + len(gaps)


def shop_of_spans(spans: list[tuple[int, int]], sales: list[tuple[int, int]]) -> ShopHistory:
    """One SKU, orderable in spans of day indices, selling (day index, units)."""
    items = {name: [None] for name in ("title", "brand", "genre", "format", "release_date")}
    texts = dict.fromkeys(("title", "brand", "genre", "format"), pl.String) | {"release_date": pl.Date}
    return ShopHistory.from_frames(
        items=pl.DataFrame({"sku": ["A"], **items, "list_price": [1.0]}, schema_overrides=texts),
        sales_daily=pl.DataFrame(
            [("A", day(d), units, 1.0) for d, units in sales],
            schema={"sku": pl.String, "day": pl.Date, "sales_units": pl.Int32, "revenue": pl.Float64},
            orient="row",
        ),
        orderable_daily=pl.DataFrame([("A", day(a), day(b)) for a, b in spans], schema=["sku", "from_day", "to_day"], orient="row"),
        as_of=START + timedelta(days=1000),
    )


def test_long_gaps_are_unknown_and_not_stock_outs() -> None:
    """Prevents demand from being invented for a SKU that was taken out of the shop."""
    long = 10 + MAX_GAP_DAYS
    h = shop_of_spans([(0, 9), (long, long + 9), (long + 11 + MAX_GAP_DAYS, 200)], [(2, 1), (5, 2), (long + 3, 1), (180, 1)])
    fitted = LostDemand.fit(h.arrays, sold_out_days(h), pace=CONSTANT)
    zero, one = np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64)
    labels = fitted.labels(zero, np.array([9, long + 9]), one, np.array([MAX_GAP_DAYS, MAX_GAP_DAYS + 1]))
    assert labels.days.tolist() == [MAX_GAP_DAYS, 0]
    assert labels.lost_units.tolist() == pytest.approx([MAX_GAP_DAYS * fitted.level[0], 0.0])


def test_without_stock_outs_nothing_is_lost() -> None:
    """Prevents a treatment that changes the labels of a shop that needs none."""
    h = shop_of_spans([(0, 99)], [(k, 1 + k % 3) for k in range(0, 100, 4)])
    fitted = LostDemand.fit(h.arrays, sold_out_days(h))
    labels = fitted.labels(np.zeros(1, dtype=np.int64), np.array([-1]), np.array([1]), np.array([100]))
    assert (labels.units[0], labels.lost_units[0], labels.days[0]) == (49.0, 0.0, 100)
    assert fitted.draw(labels, np.zeros(1, dtype=np.int64), seed=1).tolist() == [49.0]


def test_draws_are_integers_around_the_expectation() -> None:
    """Prevents a dispersion fitted to smoothed labels, draws that shift the mean, and labels that differ from run to run."""
    h = shop_of_spans([(0, 49), (90, 139)], [(k, 2) for k in (*range(0, 50, 2), *range(90, 140, 2))])
    fitted = LostDemand.fit(h.arrays, sold_out_days(h), pace=Pace(14.0, 3.0))
    sku, ones = np.zeros(20_000, dtype=np.int64), np.ones(20_000, dtype=np.int64)
    labels = fitted.labels(sku, 39 * ones, ones, 40 * ones)
    drawn = fitted.draw(labels, sku, seed=1)
    assert (drawn == fitted.draw(labels, sku, seed=1)).all()
    assert (drawn == np.round(drawn)).all()
    assert (drawn >= labels.units).all()
    assert drawn.mean() == pytest.approx((labels.units + labels.lost_units)[0], rel=0.02)
    assert drawn.var() > labels.lost_units[0] + labels.lost_units[0] ** 2 / 4


def test_windows_beyond_the_history_are_refused() -> None:
    """Prevents a training label that reads past the cutoff."""
    h = shop_of_spans([(0, 99)], [(3, 1)])
    fitted = LostDemand.fit(h.arrays, sold_out_days(h))
    origin, ones = np.array([90, 94, 95]), np.ones(3, dtype=np.int64)
    message = "1 of 3 windows reach beyond the days of the history, 0 .. 99, first origin 95 with window (1, 5); use other origins"
    with pytest.raises(ForecastError, match=re.escape(message)):
        fitted.labels(np.zeros(3, dtype=np.int64), origin, ones, 5 * ones)


def test_wrong_flags_and_empty_shops_are_refused() -> None:
    """Prevents flags of another history, and a fit on nothing."""
    h = shop_of_spans([(0, 99)], [(3, 1)])
    with pytest.raises(ForecastError, match=re.escape("sold_out has shape (2,), sales have 1 rows; give one flag per row of arrays.sales")):
        LostDemand.fit(h.arrays, np.zeros(2, dtype=bool))
    empty = shop_of_spans([(0, 3), (5, 99)], [(4, 1)])
    with pytest.raises(ForecastError, match="no units sold in 100 days; the lost demand of a shop needs at least one sale"):
        LostDemand.fit(empty.arrays, np.zeros(0, dtype=bool))
