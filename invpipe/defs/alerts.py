"""Alerts of the Dagster instance: a failed run, a blocking check that stopped one, a plan that is not there in time.

The sensors exist, and are on, where the settings name a webhook or a receiver of e-mail; the daemon evaluates them.
"""

from __future__ import annotations

import dagster as dg
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG

from invpipe.alerts import Alert, send
from invpipe.defs.operations import PlanState, plan_state, utc_now
from invpipe.defs.partitions import Partitions
from invpipe.settings import Settings
from invpipe.settings.alerts import Occasion

#: A stale plan is looked for so often, seconds.
STALE_PLAN_SECONDS = 300
#: Lines of an error that are told; the rest is in the UI.
ERROR_LINES = 12


def alert_sensors(partitions: Partitions, settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensors the settings ask for; none where nobody is to be told."""
    if not settings.alerts.channels:
        return []
    wanted = set(settings.alerts.occasions)
    failures = [run_failure_alerts(settings)] if wanted & {"run_failure", "failed_check"} else []
    return [*failures, *([stale_plan_alerts(partitions, settings)] if "stale_plan" in wanted else [])]


def run_failure_alerts(settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that tells of failed runs."""

    @dg.run_failure_sensor(default_status=dg.DefaultSensorStatus.RUNNING)
    def alert_run_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        """Tell of a run that failed for good: which checks stopped it, or which step and error; of a backfill only its first failed run."""
        run, instance = context.dagster_run, context.instance
        now = instance.get_run_by_id(run.run_id) or run
        if now.is_complete_and_waiting_to_retry:
            return dg.SkipReason(f"run {run.run_id} is tried again")
        if not _is_first_of_backfill(instance, now):
            return dg.SkipReason(f"the failed runs of backfill {now.tags[BACKFILL_ID_TAG]} have been told of")
        checks = failed_blocking_checks(instance, run.run_id)
        occasion: Occasion = "failed_check" if checks else "run_failure"
        if occasion not in settings.alerts.occasions:
            return dg.SkipReason(f"{occasion} is not among alerts.occasions")
        send(failure_alert(context, now, checks, settings.alerts.ui_url), settings, context.log.warning)
        return None

    return alert_run_failure


def stale_plan_alerts(partitions: Partitions, settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that tells of a plan that is not there in time."""

    @dg.sensor(minimum_interval_seconds=STALE_PLAN_SECONDS, default_status=dg.DefaultSensorStatus.RUNNING)
    def alert_stale_plan(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        """Tell once a day that the plan is missing; a day nobody could be told of is tried again at the next tick."""
        state = plan_state(partitions, settings, utc_now())
        if not state.is_stale or state.due is None:
            return dg.SkipReason(f"the plan of {state.due or 'no day'} is due and there is {state.newest}")
        if context.cursor == state.due:
            return dg.SkipReason(f"the missing plan of {state.due} has been told of")
        sent = send(stale_plan_alert(state, settings), settings, context.log.warning)
        if sent.taken:
            context.update_cursor(state.due)
        return dg.SkipReason(f"the plan of {state.due} is missing; told by: {', '.join(sent.taken) or 'nobody took it'}")

    return alert_stale_plan


# --- messages


def failed_blocking_checks(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    """Return the blocking checks that failed in a run."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records
    events = [record.event_log_entry.dagster_event for record in records]
    found = [event.asset_check_evaluation_data for event in events if event is not None]
    return [check for check in found if check.blocking and not check.passed and check.severity == dg.AssetCheckSeverity.ERROR]


def failure_alert(
    context: dg.RunFailureSensorContext, run: dg.DagsterRun, checks: list[dg.AssetCheckEvaluation], ui_url: str = ""
) -> Alert:
    """Return what is told of a failed run."""
    partition = run.tags.get(PARTITION_NAME_TAG)
    where = run.job_name + (f" of {partition}" if partition else "")
    if checks:
        title = f"invpipe: check {checks[0].check_name} stopped {where}"
        lines = [f"{check.check_name} of {check.asset_key.to_user_string()}: {check.description or 'no description'}" for check in checks]
        cure = "What reads the asset was not made. Look at the check in the UI, mend the data or the threshold, then run the job again."
    else:
        title = f"invpipe: {where} failed"
        steps = [_step_in_words(event) for event in context.get_step_failure_events()]
        lines = steps or [context.failure_event.message or "no reason known"]
        cure = "Finished artifacts stay. Mend the cause, then re-execute the run from failure in the UI."
    if backfill := run.tags.get(BACKFILL_ID_TAG):
        lines.append(f"It belongs to backfill {backfill}, whose further failures are not told one by one.")
    link = f"{ui_url.rstrip('/')}/runs/{run.run_id}" if ui_url else f"run {run.run_id}"
    return Alert(title, "\n".join([*lines, cure, link]))


def stale_plan_alert(state: PlanState, settings: Settings) -> Alert:
    """Return what is told of a missing plan."""
    by, zone = settings.operations.plan_by.strftime("%H:%M"), settings.shop.time_zone
    lines = [
        f"It was due at {by} ({zone}). The newest plan is of {state.newest or 'no day'}.",
        f"Missed days: {', '.join(state.missed)}." if state.missed else "",
        "Look whether the daemon and the schedule daily_at_0530 are on (invpipe doctor says so), then at the newest run of the job daily. "
        "The sensor catch_up_missed_days plans missed days once it is on.",
        settings.alerts.ui_url,
    ]
    return Alert(f"invpipe: the order plan of {state.due} is missing", "\n".join(line for line in lines if line))


def _step_in_words(event: dg.DagsterEvent) -> str:
    """Return step and error: the innermost cause says what was wrong."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    said = (error.message if error is not None else event.message or "").strip().splitlines()
    return f"step {event.step_key}: " + "\n".join(said[:ERROR_LINES])


def _is_first_of_backfill(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    backfill = run.tags.get(BACKFILL_ID_TAG)
    if backfill is None:
        return True
    filters = dg.RunsFilter(tags={BACKFILL_ID_TAG: backfill}, statuses=[dg.DagsterRunStatus.FAILURE])
    failed = [record for record in instance.get_run_records(filters) if not record.dagster_run.is_complete_and_waiting_to_retry]
    return not failed or min(failed, key=lambda record: (record.end_time or 0.0, record.storage_id)).dagster_run.run_id == run.run_id
