"""Every fault ends in an error that says what to do, is tried again only where that helps, and shows no password."""

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.errors import ConnectionLostError, SourceError
from invpipe.sources.databases.mariadb import MariaDBParams, MariaDBReader
from invpipe.sources.databases.retries import with_retries
from invpipe_tests.integration.mariadb.conftest import params_of

#: Sends rows from its first moment on, and for minutes.
ENDLESS = "SELECT seq, REPEAT('x', 100) AS x FROM seq_1_to_4000000000"
SPANS = [{"start": datetime(2025, 3, 1) + timedelta(days=i), "end": datetime(2025, 3, 2) + timedelta(days=i)} for i in range(4)]


def shown(error: BaseException) -> str:
    """Everything of an error that a log could show."""
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None:
        chain.append(cause)
    return "".join(traceback.format_exception(error)) + "".join(f"{e!r} {e.args} {vars(e)}" for e in chain)


@contextmanager
def while_reading(server: ThrowAwayMariaDB, act: Callable[[int], object]) -> Iterator[None]:
    """Run `act` with the connection's number some time after its query has begun to send rows."""
    failed: list[BaseException] = []

    def wait_and_act() -> None:
        find = f"SELECT id FROM information_schema.processlist WHERE user = '{server.user}' AND info LIKE '%seq_1_to_4000000000%'"
        try:
            deadline = time.monotonic() + 10
            while not (found := server.execute(find).split()):
                assert time.monotonic() < deadline, "the query never ran"
                time.sleep(0.02)
            time.sleep(0.3)
            act(int(found[0]))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert not failed, failed


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "password": ({"password": "wrong-secret"}, "SELECT 1 AS a", r"1045: Access denied .*\); correct user and password, and see from which"),
    "password beyond Latin-1": ({"password": "wrong-€-secret"}, "SELECT 1 AS a", r"1045: Access denied"),
    "user": ({"user": "nobody"}, "SELECT 1 AS a", r"1045: Access denied"),
    "database": ({"database": "other"}, "SELECT 1 AS a", r"1044: Access denied for user .* to database 'other'\); grant the user SELECT"),
    "time zone": ({"session_time_zone": "Mars/Olympus"}, "SELECT 1 AS a", r"1298: Unknown or incorrect time zone: .*\); give session"),
    "table": ({}, "SELECT 1 FROM missing", r"1146: Table 'shop.missing' doesn't exist\); correct the table in the query of sales_daily"),
    "column": ({}, "SELECT revenu FROM seq_1_to_3", r"1054: Unknown column 'revenu' .*\); correct the column in the query of sales_daily"),
    "syntax": ({}, "SELEC 1", r"1064: You have an error in your SQL syntax.*\); correct the SQL of the query of sales_daily"),
    "two statements": ({}, "SELECT 1 AS a; SELECT 2 AS b", r"1064: You have an error in your SQL syntax"),
    "grant": ({}, "SELECT * FROM mysql.user", r"114[23]: .* denied .*; grant the user SELECT on"),
    "no rows": ({}, "SET @a = 1", r"the query gives no rows; a table's query must be one SELECT"),
    "two results": ({}, "CALL two_results()", r"the query gives more than one result; a table's query must be one SELECT"),
    "column twice": ({}, "SELECT 1 AS a, 2 AS b, 3 AS a", r"gives column 'a' twice \(1 such: \['a'\]\); name each column once, with AS"),
    "number of another kind": ({}, "SELECT 1 AS a WHERE 1 = (SELECT 1 UNION SELECT 2)", r"1242: Subquery returns more than 1 row\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["bulk", "pymysql"])
@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_and_not_tried_again(server: ThrowAwayMariaDB, what: str, kind: str) -> None:
    """Prevents an error that names neither table nor cure, hides behind retries, or shows a password."""
    server.execute(
        "DELIMITER //\nCREATE OR REPLACE PROCEDURE two_results() BEGIN SELECT 1 AS a; SELECT 2 AS a; END//\n"
        "GRANT EXECUTE ON shop.* TO invpipe@'127.0.0.1'//"
    )
    changes, query, message = WRONG[what]
    params = params_of(server, reader=kind, **changes)
    tries = []

    def work() -> object:
        tries.append(1)
        return MariaDBReader(params).whole(query, table="sales_daily")

    with pytest.raises(SourceError, match=f"table sales_daily.*127.0.0.1:{server.port}.*{message}") as caught:
        with_retries(work, retries=3, wait_s=0.0, log=print)
    assert not isinstance(caught.value, ConnectionLostError)
    assert len(tries) == 1
    assert params.password not in shown(caught.value) + repr(params)
    assert "€" not in shown(caught.value)


def test_server_absent(params: Callable[..., MariaDBParams]) -> None:
    """Prevents a server that is still starting from failing the night's run: it is tried again, then named."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    absent, log = params(port=port), []
    message = f"table items: MariaDB at 127.0.0.1:{port} cannot be reached .*refused.*; start it, or correct host, port and firewall"
    with pytest.raises(ConnectionLostError, match=message) as caught:
        with_retries(lambda: MariaDBReader(absent).whole("SELECT 1 AS a", table="items"), retries=2, wait_s=0.01, log=log.append)
    assert [line[-23:] for line in log] == ["Retry 1 of 2 in 0.01 s.", "Retry 2 of 2 in 0.02 s."]
    assert absent.password not in shown(caught.value) + "".join(log)


def test_server_that_says_nothing(params: Callable[..., MariaDBParams]) -> None:
    """Prevents waiting for the time-out of a query for a server that does not even greet."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        begun = time.monotonic()
        with pytest.raises(ConnectionLostError, match=r"no connection, or it was lost \(2013: .*timed out"):
            MariaDBReader(params(port=mute.getsockname()[1], connect_timeout_s=0.3)).whole("SELECT 1 AS a", table="items")
        assert time.monotonic() - begun < 3


def test_query_over_its_time(params: Callable[..., MariaDBParams]) -> None:
    """Prevents half a table where the server stops a query that has sent rows already."""
    for kind in ("bulk", "pymysql"):
        reader = MariaDBReader(params(reader=kind, statement_timeout_s=0.4))
        with pytest.raises(
            SourceError, match=r"1969: .*\); raise statement_timeout_s \(now 0.4\), read shorter spans, or index the"
        ) as caught:
            reader.whole(ENDLESS, table="sales_daily")
        assert not isinstance(caught.value, ConnectionLostError)


@pytest.mark.parametrize("kind", ["bulk", "pymysql"])
def test_silent_server_counts_as_lost(victim: ThrowAwayMariaDB, kind: str) -> None:
    """Prevents waiting for ever for a server that has vanished without a word."""
    pid = int((victim.directory / "pid").read_text())
    reader = MariaDBReader(params_of(victim, reader=kind, statement_timeout_s=1.9, read_timeout_s=2.0))
    frozen = while_reading(victim, lambda _: os.kill(pid, signal.SIGSTOP))
    with pytest.raises(ConnectionLostError, match="table sales_daily.*lost.*timed out"), frozen:
        reader.whole(ENDLESS, table="sales_daily")


def test_killed_query(server: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents half a table, or starting again what an administrator has stopped on purpose."""
    message = r"1317: .*\); somebody stopped the query on the server \(KILL QUERY\)"
    stopped = while_reading(server, lambda number: server.execute(f"KILL QUERY {number}"))
    with pytest.raises(SourceError, match=message) as caught, stopped:
        reader.whole(ENDLESS, table="sales_daily")
    assert not isinstance(caught.value, ConnectionLostError)


def test_killed_connection(server: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents half a table when the connection is cut in the middle of a day."""
    message = r"table sales_daily at 127.0.0.1:.*lost.*; see the server's log where it happens again"
    killed = while_reading(server, lambda number: server.execute(f"KILL {number}"))
    with pytest.raises(ConnectionLostError, match=message), killed:
        reader.whole(ENDLESS, table="sales_daily")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_server_that_ends_in_the_middle(victim: ThrowAwayMariaDB, reader: MariaDBReader, how: str) -> None:
    """Prevents half a table when the server crashes or shuts down, and an error that is not tried again."""
    with pytest.raises(ConnectionLostError, match="table sales_daily"), while_reading(victim, lambda _: getattr(victim, how)()):
        reader.whole(ENDLESS, table="sales_daily")


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_server_restarted_during_a_backfill(victim: ThrowAwayMariaDB, reader: MariaDBReader, how: str) -> None:
    """Prevents rows counted twice or missing: the retry begins at the first span, in a new snapshot."""
    victim.execute(
        "CREATE OR REPLACE TABLE moved (id INT, at DATETIME); "
        "INSERT INTO moved SELECT seq, '2025-03-01' + INTERVAL (seq * 3 DIV 100) DAY + INTERVAL seq SECOND FROM seq_1_to_120"
    )
    tries, log = [], []

    def work() -> list[str]:
        tries.append(1)
        found: list[str] = []
        for text in reader.spans("SELECT id FROM moved WHERE at >= :start AND at < :end", SPANS, table="sales_daily"):
            found += text.frame["id"].to_list()
            if len(tries) == 1 and len(found) > 40:
                getattr(victim, how)()
        return found

    def restart(line: str) -> None:
        log.append(line)
        victim.start()

    found = with_retries(work, retries=3, wait_s=0.01, log=restart)
    assert sorted(map(int, found)) == list(range(1, 121))
    assert len(tries) == 2
    assert len(log) == 1
    assert "table sales_daily" in log[0]
    assert log[0].endswith("Retry 1 of 3 in 0.01 s.")


@pytest.mark.parametrize("kind", ["bulk", "pymysql"])
def test_tls(tls_server: tuple[ThrowAwayMariaDB, Path], kind: str) -> None:
    """Prevents plain text on the wire where TLS was asked for, and rows lost in its records."""
    server, authority = tls_server
    reader = MariaDBReader(params_of(server, reader=kind, tls=True, tls_ca=authority))
    cipher = "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
    found = reader.whole(f"SELECT seq, ({cipher}) AS c FROM seq_1_to_60000", table="items").frame
    assert found["seq"].to_list() == [str(i) for i in range(1, 60_001)]
    assert found["c"].unique().to_list() not in ([""], [None])


@pytest.mark.parametrize("kind", ["bulk", "pymysql"])
def test_server_that_ends_in_the_middle_of_tls(tls_server: tuple[ThrowAwayMariaDB, Path], kind: str) -> None:
    """Prevents a crash of the server from being reported as a wrong certificate, which is not tried again."""
    server, authority = tls_server
    reader = MariaDBReader(params_of(server, reader=kind, tls=True, tls_ca=authority))
    killed = while_reading(server, lambda _: server.kill())
    with pytest.raises(ConnectionLostError, match="table sales_daily.*lost"), killed:
        reader.whole(ENDLESS, table="sales_daily")
    server.start()


def test_tls_that_does_not_hold(server: ThrowAwayMariaDB, tls_server: tuple[ThrowAwayMariaDB, Path], tmp_path: Path) -> None:
    """Prevents a password from going to a server that is not the one it says it is, or in plain text."""
    secure, authority = tls_server
    cases: list[tuple[MariaDBParams, str]] = [
        (params_of(secure, tls=True), r"TLS with MariaDB at .* failed \(.*certificate verify failed.*set tls_ca .*now those of the system"),
        (params_of(secure, tls=True, tls_ca=authority, host="localhost"), r"TLS with .*localhost.* failed \(.*[Hh]ostname mismatch"),
        (params_of(server, tls=True, tls_ca=authority), r"2026: SSL is required but the server doesn't support it\); switch TLS on at"),
        (params_of(server, tls=True, tls_ca=tmp_path / "no"), r"tls_ca is .*no, which cannot be read .*; give a PEM file"),
    ]
    for params, message in cases:
        with pytest.raises(SourceError, match=message) as caught:
            MariaDBReader(params).whole("SELECT 1 AS a", table="items")
        assert not isinstance(caught.value, ConnectionLostError)
        assert params.password not in shown(caught.value)


def test_missing_server_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents tests and benchmarks that fail without saying what to install."""
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(SourceError, match=r"mariadb-install-db is not installed; install MariaDB's server and client \(Debian: apt-get"):
        ThrowAwayMariaDB(tmp_path).__enter__()


def test_server_that_does_not_start(tmp_path: Path) -> None:
    """Prevents waiting a minute for a server that has refused its options, and an error without its log."""
    with pytest.raises(SourceError, match=r"mariadbd did not start within .* its log ends with:(?s:.*)no-such-option"):
        ThrowAwayMariaDB(tmp_path, options=["--no-such-option"]).__enter__()
