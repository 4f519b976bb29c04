"""A throw-away PostgreSQL with password authentication, started, killed and started again from Python.

It listens on a free loopback port and on no socket, with a data directory of its own; nothing of an installed cluster is read or started.
PostgreSQL refuses to run as root: root hands the data directory to `nobody` and starts the server as that user. Nothing waits for the
disk: what was committed outlives `kill`, not a crash of the machine. The kernel ends the server with the thread that started it, so a
killed test run leaves none.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2

from invpipe_tests.integration.mongo_server import free_port

START_TIMEOUT_S, STOP_TIMEOUT_S = 60.0, 30.0
UNPRIVILEGED = "nobody"
OPTIONS = {"fsync": "off", "full_page_writes": "off", "unix_socket_directories": "", "shared_buffers": "32MB"}


def program(name: str) -> str:
    """Return a program of the newest packaged PostgreSQL, which Debian keeps outside of PATH, else the one in PATH."""
    packaged = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    found = max(map(str, packaged), key=lambda path: float(path.split("/")[4]), default=None) or shutil.which(name)
    if not found:
        msg = f"{name} is missing: install PostgreSQL's server (Debian: apt-get install --no-install-recommends postgresql)"
        raise FileNotFoundError(msg)
    return found


class ThrowAwayPostgres:
    """A server of one's own; use it as a context. Its only user may do everything, with a password that has to be quoted in a URL."""

    host, user = "127.0.0.1", "dagster"

    def __init__(self) -> None:
        self.password = f"{secrets.token_urlsafe(9)}@/:%{secrets.token_urlsafe(9)}"
        self.port = free_port()
        # Not below pytest's own directory, which only the user of the test run may enter.
        self._directory = tempfile.TemporaryDirectory(prefix="invpipe-postgres-")
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ThrowAwayPostgres:
        try:
            self._install()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._directory.cleanup()

    def address(self, shipped: str) -> str:
        """Return the address of the shipped environment file with this server's password, host and port in their places."""
        place = "CHANGE-ME@127.0.0.1:5432"
        if place not in shipped:
            msg = f"{shipped} has no {place} to be filled in"
            raise ValueError(msg)
        return shipped.replace(place, f"{quote(self.password, safe='')}@{self.host}:{self.port}")

    def execute(self, sql: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement, and return its rows where it has any."""
        with closing(self._connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start the server, again after `kill` on the same port and data, and wait until it answers."""
        options = {**OPTIONS, "listen_addresses": self.host, "port": str(self.port)}
        settings = [f"--{name}={value}" for name, value in options.items()]
        with self._log.open("ab") as log:
            command = ["setpriv", "--pdeathsig", "QUIT", *self._as_user(), program("postgres"), "-D", str(self._data), *settings]
            self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._directory.name)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > deadline:
                self.kill()
                msg = f"postgres did not start within {START_TIMEOUT_S:g} s; its log ends with:\n{self._log.read_text()[-2000:]}"
                raise RuntimeError(msg)
            time.sleep(0.02)

    def kill(self) -> None:
        """End the server at once, in the midst of its clients' work and without a checkpoint; nothing happens when it does not run.

        SIGQUIT and not SIGKILL: the processes of its connections go with it, which would hold the data directory after a SIGKILL.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(signal.SIGQUIT)
        try:
            server.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    @property
    def runs(self) -> bool:
        """Whether it was started and not killed."""
        return self._server is not None

    @property
    def _data(self) -> Path:
        return Path(self._directory.name) / "data"

    @property
    def _log(self) -> Path:
        return Path(self._directory.name) / "log"

    def _as_user(self) -> Sequence[str]:
        if os.geteuid() != 0:
            return ()
        entry = pwd.getpwnam(UNPRIVILEGED)
        return ("--reuid", str(entry.pw_uid), "--regid", str(entry.pw_gid), "--clear-groups")

    def _install(self) -> None:
        """Make the data directory; the password goes through a file that only the server's user can read."""
        directory, secret = Path(self._directory.name), Path(self._directory.name) / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(UNPRIVILEGED)
            for path in (directory, secret):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        settings = ["--auth=scram-sha-256", f"--username={self.user}", f"--pwfile={secret}", "--no-sync", "--locale=C", "--encoding=UTF8"]
        command = ["setpriv", *self._as_user(), program("initdb"), "-D", str(self._data), *settings]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
        secret.unlink()
        if run.returncode:
            msg = f"initdb failed: {(run.stdout + run.stderr)[-2000:]}"
            raise RuntimeError(msg)

    def _connect(self, database: str) -> Any:
        address = {"host": self.host, "port": self.port, "connect_timeout": 5}
        connection = psycopg2.connect(**address, user=self.user, password=self.password, dbname=database)
        connection.autocommit = True
        return connection

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1") == [(1,)]
        except psycopg2.OperationalError:
            return False
