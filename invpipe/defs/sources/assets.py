"""Raw tables as extracted: catalogue tables whole, daily tables partitioned by day.

The embedded shop's demand is real; its supply (vendors, offers, page views, stock, and so what could be sold) is simulated, and every
asset that holds simulated data says so. `true_demand` is what customers wanted: only evaluation may read it.
"""

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from invpipe.defs.common import ShopSettings, declared
from invpipe.defs.partitions import Partitions
from invpipe.settings import Settings
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

SIMULATED = "Simulated: no public data set knows the supply side."


def shop_tables(settings: Settings) -> ShopTables:
    """Return the tables of the embedded shop."""
    return embedded_shop(EmbeddedParams(n_skus=settings.embedded.skus or None, seed=settings.embedded.seed))


def by_day(frame: pl.DataFrame, column: str, days: list[str]) -> dict[str, pl.DataFrame]:
    """Split a table by the day of its rows, one frame per day asked for, empty where there is none."""
    day = pl.col(column).cast(pl.Date)
    wanted = frame.filter(day.is_in([date.fromisoformat(d) for d in days]))
    parts = {
        key[0]: part for key, part in wanted.with_columns(day.alias("_day")).partition_by("_day", as_dict=True, include_key=False).items()
    }
    return {d: parts.get(date.fromisoformat(d), frame.clear()) for d in days}


def days_from_spans(spans: pl.DataFrame) -> pl.DataFrame:
    """Return one row (sku, day, orderable = true) per day of the spans."""
    days = spans.select("sku", pl.date_ranges("from_day", "to_day").alias("day")).explode("day", empty_as_null=False)
    return days.with_columns(pl.lit(value=True).alias("orderable"))


def source_assets(partitions: Partitions) -> list[dg.AssetsDefinition]:
    """Return the raw assets."""
    shared = declared("sources", __file__, "source", "embedded")
    group = {"group_name": shared.pop("group_name")}

    def spec(name: str, description: str, **more: Any) -> dg.AssetSpec:
        return dg.AssetSpec(name, description=description, **shared, **group, **more)

    @dg.multi_asset(
        outs={
            s.key.to_user_string(): dg.AssetOut.from_spec(s)
            for s in (
                spec("raw_items", "Catalogue of the shop, one row per SKU (Complete Journey products)."),
                spec("raw_vendors", f"Vendors with lead times and minimum order values. {SIMULATED}"),
                spec("true_demand", "Units customers wanted per SKU and day. Evaluation only: no forecast or plan may read it."),
            )
        },
        name="extract_catalogue",
    )
    def extract_catalogue(settings: ShopSettings) -> Iterator[dg.Output[pl.DataFrame]]:
        """Read the tables that have no day."""
        tables = shop_tables(settings.get())
        yield dg.Output(tables.items, "raw_items")
        yield dg.Output(tables.vendors, "raw_vendors")
        demand = tables.demand_daily
        cells = len(tables.items) * ((tables.last_day - tables.first_day).days + 1)
        yield dg.Output(
            demand, "true_demand", metadata={"demand_units": int(demand["demand_units"].sum()), "zero_cells_frac": 1 - len(demand) / cells}
        )

    descriptions = {
        "sales_daily": "Units sold per SKU and day: real demand cut off by simulated stock.",
        "stock_daily": f"Units on hand at opening, rows where they changed. {SIMULATED}",
        "page_views_daily": f"Product page views per SKU and day. {SIMULATED}",
        "offers": f"Vendor offers, one event per change. {SIMULATED}",
        "orderable_daily": f"SKUs that could be sold on the day. {SIMULATED}",
    }

    @dg.multi_asset(
        outs={f"raw_{name}": dg.AssetOut.from_spec(spec(f"raw_{name}", descriptions[name])) for name in DAILY_TABLES},
        name="extract_days",
        partitions_def=partitions.day,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def extract_days(context: dg.AssetExecutionContext, settings: ShopSettings) -> Iterator[dg.Output[dict[str, pl.DataFrame]]]:
        """Read the rows of the run's days."""
        tables = shop_tables(settings.get())
        days = list(context.partition_keys)
        for name, column in DAILY_TABLES.items():
            frame = days_from_spans(tables.orderable_daily) if name == "orderable_daily" else getattr(tables, name)
            yield dg.Output(by_day(frame, column, days), f"raw_{name}")
            context.log.info(f"raw_{name}: {len(days)} days")

    return [extract_catalogue, extract_days]
