"""Blocking check of the grid: no censored cell is in it."""

import dagster as dg
import polars as pl


@dg.asset_check(asset="training_grid", blocking=True, additional_ins={"core_orderable_daily": dg.AssetIn()})
def no_censored_cell(training_grid: pl.DataFrame, core_orderable_daily: pl.DataFrame) -> dg.AssetCheckResult:
    """Every cell of the grid lies in an orderable span, and every orderable day is in the grid once."""
    spans = core_orderable_daily.rename({"from_day": "day"}).sort("sku", "day")
    cells = training_grid.sort("sku", "day").join_asof(spans, on="day", by="sku", strategy="backward", check_sortedness=False)
    censored = cells.filter(pl.col("to_day").is_null() | (pl.col("day") > pl.col("to_day")))
    days = int(core_orderable_daily.select((pl.col("to_day") - pl.col("from_day")).dt.total_days() + 1).sum().item())
    doubled = len(training_grid) - training_grid.select("sku", "day").n_unique()
    return dg.AssetCheckResult(
        passed=len(censored) == 0 and doubled == 0 and len(training_grid) == days,
        metadata={"censored_cells": len(censored), "doubled_cells": doubled, "missing_cells": days - len(training_grid)},
    )
