"""Orderable days as spans: the compact form of a flag per (sku, day)."""

from __future__ import annotations

from datetime import date

import polars as pl


def spans_from_days(days: pl.DataFrame) -> pl.DataFrame:
    """Return the maximal runs of consecutive orderable days, key (sku, from_day).

    Parameters
    ----------
    days
        Columns sku, day, orderable; key (sku, day). Absent days are not orderable.
    """
    run = (pl.col("day") - pl.duration(days=pl.int_range(pl.len()).over("sku"))).alias("run")
    return (
        days.filter("orderable")
        .sort("sku", "day")
        .with_columns(run)
        .group_by("sku", "run")
        .agg(pl.col("day").min().alias("from_day"), pl.col("day").max().alias("to_day"))
        .drop("run")
        .sort("sku", "from_day")
    )


def spans_from_stock(stock_daily: pl.DataFrame, last_day: date) -> pl.DataFrame:
    """Return the spans of days that opened with stock, key (sku, from_day): where a shop keeps no record of what could be sold.

    Parameters
    ----------
    stock_daily
        Key (sku, day); an absent day repeats the last row of the SKU. Unknown stock is no stock.
    last_day
        Last day seen; running spans end on it.
    """
    has_stock = (pl.col("on_hand_units") > 0).fill_null(value=False)
    changes = (
        stock_daily.drop_nulls(["sku", "day"])
        .sort("sku", "day")
        .select("sku", "day", has_stock.alias("has_stock"))
        .filter((pl.col("has_stock") != pl.col("has_stock").shift(1).over("sku")).fill_null(value=True))
    )
    until = (pl.col("day").shift(-1).over("sku") - pl.duration(days=1)).fill_null(last_day)
    spans = changes.with_columns(until.alias("to_day")).filter("has_stock")
    return spans.select("sku", from_day="day", to_day="to_day").filter(pl.col("from_day") <= pl.col("to_day"))


#: Rules of spans, as expressions that are true where a row breaks them.
SPAN_FAILURES: dict[str, pl.Expr] = {
    "to_day|before_from_day": pl.col("to_day") < pl.col("from_day"),
    "from_day|overlap": (pl.col("from_day") <= pl.col("to_day").cum_max().shift(1).over("sku", order_by="from_day")).fill_null(value=False),
}
