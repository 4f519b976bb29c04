"""What `invpipe doctor` looks at in Dagster: its home, the daemon, schedules and sensors, runs that hang, the plan itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, TickStatus

from invpipe.defs.build import build_definitions
from invpipe.defs.operations import plan_state
from invpipe.defs.partitions import Partitions
from invpipe.defs.storage import check_storage, dagster_home_of
from invpipe.doctor import Finding, State, check_alerts, check_databases, check_disk, check_python, check_settings
from invpipe.settings import Settings

#: A run that waits longer for its start hangs.
LONGEST_QUEUE = timedelta(hours=1)
#: A run that runs longer hangs where dagster.yaml sets no limit.
LONGEST_RUN = timedelta(hours=6)
START_DAEMON = "start `invpipe ui`, or the service invpipe-daemon (invpipe/examples/deploy)"


def examine(home: Path, now: datetime, log: Callable[[str], object]) -> Iterator[Finding]:
    """Yield all findings of a home, those others depend on first; after refused settings there is nothing more to look at.

    Parameters
    ----------
    home
        Directory of all state.
    now
        With a time zone.
    log
        Told of lost connections to databases.
    """
    yield check_python()
    settings, found = check_settings(home)
    yield found
    yield check_disk(home, (settings or Settings()).operations.min_free_gib)
    if settings is None:
        return
    yield from check_databases(settings, log)
    yield check_alerts(settings)
    yield from check_dagster(home, settings, now)
    yield check_plan(settings, now)


def check_dagster(home: Path, settings: Settings, now: datetime) -> Iterator[Finding]:
    """Yield what is found in the Dagster instance; nothing is made where there is none."""
    dagster_home = dagster_home_of(home)
    if not (dagster_home / "dagster.yaml").is_file():
        yield Finding("dagster", _serious(settings), f"{dagster_home} holds no dagster.yaml", f"not made yet: {START_DAEMON}")
        return
    try:
        if storage := check_storage(dagster_home):
            yield storage
            if storage.state == "broken":  # Dagster would try for many seconds, and then not say why
                return
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            runs = instance.get_runs_count()
            yield Finding("dagster", "ok", f"instance at {dagster_home}, {runs:,} runs")
            yield check_daemon(instance, settings, now)
            yield from check_switches(instance, home, settings)
            yield check_runs(instance, now)
    except Exception as error:  # noqa: BLE001, RUF100 - whatever a storage raises is what the doctor is asked for
        cure = "look at dagster.yaml there and at the storage it names; a damaged SQLite file can be removed, its history is lost"
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        yield Finding("dagster", "broken", f"instance at {dagster_home} cannot be read: {reason}", cure)


def check_daemon(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> Finding:
    """Return whether the daemon beats: without it no schedule, no sensor, no queue."""
    statuses = instance.get_daemon_statuses()
    dead = sorted(name for name, status in statuses.items() if not status.healthy)
    beats = [status.last_heartbeat.timestamp for status in statuses.values() if status.last_heartbeat]
    if dead:
        last = f"last heartbeat {_ago(now, max(beats))}" if beats else "it never ran here"
        which = "the daemon is not running" if len(dead) == len(statuses) else f"daemon threads without a heartbeat: {', '.join(dead)}"
        return Finding("daemon", _serious(settings), f"{which}; {last}", START_DAEMON)
    failing = sorted(name for name, status in statuses.items() if status.last_heartbeat and status.last_heartbeat.errors)
    if failing:
        return Finding("daemon", "warning", f"it runs, with errors in {', '.join(failing)}", "read them in the UI: Deployment, Daemons")
    return Finding("daemon", "ok", f"last heartbeat {_ago(now, max(beats))}" if beats else "no daemon is needed")


def check_switches(instance: dg.DagsterInstance, home: Path, settings: Settings) -> Iterator[Finding]:
    """Yield whether each schedule and sensor is on, and whether it could be evaluated when it last was."""
    repository = build_definitions(str(home)).get_repository_def()
    wanted: list[tuple[str, dg.ScheduleDefinition | dg.SensorDefinition]] = [
        *(("schedule", schedule) for schedule in repository.schedule_defs),
        *(("sensor", sensor) for sensor in repository.sensor_defs),
    ]
    states: dict[str, list[InstigatorState]] = {}
    for kind in (InstigatorType.SCHEDULE, InstigatorType.SENSOR):
        for state in instance.all_instigator_state(instigator_type=kind):
            states.setdefault(state.instigator_name, []).append(state)
    for kind_name, item in sorted(wanted, key=lambda each: (each[0], each[1].name)):
        known = states.get(item.name, [])
        label = f"{kind_name} {item.name}"
        switched = [state.status for state in known if state.status != InstigatorStatus.DECLARED_IN_CODE]
        on = InstigatorStatus.RUNNING in switched if switched else item.default_status.value == "RUNNING"
        if not on:
            cure = f"switch it on in the UI (Automation), or dagster {kind_name} start {item.name} -m invpipe.definitions"
            yield Finding(label, _serious(settings) if kind_name == "schedule" else "warning", "off", cure)
        elif error := _failed_tick(instance, known):
            yield Finding(label, "warning", f"on, but its last tick failed: {error}", "read the tick in the UI: Automation")
        else:
            yield Finding(label, "ok", "on")


def _failed_tick(instance: dg.DagsterInstance, states: list[InstigatorState]) -> str | None:
    ticks = [tick for state in states for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)]
    newest = max(ticks, key=lambda tick: tick.timestamp, default=None)
    if newest is None or newest.status != TickStatus.FAILURE:
        return None
    return (newest.error.message if newest.error else "no reason known").strip().splitlines()[0]


def check_runs(instance: dg.DagsterInstance, now: datetime) -> Finding:
    """Return whether runs hang: queued or running for longer than any should."""
    limit = instance.run_monitoring_settings.get("max_runtime_seconds") if instance.run_monitoring_enabled else None
    longest = timedelta(seconds=limit + 600) if isinstance(limit, int) and limit > 0 else LONGEST_RUN
    waiting = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING])
    running = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
    hanging = [
        f"run {record.dagster_run.run_id[:8]} of {record.dagster_run.job_name} ({record.dagster_run.status.value}, {_hours(age)})"
        for filters, bound in ((waiting, LONGEST_QUEUE), (running, longest))
        for record in instance.get_run_records(filters)
        if (age := now - (datetime.fromtimestamp(record.start_time, UTC) if record.start_time else record.create_timestamp)) > bound
    ]
    if not hanging:
        return Finding("runs", "ok", "none hangs")
    cure = "terminate them in the UI (Runs), with force where nothing runs them any more, then start them again"
    return Finding("runs", "broken", f"{len(hanging)} hang, first {hanging[0]}", cure)


def check_plan(settings: Settings, now: datetime) -> Finding:
    """Return whether the order plan that is due is there."""
    state = plan_state(Partitions.of(settings), settings, now)
    if not state.is_stale:
        return Finding("order plan", "ok", f"newest is of {state.newest or 'no day'}, due is {state.due or 'none'}")
    missed = f"; missed days: {', '.join(state.missed)}" if state.missed else ""
    cure = "look at the newest run of the job daily; the sensor catch_up_missed_days plans missed days once it is on"
    return Finding("order plan", "broken", f"that of {state.due} is missing, newest is of {state.newest or 'no day'}{missed}", cure)


def _serious(settings: Settings) -> State:
    """Return what a daily operation that does not run is: broken for a shop, a warning for the demo."""
    return "broken" if settings.source == "databases" else "warning"


def _ago(now: datetime, timestamp: float) -> str:
    seconds = max(0.0, now.timestamp() - timestamp)
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{_hours(timedelta(seconds=seconds))} ago"


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f} h"
