"""A real MariaDB for the tests of this folder, and a second one that may be killed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pymysql
import pytest

from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.sources.databases.mariadb import MariaDBParams, MariaDBReader, ReaderKind
from invpipe_tests.integration.certificate import self_signed

OPTIONS = ("--max-allowed-packet=64M",)


def params_of(server: ThrowAwayMariaDB, **changes: Any) -> MariaDBParams:
    """Parameters that reach a server, with time-outs short enough for a test."""
    params = MariaDBParams(
        host=server.host, port=server.port, user=server.user, password=server.password, database=server.database, tls=False,
        connect_timeout_s=5.0, read_timeout_s=20.0, statement_timeout_s=15.0,
    )  # fmt: skip
    return replace(params, **changes)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowAwayMariaDB]:
    """A running server; tests make tables of their own."""
    with ThrowAwayMariaDB(tmp_path_factory.mktemp("mariadb"), options=OPTIONS) as server:
        yield server


@pytest.fixture
def victim(server: ThrowAwayMariaDB) -> Iterator[ThrowAwayMariaDB]:
    """The same server, for a test that stops it; it runs again afterwards."""
    yield server
    server.kill()
    server.start()


@pytest.fixture
def params(server: ThrowAwayMariaDB) -> Callable[..., MariaDBParams]:
    """Makes parameters that reach the server, with changes."""
    return lambda **changes: params_of(server, **changes)


@pytest.fixture(params=["bulk", "pymysql"])
def reader(request: pytest.FixtureRequest, server: ThrowAwayMariaDB) -> MariaDBReader:
    """A reader of each kind in turn."""
    kind: ReaderKind = request.param
    return MariaDBReader(params_of(server, reader=kind))


@pytest.fixture
def plain(server: ThrowAwayMariaDB) -> Iterator[Any]:
    """A default pymysql connection as root, against which results are compared."""
    connection = pymysql.connect(unix_socket=str(server.socket), user="root", database=server.database, charset="utf8mb4", autocommit=True)
    with connection:
        yield connection


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThrowAwayMariaDB, Path]]:
    """A server with a certificate of its own, and the file of its authority."""
    home = tmp_path_factory.mktemp("mariadb-tls")
    certificate, key = self_signed(home, "throw-away")
    options = (f"--ssl-cert={certificate}", f"--ssl-key={key}")
    with ThrowAwayMariaDB(home, options=options) as server:
        yield server, certificate
