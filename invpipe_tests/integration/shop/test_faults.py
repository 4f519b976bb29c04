"""Faults of a night, against real servers: a clear error or a retry that helps, never half a day, nothing counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from invpipe.defs.provenance import frame_hash
from invpipe.errors import ConnectionLostError, SourceError
from invpipe.settings import write_settings
from invpipe_tests.integration.shop.conftest import Databases, Home

#: The sales query, a twentieth of a second slower per span, so that a fault meets it half-way.
SLOW = """
SELECT p.sku, o.placed_at AS at, l.quantity AS sales_units, l.quantity * l.unit_price - l.discount AS revenue
FROM (SELECT SLEEP(0.05)) AS slow, orders o JOIN order_lines l USING (order_id) JOIN products p USING (product_id)
WHERE o.placed_at >= :start AND o.placed_at < :end AND o.status <> 'cancelled'
"""


@pytest.fixture
def slow_home(home: Home) -> Home:
    """A home whose sales come slowly, day by day."""
    write_settings(home.path, tables={"sales_daily": {"sql": SLOW}}, extract={"days_per_query": 1, "retries": 8})
    return home


@pytest.fixture
def start(slow_home: Home) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts an extract of the sales in a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def begin(*more: str, table: str = "sales_daily") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "invpipe_tests.integration.shop.extract_process", str(slow_home.path), table]
        days = [slow_home.days[0].isoformat(), slow_home.days[-1].isoformat()]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen([*command, *days, *more], cwd=Path(__file__).parents[3], **pipes)
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def wait_for_days(home: Home, n: int, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while len(home.records("sales_daily")) < n:
        assert time.monotonic() < deadline, f"{len(home.records('sales_daily'))} days after {limit_s:g} s"
        time.sleep(0.02)


def wait_for_no_reader(databases: Databases, limit_s: float = 10.0) -> None:
    """An open snapshot would keep its locks: nobody could alter the table."""
    count = f"SELECT COUNT(*) FROM information_schema.processlist WHERE user = '{databases.mariadb.user}'"
    deadline = time.monotonic() + limit_s
    while databases.mariadb.execute(count) != "0\n":
        assert time.monotonic() < deadline, "a reader's connection stays open"
        time.sleep(0.02)


def assert_complete(home: Home) -> None:
    """All days are there, as they were loaded."""
    found = pl.concat([home.raw("sales_daily", day) for day in home.days]).sort("sku", "day")
    expected = home.databases.shop.tables.sales_daily.select(found.columns)
    assert_frame_equal(found, expected, check_exact=False, abs_tol=1e-9, rel_tol=0)
    for day, record in home.records("sales_daily").items():
        assert frame_hash(home.raw("sales_daily", day)) == record.content_hash


def test_server_killed_and_restarted_during_a_backfill(slow_home: Home, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Prevents a backfill that has to be watched: it goes on by itself, in a new snapshot, and no day is half or doubled."""
    process = start()
    wait_for_days(slow_home, 5)
    slow_home.databases.mariadb.kill()
    time.sleep(0.5)
    slow_home.databases.mariadb.start()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output[-3000:]
    assert "Retry 1 of 8 in 0.2 s" in output
    assert_complete(slow_home)


def test_run_killed_half_way_and_started_again(slow_home: Home, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Prevents a day that looks whole and is not: after kill -9 every day is there with its record, or not at all."""
    process = start()
    wait_for_days(slow_home, 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = slow_home.records("sales_daily")
    assert 5 <= len(done) < len(slow_home.days)
    for day, record in done.items():
        assert frame_hash(slow_home.raw("sales_daily", day)) == record.content_hash
    again = start()
    output, _ = again.communicate(timeout=120)
    assert again.returncode == 0, output[-3000:]
    assert_complete(slow_home)


def test_two_runs_of_the_same_days_at_once(slow_home: Home, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Prevents two nights that overlap from tearing each other's files or counting rows twice."""
    processes = [start(), start()]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output[-3000:]
    assert_complete(slow_home)
    assert slow_home.leftovers() == []


def test_full_disk(slow_home: Home, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Prevents half a file, and a message that leaves the operator guessing; a limit on file sizes stands for the full disk."""
    output, _ = start("1000").communicate(timeout=120)
    assert "StorageError" in output
    assert "cannot be written" in output
    assert "Make room or mend the rights" in output
    assert slow_home.records("sales_daily") == {}
    assert slow_home.leftovers() == []


def test_no_password_in_any_file_or_output(
    slow_home: Home, start: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a secret in the event log, the metadata, an artifact or a message - in a run that works and in one that fails."""
    outputs = [start(table=table).communicate(timeout=120)[0] for table in ("stock_daily", "offers")]
    secrets = [os.environ["INVPIPE_MARIADB__PASSWORD"], os.environ["INVPIPE_MONGODB__PASSWORD"]]
    for name in ("MARIADB", "MONGODB"):
        monkeypatch.setenv(f"INVPIPE_{name}__PASSWORD", f"wr0ng-{name}")
        secrets.append(f"wr0ng-{name}")
    outputs += [start(table=table).communicate(timeout=120)[0] for table in ("stock_daily", "offers")]
    assert "1045" in outputs[2]
    assert "correct user and password" in outputs[2]
    assert "Check user, password and auth_source" in outputs[3]
    files = [path.read_bytes() for path in slow_home.path.rglob("*") if path.is_file()]
    assert len(files) > 100
    for secret in secrets:
        assert all(secret.encode() not in content for content in files)
        assert all(secret not in output for output in outputs)


@pytest.mark.parametrize(
    ("sql", "back", "message"),
    [
        (
            "RENAME TABLE order_lines TO order_lines_2",
            "RENAME TABLE order_lines_2 TO order_lines",
            r"table sales_daily: .*1146.*correct the table in the query of sales_daily",
        ),
        (
            "ALTER TABLE order_lines RENAME COLUMN quantity TO pieces",
            "ALTER TABLE order_lines RENAME COLUMN pieces TO quantity",
            r"table sales_daily: .*1054.*quantity.*correct the column in the query of sales_daily",
        ),
        (
            "ALTER TABLE order_lines MODIFY quantity VARCHAR(20) NOT NULL; UPDATE order_lines SET quantity = CONCAT(quantity, ' pc')",
            "UPDATE order_lines SET quantity = REPLACE(quantity, ' pc', ''); ALTER TABLE order_lines MODIFY quantity INT UNSIGNED NOT NULL",
            r"table sales_daily, column 'sales_units': none of [\d,]+ values can be read as Int32, first '\d+ pc'; .*varchar",
        ),
    ],
)
def test_changed_schema_is_named_and_leaves_the_old_days(
    home: Home, restored: Callable[[str, str], None], sql: str, back: str, message: str
) -> None:
    """Prevents a renamed or retyped column from emptying the history: the error says where, and what was there stays."""
    first, last = home.days[3], home.days[6]
    home.extract("sales_daily", first, last)
    before = {day: record.content_hash for day, record in home.records("sales_daily").items()}
    restored(sql, back)
    with pytest.raises(SourceError, match=message) as held:
        home.extract("sales_daily", first, last)
    wait_for_no_reader(home.databases)  # although the error, with its traceback, is still there
    assert held.value.args
    assert {day: record.content_hash for day, record in home.records("sales_daily").items()} == before


def test_statement_timeout(slow_home: Home) -> None:
    """Prevents a query that blocks the night, and retries of one that will time out again."""
    write_settings(slow_home.path, mariadb={"statement_timeout_s": 0.02})
    with pytest.raises(SourceError, match=r"table sales_daily.*1969.*raise statement_timeout_s \(now 0.02\), read shorter spans"):
        slow_home.extract("sales_daily", slow_home.days[0], slow_home.days[0])


def test_absent_servers(home: Home) -> None:
    """Prevents a night that ends without saying which server was not there, after the retries that the settings allow."""
    write_settings(home.path, mariadb={"port": 1}, mongodb={"port": 1, "connect_timeout_s": 0.5}, extract={"retries": 1})
    with pytest.raises(ConnectionLostError, match=r"table stock_daily: MariaDB at 127\.0\.0\.1:1 cannot be reached .*start it, or correct"):
        home.extract("stock_daily", home.days[0], home.days[1])
    with pytest.raises(ConnectionLostError, match=r"MongoDB at 127\.0\.0\.1:1 is absent"):
        home.extract("offers", home.days[0], home.days[1])
    assert home.records("stock_daily") == {}


def test_mongodb_killed_and_restarted_during_a_backfill(home: Home, databases: Databases) -> None:
    """Prevents lost offers: the collection is read anew after the server has come back."""
    write_settings(home.path, extract={"days_per_query": 1, "retries": 8})
    databases.mongodb.stop()
    back = threading.Timer(1.0, databases.mongodb.start)
    back.start()
    try:
        said = home.extract("offers", home.days[0], home.days[-1])
    finally:
        back.join()
    assert any("raw_offers" in line for line in said)
    found = pl.concat([home.raw("offers", day) for day in home.days]).sort("sku", "vendor", "observed_at")
    assert_frame_equal(found, databases.shop.tables.offers.select(found.columns))


def test_a_query_without_bounds_is_refused(home: Home) -> None:
    """Prevents a mapping that forgot its bounds from being counted once per span."""
    write_settings(home.path, tables={"sales_daily": {"sql": "SELECT sku, NOW() AS at, 1 AS sales_units, 1 AS revenue FROM products"}})
    with pytest.raises(SourceError, match="no placeholder, so rows would be read in several spans"):
        home.extract("sales_daily", home.days[0], home.days[1])
