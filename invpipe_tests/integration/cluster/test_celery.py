"""Backtests on a Celery cluster, runs in Postgres, by configuration alone: same results as in one process, shared by the workers."""

import os
import shutil
import subprocess
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus

from invpipe.arena import SeedRuns
from invpipe.defs.io import CONTENT_NAME
from invpipe.defs.provenance import ArtifactStore
from invpipe.settings import Settings
from invpipe_tests.integration.cluster.conftest import PARTITIONS, WORKERS, Cluster, program, run_here, wait_for

BACKFILL_TIMEOUT_S = 300.0


def fingerprints(home: Path) -> dict[str, list[str]]:
    """Fingerprint per partition and seed of the backtests in a home."""
    store = ArtifactStore.of(Settings.load(home))
    runs = {key: SeedRuns.open(store.directory_path(("backtest", key)) / CONTENT_NAME).results for key in PARTITIONS}
    return {key: [result.fingerprint() for result in results] for key, results in runs.items()}


def backfill(cluster: Cluster) -> list[dg.DagsterRun]:
    """Start a backfill as an operator does, and return its runs when all are over."""
    command = [program("dagster"), "job", "backfill", "-m", "invpipe.definitions", "-j", "backtests", "--noprompt"]
    done = subprocess.run(
        [*command, "--partitions", ",".join(PARTITIONS)], env=cluster.env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    runs: list[dg.DagsterRun] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in set(cluster.env) - set(os.environ):
            patch.setenv(name, cluster.env[name])
        with dg.DagsterInstance.from_config(str(cluster.home / "dagster")) as instance:

            def over() -> bool:
                runs[:] = instance.get_runs()
                covered = {str(run.tags.get("dagster/partition")) for run in runs}
                return set(PARTITIONS) <= covered and all(run.is_finished for run in runs)

            wait_for("the end of the backfill", over, cluster.directory / "daemon.log", BACKFILL_TIMEOUT_S)
    return runs


def test_cluster_gives_the_same_backtests_as_one_process(cluster: Cluster, recorded_home: Path, tmp_path: Path) -> None:
    """Prevents results that depend on where a run was executed, a launcher that runs nothing on the workers, and runs in files."""
    runs = backfill(cluster)
    assert [run.status for run in runs] == [DagsterRunStatus.SUCCESS] * len(PARTITIONS)
    assert all(run.tags.get("dagster-celery/task_id") for run in runs)
    written = cluster.postgres.execute("SELECT run_id FROM runs WHERE status = 'SUCCESS'", database="dagster")
    assert {run.run_id for run in runs} == {row[0] for row in written}
    assert list(cluster.home.rglob("*.db")) == []
    alone = tmp_path / "alone"
    shutil.copytree(recorded_home, alone)
    run_here(alone, "backtests", *PARTITIONS)
    assert fingerprints(cluster.home) == fingerprints(alone)
    executed = [(cluster.directory / f"{name}.log").read_text(encoding="utf-8").count("execute_job[") for name in WORKERS]
    assert all(executed), f"tasks per worker {executed}"
