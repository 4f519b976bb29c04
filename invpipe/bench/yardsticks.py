"""Shops and origins a forecast is measured on: yardsticks of `invpipe bench forecast`.

*Complete Journey* is the embedded shop's demand before any simulated censoring. *Online Retail* (UCI Online Retail II: sku, day, orders,
unit_price) and *FreshRetailNet* (sku, day, sales, out_of_stock_hours, category) are files that are not part of the project. The first two
are taken as always orderable; on FreshRetailNet a day counts as orderable where no hour of it was out of stock, which is a first take:
days that sell out are the days of high demand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from invpipe.contracts import CONTRACTS
from invpipe.contracts.spans import spans_from_days
from invpipe.errors import SourceError
from invpipe.history import ShopHistory
from invpipe.sources.complete_journey import FIRST_DAY, LAST_DAY, catalogue, read_lines, real_demand

#: A span that holds every day a shop has.
ALWAYS = 10_000


@dataclass(frozen=True)
class Yardstick:
    """A history, the window, the cutoffs, and within how many days before a cutoff a SKU must have sold to count."""

    name: str
    history: ShopHistory
    window_days: int
    cutoffs: tuple[date, ...]
    sold_within_days: int = ALWAYS

    def small(self, skus: int, folds: int, seed: int = 0) -> Yardstick:
        """Return the yardstick on at most so many of its SKUs, drawn by the seed, and on its last folds."""
        everyone = self.history.items["sku"]
        if skus < len(everyone):
            chosen = everyone.gather(np.sort(np.random.default_rng(seed).choice(len(everyone), skus, replace=False)))
            keep = pl.col("sku").is_in(chosen.implode())
            tables = {name: getattr(self.history, name) for name in CONTRACTS if name != "vendors"}
            kept: dict[str, Any] = {name: None if table is None else table.filter(keep) for name, table in tables.items()}
            return replace(self, history=replace(self.history, **kept), cutoffs=self.cutoffs[-folds:])
        return replace(self, cutoffs=self.cutoffs[-folds:])


def complete_journey() -> Yardstick:
    """Return the yardstick on dunnhumby Complete Journey: six origins, units in 28 days, SKUs sold before."""
    lines = read_lines()
    sales = real_demand(lines).select("sku", "day", sales_units="demand_units", revenue=pl.lit(0.0))
    history = _always_orderable(catalogue(lines), sales, FIRST_DAY, LAST_DAY)
    cutoffs = tuple(FIRST_DAY + timedelta(days=day - 1) for day in range(197, 338, 28))
    return Yardstick("Complete Journey 28 d", history, 28, cutoffs)


def online_retail(path: Path) -> list[Yardstick]:
    """Return the yardsticks on Online Retail: ten origins 30 days apart, order lines in 28 and 60 days, SKUs sold within a year.

    Raises
    ------
    SourceError
        Where the file cannot be read or lacks a column.
    """
    lines = _read(path, {"sku": pl.String, "day": pl.Date, "orders": pl.Int32, "unit_price": pl.Float64})
    sales = lines.select("sku", "day", sales_units="orders", revenue=pl.lit(0.0))
    items = _items(lines.group_by("sku").agg(list_price=pl.col("unit_price").median()))
    history = _always_orderable(items, sales, *_days(lines))
    return [Yardstick(f"Online Retail {days} d", history, days, _cutoffs(history, days, 30, 10), 365) for days in (28, 60)]


def fresh_retail(path: Path) -> list[Yardstick]:
    """Return the yardsticks on FreshRetailNet: units of 0.1 in 7 and 14 days, origins one window apart, six and three of them.

    Raises
    ------
    SourceError
        Where the file cannot be read or lacks a column.
    """
    columns = {"sku": pl.String, "day": pl.Date, "sales": pl.Float64, "out_of_stock_hours": pl.Int32, "category": pl.String}
    lines = _read(path, columns).with_columns(sales_units=(pl.col("sales") * 10).round().cast(pl.Int32), revenue=pl.lit(0.0))
    items = _items(lines.group_by("sku").agg(pl.col("category").first().alias("genre"), list_price=pl.lit(1.0)))
    spans = spans_from_days(lines.select("sku", "day", orderable=pl.col("out_of_stock_hours") == 0))
    sales = lines.filter(pl.col("sales_units") > 0).select("sku", "day", "sales_units", "revenue")
    history = ShopHistory.from_frames(items=items, sales_daily=sales, orderable_daily=spans)
    return [Yardstick(f"FreshRetailNet {days} d", history, days, _cutoffs(history, days, days, n)) for days, n in ((7, 6), (14, 3))]


def _read(path: Path, columns: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    try:
        return pl.read_parquet(path).select(pl.col(name).cast(dtype) for name, dtype in columns.items())
    except (pl.exceptions.PolarsError, OSError) as error:
        msg = f"{path.name} is no parquet file with the columns {', '.join(columns)} ({error}); give the file of that shop"
        raise SourceError(msg) from error


def _days(lines: pl.DataFrame) -> tuple[date, date]:
    first, last = lines.select(pl.col("day").min(), last=pl.col("day").max()).row(0)
    return first, last


def _items(items: pl.DataFrame) -> pl.DataFrame:
    """Return the catalogue with the columns a shop may leave empty."""
    absent = [name for name in ("title", "brand", "genre", "format") if name not in items.columns]
    return items.with_columns(*(pl.lit(None, pl.String).alias(name) for name in absent), release_date=pl.lit(None, pl.Date))


def _always_orderable(items: pl.DataFrame, sales: pl.DataFrame, first: date, last: date) -> ShopHistory:
    spans = items.select("sku", from_day=pl.lit(first), to_day=pl.lit(last))
    return ShopHistory.from_frames(items=items, sales_daily=sales, orderable_daily=spans)


def _cutoffs(history: ShopHistory, days: int, step: int, n: int) -> tuple[date, ...]:
    """Return n cutoffs a step apart, the last one a window before the end."""
    return tuple(history.last_day - timedelta(days=days + step * k) for k in reversed(range(n)))
