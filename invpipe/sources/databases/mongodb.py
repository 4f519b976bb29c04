"""Read the tables of a shop from collections of a MongoDB server, exactly as typed by the contracts, in spans of time.

Order of events of one reading: connect; look for the collection, and whether its time field holds dates; then per span one pipeline, run by
the server: match the range of the time field, unwind the array that holds the rows (if any), match again row by row, sort by time and _id,
project the mapped fields. Batches are turned into columns by `invpipe.sources.databases.bson_columns`; memory is bounded by one span.

- On a replica set or a sharded cluster all spans are read from one snapshot (server 5.0 or later). The server keeps it for
  ``minSnapshotHistoryWindowInSeconds``, 300 unless told otherwise; a longer reading ends with an error that says so. A stand-alone
  server has no snapshots: a log line says that spans are read one after another.
- Times are UTC without a zone, to the millisecond, as MongoDB stores them.
- Nothing is retried here: the consumer has already been given the spans before a fault, so it starts anew, with
  `invpipe.sources.databases.retries.with_retries`.

Limits: rows lie in documents, or in one array of each document, not in an array within an array. The time field must hold BSON dates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl
from bson.errors import BSONError
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import (
    ConnectionFailure,
    CursorNotFound,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from invpipe.errors import ConnectionLostError, SourceError
from invpipe.sources.databases.bson_columns import PLAIN, Column, bulk_columns, plain_columns, shown, type_name
from invpipe.sources.databases.typed import CHANGED_VALUES, UNREADABLE_SCHEMA, Extent, Typed

Span = tuple[datetime, datetime]
Document = dict[str, Any]

_LOGGER = logging.getLogger(__name__)

#: Names that a message lists at most.
NAMES_SHOWN = 12
#: Position of an unwound row within its array; orders rows of one document and one time.
_POSITION = "_invpipe_position"

_UNAUTHORIZED, _AUTHENTICATION_FAILED, _SNAPSHOT_TOO_OLD, _NO_INDEXES_ON_VIEW = 13, 18, 239, 166
#: Codes of a server that stops, steps down, or has dropped a cursor or snapshot: starting again may help.
_LOST = frozenset({91, 189, 237, 246, 10107, 11600, 11602, 13435, 13436})

_HINTS = {
    _AUTHENTICATION_FAILED: "Check user, password and auth_source.",
    _UNAUTHORIZED: "Grant this user the role 'read' on the database.",
    _SNAPSHOT_TOO_OLD: "Read fewer days in one run, or raise minSnapshotHistoryWindowInSeconds on the server.",
}


@dataclass(frozen=True)
class MongoDBParams:
    """Where the server is and how it is read.

    Parameters
    ----------
    host, port
        Address of the server, or of one member of its replica set.
    user, password
        Credentials; no user connects without any. The password shows in no message or repr.
    database
        Database of the collections.
    auth_source
        Database that holds the user.
    tls, tls_ca
        Encrypt the connection; certificate authorities to trust (PEM) in place of the system's.
    connect_timeout_s
        How long to look for the server.
    read_timeout_s
        How long one query may take on the server. The connection counts as lost `connect_timeout_s` later.
    batch_documents
        Documents the server sends at once.
    reader
        "bulk" decodes whole batches in compiled code; "pymongo" document by document in Python, some thirty times slower, with the
        same result.
    """

    host: str
    database: str
    port: int = 27017
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    auth_source: str = "admin"
    tls: bool = False
    tls_ca: Path | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 300.0
    batch_documents: int = 20_000
    reader: Literal["bulk", "pymongo"] = "bulk"

    def client(self) -> MongoClient[Document]:
        """Return a client; it connects when it is first used."""
        options: dict[str, Any] = {"tls": self.tls}
        if self.tls and self.tls_ca:
            options["tlsCAFile"] = str(self.tls_ca)
        if self.user:
            options |= {"username": self.user, "password": self.password, "authSource": self.auth_source}
        try:
            return MongoClient(
                self.host,
                self.port,
                serverSelectionTimeoutMS=round(1000 * self.connect_timeout_s),
                connectTimeoutMS=round(1000 * self.connect_timeout_s),
                socketTimeoutMS=round(1000 * (self.connect_timeout_s + self.read_timeout_s)),
                retryReads=False,
                appname="invpipe",
                **options,
            )
        except OSError as error:
            msg = f"the certificates of MongoDB at {self.host}:{self.port} cannot be read ({error}); check tls_ca, a file in PEM format"
            raise SourceError(msg) from error


@dataclass(frozen=True)
class CollectionMapping:
    """Where a table's rows lie in a collection.

    Parameters
    ----------
    collection
        Name of the collection or view.
    fields
        Per column of the table the dotted path of its field.
    time_field
        Dotted path of the BSON date that spans refer to; None for a table read whole.
    unwind
        Dotted path of the array whose elements are the rows; None where each document is one row.
    match
        Further condition on the rows, as in MongoDB's ``$match``; paths as in `fields`.

    Examples
    --------
    Offers with their price history inside:

    >>> CollectionMapping(
    ...     "offers",
    ...     {"sku": "sku", "vendor": "vendor", "observed_at": "history.at", "unit_cost": "history.price"},
    ...     time_field="history.at",
    ...     unwind="history",
    ... ).pipeline(None)[0]
    {'$unwind': {'path': '$history', 'includeArrayIndex': '_invpipe_position'}}
    """

    collection: str
    fields: Mapping[str, str]
    time_field: str | None = None
    unwind: str | None = None
    match: Mapping[str, Any] = field(default_factory=dict)

    def pipeline(self, span: Span | None) -> list[Document]:
        """Return the aggregation that yields the rows of the half-open span, column k as the field ``ck``."""
        steps: list[Document] = []
        time, unwind = self.time_field or "", self.unwind or ""
        within_span: Document = {"$gte": span[0], "$lt": span[1]} if span and time else {}
        time_in_rows = time.removeprefix(f"{unwind}.") if unwind and time.startswith(f"{unwind}.") else ""
        if within_span:
            steps.append({"$match": {unwind: {"$elemMatch": {time_in_rows: within_span}}} if time_in_rows else {time: within_span}})
        if unwind:
            steps.append({"$unwind": {"path": f"${unwind}", "includeArrayIndex": _POSITION}})
        if within_span and time_in_rows:
            steps.append({"$match": {time: within_span}})
        if self.match:
            steps.append({"$match": dict(self.match)})
        order = [name for name in (time, "_id", _POSITION if unwind else "") if name]
        steps.append({"$sort": dict.fromkeys(order, 1)})
        return [*steps, {"$project": {"_id": 0} | {f"c{k}": f"${path}" for k, path in enumerate(self.fields.values())}}]


class MongoDBReader:
    """Reads tables from one MongoDB database; every reading has its own connection, closed whatever happens.

    Parameters
    ----------
    params
        Server and ways of reading.
    log
        Gets a line where something deserves notice.
    """

    def __init__(self, params: MongoDBParams, log: Callable[[str], object] = _LOGGER.warning) -> None:
        self.params = params
        self._log = log

    def whole(self, mapping: CollectionMapping, wanted: Mapping[str, pl.DataType]) -> Typed:
        """Return all rows of a table, as `spans` does for one span."""
        with self._reading(mapping, wanted) as reading:
            return reading.rows(None)

    def spans(self, mapping: CollectionMapping, wanted: Mapping[str, pl.DataType], spans: Iterable[Span]) -> Generator[Typed, None, None]:
        """Yield the rows of each half-open span [start, end) of the time field, in UTC, all from one snapshot where there are snapshots.

        Parameters
        ----------
        mapping
            Where the rows lie; it must have a time field, and a field for every wanted column.
        wanted
            Column -> type, from the contract.
        spans
            Start and end of each, naive UTC.

        Raises
        ------
        ConnectionLostError
            The server is absent, or the connection or cursor was lost: begin anew.
        SourceError
            Wrong credentials or rights; the collection or a field is missing; a column whose every value is unreadable has changed its
            type; a query took longer than `read_timeout_s`.
        """
        if mapping.time_field is None:
            msg = f"{mapping.collection} is mapped without a time field, so it has no spans; name its time_field or read it whole"
            raise SourceError(msg)
        with self._reading(mapping, wanted) as reading:
            if not reading.session:
                self._log(self._no_snapshot())
            for span in spans:
                yield reading.rows(span)

    def check(self, mapping: CollectionMapping, wanted: Mapping[str, pl.DataType]) -> list[str]:
        """Return remarks on a mapping that works but is slow or not consistent; raise what `spans` would raise at once."""
        with self._reading(mapping, wanted) as reading:
            return ([] if reading.session else [self._no_snapshot()]) + reading.index_remarks()

    def extent(self, mapping: CollectionMapping, wanted: Mapping[str, pl.DataType], span: Span) -> Extent:
        """Return how many rows a span of the time field has, and the first and last time of them."""
        with self._reading(mapping, wanted) as reading:
            return reading.extent(span)

    def _no_snapshot(self) -> str:
        where = f"{self.params.host}:{self.params.port}"
        return f"MongoDB at {where} is a stand-alone server: spans are read one after another, without a common snapshot."

    @contextmanager
    def _reading(self, mapping: CollectionMapping, wanted: Mapping[str, pl.DataType]) -> Iterator[_Reading]:
        missing = [name for name in wanted if name not in mapping.fields]
        if missing:
            msg = f"the mapping of {mapping.collection} names no field for {', '.join(missing)}; it maps {', '.join(mapping.fields)}"
            raise SourceError(msg)
        mapping = replace(mapping, fields={name: mapping.fields[name] for name in wanted})
        with _translated(self.params, mapping.collection), self.params.client() as client:
            hello = client.admin.command("hello")
            has_snapshots = "setName" in hello or hello.get("msg") == "isdbgrid"
            with client.start_session(snapshot=True) if has_snapshots else nullcontext() as session:
                reading = _Reading(self.params, mapping, wanted, client[self.params.database], session)
                reading.find_collection()
                reading.find_time_field()
                yield reading


class _Reading:
    """One connection to one collection."""

    def __init__(
        self,
        params: MongoDBParams,
        mapping: CollectionMapping,
        wanted: Mapping[str, pl.DataType],
        database: Database[Document],
        session: ClientSession | None,
    ) -> None:
        self._params, self._mapping, self._wanted, self.session = params, mapping, wanted, session
        self._database = database
        self._collection = database.get_collection(mapping.collection, codec_options=PLAIN)
        self._max_time_ms = round(1000 * params.read_timeout_s)
        self._fields_seen: set[str] = set()

    def find_collection(self) -> None:
        """Refuse a collection that does not exist: it would look like an empty one."""
        name = self._mapping.collection
        if self._database.list_collection_names(filter={"name": name}, authorizedCollections=True):
            return
        found = sorted(self._database.list_collection_names(authorizedCollections=True))
        msg = f"database {self._params.database} has no collection {name}, or this user may not see it; found: {_listed(found)}"
        raise SourceError(msg)

    def find_time_field(self) -> None:
        """Refuse a time field without dates and an array that is none: both would look like a table without rows."""
        path, unwind = self._mapping.time_field, self._mapping.unwind
        if path is not None and self._any({path: {"$type": "date"}}) is None and (document := self._any({})) is not None:
            other = self._any({path: {"$exists": True}})
            found = f"the first value is {_described(other, path)}" if other else f"no document has it; fields found: {_fields(document)}"
            msg = f"the time field {path} of {self._mapping.collection} holds no BSON date: {found}. Spans need dates; mend time_field."
            raise SourceError(msg)
        if unwind is not None:
            self._find_array(unwind)

    def _find_array(self, unwind: str) -> None:
        with_array, document = self._any({unwind: {"$type": "array"}}), self._any({})
        if with_array is None and document is not None:
            msg = f"{unwind} is an array in no document of {self._mapping.collection}; fields found: {_fields(document)}. Mend unwind."
            raise SourceError(msg)
        around: Any = with_array
        for name in unwind.split(".") if around else ():
            if isinstance(around, list):
                msg = f"{unwind} of {self._mapping.collection} lies in an array itself, which cannot be unwound; map a view that unwinds it"
                raise SourceError(msg)
            around = around[name]

    def _any(self, condition: Document) -> Document | None:
        return self._collection.find_one(condition, max_time_ms=self._max_time_ms)

    def index_remarks(self) -> list[str]:
        """Say so where no index starts with the time field; where one does, whether values that are no dates lie outside every span."""
        path, name = self._mapping.time_field, self._mapping.collection
        if path is None:
            return []
        try:
            indexes = list(self._collection.list_indexes())
        except OperationFailure as error:
            if error.code == _NO_INDEXES_ON_VIEW:
                return []
            raise
        if not any(next(iter(index["key"])) == path for index in indexes):
            return [f"No index of {name} starts with {path}: every span scans the collection. Run db.{name}.createIndex({{'{path}': 1}})."]
        undated = self._any({path: {"$type": ["string", "number", "timestamp", "null"]}})
        return [f"{path} of {name} is no date everywhere, first in _id {undated['_id']}: such rows lie in no span."] if undated else []

    def extent(self, span: Span) -> Extent:
        """Count the rows of a span, on the server."""
        rows = self._mapping.pipeline(span)[:-2]  # neither sorted nor projected
        time = f"${self._mapping.time_field}"
        counted = [*rows, {"$group": {"_id": None, "rows": {"$sum": 1}, "first": {"$min": time}, "last": {"$max": time}}}]
        with self._collection.aggregate(counted, session=self.session, allowDiskUse=True, maxTimeMS=self._max_time_ms) as found:
            one = next(iter(found), None)
        return Extent(one["rows"], str(one["first"]), str(one["last"])) if one else Extent(0, None, None)

    def rows(self, span: Span | None) -> Typed:
        """Return the rows of a span, None for all of them."""
        types = list(self._wanted.values())
        batches = list(self._batches(self._mapping.pipeline(span), types)) or [plain_columns([], types)]
        columns = {name: Column.joined([batch[k] for batch in batches]) for k, name in enumerate(self._wanted)}
        for name, column in columns.items():
            self._refuse_missing(name, column)
            self._refuse_changed(name, column)
        counts = [(name, column.unreadable, column.example, column.database_type) for name, column in columns.items() if column.unreadable]
        return Typed(
            pl.DataFrame({name: column.values for name, column in columns.items()}),
            pl.DataFrame(counts, schema=UNREADABLE_SCHEMA, orient="row"),
        )

    def _batches(self, pipeline: list[Document], types: list[pl.DataType]) -> Iterator[list[Column]]:
        n = self._params.batch_documents
        options: dict[str, Any] = {"session": self.session, "allowDiskUse": True, "batchSize": n, "maxTimeMS": self._max_time_ms}
        if self._params.reader == "bulk":
            with self._collection.aggregate_raw_batches(pipeline, **options) as cursor:
                raw = cast(Iterator[bytes], cursor)  # the stubs say documents
                yield from (bulk_columns(batch, types) for batch in raw)
        else:
            with self._collection.aggregate(pipeline, **options) as documents:
                while some := list(islice(documents, n)):
                    yield plain_columns(some, types)

    def _refuse_missing(self, name: str, column: Column) -> None:
        """Refuse a mapped field that no document has, once a span lacks it."""
        path = self._mapping.fields[name]
        if column.present or not column.values.len() or name in self._fields_seen:
            return
        if self._any({path: {"$exists": True}}) is None:
            found = _fields(self._any({}) or {})
            msg = f"no document of {self._mapping.collection} has the field {path} ({name}); fields found: {found}. Mend the mapping."
            raise SourceError(msg)
        self._fields_seen.add(name)

    def _refuse_changed(self, name: str, column: Column) -> None:
        if column.unreadable >= CHANGED_VALUES and column.values.null_count() == column.values.len():
            path, wanted = self._mapping.fields[name], self._wanted[name]
            msg = (
                f"{path} of {self._mapping.collection} has changed its type: none of {column.unreadable:,} values can be read as {wanted} "
                f"for {name}, the first is {column.example} ({column.database_type}). Mend the field or the mapping."
            )
            raise SourceError(msg)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return (", ".join(names[:NAMES_SHOWN]) or "none") + more


def _fields(document: Mapping[str, Any]) -> str:
    return _listed(list(_paths(document)))


def _paths(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the dotted path of each field, entering an array through its first element."""
    for name, value in document.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, Mapping) and inner:
            yield from (f"{name}.{path}" for path in _paths(inner))
        else:
            yield name


def _described(document: Mapping[str, Any], path: str) -> str:
    value: Any = document
    for name in path.split("."):
        value = value[0] if isinstance(value, list) and value else value
        value = value.get(name) if isinstance(value, Mapping) else value
    return f"{shown(value)} ({type_name(value)})"


@contextmanager
def _translated(params: MongoDBParams, collection: str) -> Iterator[None]:
    """Turn what pymongo raises into errors that say what to do, and which of them may pass."""
    where = f"MongoDB at {params.host}:{params.port}"
    try:
        yield
    except ServerSelectionTimeoutError as error:
        if "SSL" in str(error) or "certificate" in str(error):
            msg = f"{where} refuses TLS, or its certificate is not trusted: {_first_line(error)} Check tls and tls_ca."
            raise SourceError(msg) from error
        absent = f"{where} is absent, no answer within {params.connect_timeout_s:g} s"
        msg = f"{absent}: {_first_line(error)} Check host, port, tls, and that it runs."
        raise ConnectionLostError(msg) from error
    except (ConnectionFailure, CursorNotFound) as error:
        msg = f"the connection to {where} was lost while reading {collection}: {_first_line(error)}"
        raise ConnectionLostError(msg) from error
    except ExecutionTimeout as error:
        msg = (
            f"a query on {collection} took longer than {params.read_timeout_s:g} s on {where}. Make an index that starts with the time "
            f"field, read shorter spans, or raise read_timeout_s."
        )
        raise SourceError(msg) from error
    except OperationFailure as error:
        kind = ConnectionLostError if error.code in _LOST else SourceError
        msg = f"{where} refused to read {collection} of {params.database}: {_first_line(error)} {_HINTS.get(error.code or 0, '')}".rstrip()
        raise kind(msg) from error
    except (PyMongoError, BSONError) as error:
        msg = f"{collection} of {params.database} cannot be read from {where}: {_first_line(error)}"
        raise SourceError(msg) from error


def _first_line(error: Exception) -> str:
    """Return what happened, without the driver's topology and the server's whole reply."""
    text = str(error)
    for end in (", full error:", " (configured timeouts:", ", Timeout:"):
        text = text.split(end)[0]
    return text.splitlines()[0].rstrip(".") + "." if text.strip() else f"{type(error).__name__}."
