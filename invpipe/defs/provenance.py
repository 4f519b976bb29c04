"""Provenance: what every artifact was made from, written with it, checked by whoever reads it.

An artifact is one partition of one asset on disk: a Parquet file (frames) or a directory (everything else). Its record names the
upstream artifacts its step read, with their content hashes, and the hash of the settings it depends on, the version of the code, the seed
and the hash of its own content. The record lies in the artifact itself (Parquet key-value metadata, ``provenance.json`` in a directory),
so that both appear in one rename and cannot part.

An artifact is *current* when its record names the settings hash and code version that hold now, and every upstream artifact it names is
current and still has the hash it names. Nothing is asked of Dagster's event log, whose data versions lose partitions: it records the latest
event of an upstream asset whichever partition was read, and keeps one version for a hundred partitions.

Limits: local file systems; hashes prove damage and mix-ups, they do not protect against forgery; a range of partitions made by one step
names everything that step read for each of them. Being current is judged from records alone; content is checked when an artifact is read.

Source of the idea: a typed provenance record beside Dagster's own metadata, as in Catalyst Cooperative's PUDL.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import dagster as dg
import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

import invpipe
from invpipe.errors import ProvenanceError
from invpipe.settings import Settings

#: Key of the record in a Parquet file's metadata, and its name in a directory.
PARQUET_KEY = "invpipe_provenance"
RECORD_NAME = "provenance.json"
#: Files of a directory that are not its content: the record, and wall-clock seconds, which differ between equal runs.
NO_CONTENT = frozenset({RECORD_NAME, "phase_seconds.json"})
#: Key of an asset's metadata that names the settings it depends on.
SETTINGS_KEY = "invpipe/settings"
#: Rows hashed at a time; part of the hash, because rows are framed by it.
HASH_ROWS = 1 << 20
#: Rooms and modules in import order; one never imports another to its right.
ROOMS = (
    *("errors", "atomic", "settings", "contracts", "sources", "history", "grid"),
    *("features", "forecast", "lagrangian", "allocation", "packing", "arena", "sweep", "report", "alerts", "doctor"),
)

ArtifactId = tuple[str, str | None]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Upstream(_Frozen):
    """One artifact a step has read: its asset key, partition (None when unpartitioned) and content hash."""

    asset_key: str
    partition: str | None
    content_hash: str


class ProvenanceRecord(_Frozen):
    """What one artifact is and what it was made from.

    Parameters
    ----------
    asset_key, partition
        Which artifact; keys of several parts are joined by ``/``, multi-partitions by ``|`` in the order of their dimensions' names.
    upstream
        What the step has read, sorted.
    content_hash
        SHA-256 of the content, see `frame_hash` and `directory_hash`.
    settings_hash
        `Settings.settings_hash` of the settings the asset depends on.
    code_version
        As the asset declares it.
    seed
        Seed of the run's settings.
    invpipe_version
        Version of the package that wrote the artifact.
    created_at
        When, UTC. It is part of no hash.
    """

    format_version: Literal[1] = 1
    asset_key: str
    partition: str | None
    upstream: tuple[Upstream, ...]
    content_hash: str
    settings_hash: str
    code_version: str
    seed: int
    invpipe_version: str
    created_at: datetime

    def fingerprint(self) -> str:
        """Return the SHA-256 of the record without its time: equal for two artifacts made alike."""
        return hashlib.sha256(self.model_dump_json(exclude={"created_at"}).encode()).hexdigest()


# --- hashes of content


def frame_hash(frames: pl.DataFrame | Iterable[pl.DataFrame]) -> str:
    """Return the SHA-256, in hex, of a frame's schema and values.

    It is the same for frames that are equal, however they were built: chunks, slices, what lies under a null, the physical codes of a
    categorical, the sign of zero and the bits of a NaN don't count. Order of rows and columns, names and types do.

    Parameters
    ----------
    frames
        A frame, or the same frame in consecutive pieces of `HASH_ROWS` rows (the last one may be shorter, a lone one empty).

    Raises
    ------
    ProvenanceError
        A column's type has no canonical bytes (``Object``).
    """
    digest = hashlib.sha256()
    slices = frames.iter_slices(HASH_ROWS) if isinstance(frames, pl.DataFrame) else iter(frames)
    first = next(slices, frames if isinstance(frames, pl.DataFrame) else pl.DataFrame())
    digest.update(repr(list(first.schema.items())).encode())
    for part in itertools.chain([first], slices):
        for column in part.iter_columns():
            _update(digest, column)
    return digest.hexdigest()


def _update(digest: hashlib._Hash, column: pl.Series) -> None:
    """Feed the canonical bytes of one column: length, null mask, values with nulls at a fixed value."""
    digest.update(len(column).to_bytes(8, "little"))
    digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
    dtype = column.dtype
    if isinstance(dtype, pl.Categorical | pl.Enum | pl.Decimal):
        column, dtype = column.cast(pl.String), pl.String()
    if isinstance(dtype, pl.Struct):
        for name in column.struct.fields:
            _update(digest, column.struct.field(name))
    elif isinstance(dtype, pl.List | pl.Array):
        lists = column.arr.to_list() if isinstance(dtype, pl.Array) else column
        _update(digest, lists.list.len())
        _update(digest, lists.filter(lists.list.len() > 0).explode())
    elif isinstance(dtype, pl.String | pl.Binary):
        arrow = column.cast(pl.Binary).fill_null(b"").to_arrow(compat_level=pl.CompatLevel.oldest())
        if len(arrow):
            _, offsets_buffer, data = arrow.buffers()
            offsets = np.frombuffer(offsets_buffer, np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
            digest.update(np.diff(offsets).tobytes())
            digest.update(memoryview(data)[offsets[0] : offsets[-1]] if data is not None else b"")
    elif dtype.is_float():
        numbers = column.fill_null(0.0).to_numpy() + 0.0  # -0.0 becomes 0.0
        digest.update(np.where(np.isnan(numbers), np.nan, numbers).astype(numbers.dtype).tobytes())
    elif dtype.is_integer() or dtype.is_temporal() or dtype == pl.Boolean:
        digest.update(np.ascontiguousarray(column.to_physical().fill_null(strategy="zero").to_numpy()).tobytes())
    elif dtype != pl.Null:
        msg = f"column {column.name!r} has type {dtype}, which has no canonical bytes to hash; cast it before it leaves the asset"
        raise ProvenanceError(msg)


def directory_hash(directory: Path) -> str:
    """Return the SHA-256, in hex, of the names and bytes of all files under `directory`, sorted by name, except NO_CONTENT."""
    digest = hashlib.sha256()
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    for name in names:
        if name.rpartition("/")[2] in NO_CONTENT:
            continue
        with (directory / name).open("rb") as file:
            inner = hashlib.file_digest(file, "sha256")
        digest.update(len(name.encode()).to_bytes(8, "little") + name.encode() + inner.digest())
    return digest.hexdigest()


# --- where artifacts lie


class ArtifactStore:
    """Paths and records of the artifacts under one directory.

    A frame lies at ``<root>/<asset>[/<partition>].parquet``, anything else in the directory ``<root>/<asset>[/<partition>]``; each
    dimension of a multi-partition is a directory, the parts of an asset key are joined by ``__``.

    Parameters
    ----------
    root
        The directory, ``<home>/artifacts``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, settings: Settings) -> ArtifactStore:
        """Return the store of the settings' home."""
        return cls(settings.home / "artifacts")

    def frame_path(self, artifact: ArtifactId) -> Path:
        """Return where the artifact lies if it is a frame."""
        directory = self.directory_path(artifact)
        return directory.with_name(f"{directory.name}.parquet")

    def directory_path(self, artifact: ArtifactId) -> Path:
        """Return where the artifact lies if it is no frame."""
        asset_key, partition = artifact
        parts = () if partition is None else partition.split("|")
        return self.root.joinpath(_file_name(asset_key.replace("/", "__")), *map(_file_name, parts))

    def record(self, artifact: ArtifactId) -> ProvenanceRecord | None:
        """Return the record of an artifact, None when there is no artifact.

        Raises
        ------
        ProvenanceError
            Something lies there that has no record, a damaged one, or that of another artifact.
        """
        for path in (self.frame_path(artifact), self.directory_path(artifact) / RECORD_NAME):
            if path.is_file():
                return checked_record(path, artifact)
        return None


def _file_name(name: str) -> str:
    quoted = quote(name, safe=" +=,@")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def name_of(artifact: ArtifactId) -> str:
    """Return how messages call an artifact."""
    asset_key, partition = artifact
    return asset_key if partition is None else f"{asset_key}[{partition}]"


def cure_of(artifact: ArtifactId) -> str:
    """Return the command that makes an artifact anew."""
    asset_key, partition = artifact
    chosen = "" if partition is None else f" --partition '{partition}'"
    return f"materialise it again (dagster asset materialize -m invpipe.definitions --select {asset_key}{chosen}, or in the UI)"


def _read_record(path: Path) -> ProvenanceRecord:
    try:
        text = pl.read_parquet_metadata(path).get(PARQUET_KEY) if path.suffix == ".parquet" else path.read_text(encoding="utf-8")
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read, it is damaged: {error}"
        raise ProvenanceError(msg) from error
    if text is None:
        msg = f"{path} has no provenance record: invpipe did not write it"
        raise ProvenanceError(msg)
    try:
        return ProvenanceRecord.model_validate_json(text)
    except ValidationError as error:
        msg = f"{path} has a provenance record that cannot be read: {error.errors()[0]['msg']}"
        raise ProvenanceError(msg) from error


def checked_record(path: Path, artifact: ArtifactId) -> ProvenanceRecord:
    """Return the record in `path` after checking that it is the one of `artifact`.

    Raises
    ------
    ProvenanceError
        There is no record, a damaged one, or that of another artifact.
    """
    try:
        record = _read_record(path)
    except ProvenanceError as error:
        msg = f"artifact {name_of(artifact)}: {error}; {cure_of(artifact)}"
        raise ProvenanceError(msg) from error
    if (record.asset_key, record.partition) != artifact:
        other = name_of((record.asset_key, record.partition))
        msg = f"artifact {name_of(artifact)}: {path} is the artifact {other}, put there by hand; {cure_of(artifact)}"
        raise ProvenanceError(msg)
    return record


def check_content(record: ProvenanceRecord, content_hash: str, path: Path) -> None:
    """Refuse content that is not what its record says.

    Raises
    ------
    ProvenanceError
        The hashes differ.
    """
    if content_hash != record.content_hash:
        artifact = (record.asset_key, record.partition)
        msg = (
            f"artifact {name_of(artifact)}: the content of {path} has hash {content_hash[:12]}, its provenance record says "
            f"{record.content_hash[:12]}: it was damaged or changed after it was written; {cure_of(artifact)}"
        )
        raise ProvenanceError(msg)


# --- what an asset declares


def depends_on(*settings: str) -> dict[str, str]:
    """Return the metadata by which an asset declares the settings (top-level names) it depends on.

    An asset that declares nothing depends on all of them: every change of a setting makes it stale. ``depends_on()`` says none.
    """
    Settings.model_construct().settings_hash(*settings)  # refuses unknown names where they are written
    return {SETTINGS_KEY: " ".join(settings)}


def code_version_of(room: str, *files: str | Path) -> str:
    """Return a code version that changes with the source of a room and of everything it may import.

    Parameters
    ----------
    room
        Rightmost room whose code the asset runs.
    files
        More source files to count, as a rule the ``__file__`` of the asset's own module.

    Raises
    ------
    ProvenanceError
        There is no such room.
    """
    if room not in ROOMS:
        msg = f"{room!r} is no room; rooms are {', '.join(ROOMS)}"
        raise ProvenanceError(msg)
    package = Path(invpipe.__file__).parent
    digest = hashlib.sha256()
    for name in ROOMS[: ROOMS.index(room) + 1]:
        for path in sorted((package / name).rglob("*.py")) or sorted(package.glob(f"{name}.py")):
            digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    for file in files:
        digest.update(Path(file).name.encode() + b"\n" + Path(file).read_bytes())
    return digest.hexdigest()[:16]


def settings_hash_of(spec: dg.AssetSpec, settings: Settings) -> str:
    """Return the hash of the settings the asset depends on, see `depends_on`."""
    declared = spec.metadata.get(SETTINGS_KEY)
    if declared is None:
        return settings.settings_hash()
    names = str(declared.value if isinstance(declared, dg.MetadataValue) else declared).split()
    return settings.settings_hash(*names) if names else "none"


def code_version_declared(spec: dg.AssetSpec) -> str:
    """Return the code version an asset declares.

    Raises
    ------
    ProvenanceError
        It declares none.
    """
    if spec.code_version is None:
        msg = f"asset {spec.key.to_user_string()} declares no code_version; give it code_version=code_version_of(<its room>, __file__)"
        raise ProvenanceError(msg)
    return spec.code_version


def new_record(
    spec: dg.AssetSpec, partition: str | None, upstream: Iterable[Upstream], settings: Settings
) -> Callable[[str], ProvenanceRecord]:
    """Return a function from the content hash to the record of an artifact about to be written."""
    asset_key, code_version, settings_hash = spec.key.to_user_string(), code_version_declared(spec), settings_hash_of(spec, settings)
    in_order = tuple(sorted(upstream, key=lambda read: (read.asset_key, read.partition or "")))

    def with_hash(content_hash: str) -> ProvenanceRecord:
        return ProvenanceRecord(
            asset_key=asset_key,
            partition=partition,
            upstream=in_order,
            content_hash=content_hash,
            settings_hash=settings_hash,
            code_version=code_version,
            seed=settings.seed,
            invpipe_version=importlib.metadata.version("invpipe"),
            created_at=datetime.now(UTC),
        )

    return with_hash


# --- what is current


def why_stale(
    store: ArtifactStore, artifact: ArtifactId, *, settings_hash: str, code_version: str, upstream_keys: Collection[str] = ()
) -> str | None:
    """Return why an artifact has to be made again, or None when it is current, taking its upstream artifacts as they lie there.

    Parameters
    ----------
    store
        Where artifacts lie.
    artifact
        Which one.
    settings_hash, code_version
        What holds now.
    upstream_keys
        Assets it has to have read.
    """
    try:
        record = store.record(artifact)
    except ProvenanceError as error:
        return str(error)
    if record is None:
        return "never materialised"
    if record.code_version != code_version:
        return f"its code changed ({record.code_version} -> {code_version})"
    if record.settings_hash != settings_hash:
        return f"a setting it depends on changed ({record.settings_hash[:12]} -> {settings_hash[:12]})"
    if unread := sorted(set(upstream_keys) - {read.asset_key for read in record.upstream}):
        return f"it was made without {unread[0]}, which it depends on now"
    for read in record.upstream:
        source = (read.asset_key, read.partition)
        try:
            now = store.record(source)
        except ProvenanceError as error:
            return str(error)
        if now is None:
            return f"its upstream {name_of(source)} is gone"
        if now.content_hash != read.content_hash:
            return f"its upstream {name_of(source)} changed ({read.content_hash[:12]} -> {now.content_hash[:12]})"
    return None


def stale_assets(
    specs: Iterable[dg.AssetSpec], settings: Settings, partitions: Mapping[str, Collection[str]] | None = None
) -> dict[ArtifactId, str]:
    """Return the artifacts that have to be made again, upstream first, each with the reason; what is absent from it can be re-used.

    An unpartitioned asset downstream of a partitioned one is stale as well when a wanted partition was not there when it was made.

    Parameters
    ----------
    specs
        Specs of the assets wanted, ``definitions.resolve_all_asset_specs()``; external ones (without code version and artifact) left out.
    settings
        The settings that hold now.
    partitions
        By asset key, the partitions wanted; those of a partitioned asset that is not named here are all its definition has.

    Raises
    ------
    ProvenanceError
        An asset declares no code version.
    """
    store, partitions = ArtifactStore.of(settings), partitions or {}
    by_key = {spec.key.to_user_string(): spec for spec in specs}
    wanted: dict[str, Collection[str | None]] = {
        key: partitions.get(key, spec.partitions_def.get_partition_keys()) if spec.partitions_def else [None]
        for key, spec in by_key.items()
    }
    stale: dict[ArtifactId, str] = {}
    for key in _upstream_first(by_key):
        spec = by_key[key]
        upstream_keys = {dep.asset_key.to_user_string() for dep in spec.deps} & set(by_key) - {key}
        code_version, settings_hash = code_version_declared(spec), settings_hash_of(spec, settings)
        for partition in wanted[key]:
            artifact = (key, partition)
            reason = why_stale(store, artifact, settings_hash=settings_hash, code_version=code_version, upstream_keys=upstream_keys)
            reason = reason or _why_upstream_stale(store, artifact, stale, {name: wanted[name] for name in upstream_keys})
            if reason:
                stale[artifact] = reason
    return stale


def _why_upstream_stale(
    store: ArtifactStore, artifact: ArtifactId, stale: Mapping[ArtifactId, str], wanted: Mapping[str, Collection[str | None]]
) -> str | None:
    """Reason found in the upstream artifacts of one that is current by itself."""
    record = store.record(artifact)
    read = {(item.asset_key, item.partition) for item in record.upstream} if record else set()
    for source in sorted(read, key=name_of):
        if source in stale:
            return f"its upstream {name_of(source)} is stale: {stale[source]}"
    if artifact[1] is None:
        for key in sorted(wanted):
            for partition in wanted[key]:
                if (key, partition) not in read:
                    return f"its upstream {name_of((key, partition))} was not there when it was made"
    return None


def _upstream_first(specs: Mapping[str, dg.AssetSpec]) -> list[str]:
    ordered: dict[str, None] = {}

    def visit(key: str) -> None:
        if key in ordered or key not in specs:
            return
        for name in sorted(dep.asset_key.to_user_string() for dep in specs[key].deps):
            if name != key:
                visit(name)
        ordered[key] = None

    for key in sorted(specs):
        visit(key)
    return list(ordered)
