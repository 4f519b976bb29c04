"""Real Dagster runs on a temporary home."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invpipe.defs.io import FramesIOManager, ObjectsIOManager
from invpipe.defs.provenance import ArtifactStore

Materialize = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """The artifacts of the temporary home."""
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def materialize(tmp_path: Path) -> Materialize:
    """`dg.materialize` on the temporary home; `first` and `last` run a range of partitions in one run."""

    def run(assets: list[Any], first: str | None = None, last: str | None = None, **options: Any) -> dg.ExecuteInProcessResult:
        resources = {"io_manager": FramesIOManager(home=str(tmp_path)), "objects": ObjectsIOManager(home=str(tmp_path))}
        tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last} if first and last else {}
        with dg.DagsterInstance.ephemeral() as instance:
            return dg.materialize(assets, resources=resources, instance=instance, tags=tags, **options)

    return run
