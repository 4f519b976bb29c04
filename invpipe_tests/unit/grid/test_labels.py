"""Window labels and cells against brute force over days."""

import re

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.errors import ForecastError
from invpipe.grid import Cells, sample_cells, training_grid, window_labels
from invpipe.history import ShopHistory
from invpipe_tests.unit.history.worlds import history, random_shop

SEEDS = st.integers(0, 2**32 - 1)
Days = list[dict[int, int]]


def orderable_days(h: ShopHistory) -> list[set[int]]:
    """Day indices on which each SKU was orderable."""
    rows = h.orderable_daily.rows()
    return [{k for s, a, b in rows if s == sku for k in range(h.day_index(a), h.day_index(b) + 1)} for sku in h.skus]


def sold_units(h: ShopHistory) -> Days:
    """Units sold by day index per SKU, orderable or not."""
    return [{h.day_index(day): units for s, day, units, _ in h.sales_daily.rows() if s == sku} for sku in h.skus]


@settings(max_examples=30)
@given(SEEDS)
def test_label_counts_units_and_orderable_days(seed: int) -> None:
    """Prevents a label with a day too many or too few, with units of a censored day, or of another SKU."""
    h = history(random_shop(seed))
    g = np.random.default_rng(seed)
    first = g.integers(1, 10, 40)
    last = first + g.integers(0, 15, 40)
    sku = g.integers(0, len(h.skus), 40)
    origin = np.array([g.integers(-1, h.n_days - b) for b in last])
    labels = window_labels(h.arrays, sku, origin, first, last)
    open_days, sold = orderable_days(h), sold_units(h)
    for i in range(40):
        window = open_days[sku[i]] & set(range(origin[i] + first[i], origin[i] + last[i] + 1))
        assert labels.orderable_days[i] == len(window)
        assert labels.units[i] == sum(sold[sku[i]].get(d, 0) for d in window)


def test_label_that_needs_the_future_is_refused() -> None:
    """Prevents a training label that reads past the cutoff: the purge of a walk-forward fold."""
    h = history(random_shop(1)).until(history(random_shop(1)).last_day)
    n = h.n_days
    ones = np.ones(3, dtype=np.int64)
    origins = np.array([n - 8, n - 7, n - 6])
    message = (
        f"1 of 3 windows end after the last day of the history (day index {n - 1}), first origin {n - 6} with window (1, 6); "
        "use earlier origins"
    )
    with pytest.raises(ForecastError, match=re.escape(message)):
        window_labels(h.arrays, np.zeros(3, dtype=np.int64), origins, ones, np.full(3, 6))
    assert len(window_labels(h.arrays, np.zeros(2, dtype=np.int64), origins[:2], ones[:2], np.full(2, 6)).units) == 2


@settings(max_examples=20)
@given(SEEDS)
def test_training_grid_has_no_censored_cell_and_every_orderable_one(seed: int) -> None:
    """Prevents zero-filled cells of days on which nothing could be sold, which teach a model that empty shelves have no demand."""
    h = history(random_shop(seed))
    open_days, sold = orderable_days(h), sold_units(h)
    found = {(s, h.day_index(day)): units for s, day, units in training_grid(h).rows()}
    wanted = {(sku, d): sold[i].get(d, 0) for i, sku in enumerate(h.skus) for d in open_days[i]}
    assert found == wanted
    assert len(training_grid(h)) == len(wanted)


def draw(h: ShopHistory, *, most: int, most_sales: int = 10_000, first_day: int = 0, seed: int = 0) -> Cells:
    """Sampled cells of a history."""
    return sample_cells(h.arrays, first_day=first_day, max_sale_cells=most_sales, max_zero_cells=most, seed=seed)


def test_capped_sales_stand_for_all_sales() -> None:
    """Prevents a shop with many sales from being trained on as if it had few, or on cells drawn twice."""
    h = history(random_shop(7, n_sku=6))
    everything, cells = draw(h, most=60), draw(h, most=60, most_sales=10)
    sold = cells.units > 0
    drawn, known = (set(zip(c.sku.tolist(), c.day.tolist(), c.units.tolist(), strict=True)) for c in (cells, everything))
    assert drawn < known
    assert sold.sum() == 10
    assert cells.weight[sold].sum() == pytest.approx((everything.units > 0).sum())
    np.testing.assert_array_equal(cells.weight[~sold], everything.weight[everything.units == 0])


@settings(max_examples=20)
@given(SEEDS, st.integers(0, 50))
def test_cells_without_a_cap_are_the_grid(seed: int, first_day: int) -> None:
    """Prevents cells lost or doubled where nothing needs to be left out."""
    h = history(random_shop(seed))
    cells = draw(h, most=10_000, first_day=first_day)
    found = sorted(zip(cells.sku.tolist(), cells.day.tolist(), cells.units.tolist(), strict=True))
    grid = [(h.skus.index(s), h.day_index(day), float(units)) for s, day, units in training_grid(h).rows()]
    assert found == sorted(row for row in grid if row[1] >= first_day)
    assert set(cells.weight.tolist()) == {1.0}


@pytest.mark.parametrize("most", [20, 60, 100])
def test_capped_cells_keep_all_sales_and_stand_for_the_grid(most: int) -> None:
    """Prevents a biased sample: all sales stay, the cells without one are distinct, orderable and weighted to the whole grid."""
    h = history(random_shop(7, n_sku=6))
    grid = training_grid(h)
    cells = draw(h, most=most)
    sold = cells.units > 0
    assert sold.sum() == grid.filter(pl.col("sales_units") > 0).height
    assert len(set(zip(cells.sku.tolist(), cells.day.tolist(), strict=True))) == len(cells.sku)
    assert cells.weight.sum() == pytest.approx(grid.height, rel=0.5)  # of one draw; in the mean exactly, see below
    assert set(cells.weight[sold].tolist()) == {1.0}
    open_days, units = orderable_days(h), sold_units(h)
    assert all(d in open_days[s] and d not in units[s] for s, d in zip(cells.sku[~sold].tolist(), cells.day[~sold].tolist(), strict=True))
    assert 0.5 * most < (~sold).sum() < most + 5 * most**0.5  # cells drawn twice count once


def test_sampled_cells_follow_the_seed_alone() -> None:
    """Prevents two runs of one configuration from training on different cells."""
    h = history(random_shop(7, n_sku=6))
    a, b, other = draw(h, most=40), draw(h, most=40), draw(h, most=40, seed=1)
    assert (a.sku.tobytes(), a.day.tobytes()) == (b.sku.tobytes(), b.day.tobytes())
    assert a.day.tobytes() != other.day.tobytes()


def test_sample_stands_for_every_cell() -> None:
    """Prevents weights that lean to some SKUs or days: over many seeds each cell weighs 1 in the mean, though sellers come more often."""
    h = history(random_shop(9, n_sku=4, n_days=200))
    zeros = training_grid(h).filter(sales_units=0)
    weight = np.zeros((4, 200))
    hits = np.zeros((4, 200))
    for seed in range(2000):
        cells = draw(h, most=100, seed=seed)
        zero = cells.units == 0
        weight[cells.sku[zero], cells.day[zero]] += cells.weight[zero] / 2000
        hits[cells.sku[zero], cells.day[zero]] += 1
    assert (weight > 0).sum() == zeros.height
    mean_hits = []
    for s in range(4):
        drawn = hits[s][hits[s] > 0]
        mean_hits.append(drawn.mean())
        assert np.abs(drawn - drawn.mean()).max() < 5 * drawn.mean() ** 0.5
        assert weight[s][hits[s] > 0].mean() == pytest.approx(1.0, abs=0.05)
    assert weight.sum() == pytest.approx(zeros.height, rel=0.05)
    share = [len(sold) / len(days) for sold, days in zip(sold_units(h), orderable_days(h), strict=True)]
    assert np.argsort(mean_hits).tolist() == np.argsort(share).tolist()


def test_no_cell_left_is_an_error() -> None:
    """Prevents a booster trained on nothing."""
    h = history(random_shop(1))
    with pytest.raises(ForecastError, match=rf"no orderable cell on or after day index {h.n_days} of {h.n_days}; choose a later cutoff"):
        draw(h, most=10, first_day=h.n_days)
