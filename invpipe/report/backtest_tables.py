"""Tables of one backtest, over its lead-time seeds: key figures with their spread, profit per SKU, what each vendor got."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from invpipe.arena.kpis import BacktestResult

#: Key figures of a replay that people see, with their name in the table.
KPI_COLUMNS = {
    "profit": "profit",
    "profit_ending_at_zero": "ending_stock_lost",
    "profit_ending_at_cost": "ending_stock_at_cost",
    "fill_rate": "fill_rate",
    "lost_sales_units": "lost_units",
    "revenue": "revenue",
    "cogs": "cost_of_goods",
    "holding_cost": "holding_cost",
    "inbound_cost": "inbound_cost",
    "order_lines": "order_lines",
    "refused_lines": "refused_lines",
    "ending_stock_value": "ending_stock",
    "capital_used_mean": "capital_used",
    "capital_used_max": "most_capital",
}


def kpi_table(results: Sequence[BacktestResult]) -> pl.DataFrame:
    """Return mean, standard deviation, least and most of every key figure over the seeds; one seed has no deviation.

    Parameters
    ----------
    results
        Replays of one policy on one tape, one per lead-time seed, at least one.
    """
    seeds = pl.DataFrame([{name: float(result.summary[name]) for name in KPI_COLUMNS} for result in results]).rename(KPI_COLUMNS)
    rows = {"mean": pl.all().mean(), "standard deviation": pl.all().std(), "least": pl.all().min(), "most": pl.all().max()}
    return pl.concat(seeds.select(pl.lit(name).alias("over_the_seeds"), figure) for name, figure in rows.items())


def sku_table(results: Sequence[BacktestResult]) -> pl.DataFrame:
    """Return per SKU the mean over the seeds of profit, revenue, units sold and lost, and ending stock and pipeline at cost, best first.

    Parameters
    ----------
    results
        Replays of one policy on one tape, one per lead-time seed, at least one.
    """
    earned = [result.sku_totals.with_columns(profit=pl.Series(result.profit_per_sku())) for result in results]
    figures = {
        "profit": pl.col("profit"),
        "revenue": pl.col("revenue"),
        "sold_units": pl.col("sales_units"),
        "lost_units": pl.col("demand_units") - pl.col("sales_units"),
        "ending_stock": pl.col("ending_stock_value") + pl.col("ending_pipeline_value"),
    }
    means = (figure.mean().alias(name) for name, figure in figures.items())
    return pl.concat(earned).group_by("sku", maintain_order=True).agg(means).sort(["profit", "sku"], descending=[True, False])


def vendor_orders(results: Sequence[BacktestResult]) -> pl.DataFrame:
    """Return what was ordered of each vendor from the first day that counts, mean over the seeds, key vendor: order_value.

    Parameters
    ----------
    results
        Replays of one policy on one tape, one per lead-time seed, at least one.
    """
    first = results[0].days.filter("counted")["day"].min()
    placed = pl.concat(result.orders for result in results).filter(pl.col("day") >= first)
    value = (pl.col("order_units") * pl.col("unit_cost")).sum() / len(results)
    return placed.group_by("vendor").agg(value.alias("order_value")).sort("vendor")


def parameter_facts(result: BacktestResult) -> dict[str, object]:
    """Return the law of the replay by name, as far as it is finite: capital, review period, costs, warm-up."""
    return {name: value for name, value in vars(result.params).items() if np.isfinite(value)}
