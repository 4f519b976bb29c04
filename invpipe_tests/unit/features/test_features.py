"""The feature kernel against its definitions; nothing after the origin is read; serving gives the bytes of training."""

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.features import CATEGORICAL, FAMILIES, FEATURES, FeatureStore
from invpipe.history import ShopHistory
from invpipe_tests.oracles.features import Shop, features
from invpipe_tests.unit.history.worlds import day, history, poisoned, random_shop

SEEDS = st.integers(0, 2**32 - 1)

#: Units are summed as float64 and stored as float32.
FLOAT32_RTOL = 1e-6

Index = npt.NDArray[np.int64]
Cells = tuple[Index, Index, Index, Index]


def random_cells(h: ShopHistory, seed: int, n: int = 40, last_origin: int | None = None) -> Cells:
    """SKU, origin, first and last day of random windows."""
    g = np.random.default_rng(seed)
    first = g.integers(1, 20, n)
    last = first + g.integers(0, 40, n)
    return g.integers(0, len(h.skus), n), g.integers(0, (h.n_days if last_origin is None else last_origin + 1), n), first, last


def matrix(h: ShopHistory, cells: Cells) -> npt.NDArray[np.float32]:
    return FeatureStore.of(h).matrix(*cells)


def column(h: ShopHistory, cells: Cells, name: str) -> npt.NDArray[np.float32]:
    return matrix(h, cells)[:, FEATURES.index(name)]


def test_names_are_the_40_features_in_families() -> None:
    """Prevents columns that shift against their names."""
    assert len(FEATURES) == len(set(FEATURES)) == 40
    assert tuple(name for family in FAMILIES.values() for name in family) == FEATURES
    assert set(CATEGORICAL) <= set(FEATURES)


@settings(max_examples=40)
@given(SEEDS, st.sampled_from([60, 130]))
def test_kernel_equals_the_definitions(seed: int, n_days: int) -> None:
    """Prevents any drift of the fast loops from the definition of a feature."""
    h = history(random_shop(seed, n_days=n_days))
    cells = random_cells(h, seed)
    found, shop = matrix(h, cells), Shop(h)
    for i, (sku, origin, first, last) in enumerate(zip(*(part.tolist() for part in cells), strict=True)):
        wanted = features(shop, h.skus[sku], origin, first, last)
        assert list(wanted) == list(FEATURES)
        np.testing.assert_allclose(
            found[i], list(wanted.values()), rtol=FLOAT32_RTOL, atol=1e-7, err_msg=str((h.skus[sku], origin, first, last))
        )


def test_last_year_and_long_windows_equal_the_definitions() -> None:
    """Prevents a wrong year in the features that look back furthest; they need a shop of more than a year."""
    h = history(random_shop(11, n_sku=3, n_days=500))
    g = np.random.default_rng(0)
    n = 250
    first = g.integers(1, 200, n)
    cells = (g.integers(0, 3, n), g.integers(300, 500, n), first, np.minimum(366, first + g.integers(0, 300, n)))
    found, shop = matrix(h, cells), Shop(h)
    wanted = np.array(
        [list(features(shop, h.skus[s], *rest).values()) for s, *rest in zip(*(part.tolist() for part in cells), strict=True)]
    )
    np.testing.assert_allclose(found, wanted, rtol=FLOAT32_RTOL, atol=1e-7)
    for name in ("rate_last_year", "rate_91_last_year", "season_last_year", "seasonal_rate"):
        known = ~np.isnan(found[:, FEATURES.index(name)])
        assert 20 < known.sum() < n, name


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 58))
def test_poison_after_the_origin_changes_no_byte(seed: int, k: int) -> None:
    """Prevents reading the future: noise in every row after the cutoff leaves every feature at origins up to it as it was."""
    frames = random_shop(seed)
    cutoff = day(k)
    clean, noisy = history(frames), history(poisoned(frames, cutoff, seed + 1))
    cells = random_cells(clean, seed, n=60, last_origin=k)
    assert matrix(clean, cells).tobytes() == matrix(noisy, cells).tobytes()


def test_poison_is_poison() -> None:
    """Prevents a poison test that passes because the noise is not seen at all: origins after the cutoff do change."""
    frames = random_shop(3)
    clean, noisy = history(frames), history(poisoned(frames, day(20), 1))
    cells = random_cells(clean, 0, n=60)
    after = tuple(part[cells[1] > 20] for part in cells)
    for name in ("rate_7", "sale_days_frac_28", "ewma_rate", "views_28", "conversion_91", "orderable_frac_28", "min_unit_cost"):
        assert column(clean, after, name).tobytes() != column(noisy, after, name).tobytes(), name


@settings(max_examples=25)
@given(SEEDS)
def test_serving_gives_the_bytes_of_training(seed: int) -> None:
    """Prevents skew: a cell has the same features within a big matrix, alone, and from the history as known on its origin day."""
    h = history(random_shop(seed))
    cells = random_cells(h, seed, n=12)
    together = matrix(h, cells)
    for i in range(12):
        one = tuple(part[i : i + 1] for part in cells)
        assert matrix(h, one).tobytes() == together[i].tobytes()
        assert matrix(h.until(day(int(cells[1][i]))), one).tobytes() == together[i].tobytes()


def test_absent_tables_give_missing_features() -> None:
    """Prevents an absent table from being read as zero views or no vendor."""
    frames = random_shop(5)
    cells = random_cells(history(frames), 0)
    h = history(frames, vendors=None, offers=None, page_views_daily=None, stock_daily=None)
    for name in ("views_28", "conversion_91", "vendors_in_stock", "min_unit_cost"):
        assert np.isnan(column(h, cells, name)).all()
    rest = [i for i, name in enumerate(FEATURES) if name not in ("views_28", "conversion_91", "vendors_in_stock", "min_unit_cost")]
    assert matrix(h, cells)[:, rest].tobytes() == matrix(history(frames), cells)[:, rest].tobytes()


def test_a_view_table_without_rows_of_a_sku_means_no_views() -> None:
    """Prevents a SKU nobody looked at from being taken as unknown."""
    frames = random_shop(5)
    h = history(frames, page_views_daily=frames["page_views_daily"].filter(pl.col("sku") != "S01"))
    cells = (np.array([1]), np.array([40]), np.array([1]), np.array([7]))
    assert column(h, cells, "views_28").tolist() == [0.0]
    assert np.isnan(column(h, cells, "conversion_91")).all()


@pytest.mark.parametrize("name", CATEGORICAL)
def test_null_categories_are_missing(name: str) -> None:
    """Prevents null from being coded as a category of its own, or a catalogue without genres from failing."""
    frames = random_shop(5)
    cells = (np.arange(4), np.full(4, 30), np.ones(4, dtype=np.int64), np.full(4, 7))
    some = frames["items"].with_columns(pl.Series(name, ["z", None, "a", "z"]))
    np.testing.assert_array_equal(column(history(frames, items=some), cells, name), [1.0, np.nan, 0.0, 1.0])
    none = frames["items"].with_columns(pl.lit(None, pl.String).alias(name))
    assert np.isnan(column(history(frames, items=none), cells, name)).all()


def test_release_year_is_the_year_of_the_release() -> None:
    """Prevents a year counted from the first day of the shop, wrong for every shop that did not open on 1 January."""
    frames = random_shop(5)
    dates = [date(2022, 12, 31), date(2023, 1, 1), date(2024, 2, 29), date(1999, 7, 1)]
    h = history(frames, items=frames["items"].with_columns(release_date=pl.Series(dates)))
    cells = (np.arange(4), np.full(4, 30), np.ones(4, dtype=np.int64), np.full(4, 7))
    assert column(h, cells, "release_year").tolist() == [2022.0, 2023.0, 2024.0, 1999.0]
    assert column(h, cells, "age_days").tolist() == [(day(30) - released).days for released in dates]


def test_calendar_reaches_the_longest_window() -> None:
    """Prevents reading past the calendar's end for a window that starts a year after the last day."""
    h = history(random_shop(5))
    cells = (np.array([0]), np.array([h.n_days - 1]), np.array([366]), np.array([366]))
    target = h.last_day + timedelta(days=366)
    assert column(h, cells, "day_of_week").tolist() == [target.weekday()]
    assert column(h, cells, "day_of_month").tolist() == [target.day]


def test_rates_are_per_orderable_day() -> None:
    """Prevents a shelf that was empty half the time from halving the rate."""
    frames = random_shop(5, n_sku=1, n_days=28)
    sold = pl.DataFrame({"sku": "S00", "day": [day(20 + i) for i in range(8)], "sales_units": 2, "revenue": 1.0})
    spans = pl.DataFrame({"sku": ["S00", "S00"], "from_day": [day(0), day(24)], "to_day": [day(0), day(27)]})
    h = history(frames, sales_daily=sold, orderable_daily=spans)
    cells = (np.array([0]), np.array([27]), np.array([1]), np.array([7]))
    assert column(h, cells, "rate_7").tolist() == [2.0]
    assert column(h, cells, "rate_14").tolist() == [2.0]
    assert column(h, cells, "rate_28").tolist() == [np.float32(8 / 5)]
    assert column(h, cells, "orderable_frac_28").tolist() == [np.float32(5 / 28)]
