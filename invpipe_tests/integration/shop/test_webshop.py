"""The shipped example on real servers: what went in comes out, day by day, and the chain runs on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from invpipe.defs.build import build_definitions
from invpipe.defs.io import CONTENT_NAME
from invpipe.history import ShopHistory
from invpipe.settings import write_settings
from invpipe.sources.databases.shop import DatabaseShop
from invpipe.sources.tables import DAY_TABLE_KEYS
from invpipe_tests.integration.shop.conftest import Home

MAPPED_DAILY = ("sales_daily", "stock_daily", "page_views_daily", "offers")


@pytest.mark.parametrize("reader", ["bulk", "pymysql"])
@pytest.mark.parametrize("days_per_query", [1, 7, 100])
def test_tables_come_out_as_they_went_in(home: Home, reader: str, days_per_query: int) -> None:
    """Prevents a lost or doubled row, a wrong day around midnight and the change of the clock, and a value that loses a digit."""
    write_settings(home.path, mariadb={"reader": reader}, extract={"days_per_query": days_per_query})
    shop, tables = DatabaseShop(home.settings, print), home.databases.shop.tables
    for table in ("items", "vendors"):
        read = shop.whole(table)
        assert_frame_equal(read.frame, getattr(tables, table).select(read.frame.columns), check_exact=True)
        assert read.unreadable.is_empty()
    for table in MAPPED_DAILY:
        parts = dict(shop.days(table, home.days))
        assert list(parts) == home.days
        read_all = pl.concat([part.frame for part in parts.values()]).sort(DAY_TABLE_KEYS[table])
        expected = getattr(tables, table).select(read_all.columns).sort(DAY_TABLE_KEYS[table])
        assert len(expected) > 100, table
        assert_frame_equal(read_all, expected, check_exact=table != "sales_daily", abs_tol=1e-9, rel_tol=0)
        assert all(part.unreadable.is_empty() for part in parts.values())


def test_the_chain_runs_from_the_databases_to_an_order_plan(home: Home) -> None:
    """Prevents raw tables that the rest of the chain cannot use; orderable days come from stock where nobody recorded them."""
    write_settings(home.path, forecast={"window_days": [7], "taus": [0.1, 0.5, 0.9], "daily_days": 7})
    first, last = home.days[0], home.days[-1]
    said = home.run("extract", first, last)
    assert any(f"raw_sales_daily: {len(home.days)} days" in line for line in said)
    home.run("validate_tables_again")
    tables = home.databases.shop.tables
    wanted = ShopHistory.from_frames(**tables.as_history_kwargs(), as_of=last)
    found = ShopHistory.open(home.store.directory_path(("shop_history", None)) / CONTENT_NAME)
    assert_frame_equal(found.orderable_daily, wanted.orderable_daily)
    assert_frame_equal(found.sales_daily, wanted.sales_daily, check_exact=False, abs_tol=1e-9, rel_tol=0)
    assert (found.first_day, found.last_day) == (first, last)
    home.run("weekly", last)
    home.run("plan", last)
    plan = pl.read_parquet(home.store.frame_path(("order_plan", last.isoformat())))
    assert plan["reason"].str.len_chars().min() is None or plan["reason"].str.len_chars().min() > 0
    assert home.store.record(("order_plan_summary", last.isoformat())) is not None


def test_a_day_extracted_twice_gives_the_same_bytes(home: Home) -> None:
    """Prevents artifacts that change from night to night, and downstream work that is made again for nothing."""
    day, first = home.days[20], home.days[12]
    home.extract("sales_daily", first, day)
    before = {d: home.store.frame_path(("raw_sales_daily", d.isoformat())).read_bytes() for d in home.records("sales_daily")}
    write_settings(home.path, extract={"days_per_query": 3}, mariadb={"reader": "pymysql"})
    home.extract("sales_daily", first, day)
    hashes = {d: record.content_hash for d, record in home.records("sales_daily").items()}
    for d, old in before.items():
        frame = pl.read_parquet(old)
        assert frame.equals(home.raw("sales_daily", d))
    home.extract("sales_daily", day, day)
    assert home.records("sales_daily")[day].content_hash == hashes[day]


def test_late_rows_are_read_again_by_the_nightly_extract(home: Home, restored: Callable[[str, str], None]) -> None:
    """Prevents sales of an offline terminal from being lost; days before the look-back stay as they are."""
    last = home.days[-1]
    home.extract("sales_daily", last - timedelta(days=6), last)
    sku = home.databases.shop.tables.items["sku"][0]
    before = home.records("sales_daily")
    for back in (2, 5):
        late = last - timedelta(days=back)
        restored(
            f"INSERT INTO orders VALUES ({900 + back}000, '{late} 10:00:00', 'paid');"
            f"INSERT INTO order_lines SELECT {900 + back}000, 1, product_id, 100, 1.00, 0 FROM products WHERE sku = '{sku}'",
            f"DELETE FROM orders WHERE order_id = {900 + back}000; DELETE FROM order_lines WHERE order_id = {900 + back}000",
        )
    schedule = build_definitions(str(home.path)).resolve_schedule_def("extract_at_0500")
    at_five = datetime.combine(last + timedelta(days=1), time(5), tzinfo=ZoneInfo("Europe/Berlin"))
    tick = dg.build_schedule_context(scheduled_execution_time=at_five)
    request = schedule.evaluate_tick(tick).run_requests[0]
    assert request.tags["dagster/asset_partition_range_start"] == str(last - timedelta(days=3))
    home.run("extract", last - timedelta(days=3), last, asset_selection=[dg.AssetKey("raw_sales_daily")])
    after = home.records("sales_daily")
    changed = [day for day in after if after[day].content_hash != before[day].content_hash]
    assert changed == [last - timedelta(days=2)]
    assert home.raw("sales_daily", changed[0]).filter(sku=sku)["sales_units"].item() >= 100


def test_bad_values_are_counted_and_their_rows_quarantined(home: Home, restored: Callable[[str, str], None]) -> None:
    """Prevents a zero date or a fraction of a unit from vanishing, or from stopping a night over one row."""
    day = home.days[30]
    halves = f"UPDATE order_lines l JOIN orders o USING (order_id) SET l.quantity = l.quantity {{}} WHERE DATE(o.placed_at) = '{day}'"
    restored(
        f"ALTER TABLE order_lines MODIFY quantity DECIMAL(10,2) NOT NULL; {halves.format('+ .5')}",
        f"{halves.format('- .5')}; ALTER TABLE order_lines MODIFY quantity INT UNSIGNED NOT NULL",
    )
    said = home.extract("sales_daily", home.days[26], home.days[33])
    assert any("values of sales_units (decimal(10,2)) cannot be read, first" in line for line in said)
    assert home.raw("sales_daily", day)["sales_units"].null_count() > 0
    clean = home.databases.shop.tables.sales_daily.filter(pl.col("day") == day)
    assert len(home.raw("sales_daily", day)) == len(clean)  # no cell is lost, none is made up
