"""Run jobs from Python on a home: prepare its Dagster instance, skip what is current, show progress.

`materialise` runs one job for what is stale and says what it re-used, judged by the provenance records of the artifacts.
"""

import fcntl
import logging
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import Engine, event

import invpipe
from invpipe.defs.jobs import range_tags
from invpipe.defs.launcher import HOST_TAG
from invpipe.defs.provenance import name_of, stale_assets
from invpipe.defs.storage import require_storage
from invpipe.errors import ProvenanceError, SettingsError
from invpipe.settings import Settings

Say = Callable[[str], object]


def prepare_home(home: Path) -> Path:
    """Make the home's Dagster directory with the project's dagster.yaml, name both in the environment, and return it.

    A dagster.yaml with a storage section, as of invpipe/examples/deploy, is the operator's and stays.

    Raises
    ------
    SettingsError
        Where the package was installed without its dagster.yaml.
    StorageError
        Where the Postgres that dagster.yaml names does not answer.
    """
    package = Path(invpipe.__file__).parent
    found = [path for path in (package / "dagster.yaml", package.parent / "dagster.yaml") if path.is_file()]
    if not found:
        msg = f"dagster.yaml is neither in the package nor beside it ({package}); install invpipe again"
        raise SettingsError(msg)
    dagster_home = (home / "dagster").absolute()
    dagster_home.mkdir(parents=True, exist_ok=True)
    if not _has_storage(dagster_home / "dagster.yaml"):
        shutil.copyfile(found[0], dagster_home / "dagster.yaml")
    os.environ["INVPIPE_HOME"] = str(home.absolute())
    os.environ["DAGSTER_HOME"] = str(dagster_home)
    require_storage(dagster_home)
    _make_storage(dagster_home)
    return dagster_home


def _has_storage(file: Path) -> bool:
    return file.is_file() and any(line.startswith("storage:") for line in file.read_text(encoding="utf-8").splitlines())


def _make_storage(dagster_home: Path) -> None:
    """Let Dagster make its databases once: of two processes that start together on a new home, one would find half of them and die."""
    made = dagster_home / ".storage-made"
    with (dagster_home / ".storage-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with dg.DagsterInstance.from_config(str(dagster_home)):
                made.touch()


class _ProgressHandler(logging.Handler):
    """Passes on what assets say and how long steps took."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.INFO)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        event: dg.DagsterEvent | None = meta.get("dagster_event")
        if event is None and meta.get("orig_message"):
            self.say(f"    {meta['orig_message']}")
        elif event is not None and event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            self.say(f"    {event.step_key} done in {event.step_success_data.duration_ms / 1000:.1f} s")


def progress_logger(say: Say) -> dg.LoggerDefinition:
    """Return a Dagster logger that tells `say` about progress, line by line."""

    @dg.logger
    def progress(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("invpipe.progress", logging.INFO)
        logger.addHandler(_ProgressHandler(say))
        return logger

    return progress


@contextmanager
def unsynced_event_log() -> Iterator[None]:
    """Let SQLite connections of this process write without waiting for the disk: thousands of events take a third of the time.

    What is written survives the end of the process, not a power cut: for state that one command makes again.
    """

    def relax(connection: Any, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


@dataclass(frozen=True)
class Outcome:
    """What a phase did: artifacts made anew and re-used, and its wall-clock seconds."""

    made: int
    reused: int
    seconds: float


def materialise(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    settings: Settings,
    job_name: str,
    partitions: Sequence[str] = (),
) -> Outcome:
    """Run a job for its stale artifacts.

    Parameters
    ----------
    definitions
        Of the home; must hold a logger named "progress".
    instance
        Dagster instance of the home.
    settings
        Settings of the home.
    job_name
        Job to run.
    partitions
        Partition keys wanted of the job's partitioned assets, consecutive and in the order of their definition (of multi-partitions the
        keys of a rectangle); empty for an unpartitioned job.

    Raises
    ------
    ProvenanceError
        Where the job ended well but an artifact is still missing or stale.
    Exception
        Whatever a step raises; finished artifacts stay.
    """
    began = time.perf_counter()
    job = definitions.resolve_job_def(job_name)
    graph = definitions.resolve_asset_graph()
    keys = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    wanted = {key: list(partitions) for key in keys if graph.get(dg.AssetKey(key)).partitions_def is not None}
    specs = [spec for spec in definitions.resolve_all_asset_specs() if spec.key.to_user_string() in keys]
    total = sum(len(wanted.get(key, [""])) for key in keys)
    stale = stale_assets(specs, settings, wanted)
    for key, check in _unproven(keys, graph, instance).items():
        stale |= {(key, partition): f"its blocking check {check} has not passed" for partition in wanted.get(key, [None])}
    if stale:
        job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(key) for key in sorted(_with_siblings({key for key, _ in stale}, graph))],
            tags={
                HOST_TAG: socket.gethostname(),
                **_range_tags(partitions, {partition for _, partition in stale if partition is not None}),
            },
            run_config={"loggers": {"progress": {}}},
        )
        left = stale_assets(specs, settings, wanted)
        if left:
            (key, partition), reason = next(iter(left.items()))
            msg = f"job {job_name} left {len(left)} of {len(stale)} artifacts stale, first {name_of((key, partition))}: {reason}"
            raise ProvenanceError(msg)
    return Outcome(len(stale), total - len(stale), time.perf_counter() - began)


def _range_tags(partitions: Sequence[str], stale: Collection[str]) -> dict[str, str]:
    """Return the tags of a run over the stale partitions: from the first to the last of them, of multi-partitions over all."""
    if not stale:
        return {}
    span = [key for key in partitions if key in stale] if "|" not in partitions[0] else list(partitions)
    return range_tags(span[0], span[-1])


def _unproven(keys: set[str], graph: Any, instance: dg.DagsterInstance) -> dict[str, str]:
    """Return, by asset, a blocking check that did not pass when it last ran, or never ran: the asset must not count as current."""
    checks = [key for key in graph.asset_check_keys if key.asset_key.to_user_string() in keys and graph.get_check_spec(key).blocking]
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return {key.asset_key.to_user_string(): key.name for key in checks if key not in latest or latest[key].status.value != "SUCCEEDED"}


def _with_siblings(keys: set[str], graph: Any) -> set[str]:
    """Add the assets that one step makes together with the given ones."""
    chosen = set(keys)
    for key in keys:
        chosen |= {sibling.to_user_string() for sibling in graph.get(dg.AssetKey(key)).execution_set_asset_keys}
    return chosen
