"""A cluster on this machine, with the configuration of invpipe/examples/celery: real Redis and Postgres, two Celery workers, the daemon."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

import invpipe
from invpipe.defs.build import build_definitions
from invpipe.defs.partitions import VARIANTS
from invpipe.defs.run import materialise, prepare_home, progress_logger
from invpipe.settings import BacktestWindow, Settings, write_settings
from invpipe_tests.deployment import environment as shipped_environment
from invpipe_tests.integration.postgres.server import ThrowAwayPostgres

EXAMPLE = Path(invpipe.__file__).parent / "examples" / "celery"
WINDOW = BacktestWindow(name="september", start=date(2017, 9, 1), end=date(2017, 9, 24))
#: Consecutive variants, as a run of one process wants them; none of them needs a trained forecast.
PARTITIONS = tuple(f"{variant}|{WINDOW.name}" for variant in VARIANTS[:4])
WORKERS = ("one", "two")
START_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 30.0


def program(name: str) -> str:
    """Return a program of this environment, or of the machine."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        msg = f"{name} is missing: .ci/run installs what the tests need"
        raise FileNotFoundError(msg)
    return found


@contextmanager
def process(log: Path, *command: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a group of its own and end the group, which holds the process's own children."""
    with log.open("wb") as out:
        running = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=env)
    try:
        yield running
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(running.pid, number)
                running.wait(STOP_TIMEOUT_S if number == signal.SIGTERM else None)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def wait_for(what: str, ready: Callable[[], bool], log: Path, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until `ready()` holds; the message of a failure ends with the log's last lines."""
    end = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() > end:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
            msg = f"{what} did not come within {timeout_s:.0f} s; the end of {log}:\n" + "\n".join(lines)
            raise TimeoutError(msg)
        time.sleep(0.2)


def answers(port: int) -> bool:
    """Say whether Redis answers a PING."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running Redis that keeps nothing on disk."""
    directory = tmp_path_factory.mktemp("redis")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    options = ("--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(directory))
    with process(directory / "log", program("redis-server"), *options):
        wait_for("Redis", lambda: answers(port), directory / "log")
        yield port


@pytest.fixture(scope="session")
def postgres() -> Iterator[ThrowAwayPostgres]:
    """A running Postgres with an empty database for the runs."""
    with ThrowAwayPostgres() as server:
        server.execute("CREATE DATABASE dagster")
        yield server


@dataclass(frozen=True)
class Cluster:
    """A home that the daemon and the workers serve, its runs in `postgres`; `env` is their environment, logs lie in `directory`."""

    home: Path
    postgres: ThrowAwayPostgres
    env: dict[str, str]
    directory: Path


def environment(home: Path, redis_port: int, postgres: ThrowAwayPostgres) -> dict[str, str]:
    """Return the environment in which a home belongs to the cluster."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "INVPIPE_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{redis_port}/0",
        "CELERY_RESULT_URL": f"redis://127.0.0.1:{redis_port}/1",
        "DAGSTER_POSTGRES_URL": postgres.address(shipped_environment()["DAGSTER_POSTGRES_URL"]),
    }


@pytest.fixture(scope="session")
def recorded_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with everything the backtests of a small shop read, made in this process; tests must not change it."""
    home = tmp_path_factory.mktemp("recorded") / "home"
    write_settings(
        home,
        embedded={"skus": 150},
        forecast={"window_days": (7,)},
        backtest={"windows": [WINDOW], "warm_up_days": 3, "lead_time_seeds": 2},
        threads=1,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
            patch.setenv(name, "")  # so that it is put back, or away, at the end
        prepare_home(home)
        run_here(home, "extract", *days(home))
        run_here(home, "validate_tables_again")
        run_here(home, "record", WINDOW.name)
    return home


def days(home: Path) -> list[str]:
    """Return the keys of all days of the home."""
    keys = build_definitions(str(home)).resolve_asset_graph().get(dg.AssetKey("raw_sales_daily")).partitions_def
    assert keys is not None
    return list(keys.get_partition_keys())


def run_here(home: Path, job: str, *partitions: str) -> None:
    """Run a job for what is stale in this process, with an instance in memory."""
    loggers = {"progress": progress_logger(lambda _: None)}
    definitions = dg.Definitions.merge(build_definitions(str(home)), dg.Definitions(loggers=loggers))
    with dg.DagsterInstance.ephemeral() as instance:
        materialise(definitions, instance, Settings.load(home), job, partitions)


@pytest.fixture
def cluster(recorded_home: Path, redis_port: int, postgres: ThrowAwayPostgres, tmp_path: Path) -> Iterator[Cluster]:
    """A copy of the home, served by the daemon and two workers."""
    home = tmp_path / "home"
    shutil.copytree(recorded_home, home)
    shutil.rmtree(home / "dagster")
    (home / "dagster").mkdir()
    shutil.copyfile(EXAMPLE / "dagster.yaml", home / "dagster" / "dagster.yaml")
    env = environment(home, redis_port, postgres)
    subprocess.run([program("dagster"), "instance", "info"], env=env, check=True, capture_output=True)  # makes the storage
    with ExitStack() as running:
        for name in WORKERS:
            command = (
                program("dagster-celery"),
                "worker",
                "start",
                "-A",
                "dagster_celery.app",
                "-y",
                str(EXAMPLE / "worker.yaml"),
                "-n",
                name,
            )
            running.enter_context(process(tmp_path / f"{name}.log", *command, "--", "--concurrency=1", env=env))
        daemon = (program("dagster-daemon"), "run", "-m", "invpipe.definitions")
        running.enter_context(process(tmp_path / "daemon.log", *daemon, env=env))
        for name in WORKERS:
            log = tmp_path / f"{name}.log"
            wait_for(f"worker {name}", lambda log=log: b" ready." in log.read_bytes(), log)
        yield Cluster(home, postgres, env, tmp_path)
