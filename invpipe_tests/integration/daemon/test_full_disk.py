"""A disk that is full in the middle of a run. No daemon: the process that writes is what meets it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pytest

from invpipe.defs.provenance import directory_hash
from invpipe.errors import StorageError
from invpipe_tests.integration.daemon.conftest import DAYS, copied
from invpipe_tests.pipeline.conftest import Home

#: The model is the first artifact that is larger.
LIMIT_BYTES = 250_000


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file of this process grow beyond the limit, for root and others alike."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk_says_so_and_leaves_the_old_model(planned_home: Home, tmp_path: Path) -> None:
    """Prevents half a model under its name, a message that does not say that room is missing, and a night after it that needs a hand."""
    home = copied(planned_home, tmp_path / "home")
    before = home.artifacts()
    with dg.DagsterInstance.ephemeral() as instance:
        job = home.definitions().resolve_job_def("weekly")

        def train() -> dg.ExecuteInProcessResult:
            return job.execute_in_process(instance=instance, partition_key=DAYS[-1], run_config={"loggers": {"progress": {}}})

        said = r"demand_model/2017-02-14 cannot be written: .*wrote \d+ of \d+ bytes; [\d.]+ GiB are free\. Make room or mend the rights"
        with full_disk(), pytest.raises(StorageError, match=said):
            train()
        assert home.artifacts() == before
        assert not list(home.store.root.rglob(".*.tmp"))
        assert train().success
    model = ("demand_model", DAYS[-1])
    record = home.store.record(model)
    assert record is not None
    assert record.content_hash == before[model].content_hash == directory_hash(home.store.directory_path(model))
    assert record.created_at > before[model].created_at
