"""Simulated vendors and offers, and the errors of the simulation's input."""

from datetime import date, datetime

import numpy as np
import polars as pl
import pytest

from invpipe.errors import SourceError
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop
from invpipe.sources.supply import SupplyParams, SupplySimulation, simulate_vendors, text_keys
from invpipe.sources.tables import ShopTables


@pytest.fixture(scope="module")
def shop() -> ShopTables:
    return synthetic_shop(SyntheticShopParams(n_skus=600, n_days=400, zero_frac=0.8, launch_frac=0))


def items_of(skus: list[str], prices: list[float]) -> pl.DataFrame:
    return pl.DataFrame({"sku": skus, "genre": [None] * len(skus), "brand": ["b"] * len(skus), "list_price": prices}).cast(
        {"genre": pl.String}
    )


def simulate(items: pl.DataFrame, opening_rate: list[float]) -> SupplySimulation:
    return SupplySimulation(items, np.array(opening_rate), date(2020, 1, 1), SupplyParams(), 0, frozenset())


def test_vendors_in_bounds() -> None:
    """Prevents lead times or minimum orders out of the documented bounds."""
    vendors = simulate_vendors(SupplyParams(max_min_order_value=80), seed=5)
    assert vendors["vendor"].to_list()[:2] == ["V01", "V02"]
    assert vendors.height == 30
    assert vendors["lead_time_days_mean"].is_between(2, 14).all()
    assert (vendors["lead_time_days_sd"] <= 0.36 * vendors["lead_time_days_mean"]).all()
    assert vendors["min_order_value"].is_between(0, 80).all()
    assert 0 < (vendors["min_order_value"] == 0).sum() < 20


def test_first_event_of_every_offer(shop: ShopTables) -> None:
    """Prevents an offer without a known cost on the first days."""
    first = shop.offers.group_by("sku", "vendor").agg(pl.col("observed_at").min())
    assert (first["observed_at"] == datetime(2018, 1, 1)).all()
    assert set(first["sku"]) == set(shop.items["sku"])
    assert first.group_by("sku").len()["len"].is_between(1, 3).all()


def test_every_event_changes_its_offer(shop: ShopTables) -> None:
    """Prevents events that repeat the state before them, and a constant that moves with them."""
    key = ["sku", "vendor"]
    same = (pl.col("unit_cost") == pl.col("unit_cost").shift().over(key)) & (pl.col("in_stock") == pl.col("in_stock").shift().over(key))
    assert shop.offers.select(same.fill_null(False).mean()).item() < 0.02  # costs at their bound may step to it again
    constant = shop.offers.group_by(key).agg(pl.col("min_order_units", "pack_units").n_unique())
    assert constant["min_order_units"].max() == constant["pack_units"].max() == 1


def test_costs_and_stock_of_offers(shop: ShopTables) -> None:
    """Prevents costs outside of 45-80 % of the list price, and a share of time in stock other than 90 / 97."""
    offers = shop.offers.join(shop.items.select("sku", "list_price"), on="sku")
    assert (offers["unit_cost"] / offers["list_price"]).is_between(0.449, 0.801).all()
    end = datetime(2018, 1, 1) + (shop.last_day - shop.first_day)
    span = (pl.col("observed_at").shift(-1).over("sku", "vendor").fill_null(end) - pl.col("observed_at")).dt.total_seconds()
    up = offers.select(span.filter("in_stock").sum() / span.sum()).item()
    assert up == pytest.approx(90 / 97, abs=0.02)


def test_fast_movers_come_in_packs(shop: ShopTables) -> None:
    """Prevents packs for the long tail, where one pack is a year's demand."""
    units = shop.demand_daily.group_by("sku").agg(pl.col("demand_units").sum())
    packed = shop.offers.group_by("sku").agg(pl.col("pack_units").first()).join(units, on="sku", how="left").fill_null(0)
    assert set(packed["pack_units"]) == {1, 6, 12}
    assert packed.filter(pl.col("pack_units") > 1)["demand_units"].min() > 80


def test_genre_and_brand_share_their_first_vendor(shop: ShopTables) -> None:
    """Prevents vendors drawn without affinity: all SKUs of a range must share a vendor."""
    vendors = shop.offers.select("sku", "vendor").unique().join(shop.items, on="sku")
    ranges = vendors.group_by("genre", "brand").agg(skus=pl.col("sku").n_unique(), widest=pl.col("vendor").value_counts())
    most = ranges.filter(pl.col("skus") > 1).with_columns(
        most=pl.col("widest").list.eval(pl.element().struct.field("count").max()).list.max()
    )
    assert most.height > 10
    assert (most["most"] == most["skus"]).all()


def test_text_keys_are_fixed() -> None:
    """Prevents hashes that differ between machines or runs, as Python's own do."""
    keys = text_keys(pl.Series(["A", "B", None, ""]), seed=7)
    assert keys[0] == text_keys(pl.Series(["A"]), seed=7)[0] != text_keys(pl.Series(["A"]), seed=8)[0]
    assert keys[2] == keys[3]
    assert hex(keys[0]) == "0xb39c6d9dd990b352"


def test_unsorted_items() -> None:
    """Prevents tables whose rows belong to another SKU."""
    with pytest.raises(SourceError, match="2 of 4 rows of items are not above the sku before them, first 'A'; sort by unique sku"):
        simulate(items_of(["B", "A", "C", "C"], [1.0] * 4), [0.0] * 4)


@pytest.mark.parametrize("price", [0.0, float("nan"), float("inf"), -1.0])
def test_list_price_out_of_bounds(price: float) -> None:
    """Prevents offers at a cost of zero or infinity."""
    with pytest.raises(SourceError, match=r"1 of 2 values of list_price are not finite and above 0, first \(sku=B\)"):
        simulate(items_of(["A", "B"], [1.0, price]), [0.0, 0.0])


def test_opening_rate_out_of_bounds() -> None:
    """Prevents an opening stock from a negative rate."""
    with pytest.raises(SourceError, match=r"1 of 2 values of opening_rate are not finite and at least 0, first \(sku=A\): -0.1"):
        simulate(items_of(["A", "B"], [1.0, 1.0]), [-0.1, 0.0])
