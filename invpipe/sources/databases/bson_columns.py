"""BSON values as columns of the contract's types: exactly, or not at all.

The contract's type decides, nothing is inferred. A value that cannot be that type exactly becomes null and is counted:

- *Int32, Int64*: int, or a double or decimal without a fraction, in range; a bool is no int.
- *Float64*: double (NaN and infinities stay, for the contract to judge), int, decimal; the nearest double, never an infinity for a finite
  number.
- *String*: text; an int as its decimal text; an ObjectId as its 24 hexadecimal digits. A double is no text.
- *Boolean*: bool alone.
- *Datetime("us")*: a BSON date of the years 1 to 9999, in UTC without a zone.
- *Date*: text YYYY-MM-DD, or a BSON date at midnight UTC.

null, undefined and a missing field are null. Two readers give the same columns: `plain_columns` from documents that pymongo has decoded,
and `bulk_columns` from raw batches, where compiled code reads the common types and any other value goes through the rule of the plain one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import bson
import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId

from invpipe.errors import SourceError
from invpipe.sources.databases import bson_kernels as kernels
from invpipe.sources.databases.typed import EXAMPLE_LENGTH

BoolArray = npt.NDArray[np.bool_]

#: Documents as plain Python values; dates that Python cannot hold stay numbers.
PLAIN: CodecOptions[dict[str, Any]] = CodecOptions(dict, datetime_conversion=DatetimeConversion.DATETIME_AUTO)

_MISSING = object()
_ISO_DAY, _ISO_DAY_SIGNS = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII), 10
_DAY_MS = 86_400_000
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999
_INTEGER_BOUNDS: dict[type[pl.DataType], int] = {pl.Int32: 2**31, pl.Int64: 2**63}
_TYPE_NAMES = {
    bool: "bool",
    int: "int",
    bson.Int64: "long",
    float: "double",
    str: "string",
    datetime: "date",
    DatetimeMS: "date",
    Decimal128: "decimal",
    ObjectId: "objectId",
    dict: "object",
    list: "array",
    bytes: "binData",
}


@dataclass
class Column:
    """One column as read, its unreadable values null.

    Attributes
    ----------
    values
        In the wanted type.
    present
        Fields that were there, null or not.
    unreadable
        Values that could not be read.
    example, database_type
        The first of them and its BSON type, None when there is none.
    """

    values: pl.Series
    present: int
    unreadable: int = 0
    example: str | None = None
    database_type: str | None = None

    def note(self, value: Any) -> None:
        """Count an unreadable value."""
        self.unreadable += 1
        if self.example is None:
            self.example, self.database_type = shown(value), type_name(value)

    @classmethod
    def joined(cls, parts: Sequence[Column]) -> Column:
        """Return the parts of a column, at least one, as one."""
        first = next((part for part in parts if part.unreadable), parts[0])
        present, unreadable = sum(part.present for part in parts), sum(part.unreadable for part in parts)
        return cls(pl.concat([part.values for part in parts]), present, unreadable, first.example, first.database_type)


def _integer(bound: int) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        number: Any = value.to_decimal() if isinstance(value, Decimal128) else value
        if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
            return None
        if isinstance(number, Decimal) and not number.is_finite():
            return None
        return int(number) if -bound <= number < bound and number == int(number) else None

    return read


def _float(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value)
    if not isinstance(value, Decimal128):
        return None
    number = value.to_decimal()
    if number.is_nan():
        return math.nan
    return None if number.is_finite() and math.isinf(float(number)) else float(number)


def _string(value: Any) -> str | None:
    if type(value) is str or isinstance(value, ObjectId):
        return str(value)
    return str(int(value)) if isinstance(value, int) and not isinstance(value, bool) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _datetime(value: Any) -> datetime | None:
    return value if isinstance(value, datetime) else None


def _day(value: Any) -> date | None:
    if type(value) is str and _ISO_DAY.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    at_midnight = isinstance(value, datetime) and value == datetime(value.year, value.month, value.day)
    return value.date() if at_midnight else None


def plain_rule(dtype: pl.DataType) -> Callable[[Any], Any]:
    """Return the function that reads one value, not null, as `dtype`, and gives None for an unreadable one."""
    if dtype == pl.Int32 or dtype == pl.Int64:
        return _integer(_INTEGER_BOUNDS[type(dtype)])
    rules: list[tuple[pl.DataType, Callable[[Any], Any]]] = [
        (pl.Float64(), _float),
        (pl.String(), _string),
        (pl.Boolean(), _boolean),
        (pl.Date(), _day),
        (pl.Datetime("us"), _datetime),
    ]
    for known, rule in rules:
        if dtype == known:
            return rule
    msg = f"columns of type {dtype} cannot be read from MongoDB; known are Int32, Int64, Float64, String, Boolean, Date, Datetime('us')"
    raise SourceError(msg)


def shown(value: Any) -> str:
    """Return a value as text for a message, cut to `EXAMPLE_LENGTH`."""
    text = repr(value)
    return text if len(text) <= EXAMPLE_LENGTH else text[: EXAMPLE_LENGTH - 3] + "..."


def type_name(value: Any) -> str:
    """Return MongoDB's name of the type of a value."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def plain_columns(documents: Sequence[Mapping[str, Any]], wanted: Sequence[pl.DataType]) -> list[Column]:
    """Return the fields ``c0``, ``c1``, ... of decoded documents as columns of the wanted types."""
    return [_plain_column([row.get(f"c{k}", _MISSING) for row in documents], dtype) for k, dtype in enumerate(wanted)]


def _plain_column(values: list[Any], dtype: pl.DataType) -> Column:
    rule = plain_rule(dtype)
    column = Column(pl.Series(dtype=dtype), present=sum(value is not _MISSING for value in values))
    cells = []
    for value in values:
        cell = None if value is None or value is _MISSING else rule(value)
        if cell is None and value is not None and value is not _MISSING:
            column.note(value)
        cells.append(cell)
    column.values = pl.Series(cells, dtype=dtype, strict=True)
    return column


def bulk_columns(batch: bytes, wanted: Sequence[pl.DataType]) -> list[Column]:
    """Return the fields ``c0``, ``c1``, ... of a batch of raw documents as columns of the wanted types.

    Raises
    ------
    SourceError
        When the batch is no well-formed BSON, or a text is no UTF-8.
    """
    data = np.frombuffer(batch, dtype=np.uint8)
    starts = kernels.document_starts(data)
    n = starts.size - 1
    codes = np.zeros((len(wanted), n), dtype=np.uint8)
    values = np.zeros((len(wanted), n), dtype=np.int64)
    malformed = n - 1 if starts[-1] < 0 else kernels.scan(data, starts, codes, values)
    if malformed >= 0:
        msg = f"document {malformed + 1} of a batch of {n} is no well-formed BSON; check the server and what lies in between"
        raise SourceError(msg)
    return [_bulk_column(k, dtype, batch, starts, Cells(data, codes[k], values[k])) for k, dtype in enumerate(wanted)]


def _bulk_column(k: int, dtype: pl.DataType, batch: bytes, starts: kernels.Values, cells: Cells) -> Column:
    rule = plain_rule(dtype)
    series, read = _FAST[type(dtype)](cells)
    column = Column(series.cast(dtype), present=int(np.count_nonzero(cells.codes != kernels.MISSING)))
    empty = cells.of(kernels.MISSING, kernels.NULL, kernels.UNDEFINED)
    others: dict[int, Any] = {}
    for row in np.flatnonzero(~(read | empty)).tolist():
        value = _decode(batch[starts[row] : starts[row + 1]])[f"c{k}"]
        cell = rule(value)
        if cell is None:
            column.note(value)
        else:
            others[row] = cell
    if others:
        column.values = column.values.scatter(list(others), pl.Series(list(others.values()), dtype=dtype))
    return column


def _decode(document: bytes) -> dict[str, Any]:
    try:
        return bson.decode(document, PLAIN)
    except bson.errors.InvalidBSON as error:
        msg = f"a document is no valid BSON ({error}); mend it in the collection"
        raise SourceError(msg) from error


@dataclass(frozen=True)
class Cells:
    """One column of a scanned batch: its buffer, type codes and values, see `invpipe.sources.databases.bson_kernels`."""

    data: kernels.Bytes
    codes: kernels.Codes
    values: kernels.Values

    def of(self, *codes: int) -> BoolArray:
        """Return which cells are of one of the types."""
        return np.isin(self.codes, codes) if len(codes) > 1 else self.codes == codes[0]

    @property
    def doubles(self) -> npt.NDArray[np.float64]:
        """The values as doubles; noise where the type is another."""
        return self.values.view(np.float64)


def _fast_integer(bound: int) -> Callable[[Cells], tuple[pl.Series, BoolArray]]:
    def read(cells: Cells) -> tuple[pl.Series, BoolArray]:
        values = cells.values.copy()
        good = cells.of(kernels.INT32, kernels.INT64) & (values >= -bound) & (values <= bound - 1)
        doubles = np.where(cells.of(kernels.DOUBLE), cells.doubles, np.nan)
        whole = (doubles >= -bound) & (doubles < bound) & (doubles == np.floor(doubles))
        values[whole] = doubles[whole].astype(np.int64)
        return _masked(values, good | whole), good | whole

    return read


def _fast_float(cells: Cells) -> tuple[pl.Series, BoolArray]:
    read, integers, decimals = cells.of(kernels.DOUBLE), cells.of(kernels.INT32, kernels.INT64), cells.of(kernels.DECIMAL)
    numbers = np.where(integers, cells.values.astype(np.float64), cells.doubles)
    if decimals.any():
        exact, done = np.zeros(int(decimals.sum())), np.zeros(int(decimals.sum()), dtype=np.bool_)
        kernels.decimals(cells.data, cells.values[decimals], exact, done)
        numbers[decimals] = exact
        decimals[decimals] = done
    read = read | integers | decimals
    return _masked(numbers, read), read


def _fast_boolean(cells: Cells) -> tuple[pl.Series, BoolArray]:
    read = cells.of(kernels.BOOL)
    return _masked(cells.values == 1, read), read


def _fast_datetime(cells: Cells) -> tuple[pl.Series, BoolArray]:
    read = cells.of(kernels.DATE) & (cells.values >= _FIRST_MS) & (cells.values <= _LAST_MS)
    return _masked(np.where(read, cells.values, 0) * 1000, read).cast(pl.Datetime("us")), read


def _fast_string(cells: Cells) -> tuple[pl.Series, BoolArray]:
    read = cells.of(kernels.STRING)
    ends = kernels.string_offsets(cells.data, cells.values, read)
    text = np.empty(ends[-1], dtype=np.uint8)
    kernels.gather_strings(cells.data, cells.values, ends, text)
    valid = np.packbits(read, bitorder="little")
    strings = pa.LargeStringArray.from_buffers(read.size, pa.py_buffer(ends), pa.py_buffer(text), pa.py_buffer(valid))
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        msg = f"a text is no valid UTF-8 ({error}); mend it in the collection"
        raise SourceError(msg) from error
    return pl.Series(strings, dtype=pl.String), read


def _fast_day(cells: Cells) -> tuple[pl.Series, BoolArray]:
    at_midnight = cells.of(kernels.DATE) & (cells.values >= _FIRST_MS) & (cells.values <= _LAST_MS) & (cells.values % _DAY_MS == 0)
    days = _masked(np.where(at_midnight, cells.values // _DAY_MS, 0).astype(np.int32), at_midnight).cast(pl.Date)
    if cells.of(kernels.STRING).any():
        text, _ = _fast_string(cells)
        parsed = text.str.to_date("%Y-%m-%d", strict=False)
        same = (parsed.dt.strftime("%Y-%m-%d") == text) & (text.str.len_bytes() == _ISO_DAY_SIGNS)
        days = days.zip_with(~same.fill_null(value=False), parsed)
        at_midnight = at_midnight | same.fill_null(value=False).to_numpy()
    return days, at_midnight


def _masked(values: npt.NDArray[Any], read: BoolArray) -> pl.Series:
    return pl.Series(pa.array(values, mask=~read))


#: What compiled code reads, by wanted type: the values it could read, null elsewhere, and which they are.
_FAST: dict[type[pl.DataType], Callable[[Cells], tuple[pl.Series, BoolArray]]] = {
    pl.Int32: _fast_integer(_INTEGER_BOUNDS[pl.Int32]),
    pl.Int64: _fast_integer(_INTEGER_BOUNDS[pl.Int64]),
    pl.Float64: _fast_float,
    pl.String: _fast_string,
    pl.Boolean: _fast_boolean,
    pl.Date: _fast_day,
    pl.Datetime: _fast_datetime,
}
