"""Every fault ends in a clear error, and a new start where that helps."""

from __future__ import annotations

import logging
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from invpipe.errors import ConnectionLostError, SourceError
from invpipe.sources.databases.mongodb import CollectionMapping, MongoDBParams, MongoDBReader
from invpipe.sources.databases.retries import with_retries
from invpipe_tests.integration.certificate import self_signed
from invpipe_tests.integration.mongo_server import DATABASE, READER_PASSWORD, ThrowAwayMongoDB, free_port
from invpipe_tests.integration.mongodb.conftest import Served, reader_of

DAY = datetime(2025, 3, 1)
SPANS = [(DAY + timedelta(days=k), DAY + timedelta(days=k + 1)) for k in range(5)]
MAPPING = CollectionMapping("views", {"sku": "sku", "at": "at"}, time_field="at")
WANTED = {"sku": pl.String(), "at": pl.Datetime("us")}
ROWS_PER_DAY = 24
WRONG_PASSWORD = "wrong-pass"


@pytest.fixture
def shop(server: ThrowAwayMongoDB) -> ThrowAwayMongoDB:
    with server.admin() as client:
        client[DATABASE].views.insert_many([{"sku": f"S{k}", "at": DAY + timedelta(hours=k)} for k in range(5 * ROWS_PER_DAY)])
    return server


def read(params: MongoDBParams) -> list[int]:
    return [part.frame.height for part in MongoDBReader(params).spans(MAPPING, WANTED, SPANS)]


def error_of(work: Callable[[], Any]) -> SourceError:
    """The error of some work, once its whole traceback is known to hold no password."""
    with pytest.raises(SourceError) as caught:
        work()
    whole = "".join(traceback.format_exception(caught.value))
    for secret in (READER_PASSWORD, "r3ader", WRONG_PASSWORD, "p%40ss"):
        assert secret not in whole
    return caught.value


@pytest.fixture
def failing(shop: ThrowAwayMongoDB) -> Iterator[Callable[..., None]]:
    """Let a command of the server fail."""
    with shop.admin() as client:

        def fail(command: str, **how: Any) -> None:
            client.admin.command(
                "configureFailPoint", "failCommand", mode=how.pop("mode", {"times": 1}), data={"failCommands": [command], **how}
            )

        yield fail


def test_wrong_password_is_said_at_once(shop: ThrowAwayMongoDB) -> None:
    """Prevents retries with a password that the server will never take, and the password in a message."""
    error = error_of(lambda: read(replace(reader_of(shop), password=WRONG_PASSWORD)))
    assert not isinstance(error, ConnectionLostError)
    assert "Check user, password and auth_source" in str(error)


def test_missing_credentials_and_rights_are_said(shop: ThrowAwayMongoDB) -> None:
    """Prevents a user without rights from reading an empty shop."""
    assert "Grant this user the role 'read'" in str(error_of(lambda: read(replace(reader_of(shop), user=None, password=None))))
    other = str(error_of(lambda: read(replace(reader_of(shop), database="other"))))
    assert "Grant this user the role 'read'" in other or "has no collection views" in other


def test_absent_server_is_a_lost_connection() -> None:
    """Prevents a server that is being restarted from ending a run without a retry."""
    params = MongoDBParams("127.0.0.1", "shop", free_port(), "me", READER_PASSWORD, connect_timeout_s=0.5)
    start = time.monotonic()
    error = error_of(lambda: read(params))
    assert isinstance(error, ConnectionLostError)
    assert f"MongoDB at 127.0.0.1:{params.port} is absent, no answer within 0.5 s" in str(error)
    assert "Connection refused. Check host, port, tls, and that it runs." in str(error)
    assert time.monotonic() - start < 5


def test_server_killed_between_spans(shop: ThrowAwayMongoDB) -> None:
    """Prevents a table that ends with the last span before a fault."""
    spans = MongoDBReader(reader_of(shop)).spans(MAPPING, WANTED, SPANS)
    assert next(spans).frame.height == ROWS_PER_DAY
    shop.kill()
    assert isinstance(error_of(lambda: list(spans)), ConnectionLostError)


@pytest.mark.parametrize("reader", ["bulk", "pymongo"])
def test_connection_cut_within_a_span(shop: ThrowAwayMongoDB, failing: Callable[..., None], reader: Any) -> None:
    """Prevents half a span from passing as a whole one."""
    failing("getMore", closeConnection=True)
    error = error_of(lambda: read(replace(reader_of(shop), batch_documents=5, reader=reader)))
    assert isinstance(error, ConnectionLostError)
    assert f"the connection to MongoDB at 127.0.0.1:{shop.port} was lost while reading views" in str(error)


@pytest.mark.parametrize("code", [43, 237, 11600, 246])
def test_lost_cursor_is_retried(shop: ThrowAwayMongoDB, failing: Callable[..., None], code: int) -> None:
    """Prevents a cursor or snapshot the server has dropped from ending a run that a new start would save."""
    failing("getMore", errorCode=code)
    logged: list[str] = []
    params = replace(reader_of(shop), batch_documents=5)
    heights = with_retries(lambda: read(params), retries=1, wait_s=0.01, log=logged.append)
    assert heights == [ROWS_PER_DAY] * 5
    assert [line.endswith("Retry 1 of 1 in 0.01 s.") for line in logged] == [True]


def test_server_restarted_is_read_again_from_the_start(shop: ThrowAwayMongoDB) -> None:
    """Prevents a restart during a backfill from losing or doubling rows."""
    params, logged = replace(reader_of(shop), connect_timeout_s=0.4), list[str]()
    restart = threading.Timer(0.8, shop.start)

    def work() -> list[int]:
        heights = []
        for part in MongoDBReader(params).spans(MAPPING, WANTED, SPANS):
            heights.append(part.frame.height)
            if len(heights) == 2 and not logged and not restart.is_alive():
                shop.kill()
                restart.start()
        return heights

    heights = with_retries(work, retries=5, wait_s=0.3, log=logged.append)
    restart.join()
    assert heights == [ROWS_PER_DAY] * 5
    assert logged
    assert all("Retry" in line and READER_PASSWORD not in line for line in logged)


def test_retries_end(caplog: pytest.LogCaptureFixture) -> None:
    """Prevents a run that waits for a server for ever."""
    params, logged = MongoDBParams("127.0.0.1", "shop", free_port(), connect_timeout_s=0.2), list[str]()
    error = error_of(lambda: with_retries(lambda: read(params), retries=2, wait_s=0.01, log=logged.append))
    assert isinstance(error, ConnectionLostError)
    assert len(logged) == 2
    assert not caplog.records


def test_query_time_out_is_no_lost_connection(shop: ThrowAwayMongoDB, failing: Callable[..., None]) -> None:
    """Prevents a query that is too slow from being asked again and again."""
    failing("aggregate", errorCode=50)
    error = error_of(lambda: read(reader_of(shop)))
    assert not isinstance(error, ConnectionLostError)
    assert "a query on views took longer than 20 s" in str(error)
    assert "raise read_timeout_s" in str(error)


def test_silent_server_counts_as_lost(shop: ThrowAwayMongoDB, failing: Callable[..., None]) -> None:
    """Prevents a run that hangs for ever on a connection nobody answers."""
    failing("aggregate", blockConnection=True, blockTimeMS=4000)
    params = replace(reader_of(shop), connect_timeout_s=0.5, read_timeout_s=0.5)
    assert isinstance(error_of(lambda: read(params)), ConnectionLostError)


def test_snapshot_too_old_says_what_to_do(shop: ThrowAwayMongoDB, failing: Callable[..., None]) -> None:
    """Prevents a backfill that outlives the server's snapshot from being retried for ever."""
    failing("aggregate", errorCode=239)
    error = error_of(lambda: read(reader_of(shop)))
    assert not isinstance(error, ConnectionLostError)
    assert "raise minSnapshotHistoryWindowInSeconds" in str(error)


def test_stand_alone_server_is_read_and_said_to_lack_snapshots(template: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prevents a reader that needs a replica set, and spans of different states that nobody was told of."""
    shutil.copytree(template, tmp_path / "data")
    with ThrowAwayMongoDB(tmp_path, options=("--standalone",)) as server:
        with server.admin() as client:
            client[DATABASE].views.insert_one({"sku": "A", "at": DAY})
        with caplog.at_level(logging.WARNING, "invpipe"):
            assert read(reader_of(server)) == [1, 0, 0, 0, 0]
        assert [record.message for record in caplog.records] == [
            f"MongoDB at 127.0.0.1:{server.port} is a stand-alone server: spans are read one after another, without a common snapshot."
        ]
        assert len(MongoDBReader(reader_of(server)).check(MAPPING, WANTED)) == 2


@pytest.fixture
def encrypted(template: Path, tmp_path: Path) -> Iterator[tuple[ThrowAwayMongoDB, Path]]:
    """A server with TLS, and its certificate."""
    certificate, key = self_signed(tmp_path, "127.0.0.1")
    shutil.copytree(template, tmp_path / "data")
    with ThrowAwayMongoDB(tmp_path, options=("--tls-cert-file", str(certificate), "--tls-key-file", str(key))) as started:
        yield started, certificate


def test_tls_with_a_trusted_certificate_reads(encrypted: tuple[ThrowAwayMongoDB, Path]) -> None:
    """Prevents a connection that cannot be encrypted."""
    server, certificate = encrypted
    error = error_of(lambda: read(replace(reader_of(server), tls=True, tls_ca=certificate)))
    assert "has no collection views" in str(error)


def test_untrusted_certificate_is_said_at_once(encrypted: tuple[ThrowAwayMongoDB, Path]) -> None:
    """Prevents a wrong certificate from being retried as a server that is absent, and from being accepted."""
    server, _ = encrypted
    error = error_of(lambda: read(replace(reader_of(server), tls=True)))
    assert not isinstance(error, ConnectionLostError)
    assert "its certificate is not trusted" in str(error)
    assert "Check tls and tls_ca" in str(error)


def test_plain_connection_to_a_server_with_tls_is_said(encrypted: tuple[ThrowAwayMongoDB, Path]) -> None:
    """Prevents credentials in the clear, and an error that does not name the setting."""
    server, _ = encrypted
    assert "Check host, port, tls" in str(error_of(lambda: read(reader_of(server))))


def test_tls_to_a_server_without_it_is_said(shop: ThrowAwayMongoDB) -> None:
    """Prevents a wrong tls setting from being retried as a server that is absent."""
    error = error_of(lambda: read(replace(reader_of(shop), tls=True)))
    assert "tls" in str(error)


def test_missing_certificate_file_is_said(shop: ThrowAwayMongoDB, tmp_path: Path) -> None:
    """Prevents a traceback from inside the driver for a misspelt path."""
    error = error_of(lambda: read(replace(reader_of(shop), tls=True, tls_ca=tmp_path / "no.pem")))
    assert "tls_ca" in str(error)


def test_password_shows_nowhere(served: Served) -> None:
    """Prevents a password in a log line that shows the parameters or the reader."""
    with served.params.client() as client:
        texts = [repr(served.params), str(served.params), repr(MongoDBReader(served.params)), repr(client)]
    for text in texts:
        assert READER_PASSWORD not in text
        assert "r3ader" not in text
