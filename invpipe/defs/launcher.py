"""The launcher of runs on one machine: Dagster's own, and it notices a run whose process is gone.

Dagster's launcher hears of a killed run from the code server that started it. Where that one was killed as well (out of memory, a reboot,
`kill -9` of the whole service), nobody tells: the run counts as started until its maximum time is over, holds one of the few places for
runs, and everything that waits for it waits. Here run monitoring asks every `poll_interval_seconds` whether the run's process lives; one
that does not is marked as failed, with the reason in its log, and run retries start it again.

A code server is believed that a run works, except where it shares this machine's processes (a socket) and the process is gone: its thread
that buries runs ends with the first outage of the storage, and from then on it takes every dead run for a living one.

A process is known by its number and by the time it was started, because numbers come again. Limit: runs on this machine; a run whose code
server is elsewhere and does not answer is left to its maximum time.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

#: Tag of a run without a code server: the machine whose process executes it.
HOST_TAG = "invpipe/host"
#: Two clocks that tell when a process was started differ by no more, seconds.
CLOCK_SECONDS = 5.0
#: A code server that lives tells of a dead run after half a second.
LAST_WORDS_SECONDS = 2.0
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class WatchfulRunLauncher(DefaultRunLauncher):
    """Launches runs through the code server, and says whether their processes live."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Whether run monitoring may ask; it may."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return whether the process of a started run lives: by the number in the run's log where that is of this machine."""
        server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
        here = server.get("host", "localhost") in LOCAL_HOSTS if server else run.tags.get(HOST_TAG) == socket.gethostname()
        found = self._process_of(run) if here else None
        if found is None or lives(*found):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if server and _executes(server, run.run_id):
            if server.get("socket") is None:  # perhaps of a container whose processes have other numbers
                return CheckRunHealthResult(WorkerStatus.RUNNING)
            time.sleep(LAST_WORDS_SECONDS)  # run monitoring disregards what is said here of a run that has an end by then
        said = f"process {found[0]} of the run is gone without a word: it was killed, or the machine went down"
        return CheckRunHealthResult(WorkerStatus.FAILED, said)

    def _process_of(self, run: dg.DagsterRun) -> tuple[int, float] | None:
        """Return number and time (seconds since 1970) of the first process the run's log names."""
        for entry in self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
            pid = entry.get_dagster_event().engine_event_data.metadata.get("pid")
            if pid is not None:
                return int(str(pid.value)), entry.timestamp
        return None


def _executes(server: dict[str, str | int | bool], run_id: str) -> bool:
    """Say whether a code server answers and executes the run."""
    address = {name: server.get(name) for name in ("port", "socket", "host")}
    client = DagsterGrpcClient(**address, use_ssl=bool(server.get("use_ssl")))  # type: ignore[arg-type]
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id))
    except DagsterUserCodeUnreachableError:
        return False
    return deserialize_value(answer, CanCancelExecutionResult).can_cancel


def lives(pid: int, seen: float) -> bool:
    """Say whether the process that had this number at a time lives.

    Parameters
    ----------
    pid
        Its number.
    seen
        Seconds since 1970 at which it lived; a process with its number that was started later is another one.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, perhaps with a number that came again: the time says it
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("uptime").is_file():
        return True  # a system without /proc
    try:
        state, *numbers = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return False  # it ended meanwhile
    started = time.time() - uptime + int(numbers[18]) / os.sysconf("SC_CLK_TCK")
    return state != "Z" and started <= seen + CLOCK_SECONDS
