"""Jobs: what an operator starts, and the daily and weekly schedules."""

from collections.abc import Sequence
from datetime import date, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from invpipe.contracts import CONTRACTS
from invpipe.defs.forecast.registry import ModelRegistry
from invpipe.defs.partitions import Partitions
from invpipe.defs.sources.assets import DAILY_TABLES
from invpipe.settings import Settings

EXTRACT = ("raw_items", "raw_vendors", "true_demand", *(f"raw_{table}" for table in DAILY_TABLES))
CORE = (*(f"core_{table}" for table in CONTRACTS), "quarantine", "quarantine_counts", "shop_history", "offer_deltas", "training_grid")
MODEL = ("demand_model", "model_scores", "model_gates")
PLAN = (
    *("features", "serving_model", "demand_forecast", "window_forecast"),
    *("order_plan", "order_plan_summary", "order_plan_changes", "capital_curve"),
)
FOLDS = ("fold_model", "fold_scores", "fold_class_scores")
DAY_PAGE = ("feature_families", "forecast_drivers", "forecast_fan", "day_report")
WINDOWS = ("tape", "scheduled_forecasts")
BACKTESTS = ("backtest", "backtest_report")
COMPARISON = ("ablation", "window_report")
PACKING = ("packing_plan", "packing_capacities", "packing_comparison")

#: The daily chain runs in one process: a step costs a tenth of a second instead of one.
IN_PROCESS = dg.in_process_executor


def _job(name: str, description: str, assets: Sequence[str]) -> UnresolvedAssetJobDefinition:
    """Return a job, partitioned as its assets are."""
    return dg.define_asset_job(name, dg.AssetSelection.assets(*assets), description=description, executor_def=IN_PROCESS)


def plan_assets(settings: Settings) -> tuple[str, ...]:
    """Return the assets that plan a day, proposals where they are written, and tell about it."""
    return (*PLAN, *(("order_proposals",) if settings.proposals.write else ()), *DAY_PAGE)


def jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """Return all jobs."""
    plan = plan_assets(settings)
    return [
        _job(
            "daily",
            "Extract a day, validate the shop, train a model (its schedule does so only where none serves), plan the day, write its page.",
            (*EXTRACT, *CORE, *MODEL, *plan),
        ),
        _job("weekly", "Train a model, score it, and gate it: where it passes, it serves the days from its cutoff on.", MODEL),
        _job("extract", "Extract days without planning them; backfill a range in one run.", EXTRACT),
        _job("validate_tables_again", "Hold all extracted days against the contracts.", CORE),
        _job("plan", "Forecast and plan a day from the validated shop, explain the forecasts, write the day's page.", plan),
        _job("validate", "Score walk-forward folds; backfill all folds in one run.", FOLDS),
        _job("summarise_folds", "Mean scores over the folds, and calibration by class.", ("fold_summary", "fold_calibration")),
        _job("explain", "Say what drives the forecasts of planned days and write their pages; the daily run does so by itself.", DAY_PAGE),
        _job("record", "Tapes and scheduled forecasts of backtest windows.", WINDOWS),
        _job("backtests", "Replay windows under variants; a page of each.", BACKTESTS),
        _job("compare", "Compare the variants of a window; a page of it.", COMPARISON),
        _job("sweep", "Try variants of policies and limits on a window.", ("policy_sweep", "lambda_frontier")),
        _job("pack", "Load items under several capacities.", PACKING),
        _job("write_report", "Write the HTML report.", ("report",)),
    ]


def schedules(partitions: Partitions, settings: Settings) -> list[dg.ScheduleDefinition]:
    """Return the daily and weekly schedules, for a shop with databases after the extract; off until an operator starts them."""
    common = [daily_schedule(partitions, settings), weekly_schedule(partitions, settings)]
    return [extract_schedule(partitions, settings), *common] if settings.source == "databases" else common


def daily_assets(settings: Settings, day: date) -> list[dg.AssetKey] | None:
    """Return what a daily run makes of its job where a model serves the day: all but a new model; None, the whole job, where none does."""
    if ModelRegistry(settings).choose(day) is None:
        return None
    return [dg.AssetKey(name) for name in (*EXTRACT, *CORE, *plan_assets(settings))]


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
        day = (context.scheduled_execution_time - timedelta(days=1)).date()
        return _missing(partitions, day) or dg.RunRequest(
            run_key=day.isoformat(), partition_key=day.isoformat(), asset_selection=daily_assets(settings, day)
        )

    return daily_at_0530


def weekly_schedule(partitions: Partitions, settings: Settings) -> dg.ScheduleDefinition:
    """Return the schedule that trains, scores and gates a model on Sundays at 03:00; off until an operator starts it."""

    @dg.schedule(
        job_name="weekly",
        cron_schedule="0 3 * * 0",
        execution_timezone=settings.shop.time_zone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def weekly_on_sunday_at_0300(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Train at the end of Friday, the last day a daily run has extracted by then; Saturday comes two hours later."""
        day = (context.scheduled_execution_time - timedelta(days=2)).date()
        return _missing(partitions, day) or dg.RunRequest(run_key=day.isoformat(), partition_key=day.isoformat())

    return weekly_on_sunday_at_0300


def _missing(partitions: Partitions, day: date) -> dg.SkipReason | None:
    if partitions.day.has_partition_key(day.isoformat()):
        return None
    return dg.SkipReason(f"the source has no day {day}; its last one is {partitions.day.get_last_partition_key()}")


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
