"""A plan for the people who order: by vendor with totals, and what has changed since the plan before."""

from __future__ import annotations

import polars as pl

#: Columns of the buyer's table, in order.
BUYER_COLUMNS = ("vendor", "sku", "order_units", "unit_cost", "order_value", "position_units", "position_after_units", "reason")
#: What stands in place of a SKU in the row that sums up a vendor.
TOTAL = "total"
#: Columns of the changes, in order.
CHANGE_COLUMNS = (
    "vendor",
    "sku",
    "change",
    "order_units_before",
    "order_units",
    "units_difference",
    "order_value_before",
    "order_value",
    "value_difference",
    "reason",
)
#: Figures that explain a change, with their names in its reason.
FIGURES = {"demand_mean_units": "mean demand", "position_units": "position", "unit_cost": "unit cost", "capital_price": "capital price"}


def vendor_totals(lines: pl.DataFrame) -> pl.DataFrame:
    """Return what is ordered of each vendor, key vendor: order_lines, order_units, order_value."""
    totals = (pl.len().cast(pl.Int64).alias("order_lines"), pl.col("order_units").sum(), pl.col("order_value").sum())
    return lines.group_by("vendor").agg(totals).sort("vendor")


def buyer_table(lines: pl.DataFrame) -> pl.DataFrame:
    """Return the lines by vendor and SKU with `BUYER_COLUMNS`, after each vendor's a row with its totals; a total has no unit cost."""
    totals = vendor_totals(lines).with_columns(
        sku=pl.lit(TOTAL),
        reason=pl.format("{} line{}", "order_lines", pl.when(pl.col("order_lines") == 1).then(pl.lit("")).otherwise(pl.lit("s"))),
    )
    parts = [lines.select(BUYER_COLUMNS).with_columns(last=pl.lit(0)), totals.drop("order_lines").with_columns(last=pl.lit(1))]
    return pl.concat(parts, how="diagonal").sort("vendor", "last", "sku").select(BUYER_COLUMNS)


def plan_changes(before: pl.DataFrame, after: pl.DataFrame, offered: pl.DataFrame) -> pl.DataFrame:
    """Return the lines that are new, gone or changed in units, by vendor and SKU, with the figures that have moved.

    Parameters
    ----------
    before, after
        Lines of the plan before and of this one, key (sku, vendor).
    offered
        What can be ordered now, key (sku, vendor), with the figures of `FIGURES`: says why a line is gone.

    Returns
    -------
    pl.DataFrame
        `CHANGE_COLUMNS`; change is "new", "more", "fewer" or "gone". The reason of a new line is that of the plan.
    """
    key = ("sku", "vendor")
    columns = ("order_units", "order_value", *FIGURES)
    old = before.select(*key, *(pl.col(name).alias(f"{name}_before") for name in columns))
    now = after.select(*key, "order_units", "order_value", plan_reason="reason")
    figures = offered.select(*key, *FIGURES)
    both = old.join(now, on=key, how="full", coalesce=True).join(figures, on=key, how="left")
    was, units = pl.col("order_units_before").fill_null(0), pl.col("order_units").fill_null(0)
    change = (
        pl.when(was == 0)
        .then(pl.lit("new"))
        .when(units == 0)
        .then(pl.lit("gone"))
        .when(units > was)
        .then(pl.lit("more"))
        .otherwise(pl.lit("fewer"))
    )
    value_was, value = pl.col("order_value_before").fill_null(0.0), pl.col("order_value").fill_null(0.0)
    moved = pl.concat_str([_moved(name, text) for name, text in FIGURES.items()], separator="; ", ignore_nulls=True)
    reason = (
        pl.when(change == "new")
        .then(pl.col("plan_reason"))
        .when(pl.col("unit_cost").is_null())
        .then(pl.lit("not offered any more at a usable price"))
        .when(moved == "")
        .then(pl.lit("its money, or its vendor's minimum, went to other lines"))
        .otherwise(moved)
    )
    return (
        both.filter(was != units)
        .with_columns(
            change=change, reason=reason, order_units_before=was, order_units=units, order_value_before=value_was, order_value=value
        )
        .with_columns(
            units_difference=pl.col("order_units") - pl.col("order_units_before"),
            value_difference=pl.col("order_value") - pl.col("order_value_before"),
        )
        .sort("vendor", "sku")
        .select(CHANGE_COLUMNS)
    )


def _moved(name: str, text: str) -> pl.Expr:
    """Say from where to where a figure has moved, null where it has not to three decimals."""
    before, now = pl.col(f"{name}_before").cast(pl.Float64).round(3), pl.col(name).cast(pl.Float64).round(3)
    shown = (value.cast(pl.String).str.strip_suffix(".0") for value in (before, now))
    return pl.when(before != now).then(pl.format(f"{text} {{}} to {{}}", *shown))
