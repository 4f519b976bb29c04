"""Spans of days come out of one snapshot, with the bounds they say, and a read that is given up leaves nothing behind."""

import time
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta

import pytest

from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.errors import SourceError
from invpipe.sources.databases.mariadb import MariaDBParams, MariaDBReader

QUERY = "SELECT id, at FROM log WHERE at >= :start AND at < :end ORDER BY at"
SPANS = [{"start": datetime(2025, 3, 1) + timedelta(days=i), "end": datetime(2025, 3, 2) + timedelta(days=i)} for i in range(3)]


@pytest.fixture
def log(server: ThrowAwayMariaDB) -> Iterator[ThrowAwayMariaDB]:
    """A table with a row at the beginning and one at the last microsecond of three days."""
    server.execute(
        "CREATE OR REPLACE TABLE log (id INT, at DATETIME(6), KEY (at)) ENGINE=InnoDB; INSERT INTO log VALUES "
        "(0,'2025-02-28 23:59:59.999999'),(1,'2025-03-01'),(2,'2025-03-01 23:59:59.999999'),"
        "(3,'2025-03-02'),(4,'2025-03-02 23:59:59.999999'),"
        "(5,'2025-03-03'),(6,'2025-03-03 23:59:59.999999'),(7,'2025-03-04')"
    )
    yield server
    server.execute("DROP TABLE log")


def connections(server: ThrowAwayMariaDB) -> int:
    return int(server.execute(f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{server.user}'"))


def wait_for_no_connection(server: ThrowAwayMariaDB, limit_s: float = 5.0) -> None:
    deadline = time.monotonic() + limit_s
    while connections(server):
        assert time.monotonic() < deadline, "a connection stays open"
        time.sleep(0.02)


def test_spans_are_half_open(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a row at midnight from being read in two spans or in none."""
    assert [text.frame["id"].to_list() for text in reader.spans(QUERY, SPANS, table="log")] == [["1", "2"], ["3", "4"], ["5", "6"]]
    wait_for_no_connection(log)


def test_span_without_rows(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents an empty day from ending the read."""
    days = [{"start": datetime(2024, 1, 1), "end": datetime(2024, 1, 2)}, *SPANS]
    assert [len(text.frame) for text in reader.spans(QUERY, days, table="log")] == [0, 2, 2, 2]


def test_all_spans_are_of_one_snapshot(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a backfill that mixes the state of its first hour with that of its last one."""
    found = []
    for i, text in enumerate(reader.spans(QUERY, SPANS, table="log")):
        found.append(text.frame["id"].to_list())
        if i == 0:
            log.execute(
                "INSERT INTO log VALUES (90,'2025-03-02 12:00:00'); DELETE FROM log WHERE id = 5; UPDATE log SET id = 40 WHERE id = 4"
            )
    assert found == [["1", "2"], ["3", "4"], ["5", "6"]]
    assert [text.frame["id"].to_list() for text in reader.spans(QUERY, SPANS, table="log")] == [["1", "2"], ["3", "90", "40"], ["6"]]


def test_snapshot_is_taken_before_the_first_span(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a snapshot that begins with its first query only, under whatever isolation the server has as its default."""
    log.execute("SET GLOBAL tx_isolation = 'READ-COMMITTED'")
    try:
        spans = reader.spans(QUERY, SPANS, table="log")
        assert next(spans).frame["id"].to_list() == ["1", "2"]
        log.execute("DELETE FROM log")
        assert next(spans).frame["id"].to_list() == ["3", "4"]
        spans.close()  # type: ignore[attr-defined]
    finally:
        log.execute("SET GLOBAL tx_isolation = 'REPEATABLE-READ'")


def test_given_up_between_spans(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a snapshot that stays open, and holds the server's undo log, after its reader has failed."""
    spans = reader.spans(QUERY, SPANS, table="log")
    next(spans)
    assert connections(log) == 1
    spans.close()  # type: ignore[attr-defined]
    wait_for_no_connection(log)


def test_given_up_within_a_result(server: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents draining a result of hours after an error in its first rows."""
    query = "SELECT IF(seq = 5, UNHEX('FF'), 'ok') AS a FROM seq_1_to_4000000000"
    begun = time.monotonic()
    with pytest.raises(SourceError, match="column 'a', row 5: 1 bytes that are no UTF-8 text"):
        reader.whole(query, table="log")
    wait_for_no_connection(server)
    assert time.monotonic() - begun < 10


def test_read_only(log: ThrowAwayMariaDB, params: Callable[..., MariaDBParams]) -> None:
    """Prevents a mapped query from changing the shop's data, even where its user may."""
    log.execute("CREATE OR REPLACE USER writer@'127.0.0.1' IDENTIFIED BY 'pw'; GRANT ALL ON shop.* TO writer@'127.0.0.1'")
    writer = MariaDBReader(params(user="writer", password="pw"))
    with pytest.raises(
        SourceError, match=r"1792: Cannot execute statement in a READ ONLY transaction\); a table's query must be one SELECT"
    ):
        writer.whole("DELETE FROM log RETURNING id", table="log")
    assert log.execute("SELECT COUNT(*) FROM log") == "8\n"


def test_spans_by_day(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a table kept by day from losing the last day of each span, whose bounds are both included."""
    query = "SELECT id FROM log WHERE CAST(at AS DATE) BETWEEN :first_day AND :last_day ORDER BY at"
    days = [{"first_day": date(2025, 3, 1), "last_day": date(2025, 3, 2)}, {"first_day": date(2025, 3, 3), "last_day": date(2025, 3, 3)}]
    assert [text.frame["id"].to_list() for text in reader.spans(query, days, table="log")] == [["1", "2", "3", "4"], ["5", "6"]]


def test_literals_under_no_backslash_escapes(log: ThrowAwayMariaDB, reader: MariaDBReader) -> None:
    """Prevents a backslash from hiding a placeholder on a server whose sql_mode reads it as a plain sign."""
    query = QUERY.replace("id,", r"CONCAT(id, '\') AS id,")
    log.execute("SET GLOBAL sql_mode = 'NO_BACKSLASH_ESCAPES'")
    try:
        assert [text.frame["id"].to_list() for text in reader.spans(query, SPANS[:1], table="log")] == [["1\\", "2\\"]]
    finally:
        log.execute("SET GLOBAL sql_mode = DEFAULT")
