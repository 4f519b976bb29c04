"""Artifacts written by hand, with their records, for tests of what looks at a home."""

from datetime import UTC, datetime

import polars as pl

from invpipe.defs.provenance import PARQUET_KEY, ArtifactStore, ProvenanceRecord, Upstream, frame_hash


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
