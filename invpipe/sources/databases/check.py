"""Look at every mapped table before the first extract: does its query run, what does a day of it look like, how long would all of it take.

Order of events per table: one day is read and held against the contract; the last span (`extract.days_per_query` days) is read against
the clock; the server counts the rows of a full load and says their first and last time. Nothing is written.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from invpipe.contracts import validate_table
from invpipe.contracts.tables import CONTRACTS
from invpipe.errors import InvpipeError, SettingsError
from invpipe.settings import Settings, TableSettings
from invpipe.sources.databases.shop import DatabaseShop
from invpipe.sources.databases.typed import Typed


@dataclass(frozen=True)
class TableCheck:
    """What was found out about one table.

    Parameters
    ----------
    table, place
        Its name, and where it comes from.
    day
        Day that was read; None for a whole table.
    day_rows
        Rows of that day, or of the whole table.
    total_rows
        Rows of a full load, before rows of one SKU and day are added up.
    first, last
        First and last time of these rows, as the database writes them.
    load_seconds
        Estimate of a full load.
    failures
        Rules of the contract that rows of the day break, each with its count and an example, and values that cannot be read.
    remarks
        What works but deserves notice.
    error
        Why the table cannot be read; None where it can.
    """

    table: str
    place: str
    day: date | None = None
    day_rows: int = 0
    total_rows: int = 0
    first: str | None = None
    last: str | None = None
    load_seconds: float = math.nan
    failures: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    error: str | None = None


def day_to_check(settings: Settings, day: date | None) -> date:
    """Return the day given, without one yesterday in the shop's time zone.

    Raises
    ------
    SettingsError
        The shop has no databases, or the day lies before its first day.
    """
    if settings.source != "databases":
        msg = f'source is {settings.source!r}: there are no databases to check; set source = "databases" and map your tables'
        raise SettingsError(msg)
    chosen = day or datetime.now(ZoneInfo(settings.shop.time_zone)).date() - timedelta(days=1)
    first = settings.shop.first_day
    if first is not None and chosen < first:
        msg = f"day {chosen} lies before the first day of the shop, {first}; give a later one"
        raise SettingsError(msg)
    return chosen


@dataclass(frozen=True)
class SourceCheck:
    """Checks the mapped tables of a shop with databases.

    Parameters
    ----------
    settings
        Of the home.
    day
        Day to read.
    log
        Told of lost connections.
    """

    settings: Settings
    day: date
    log: Callable[[str], object]
    _known: dict[str, pl.Series] = field(default_factory=dict)  # keys of the catalogue tables, as far as they could be read

    def tables(self) -> Iterator[TableCheck]:
        """Yield one check per mapped table, catalogues first; an error of one table does not end the others."""
        once = self.settings.model_copy(update={"extract": self.settings.extract.model_copy(update={"retries": 0})})
        shop = DatabaseShop(once, self.log)
        for table, mapped in self.settings.tables.mapped.items():
            check = TableCheck(table, mapped.place)
            try:
                yield self._whole(shop, check) if CONTRACTS[table].dated_by is None else self._daily(shop, check, mapped)
            except (InvpipeError, OSError) as error:
                yield replace(check, error=str(error))

    def _whole(self, shop: DatabaseShop, check: TableCheck) -> TableCheck:
        began = time.perf_counter()
        read = shop.whole(check.table)
        self._known[check.table] = read.frame.to_series()
        rows = len(read.frame)
        seconds = time.perf_counter() - began
        failures = self._failures(check.table, read)
        return replace(check, day_rows=rows, total_rows=rows, load_seconds=seconds, failures=failures, remarks=_empty(rows))

    def _daily(self, shop: DatabaseShop, check: TableCheck, mapped: TableSettings) -> TableCheck:
        ((_, read),) = shop.days(check.table, [self.day])
        failures = self._failures(check.table, read)
        first_day = self.settings.shop.first_day or self.day
        span_days = min(self.settings.extract.days_per_query, (self.day - first_day).days + 1)
        days = [self.day - timedelta(days=k) for k in range(span_days)]
        began = time.perf_counter()
        for _ in shop.days(check.table, days):
            pass
        seconds = time.perf_counter() - began
        extent = shop.extent(check.table, mapped, first_day, self.day)
        spans = ((self.day - first_day).days + 1) / span_days
        return replace(
            check,
            day=self.day,
            day_rows=len(read.frame),
            total_rows=extent.rows,
            first=extent.first,
            last=extent.last,
            load_seconds=seconds * spans,
            failures=failures,
            remarks=(*_empty(extent.rows), *shop.remarks(check.table, mapped)),
        )

    def _failures(self, table: str, read: Typed) -> tuple[str, ...]:
        unread = [
            f"{row['count']:,} values of {row['column']} ({row['database_type']}) cannot be read, first {row['example']}"
            for row in read.unreadable.iter_rows(named=True)
        ]
        skus, vendors = self._known.get("items"), self._known.get("vendors")
        held = validate_table(table, read.frame, as_of=self.day, skus=skus, vendors=vendors, source="check-sources")
        broken = [
            f"{row['failed_rows']:,} of {row['total_rows']:,} rows break {row['rule']}, first {row['example']}"
            for row in held.counts.iter_rows(named=True)
        ]
        return (*unread, *broken)


def _empty(rows: int) -> tuple[str, ...]:
    return () if rows else ("no rows at all: check the bounds and the joins of the query",)
