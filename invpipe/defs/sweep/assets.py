"""Sweeps over a backtest window: a small grid of policies and values, and the frontier of capital and the LP's penalty.

Both keep their runs under ``<home>/sweeps``, so that a killed step goes on where it stopped; the artifacts hold no measured column, so
that equal sweeps are equal artifacts.
"""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from invpipe.arena import ScheduledForecast, Tape
from invpipe.defs.arena.assets import backtest_params
from invpipe.defs.common import ONE_RUN, ShopSettings, declared, figures
from invpipe.defs.partitions import Partitions
from invpipe.forecast import ForecastSchedule
from invpipe.report.images import png_markdown
from invpipe.report.sweep_charts import frontier_chart, frontier_table, sweep_chart
from invpipe.report.tables import markdown
from invpipe.settings import Settings
from invpipe.sweep import MEASURED, PARAMETERS, Value, lambda_frontier, named_space, policy_maker, progress_lines, run_sweep

#: Columns of the sweep shown in the UI, after the swept parameters.
SHOWN = ("profit", "fill_rate", "capital_used_mean", "order_lines", "ending_stock_value")
#: Progress is logged at every so many runs.
LOGGED_RUNS = 5


def store_of(settings: Settings) -> Path:
    """Return where the sweeps of a home keep their runs."""
    return settings.home / "sweeps"


def swept_values(settings: Settings) -> dict[str, tuple[float, ...]]:
    """Return the values to try of each policy parameter."""
    return {name: getattr(settings.sweep, name) for name in PARAMETERS}


def sweep_space(settings: Settings) -> list[dict[str, Value]]:
    """Return the variants that the settings ask for."""
    sweep = settings.sweep
    return named_space(sweep.policies, swept_values(settings), sweep.review_period_days or (settings.planning.review_period_days,))


def sweep_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets of the sweep room."""
    arguments = {
        "partitions_def": partitions.window,
        "backfill_policy": ONE_RUN,
        **declared("report", __file__, "backtest", "planning", "sweep"),  # the charts belong to the report
        "group_name": "sweep",
    }

    @dg.asset(**arguments)
    def policy_sweep(
        context: dg.AssetExecutionContext,
        tape: dict[str, Tape],
        scheduled_forecasts: dict[str, ForecastSchedule],
        settings: ShopSettings,
    ) -> dict[str, pl.DataFrame]:
        """Replay the window under every combination of the sweep's settings: one row per variant, means over the lead-time seeds."""
        now = settings.get()
        space = sweep_space(now)
        tables = {}
        for window in context.partition_keys:
            trials = run_sweep(
                tape[window],
                policy_maker(ScheduledForecast(scheduled_forecasts[window])),
                space,
                backtest_params(now, tape[window]),
                range(now.sweep.lead_time_seeds),
                store_of(now),
                threads=now.threads,
                progress=progress_lines(context.log.info, LOGGED_RUNS),
            )
            shown = trials.select(*space[0], *SHOWN).with_row_index("row")
            context.add_asset_metadata(_shown(trials, shown, png_markdown(sweep_chart(trials))), partition_key=window)
            tables[window] = trials.drop(MEASURED)
        return tables

    @dg.asset(name="lambda_frontier", **arguments)
    def frontier(
        context: dg.AssetExecutionContext,
        tape: dict[str, Tape],
        scheduled_forecasts: dict[str, ForecastSchedule],
        settings: ShopSettings,
    ) -> dict[str, pl.DataFrame]:
        """Profit, fill rate and capital over capital limits and the LP's penalty lambda, beside the exact marginal policy."""
        now = settings.get()
        tables = {}
        for window in context.partition_keys:
            arrays = tape[window].arrays
            opening = float(np.dot(arrays.opening_on_hand_units, arrays.opening_unit_cost))
            table = lambda_frontier(
                tape[window],
                ScheduledForecast(scheduled_forecasts[window]),
                backtest_params(now, tape[window]),
                range(now.sweep.lead_time_seeds),
                store_of(now),
                capital_limits=[opening * frac for frac in now.sweep.capital_limit_frac],
                stockout_penalty_fracs=now.sweep.stockout_penalty_frac,
                leftover_value_frac=now.planning.leftover_value_frac,
                threads=now.threads,
                progress=progress_lines(context.log.info, LOGGED_RUNS),
            )
            context.add_asset_metadata(_shown(table, frontier_table(table), png_markdown(frontier_chart(table))), partition_key=window)
            tables[window] = table.drop(MEASURED)
        return tables

    return [policy_sweep, frontier]


def _shown(trials: pl.DataFrame, table: pl.DataFrame, chart: str) -> dict[str, Any]:
    """Return what the UI shows of a sweep: table, plot, and what was measured."""
    peak = trials["peak_private_mb"].max()
    measured = {"replay_seconds": trials["seconds"].sum(), "peak_private_mb": peak}
    return {
        "table": dg.MetadataValue.md(markdown(table)),
        "profit_over_capital": dg.MetadataValue.md(chart),
        **figures({name: value for name, value in measured.items() if value is not None}),
    }
