"""The embedded shop: real demand kept, simulated supply consistent, samples independent."""

import polars as pl
import pytest
from pydantic import ValidationError

from invpipe.errors import SourceError
from invpipe.history import ShopHistory
from invpipe.sources.complete_journey import read_lines, real_demand
from invpipe.sources.embedded import EmbeddedParams, embedded_shop
from invpipe.sources.tables import DAY_TABLE_KEYS, ShopTables
from invpipe_tests.unit.sources.shop_properties import assert_tables_agree, lead_correlations, lost_frac

TABLES = ("items", "vendors", *DAY_TABLE_KEYS)


@pytest.fixture(scope="module")
def shop() -> ShopTables:
    return embedded_shop(EmbeddedParams(n_skus=1000, seed=3))


@pytest.fixture(scope="module")
def real() -> pl.DataFrame:
    return real_demand(read_lines())


@pytest.fixture(scope="module")
def smaller_shop() -> ShopTables:
    return embedded_shop(EmbeddedParams(n_skus=200, seed=3))


def test_tables_agree(shop: ShopTables) -> None:
    """Prevents sales above demand or stock, stock out of nowhere, and orderable days without stock."""
    assert_tables_agree(shop)


def test_demand_is_the_real_one(shop: ShopTables, real: pl.DataFrame) -> None:
    """Prevents the simulation from touching the real demand of the SKUs drawn."""
    drawn = real.drop("unit_price").join(shop.items.select("sku"), on="sku", how="semi", maintain_order="left")
    assert shop.demand_daily.equals(drawn)


def test_revenue_is_at_the_real_price(shop: ShopTables, real: pl.DataFrame) -> None:
    """Prevents revenue from being joined to another day's price."""
    joined = shop.sales_daily.join(real, on=["sku", "day"], how="left", maintain_order="left")
    assert (joined["revenue"] - joined["sales_units"] * joined["unit_price"]).abs().max() < 1e-9


def test_lost_share(shop: ShopTables) -> None:
    """Prevents a simulation in which hardly anything, or most of everything, is censored."""
    assert 0.05 < lost_frac(shop) < 0.30
    assert 0.08 < lost_frac(shop) < 0.22


def test_zero_share(shop: ShopTables) -> None:
    """Prevents a draw of SKUs that cuts the long tail off."""
    assert 0.94 < 1 - shop.demand_daily.height / (1000 * 365) < 0.975


def test_views_lead_demand(shop: ShopTables) -> None:
    """Prevents page views that only echo past sales, from which no forecast can learn."""
    future, past = lead_correlations(shop)
    assert future > past + 0.05


def test_conversion(shop: ShopTables) -> None:
    """Prevents a conversion far off the 5 % the simulation promises."""
    assert 0.03 < shop.demand_daily["demand_units"].sum() / shop.page_views_daily["views"].sum() < 0.08


def test_same_seed_same_tables(smaller_shop: ShopTables) -> None:
    """Prevents hidden state: one seed must give the same tables in every call."""
    again = embedded_shop(EmbeddedParams(n_skus=200, seed=3))
    for name in TABLES:
        assert getattr(again, name).equals(getattr(smaller_shop, name)), name


def test_other_seed_other_supply(smaller_shop: ShopTables) -> None:
    """Prevents a seed that is ignored."""
    other = embedded_shop(EmbeddedParams(n_skus=200, seed=4))
    assert not other.items.equals(smaller_shop.items)
    assert not other.vendors.equals(smaller_shop.vendors)


def test_sample_is_part_of_the_larger_shop(shop: ShopTables, smaller_shop: ShopTables) -> None:
    """Prevents a SKU's history from depending on which other SKUs were drawn."""
    assert smaller_shop.vendors.equals(shop.vendors)
    for name in ("items", *DAY_TABLE_KEYS):
        part = getattr(shop, name).join(smaller_shop.items.select("sku"), on="sku", how="semi", maintain_order="left")
        assert part.equals(getattr(smaller_shop, name)), name


def test_history_accepts_the_tables(smaller_shop: ShopTables) -> None:
    """Prevents tables that break their contracts, and the true demand from reaching a history."""
    kwargs = smaller_shop.as_history_kwargs()
    assert "demand_daily" not in kwargs
    assert len(kwargs) == 7
    history = ShopHistory.from_frames(**kwargs)
    assert history.skus == tuple(smaller_shop.items["sku"])


def test_simulated_tables_are_named(smaller_shop: ShopTables) -> None:
    """Prevents a simulated table from passing as a real record."""
    assert set(TABLES) - smaller_shop.simulated == {"items", "demand_daily"}


def test_more_skus_than_there_are() -> None:
    """Prevents a silent cut to the SKUs there are."""
    with pytest.raises(SourceError, match="n_skus is 70,000; the embedded shop has 67,845 SKUs"):
        embedded_shop(EmbeddedParams(n_skus=70_000))


@pytest.mark.parametrize(("name", "value"), [("n_skus", 0), ("seed", -1), ("sku_count", 5)])
def test_params_out_of_bounds(name: str, value: int) -> None:
    """Prevents a misspelt or impossible parameter from being taken."""
    with pytest.raises(ValidationError, match=name):
        EmbeddedParams.model_validate({name: value})


def test_no_nulls_but_in_the_catalogue(shop: ShopTables) -> None:
    """Prevents nulls that a rule would let pass."""
    for name in ("vendors", *DAY_TABLE_KEYS):
        assert getattr(shop, name).null_count().sum_horizontal().item() == 0, name
    assert isinstance(shop.items.schema["release_date"], pl.Date)
