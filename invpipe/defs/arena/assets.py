"""Backtests: the tape of a window, the forecasts made along it, one replay per variant and lead-time seed, and their comparison."""

import hashlib
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl

from invpipe.allocation import protection_windows
from invpipe.arena import BacktestParams, BacktestResult, SeedRuns, Tape, clairvoyant_bound, compare, run_backtest, standard_policies
from invpipe.arena.policies import ScheduledForecast
from invpipe.arena.tape_stream import stream_stored
from invpipe.defs.allocation.assets import planning_params
from invpipe.defs.common import ONE_RUN, ShopSettings, declared, known
from invpipe.defs.forecast.assets import forecast_params
from invpipe.defs.partitions import BASELINE, VARIANTS, Partitions
from invpipe.defs.provenance import ArtifactStore, stale_assets
from invpipe.errors import ProvenanceError
from invpipe.forecast import ForecastSchedule
from invpipe.history import ShopHistory
from invpipe.report.charts import ablation_chart, days_chart
from invpipe.report.images import png_markdown
from invpipe.report.tables import ablation_table, markdown
from invpipe.settings import Settings


def backtest_params(settings: Settings, tape: Tape) -> BacktestParams:
    """Return the backtest's parameters, capital from the stock the shop holds when the tape starts."""
    opening = float(np.dot(tape.arrays.opening_on_hand_units, tape.arrays.opening_unit_cost))
    planning, backtest = settings.planning, settings.backtest
    return BacktestParams(
        capital_limit=planning_params(settings).limit(opening),
        review_period_days=planning.review_period_days,
        holding_cost_frac_per_year=planning.holding_cost_frac_per_year,
        inbound_cost_per_line=planning.inbound_cost_per_line,
        liquidation_frac=backtest.liquidation_frac,
        warm_up_days=backtest.warm_up_days,
    )


@dataclass(frozen=True)
class TapeBuild:
    """A tape that is built when it is saved: beside the artifacts first, where a killed build can be taken up, then moved to its place."""

    place: Path
    history: Path
    start: date
    end: date
    demand: pl.DataFrame | None

    def save(self, path: Path) -> None:
        """Build the tape and move it to `path`; what killed builds of other inputs have left is removed."""
        self.place.parent.mkdir(parents=True, exist_ok=True)
        stream_stored(self.place, self.history, self.start, self.end, self.demand)
        self.place.replace(path)
        for left in self.place.parent.glob(f".{self.place.name.rpartition('-')[0]}-*.build"):
            shutil.rmtree(left, ignore_errors=True)


def arena_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the assets of the arena room."""
    by_window = dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name="window")

    @dg.asset(
        partitions_def=partitions.window,
        io_manager_key="objects",
        backfill_policy=ONE_RUN,
        **declared("arena", __file__, "backtest", kinds={"numpy"}),
    )
    def tape(
        context: dg.AssetExecutionContext, shop_history: Path, true_demand: pl.DataFrame, settings: ShopSettings
    ) -> dict[str, TapeBuild]:
        """Record the window's days as memory-mapped arrays: real demand, page views, offer changes. Replays read nothing else.

        The history is streamed; a build that was killed goes on where it stopped.
        """
        now = settings.get()
        windows = {window.name: window for window in now.backtest.windows}
        known_by = [ArtifactStore.of(now).record((asset, None)) for asset in ("shop_history", "true_demand")]
        inputs = hashlib.sha256("".join(record.content_hash for record in known_by if record).encode()).hexdigest()[:16]
        builds = {}
        for name in context.partition_keys:
            place = now.home / "tapes" / f"{name}-{inputs}"
            builds[name] = TapeBuild(place, shop_history, windows[name].start, windows[name].end, known(true_demand))
            context.log.info(f"tape {name}: {windows[name].start} to {windows[name].end}")
        return builds

    @dg.asset(
        partitions_def=partitions.window,
        io_manager_key="objects",
        backfill_policy=ONE_RUN,
        **declared("arena", __file__, "backtest", "forecast", "planning", "seed", kinds={"lightgbm"}),
    )
    def scheduled_forecasts(
        context: dg.AssetExecutionContext, shop_history: ShopHistory, settings: ShopSettings
    ) -> dict[str, ForecastSchedule]:
        """Window demand as it would have been forecast at the end of each decision day of the window; shared by all variants."""
        now = settings.get()
        windows = {window.name: window for window in now.backtest.windows}
        schedules = {}
        for name in context.partition_keys:
            span = (windows[name].end - windows[name].start).days + 1
            days = [windows[name].start + timedelta(days=k) for k in range(0, span, now.planning.review_period_days)]
            protection = protection_windows(shop_history, now.planning.review_period_days)
            schedules[name] = ForecastSchedule.make(
                shop_history, days, protection, forecast_params(now), refit_days=now.forecast.refit_days, progress=context.log.info
            )
        return schedules

    @dg.asset(
        partitions_def=partitions.backtest,
        io_manager_key="objects",
        backfill_policy=dg.BackfillPolicy.multi_run(),  # one that fails takes no other with it, and is run again alone
        ins={"tape": dg.AssetIn(partition_mapping=by_window), "scheduled_forecasts": dg.AssetIn(partition_mapping=by_window)},
        **declared("arena", __file__, "backtest", "planning", kinds={"numba"}),
    )
    def backtest(
        context: dg.AssetExecutionContext,
        tape: dict[str, Tape],
        scheduled_forecasts: dict[str, ForecastSchedule],
        settings: ShopSettings,
    ) -> dict[str, SeedRuns]:
        """Replay the window under one policy, once per lead-time seed: KPIs per day, orders, totals per SKU, fingerprint."""
        now = settings.get()
        runs = {}
        for key in context.partition_keys:
            variant, window = str(key).split("|")  # dimensions in the order of their names
            policies = standard_policies(
                tape[window], ScheduledForecast(scheduled_forecasts[window]), leftover_value_frac=now.planning.leftover_value_frac
            )

            replay = partial(run_backtest, tape[window], policies[variant], backtest_params(now, tape[window]))
            with ThreadPoolExecutor(now.threads) as pool:
                runs[str(key)] = SeedRuns(tuple(pool.map(replay, range(now.backtest.lead_time_seeds))))
            summary = runs[str(key)].results[0].summary
            context.log.info(f"backtest {variant} on {window}: profit {summary['profit']:,.0f}, fill rate {summary['fill_rate']:.3f}")
        return runs

    replays = backtest.specs

    @dg.asset(
        partitions_def=partitions.window,
        backfill_policy=ONE_RUN,
        ins={"backtest": dg.AssetIn(partition_mapping=by_window)},
        **declared("report", __file__, "backtest", "planning") | {"group_name": "arena"},
    )
    def ablation(
        context: dg.AssetExecutionContext, backtest: dict[str, SeedRuns], tape: dict[str, Tape], settings: ShopSettings
    ) -> dict[str, pl.DataFrame]:
        """All variants of a window side by side: profit with paired 95 % intervals over seeds and SKU blocks, share of the bound.

        Only a complete set is compared: every variant replayed on the newest tape, forecasts and settings. Until then the last one stays.
        """
        tables = {}
        for window in context.partition_keys:
            _refuse_mixed_set(replays, window, settings.get())
            runs = {variant: backtest[f"{variant}|{window}"].results for variant in VARIANTS}
            params = backtest_params(settings.get(), tape[window])
            bounds = [clairvoyant_bound(tape[window], params, run.seed) for run in runs[BASELINE]]
            outcome = compare(runs, BASELINE, bound=float(np.mean(bounds)))
            tables[window] = outcome.table.drop("seconds").with_columns(pl.lit(outcome.bound).alias("clairvoyant_bound"))
            context.add_asset_metadata(_shown(tables[window], runs), partition_key=window)
        return tables

    return [tape, scheduled_forecasts, backtest, ablation]


def arena_specs(partitions: Partitions) -> dict[str, list[dg.AssetSpec]]:
    """Return the specs of the arena's assets by name, for those who ask what is stale."""
    return {asset.key.to_user_string(): list(asset.specs) for asset in arena_assets(partitions)}


def open_replays(replays: Iterable[dg.AssetSpec], window: str, settings: Settings) -> dict[str, str]:
    """Return the variants of a window that have to be replayed before it can be compared, each with the reason."""
    keys = [f"{variant}|{window}" for variant in VARIANTS]
    return {str(key).partition("|")[0]: reason for (_, key), reason in stale_assets(replays, settings, {"backtest": keys}).items()}


def _refuse_mixed_set(replays: Iterable[dg.AssetSpec], window: str, settings: Settings) -> None:
    missing = open_replays(replays, window, settings)
    if missing:
        variant, reason = next(iter(missing.items()))
        msg = (
            f"{len(missing)} of the {len(VARIANTS)} backtests of {window} are not of its newest tape, forecasts and settings, first "
            f"{variant}: {reason}; replay them (job backtests), the comparison of the last complete set stays meanwhile"
        )
        raise ProvenanceError(msg)


def _shown(table: pl.DataFrame, runs: dict[str, tuple[BacktestResult, ...]]) -> dict[str, dg.MetadataValue]:
    """Return what the UI shows of a comparison: table, plots, seconds per phase, fingerprints of the first seed."""
    return {
        "table": dg.MetadataValue.md(markdown(ablation_table(table))),
        "profit_difference": dg.MetadataValue.md(png_markdown(ablation_chart(table))),
        "profit_by_day": dg.MetadataValue.md(png_markdown(days_chart({variant: first.days for variant, (first, *_) in runs.items()}))),
        "phase_seconds": dg.MetadataValue.json({variant: first.phase_seconds for variant, (first, *_) in runs.items()}),
        "fingerprints": dg.MetadataValue.json({variant: first.fingerprint() for variant, (first, *_) in runs.items()}),
    }
