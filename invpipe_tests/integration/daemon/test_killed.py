"""A night that goes wrong, with a real daemon: a worker is killed, then the whole machine, a window is damaged, two runs plan one day.

The fixture is the night; each test looks at one thing it left behind. Three runs: the catch-up plans the older of two missed days, a
backfill replays a policy on a good window and on one whose tape is damaged. The plan and the good replay are held just before their files
get their names. The replay's worker is killed, then everything; a second daemon takes over, and while it plans the day, so does another
run.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster import DagsterRunStatus
from polars.testing import assert_frame_equal

from invpipe.defs.allocation.exports import EXPORTS
from invpipe.defs.io import CONTENT_NAME
from invpipe.defs.jobs import daily_assets
from invpipe.defs.provenance import PARQUET_KEY, ProvenanceRecord, directory_hash, frame_hash
from invpipe.defs.run import prepare_home
from invpipe_tests.integration.daemon.conftest import Daemon, copied, damage, kill_group, partition_of, reached
from invpipe_tests.pipeline.conftest import Home, surroundings

#: The older one of the two days that are missed.
DAY = "2017-02-15"
GOOD, POISON = "ewma_greedy|good", "order_nothing|poison"
TAPE_FILE = "views.npy"
DAMAGED = re.compile(r"artifact tape\[poison\]: the content of .* was damaged or changed after it was written; materialise it again")


@dataclass
class Night:
    """What the night left behind: each run as it was at the end, the plan's record before and after the second of two runs wrote it."""

    daemon: Daemon
    killed_worker: dg.DagsterRun
    killed_plan: dg.DagsterRun
    before_kill: dict[str, bool]
    other: ProvenanceRecord
    runs: list[dg.DagsterRun]

    def retry_of(self, run: dg.DagsterRun) -> list[dg.DagsterRun]:
        return [again for again in self.runs if again.parent_run_id == run.run_id]

    def of(self, partition: str) -> list[dg.DagsterRun]:
        return [run for run in self.runs if partition_of(run) == partition]


@contextmanager
def opened(home: Home, log: Path) -> Iterator[Daemon]:
    """Open the instance of a home for a daemon that looks at its runs every second, and tries twice again: a retry may be killed too."""
    with surroundings():
        config = prepare_home(home.path) / "dagster.yaml"
        text = (
            config.read_text().replace("poll_interval_seconds: 15", "poll_interval_seconds: 1").replace("max_retries: 1", "max_retries: 2")
        )
        config.write_text(text)
        with dg.DagsterInstance.from_config(str(config.parent)) as instance:
            yield Daemon(home, instance, log)


@pytest.fixture(scope="module")
def night(planned_home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """The night."""
    directory = tmp_path_factory.mktemp("night")
    home = copied(planned_home, directory / "home")
    damage(home.content("tape", "poison") / TAPE_FILE)
    with opened(home, directory / "first.log") as daemon:
        known = {run.run_id for run in daemon.runs()}

        def runs() -> list[dg.DagsterRun]:
            return [run for run in daemon.runs() if run.run_id not in known]

        plan, replay = daemon.hold("order_plan", f"{DAY}.parquet"), daemon.hold("backtest", *GOOD.split("|"))
        daemon.backfill("backtest", [GOOD, POISON])
        with daemon.running() as process:
            daemon.wait("the plan and the replay in the middle", lambda: reached(plan) and reached(replay))
            killed = {partition_of(run): run for run in runs() if run.status == DagsterRunStatus.STARTED}
            os.kill(daemon.pid_of(killed[GOOD]), signal.SIGKILL)
            daemon.wait(
                "the end of the killed worker", lambda: any(run.run_id == killed[GOOD].run_id and run.is_finished for run in runs())
            )
            replay.unlink()
            daemon.wait("a run on its slot", lambda: any(started_after(daemon, run, killed[GOOD]) for run in runs()))
            kill_group(process)
        before = {name: home.store.record(artifact) is not None for name, artifact in ARTIFACTS.items()}
        plan.with_name(f"{plan.name}.reached").unlink()
        daemon.log = directory / "second.log"
        with daemon.running():
            daemon.wait("the plan in the middle again", lambda: reached(plan))
            other = plan_beside(home, daemon.instance)
            plan.unlink()
            daemon.wait("the end of all runs", lambda: has_ended(daemon, runs()))
        yield Night(daemon, killed[GOOD], killed[DAY], before, other, runs())


ARTIFACTS = {"plan": ("order_plan", DAY), "replay": ("backtest", GOOD)}


def started_after(daemon: Daemon, run: dg.DagsterRun, other: dg.DagsterRun) -> bool:
    """Say whether a run began after another one had ended."""
    first, second = (daemon.instance.get_run_record_by_id(one.run_id) for one in (other, run))
    assert first is not None
    assert second is not None
    return bool(first.end_time and second.start_time and second.start_time >= first.end_time)


def has_ended(daemon: Daemon, runs: list[dg.DagsterRun]) -> bool:
    """Say whether nothing runs or is to be tried again, the plan and the good replay were made, and the poison was told of."""
    if not all(run.is_finished for run in runs) or any(run.is_complete_and_waiting_to_retry for run in runs):
        return False
    made = {partition_of(run) for run in runs if run.status == DagsterRunStatus.SUCCESS}
    return {DAY, GOOD} <= made and any(DAMAGED.search(daemon.said(run)) for run in runs if partition_of(run) == POISON)


def plan_beside(home: Home, instance: dg.DagsterInstance) -> ProvenanceRecord:
    """Run the daily job for the same day in this process, from extract to plan, and return the plan's record."""
    job = home.definitions().resolve_job_def("daily")
    chosen = daily_assets(home.settings, date.fromisoformat(DAY))
    done = job.execute_in_process(
        instance=instance, partition_key=DAY, asset_selection=chosen, run_config={"loggers": {"progress": {}}}, raise_on_error=True
    )
    assert done.success
    record = home.store.record(ARTIFACTS["plan"])
    assert record is not None
    return record


def test_catch_up_plans_the_oldest_missed_day_first(night: Night) -> None:
    """Prevents missed ticks from being lost, as Dagster's schedules lose them: a live daemon asks for the oldest day, and waits for it."""
    asked = night.daemon.runs("daily", invpipe__catch_up=DAY)
    assert [partition_of(run) for run in asked] == [DAY, DAY]  # the killed one and its retry
    first = night.daemon.runs("daily", dagster__sensor_name="catch_up_missed_days")[0]
    assert first.run_id == night.killed_plan.run_id


def test_killed_worker_gives_its_slot_back_and_is_replaced(night: Night) -> None:
    """Prevents a run that counts as running without a process, and a place among the runs that never comes back."""
    (run,) = [run for run in night.runs if run.run_id == night.killed_worker.run_id]
    assert run.status == DagsterRunStatus.FAILURE
    assert "was terminated by signal 9 (SIGKILL)" in night.daemon.said(run)
    assert night.retry_of(run)
    assert night.of(GOOD)[-1].status == DagsterRunStatus.SUCCESS


def test_killed_daemon_is_told_of_and_its_run_is_made_again(night: Night) -> None:
    """Prevents a run that stays started for an hour after a crash of the machine, and a night nobody can explain afterwards."""
    (run,) = [run for run in night.runs if run.run_id == night.killed_plan.run_id]
    assert run.status == DagsterRunStatus.FAILURE
    said = night.daemon.said(run)
    assert "of the run is gone without a word: it was killed, or the machine went down" in said
    assert "Retrying the run" in said
    (again,) = night.retry_of(run)
    assert again.status == DagsterRunStatus.SUCCESS
    assert again.tags["invpipe/catch_up"] == DAY


def test_nothing_is_half_made(night: Night) -> None:
    """Prevents half an artifact: what was killed before its rename is not there, and after the second try every content is its record's."""
    assert night.before_kill == {"plan": False, "replay": False}
    home = night.daemon.home
    for (asset, partition), record in home.artifacts(raw=True).items():
        frame = home.store.frame_path((asset, partition))
        if (asset, partition) != ("tape", "poison"):
            found = (
                frame_hash(home.frame(asset, partition))
                if frame.is_file()
                else directory_hash(home.store.directory_path((asset, partition)))
            )
            assert found == record.content_hash, (asset, partition)


def test_two_daily_runs_at_once_make_one_plan(night: Night) -> None:
    """Prevents two runs of one day from tearing files or giving two plans: whoever writes last writes the same, for buyers too."""
    home = night.daemon.home
    record = home.store.record(ARTIFACTS["plan"])
    assert record is not None
    assert record.created_at < night.other.created_at  # made first, written last
    assert record.fingerprint() == night.other.fingerprint()
    lines = home.frame("order_plan", DAY)
    assert_frame_equal(pl.read_parquet(home.path / EXPORTS / f"{DAY}.parquet").select(lines.columns), lines.sort("vendor", "sku"))
    assert len(home.frame("order_plan_summary", DAY)) == 1
    assert PARQUET_KEY in pl.read_parquet_metadata(home.store.frame_path(ARTIFACTS["plan"]))


def test_never_more_runs_at_once_than_allowed(night: Night) -> None:
    """Prevents a backfill beside the nightly run from taking more of the machine than dagster.yaml grants: two runs of the daemon."""
    records = [night.daemon.instance.get_run_record_by_id(run.run_id) for run in night.runs]
    spans = [(record.start_time, record.end_time) for record in records if record and "dagster/code_location" in record.dagster_run.tags]
    assert len(spans) >= 6
    for start, _ in spans:
        assert start is not None
        assert sum(first <= start < last for first, last in spans if first and last) <= 2


def test_poison_window_fails_alone_and_says_what_to_do(night: Night) -> None:
    """Prevents one damaged window from failing a backfill, and a failure that no page shows: the partition is failed, with its cure."""
    runs = night.of(POISON)
    assert {run.status for run in runs} == {DagsterRunStatus.FAILURE}
    assert DAMAGED.search(night.daemon.said(runs[-1]))
    log = night.daemon.instance.event_log_storage
    failed = log.get_latest_asset_partition_materialization_attempts_without_materializations(dg.AssetKey("backtest"))
    assert set(failed) == {POISON}
    assert set(log.get_materialized_partitions(dg.AssetKey("backtest"))) == {GOOD}
    assert night.daemon.home.store.record(("backtest", POISON)) is None
    assert (night.daemon.home.content("backtest", GOOD)).name == CONTENT_NAME
