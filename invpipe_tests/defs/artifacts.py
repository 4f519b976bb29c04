"""Artifacts and settings written by hand, for tests of what looks at a home."""

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from invpipe.defs.provenance import PARQUET_KEY, ArtifactStore, ProvenanceRecord, Upstream, frame_hash

SHOP = """\
source = "databases"
[shop]
first_day = 2024-01-01
time_zone = "Europe/Berlin"
[operations]
plan_by = 06:30:00
"""


def write_database_shop(home: Path, more: str = "") -> None:
    """Write the settings of a shop with databases, in Berlin, its plan due at half past six; `more` are settings of its operations."""
    tables = [f"[tables.{name}]\nsql = 'SELECT 1 WHERE :first_day < :last_day'\n" for name in ("sales_daily", "stock_daily")]
    (home / "invpipe.toml").write_text(SHOP + more + "[tables.items]\nsql = 'SELECT 1'\n" + "".join(tables))


def put(store: ArtifactStore, asset: str, partition: str | None, value: int = 0, upstream: tuple[Upstream, ...] = ()) -> str:
    """Write a small frame as an artifact and return its content hash."""
    frame = pl.DataFrame({"x": [value]})
    record = ProvenanceRecord(
        asset_key=asset,
        partition=partition,
        upstream=upstream,
        content_hash=frame_hash(frame),
        settings_hash="s",
        code_version="c",
        seed=0,
        invpipe_version="0",
        created_at=datetime.now(UTC),
    )
    path = store.frame_path((asset, partition))
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path, metadata={PARQUET_KEY: record.model_dump_json()})
    return record.content_hash
