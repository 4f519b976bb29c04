"""A text becomes the value it is in the wanted type, or null and counted; a column that has changed its type is an error."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.errors import SourceError
from invpipe.sources.databases.typed import UNREADABLE_SCHEMA, TextFrame, Typed, typed

TIME = pl.Datetime("us")


def read(values: list[str | None], dtype: pl.DataType, database_type: str = "varchar") -> Typed:
    frame = pl.DataFrame({"a": values}, schema={"a": pl.String})
    return typed(TextFrame(frame, {"a": database_type}), {"a": dtype}, table="t")


def value_of(text: str, dtype: pl.DataType) -> object:
    """What one text becomes; beside it stands one that any type reads, so that the column has not changed its type."""
    right = "2025-01-01" if dtype.is_temporal() else "1"
    return read([right, text], dtype).frame["a"][1]


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (pl.Int32(), "0", 0),
        (pl.Int32(), "-12", -12),
        (pl.Int32(), "0005", 5),
        (pl.Int32(), "5.", 5),
        (pl.Int32(), "-5.000000000000000000000000000000", -5),
        (pl.Int32(), "2147483647", 2**31 - 1),
        (pl.Int32(), "-2147483648.0", -(2**31)),
        (pl.Int64(), "9223372036854775807", 2**63 - 1),
        (pl.Int64(), "-9223372036854775808", -(2**63)),
        (pl.Float64(), "0.1", 0.1),
        (pl.Float64(), "-1.7976931348623157e308", -1.7976931348623157e308),
        (pl.Float64(), "5e-324", 5e-324),
        (pl.Float64(), "12345678901234567890123456789012345.123456789012345678901234567890", 1.234567890123457e34),
        (pl.Boolean(), "0", False),
        (pl.Boolean(), "1", True),
        (pl.Date(), "2025-03-02", date(2025, 3, 2)),
        (pl.Date(), "2024-02-29", date(2024, 2, 29)),
        (pl.Date(), "0001-01-01", date(1, 1, 1)),
        (pl.Date(), "9999-12-31", date(9999, 12, 31)),
        (pl.Date(), "2025-03-02 00:00:00", date(2025, 3, 2)),
        (pl.Date(), "1969-12-31 00:00:00.000000", date(1969, 12, 31)),
        (TIME, "2025-03-02 10:11:12", datetime(2025, 3, 2, 10, 11, 12)),
        (TIME, "2025-03-02 23:59:59.999999", datetime(2025, 3, 2, 23, 59, 59, 999999)),
        (TIME, "2025-03-02 10:11:12.5", datetime(2025, 3, 2, 10, 11, 12, 500000)),
        (TIME, "1969-12-31 23:59:59.999", datetime(1969, 12, 31, 23, 59, 59, 999000)),
        (TIME, "2025-03-02", datetime(2025, 3, 2)),
        (pl.String(), "", ""),
        (pl.String(), " 1 ", " 1 "),
        (pl.String(), "🦉", "🦉"),
    ],
)
def test_text_that_can_be_read(dtype: pl.DataType, text: str, value: object) -> None:
    """Prevents readable values from being lost or rounded."""
    right = read([text, None], dtype)
    assert right.frame["a"].to_list() == [value, None]
    assert right.frame["a"].dtype == dtype
    assert right.unreadable.is_empty()
    assert right.unreadable.schema == UNREADABLE_SCHEMA


@pytest.mark.parametrize(
    ("dtype", "text"),
    [(pl.Int32(), text) for text in ("", " 5", "2.5", "5.01", "1e3", "1_0", "2147483648", "-2147483649", "x", ".0", "５")]
    + [(pl.Int64(), text) for text in ("9223372036854775808", "18446744073709551615", "99999999999999999999.0")]
    + [(pl.Float64(), text) for text in ("", "nan", "inf", "-Infinity", "1e400", "1,5", " 1", "0x10", "1e")]
    + [(pl.Boolean(), text) for text in ("", "2", "-1", "true", "Y", "01", "1.0")]
    + [(pl.Date(), text) for text in ("0000-00-00", "2025-02-29", "2025-00-10", "2025-04-31", "2025-3-2", "2025-03-02 ", "20250302")]
    + [(pl.Date(), text) for text in ("2025-03-02 10:00:00", "2025-03-02 00:00:00.000001", "+2025-03-02", "2025/03/02", "-838:59:59")]
    + [(TIME, text) for text in ("2025-03-02 10:60:00", "2025-03-02 10:11:60", "1900-02-29", "2025-02-30 10:00:00")]
    + [(TIME, text) for text in ("0000-00-00 00:00:00", "2025-03-02 24:00:00", "2025-03-02T10:11:12")]
    + [(TIME, text) for text in ("2025-03-02 10:11:12.", "2025-03-02 10:11:12.1234567", "2025-03-02 10:11", "2025-03-02 1é:11:12")],
)  # fmt: skip
def test_text_that_cannot_be_read(dtype: pl.DataType, text: str) -> None:
    """Prevents a guess: what is no value of the type is null and counted, never another value."""
    right = "2025-01-01" if dtype.is_temporal() else "1"
    wrong = read([None, right, text, text], dtype, "varchar")
    assert wrong.frame["a"].is_null().to_list() == [True, False, True, True]
    assert wrong.unreadable.rows() == [("a", 2, text, "varchar")]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=30, min_value=-(10**34), max_value=10**34) | st.floats(allow_nan=False))
def test_numbers_are_rounded_as_python_rounds_them(number: object) -> None:
    """Prevents a fast but inexact reading of decimals: the nearest double is the only right one."""
    text = format(number, "f") if not isinstance(number, float) else repr(number)
    expected = float(text)
    assert value_of(text, pl.Float64()) == (expected if abs(expected) != float("inf") else None)


@given(st.floats(min_value=1e-9, max_value=1e15))
def test_numbers_half_way_between_two_doubles_are_rounded_to_even(number: float) -> None:
    """Prevents a reading that is wrong in the last bit, on the texts where that is easiest."""
    half_way = (Decimal(number) + Decimal(math.nextafter(number, math.inf))) / 2
    for text in (format(half_way, "f"), format(half_way, "f") + "0001"):
        assert value_of(text, pl.Float64()) == float(text)


@given(st.datetimes(min_value=datetime(1, 1, 1)))
def test_times_are_read_as_python_reads_them(time: datetime) -> None:
    """Prevents an error in the calendar arithmetic."""
    assert value_of(time.isoformat(sep=" ", timespec="microseconds"), TIME) == time
    assert value_of(time.date().isoformat(), pl.Date()) == time.date()


def test_every_day_of_four_centuries() -> None:
    """Prevents a wrong leap day: the Gregorian calendar repeats after 400 years."""
    days = [date(1899, 12, 1) + timedelta(days=i) for i in range(146097)]
    assert read([day.isoformat() for day in days], pl.Date()).frame["a"].to_list() == days


def test_text_that_is_nearly_a_date_is_read_as_python_reads_it() -> None:
    """Prevents days that do not exist, as 30 February."""
    for year in (1900, 2000, 2023, 2024):
        for month in range(14):
            for day in (0, 1, 28, 29, 30, 31, 32):
                text = f"{year}-{month:02}-{day:02}"
                try:
                    wanted = date.fromisoformat(text)
                except ValueError:
                    wanted = None
                assert value_of(text, pl.Date()) == wanted


def test_slices_and_chunks_are_read_from_their_own_beginning() -> None:
    """Prevents reading a neighbour's bytes where a frame is a part of another one or a pile of blocks."""
    days = [f"2025-03-{day:02}" for day in range(1, 31)]
    frame = pl.concat([pl.DataFrame({"a": days}).slice(3, 5), pl.DataFrame({"a": [None, *days]}).slice(0, 2)], rechunk=False)
    found = typed(TextFrame(frame, {}), {"a": pl.Date()}, table="t").frame["a"].to_list()
    assert found == [date(2025, 3, d) for d in (4, 5, 6, 7, 8)] + [None, date(2025, 3, 1)]


@pytest.mark.parametrize("dtype", [pl.Int32(), pl.Int64(), pl.Float64(), pl.Boolean(), pl.Date(), TIME, pl.String()])
@pytest.mark.parametrize("values", [[], [None], [None, None]])
def test_nothing_to_read(dtype: pl.DataType, values: list[None]) -> None:
    """Prevents an empty span, or one of NULLs only, from being an error or losing its types."""
    empty = read(values, dtype)
    assert empty.frame.schema == {"a": dtype}
    assert empty.frame["a"].to_list() == values
    assert empty.unreadable.is_empty()


def test_wanted_columns_only_in_the_order_wanted() -> None:
    """Prevents a column that the contract does not know from travelling on."""
    text = TextFrame(pl.DataFrame({"c": ["x"], "a": ["1"], "b": ["2"]}), {})
    assert typed(text, {"b": pl.Int32(), "a": pl.String()}, table="t").frame.to_dicts() == [{"b": 2, "a": "1"}]


def test_missing_column() -> None:
    """Prevents a query that forgets a column from failing far from its cause."""
    text = TextFrame(pl.DataFrame({"sku": ["x"], "Day": ["y"]}), {})
    message = (
        r"^table sales_daily lacks column 'day' \(2 missing: \['day', 'revenue'\]\); found \['sku', 'Day'\]; "
        "select it in the query of sales_daily, AS day$"
    )
    with pytest.raises(SourceError, match=message):
        typed(text, {"sku": pl.String(), "day": pl.Date(), "revenue": pl.Float64()}, table="sales_daily")


def test_column_that_has_changed_its_type() -> None:
    """Prevents a renamed or retyped column from emptying a table row by row into quarantine."""
    text = TextFrame(pl.DataFrame({"day": [None, "1740873600", *["1740960000"] * 9]}), {"day": "bigint unsigned"})
    message = (
        r"^table sales_daily, column 'day': none of 10 values can be read as Date, first '1740873600'; its type in the database is "
        "bigint unsigned; convert it in the query of sales_daily, or map another column$"
    )
    with pytest.raises(SourceError, match=message):
        typed(text, {"day": pl.Date()}, table="sales_daily")


@pytest.mark.parametrize("zero", ["0000-00-00", "0000-00-00 00:00:00", "0000-00-00 00:00:00.000000"])
@pytest.mark.parametrize("dtype", [pl.Date(), TIME])
def test_zero_dates_alone_are_no_change_of_type(dtype: pl.DataType, zero: str) -> None:
    """Prevents an error where a shop writes zero dates for "unknown" and a span holds no other."""
    found = read([zero, None, zero], dtype, "date")
    assert found.frame["a"].to_list() == [None, None, None]
    assert found.unreadable.rows() == [("a", 2, zero, "date")]


def test_zero_date_as_a_number_is_a_change_of_type() -> None:
    """Prevents the exemption of zero dates from reaching other types."""
    with pytest.raises(SourceError, match="none of 10 values can be read as Int32, first '0000-00-00'"):
        read(["0000-00-00"] * 10, pl.Int32(), "date")


def test_a_few_bad_values_are_no_change_of_type() -> None:
    """Prevents a single bad row, alone in its span, from stopping the night: it is counted, and goes to quarantine."""
    found = read(["x"] * 9, pl.Int32(), "varchar")
    assert found.frame["a"].null_count() == 9
    assert found.unreadable.rows() == [("a", 9, "x", "varchar")]


def test_long_example_is_cut() -> None:
    """Prevents a report that is one cell of a megabyte."""
    assert read(["1", "x" * 1000], pl.Int32()).unreadable["example"].to_list() == ["x" * 60 + "..."]


def test_type_that_no_text_is_read_as() -> None:
    """Prevents a contract's new type from being passed through as text."""
    with pytest.raises(SourceError, match=r"table t, column 'a': no text is read as Duration.*; want Int32, Int64, Float64"):
        read(["1"], pl.Duration("us"))
    with pytest.raises(SourceError, match="no text is read as Datetime"):
        read(["2025-01-01"], pl.Datetime("us", str(UTC)))
