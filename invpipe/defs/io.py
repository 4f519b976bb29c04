"""IO managers: every artifact is written in one step, with its provenance record, and checked against it when it is read.

`FramesIOManager` keeps Polars frames as Parquet files; `ObjectsIOManager` keeps anything that has ``save(path)`` and a class method
``open(path)`` (tapes, models, backtest results) in a directory. Both lay artifacts under ``<home>/artifacts`` as `ArtifactStore` says.

What both do that dagster-polars 0.27.12 on Dagster's UPathIOManager does not, and why:

- an output is written under a temporary name and renamed: a killed run leaves the last good artifact or none;
- a run over several partitions may return a dict of partition key -> object, which has to hold the run's keys exactly: backfills in
  one run, for any rectangle of multi-partition keys (Dagster splits the others into several); or a `PartitionStream`, of which each part
  is written as it comes;
- an input of several partitions is a dict in the order of the keys, and an input annotated as a dict is one for a single partition too;
- metadata are the same in every run: the first rows instead of a random sample;
- Polars 2 has no ``rechunk`` in ``scan_parquet``, so that every read through dagster-polars fails.

Limits: local file systems. A lazy output is collected before it is written, because its record holds the hash of its content; a lazy
input is read once in full to check it, then scanned. An object may map its files: it must not write to them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, get_args, get_origin
from weakref import WeakKeyDictionary

import dagster as dg
import polars as pl
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster_polars import PolarsParquetIOManager
from dagster_polars.io_managers.type_routers import resolve_type_router
from pydantic import Field, PrivateAttr
from upath import UPath

from invpipe.atomic import atomic_replace
from invpipe.defs.columns import SCHEMA_KEY, TYPES, table_schema
from invpipe.defs.provenance import (
    HASH_ROWS,
    PARQUET_KEY,
    RECORD_NAME,
    ArtifactId,
    ArtifactStore,
    ProvenanceRecord,
    Upstream,
    check_content,
    checked_record,
    cure_of,
    directory_hash,
    frame_hash,
    name_of,
    new_record,
)
from invpipe.errors import ProvenanceError
from invpipe.settings import Settings

#: Name of an object's own file or directory beside its record.
CONTENT_NAME = "content"
#: Rows of a frame shown in its asset's metadata.
SHOWN_ROWS = 5

#: What each running step has read and written so far, with the content hashes; entries end with their steps.
_seen_by_step: WeakKeyDictionary[object, dict[ArtifactId, str]] = WeakKeyDictionary()


@dataclass(frozen=True)
class PartitionStream:
    """Output of a run over many partitions, made part by part, so that one of them is in memory at a time.

    Parameters
    ----------
    parts
        Pairs (partition key, object). Every key of the run has to come; one that comes again takes the place of what came before.
    """

    parts: Generator[tuple[str, Any], None, None]


class Saveable(Protocol):
    """What `ObjectsIOManager` can keep. The class also has ``open(path)``, which gives the object back."""

    def save(self, path: Path) -> object:
        """Write the object to `path`, a file or a directory that does not exist yet."""


class _CheckedIOManager(dg.ConfigurableIOManager):
    """What both managers share: which artifacts a step reads and writes, and their records."""

    home: str | None = Field(default=None, description="Directory of all state; default: INVPIPE_HOME, else .invpipe")
    blocking_checks: dict[str, list[str]] = Field(
        default_factory=dict, description="Blocking checks by asset; readers heed those of all runs"
    )
    _settings: Settings = PrivateAttr()
    _store: ArtifactStore = PrivateAttr()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Read the settings of the home."""
        self._settings = Settings.load(self.home)
        self._store = ArtifactStore.of(self._settings)

    @abstractmethod
    def _write(self, obj: Any, artifact: ArtifactId, record_of: Callable[[str], ProvenanceRecord]) -> tuple[ProvenanceRecord, Path]:
        """Write one artifact with its record."""

    @abstractmethod
    def _read(self, context: dg.InputContext, artifact: ArtifactId, path: Path, record: ProvenanceRecord) -> Any:
        """Return one artifact after checking its content."""

    @abstractmethod
    def _path(self, artifact: ArtifactId) -> Path:
        """Return where an artifact lies."""

    @abstractmethod
    def _record_path(self, artifact: ArtifactId) -> Path:
        """Return the file that holds its record."""

    def _shown(self, obj: Any, artifact: ArtifactId) -> dict[str, Any]:
        """Metadata of one object for people to look at."""
        return {}

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write the output of a step, one artifact per partition.

        Raises
        ------
        ProvenanceError
            The partitions of the output are not those of the run, a dependency was not read, or an object cannot be kept.
        """
        asset_key = context.asset_key.to_user_string()
        seen = _seen_by_step.setdefault(context.step_context, {})
        upstream = _upstream_of(context, seen)
        n_partitions = len(context.asset_partition_keys) if context.has_asset_partitions else 1
        for partition, part in _by_partition(context, obj):
            artifact = (asset_key, partition)
            record, path = self._write(part, artifact, new_record(context.asset_spec, partition, upstream, self._settings))
            seen[artifact] = record.content_hash
            metadata = {
                "path": dg.MetadataValue.path(str(path)),
                "provenance": dg.MetadataValue.json(record.model_dump(mode="json")),
                **self._shown(part, artifact),
            }
            context.step_context.add_asset_metadata(metadata, asset_key=context.asset_key, partition_key=partition)
            if n_partitions == 1:  # Dagster keeps one data version per step
                context.step_context.set_data_version(context.asset_key, dg.DataVersion(record.content_hash))

    def load_input(self, context: dg.InputContext) -> Any:
        """Return the input of a step: one object, or a dict of partition key -> object, sorted by key.

        Raises
        ------
        ProvenanceError
            An artifact is missing, damaged or foreign, or several partitions meet an input that is no dict.
        """
        asset_key, kind = context.asset_key.to_user_string(), context.dagster_type.typing_type
        if not context.has_asset_partitions:
            return self._load(context, (asset_key, None))
        keys = sorted(str(key) for key in context.asset_partition_keys)
        if len(keys) > 1 and kind is not Any and not _is_dict(kind):
            span = f"{len(keys)} partitions of {asset_key} ({keys[0]} ... {keys[-1]})"
            msg = f"input {context.name!r} gets {span}: annotate it as dict[str, {kind.__name__}]"
            raise ProvenanceError(msg)
        skip_missing = bool((context.definition_metadata or {}).get("allow_missing_partitions", False))
        wanted = [key for key in keys if not skip_missing or self._record_path((asset_key, key)).is_file()]
        loaded = {key: self._load(context, (asset_key, key)) for key in wanted}
        if _is_dict(kind) or len(keys) > 1:
            return loaded
        return next(iter(loaded.values()), None)

    def _load(self, context: dg.InputContext, artifact: ArtifactId) -> Any:
        path, record_path = self._path(artifact), self._record_path(artifact)
        _refuse_unproven(context, artifact, self.blocking_checks.get(artifact[0], []))
        if not path.exists():
            msg = f"input {context.name!r} needs the artifact {name_of(artifact)}, which is not there ({path}); {cure_of(artifact)}"
            raise ProvenanceError(msg)
        record = checked_record(record_path, artifact)
        obj = self._read(context, artifact, path, record)
        try:
            _seen_by_step.setdefault(context.step_context, {})[artifact] = record.content_hash
        except dg.DagsterInvariantViolationError:
            context.log.debug(f"{name_of(artifact)} was read outside a step")
        return obj


class FramesIOManager(_CheckedIOManager, PolarsParquetIOManager):
    """Keeps Polars frames, eager or lazy, as Parquet files.

    Parameters
    ----------
    home
        Directory of all state; without it what `Settings.load` finds.
    """

    def _path(self, artifact: ArtifactId) -> Path:
        return self._store.frame_path(artifact)

    _record_path = _path

    def _write(self, obj: Any, artifact: ArtifactId, record_of: Callable[[str], ProvenanceRecord]) -> tuple[ProvenanceRecord, Path]:
        if not isinstance(obj, pl.DataFrame | pl.LazyFrame):
            msg = f"artifact {name_of(artifact)} should be a Polars frame, the asset returned {type(obj).__name__}"
            raise ProvenanceError(msg)
        frame = obj.collect(engine="streaming") if isinstance(obj, pl.LazyFrame) else obj
        record, path = record_of(frame_hash(frame)), self._path(artifact)
        with atomic_replace(path) as temporary:
            frame.write_parquet(temporary, row_group_size=HASH_ROWS, metadata={PARQUET_KEY: record.model_dump_json()})
        return record, path

    def _read(self, context: dg.InputContext, artifact: ArtifactId, path: Path, record: ProvenanceRecord) -> Any:
        return self.load_from_path(context, UPath(path))

    def scan_df_from_path(self, path: UPath, context: dg.InputContext, partition_key: str | None = None) -> pl.LazyFrame:
        """Check a file's content against its record, and return it as a lazy frame (already read where the input is eager)."""
        file = Path(str(path))
        record = ProvenanceRecord.model_validate_json(pl.read_parquet_metadata(file)[PARQUET_KEY])
        eager = self.type_router_is_eager(resolve_type_router(context, context.dagster_type))
        try:
            frame = pl.read_parquet(file, hive_partitioning=False) if eager else None
            content_hash = frame_hash(_pieces(file) if frame is None else frame)
        except (pl.exceptions.PolarsError, OSError) as error:
            artifact = (record.asset_key, record.partition)
            msg = f"artifact {name_of(artifact)}: {file} cannot be read, it is damaged: {error}; {cure_of(artifact)}"
            raise ProvenanceError(msg) from error
        check_content(record, content_hash, file)
        return pl.scan_parquet(file, hive_partitioning=False) if frame is None else frame.lazy()

    def _shown(self, obj: pl.DataFrame | pl.LazyFrame, artifact: ArtifactId) -> dict[str, Any]:
        asset, partition = artifact
        types = {name: str(dtype) for name, dtype in obj.collect_schema().items()}
        shown: dict[str, Any] = {} if types == TYPES.get(asset) else {SCHEMA_KEY: table_schema(asset, types)}
        if isinstance(obj, pl.DataFrame):
            shown["dagster/row_count" if partition is None else "dagster/partition_row_count"] = obj.height
            shown["first_rows"] = dg.MetadataValue.md(_markdown(obj.head(SHOWN_ROWS)))
        return shown


class ObjectsIOManager(_CheckedIOManager):
    """Keeps objects that have ``save(path)`` and a class method ``open(path)``, each in a directory of its own.

    An input says by its annotation which class opens the artifact; annotated as ``pathlib.Path`` it gets the path of the checked content.

    Parameters
    ----------
    home
        Directory of all state; without it what `Settings.load` finds.
    """

    def _path(self, artifact: ArtifactId) -> Path:
        return self._store.directory_path(artifact)

    def _record_path(self, artifact: ArtifactId) -> Path:
        return self._path(artifact) / RECORD_NAME

    def _write(self, obj: Any, artifact: ArtifactId, record_of: Callable[[str], ProvenanceRecord]) -> tuple[ProvenanceRecord, Path]:
        if not callable(getattr(obj, "save", None)):
            msg = f"artifact {name_of(artifact)}: {type(obj).__name__} has no save(path); give it one, and a class method open(path)"
            raise ProvenanceError(msg)
        path = self._path(artifact)
        with atomic_replace(path) as temporary:
            temporary.mkdir()
            obj.save(temporary / CONTENT_NAME)
            if not (temporary / CONTENT_NAME).exists():
                msg = f"artifact {name_of(artifact)}: {type(obj).__name__}.save(path) wrote nothing to its path"
                raise ProvenanceError(msg)
            record = record_of(directory_hash(temporary))
            (temporary / RECORD_NAME).write_text(record.model_dump_json(indent=2), encoding="utf-8")
        return record, path

    def _read(self, context: dg.InputContext, artifact: ArtifactId, path: Path, record: ProvenanceRecord) -> Any:
        check_content(record, directory_hash(path), path)
        kind = context.dagster_type.typing_type
        kind = get_args(kind)[-1] if _is_dict(kind) else kind
        if kind is Path:
            return path / CONTENT_NAME
        if not callable(getattr(kind, "open", None)):
            cure = "annotate it with the class that has open(path), or with pathlib.Path"
            msg = f"input {context.name!r} gets {name_of(artifact)}, which {kind} cannot open; {cure}"
            raise ProvenanceError(msg)
        return kind.open(path / CONTENT_NAME)


def _refuse_unproven(context: dg.InputContext, artifact: ArtifactId, checks: list[str]) -> None:
    """Refuse what a blocking check has refused in whichever run: Dagster itself stops the steps of that run only."""
    if not checks:
        return
    try:
        step = context.step_context
    except dg.DagsterInvariantViolationError:
        return  # read outside a step, by a person
    if step.assets_def is None or not step.assets_def.keys:
        return  # a check reads what it checks
    keys, only = [dg.AssetCheckKey(context.asset_key, name) for name in checks], PartitionKeyFilter(key=artifact[1])
    for check, latest in step.instance.event_log_storage.get_latest_asset_check_execution_by_key(keys, only).items():
        if latest.event is None or latest.status != AssetCheckExecutionRecordStatus.FAILED:
            continue
        evaluation = latest.event.get_dagster_event().asset_check_evaluation_data
        if evaluation.severity == dg.AssetCheckSeverity.ERROR:
            msg = (
                f"input {context.name!r} needs {name_of(artifact)}, whose blocking check {check.name} failed in run {latest.run_id[:8]}: "
                f"{evaluation.description or 'no description'}; mend the cause and {cure_of(artifact)}, with its check"
            )
            raise ProvenanceError(msg)


def _is_dict(kind: Any) -> bool:
    return kind is dict or get_origin(kind) in (dict, Mapping)


def _by_partition(context: dg.OutputContext, obj: Any) -> Iterator[tuple[str | None, Any]]:
    """Split an output by the partitions of its run, None for an unpartitioned asset; a stream part by part."""
    asset_key = context.asset_key.to_user_string()
    if not context.has_asset_partitions:
        yield None, obj
        return
    keys = sorted(str(key) for key in context.asset_partition_keys)
    if isinstance(obj, PartitionStream):
        yield from _streamed(asset_key, keys, obj)
    elif isinstance(obj, Mapping):
        parts = {str(key): part for key, part in obj.items()}
        _refuse_other_partitions(asset_key, keys, parts)
        yield from ((key, parts[key]) for key in keys)
    elif len(keys) == 1:
        yield keys[0], obj
    else:
        msg = f"the run makes {len(keys)} partitions of {asset_key} ({keys[0]} ... {keys[-1]}); return a dict of partition key -> object"
        raise ProvenanceError(msg)


def _streamed(asset_key: str, keys: list[str], stream: PartitionStream) -> Iterator[tuple[str, Any]]:
    """Pass the parts on; refuse one that was not asked for at once, and missing ones at the end."""
    done: dict[str, None] = {}
    with closing(stream.parts) as parts:  # also where a part cannot be written: the stream may hold a connection
        for key, part in parts:
            if key not in keys:
                _refuse_other_partitions(asset_key, [*done], {**done, key: None})
            yield key, part
            done[key] = None
    _refuse_other_partitions(asset_key, keys, done)


def _refuse_other_partitions(asset_key: str, keys: list[str], parts: Collection[str]) -> None:
    missing, extra = sorted(set(keys) - set(parts)), sorted(set(parts) - set(keys))
    if missing or extra:
        wrong = [f"{len(found)} {word}, first {found[0]!r}" for word, found in (("missing", missing), ("not asked for", extra)) if found]
        msg = f"the partitions returned for {asset_key} are not the {len(keys)} of the run: {'; '.join(wrong)}"
        raise ProvenanceError(msg)


def _upstream_of(context: dg.OutputContext, seen: Mapping[ArtifactId, str]) -> list[Upstream]:
    """Artifacts the step has read for this output; every dependency that invpipe makes has to be among them."""
    asset_key = context.asset_key.to_user_string()
    graph = context.step_context.job_def.asset_layer.asset_graph
    in_same_step = {key.to_user_string() for key in context.step_context.assets_def.keys} if context.step_context.assets_def else set()
    upstream_keys = {dep.asset_key.to_user_string(): dep.asset_key for dep in context.asset_spec.deps}
    for name, key in sorted(upstream_keys.items()):
        made_here = graph.has(key) and graph.get(key).is_materializable
        if made_here and name not in in_same_step and not any(name == read for read, _ in seen):
            msg = (
                f"asset {asset_key} depends on {name}, but its step read no artifact of it; take it as an argument, or drop the dependency"
            )
            raise ProvenanceError(msg)
    return [
        Upstream(asset_key=name, partition=partition, content_hash=content_hash)
        for (name, partition), content_hash in seen.items()
        if name in upstream_keys
    ]


def _pieces(file: Path) -> Iterator[pl.DataFrame]:
    """Read the frame in a file in pieces of `HASH_ROWS` rows, at least one."""
    scan = pl.scan_parquet(file, hive_partitioning=False)
    rows = scan.select(pl.len()).collect().item()
    for start in range(0, max(rows, 1), HASH_ROWS):
        yield scan.slice(start, HASH_ROWS).collect()


def _markdown(frame: pl.DataFrame) -> str:
    with pl.Config(
        tbl_formatting="ASCII_MARKDOWN", tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True, tbl_cols=-1, tbl_width_chars=1000
    ):
        return str(frame)
