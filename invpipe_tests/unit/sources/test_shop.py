"""The synthetic shop: the stream equals the whole, rates are the known ones, shares are as asked for."""

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from invpipe.errors import SourceError
from invpipe.history import ShopHistory
from invpipe.sources.shop import SyntheticShopParams, stream_synthetic_shop, synthetic_shop, true_rates
from invpipe.sources.supply import SupplyParams
from invpipe.sources.tables import DAY_TABLE_KEYS, ShopTables, concat_tables
from invpipe_tests.unit.sources.shop_properties import assert_tables_agree, dense, lead_correlations, lost_frac

TABLES = ("items", "vendors", *DAY_TABLE_KEYS)
PARAMS = SyntheticShopParams(n_skus=1500, n_days=500)


@pytest.fixture(scope="module")
def shop() -> ShopTables:
    return synthetic_shop(PARAMS)


def test_tables_agree(shop: ShopTables) -> None:
    """Prevents sales above demand or stock, stock out of nowhere, and orderable days without stock."""
    assert_tables_agree(shop)


def test_zero_share(shop: ShopTables) -> None:
    """Prevents a calibration that misses the 97 % of zero cells."""
    assert 0.955 < 1 - shop.demand_daily.height / (1500 * 500) < 0.985


@pytest.mark.parametrize("autocorrelation", [0.0, 0.9])
@pytest.mark.parametrize("zero_frac", [0.5, 0.97])
def test_zero_share_follows_its_parameter(zero_frac: float, autocorrelation: float) -> None:
    """Prevents a parameter that only works at its default."""
    params = SyntheticShopParams(n_skus=2000, n_days=120, zero_frac=zero_frac, rate_autocorrelation=autocorrelation, launch_frac=0)
    demand = synthetic_shop(params).demand_daily
    assert 1 - demand.height / (2000 * 120) == pytest.approx(zero_frac, abs=0.01 if zero_frac > 0.9 else 0.07)


def test_lost_share(shop: ShopTables) -> None:
    """Prevents a shop whose censoring cannot be studied."""
    assert 0.05 < lost_frac(shop) < 0.30


def test_guard_keeps_demand_from_being_lost() -> None:
    """Prevents a policy parameter without effect: a higher guard must lose less."""
    supplies = [SupplyParams(guard=guard) for guard in (1.0, 3.0)]
    lost = [lost_frac(synthetic_shop(SyntheticShopParams(n_skus=300, n_days=200, supply=supply))) for supply in supplies]
    assert lost[1] < lost[0] / 2


def test_views_lead_demand(shop: ShopTables) -> None:
    """Prevents page views that only echo past sales, and far from six of them per unit."""
    future, past = lead_correlations(shop)
    assert future > past + 0.05
    assert 4 < shop.page_views_daily["views"].sum() / shop.demand_daily["demand_units"].sum() < 9


@pytest.mark.parametrize("days_per_chunk", [1, 7, 64])
def test_stream_is_the_whole(days_per_chunk: int) -> None:
    """Prevents draws or state that depend on where the stream is cut."""
    params = SyntheticShopParams(n_skus=120, n_days=65, zero_frac=0.8, rate_autocorrelation=0.8, launch_frac=0.3, seed=9)
    whole = synthetic_shop(params)
    streamed = concat_tables(stream_synthetic_shop(params, days_per_chunk))
    assert (streamed.first_day, streamed.last_day) == (whole.first_day, whole.last_day) == (params.first_day, params.last_day)
    for name in TABLES:
        assert getattr(streamed, name).equals(getattr(whole, name)), name


def test_longer_shop_starts_the_same() -> None:
    """Prevents the past from depending on how long the future is."""
    short, long = (synthetic_shop(SyntheticShopParams(n_skus=80, n_days=n, zero_frac=0.8, launch_frac=0)) for n in (60, 90))
    for name in ("demand_daily", "sales_daily", "page_views_daily", "stock_daily"):
        assert getattr(long, name).filter(pl.col("day") <= short.last_day).equals(getattr(short, name)), name


def test_same_seed_same_tables() -> None:
    """Prevents hidden state, and a seed that is ignored."""
    first, second, other = (synthetic_shop(SyntheticShopParams(n_skus=100, n_days=60, zero_frac=0.8, seed=s)) for s in (1, 1, 2))
    for name in TABLES:
        assert getattr(first, name).equals(getattr(second, name)), name
        assert not getattr(first, name).equals(getattr(other, name)), name


def test_demand_follows_the_true_rates() -> None:
    """Prevents known rates that are not those the demand was drawn from."""
    params = SyntheticShopParams(n_skus=300, n_days=200, zero_frac=0.6, rate_autocorrelation=0.9)
    rates = (
        dense(synthetic_shop(params), true_rates(params).with_columns(millis=(pl.col("rate_units_per_day") * 1e6).cast(pl.Int64)), "millis")
        / 1e6
    )
    demand = dense(synthetic_shop(params), synthetic_shop(params).demand_daily, "demand_units")
    assert demand[rates == 0].sum() == 0
    bins = np.digitize(rates[rates > 0], np.quantile(rates[rates > 0], [0.25, 0.5, 0.75, 0.95]))
    for b in range(5):
        expected = rates[rates > 0][bins == b].sum()
        assert demand[rates > 0][bins == b].sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))


@pytest.mark.parametrize(("asked", "low", "high"), [(0.0, -0.05, 0.02), (0.9, 0.85, 0.95)])
def test_rate_autocorrelation(asked: float, low: float, high: float) -> None:
    """Prevents rates that are autocorrelated when not asked for, or not when they are."""
    params = SyntheticShopParams(
        n_skus=200, n_days=400, rate_autocorrelation=asked, rate_log_sd=1.0 if asked else 0.0, season_amplitude=0, launch_frac=0
    )
    log_rate = np.log(true_rates(params)["rate_units_per_day"].to_numpy().reshape(200, 400))
    weekly = log_rate[:, :399].reshape(200, 57, 7)
    shocks = (weekly - weekly.mean(axis=(0, 1))).reshape(200, 399)
    shocks = shocks - shocks.mean(axis=1, keepdims=True)
    if asked == 0:
        assert np.abs(shocks).max() < 1e-9
        return
    lag1 = (shocks[:, 1:] * shocks[:, :-1]).sum() / (shocks**2).sum()
    assert low < lag1 < high


def test_released_skus_start_at_their_release(shop: ShopTables) -> None:
    """Prevents sales or stock of an article before it exists."""
    launched = shop.items.filter(pl.col("release_date") > shop.first_day).select("sku", "release_date")
    assert 30 < launched.height < 130
    for table, day in (("demand_daily", "day"), ("sales_daily", "day"), ("orderable_daily", "from_day")):
        early = getattr(shop, table).join(launched, on="sku").filter(pl.col(day) < pl.col("release_date"))
        assert early.height == 0, table


def test_history_accepts_the_tables(shop: ShopTables) -> None:
    """Prevents tables that break their contracts."""
    assert ShopHistory.from_frames(**shop.as_history_kwargs()).last_day == shop.last_day
    assert shop.simulated == set(TABLES)


def test_days_per_chunk_out_of_bounds() -> None:
    """Prevents an endless stream."""
    with pytest.raises(SourceError, match="days_per_chunk is 0; it must be at least 1"):
        next(stream_synthetic_shop(PARAMS, 0))


def test_true_rates_out_of_bounds() -> None:
    """Prevents rates of days the shop does not have."""
    with pytest.raises(SourceError, match="n_days is 501; the shop has 500 days"):
        true_rates(PARAMS, 501)


def test_concat_needs_adjacent_chunks() -> None:
    """Prevents a hole in a joined shop."""
    chunks = list(stream_synthetic_shop(SyntheticShopParams(n_skus=5, n_days=30), 10))
    with pytest.raises(SourceError, match="chunk starting 2018-01-21 follows a chunk ending 2018-01-10"):
        concat_tables([chunks[0], chunks[2]])
    with pytest.raises(SourceError, match="0 chunks of a shop to join"):
        concat_tables([])


@pytest.mark.parametrize(("name", "value"), [("n_skus", 0), ("zero_frac", 1.0), ("rate_autocorrelation", 1.0), ("days", 3)])
def test_params_out_of_bounds(name: str, value: float) -> None:
    """Prevents a misspelt or impossible parameter from being taken."""
    with pytest.raises(ValidationError, match=name):
        SyntheticShopParams.model_validate({name: value})
