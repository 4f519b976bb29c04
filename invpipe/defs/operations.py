"""What keeps the chain going: the plan's freshness, the catch-up of missed nights, the re-run for late data, the comparison of backtests.

A day is *due* when `operations.plan_by` of the day after has passed in the shop's time zone, and *missed* when it is due, has no plan on
disk, and lies neither before the first planned day nor more than `operations.catch_up_days` back. All is judged by the artifacts, not by
Dagster's events: these lose a tick that fell into an outage, and the partitions of runs that were pruned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from invpipe.defs.arena.assets import arena_specs, open_replays
from invpipe.defs.jobs import CORE, daily_assets, plan_assets
from invpipe.defs.partitions import VARIANTS, Partitions
from invpipe.defs.provenance import ArtifactId, ArtifactStore, stale_assets
from invpipe.defs.sources.assets import DAILY_TABLES
from invpipe.errors import ProvenanceError
from invpipe.settings import Settings

#: Tag of the runs that plan a missed day.
CATCH_UP_TAG = "invpipe/catch_up"
#: Jobs whose runs write what a daily run reads; while one is open no other is asked for.
DAILY_JOBS = ("daily", "extract", "plan", "validate_tables_again", "weekly")
TICK_SECONDS = 60


@dataclass(frozen=True)
class PlanState:
    """Which plans are there.

    Parameters
    ----------
    due
        Newest day whose plan has to be there; None where the source has no such day.
    newest
        Newest day that has a plan; None before the first one.
    missed
        Days without a plan that are to be caught up, oldest first.
    """

    due: str | None
    newest: str | None
    missed: tuple[str, ...]

    @property
    def is_stale(self) -> bool:
        """Whether the plan that has to be there is not."""
        return self.due is not None and (self.newest is None or self.newest < self.due)


def utc_now() -> datetime:
    """Return the time; tests put another clock here."""
    return datetime.now(UTC)


def plan_state(partitions: Partitions, settings: Settings, now: datetime) -> PlanState:
    """Return which plans of the home are there, and which are missed.

    Parameters
    ----------
    partitions, settings
        Of the home.
    now
        With a time zone.
    """
    local = now.astimezone(ZoneInfo(settings.shop.time_zone))
    waits = local.time() < settings.operations.plan_by
    last = local.date() - timedelta(days=2 if waits else 1)
    store = ArtifactStore.of(settings)
    planned = sorted(path.stem for path in store.directory_path(("order_plan", None)).glob("[0-9]*.parquet") if _is_whole(store, path.stem))
    known = set(partitions.day.get_partition_keys(current_time=now))
    due = last.isoformat() if last.isoformat() in known else None
    look_back = [(last - timedelta(days=back)).isoformat() for back in reversed(range(settings.operations.catch_up_days))]
    missed = [day for day in look_back if day in known and planned and planned[0] < day and day not in planned]
    return PlanState(due, planned[-1] if planned else None, tuple(missed))


def _is_whole(store: ArtifactStore, day: str) -> bool:
    try:
        return store.record(("order_plan", day)) is not None
    except ProvenanceError:
        return False


# --- freshness


def plan_freshness(settings: Settings) -> dg.FreshnessPolicy:
    """Return the policy of the order plan: made between midnight and `operations.plan_by` of every day, in the shop's time zone."""
    by = settings.operations.plan_by
    since_midnight = timedelta(hours=by.hour, minutes=by.minute)
    return dg.FreshnessPolicy.cron(f"{by.minute} {by.hour} * * *", since_midnight, timezone=settings.shop.time_zone)


def with_freshness(assets: Iterable[dg.AssetsDefinition], settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the assets, the order plan with its policy; the embedded shop has no new days, its plan never gets stale."""
    if settings.source != "databases":
        return list(assets)
    plan, policy = dg.AssetKey("order_plan"), plan_freshness(settings)

    def fresh(spec: dg.AssetSpec) -> dg.AssetSpec:
        return dg.apply_freshness_policy(spec, policy) if spec.key == plan else spec

    return [made.map_asset_specs(fresh) if plan in made.keys else made for made in assets]


# --- sensors


def operation_sensors(partitions: Partitions, settings: Settings) -> list[dg.SensorDefinition]:
    """Return the sensors, off until an operator starts them; no catch-up where `operations.catch_up_days` is 0."""
    common = [late_data_sensor(partitions, settings), comparison_sensor(partitions, settings)]
    return [catch_up_sensor(partitions, settings), *common] if settings.operations.catch_up_days else common


def catch_up_sensor(partitions: Partitions, settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that plans missed days, oldest first, one at a time."""

    @dg.sensor(job_name="daily", minimum_interval_seconds=TICK_SECONDS, default_status=dg.DefaultSensorStatus.STOPPED)
    def catch_up_missed_days(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Plan the oldest missed day; a day that failed too often is left out, so that the ones after it are not held up."""
        state = plan_state(partitions, settings, utc_now())
        if not state.missed:
            return dg.SkipReason(f"no day is missed; the newest plan is of {state.newest}")
        if waits := open_run(context.instance):
            return dg.SkipReason(f"{len(state.missed)} days are missed, first {state.missed[0]}; waiting for {waits}")
        attempts = {day: _attempts(context.instance, day) for day in state.missed}
        open_days = [day for day in state.missed if attempts[day] < settings.operations.catch_up_attempts]
        if not open_days:
            return dg.SkipReason(
                f"{len(state.missed)} missed days failed {settings.operations.catch_up_attempts} times each, first {state.missed[0]}; "
                "read their runs, mend the cause, then materialise these days of the job daily by hand"
            )
        day = open_days[0]
        return dg.RunRequest(
            run_key=f"{day}/{attempts[day] + 1}",
            partition_key=day,
            asset_selection=daily_assets(settings, date.fromisoformat(day)),
            tags={CATCH_UP_TAG: day},
        )

    return catch_up_missed_days


def late_data_sensor(partitions: Partitions, settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that validates and plans again when raw rows of the look-back changed after today's plan."""

    @dg.sensor(job_name="daily", minimum_interval_seconds=TICK_SECONDS, default_status=dg.DefaultSensorStatus.STOPPED)
    def plan_again_after_late_data(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        """Renew the plan of yesterday's data, the one that is acted upon today; older plans stay what was decided then."""
        yesterday = (utc_now().astimezone(ZoneInfo(settings.shop.time_zone)).date() - timedelta(days=1)).isoformat()
        newest = plan_state(partitions, settings, utc_now()).newest
        if newest != yesterday:
            return dg.SkipReason(f"there is no plan of {yesterday} yet that late data could change")
        late = late_raw(ArtifactStore.of(settings), date.fromisoformat(newest), settings.extract.look_back_days)
        if not late:
            return dg.SkipReason(f"no raw table changed since the plan of {newest}")
        if waits := open_run(context.instance):
            return dg.SkipReason(f"{len(late)} raw partitions changed, first {min(late)}; waiting for {waits}")
        digest = hashlib.sha256("".join(f"{name}={late[name]};" for name in sorted(late)).encode()).hexdigest()[:16]
        return dg.RunRequest(
            run_key=f"late/{newest}/{digest}",  # the same rows are asked for once
            partition_key=newest,
            asset_selection=[dg.AssetKey(name) for name in (*CORE, *plan_assets(settings))],
            tags={"invpipe/late_data": f"{len(late)} partitions, first {min(late)}"},
        )

    return plan_again_after_late_data


def comparison_sensor(partitions: Partitions, settings: Settings) -> dg.SensorDefinition:
    """Return the sensor that compares the backtests of a window as soon as a newer set of them is complete."""
    specs = arena_specs(partitions)  # once, not at every tick

    @dg.sensor(job_name="compare", minimum_interval_seconds=TICK_SECONDS, default_status=dg.DefaultSensorStatus.STOPPED)
    def compare_complete_windows(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        """Compare windows whose variants were all replayed; an incomplete one keeps the comparison of its last complete set."""
        requests, waiting = [], []
        for window in partitions.window.get_partition_keys():
            if missing := open_replays(specs["backtest"], window, settings):
                waiting.append(f"{window} lacks {len(missing)} of {len(VARIANTS)} backtests, first {next(iter(missing))}")
            elif stale_assets(specs["ablation"], settings, {"ablation": [window]}):
                key = _digest(ArtifactStore.of(settings), [("backtest", f"{variant}|{window}") for variant in VARIANTS])
                requests.append(dg.RunRequest(run_key=f"{window}/{key}", partition_key=window))  # the same set is asked for once
        return dg.SensorResult(requests, skip_reason=None if requests else "; ".join(waiting) or "the newest sets are compared")

    return compare_complete_windows


def _digest(store: ArtifactStore, artifacts: Iterable[ArtifactId]) -> str:
    """Return a short hash of what artifacts are and were made from."""
    records = [store.record(artifact) for artifact in artifacts]
    return hashlib.sha256("".join(record.fingerprint() for record in records if record).encode()).hexdigest()[:16]


def late_raw(store: ArtifactStore, last: date, look_back_days: int) -> dict[str, str]:
    """Return the raw partitions of the look-back whose content is not what the validated tables were made from, with its hash.

    Parameters
    ----------
    store
        Artifacts of the home.
    last
        Newest planned day.
    look_back_days
        Days before it to look at as well.
    """
    days = [(last - timedelta(days=back)).isoformat() for back in range(look_back_days + 1)]
    late = {}
    for table in DAILY_TABLES:
        core = store.record((f"core_{table}", None))
        read = {item.partition: item.content_hash for item in core.upstream if item.asset_key == f"raw_{table}"} if core else {}
        for day in days:
            raw = store.record((f"raw_{table}", day))
            if raw is not None and raw.content_hash != read.get(day):
                late[f"raw_{table}[{day}]"] = raw.content_hash
    return late


def open_run(instance: dg.DagsterInstance) -> str | None:
    """Return in words a run that is queued, running or about to be retried and makes what the daily chain reads; None without one."""
    for job in DAILY_JOBS:
        for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=NOT_FINISHED_STATUSES), limit=1):
            return f"run {run.run_id[:8]} of {job} ({run.status.value.lower()})"
        for run in instance.get_runs(dg.RunsFilter(job_name=job), limit=5):
            if run.is_complete_and_waiting_to_retry:
                return f"the retry of run {run.run_id[:8]} of {job}"
    return None


def _attempts(instance: dg.DagsterInstance, day: str) -> int:
    """How often a missed day was tried; Dagster's own retries of a run belong to it."""
    return sum(run.parent_run_id is None for run in instance.get_runs(dg.RunsFilter(tags={CATCH_UP_TAG: day})))
