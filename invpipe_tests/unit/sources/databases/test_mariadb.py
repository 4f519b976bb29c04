"""Placeholders are replaced where SQL has them and nowhere else; parameters that cannot work are refused."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from invpipe.errors import SourceError
from invpipe.sources.databases.mariadb import MariaDBParams, bind

SPAN = {"start": datetime(2025, 3, 1), "end": datetime(2025, 3, 29, 12, 30, 0, 5)}


@pytest.mark.parametrize(
    "around",
    ["", "'12:30 :start'", "'it''s :end'", r"'\':end'", '"a:start"', "`odd :name`",
     "-- :start\n", "# :x\n", "/* :x ':*/", "a::text", "@x:=1", "'10:30'"],
)  # fmt: skip
def test_placeholders_are_replaced_outside_of_literals_and_comments(around: str) -> None:
    """Prevents a query that is changed inside of its texts, names and comments."""
    query = f"SELECT {around} a FROM t WHERE x >= :start AND x <:end"
    wanted = f"SELECT {around} a FROM t WHERE x >= TIMESTAMP'2025-03-01 00:00:00' AND x <TIMESTAMP'2025-03-29 12:30:00.000005'"
    assert bind(query, SPAN, table="t") == wanted


def test_days_are_date_literals() -> None:
    """Prevents days from being compared as texts, or one bound of a span from being left out."""
    values = SPAN | {"first_day": date(2025, 3, 1), "last_day": date(2025, 3, 28)}
    wanted = "SELECT 1 WHERE d BETWEEN DATE'2025-03-01' AND DATE'2025-03-28'"
    assert bind("SELECT 1 WHERE d BETWEEN :first_day AND :last_day", values, table="t") == wanted
    with pytest.raises(SourceError, match="its query has :end and :first_day, so rows would be read in several spans"):
        bind("SELECT 1 WHERE d >= :first_day AND d < :end", values, table="t")


def test_placeholder_twice() -> None:
    """Prevents a second use from being left over, as in a UNION."""
    assert bind(":start :start :end", SPAN, table="t").count("2025-03-01") == 2


def test_backslash_that_escapes_nothing() -> None:
    """Prevents a literal that ends in a backslash from swallowing the placeholder behind it, under NO_BACKSLASH_ESCAPES."""
    query = r"SELECT '\' WHERE x > :start AND x < :end AND y = ''"
    assert "TIMESTAMP'2025-03-01 00:00:00' AND" in bind(query, SPAN, table="t", backslash_escapes=False)
    with pytest.raises(SourceError, match="its query has no placeholder, so rows would be read"):
        bind(query, SPAN, table="t")


@pytest.mark.parametrize(
    ("query", "values", "message"),
    [
        ("SELECT :strat, :end", SPAN, r"table offers: its query has the placeholder :strat; known are :start and :end; correct it"),
        ("SELECT :start", {}, r"placeholder :start; known are none here \(the table is read whole\)"),
        (
            "SELECT 1 WHERE x >= :start",
            SPAN,
            r"table offers: its query has :start, so rows would be read in several spans; limit its time column",
        ),
        ("SELECT ':start' AND :end", SPAN, "its query has :end, so rows would be read"),
        ("SELECT :start", {"start": datetime(2025, 3, 1, tzinfo=UTC)}, r":start is 2025-03-01 00:00:00\+00:00, with a time zone; give the"),
    ],
)
def test_wrong_placeholders(query: str, values: dict[str, datetime], message: str) -> None:
    """Prevents a misspelt placeholder from reading a table whole, once per span."""
    with pytest.raises(SourceError, match=message):
        bind(query, values, table="offers")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"read_timeout_s": 5.0, "statement_timeout_s": 10.0}, "read_timeout_s is 5; give more than 10 seconds"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s is 0; give more than 0 seconds"),
        ({"reader": "fast"}, "reader is 'fast'; give one of bulk, pymysql"),
        ({"tls": False, "tls_ca": "ca.pem"}, "tls_ca is ca.pem, but tls is off; switch tls on, or leave tls_ca out"),
    ],
)
def test_wrong_parameters(wrong: dict[str, Any], message: str) -> None:
    """Prevents parameters that make every failure look like another one."""
    with pytest.raises(SourceError, match=message):
        MariaDBParams(host="db", **wrong)


def test_password_is_in_no_repr() -> None:
    """Prevents a password in a log that shows the parameters."""
    assert "hunter2" not in f"{MariaDBParams(host='db', password='hunter2')!r} {MariaDBParams(host='db', password='hunter2')}"
