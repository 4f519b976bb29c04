"""Loads a synthetic shop into the schema of the shipped example, as a webshop would have written it.

The tables that come out of the databases must be those that went in: units of a day are split over orders and lines at times of the
shop's day, stock is booked before the day opens, views are single log lines, offers lie in documents with their price history.
Around it stands what must not count: cancelled orders, bookings that were corrected before the day opened, rows of days before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

import numpy as np
import polars as pl
import pymysql
from bson.decimal128 import Decimal128
from pymongo.database import Database

from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop
from invpipe.sources.tables import ShopTables

SHOP_ZONE = "Europe/Berlin"
FIRST_DAY = date(2024, 3, 15)  # the clock goes forward on 31 March
EXAMPLE = files("invpipe") / "examples" / "webshop"


@dataclass(frozen=True)
class Webshop:
    """What went into the databases, in the contracts' form."""

    tables: ShopTables

    @property
    def days(self) -> list[date]:
        span = (self.tables.last_day - self.tables.first_day).days
        return [self.tables.first_day + timedelta(days=k) for k in range(span + 1)]


def synthetic_webshop(n_skus: int, n_days: int) -> Webshop:
    """Return a shop whose values the databases can hold: money to four decimals, no event in the hour that the clock skips."""
    tables = synthetic_shop(SyntheticShopParams(n_skus=n_skus, n_days=n_days, first_day=FIRST_DAY, zero_frac=0.7, seed=5))
    exists = pl.col("observed_at").dt.replace_time_zone(SHOP_ZONE, ambiguous="earliest", non_existent="null").is_not_null()
    # MongoDB keeps milliseconds
    offers = tables.offers.filter(exists).with_columns(pl.col("observed_at").dt.truncate("1ms"), pl.col("unit_cost").round(4))
    return Webshop(
        replace(
            tables,
            items=tables.items.with_columns(pl.col("list_price").round(4).clip(lower_bound=0.01)),
            vendors=tables.vendors.with_columns(pl.col(pl.Float64).round(2)),
            sales_daily=tables.sales_daily.with_columns(pl.col("revenue").round(4)),
            offers=offers,
        )
    )


def utc(frame: pl.DataFrame, column: str) -> pl.Series:
    """Local times of the shop as UTC."""
    local = pl.col(column).dt.replace_time_zone(SHOP_ZONE, ambiguous="earliest", non_existent="raise")
    return frame.select(local.dt.convert_time_zone("UTC").dt.replace_time_zone(None)).to_series()


def load(shop: Webshop, server: ThrowAwayMariaDB, mongo: Database[dict[str, Any]]) -> None:
    """Fill both databases."""
    server.execute((EXAMPLE / "schema.sql").read_text(encoding="utf-8"))
    with pymysql.connect(unix_socket=str(server.socket), user="root", database=server.database, charset="utf8mb4") as connection:
        _load_catalogue(shop.tables, connection)
        ids = {sku: k + 1 for k, sku in enumerate(shop.tables.items["sku"])}
        _load_orders(shop.tables, ids, connection)
        _load_stock(shop.tables, ids, connection)
        _load_views(shop.tables, ids, connection)
        connection.commit()
    load_offers(shop.tables.offers, mongo)


def _insert(connection: Any, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(['%s'] * (columns.count(',') + 1))})", rows)


def _load_catalogue(tables: ShopTables, connection: Any) -> None:
    items = tables.items.select("sku", "title", "brand", "genre", "format", "release_date", "list_price")
    _insert(connection, "products", "sku, title, brand, category, format, released, price", items.rows())
    vendors = tables.vendors.select("vendor", "lead_time_days_mean", "lead_time_days_sd", "min_order_value")
    _insert(connection, "vendors", "vendor_code, lead_time_days, lead_time_sd, min_order_value", vendors.rows())


def _load_orders(tables: ShopTables, ids: dict[str, int], connection: Any) -> None:
    """Split every cell into up to three lines of orders at other hours; the price of a line is such that money adds up."""
    rng = np.random.default_rng(11)
    orders: list[tuple[Any, ...]] = []
    lines: list[tuple[Any, ...]] = []

    def order(day: date, status: str, sku: str, units: int, revenue: Decimal) -> None:
        seconds = int(rng.integers(3 * 3600, 24 * 3600))
        orders.append((len(orders) + 1, day, seconds, status))
        price = (revenue / units).quantize(Decimal("0.0001")) + Decimal("0.5")
        lines.append((len(orders), 1, ids[sku], units, price, price * units - revenue))

    for sku, day, units, revenue in tables.sales_daily.select("sku", "day", "sales_units", "revenue").iter_rows():
        left_units, left = units, Decimal(str(revenue))
        while left_units > 1 and rng.random() < 0.5:
            part = int(rng.integers(1, left_units))
            share = (left * part / left_units).quantize(Decimal("0.0001"))
            order(day, "paid", sku, part, share)
            left_units, left = left_units - part, left - share
        order(day, "shipped", sku, left_units, left)
        if rng.random() < 0.1:
            order(day, "cancelled", sku, 3, Decimal(9))
    for day in (tables.first_day - timedelta(days=1), tables.last_day + timedelta(days=1)):
        order(day, "paid", tables.items["sku"][0], 7, Decimal(70))
    frame = pl.DataFrame(orders, schema={"id": pl.Int64, "day": pl.Date, "seconds": pl.Int64, "status": pl.String}, orient="row")
    frame = frame.with_columns((pl.col("day").cast(pl.Datetime("us")) + pl.duration(seconds="seconds")).alias("at"))
    rows = list(zip(frame["id"], utc(frame, "at"), frame["status"], strict=True))
    _insert(connection, "orders", "order_id, placed_at, status", rows)
    _insert(connection, "order_lines", "order_id, line_no, product_id, quantity, unit_price, discount", lines)
    _insert(connection, "returns", "order_id, line_no, returned_at, quantity", [(1, 1, rows[0][1], 1)])


def _load_stock(tables: ShopTables, ids: dict[str, int], connection: Any) -> None:
    """Book each level before the day opens: some the evening before, some at half past five after a wrong one."""
    booked = []
    for k, (sku, day, units) in enumerate(tables.stock_daily.select("sku", "day", "on_hand_units").iter_rows()):
        evening = pl.datetime(day.year, day.month, day.day) - pl.duration(hours=2)
        early = pl.datetime(day.year, day.month, day.day) + pl.duration(hours=5, minutes=30)
        if k % 2:
            booked.append((sku, evening, units + 5))
        booked.append((sku, early if k % 2 else evening, units))
    after = tables.last_day + timedelta(days=1)
    booked.append((tables.items["sku"][0], pl.datetime(after.year, after.month, after.day, 7), 99))
    frame = pl.select(pl.concat_list([at for _, at, _ in booked]).explode().alias("at"))
    rows = [(ids[sku], at, 0, units, "count") for (sku, _, units), at in zip(booked, utc(frame, "at"), strict=True)]
    _insert(connection, "stock_ledger", "product_id, booked_at, units, left_units, reason", rows)


def _load_views(tables: ShopTables, ids: dict[str, int], connection: Any) -> None:
    views = tables.page_views_daily.select("sku", "day", pl.col("views").repeat_by("views")).explode("views")
    seconds = np.random.default_rng(12).integers(3 * 3600, 24 * 3600, len(views))
    views = views.with_columns((pl.col("day").cast(pl.Datetime("us")) + pl.duration(seconds=pl.Series(seconds))).alias("at"))
    rows = [(ids[sku], at) for sku, at in zip(views["sku"], utc(views, "at"), strict=True)]
    _insert(connection, "page_view_log", "product_id, viewed_at", rows)


def load_offers(offers: pl.DataFrame, mongo: Database[dict[str, Any]]) -> None:
    """One document per (SKU, vendor), its events as history, costs as Decimal128."""
    timed = offers.with_columns(utc(offers, "observed_at").alias("at"))
    documents = []
    for (sku, vendor), events in timed.group_by(["sku", "vendor"], maintain_order=True):
        history = [
            {
                "at": row["at"],
                "cost": Decimal128(str(row["unit_cost"])),
                "in_stock": row["in_stock"],
                "min_units": row["min_order_units"],
                "pack_units": row["pack_units"],
            }
            for row in events.iter_rows(named=True)
        ]
        documents.append({"sku": sku, "vendor": vendor, "note": "x" * 50, "history": history})
    mongo["vendor_offers"].insert_many(documents)
    mongo["vendor_offers"].create_index("history.at")
