"""Reading from the server, cell by cell beside plain pymongo documents."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import bson
import polars as pl
import pytest
from bson import Decimal128, Int64, ObjectId
from polars.testing import assert_frame_equal
from pymongo import MongoClient, monitoring

from invpipe.contracts.tables import Offers
from invpipe.errors import SourceError
from invpipe.sources.databases import mongodb
from invpipe.sources.databases.mongodb import CollectionMapping, MongoDBParams, MongoDBReader
from invpipe_tests.integration.mongodb.conftest import Served

DAY = datetime(2025, 3, 1)
OFFERS: dict[str, pl.DataType] = {name: column.dtype for name, column in Offers.columns().items()}
OFFER_FIELDS = {
    "sku": "sku",
    "vendor": "vendor.code",
    "observed_at": "history.at",
    "unit_cost": "history.price",
    "in_stock": "history.in_stock",
    "min_order_units": "history.min_order",
    "pack_units": "history.pack",
}
EMPTY = {"column": [], "count": [], "example": [], "database_type": []}
WHOLE_RANGE = [(datetime(2000, 1, 1), datetime(2100, 1, 1))]
BOTH = pytest.mark.parametrize("reader", ["bulk", "pymongo"])


def entry(at: datetime, price: Any, **others: Any) -> dict[str, Any]:
    return {"at": at, "price": price, "in_stock": True, "min_order": 1, "pack": 1} | others


def offer(n: int) -> dict[str, Any]:
    """An offer with one entry every six hours over ten days, its prices of three types."""
    prices = [Decimal128(f"{n}.10"), n + 0.25, n + 1, Int64(n + 2)]
    history = [
        entry(DAY + timedelta(hours=6 * k, minutes=n), prices[k % 4], in_stock=k % 3 != 0, min_order=1 + k % 5, pack=Int64(1 + k % 2))
        for k in range(40)
    ]
    return {"sku": f"S{n:03d}", "vendor": {"code": f"V{n % 3}", "name": "ignored"}, "history": history, "notes": ["x"] * 3}


def offers_mapping(collection: str) -> CollectionMapping:
    return CollectionMapping(collection, OFFER_FIELDS, time_field="history.at", unwind="history")


def expected_rows(documents: list[dict[str, Any]], start: datetime, end: datetime) -> list[dict[str, Any]]:
    """The rows of [start, end) in the order of time, then of insertion, by plain Python."""
    rows = [
        (row["at"], n, document, row) for n, document in enumerate(documents) for row in document["history"] if start <= row["at"] < end
    ]
    rows.sort(key=lambda row: row[:2])
    return [
        {
            "sku": document["sku"],
            "vendor": document["vendor"]["code"],
            "observed_at": row["at"],
            "unit_cost": float(str(row["price"])),
            "in_stock": row["in_stock"],
            "min_order_units": int(row["min_order"]),
            "pack_units": int(row["pack"]),
        }
        for _, _, document, row in rows
    ]


@pytest.fixture
def name() -> str:
    return f"c{uuid.uuid4().hex[:8]}"


@pytest.fixture
def offers(served: Served, name: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    documents = [offer(n) for n in range(12)]
    served.database[name].insert_many(documents)
    served.database[name].create_index("history.at")
    yield name, documents
    served.database.drop_collection(name)


def params(served: Served, reader: str, **changes: Any) -> MongoDBParams:
    return replace(served.params, reader=reader, **changes)


@BOTH
def test_spans_of_days_hold_the_rows_of_plain_documents(served: Served, offers: Any, reader: str) -> None:
    """Prevents a row lost, doubled or put on the wrong day at the ends of a span, and entries beyond the span that their array brings."""
    collection, documents = offers
    bounds = [DAY + timedelta(days=k) for k in (-1, 0, 1, 4, 10, 12)]
    spans = list(pairwise(bounds))
    read = list(MongoDBReader(params(served, reader, batch_documents=7)).spans(offers_mapping(collection), OFFERS, spans))
    assert sum(part.frame.height for part in read) == 12 * 40
    for part, (start, end) in zip(read, spans, strict=True):
        assert_frame_equal(part.frame, pl.DataFrame(expected_rows(documents, start, end), schema=OFFERS))
        assert part.unreadable.is_empty()


@BOTH
def test_span_is_half_open(served: Served, name: str, reader: str) -> None:
    """Prevents midnight from being read twice or never."""
    times = [DAY - timedelta(milliseconds=1), DAY, DAY + timedelta(days=1) - timedelta(milliseconds=1), DAY + timedelta(days=1)]
    served.database[name].insert_many([{"at": at, "n": k} for k, at in enumerate(times)])
    mapping = CollectionMapping(name, {"n": "n", "at": "at"}, time_field="at")
    wanted = {"n": pl.Int32(), "at": pl.Datetime("us")}
    (read,) = MongoDBReader(params(served, reader)).spans(mapping, wanted, [(DAY, DAY + timedelta(days=1))])
    assert read.frame.rows() == [(1, times[1]), (2, times[2])]


EDGES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31 - 1, 2**31, Int64(-(2**31)), Int64(2**63 - 1), 2.5, 3.0, -0.0, float("nan"), float("inf"), 1e300,
    Decimal128("2.50"), Decimal128("3.00"), Decimal128("-0"), Decimal128("NaN"), Decimal128("sNaN"), Decimal128("-Infinity"),
    Decimal128("0.1"), Decimal128("9007199254740993"), Decimal128("1E+23"), Decimal128("1E+6000"), Decimal128("19.990000000000000000"),
    "", "x", "2025-01-02", "2025-02-30", "2025-1-2", "é😀", "a\0b", ObjectId(b"0" * 12), {"a": 1}, [1], b"raw", datetime(2025, 1, 2),
    datetime(2025, 1, 2, 3, 4, 5, 678000), datetime(1969, 12, 31, 23, 59), datetime(1, 1, 1), datetime(9999, 12, 31), bson.Regex("a", "i"),
    bson.Code("x"), bson.MinKey(), bson.Timestamp(1, 2),
]  # fmt: skip


def by_hand(value: Any, dtype: pl.DataType) -> Any:
    """What the issue wants of a value, None where it is null or unreadable; written from the module docstring of bson_columns."""
    number = isinstance(value, int | float | Decimal128) and not isinstance(value, bool)
    if dtype == pl.Boolean:
        return value if isinstance(value, bool) else None
    if dtype == pl.Float64:
        return float(str(value)) if number and str(value) != "1E+6000" else None
    if dtype == pl.Int32:
        as_text = str(value)
        return {"3.0": 3, "-0.0": 0, "3.00": 3, "-0": 0}.get(
            as_text, value if isinstance(value, int) and number and -(2**31) <= value < 2**31 else None
        )
    if dtype == pl.String:
        return str(value) if type(value) in (str, ObjectId, int, Int64) else None
    if dtype == pl.Datetime("us"):
        return value if isinstance(value, datetime) else None
    days = {"2025-01-02": date(2025, 1, 2), datetime(2025, 1, 2): date(2025, 1, 2), datetime(1, 1, 1): date(1, 1, 1)}
    days[datetime(9999, 12, 31)] = date(9999, 12, 31)
    return days.get(value) if type(value) in (str, datetime) else None


@BOTH
@pytest.mark.parametrize("dtype", [pl.Int32(), pl.Float64(), pl.String(), pl.Boolean(), pl.Date(), pl.Datetime("us")], ids=str)
def test_every_type_is_exact_or_counted(served: Served, name: str, reader: str, dtype: pl.DataType) -> None:
    """Prevents 2.5 from becoming 2, a flag from becoming 1 and a decimal from losing digits, in either reader."""
    served.database[name].insert_many([{"n": n, "value": value} for n, value in enumerate(EDGES)] + [{"n": len(EDGES)}])
    mapping = CollectionMapping(name, {"n": "n", "value": "value"})
    read = MongoDBReader(params(served, reader, batch_documents=11)).whole(mapping, {"n": pl.Int32(), "value": dtype})
    wanted = [by_hand(value, dtype) for value in EDGES] + [None]
    assert read.frame["n"].to_list() == list(range(len(wanted)))
    assert read.frame["value"].dtype == dtype
    for value, found, want in zip([*EDGES, None], read.frame["value"].to_list(), wanted, strict=True):
        assert repr(found) == repr(want), f"{value!r} as {dtype}"
    unreadable = sum(want is None and value is not None for value, want in zip(EDGES, wanted, strict=False))
    assert read.unreadable.select("column", "count").rows() == [("value", unreadable)]


@BOTH
def test_first_unreadable_value_is_shown(served: Served, name: str, reader: str) -> None:
    """Prevents a count of unreadable values that nobody can look for."""
    served.database[name].insert_many([{"units": 3}, {"units": 2.5}, {"units": "four"}])
    read = MongoDBReader(params(served, reader)).whole(CollectionMapping(name, {"units": "units"}), {"units": pl.Int32()})
    assert read.unreadable.rows() == [("units", 2, "2.5", "double")]


@BOTH
def test_empty_collection_has_no_rows_but_its_types(served: Served, name: str, reader: str) -> None:
    """Prevents an empty table from failing, or from losing its schema."""
    served.database.create_collection(name)
    reading = MongoDBReader(params(served, reader))
    assert reading.whole(offers_mapping(name), OFFERS).frame.schema == pl.Schema(OFFERS)
    (read,) = reading.spans(offers_mapping(name), OFFERS, WHOLE_RANGE)
    assert read.frame.schema == pl.Schema(OFFERS)
    assert read.frame.is_empty()
    assert read.unreadable.is_empty()


@BOTH
def test_huge_document_arrives_whole(served: Served, name: str, reader: str) -> None:
    """Prevents texts and histories near the size limit of a document from being cut."""
    text = "é" * 3_000_000
    history = [entry(DAY + timedelta(minutes=k), 1.5) for k in range(20_000)]
    served.database[name].insert_one({"sku": text, "vendor": {"code": "V"}, "history": history[:5]})
    served.database[name].insert_one({"sku": "long", "vendor": {"code": "V"}, "history": history})
    read = MongoDBReader(params(served, reader)).whole(offers_mapping(name), OFFERS)
    assert read.frame.height == 20_005
    assert read.frame["sku"].unique().str.len_chars().sort().to_list() == [4, 3_000_000]
    served.database.drop_collection(name)


def test_array_in_place_of_a_value_is_unreadable(served: Served, name: str) -> None:
    """Prevents one element of an array from being taken for the value."""
    served.database[name].insert_many([{"sku": "A", "price": 1.0}, {"sku": "B", "price": [1.0, 2.0]}])
    read = MongoDBReader(served.params).whole(CollectionMapping(name, {"price": "price"}), {"price": pl.Float64()})
    assert read.frame["price"].to_list() == [1.0, None]
    assert read.unreadable["example"].to_list() == ["[1.0, 2.0]"]


def test_condition_applies_to_rows_not_to_documents(served: Served, name: str) -> None:
    """Prevents one deleted entry from hiding the whole history of its offer."""
    rows = [entry(DAY, 1.0), entry(DAY + timedelta(hours=1), 2.0, deleted=True), entry(DAY + timedelta(hours=2), 3.0)]
    served.database[name].insert_one({"sku": "A", "vendor": {"code": "V"}, "history": rows})
    mapping = replace(offers_mapping(name), match={"history.deleted": {"$ne": True}})
    assert MongoDBReader(served.params).whole(mapping, OFFERS).frame["unit_cost"].to_list() == [1.0, 3.0]


def test_all_spans_are_read_from_one_snapshot(served: Served, offers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents spans of one table that belong to different states of the collection."""
    commands: list[Any] = []

    class Listener(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            if event.command_name == "aggregate":
                commands.append(event.command)

        def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
            pass

        def failed(self, event: monitoring.CommandFailedEvent) -> None:
            pass

    monkeypatch.setattr(mongodb, "MongoClient", partial(MongoClient, event_listeners=[Listener()]))
    collection, _ = offers
    spans = [(DAY + timedelta(days=k), DAY + timedelta(days=k + 1)) for k in range(3)]
    list(MongoDBReader(served.params).spans(offers_mapping(collection), OFFERS, spans))
    concerns = [command["readConcern"] for command in commands]
    assert [concern["level"] for concern in concerns] == ["snapshot"] * 3
    assert concerns[1]["atClusterTime"] == concerns[2]["atClusterTime"]


def test_abandoned_reading_closes_its_connection(served: Served, offers: Any) -> None:
    """Prevents connections and cursors that stay open when a consumer fails half-way."""
    collection, _ = offers
    days = [(DAY + timedelta(days=k), DAY + timedelta(days=k + 1)) for k in range(10)]
    spans = MongoDBReader(served.params).spans(offers_mapping(collection), OFFERS, days)
    assert next(spans).frame.height == 48
    spans.close()
    with pytest.raises(StopIteration):
        next(spans)


def test_check_remarks_on_a_missing_index(served: Served, offers: Any) -> None:
    """Prevents extracts that scan years for every day without anybody knowing."""
    collection, _ = offers
    reader = MongoDBReader(served.params)
    assert reader.check(offers_mapping(collection), OFFERS) == []
    served.database[collection].drop_index("history.at_1")
    (remark,) = reader.check(offers_mapping(collection), OFFERS)
    assert remark == f"No index of {collection} starts with history.at: every span scans the collection. " + (
        f"Run db.{collection}.createIndex({{'history.at': 1}})."
    )


def test_check_remarks_on_times_that_are_no_dates(served: Served, offers: Any) -> None:
    """Prevents rows that no span ever holds from staying away unnoticed."""
    collection, _ = offers
    served.database[collection].insert_one({"_id": "odd", "sku": "A", "vendor": {"code": "V"}, "history": [{"at": "2025-03-01"}]})
    (remark,) = MongoDBReader(served.params).check(offers_mapping(collection), OFFERS)
    assert remark == f"history.at of {collection} is no date everywhere, first in _id odd: such rows lie in no span."


def test_array_within_an_array_is_refused(served: Served, name: str) -> None:
    """Prevents a mapping that the server unwinds to nothing from looking like a table without rows."""
    served.database[name].insert_one({"variants": [{"history": [{"at": DAY}]}]})
    mapping = CollectionMapping(name, {"at": "variants.history.at"}, time_field="variants.history.at", unwind="variants.history")
    with pytest.raises(SourceError, match="variants.history of .* lies in an array itself, which cannot be unwound; map a view"):
        MongoDBReader(served.params).whole(mapping, {"at": pl.Datetime("us")})


@BOTH
@pytest.mark.parametrize(
    ("changes", "wanted", "message"),
    [
        ({"collection": "no_such"}, {}, "has no collection no_such, or this user may not see it; found: .*"),
        ({"fields": OFFER_FIELDS | {"pack_units": "history.packs"}}, {}, r"no document of .* has the field history.packs \(pack_units\); "
         r"fields found: _id, sku, vendor.code, vendor.name, history.at, history.price, .* Mend the mapping"),
        ({"fields": OFFER_FIELDS | {"unit_cost": "sku"}}, {}, r"sku of .* has changed its type: none of 480 values can be read as Float64 "
         r"for unit_cost, the first is 'S000' \(string\)"),
        ({"time_field": "sku"}, {}, r"the time field sku of .* holds no BSON date: the first value is 'S000' \(string\)"),
        ({"time_field": "history.when"}, {}, "the time field history.when of .* holds no BSON date: no document has it; fields found: _id"),
        ({"unwind": "vendor"}, {}, "vendor is an array in no document of .*; fields found: _id, sku"),
        ({"time_field": None}, {}, "is mapped without a time field, so it has no spans"),
        ({}, {"colour": pl.String()}, "the mapping of .* names no field for colour; it maps sku, vendor"),
        ({}, {"sku": pl.Time()}, "columns of type Time cannot be read from MongoDB; known are Int32"),
    ],
)  # fmt: skip
def test_wrong_mappings_say_what_was_found(
    served: Served, offers: Any, reader: str, changes: dict[str, Any], wanted: dict[str, pl.DataType], message: str
) -> None:
    """Prevents a misspelt field or collection from looking like a table without rows or values."""
    collection, _ = offers
    mapping = replace(offers_mapping(collection), **changes)
    with pytest.raises(SourceError, match=message):
        list(MongoDBReader(params(served, reader)).spans(mapping, OFFERS | wanted, WHOLE_RANGE))


def test_field_missing_in_one_span_alone_is_null(served: Served, name: str) -> None:
    """Prevents a day without a value of an optional field from stopping the extract."""
    served.database[name].insert_many([{"at": DAY, "brand": "x"}, {"at": DAY + timedelta(days=1)}])
    mapping = CollectionMapping(name, {"at": "at", "brand": "brand"}, time_field="at")
    spans = [(DAY, DAY + timedelta(days=1)), (DAY + timedelta(days=1), DAY + timedelta(days=2))]
    read = list(MongoDBReader(served.params).spans(mapping, {"at": pl.Datetime("us"), "brand": pl.String()}, spans))
    assert [part.frame["brand"].to_list() for part in read] == [["x"], [None]]
