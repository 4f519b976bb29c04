"""A small home with a planned day and two recorded windows, and the Dagster daemon on a copy of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.execution.backfill import PartitionBackfill

from invpipe.defs.run import prepare_home
from invpipe.settings import BacktestWindow, write_settings
from invpipe.settings.gates import GateSettings
from invpipe_tests.integration.cluster.conftest import process, program, wait_for
from invpipe_tests.pipeline.conftest import Home, surroundings

CHECKOUT = Path(__file__).parents[3]
ENTRY = "invpipe_tests.integration.daemon.held"
DAYS = tuple((date(2017, 1, 1) + timedelta(days=k)).isoformat() for k in range(45))
#: The same days under two names: one of them gets damaged.
WINDOWS = tuple(BacktestWindow(name=name, start=date(2017, 2, 6), end=date(2017, 2, 12)) for name in ("good", "poison"))
RUN_TIMEOUT_S = 300.0


@pytest.fixture(scope="session")
def planned_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a planned day and two recorded windows that nothing was replayed on; tests must not change it."""
    home = Home(tmp_path_factory.mktemp("daemon") / "home")
    write_settings(
        home.path,
        embedded={"skus": 150},
        forecast={"window_days": (7,)},
        folds={"horizon_days": 7},
        gates=dict.fromkeys(GateSettings.model_fields, 1e6),  # a model of so small a shop is no good one
        backtest={"windows": WINDOWS, "warm_up_days": 2, "lead_time_seeds": 1},
        threads=1,
    )
    with surroundings(), dg.DagsterInstance.from_config(str(prepare_home(home.path))) as instance:
        home.materialise(instance, "extract", *DAYS)
        home.materialise(instance, "validate_tables_again")
        home.materialise(instance, "weekly", DAYS[-1])
        home.materialise(instance, "plan", DAYS[-1])
        home.materialise(instance, "record", *(window.name for window in WINDOWS))
    return home


def copied(home: Home, path: Path) -> Home:
    """Copy a home, with its Dagster state."""
    shutil.copytree(home.path, path)
    return Home(path)


def damage(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@dataclass
class Daemon:
    """A daemon on a home: how it is started, and what it did.

    Parameters
    ----------
    home
        Its home, with a `hold` directory.
    instance
        The home's Dagster instance, seen from this process.
    log
        Where it logs.
    entry
        Module of the definitions.
    """

    home: Home
    instance: dg.DagsterInstance
    log: Path
    entry: str = ENTRY

    @property
    def env(self) -> dict[str, str]:
        """Its environment."""
        places = {"INVPIPE_HOME": str(self.home.path), "DAGSTER_HOME": str(self.home.path / "dagster"), "PYTHONPATH": str(CHECKOUT)}
        return {**os.environ, **places}

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run it in a group of its own."""
        with process(self.log, program("dagster-daemon"), "run", "-m", self.entry, env=self.env) as started:
            yield started
            kill_group(started)

    def backfill(self, asset: str, keys: Sequence[str]) -> str:
        """Ask for a backfill as the UI does, and return its name."""
        chosen = {AssetKeyPartitionKey(dg.AssetKey(asset), key) for key in keys}
        backfill = PartitionBackfill.from_asset_graph_subset(
            backfill_id=uuid.uuid4().hex[:8],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=self.instance,
            asset_graph_subset=AssetGraphSubset.from_asset_partition_set(chosen, self.home.definitions().resolve_asset_graph()),
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        return backfill.backfill_id

    def runs(self, job: str | None = None, **tags: str) -> list[dg.DagsterRun]:
        """Return runs, oldest first."""
        filters = dg.RunsFilter(job_name=job, tags={name.replace("__", "/"): value for name, value in tags.items()})
        return self.instance.get_runs(filters)[::-1]

    def said(self, run: dg.DagsterRun) -> str:
        """Return all messages and errors of a run's log."""
        entries = self.instance.all_logs(run.run_id)
        errors = [entry.dagster_event.event_specific_data for entry in entries if entry.dagster_event and entry.dagster_event.is_failure]
        return "\n".join([*(entry.user_message or entry.message for entry in entries), *map(str, errors)])

    def pid_of(self, run: dg.DagsterRun) -> int:
        """Return the number of a run's process."""
        entries = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        metadata = [entry.get_dagster_event().engine_event_data.metadata for entry in entries]
        return int(next(str(found["pid"].value) for found in metadata if "pid" in found))

    def hold(self, *artifact: str) -> Path:
        """Let the write of an artifact wait until its file is removed."""
        (self.home.path / "hold").mkdir(exist_ok=True)
        place = self.home.path / "hold" / "+".join(artifact)
        place.touch()
        return place

    def wait(self, what: str, ready: object) -> None:
        """Wait for a condition; the message of a failure ends with the daemon's log."""
        wait_for(what, ready, self.log, RUN_TIMEOUT_S)  # type: ignore[arg-type]


def partition_of(run: dg.DagsterRun) -> str | None:
    """Return the partition of a run; those of a backfill have a range of one."""
    return run.tags.get("dagster/partition") or run.tags.get("dagster/asset_partition_range_start")


def reached(hold: Path) -> bool:
    """Say whether a write waits there."""
    return hold.with_name(f"{hold.name}.reached").exists()


def kill_group(running: subprocess.Popen[bytes]) -> None:
    """End a daemon with its code server and workers as a machine that goes down does."""
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
