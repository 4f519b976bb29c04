"""Raw tables as extracted: catalogue tables whole, daily tables partitioned by day, each in a run of its own where that is wanted.

They come from the embedded shop or from the shop's own databases, as the settings say. The embedded shop's demand is real; its supply
(vendors, offers, page views, stock, and so what could be sold) is simulated, and every asset that holds simulated data says so.
`true_demand` is what customers wanted: only evaluation may read it, and where nobody knows it, in every real shop, it has no rows.
"""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import date
from functools import lru_cache
from typing import Any, Protocol

import dagster as dg
import polars as pl

from invpipe.defs.common import ONE_RUN, ShopSettings, declared, figures
from invpipe.defs.io import PartitionStream
from invpipe.defs.partitions import Partitions
from invpipe.settings import Settings
from invpipe.sources.databases.shop import DatabaseShop
from invpipe.sources.databases.typed import Typed
from invpipe.sources.embedded import EmbeddedParams, embedded_shop
from invpipe.sources.tables import ShopTables

#: Daily raw tables and the column that dates them.
DAILY_TABLES = {
    "sales_daily": "day",
    "stock_daily": "day",
    "page_views_daily": "day",
    "offers": "observed_at",
    "orderable_daily": "day",
}

DESCRIPTIONS = {
    "items": "Catalogue of the shop, one row per SKU.",
    "vendors": "Vendors with lead times and minimum order values.",
    "sales_daily": "Units sold per SKU and day.",
    "stock_daily": "Units on hand at opening, rows where they changed.",
    "page_views_daily": "Product page views per SKU and day.",
    "offers": "Vendor offers, one event per change.",
    "orderable_daily": "SKUs that could be sold on the day.",
}
SIMULATED = "Simulated: no public data set knows the supply side."
EMBEDDED = {
    "items": "Complete Journey products.",
    "sales_daily": "Real demand cut off by simulated stock.",
}

TRUE_DEMAND_SCHEMA = {"sku": pl.String, "day": pl.Date, "demand_units": pl.Int32}

#: A run over many days says how far it is this often, seconds.
PROGRESS_S = 5.0


class Source(Protocol):
    """Where raw tables come from."""

    def whole(self, table: str) -> Typed:
        """Return a table without days."""

    def days(self, table: str, days: Sequence[date]) -> Iterator[tuple[date, Typed]]:
        """Yield the rows of each day; a day that comes again takes the place of what came before."""


class EmbeddedSource:
    """The embedded shop as a source."""

    def __init__(self, tables: ShopTables) -> None:
        self.tables = tables

    def whole(self, table: str) -> Typed:
        """Return the items or the vendors."""
        return Typed(getattr(self.tables, table))

    def days(self, table: str, days: Sequence[date]) -> Iterator[tuple[date, Typed]]:
        """Yield the rows of each day."""
        frame: pl.DataFrame = getattr(self.tables, table)
        if table == "orderable_daily":
            frame = days_from_spans(frame)
        day = pl.col(DAILY_TABLES[table]).cast(pl.Date)
        wanted = frame.filter(day.is_in(list(days))).with_columns(day.alias("_day"))
        parts = wanted.partition_by("_day", as_dict=True, include_key=False)
        yield from ((d, Typed(parts.get((d,), frame.clear()), pl.DataFrame())) for d in days)


@lru_cache(maxsize=1)
def _embedded(params: EmbeddedParams) -> ShopTables:
    return embedded_shop(params)


def shop_tables(settings: Settings) -> ShopTables:
    """Return the tables of the embedded shop."""
    return _embedded(EmbeddedParams(n_skus=settings.embedded.skus or None, seed=settings.embedded.seed))


def source_of(settings: Settings, log: Callable[[str], object]) -> Source:
    """Return the source that the settings name."""
    return DatabaseShop(settings, log) if settings.source == "databases" else EmbeddedSource(shop_tables(settings))


def days_from_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """Return one row (sku, day, orderable = true) per day of the spans."""
    days = spans.select("sku", pl.date_ranges("from_day", "to_day").alias("day")).explode("day", empty_as_null=False)
    return days.with_columns(pl.lit(value=True).alias("orderable"))


def description(table: str, settings: Settings) -> str:
    """Say what a raw table holds and where it comes from."""
    if settings.source == "embedded":
        return f"{DESCRIPTIONS[table]} {EMBEDDED.get(table, SIMULATED)}"
    mapped = settings.tables.mapped.get(table)
    if mapped is None:
        return f"{DESCRIPTIONS[table]} Not mapped: no rows."
    return f"{DESCRIPTIONS[table]} From a {mapped.place}."


def source_assets(partitions: Partitions, settings: Settings) -> list[dg.AssetsDefinition]:
    """Return the raw assets."""
    shared = declared("sources", __file__, "source", "embedded", "shop", "tables")

    def whole_table(table: str) -> dg.AssetsDefinition:
        def raw_table(context: dg.AssetExecutionContext, settings: ShopSettings) -> pl.DataFrame:
            read = source_of(settings.get(), context.log.warning).whole(table)
            context.add_output_metadata(_unreadable(context, table, read))
            return read.frame

        return dg.asset(raw_table, name=f"raw_{table}", description=description(table, settings), **shared)

    def daily_table(table: str) -> dg.AssetsDefinition:
        def raw_table(context: dg.AssetExecutionContext, settings: ShopSettings) -> PartitionStream:
            days = [date.fromisoformat(key) for key in context.partition_keys]
            return PartitionStream(_told(context, table, source_of(settings.get(), context.log.warning).days(table, days), len(days)))

        partitioned = {"partitions_def": partitions.day, "backfill_policy": ONE_RUN}
        return dg.asset(raw_table, name=f"raw_{table}", description=description(table, settings), **partitioned, **shared)

    @dg.asset(
        description="Units customers wanted per SKU and day; without rows where nobody knows them. Evaluation only: no forecast or "
        "plan may read it.",
        **shared,
    )
    def true_demand(context: dg.AssetExecutionContext, settings: ShopSettings) -> pl.DataFrame:
        """Read the true demand of the embedded shop."""
        now = settings.get()
        if now.source == "databases":
            return pl.DataFrame(schema=TRUE_DEMAND_SCHEMA)
        tables = shop_tables(now)
        demand = tables.demand_daily
        cells = len(tables.items) * ((tables.last_day - tables.first_day).days + 1)
        shown = {"demand_units": int(demand["demand_units"].sum()), "zero_cells_frac": 1 - len(demand) / cells}
        context.add_output_metadata(figures(shown))
        return demand

    return [whole_table("items"), whole_table("vendors"), *(daily_table(table) for table in DAILY_TABLES), true_demand]


def _told(
    context: dg.AssetExecutionContext, table: str, parts: Iterator[tuple[date, Typed]], n_days: int
) -> Generator[tuple[str, pl.DataFrame], None, None]:
    """Pass the days on, saying how far the table is and what could not be read."""
    done = rows = 0
    said = time.monotonic()
    for day, read in parts:
        shown = _unreadable(context, table, read)
        if shown:
            context.add_asset_metadata(shown, partition_key=day.isoformat())
        yield day.isoformat(), read.frame
        done, rows = done + 1, rows + len(read.frame)
        if time.monotonic() - said > PROGRESS_S:
            said = time.monotonic()
            context.log.info(f"raw_{table}: {done:,} of {n_days:,} days, {rows:,} rows")
    context.log.info(f"raw_{table}: {n_days:,} days, {rows:,} rows")


def _unreadable(context: dg.AssetExecutionContext, table: str, read: Typed) -> dict[str, Any]:
    """Warn of values that could not be read in their type, and return them as metadata; they are null, and their rows go to quarantine."""
    if read.unreadable.is_empty():
        return {}
    for row in read.unreadable.iter_rows(named=True):
        context.log.warning(
            f"raw_{table}: {row['count']:,} values of {row['column']} ({row['database_type']}) cannot be read, first {row['example']}"
        )
    records = [dg.TableRecord({name: str(value) for name, value in row.items()}) for row in read.unreadable.iter_rows(named=True)]
    return {"unreadable_values": int(read.unreadable["count"].sum()), "unreadable": dg.MetadataValue.table(records)}
