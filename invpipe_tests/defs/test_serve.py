"""The servers of `invpipe ui` as a group of processes, with programs that are quicker than they are."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from invpipe.defs import serve
from invpipe.errors import SettingsError

#: What a script starts with `&` ignores an interrupt.
STUBBORN = "sleep 600 &"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "ENDING", ((signal.SIGINT, 0.3), (signal.SIGKILL, 10.0)))


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """A suite under `nohup` ignores SIGHUP, as `invpipe ui` then does; the test of it would wait ten minutes for its program."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def group_in(lock: Path) -> int:
    return int(lock.read_text().rpartition(" ")[2])


def test_nothing_of_a_program_that_ended_lives_on(tmp_path: Path) -> None:
    """Prevents a daemon that goes on starting runs after its web server has failed, and a failure that counts as a good end."""
    file = tmp_path / "lock"
    with serve.served_alone(file, tmp_path, "http://here:1") as lock:
        assert serve.run_group(["sh", "-c", f"{STUBBORN} exit 3"], lock) == 3
    with pytest.raises(ProcessLookupError):
        os.killpg(group_in(file), 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_the_whole_group(tmp_path: Path, number: signal.Signals) -> None:
    """Prevents servers that outlive the command that started them, as all did that ignored the signal."""
    file = tmp_path / "lock"
    before = signal.getsignal(number)
    assert run_until(number, file) == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(group_in(file), 0)
    assert signal.getsignal(number) == before


def test_lock_lives_as_long_as_the_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a second daemon on a home whose `invpipe ui` was killed while its servers live on; they are named, to be stopped."""
    file, left = tmp_path / "lock", list[subprocess.Popen[bytes]]()
    monkeypatch.setattr(serve, "end_group", left.append)  # a command that is killed ends nothing
    assert run_until(signal.SIGTERM, file) == 0
    group = group_in(file)
    said = rf"home is served already on http://here:1, process group {group}; open that, or stop it first .* kill -INT -- -{group}"
    try:
        with pytest.raises(SettingsError, match=said), serve.served_alone(file, Path("home"), "http://here:2"):
            pass
    finally:
        os.killpg(group, signal.SIGKILL)
        left[0].wait()
    wait_until_free(file)
    assert file.read_text() == "http://here:2"


def run_until(number: signal.Signals, file: Path) -> int:
    """Run a stubborn program until a signal comes to this process; return the code."""

    def send() -> None:
        while not file.exists() or "group" not in file.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    with serve.served_alone(file, file.parent, "http://here:1") as lock:
        return serve.run_group(["sh", "-c", f"{STUBBORN} wait"], lock)


def wait_until_free(file: Path) -> None:
    """Take the lock as soon as the last of the killed processes is gone."""
    while True:
        with suppress(SettingsError), serve.served_alone(file, Path("home"), "http://here:2"):
            return
        time.sleep(0.01)
