"""Days, zones and shapes of tables that come from databases; the databases themselves are in `integration/`."""

from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.errors import SourceError
from invpipe.settings import Settings
from invpipe.sources.databases.shop import DatabaseShop, Span, empty_table, runs_of_days, shaped, split_by_day, wanted_types
from invpipe.sources.databases.typed import UNREADABLE_SCHEMA

UTC = ZoneInfo("UTC")
ONE = "SELECT 1"
DAY = date(2024, 3, 31)  # 23 hours in Berlin


def settings(**shop: Any) -> Settings:
    """A shop in Berlin whose tables are mapped to no matter what."""
    return Settings(
        source="databases",
        shop={"time_zone": "Europe/Berlin", "first_day": date(2024, 1, 1), **shop},
        tables={name: {"sql": ONE} for name in ("items", "sales_daily", "stock_daily", "page_views_daily")},
        extract={"days_per_query": 10},
    )


def spans(now: Settings, table: str, *days: date) -> list[Span]:
    mapped = now.tables.mapped[table]
    return DatabaseShop(now, print).spans(table, mapped, days)


def test_a_day_is_the_shops_day_in_the_time_of_the_database() -> None:
    """Prevents rows around midnight from falling into the wrong day, and a day of 23 hours from taking one of the next."""
    (span,) = spans(settings(), "sales_daily", DAY)
    assert (span.start, span.end) == (datetime(2024, 3, 30, 23), datetime(2024, 3, 31, 22))
    assert (span.first_day, span.last_day) == (DAY, DAY)


def test_stock_is_read_from_opening_to_opening() -> None:
    """Prevents bookings between midnight and the opening from counting a day late."""
    (span,) = spans(settings(opening_time="06:00"), "stock_daily", DAY)
    assert (span.start, span.end) == (datetime(2024, 3, 30, 5), datetime(2024, 3, 31, 4))


def test_spans_follow_a_table_with_a_zone_of_its_own() -> None:
    """Prevents one table in local time from being read as if it were UTC."""
    now = settings()
    mapped = now.tables.mapped["sales_daily"].model_copy(update={"time_zone": "Europe/Berlin"})
    (span,) = DatabaseShop(now, print).spans("sales_daily", mapped, [DAY])
    assert (span.start, span.end) == (datetime(2024, 3, 31), datetime(2024, 4, 1))


@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 12))
def test_runs_cover_each_day_once(days: set[int], at_most: int) -> None:
    """Prevents a day that two queries read, or none."""
    first = date(2024, 1, 1)
    covered = []
    for low, high in runs_of_days([first + timedelta(days=d) for d in days], at_most):
        run = [low + timedelta(days=k) for k in range((high - low).days + 1)]
        assert 1 <= len(run) <= at_most
        covered += run
    assert covered == sorted(first + timedelta(days=d) for d in days)


def test_lines_are_added_up_by_the_shops_day_in_any_order() -> None:
    """Prevents sums over the days of another zone, and bytes that depend on the order in which a server sends rows."""
    rows = [
        ("a", datetime(2024, 3, 30, 22, 59), 1, 0.1),
        ("a", datetime(2024, 3, 30, 23, 0), 2, 0.2),
        ("a", datetime(2024, 3, 31, 21, 59), 3, 0.3),
        ("b", datetime(2024, 3, 31, 22, 0), 4, 0.4),
    ]
    frame = pl.DataFrame(rows, schema=["sku", "at", "sales_units", "revenue"], orient="row")
    sums = shaped("sales_daily", frame, UTC, settings()).sort("sku", "day")
    assert sums.rows() == [("a", date(2024, 3, 30), 1, 0.1), ("a", DAY, 5, 0.5), ("b", date(2024, 4, 1), 4, 0.4)]
    assert shaped("sales_daily", frame.reverse(), UTC, settings()).sort("sku", "day").equals(sums)


def test_a_sum_with_an_unreadable_part_is_unknown() -> None:
    """Prevents a cell that quietly misses a line: its total is unknown, and its row has to go to quarantine."""
    at = datetime(2024, 3, 31, 12)
    rows = [("a", at, 1, 1.0), ("a", at, None, 1.0), ("b", at, 2, 1.0)]
    frame = pl.DataFrame(rows, schema=["sku", "at", "sales_units", "revenue"], orient="row")
    assert shaped("sales_daily", frame, UTC, settings()).sort("sku")["sales_units"].to_list() == [None, 2]


def test_a_day_opens_with_what_was_said_last_before_it() -> None:
    """Prevents stock of noon from counting as that of the morning, and a random choice between two levels of one moment."""
    rows = [
        ("a", datetime(2024, 3, 30, 12), 5),
        ("a", datetime(2024, 3, 31, 3, 59), 4),  # 05:59 in Berlin
        ("a", datetime(2024, 3, 31, 4, 0), 3),  # 06:00: the next opening
        ("b", datetime(2024, 3, 31, 1), 9),
        ("b", datetime(2024, 3, 31, 1), 8),
    ]
    frame = pl.DataFrame(rows, schema=["sku", "at", "on_hand_units"], orient="row")
    for given_rows in (frame, frame.reverse()):
        opened = shaped("stock_daily", given_rows, UTC, settings(opening_time="06:00")).sort("sku", "day")
        assert opened.rows() == [("a", DAY, 4), ("a", date(2024, 4, 1), 3), ("b", DAY, 8)]


def offers(*times: datetime | None) -> pl.DataFrame:
    row = {"sku": "a", "vendor": "v", "unit_cost": 1.0, "in_stock": True, "min_order_units": 1, "pack_units": 1}
    return pl.DataFrame([{**row, "observed_at": at} for at in times], schema=wanted_types("offers"))


def test_times_become_the_shops_and_repeated_hours_are_the_first() -> None:
    """Prevents offers an hour or two off, and a random choice when the clock goes back."""
    local = shaped("offers", offers(datetime(2024, 3, 31, 0, 30), datetime(2024, 3, 31, 1, 30)), UTC, settings())
    assert local["observed_at"].to_list() == [datetime(2024, 3, 31, 1, 30), datetime(2024, 3, 31, 3, 30)]
    berlin = ZoneInfo("Europe/Berlin")
    kept = shaped("offers", offers(datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30)), berlin, settings())
    assert kept["observed_at"].to_list() == [datetime(2024, 10, 27, 2, 30), None]


def test_each_day_of_the_span_comes_once_sorted_and_typed() -> None:
    """Prevents days without rows from looking like days that were never read."""
    span = Span(DAY, date(2024, 4, 2), datetime.min, datetime.max)
    unreadable = pl.DataFrame([("sales_units", 1, "x", "int")], schema=UNREADABLE_SCHEMA, orient="row")
    rows = [("b", date(2024, 4, 2), 2, 1.0), ("a", date(2024, 4, 2), 1, 1.0), ("c", None, 1, 1.0)]
    frame = pl.DataFrame(rows, schema=wanted_types("sales_daily"), orient="row")
    parts = dict(split_by_day("sales_daily", frame, unreadable, span))
    assert list(parts) == [DAY, date(2024, 4, 1), date(2024, 4, 2)]
    assert [part.frame["sku"].to_list() for part in parts.values()] == [["c"], [], ["a", "b"]]
    assert all(part.frame.schema == empty_table("sales_daily").schema for part in parts.values())
    assert [len(part.unreadable) for part in parts.values()] == [1, 0, 0]


def test_rows_of_other_days_are_refused() -> None:
    """Prevents a query without bounds from being counted once per span."""
    span = Span(DAY, DAY, datetime.min, datetime.max)
    frame = pl.DataFrame([("a", date(2024, 4, 1), 1, 1.0)], schema=wanted_types("sales_daily"), orient="row")
    with pytest.raises(SourceError, match=r"sales_daily: 1 of 1 rows lie outside 2024-03-31 \.\. 2024-03-31, first .*bound the query"):
        list(split_by_day("sales_daily", frame, pl.DataFrame(), span))


def test_a_table_that_is_not_mapped_has_no_rows() -> None:
    """Prevents an optional table from being demanded."""
    shop = DatabaseShop(settings(), print)
    assert shop.whole("vendors").frame.equals(empty_table("vendors"))
    assert [(day, part.frame.height) for day, part in shop.days("offers", [DAY])] == [(DAY, 0)]
