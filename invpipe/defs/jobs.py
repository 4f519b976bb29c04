"""Jobs: what an operator starts, and the daily schedule."""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from invpipe.contracts import CONTRACTS
from invpipe.defs.partitions import Partitions
from invpipe.defs.sources.assets import DAILY_TABLES
from invpipe.settings import Settings

EXTRACT = ("raw_items", "raw_vendors", "true_demand", *(f"raw_{table}" for table in DAILY_TABLES))
CORE = (*(f"core_{table}" for table in CONTRACTS), "quarantine", "quarantine_counts", "shop_history", "offer_deltas", "training_grid")
PLAN = ("features", "demand_model", "demand_forecast", "window_forecast", "order_plan", "order_plan_summary", "capital_curve")
FOLDS = ("fold_scores",)
WINDOWS = ("tape", "scheduled_forecasts")
BACKTESTS = ("backtest",)
PACKING = ("packing_plan", "packing_capacities", "packing_comparison")

#: The daily chain runs in one process: a step costs a tenth of a second instead of one.
IN_PROCESS = dg.in_process_executor


def _job(name: str, description: str, assets: Sequence[str]) -> UnresolvedAssetJobDefinition:
    """Return a job, partitioned as its assets are."""
    return dg.define_asset_job(name, dg.AssetSelection.assets(*assets), description=description, executor_def=IN_PROCESS)


def jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """Return all jobs; where proposals are written, planning ends with them."""
    plan = (*PLAN, "order_proposals") if settings.proposals.write else PLAN
    return [
        _job("daily", "Extract a day, validate the shop, forecast, plan the day's orders.", (*EXTRACT, *CORE, *plan)),
        _job("extract", "Extract days without planning them; backfill a range in one run.", EXTRACT),
        _job("validate_tables_again", "Hold all extracted days against the contracts.", CORE),
        _job("plan", "Forecast and plan a day from the validated shop.", plan),
        _job("validate", "Score walk-forward folds; backfill all folds in one run.", FOLDS),
        _job("summarise_folds", "Mean scores over the folds.", ("fold_summary",)),
        _job("record", "Tapes and scheduled forecasts of backtest windows.", WINDOWS),
        _job("backtests", "Replay windows under variants.", BACKTESTS),
        _job("compare", "Compare the variants of a window.", ("ablation",)),
        _job("sweep", "Try variants of policies and limits on a window.", ("policy_sweep", "lambda_frontier")),
        _job("pack", "Load items under several capacities.", PACKING),
        _job("write_report", "Write the HTML report.", ("report",)),
    ]


def schedules(partitions: Partitions, settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the daily schedule, and for a shop with databases the extract before it; both off until an operator starts them."""
    daily = daily_schedule(partitions, settings)
    return [extract_schedule(partitions, settings), daily] if settings.source == "databases" else [daily]


def daily_schedule(partitions: Partitions, settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that plans every complete day at 05:30; off until an operator starts it."""

    @dg.schedule(
        job_name="daily",
        cron_schedule="30 5 * * *",
        execution_timezone=settings.shop.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def daily_at_0530(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Plan the day before the tick; the embedded shop ends on 2017-12-31, later days are skipped with a reason."""
        day = (context.scheduled_execution_time - timedelta(days=1)).date().isoformat()
        if not partitions.day.has_partition_key(day):
            return dg.SkipReason(f"the source has no day {day}; its last one is {partitions.day.get_last_partition_key()}")
        return dg.RunRequest(run_key=day, partition_key=day)

    return daily_at_0530


def extract_schedule(partitions: Partitions, settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that reads the last complete day and those of the look-back again at 05:00, in one run."""

    @dg.schedule(
        job_name="extract",
        cron_schedule="0 5 * * *",
        execution_timezone=settings.shop.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def extract_at_0500(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Read the days in which rows may still have arrived late."""
        last = (context.scheduled_execution_time - timedelta(days=1)).date()
        first = max(last - timedelta(days=settings.extract.look_back_days), settings.shop.first_day or last)
        if not partitions.day.has_partition_key(last.isoformat()):
            return dg.SkipReason(f"{last} lies before the first day of the shop, {settings.shop.first_day}")
        return dg.RunRequest(run_key=last.isoformat(), tags=range_tags(first.isoformat(), last.isoformat()))

    return extract_at_0500


def range_tags(first: str, last: str) -> dict[str, str]:
    """Return the tags of one run over the partitions from `first` to `last`."""
    return {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
