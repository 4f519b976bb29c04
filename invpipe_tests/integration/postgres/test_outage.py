"""Postgres is away for longer than Dagster waits for it, while a daemon runs and a run is in the middle."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from pathlib import Path

from dagster import DagsterRunStatus

from invpipe_tests.deployment import unit
from invpipe_tests.integration.daemon.conftest import Daemon, partition_of, reached
from invpipe_tests.integration.postgres.conftest import ASSET, DAYS, Deployment

ENTRY = "invpipe_tests.integration.postgres.asked"
#: What Dagster raises when it has asked six times, over about 11 s.
GIVEN_UP = b"too many retries for DB connection"
#: The thread of the code server that would have written down that a run's process was killed; it is not started again.
BURIED = b"Exception in thread grpc-server-cleanup"
TOLD = "of the run is gone without a word"
#: Days by when their runs are asked for.
BEFORE, DURING, AFTER = DAYS
SUCCESS, FAILURE = DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE


def ask(deployment: Deployment, day: str) -> None:
    """Ask the daemon for a run of a day."""
    place = deployment.home.path / "asked"
    place.mkdir(exist_ok=True)
    (place / day).touch()


def gave_up(log: bytes) -> bool:
    """Say whether Dagster does not ask any more, in the daemon and in the code server."""
    return GIVEN_UP in log and BURIED in log


def has_ended(daemon: Daemon) -> bool:
    """Say whether every day is there and no run is open."""
    runs = daemon.runs()
    made = {partition_of(run) for run in runs if run.status == SUCCESS}
    return made == set(DAYS) and all(run.is_finished and not run.is_complete_and_waiting_to_retry for run in runs)


def test_daemon_carries_on_after_a_long_outage(deployment: Deployment, tmp_path: Path) -> None:
    """Prevents a daemon that dies with its database or runs a night twice after it, and a run that is lost without a word."""
    home, server = deployment.home, deployment.server
    config = home.path / "dagster" / "dagster.yaml"
    config.write_text(config.read_text().replace("poll_interval_seconds: 15", "poll_interval_seconds: 1"))
    with deployment.instance() as instance:
        daemon = Daemon(home, instance, tmp_path / "log", ENTRY)
        hold = daemon.hold(ASSET, f"{BEFORE}.parquet")
        with daemon.running() as process:
            ask(deployment, BEFORE)
            daemon.wait("a run in the middle", lambda: reached(hold))
            worker = daemon.pid_of(daemon.runs()[0])
            server.kill()
            os.kill(worker, signal.SIGKILL)  # nobody can write down that it is gone
            hold.unlink()
            ask(deployment, DURING)
            daemon.wait("the end of Dagster's patience", lambda: gave_up(daemon.log.read_bytes()))
            server.start()
            ask(deployment, AFTER)
            daemon.wait("the end of all runs", lambda: has_ended(daemon))
            assert process.poll() is None, "the daemon lives on by itself"
        runs = defaultdict(list)
        for run in daemon.runs():
            runs[partition_of(run)].append(run.status)
        assert runs == {BEFORE: [FAILURE, SUCCESS], DURING: [SUCCESS], AFTER: [SUCCESS]}
        lost, again = daemon.runs("extract", dagster__partition=BEFORE)
        assert TOLD in daemon.said(lost), daemon.said(lost)
        assert again.parent_run_id == lost.run_id
    assert deployment.secret_is_in(daemon.log.read_text(errors="replace")) == []
    assert unit("invpipe-daemon.service")["Service"]["Restart"] == "always", "and if it dies, it is started again"
