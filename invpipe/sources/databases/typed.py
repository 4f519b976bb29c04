"""Text as a database sends it, turned into the types a contract wants, exactly or not at all.

Order of events, per wanted column: every text is read by the grammar of the wanted type; a text that is not of it, or out of the type's
range, becomes null and is counted with an example (the contract's null rule quarantines the row later). Where not one text of a column can
be read, the column has changed its type, and that is an error.

=========  ==========================================================================================================================
wanted     texts read
=========  ==========================================================================================================================
Int32/64   ``-12``, ``0005``, ``12.00`` (a zero fraction); not ``2.5``, ``1e3``
Float64    decimal and exponent notation, correctly rounded; not ``nan``, ``inf`` or what overflows to them
Boolean    ``0`` and ``1`` (BIT, TINYINT, BOOLEAN)
Date       ``2025-03-02``, ``2025-03-02 00:00:00`` (midnight only)
Datetime   ``2025-03-02 10:11:12.123456`` with 0 to 6 digits of a second, ``2025-03-02`` (midnight)
String     every text, as it is
=========  ==========================================================================================================================

Assumes nothing of a text: a zero date, a day that does not exist, a sign or a space too many is unreadable. Zero dates alone do not make a
column of dates one that has changed its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from numba import njit

from invpipe.errors import SourceError

UNREADABLE_SCHEMA = pl.Schema({"column": pl.String, "count": pl.Int64, "example": pl.String, "database_type": pl.String})
DAY_US = 86_400 * 10**6
NO_DAY = -(2**62)
#: In a kernel ``int`` of a byte is unsigned, and its difference a float.
_signed: Any = np.int64
#: Longest example that is shown, characters.
EXAMPLE_LENGTH = 60
#: So many values, none of which can be read, are a column that has changed its type; fewer are bad rows.
CHANGED_VALUES = 10
ZERO_DATE = r"^0000-00-00(?: 00:00:00(?:\.0+)?)?$"


@dataclass(frozen=True)
class TextFrame:
    """A result as text.

    Attributes
    ----------
    frame
        Every column String, null where the database has NULL.
    database_types
        Declared type per column as the database names it, such as ``decimal(10,2)`` or ``bigint unsigned``.
    """

    frame: pl.DataFrame
    database_types: Mapping[str, str]


@dataclass(frozen=True)
class Typed:
    """A result in the types that were wanted.

    Attributes
    ----------
    frame
        The wanted columns, in the order wanted.
    unreadable
        One row per column with texts that could not be read, `UNREADABLE_SCHEMA`; they are null in `frame`.
    """

    frame: pl.DataFrame
    unreadable: pl.DataFrame = field(default_factory=UNREADABLE_SCHEMA.to_frame)


@dataclass(frozen=True)
class Extent:
    """How much of a table there is.

    Attributes
    ----------
    rows
        Rows as the database counts them.
    first, last
        First and last time of these rows as the database writes them, None without rows.
    """

    rows: int
    first: str | None
    last: str | None


def typed(text: TextFrame, wanted: Mapping[str, pl.DataType], *, table: str) -> Typed:
    """Read the wanted columns of a result in their types; a column that is not wanted is dropped.

    Parameters
    ----------
    text
        The result as text; not changed.
    wanted
        Polars type per column: Int32, Int64, Float64, String, Boolean, Date or Datetime("us") without a zone.
    table
        Name of the table, for messages.

    Raises
    ------
    SourceError
        When a wanted column is missing, no value of a column can be read, or a type is wanted that no text is read as.
    """
    missing = [name for name in wanted if name not in text.frame.columns]
    if missing:
        msg = (
            f"table {table} lacks column '{missing[0]}' ({len(missing)} missing: {missing}); found {text.frame.columns}; "
            f"select it in the query of {table}, AS {missing[0]}"
        )
        raise SourceError(msg)
    columns, unreadable = [], []
    for name, dtype in wanted.items():
        source = text.frame[name]
        column = _read(source, dtype, table)
        if column.null_count() > source.null_count():
            database_type = text.database_types.get(name, "unknown")
            lost = source.filter(column.is_null() & source.is_not_null())
            if column.null_count() == len(column) and len(lost) >= CHANGED_VALUES and not _only_zero_dates(lost, dtype):
                raise _type_changed(lost, dtype, table, database_type)
            unreadable.append((name, len(lost), _shown(lost), database_type))
        columns.append(column)
    return Typed(pl.DataFrame(columns), pl.DataFrame(unreadable, schema=UNREADABLE_SCHEMA, orient="row"))


def _only_zero_dates(lost: pl.Series, dtype: pl.DataType) -> bool:
    return dtype.is_temporal() and lost.str.contains(ZERO_DATE).all()


def _shown(lost: pl.Series) -> str:
    first = str(lost[0])
    return first if len(first) <= EXAMPLE_LENGTH else f"{first[:EXAMPLE_LENGTH]}..."


def _type_changed(lost: pl.Series, dtype: pl.DataType, table: str, database_type: str) -> SourceError:
    return SourceError(
        f"table {table}, column '{lost.name}': none of {len(lost):,} values can be read as {dtype}, first '{_shown(lost)}'; its type in "
        f"the database is {database_type}; convert it in the query of {table}, or map another column"
    )


def _read(source: pl.Series, dtype: pl.DataType, table: str) -> pl.Series:
    """Return the column in the wanted type, null where its text cannot be read."""
    if dtype == pl.String:
        return source
    if dtype in (pl.Int32, pl.Int64):
        return _integers(source, dtype)
    if dtype == pl.Float64:
        numbers = source.cast(pl.Float64, strict=False)
        return numbers.set(~numbers.is_finite(), None)
    if dtype == pl.Boolean:
        return (source == "1").set(~source.is_in(["0", "1"]), None)
    if dtype == pl.Date or dtype == pl.Datetime("us"):
        return _times(source, dtype)
    known = "Int32, Int64, Float64, String, Boolean, Date or Datetime('us')"
    msg = f"table {table}, column '{source.name}': no text is read as {dtype}; want {known}"
    raise SourceError(msg)


def _integers(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    numbers = source.cast(dtype, strict=False)
    if numbers.null_count() == source.null_count():
        return numbers
    whole = source.str.replace(r"^([+-]?\d+)\.0*$", "${1}").cast(dtype, strict=False)
    return numbers.fill_null(whole)


def _times(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    array: Any = source.rechunk().to_arrow().cast(pa.large_string())
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1] if len(array) else np.zeros(1, np.int64)
    letters = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    times_us, readable = parse_times(starts, letters)
    frame = pl.DataFrame({"us": times_us, "readable": readable & source.is_not_null().to_numpy()})
    time = pl.col("us").cast(pl.Datetime("us"))
    if dtype == pl.Date:
        value, readable_value = time.cast(pl.Date), pl.col("readable") & (pl.col("us") % DAY_US == 0)
    else:
        value, readable_value = time, pl.col("readable")
    return frame.select(pl.when(readable_value).then(value).alias(source.name)).to_series()


@njit(cache=True, nogil=True)
def _digits(letters: npt.NDArray[np.uint8], at: int, width: int) -> int:
    """Read `width` decimal digits, -1 where one is none."""
    value = 0
    for i in range(width):
        digit = _signed(letters[at + i]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = 10 * value + digit
    return value


@njit(cache=True, nogil=True)
def _day_number(letters: npt.NDArray[np.uint8], at: int) -> int:
    """Read ``YYYY-MM-DD`` as days since 1970-01-01; `NO_DAY` where the calendar has no such day."""
    year, month, day = _digits(letters, at, 4), _digits(letters, at + 5, 2), _digits(letters, at + 8, 2)
    if letters[at + 4] != 45 or letters[at + 7] != 45 or year < 1 or month < 1 or month > 12 or day < 1:
        return NO_DAY
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 31
    if month == 2:
        longest = 29 if leap else 28
    elif month in (4, 6, 9, 11):
        longest = 30
    if day > longest:
        return NO_DAY
    # Hinnant's days_from_civil (2013): years begin in March, so that the leap day is the last one.
    y = year - 1 if month <= 2 else year
    era = y // 400
    year_of_era = y - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year - 719468


@njit(cache=True, nogil=True)
def _clock_us(letters: npt.NDArray[np.uint8], at: int, stop: int) -> int:
    """Read ``HH:MM:SS`` with up to six digits of a second, as microseconds of the day; -1 where it is none."""
    size = stop - at
    if size < 8 or size == 9 or size > 15:
        return -1
    hour, minute, second = _digits(letters, at, 2), _digits(letters, at + 3, 2), _digits(letters, at + 6, 2)
    if letters[at + 2] != 58 or letters[at + 5] != 58 or hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return -1
    micros = 0
    if size > 9:
        micros = _digits(letters, at + 9, size - 9)
        if letters[at + 8] != 46 or micros < 0:
            return -1
        for _ in range(15 - size):
            micros *= 10
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros


@njit(cache=True, nogil=True)
def parse_times(starts: npt.NDArray[np.int64], letters: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Read texts as points in time.

    Parameters
    ----------
    starts
        Where each text begins in `letters`, and the end of the last one; shape (texts + 1,).
    letters
        ASCII or UTF-8 bytes.

    Returns
    -------
    tuple
        Microseconds since 1970-01-01 00:00 and whether the text could be read, shape (texts,); 0 where not.
    """
    n = len(starts) - 1
    times_us = np.zeros(n, dtype=np.int64)
    readable = np.zeros(n, dtype=np.bool_)
    for i in range(n):
        at, stop = starts[i], starts[i + 1]
        if stop - at < 10:
            continue
        day = _day_number(letters, at)
        clock_us = 0
        if stop - at > 10:
            clock_us = _clock_us(letters, at + 11, stop) if letters[at + 10] == 32 else -1
        if day > NO_DAY and clock_us >= 0:
            times_us[i] = day * 86_400_000_000 + clock_us
            readable[i] = True
    return times_us, readable
