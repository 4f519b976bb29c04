"""Throw-away database servers: real ones, on this machine only, for benchmarks and for tests.

Order of events: a data directory is made, the server starts on a free port of the loopback address and on a socket of its own, a database
and a read-only user with a random password are created; at the end the server is stopped and what it wrote stays in its directory, which is
the caller's to remove.

Assumes that MariaDB 10.6 or later is installed; nothing of an installed server's configuration or data is read. Limits: durability is
switched off (the data outlive ``kill -9`` of the server, not a crash of the machine); root has no password on the socket.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from invpipe.errors import SourceError

START_LIMIT_S = 60.0
STOP_LIMIT_S = 60.0
HOST = "127.0.0.1"


class ThrowAwayMariaDB:
    """A MariaDB server of one's own: started on entry, stopped on exit.

    Parameters
    ----------
    directory
        Holds data, log and process id; must exist.
    options
        Further options of ``mariadbd``, such as ``--max-allowed-packet=64M``.

    Attributes
    ----------
    host, port
        Where it listens.
    user, password, database
        A user that may only read, and the database it may read.
    socket
        Path of the socket on which root logs in without a password.

    Raises
    ------
    SourceError
        When MariaDB is not installed, or does not start; the message ends with the server's log.
    """

    def __init__(self, directory: Path, *, options: Sequence[str] = ()) -> None:
        self.directory = directory
        self.options = tuple(options)
        self.host, self.port = HOST, _free_port()
        self.user, self.password, self.database = "invpipe", secrets.token_urlsafe(18), "shop"
        self._short = tempfile.TemporaryDirectory(prefix="invpipe-")  # a socket's path may have 107 bytes at most
        self.socket = Path(self._short.name) / "s"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._install()
            self.start()
            self.execute(
                f"CREATE DATABASE {self.database} CHARACTER SET utf8mb4; "
                f"CREATE USER '{self.user}'@'{HOST}' IDENTIFIED BY '{self.password}'; "
                f"GRANT SELECT ON {self.database}.* TO '{self.user}'@'{HOST}'",
                database="mysql",
            )
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()
        self._short.cleanup()

    def start(self) -> None:
        """Start the server, again after `stop` or `kill` on the same port and data, and wait until it answers."""
        command = [
            _program("mariadbd"), "--no-defaults", *_as_root(), f"--datadir={self.directory / 'data'}", f"--socket={self.socket}",
            f"--pid-file={self.directory / 'pid'}", f"--bind-address={self.host}", f"--port={self.port}",
            "--skip-name-resolve", "--skip-log-bin", "--innodb-log-file-size=64M", "--innodb-flush-log-at-trx-commit=2",
            "--character-set-server=utf8mb4", *self.options,
        ]  # fmt: skip
        with self._log.open("ab") as output:
            self._server = subprocess.Popen(command, stdout=output, stderr=output)  # noqa: S603
        deadline = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                log = self._log.read_text(errors="replace")[-2000:]
                self.kill()
                msg = f"mariadbd did not start within {START_LIMIT_S:g} s; its log ends with:\n{log}"
                raise SourceError(msg)
            time.sleep(0.02)

    def stop(self) -> None:
        """Shut the server down in good order; nothing happens when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once, as ``kill -9`` does; nothing happens when it does not run."""
        self._end(signal.SIGKILL)

    def execute(self, sql: str, *, database: str | None = None) -> str:
        """Run statements as root and return what they print, one row per line, tabs between columns.

        Raises
        ------
        SourceError
            When a statement fails.
        """
        command = [
            _program("mariadb"),
            "--no-defaults",
            "-S",
            str(self.socket),
            "-u",
            "root",
            "--default-character-set=utf8mb4",
            "-N",
            "-B",
        ]
        run = subprocess.run([*command, database or self.database], input=sql, capture_output=True, text=True, check=False)  # noqa: S603
        if run.returncode:
            msg = f"the throw-away MariaDB refused a statement: {run.stderr[max(run.stderr.find('ERROR'), 0) :].strip()}"
            raise SourceError(msg)
        return run.stdout

    @property
    def _log(self) -> Path:
        return self.directory / "log"

    def _install(self) -> None:
        command = [
            _program("mariadb-install-db"), "--no-defaults", *_as_root(), "--auth-root-authentication-method=normal", "--skip-test-db",
            "--skip-name-resolve", "--innodb-log-file-size=64M", f"--datadir={self.directory / 'data'}",
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if run.returncode:
            msg = f"mariadb-install-db failed: {(run.stdout + run.stderr)[-2000:]}"
            raise SourceError(msg)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1", database="mysql") == "1\n"
        except SourceError:
            return False

    def _end(self, how: signal.Signals) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(how)
        try:
            server.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _as_root() -> list[str]:
    """Return the option without which a server refuses to run as root."""
    return ["--user=root"] if os.name == "posix" and os.geteuid() == 0 else []


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _program(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")
    if path is None:
        msg = (
            f"{name} is not installed; install MariaDB's server and client (Debian: apt-get install --no-install-recommends mariadb-server)"
        )
        raise SourceError(msg)
    return path
