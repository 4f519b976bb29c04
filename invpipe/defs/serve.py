"""`invpipe ui`: one Dagster UI with its daemon per home and port, and no process of it is left behind.

`dagster dev` starts a web server, a daemon, a code server and a process per run. A signal to the first of them leaves runs and their code
server behind, and all of them ignore SIGTERM where a script started them with `&`. Two such sets on one home start every scheduled run
twice, with the code each of them has loaded. So the servers get a process group of their own, which is ended as a whole, and hold a lock in
the home; the lock goes with the last process that holds it, however that ends. The daemon's unit of systemd takes the same lock.

Limit: where `invpipe ui` itself is killed (SIGKILL), its servers live on; the lock says so to the next one, and how to stop them.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from invpipe.defs.run import prepare_home
from invpipe.errors import SettingsError

LOCK_NAME = ".ui-lock"
#: What ends the servers, and how long each may take, seconds: an interrupt lets a run write how it ended.
ENDING = ((signal.SIGINT, 60.0), (signal.SIGKILL, 10.0))
POLL_S = 0.05
#: Stands in the lock's file between the address and the number of the group.
GROUP = ", process group "
#: `dagster dev` tells its user to call another command; users of invpipe do not call it.
QUIET = "ignore:Function `dev_command` is superseded"


def serve_ui(home: Path, host: str, port: int, say: Callable[[str], object]) -> int:
    """Serve the Dagster UI with its daemon until a signal ends it, and return the exit code.

    Parameters
    ----------
    home
        Directory of all state.
    host, port
        Where the UI is to answer.
    say
        Told where it is.

    Raises
    ------
    SettingsError
        Another `invpipe ui` or a daemon serves the home, or the port cannot be had.
    """
    dagster_home = prepare_home(home)
    with served_alone(dagster_home / LOCK_NAME, home, f"http://{host}:{port}") as lock:
        require_port(host, port)
        say(f"Dagster UI on http://{host}:{port}, state in {home}; stop with Ctrl-C")
        dev = ["-m", "dagster", "dev", "-m", "invpipe.definitions", "--host", host, "--port", str(port)]
        return run_group([sys.executable, "-W", QUIET, *dev], lock)


@contextmanager
def served_alone(file: Path, home: Path, url: str) -> Iterator[IO[str]]:
    """Hold the lock of a home, which says who serves it.

    Raises
    ------
    SettingsError
        Somebody holds it.
    """
    with file.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            msg = f"{home} is served already {_by_whom(lock.read())}: two of them would start every scheduled run twice, with two codes"
            raise SettingsError(msg) from None
        lock.truncate(0)
        lock.write(url)
        lock.flush()
        yield lock


def _by_whom(said: str) -> str:
    """Return who holds a lock whose file says this, and how to stop it: the last `invpipe ui` where its group lives, else a daemon."""
    place, _, group = said.partition(GROUP)
    try:
        os.killpg(int(group), 0)
    except PermissionError:
        pass  # another user's
    except (ValueError, ProcessLookupError):
        return "by a daemon of its own; stop it first (systemctl stop invpipe-daemon)"
    return f"on {place}{GROUP}{group}; open that, or stop it first (Ctrl-C there, or kill -INT -- -{group})"


def require_port(host: str, port: int) -> None:
    """Refuse a port that cannot be listened on.

    Raises
    ------
    SettingsError
        It is taken, or not ours to take.
    """
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the web server does: what has just ended is no hindrance
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        msg = f"port {port} of {host} cannot be had: {reason}; stop the program that has it, or give --port another one"
        raise SettingsError(msg) from None


def run_group(command: Sequence[str], lock: IO[str]) -> int:
    """Run a program in a process group of its own until it ends or a signal comes, then end the whole group.

    Parameters
    ----------
    command
        The program.
    lock
        A locked file that the program is to hold as well.

    Returns
    -------
    int
        The program's exit code; 0 after a signal.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # A script that starts this with `&` lets it ignore SIGINT; the children of a process with a handler have the default again.
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it: the terminal may go
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        process = subprocess.Popen(command, process_group=0, pass_fds=[lock.fileno()])  # noqa: S603 - the arguments are ours
        try:
            lock.write(f"{GROUP}{process.pid}")
            lock.flush()
            return process.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            end_group(process)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End every process of the group of its first one and wait until none is there; a further signal ends them at once."""
    for number, patience_s in ENDING:
        with suppress(KeyboardInterrupt):
            end = time.monotonic() + patience_s
            try:
                os.killpg(process.pid, number)
                while time.monotonic() < end:
                    process.poll()  # takes the first one from the process table
                    os.killpg(process.pid, 0)
                    time.sleep(POLL_S)
            except ProcessLookupError:
                return
