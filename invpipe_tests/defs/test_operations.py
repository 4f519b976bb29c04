"""Freshness, catch-up of missed days and the re-run after late data, on homes whose artifacts are written by hand."""

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy
from dagster._core.storage.dagster_run import DagsterRun

from invpipe.defs import operations
from invpipe.defs.build import build_definitions
from invpipe.defs.jobs import CORE, plan_assets
from invpipe.defs.operations import CATCH_UP_TAG, catch_up_sensor, late_data_sensor, plan_freshness, plan_state
from invpipe.defs.partitions import Partitions
from invpipe.defs.provenance import PARQUET_KEY, ArtifactStore, ProvenanceRecord, Upstream
from invpipe.defs.sources.assets import DAILY_TABLES
from invpipe.settings import Settings
from invpipe_tests.defs.artifacts import put, write_database_shop

Clock = Callable[[datetime], None]
EIGHT = datetime(2017, 6, 10, 8, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a home."""
    return Settings(home=tmp_path)


@pytest.fixture
def store(settings: Settings) -> ArtifactStore:
    """Its artifacts."""
    return ArtifactStore.of(settings)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Set the clock of the sensors; it begins at eight."""
    monkeypatch.setattr(operations, "utc_now", lambda: EIGHT)
    return lambda now: monkeypatch.setattr(operations, "utc_now", lambda: now)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@cache
def repository() -> dg.RepositoryDefinition:
    """The repository of default settings: Dagster holds requests against its jobs and partitions."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "invpipe.toml").write_text("")
        return build_definitions(home).get_repository_def()


def planned(store: ArtifactStore, *days: str) -> None:
    for day in days:
        put(store, "order_plan", f"2017-06-{day}")


def missed(settings: Settings, now: datetime = EIGHT) -> list[str]:
    return [day[-2:] for day in plan_state(Partitions.of(settings), settings, now).missed]


def with_operations(settings: Settings, **values: object) -> Settings:
    return settings.model_copy(update={"operations": settings.operations.model_copy(update=values)})


# --- what is missed


def test_gaps_of_the_look_back_are_missed(settings: Settings, store: ArtifactStore) -> None:
    """Prevents nights that stay without a plan because only the last schedule tick is made up for."""
    planned(store, "01", "04", "05", "07")
    assert missed(settings) == ["03", "06", "08", "09"]
    assert missed(with_operations(settings, catch_up_days=2)) == ["08", "09"]


def test_a_new_shop_has_missed_nothing(settings: Settings, store: ArtifactStore) -> None:
    """Prevents plans for days before the shop was connected."""
    assert missed(settings) == []
    planned(store, "08")
    assert missed(settings) == ["09"]


def test_a_day_is_due_in_the_shops_time_zone(settings: Settings, store: ArtifactStore) -> None:
    """Prevents a plan that counts as missed while its night is still on, elsewhere on earth."""
    planned(store, "07")
    berlin = settings.model_copy(update={"shop": settings.shop.model_copy(update={"time_zone": "Europe/Berlin"})})
    assert missed(settings, datetime(2017, 6, 10, 6, 59, tzinfo=UTC)) == ["08"]
    assert missed(berlin, datetime(2017, 6, 10, 4, 59, tzinfo=UTC)) == ["08"]
    assert missed(berlin, datetime(2017, 6, 10, 5, 0, tzinfo=UTC)) == ["08", "09"]


@pytest.mark.parametrize("day", [date(2017, 3, 26), date(2017, 10, 29)])
def test_change_of_the_clock_neither_skips_nor_doubles_a_day(settings: Settings, store: ArtifactStore, day: date) -> None:
    """Prevents a day of 23 or 25 hours from being planned twice or never."""
    zone = ZoneInfo("Europe/Berlin")
    berlin = settings.model_copy(update={"shop": settings.shop.model_copy(update={"time_zone": "Europe/Berlin"})})
    put(store, "order_plan", (day - timedelta(days=3)).isoformat())
    now = datetime(day.year, day.month, day.day, 7, tzinfo=zone)
    for later in range(3):
        state = plan_state(Partitions.of(settings), berlin, now + timedelta(days=later))
        assert state.due == (day + timedelta(days=later - 1)).isoformat()
        assert list(state.missed) == [(day + timedelta(days=k)).isoformat() for k in range(-2, later)]


def test_damaged_plan_is_no_plan(settings: Settings, store: ArtifactStore) -> None:
    """Prevents a torn file from passing as the plan of its day."""
    planned(store, "07", "08", "09")
    store.frame_path(("order_plan", "2017-06-09")).write_bytes(b"PAR1")
    assert missed(settings) == ["09"]


# --- catch-up


def tick(settings: Settings, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """Evaluate the catch-up."""
    context = dg.build_sensor_context(instance=instance, repository_def=repository())
    data = catch_up_sensor(Partitions.of(settings), settings).evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, job: str = "daily", **tags: str) -> DagsterRun:
    return instance.add_run(DagsterRun(job_name=job, status=status, tags={key.replace("__", "/"): value for key, value in tags.items()}))


def test_missed_days_are_planned_oldest_first_and_once(
    settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock
) -> None:
    """Prevents gaps, a wrong order and two plans for a night after an outage of a weekend."""
    planned(store, "06")
    wanted = []
    while isinstance(request := tick(settings, instance), dg.RunRequest):
        assert request.partition_key is not None
        wanted.append(request.partition_key)
        running = add_run(instance, dg.DagsterRunStatus.STARTED, invpipe__catch_up=request.partition_key)
        assert f"waiting for run {running.run_id[:8]} of daily (started)" in str(tick(settings, instance))  # not twice
        planned(store, request.partition_key[-2:])
        instance.delete_run(running.run_id)
    assert wanted == ["2017-06-07", "2017-06-08", "2017-06-09"]
    assert request == "no day is missed; the newest plan is of 2017-06-09"


@pytest.mark.parametrize("job", ["daily", "extract"])
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING])
def test_catch_up_waits_for_the_schedules_own_runs(
    settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock, job: str, status: dg.DagsterRunStatus
) -> None:
    """Prevents two daily runs at once, which would validate the same tables into one another."""
    planned(store, "08")
    add_run(instance, status, job)
    assert tick(settings, instance) == f"1 days are missed, first 2017-06-09; waiting for {operations.open_run(instance)}"


def test_catch_up_waits_for_dagsters_retry(settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock) -> None:
    """Prevents a second run beside the one that Dagster is about to start again."""
    planned(store, "08")
    add_run(instance, dg.DagsterRunStatus.FAILURE, dagster__will_retry="true")
    assert "waiting for the retry of run" in str(tick(settings, instance))


def test_poison_day_does_not_hold_up_the_ones_after_it(
    settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock
) -> None:
    """Prevents a day that always fails from keeping all later ones without a plan, and from being tried for ever."""
    planned(store, "07")
    keys = []
    for _ in range(4):
        request = tick(settings, instance)
        assert isinstance(request, dg.RunRequest)
        assert request.tags[CATCH_UP_TAG] == request.partition_key
        keys.append(request.run_key)
        add_run(instance, dg.DagsterRunStatus.FAILURE, invpipe__catch_up=str(request.partition_key))
    assert keys == ["2017-06-08/1", "2017-06-08/2", "2017-06-09/1", "2017-06-09/2"]
    assert str(tick(settings, instance)).startswith("2 missed days failed 2 times each, first 2017-06-08; read their runs, mend")


# --- late data


def validated(store: ArtifactStore, days: list[str], content: dict[tuple[str, str], int] | None = None) -> None:
    """Write the raw days, and validated tables made from them."""
    for table in DAILY_TABLES:
        hashes = {day: put(store, f"raw_{table}", day, (content or {}).get((table, day), 0)) for day in days}
        upstream = tuple(Upstream(asset_key=f"raw_{table}", partition=day, content_hash=made) for day, made in hashes.items())
        put(store, f"core_{table}", None, upstream=upstream)


def late(settings: Settings, instance: dg.DagsterInstance) -> dg.RunRequest | str:
    """Evaluate the sensor for late data."""
    context = dg.build_sensor_context(instance=instance, repository_def=repository())
    data = late_data_sensor(Partitions.of(settings), settings).evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else str(data.skip_message)


def test_late_rows_renew_todays_plan_once(settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock) -> None:
    """Prevents a plan on numbers that are known to be wrong, the same request twice, and one that extracts again."""
    days = [f"2017-06-0{day}" for day in range(4, 10)]
    validated(store, days)
    planned(store, "08", "09")
    assert late(settings, instance) == "no raw table changed since the plan of 2017-06-09"
    put(store, "raw_sales_daily", "2017-06-07", 5)
    request = late(settings, instance)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2017-06-09"
    assert {key.to_user_string() for key in request.asset_selection or ()} == {*CORE, *plan_assets(settings)}
    again = late(settings, instance)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key == request.run_key
    put(store, "raw_sales_daily", "2017-06-07", 6)
    more = late(settings, instance)
    assert isinstance(more, dg.RunRequest)
    assert more.run_key != request.run_key
    validated(store, days, {("sales_daily", "2017-06-07"): 6})
    assert late(settings, instance) == "no raw table changed since the plan of 2017-06-09"


def test_changes_beyond_the_look_back_and_old_plans_are_left(
    settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock
) -> None:
    """Prevents old decisions from being rewritten, and a new plan for rows that the settings do not wait for."""
    validated(store, [f"2017-06-0{day}" for day in range(4, 10)])
    planned(store, "09")
    put(store, "raw_sales_daily", "2017-06-05", 5)  # four days before; the look-back is three
    assert late(settings, instance) == "no raw table changed since the plan of 2017-06-09"
    put(store, "raw_sales_daily", "2017-06-06", 5)
    clock(EIGHT + timedelta(days=1))
    assert late(settings, instance) == "there is no plan of 2017-06-10 yet that late data could change"


def test_late_data_waits_for_an_open_run(settings: Settings, store: ArtifactStore, instance: dg.DagsterInstance, clock: Clock) -> None:
    """Prevents a second run while the first still reads what changed."""
    validated(store, ["2017-06-09"])
    planned(store, "09")
    put(store, "raw_offers", "2017-06-09", 5)
    run = add_run(instance, dg.DagsterRunStatus.STARTED, "extract")
    said = f"1 raw partitions changed, first raw_offers[2017-06-09]; waiting for run {run.run_id[:8]} of extract (started)"
    assert late(settings, instance) == said


# --- freshness and wiring


def test_policy_expects_the_plan_between_midnight_and_its_due_time(settings: Settings) -> None:
    """Prevents yesterday's plan from passing as today's."""
    policy = plan_freshness(settings)
    assert isinstance(policy, CronFreshnessPolicy)
    assert (policy.deadline_cron, policy.lower_bound_delta, policy.timezone) == ("0 7 * * *", timedelta(hours=7), "UTC")


def shop(home: Path, more: str = "") -> dg.Definitions:
    write_database_shop(home, more)
    return build_definitions(str(home))


def test_only_the_plan_of_a_shop_with_databases_has_the_policy(tmp_path: Path) -> None:
    """Prevents a plan whose freshness nobody sees, and a demo that turns red the day after."""

    def policies(definitions: dg.Definitions) -> dict[str, dg.FreshnessPolicy]:
        specs = definitions.resolve_all_asset_specs()
        return {spec.key.to_user_string(): spec.freshness_policy for spec in specs if spec.freshness_policy is not None}

    definitions = shop(tmp_path)
    dg.Definitions.validate_loadable(definitions)
    (policy,) = policies(definitions).values()
    assert list(policies(definitions)) == ["order_plan"]
    assert isinstance(policy, CronFreshnessPolicy)
    assert (policy.deadline_cron, policy.timezone) == ("30 6 * * *", "Europe/Berlin")
    (tmp_path / "invpipe.toml").write_text("")
    assert policies(build_definitions(str(tmp_path))) == {}


def test_sensors_are_off_until_an_operator_starts_them(tmp_path: Path) -> None:
    """Prevents runs that nobody asked for, and a catch-up that the settings switch off."""

    def names(definitions: dg.Definitions) -> dict[str, str]:
        return {sensor.name: sensor.default_status.value for sensor in definitions.sensors or ()}

    common = {"plan_again_after_late_data": "STOPPED", "compare_complete_windows": "STOPPED"}
    assert names(shop(tmp_path)) == {"catch_up_missed_days": "STOPPED", **common}
    assert names(shop(tmp_path, "catch_up_days = 0\n")) == common


def test_hand_made_artifacts_are_read_as_ours(store: ArtifactStore) -> None:
    """Prevents tests that pass because the store sees nothing."""
    put(store, "order_plan", "2017-06-01")
    record = store.record(("order_plan", "2017-06-01"))
    assert isinstance(record, ProvenanceRecord)
    assert PARQUET_KEY in pl.read_parquet_metadata(store.frame_path(("order_plan", "2017-06-01")))
