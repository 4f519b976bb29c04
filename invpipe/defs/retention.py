"""Retention: what `invpipe prune` deletes, and what it never does.

An artifact goes when its asset has day partitions, its day lies more than `operations.keep_artifact_days` back, and nothing that stays
reads it: an asset that gathers all days (the validated tables gather the raw ones) keeps every day of what it reads. The newest day of an
asset stays always, and so do models with their gates: the one that serves may be old, and an operator may roll back.
Files under `exports` stay, plans and pages alike: they are what people were given.

A run goes with its events, its log files and its part of the event log when it ended more than `operations.keep_run_days` ago, unless it
holds the newest record of an artifact that stays or of a check: the UI never shows as missing what is there.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

from invpipe.defs.jobs import MODEL
from invpipe.defs.operations import open_run
from invpipe.defs.partitions import Partitions
from invpipe.defs.provenance import ArtifactId, ArtifactStore, name_of
from invpipe.defs.storage import dagster_home_of, require_storage
from invpipe.errors import SettingsError, StorageError
from invpipe.settings import Settings

#: Ids of events asked for at a time; SQLite takes no more than 999 values in a statement of older versions.
IDS_PER_QUERY = 500


@contextmanager
def opened_instance(home: Path) -> Iterator[dg.DagsterInstance]:
    """Open the Dagster instance of a home.

    Raises
    ------
    SettingsError
        There is none.
    StorageError
        The Postgres that holds its runs does not answer.
    """
    directory = dagster_home_of(home)
    if not (directory / "dagster.yaml").is_file():
        msg = f"{directory} holds no dagster.yaml; nothing has run here, or DAGSTER_HOME names another directory"
        raise SettingsError(msg)
    require_storage(directory)
    with dg.DagsterInstance.from_config(str(directory)) as instance:
        yield instance


@dataclass(frozen=True)
class Leaving:
    """One thing that goes.

    Parameters
    ----------
    name
        In words.
    size_bytes
        On the disk of this machine; events in a database of their own server are not counted.
    delete
        Deletes it.
    """

    name: str
    size_bytes: int
    delete: Callable[[], None]


@dataclass(frozen=True)
class PrunePlan:
    """What goes: artifacts, runs; and how many old runs stay because they hold the newest record of something."""

    artifacts: tuple[Leaving, ...]
    runs: tuple[Leaving, ...]
    old_runs_kept: int

    @property
    def size_bytes(self) -> int:
        """Bytes that become free."""
        return sum(leaving.size_bytes for leaving in (*self.artifacts, *self.runs))

    def carry_out(self) -> None:
        """Delete; what is gone already is passed over, so that a killed call can be repeated."""
        for leaving in (*self.artifacts, *self.runs):
            leaving.delete()


def plan_pruning(definitions: dg.Definitions, instance: dg.DagsterInstance, settings: Settings, now: datetime) -> PrunePlan:
    """Return what `invpipe prune` would delete.

    Parameters
    ----------
    definitions, instance, settings
        Of the home.
    now
        With a time zone.

    Raises
    ------
    StorageError
        A run of the daily chain is open: it may be reading what would go.
    """
    if waits := open_run(instance):
        msg = f"{waits} is open and may read what would go; prune when it has ended"
        raise StorageError(msg)
    today = now.astimezone(ZoneInfo(settings.shop.time_zone)).date()
    first_kept = today - timedelta(days=settings.operations.keep_artifact_days)
    store = ArtifactStore.of(settings)
    gone = dict(old_artifacts(store, prunable_assets(definitions, settings), first_kept))
    cut = now - timedelta(days=settings.operations.keep_run_days)
    old = instance.get_run_records(dg.RunsFilter(statuses=FINISHED_STATUSES, updated_before=cut))
    needed = _runs_needed(definitions, instance, gone) if old else set()
    leaving = [record.dagster_run for record in old if record.dagster_run.run_id not in needed]
    return PrunePlan(
        artifacts=tuple(Leaving(name_of(artifact), _size(path), partial(_remove, path)) for artifact, path in gone.items()),
        runs=tuple(_leaving_run(instance, run) for run in leaving),
        old_runs_kept=len(old) - len(leaving),
    )


def prunable_assets(definitions: dg.Definitions, settings: Settings) -> list[str]:
    """Return the assets with day partitions whose old days nothing needs, sorted."""
    day = Partitions.of(settings).day
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    prunable = {name for name, spec in specs.items() if spec.partitions_def == day} - set(MODEL)
    while True:
        needed = {
            dep.asset_key.to_user_string()
            for name, spec in specs.items()
            for dep in spec.deps
            if name not in prunable and not isinstance(dep.partition_mapping, dg.LastPartitionMapping)
        }
        if not prunable & needed:
            return sorted(prunable)
        prunable -= needed


def old_artifacts(store: ArtifactStore, assets: Iterable[str], first_kept: date) -> Iterator[tuple[ArtifactId, Path]]:
    """Yield the artifacts of days before `first_kept` with their paths; never the newest of an asset."""
    for name in assets:
        found = {path.stem: path for path in sorted(store.directory_path((name, None)).glob("[0-9]*")) if _is_day(path.stem)}
        for day in sorted(found)[:-1]:
            if date.fromisoformat(day) < first_kept:
                yield (name, day), found[day]


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _runs_needed(definitions: dg.Definitions, instance: dg.DagsterInstance, gone: Iterable[ArtifactId]) -> set[str]:
    """Return the runs that hold the newest record of an artifact that stays, or of a check."""
    graph, storage, leaving = definitions.resolve_asset_graph(), instance.event_log_storage, set(gone)
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    checks = storage.get_latest_asset_check_execution_by_key(list(graph.asset_check_keys))
    needed = {record.run_id for record in checks.values()}
    for key in graph.get_all_asset_keys():
        needed |= {record.run_id for record in instance.fetch_materializations(key, limit=1).records}
        name = key.to_user_string()
        ids = [at for day, at in storage.get_latest_storage_id_by_partition(key, kind).items() if (name, day) not in leaving]
        for start in range(0, len(ids), IDS_PER_QUERY):
            chosen = dg.EventRecordsFilter(kind, asset_key=key, storage_ids=ids[start : start + IDS_PER_QUERY])
            needed |= {record.run_id for record in storage.get_event_records(chosen)}
    return needed


def _leaving_run(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Leaving:
    files = _files_of(instance, run.run_id)

    def delete() -> None:
        instance.delete_run(run.run_id)
        for path in files:
            _remove(path)

    return Leaving(f"run {run.run_id[:8]} of {run.job_name}", sum(map(_size, files)), delete)


def _files_of(instance: dg.DagsterInstance, run_id: str) -> list[Path]:
    """Return the files of a run on this machine: its part of the event log, its captured output."""
    storage, logs = instance.event_log_storage, instance.compute_log_manager
    files = []
    if isinstance(storage, SqliteEventLogStorage):
        shard = Path(storage.path_for_shard(run_id))
        files = [shard, *(shard.with_name(shard.name + end) for end in ("-wal", "-shm", "-journal"))]
    if isinstance(logs, LocalComputeLogManager):
        files.append(Path(logs.get_captured_local_path([run_id, "output"], "out")).parent)
    return [file for file in files if file.exists()]


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
