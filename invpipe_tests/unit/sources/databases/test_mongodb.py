"""What the server is asked, and BSON values as columns: the compiled reader beside the plain one, on any documents."""

from __future__ import annotations

import math
import struct
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import bson
import numpy as np
import polars as pl
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from invpipe.errors import SourceError
from invpipe.sources.databases import bson_kernels as kernels
from invpipe.sources.databases.bson_columns import PLAIN, bulk_columns, plain_columns
from invpipe.sources.databases.mongodb import CollectionMapping, MongoDBParams, MongoDBReader

TYPES = [pl.Int32(), pl.Int64(), pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("us")]
SPAN = (datetime(2025, 3, 1), datetime(2025, 3, 29))
RANGE = {"$gte": SPAN[0], "$lt": SPAN[1]}

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**15), max_value=10**15) | st.builds(
    lambda digits, power: Decimal(digits).scaleb(power), st.integers(-(10**33), 10**33), st.integers(-40, 40)
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(),
    st.integers(-(2**53), 2**53).map(float),
    DECIMALS.map(Decimal128),
    st.sampled_from(["NaN", "-Infinity", "1E+6000", "-0", "0E-6176"]).map(Decimal128),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.dates().map(date.isoformat),
    st.from_regex(r"[0-9+ ]{4}-[0-9 ]{1,2}-[0-9]{1,3}", fullmatch=True),
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)),
    st.dates().map(lambda day: datetime(day.year, day.month, day.day)),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.sampled_from([{"a": [1, {"b": "c"}]}, [1, 2], b"raw", bson.Regex("a", "im"), bson.Code("x"), bson.Code("x", {"y": 1})]),
    st.sampled_from([bson.MinKey(), bson.MaxKey(), bson.Timestamp(1, 2), bson.DBRef("c", 1), bson.DatetimeMS(2**60)]),
)
MISSING = object()


@given(st.lists(st.sampled_from([MISSING]) | VALUES, max_size=12))
def test_both_readers_give_the_same_columns(values: list[Any]) -> None:
    """Prevents a fast path that is exact only on the values somebody thought of."""
    fields = [{} if value is MISSING else {f"c{k}": value for k in range(len(TYPES))} for value in values]
    batch = b"".join(bson.encode({"other": [1], "c": 2, "c99": 3} | field | {"cx": "y"}) for field in fields)
    plain = plain_columns(bson.decode_all(batch, PLAIN), TYPES)
    for fast, slow, dtype in zip(bulk_columns(batch, TYPES), plain, TYPES, strict=True):
        assert_series_equal(fast.values, slow.values, check_exact=True)
        assert fast.values.dtype == dtype
        assert (fast.present, fast.unreadable, fast.example) == (slow.present, slow.unreadable, slow.example)


@given(DECIMALS)
def test_decimals_become_the_nearest_double(decimal: Decimal) -> None:
    """Prevents prices that are off by one unit in the last place."""
    (column,) = bulk_columns(bson.encode({"c0": Decimal128(decimal)}), [pl.Float64()])
    assert column.values[0] == float(str(decimal))
    assert math.copysign(1, column.values[0]) == math.copysign(1, float(str(decimal)))


def test_usual_decimals_take_the_fast_path() -> None:
    """Prevents prices from being read one by one in Python without anybody noticing."""
    batch = b"".join(bson.encode({"c0": Decimal128(text)}) for text in ("19.99", "-0.000", "123456789.123456", "1E+3"))
    data = np.frombuffer(batch, dtype=np.uint8)
    codes, values = np.zeros((1, 4), dtype=np.uint8), np.zeros((1, 4), dtype=np.int64)
    assert kernels.scan(data, kernels.document_starts(data), codes, values) == -1
    numbers, done = np.zeros(4), np.zeros(4, dtype=np.bool_)
    kernels.decimals(data, values[0], numbers, done)
    assert done.all()
    assert numbers.tolist() == [19.99, -0.0, 123456789.123456, 1000.0]


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda document: document[:-1],
        lambda document: document + b"\x07",
        lambda document: struct.pack("<i", len(document) + 9) + document[4:],
        lambda document: struct.pack("<i", 4) + document[4:],
        lambda document: document[:4] + b"\x77" + document[5:],
        lambda document: document[:8] + struct.pack("<i", 2**30) + document[12:],
        lambda document: document[:8] + struct.pack("<i", -5) + document[12:],
        lambda document: document[:-1] + b"\x01",
    ],
)
def test_damaged_batches_are_refused(spoilt: Any) -> None:
    """Prevents a reader that runs past the end of what the server sent."""
    good = bson.encode({"c0": "text"})
    with pytest.raises(SourceError, match=r"document \d of a batch of \d is no well-formed BSON"):
        bulk_columns(good + spoilt(good), [pl.String()])


def test_text_that_is_no_utf8_is_refused() -> None:
    """Prevents bytes that Polars takes for text and that break far from here."""
    batch = bson.encode({"c0": "abcd"}).replace(b"abcd", b"ab\xff\xfe")
    with pytest.raises(SourceError, match="a text is no valid UTF-8 .* mend it in the collection"):
        bulk_columns(batch, [pl.String()])


def test_long_values_are_cut_in_messages() -> None:
    """Prevents a message as long as a document."""
    (column,) = plain_columns([{"c0": "x" * 1000}], [pl.Int32()])
    assert column.example == "'" + "x" * 56 + "..."


def test_rows_of_documents_are_asked_by_an_index_range() -> None:
    """Prevents a query that the index on the time field cannot serve."""
    mapping = CollectionMapping("views", {"sku": "_id.sku", "at": "at"}, time_field="at", match={"kind": "view"})
    assert mapping.pipeline(SPAN) == [
        {"$match": {"at": RANGE}},
        {"$match": {"kind": "view"}},
        {"$sort": {"at": 1, "_id": 1}},
        {"$project": {"_id": 0, "c0": "$_id.sku", "c1": "$at"}},
    ]


def test_rows_of_an_array_are_matched_before_and_after_unwinding() -> None:
    """Prevents documents without an entry in the span from being unwound, and entries beyond it from being read."""
    mapping = CollectionMapping("offers", {"cost": "history.price"}, time_field="history.at", unwind="history")
    assert mapping.pipeline(SPAN) == [
        {"$match": {"history": {"$elemMatch": {"at": RANGE}}}},
        {"$unwind": {"path": "$history", "includeArrayIndex": "_invpipe_position"}},
        {"$match": {"history.at": RANGE}},
        {"$sort": {"history.at": 1, "_id": 1, "_invpipe_position": 1}},
        {"$project": {"_id": 0, "c0": "$history.price"}},
    ]


def test_time_beside_the_array_is_matched_once() -> None:
    """Prevents order lines from being looked for by a date that only their order has."""
    mapping = CollectionMapping("orders", {"sku": "lines.sku"}, time_field="ordered_at", unwind="lines")
    steps = mapping.pipeline(SPAN)
    assert steps[0] == {"$match": {"ordered_at": RANGE}}
    assert [next(iter(step)) for step in steps] == ["$match", "$unwind", "$sort", "$project"]
    assert mapping.pipeline(None) == steps[1:]


def test_array_of_a_longer_name_is_another_array() -> None:
    """Prevents `history_at` from being taken for a field of `history`."""
    mapping = CollectionMapping("offers", {"cost": "history.price"}, time_field="history_at", unwind="history")
    assert mapping.pipeline(SPAN)[0] == {"$match": {"history_at": RANGE}}


def test_password_is_not_shown() -> None:
    """Prevents a password in a log line that shows the parameters."""
    params = MongoDBParams("db", "shop", user="me", password="secret-pass")
    assert "secret-pass" not in f"{params!r} {params} {MongoDBReader(params)!r}"


def test_unmapped_column_is_refused_before_connecting() -> None:
    """Prevents a mapping that lacks a column from being found out after hours."""
    mapping = CollectionMapping("offers", {"sku": "sku"}, time_field="at")
    reader = MongoDBReader(MongoDBParams("no-such-host.invalid", "shop"))
    with pytest.raises(SourceError, match="the mapping of offers names no field for vendor; it maps sku"):
        list(reader.spans(mapping, {"sku": pl.String(), "vendor": pl.String()}, [(SPAN[0], SPAN[0] + timedelta(days=1))]))
