"""Orderable days as spans: the compact form of a flag per (sku, day)."""

from __future__ import annotations

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


#: Rules of spans, as expressions that are true where a row breaks them.
SPAN_FAILURES: dict[str, pl.Expr] = {
    "to_day|before_from_day": pl.col("to_day") < pl.col("from_day"),
    "from_day|overlap": (pl.col("from_day") <= pl.col("to_day").cum_max().shift(1).over("sku", order_by="from_day")).fill_null(value=False),
}
