"""Small frames of the shape that the forecast, allocation and arena rooms give, with awkward texts in them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl

from invpipe.allocation import AllocationProblem, allocate
from invpipe.forecast.law import CountLaw
from invpipe.forecast.scores import SCORE_SCHEMA
from invpipe.report import Report
from invpipe.report.charts import weekly_units

HOSTILE = "<script>alert('x')</script> & \"quoted\" | a\\b"
START = date(2017, 1, 2)


def scores(n_folds: int = 3) -> pl.DataFrame:
    """Return scores of two targets; the first fold's zero loss is 0, so nothing is relative to it."""
    rows = []
    for fold in range(n_folds):
        cutoff = START + timedelta(days=100 + 28 * fold)
        for target, method, loss in (
            ("window", "window law", 0.5 + 0.1 * fold),
            ("window", "zero", 1.0),
            ("daily", "quantile boosters", 0.9),
            ("daily", "zero", 1.0),
        ):
            law = method == "window law"
            rows.append(
                {
                    **dict.fromkeys(SCORE_SCHEMA, 0.25),
                    "fold": fold,
                    "cutoff": cutoff,
                    "target": target,
                    "scored_on": "true demand",
                    "method": method,
                    "cells": 100,
                    "pinball_90_vs_zero": float("nan") if fold == 0 and target == "daily" else loss,
                    "bracket_90_low": 0.8,
                    "bracket_90_high": 0.95 if fold else 0.85,
                    "bracket_90_violation_points": 0.0 if fold else 5.0,
                    "rps": 0.3 if law else None,
                    "randomised_coverage_80": 0.79 if law else None,
                }
            )
    return pl.DataFrame(rows, schema=SCORE_SCHEMA)


def ablation() -> pl.DataFrame:
    """Return a table of three policies, the second without a share of the bound."""
    names = ("profit_ending_at_zero", "profit_ending_at_cost", "revenue", "holding_cost", "inbound_cost", "refused_lines")
    rows = [
        {
            "policy": policy,
            "n_seeds": 2,
            "profit": profit,
            **dict.fromkeys(names, 0.0),
            "fill_rate": 0.8123456,
            "order_lines": 12.5,
            "ending_stock_value": 1234.567,
            "capital_used_mean": 2345.678,
            "share_of_clairvoyant_frac": share,
            "profit_difference": profit - 1000.0,
            "profit_difference_low": profit - 1100.0,
            "profit_difference_high": profit - 900.0,
            "seconds": 0.1,
        }
        for policy, profit, share in (("ewma_greedy", 1000.0, 0.5), ("order_nothing", -250.4, None), (HOSTILE, 1500.6, 0.75))
    ]
    return pl.DataFrame(rows)


def days(n_days: int = 40, warm_up: int = 5) -> pl.DataFrame:
    """Return a backtest's days that earn 10 a day."""
    return pl.DataFrame(
        {
            "day": pl.date_range(START, START + timedelta(days=n_days - 1), eager=True),
            "counted": np.arange(n_days) >= warm_up,
            "profit_at_cost": np.full(n_days, 10.0),
            "inventory_value": np.linspace(1000.0, 500.0, n_days),
        }
    )


def plan_lines(n: int = 30) -> tuple[pl.DataFrame, dict[str, str | int | float]]:
    """Return lines and summary of a real plan that its capital binds."""
    rng = np.random.default_rng(0)
    cost = rng.uniform(1.0, 5.0, n).round(2)
    problem = AllocationProblem(
        skus=tuple(f"S{i:02d}" for i in range(n)),
        vendors=tuple(f"V{i % 20:02d}" for i in range(n)),
        unit_price=2.0 * cost,
        unit_cost=cost,
        holding_cost=0.02 * cost,
        salvage_value=0.5 * cost,
        inventory_position_units=np.zeros(n, dtype=np.int64),
        demand=CountLaw(rng.uniform(1.0, 8.0, n), np.full(n, np.inf)),
        capital=150.0,
    )
    plan = allocate(problem)
    summary = {name: value for name, value in plan.summary().items() if name != "seconds"}  # they differ from run to run
    return plan.lines.with_columns(title=pl.lit(HOSTILE)), summary


def sales(n_days: int = 70) -> pl.DataFrame:
    """Return two SKUs that sell one unit each on every day."""
    day = pl.date_range(START, START + timedelta(days=n_days - 1), eager=True)
    return pl.concat([pl.DataFrame({"day": day}).with_columns(sku=pl.lit(sku), sales_units=pl.lit(1, pl.Int32)) for sku in ("A", "B")])


def report() -> Report:
    """Return a report with every section."""
    lines, summary = plan_lines()
    return Report(
        title=f"Shop {HOSTILE}",
        shop={"skus": 1234, "zero cells": 0.9585, "owner": HOSTILE, "absent": None},
        simulated=("offers", "vendors"),
        weekly=weekly_units(sales(), sales().rename({"sales_units": "demand_units"})),
        fold_scores=scores(),
        order_lines=lines,
        order_summary=summary,
        ablation=ablation(),
        bound=2000.0,
        baseline="ewma_greedy",
        days={"ewma_greedy": days(), HOSTILE: days()},
        notes=("seed 0", HOSTILE),
    )
