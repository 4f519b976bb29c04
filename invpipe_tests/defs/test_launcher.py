"""The launcher that notices a run whose process is gone; a real daemon is killed in invpipe_tests/integration/daemon."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.events import EngineEventData
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.dagster_run import DagsterRun
from dagster._core.storage.tags import GRPC_INFO_TAG

from invpipe.defs.launcher import HOST_TAG, WatchfulRunLauncher, lives
from invpipe_tests.defs.test_deploy import DEPLOY

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def health(instance: dg.DagsterInstance, pid: int | None, **tags: str) -> CheckRunHealthResult:
    """Ask for the health of a started run whose log names a process."""
    run = instance.add_run(DagsterRun(job_name="daily", status=dg.DagsterRunStatus.STARTED, tags=tags))
    if pid is not None:
        instance.report_engine_event("Started process for run", run, EngineEventData.in_process(pid))
    launcher = WatchfulRunLauncher()
    launcher.register_instance(instance)
    assert launcher.supports_check_run_worker_health
    return launcher.check_run_worker_health(run)


def test_process_is_known_by_number_and_time(gone: int) -> None:
    """Prevents a number that came again, or a process that nobody has buried, from passing for a run that works."""
    now = time.time()
    assert lives(os.getpid(), now)
    assert not lives(os.getpid(), 1.0)  # this process is younger than that: another one had the number
    assert not lives(gone, now)
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # until it ends; it has no parent that waits for it yet
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)
        assert not lives(process.pid, now)


def test_run_without_its_process_is_told_of(instance: dg.DagsterInstance, gone: int) -> None:
    """Prevents a run that counts as started for an hour after its process was killed, of the command line or of a killed code server."""
    here = {HOST_TAG: socket.gethostname()}
    told = (WorkerStatus.FAILED, f"process {gone} of the run is gone without a word: it was killed, or the machine went down")
    assert health(instance, gone, **here)[:2] == told
    assert health(instance, gone, **{GRPC_INFO_TAG: '{"host": "localhost", "socket": "/nowhere/code-server"}'})[:2] == told
    assert health(instance, os.getpid(), **here).status == WorkerStatus.RUNNING


def test_code_server_that_never_buries_is_not_believed(instance: dg.DagsterInstance, gone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a run that counts as started for ever because its code server lost, in an outage, the thread that notices."""
    monkeypatch.setattr("invpipe.defs.launcher._executes", lambda server, run_id: True)
    monkeypatch.setattr("invpipe.defs.launcher.LAST_WORDS_SECONDS", 0.0)
    beside = {GRPC_INFO_TAG: '{"host": "localhost", "socket": "/tmp/code-server"}'}
    container = {GRPC_INFO_TAG: '{"host": "localhost", "port": 4000}'}
    assert health(instance, gone, **beside).status == WorkerStatus.FAILED
    assert health(instance, os.getpid(), **beside).status == WorkerStatus.RUNNING
    assert health(instance, gone, **container).status == WorkerStatus.RUNNING


@pytest.mark.parametrize("tags", [{}, {HOST_TAG: "another-machine"}, {GRPC_INFO_TAG: '{"host": "192.0.2.1", "port": 9}'}])
def test_runs_elsewhere_are_left_alone(
    instance: dg.DagsterInstance, gone: int, tags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a run on another machine from being failed because this machine has no process of that number."""
    monkeypatch.setattr("invpipe.defs.launcher._executes", lambda server, run_id: False)  # its server does not answer
    assert health(instance, gone, **tags).status == WorkerStatus.RUNNING


def test_run_that_names_no_process_is_left_alone(instance: dg.DagsterInstance) -> None:
    """Prevents a run from being failed in the moment between its start and its first words."""
    assert health(instance, None, **{HOST_TAG: socket.gethostname()}).status == WorkerStatus.RUNNING


@pytest.mark.parametrize("file", [CHECKOUT / "dagster.yaml", DEPLOY / "dagster.yaml"])
def test_both_configurations_use_it(file: Path, tmp_path: Path) -> None:
    """Prevents a configuration without it, whose killed runs hold their places until their maximum time."""
    shutil.copyfile(file, tmp_path / "dagster.yaml")
    values = yaml.safe_load(file.read_text())
    values.pop("storage", None)  # a Postgres is not everywhere
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(values))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, WatchfulRunLauncher)
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
