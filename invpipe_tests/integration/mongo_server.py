"""A throw-away MongoDB wire server (SecantusDB) with password authentication, started, stopped and killed from Python.

It is a replica set of one member on a free loopback port. Its limits: a result is built whole before its first batch, and snapshot sessions
are accepted but not honoured. Test dependency only; nothing in the package imports it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient

PROGRAM = "secantusd-py"
START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 30.0
ADMIN, ADMIN_PASSWORD = "admin", "admin-pass"
READER, READER_PASSWORD = "shop-reader", "r3ader:p@ss/word"
DATABASE = "shop"


def program() -> str:
    """Return the server's program, beside this interpreter or in PATH."""
    beside = Path(sys.executable).with_name(PROGRAM)
    found = str(beside) if beside.is_file() else shutil.which(PROGRAM)
    if not found:
        msg = f"{PROGRAM} is missing: pip install SecantusDB (the test extra has it), or set INVPIPE_TEST_MONGO_URI for the reading tests"
        raise FileNotFoundError(msg)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class ThrowAwayMongoDB:
    """A server on a directory; use it as a context. Users: ADMIN (root), READER (reads DATABASE)."""

    host = "127.0.0.1"

    def __init__(self, directory: Path, *, options: tuple[str, ...] = ()) -> None:
        self.directory, self.options, self.port = directory, options, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ThrowAwayMongoDB:
        if not self._data.exists():
            self.create_users()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the server on its data; return when it answers."""
        self._start("--auth", *self.options)

    def stop(self) -> None:
        """Stop the server in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server (-9)."""
        self._end(signal.SIGKILL)

    def admin(self) -> MongoClient[dict[str, Any]]:
        """Return a client that may do everything; close it."""
        return MongoClient(self.host, self.port, username=ADMIN, password=ADMIN_PASSWORD, serverSelectionTimeoutMS=5000)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def create_users(self) -> None:
        """Make the data directory, without authentication, and leave the server stopped."""
        self._start()
        with MongoClient(self.host, self.port, serverSelectionTimeoutMS=5000) as client:
            client.admin.command("createUser", ADMIN, pwd=ADMIN_PASSWORD, roles=["root"])
            client.admin.command("createUser", READER, pwd=READER_PASSWORD, roles=[{"role": "read", "db": DATABASE}])
        self.stop()

    def _start(self, *options: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        address = ["--host", self.host, "--port", str(self.port), "--storage-path", str(self._data)]
        with (self.directory / "log").open("ab") as log:
            command = [program(), *address, "--log-level", "WARNING", "--enable-test-commands", *options]
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.directory, env=dict(os.environ, HOME=str(self.directory))
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.05)
        self.kill()
        msg = f"{PROGRAM} did not answer within {START_TIMEOUT_S:g} s: {(self.directory / 'log').read_text(errors='replace')[-2000:]}"
        raise RuntimeError(msg)

    def _end(self, sign: signal.Signals) -> None:
        """Signal until the process has ended: while it starts it may miss a first SIGTERM."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self._process is not None:
            self._process.send_signal(sign)
            try:
                self._process.wait(5)
                self._process = None
            except subprocess.TimeoutExpired:
                if time.monotonic() > deadline:
                    raise
