"""The tables of a shop out of its own databases, day by day, in the shop's calendar and the contracts' types.

Order of events for a daily table: the run's days are cut into spans of at most `extract.days_per_query` days; all of them are read in one
snapshot; times become the shop's local times; rows are shaped (below), sorted, and handed over one day at a time. Where a connection is
lost the table starts anew, in a new snapshot, with its first day.

Shaping, where a query gives ``at``, a time, instead of ``day``:

- `sales_daily` and `page_views_daily`: the day of ``at``; what falls on one (SKU, day) is added up. A sum with an unreadable part is null:
  its cell is quarantined, since nobody knows its total.
- `stock_daily`: every row says how much was left from ``at`` on; a day opens with what was said last before `shop.opening_time`.

Days are the shop's. ``:start`` and ``:end`` bound them in the time zone of the database, end excluded; those of `stock_daily` run from
opening to opening. ``:first_day`` and ``:last_day`` are the days themselves, both included, for queries that give ``day``.

Assumes that a query keeps to its bounds: rows of other days are refused, since another span would count them again. A row without a
day belongs to the first day of its span, where its contract puts it in quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property, partial
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from invpipe.contracts import CONTRACTS
from invpipe.contracts.tables import OrderableDays
from invpipe.errors import SourceError
from invpipe.settings import Settings, TableSettings
from invpipe.sources.databases.mariadb import MariaDBParams, MariaDBReader
from invpipe.sources.databases.mongodb import CollectionMapping, MongoDBParams, MongoDBReader
from invpipe.sources.databases.proposals import write_proposals
from invpipe.sources.databases.retries import started_anew, with_retries
from invpipe.sources.databases.typed import Extent, TextFrame, Typed, typed

Types = Mapping[str, pl.DataType]
Log = Callable[[str], object]

DAY = timedelta(days=1)

#: What is added up where a query gives times.
SUMMED = {"sales_daily": ("sales_units", "revenue"), "page_views_daily": ("views",)}


def wanted_types(table: str) -> dict[str, pl.DataType]:
    """Return the columns of a raw table and their types: those of the contract, `orderable_daily` as one flag per day."""
    schema = OrderableDays if table == "orderable_daily" else CONTRACTS[table].schema
    return {name: column.dtype for name, column in schema.columns().items()}


def empty_table(table: str) -> pl.DataFrame:
    """Return a raw table without rows."""
    return pl.DataFrame(schema=wanted_types(table))


@dataclass(frozen=True)
class Span:
    """Consecutive days of the shop and the times that bound them in the zone of a database.

    Parameters
    ----------
    first_day, last_day
        The days, both included.
    start, end
        Half-open range of the database's times, without a zone.
    """

    first_day: date
    last_day: date
    start: datetime
    end: datetime

    @property
    def values(self) -> dict[str, date | datetime]:
        """Return the value of each placeholder."""
        return {"start": self.start, "end": self.end, "first_day": self.first_day, "last_day": self.last_day}


def runs_of_days(days: Sequence[date], at_most: int) -> Iterator[tuple[date, date]]:
    """Yield (first, last) of each run of consecutive days, none longer than `at_most` days."""
    ordered = sorted(days)
    begin = 0
    for k in range(1, len(ordered) + 1):
        if k == len(ordered) or ordered[k] - ordered[k - 1] > DAY or k - begin == at_most:
            yield ordered[begin], ordered[k - 1]
            begin = k


@dataclass(frozen=True)
class DatabaseShop:
    """Reads the mapped tables of a shop; a table that is not mapped has no rows.

    Parameters
    ----------
    settings
        Of the home: shop, tables, connections, extract.
    log
        Told of lost connections and of what deserves notice.
    """

    settings: Settings
    log: Log

    def whole(self, table: str) -> Typed:
        """Return a table that has no days.

        Raises
        ------
        SourceError
            The database refuses, or the table does not fit its contract's columns.
        """
        mapped = self.settings.tables.mapped.get(table)
        if mapped is None:
            return Typed(empty_table(table))
        read = with_retries(lambda: self._whole(table, mapped), **self._retries)
        return Typed(read.frame.sort(pl.all(), nulls_last=True), read.unreadable)

    def days(self, table: str, days: Sequence[date]) -> Iterator[tuple[date, Typed]]:
        """Yield the rows of each day; after a lost connection all days come again, from the first on.

        Raises
        ------
        SourceError
            As for `whole`; or a query gives rows of days that it was not asked for.
        """
        mapped = self.settings.tables.mapped.get(table)
        if mapped is None:
            yield from ((day, Typed(empty_table(table))) for day in sorted(days))
            return
        spans = self.spans(table, mapped, days)
        yield from started_anew(lambda: self._days(table, mapped, spans), **self._retries)

    def spans(self, table: str, mapped: TableSettings, days: Sequence[date]) -> list[Span]:
        """Return the spans that one query each reads."""
        return [self.span(table, mapped, first, last) for first, last in runs_of_days(days, self.settings.extract.days_per_query)]

    def span(self, table: str, mapped: TableSettings, first: date, last: date) -> Span:
        """Return days of the shop with the times that bound them in the table's zone."""
        shift = DAY if table == "stock_daily" else timedelta(0)
        opening = self.settings.shop.opening_time if table == "stock_daily" else time(0)
        zone = self.zone(mapped)
        shop = ZoneInfo(self.settings.shop.time_zone)

        def there(day: date) -> datetime:
            return datetime.combine(day, opening, tzinfo=shop).astimezone(zone).replace(tzinfo=None)

        return Span(first, last, there(first - shift), there(last - shift + DAY))

    def zone(self, mapped: TableSettings) -> ZoneInfo:
        """Return the zone of a table's times."""
        return ZoneInfo(mapped.time_zone or (self.settings.mariadb.time_zone if mapped.sql is not None else "UTC"))

    @property
    def _retries(self) -> dict[str, Any]:
        """How reading and writing is tried again after a lost connection."""
        return {"retries": self.settings.extract.retries, "wait_s": self.settings.extract.retry_wait_s, "log": self.log}

    @cached_property
    def mariadb(self) -> MariaDBReader:
        """Reader of the MariaDB database."""
        return MariaDBReader(self._mariadb(self.settings.mariadb.user, self.settings.mariadb.secret()))

    def _mariadb(self, user: str, password: str) -> MariaDBParams:
        s = self.settings.mariadb
        return MariaDBParams(
            host=s.host,
            port=s.port,
            user=user,
            password=password,
            database=s.database,
            tls=s.tls,
            tls_ca=s.tls_ca,
            connect_timeout_s=s.connect_timeout_s,
            read_timeout_s=s.read_timeout_s,
            statement_timeout_s=s.statement_timeout_s,
            reader=s.reader,
            session_time_zone="+00:00" if s.time_zone == "UTC" else s.time_zone,
        )

    def write_proposals(self, day: date, lines: pl.DataFrame) -> int:
        """Write a day's order lines to the table of proposals and return how many there are.

        Raises
        ------
        SourceError
            The server refuses, or the table has other columns.
        """
        own = self.settings.proposals
        login = own if own.user else self.settings.mariadb
        params = self._mariadb(login.user, login.secret())
        return with_retries(lambda: write_proposals(params, own.table, day, lines), **self._retries)

    @cached_property
    def mongodb(self) -> MongoDBReader:
        """Reader of the MongoDB database."""
        s = self.settings.mongodb
        params = MongoDBParams(
            host=s.host,
            port=s.port,
            user=s.user or None,
            password=s.secret() or None,
            database=s.database,
            auth_source=s.auth_source,
            tls=s.tls,
            tls_ca=s.tls_ca,
            connect_timeout_s=s.connect_timeout_s,
            read_timeout_s=s.read_timeout_s,
        )
        return MongoDBReader(params, self.log)

    def extent(self, table: str, mapped: TableSettings, first_day: date, last_day: date) -> Extent:
        """Return how many rows a daily table has from first to last day, counted by the database."""
        span = self.span(table, mapped, first_day, last_day)
        if mapped.sql is None:
            return self.mongodb.extent(self.collection(table, mapped), collection_types(table, mapped), (span.start, span.end))
        rows = "FROM (\n" + mapped.sql.strip().rstrip(";") + "\n) AS q"
        names = self._one("SELECT * " + rows + " LIMIT 0", span, table).columns
        at = next((name for name in ("at", "observed_at", "day") if name in names), names[0])
        counted = self._one(f"SELECT COUNT(*) AS n, MIN(q.`{at}`) AS first_time, MAX(q.`{at}`) AS last_time " + rows, span, table)
        ((n, first, last),) = counted.rows()
        return Extent(int(n), first, last)

    def _one(self, sql: str, span: Span, table: str) -> pl.DataFrame:
        (read,) = self.mariadb.spans(sql, [span.values], table=table)
        return read.frame

    def remarks(self, table: str, mapped: TableSettings) -> list[str]:
        """Return what works but deserves notice: a missing index, a server without snapshots."""
        return [] if mapped.sql is not None else self.mongodb.check(self.collection(table, mapped), collection_types(table, mapped))

    def _whole(self, table: str, mapped: TableSettings) -> Typed:
        if mapped.sql is not None:
            return typed(self.mariadb.whole(mapped.sql, table=table), wanted_types(table), table=table)
        return self.mongodb.whole(self.collection(table, mapped), wanted_types(table))

    def collection(self, table: str, mapped: TableSettings) -> CollectionMapping:
        """Return where a table's rows lie in MongoDB; the time field of a daily table is its column ``at`` or `dated_by`."""
        dated_by = CONTRACTS[table].dated_by
        time_field = mapped.time_field or mapped.fields.get("at") or (mapped.fields.get(dated_by) if dated_by else None)
        return CollectionMapping(mapped.collection or "", mapped.fields, time_field, mapped.unwind, mapped.match)

    def _days(self, table: str, mapped: TableSettings, spans: list[Span]) -> Iterator[tuple[date, Typed]]:
        with closing(self._read(table, mapped, spans)) as reading:
            for span in spans:
                yield from self._split(table, mapped, span, next(reading))  # no name holds a span while the next one is read

    def _split(self, table: str, mapped: TableSettings, span: Span, read: Typed) -> Iterator[tuple[date, Typed]]:
        return split_by_day(table, shaped(table, read.frame, self.zone(mapped), self.settings), read.unreadable, span)

    def _read(self, table: str, mapped: TableSettings, spans: list[Span]) -> Generator[Typed, None, None]:
        if mapped.sql is not None:
            texts = self.mariadb.spans(mapped.sql, [span.values for span in spans], table=table)
            with closing(texts):  # else the traceback of an error would keep the snapshot, and its locks, open
                yield from map(partial(_typed_as_given, table), texts)
        else:
            bounds = [(span.start, span.end) for span in spans]
            reads = self.mongodb.spans(self.collection(table, mapped), collection_types(table, mapped), bounds)
            with closing(reads):
                yield from reads


def collection_types(table: str, mapped: TableSettings) -> Types:
    """Return the wanted types of a daily collection: with ``at`` instead of ``day`` where that is mapped."""
    return _with_at(table) if "at" in mapped.fields else wanted_types(table)


def _typed_as_given(table: str, text: TextFrame) -> Typed:
    """Type a result by the contract, with ``at`` instead of ``day`` where it gives a time."""
    gives_times = "at" in text.frame.columns and "day" not in text.frame.columns
    return typed(text, _with_at(table) if gives_times else wanted_types(table), table=table)


def _with_at(table: str) -> dict[str, pl.DataType]:
    if table not in (*SUMMED, "stock_daily"):
        msg = f"table {table} gives the column 'at', which only {', '.join(SUMMED)} and stock_daily may; give the columns of its contract"
        raise SourceError(msg)
    return {("at" if name == "day" else name): pl.Datetime("us") if name == "day" else dtype for name, dtype in wanted_types(table).items()}


def shaped(table: str, frame: pl.DataFrame, zone: ZoneInfo, settings: Settings) -> pl.DataFrame:
    """Return the rows with the shop's times, and one row per key where times were given.

    Parameters
    ----------
    table
        Name of the table.
    frame
        Rows as read; times in `zone`.
    zone
        Zone of the database's times. Of a local hour that the clock repeats the first is meant; one that it skips becomes null.
    settings
        Of the home: the shop's zone and opening time.
    """
    times = [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.Datetime)]
    local = [
        pl.col(name)
        .dt.replace_time_zone(zone.key, ambiguous="earliest", non_existent="null")
        .dt.convert_time_zone(settings.shop.time_zone)
        .dt.replace_time_zone(None)
        for name in times
    ]
    frame = frame.with_columns(local)
    if "at" not in frame.columns:
        return frame
    if table == "stock_daily":
        opening = settings.shop.opening_time
        since_opening = pl.col("at") - pl.duration(hours=opening.hour, minutes=opening.minute, seconds=opening.second)
        said = frame.with_columns(since_opening.dt.date().dt.offset_by("1d").alias("day"))
        # two levels of one moment: the lower one, whatever their order
        said = said.sort("sku", "at", "on_hand_units", descending=[False, False, True], nulls_last=True, maintain_order=True)
        return said.group_by("sku", "day", maintain_order=True).agg(pl.col("on_hand_units").last())
    days = frame.with_columns(pl.col("at").dt.date().alias("day")).sort(pl.all(), nulls_last=True)  # sums of floats depend on the order
    sums = [pl.when(pl.col(name).is_null().any()).then(None).otherwise(pl.col(name).sum()).alias(name) for name in SUMMED[table]]
    return days.group_by("sku", "day", maintain_order=True).agg(sums)


def split_by_day(table: str, frame: pl.DataFrame, unreadable: pl.DataFrame, span: Span) -> Iterator[tuple[date, Typed]]:
    """Yield each day's rows, sorted; what could not be read in the span is told with its first day.

    Raises
    ------
    SourceError
        Rows lie outside the span.
    """
    wanted = list(wanted_types(table))
    dated_by = "observed_at" if table == "offers" else "day"
    day = pl.col(dated_by).dt.date().fill_null(span.first_day)
    outside = frame.filter(~day.is_between(span.first_day, span.last_day))
    if len(outside):
        msg = (
            f"table {table}: {len(outside):,} of {len(frame):,} rows lie outside {span.first_day} .. {span.last_day}, first "
            f"{outside.row(0, named=True)}; other spans would count them again: bound the query with >= :start and < :end (times) or with "
            f"BETWEEN :first_day AND :last_day (days)"
        )
        raise SourceError(msg)
    parts = frame.select(*wanted, day.alias("_day")).partition_by("_day", as_dict=True, include_key=False)
    del frame, outside
    for k in range((span.last_day - span.first_day).days + 1):
        this = span.first_day + k * DAY
        rows = parts.pop((this,), empty_table(table)).sort(wanted, nulls_last=True)
        yield this, Typed(rows, unreadable if k == 0 else unreadable.clear())
