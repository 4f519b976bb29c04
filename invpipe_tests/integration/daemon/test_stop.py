"""Servers are stopped by SIGTERM to the process that was started, as service managers and containers do: nothing may be left behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from invpipe import cli
from invpipe.defs.run import prepare_home
from invpipe.defs.serve import LOCK_NAME, served_alone
from invpipe.settings import write_settings
from invpipe_tests.deployment import DEPLOY, unit
from invpipe_tests.integration.cluster.conftest import STOP_TIMEOUT_S, program, wait_for
from invpipe_tests.integration.mongo_server import free_port
from invpipe_tests.pipeline.conftest import surroundings

#: A variable that every process of a test inherits; /proc shows it, whatever group or session a process is in.
MARK = "STARTED_BY"
START_TIMEOUT_S = 180.0
#: What a script does to the programs it starts with `&`.
AS_A_SCRIPT_DOES = ("sh", "-c", 'trap "" INT; exec "$@"', "script")


class Started:
    """Processes that a test started, with all they have started."""

    def __init__(self, directory: Path) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.log = directory / "log"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program that writes to the log."""
        name, value = self.mark.split("=")
        with self.log.open("ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, name: value}, cwd=self.log.parent)

    def alive(self) -> dict[int, str]:
        """Return number and command of every process that lives, whoever started it."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (place / "environ").read_bytes():
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:120]
            except OSError:  # it ended meanwhile, or is not ours
                continue
        return found

    def terminate(self, process: subprocess.Popen[bytes]) -> int:
        """Send SIGTERM to one process, and return its exit code."""
        process.send_signal(signal.SIGTERM)
        return process.wait(START_TIMEOUT_S)

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        wait_for(what, ready, self.log, START_TIMEOUT_S)


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Starts programs, and ends what a failed test has left."""
    found = Started(tmp_path)
    yield found
    for pid in found.alive():
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home in which nothing has run."""
    write_settings(tmp_path / "home", embedded={"skus": 60})
    return tmp_path / "home"


def answers(port: int) -> bool:
    """Say whether the UI answers."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
            return "dagster_webserver_version" in json.load(answer)
    except (URLError, TimeoutError):
        return False


def test_ui_serves_alone_and_ends_as_a_whole(started: Started, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents two UIs that serve old and new code in turn, and servers of a script that no SIGTERM ends."""
    port, other_port = free_port(), free_port()
    process = started.start(*AS_A_SCRIPT_DOES, program("invpipe"), "ui", "--home", str(home), "--port", str(port))
    started.wait("the UI", lambda: answers(port))
    assert len(started.alive()) >= 5

    def refused(*options: str) -> str:
        with surroundings():
            assert cli.main(["ui", *options]) == 1
        return capsys.readouterr().err

    assert refused("--home", str(home), "--port", str(other_port)).startswith(
        f"invpipe: SettingsError: {home} is served already on http://127.0.0.1:{port}, process group "
    )
    assert refused("--home", f"{home}-2", "--port", str(port)) == (
        f"invpipe: SettingsError: port {port} of 127.0.0.1 cannot be had: Address already in use; "
        "stop the program that has it, or give --port another one\n"
    )
    assert started.terminate(process) == 0
    assert started.alive() == {}
    with served_alone(home / "dagster" / LOCK_NAME, home, "http://next"):
        pass
    assert "Warning" not in started.log.read_text(encoding="utf-8")


def test_services_end_as_a_whole(started: Started, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a restart of a service, or of a container, beside whose new code servers the old ones go on, and two daemons on a home."""
    container = json.loads(next(line for line in (DEPLOY / "Containerfile").read_text().splitlines() if line.startswith("CMD"))[4:])
    services = [unit(f"invpipe-{name}.service")["Service"] for name in ("webserver", "daemon")]
    lines = [service["ExecStart"].replace("${DAGSTER_HOME}", str(home / "dagster")) for service in services]
    commands = [shlex.split(line.replace("/opt/invpipe/bin/", "")) for line in lines]
    assert commands[0] == [word.replace("0.0.0.0", "127.0.0.1") for word in container]  # noqa: S104
    assert all("KillMode" not in service for service in services), "systemd's own, control-group, ends runs as well"
    port = free_port()
    with surroundings():
        prepare_home(home)
        processes = [
            started.start(*(program(word) if word.startswith("dagster-") else str(port) if word == "3000" else word for word in command))
            for command in commands
        ]
    started.wait("the UI", lambda: answers(port))
    started.wait("the daemon", lambda: b"Instance is configured with the following daemons" in started.log.read_bytes())
    with surroundings():
        assert cli.main(["ui", "--home", str(home), "--port", str(free_port())]) == 1
    assert "is served already by a daemon of its own; stop it first (systemctl stop invpipe-daemon)" in capsys.readouterr().err
    beside = started.start(*(program(word) if word.startswith("dagster-") else word for word in commands[1]))
    assert beside.wait(START_TIMEOUT_S) == 1
    assert b"flock: failed to get lock" in started.log.read_bytes()
    codes = [started.terminate(process) for process in processes]
    started.wait(f"the end of code servers within {STOP_TIMEOUT_S:g} s", lambda: not started.alive())
    assert codes == [0, 0] or codes == [-signal.SIGTERM, 0]
