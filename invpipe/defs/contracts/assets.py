"""Validated tables: good rows as `core_*`, the others in quarantine with the rule they broke; then the history of the shop."""

from collections.abc import Iterator, Mapping
from datetime import date

import dagster as dg
import polars as pl

from invpipe.contracts import CONTRACTS, OPTIONAL_TABLES, spans_from_stock, validate_tables
from invpipe.defs.common import ShopSettings, declared, figures
from invpipe.defs.sources.assets import DAILY_TABLES
from invpipe.errors import ContractError
from invpipe.history import ShopHistory
from invpipe.report.tables import fiscal_years, markdown
from invpipe.settings import Settings
from invpipe.sources.databases.offer_deltas import OfferDeltas

DESCRIPTIONS = {
    "items": "Catalogue, key sku.",
    "vendors": "Vendors, key vendor. Simulated in the embedded shop.",
    "sales_daily": "Units sold, key (sku, day).",
    "stock_daily": "Units on hand at opening, key (sku, day), rows where they changed. Simulated in the embedded shop.",
    "page_views_daily": "Page views, key (sku, day). Simulated in the embedded shop.",
    "offers": "Vendor offers, key (sku, vendor, observed_at). Simulated in the embedded shop.",
    "orderable_daily": "Spans of days on which demand could be seen, key (sku, from_day). Simulated in the embedded shop.",
}

_DECLARED = declared("contracts", __file__, "source", "tables")
_CORE = {f"core_{name}": dg.AssetOut(description=text, **_DECLARED) for name, text in DESCRIPTIONS.items()}
_QUARANTINE = {
    "quarantine": dg.AssetOut(description="Rows that broke a contract: table, rules, the row as JSON.", **_DECLARED),
    "quarantine_counts": dg.AssetOut(
        description="Failed rows per table and rule, with an example and the table's rows.",
        # a new threshold is held against the tables again
        **declared("contracts", __file__, "source", "tables", "quarantine_threshold_frac"),
    ),
}
_DAYS = {f"raw_{name}": dg.AssetIn(metadata={"allow_missing_partitions": True}) for name in DAILY_TABLES}


def joined(days: Mapping[str, pl.DataFrame], table: str) -> pl.DataFrame:
    """Return the frames of consecutive days as one.

    Raises
    ------
    ContractError
        Where no day was extracted, or a day between the first and the last is missing.
    """
    if not days:
        msg = f"no day of raw_{table} was extracted; materialise its partitions first"
        raise ContractError(msg)
    first, last = (date.fromisoformat(day) for day in (min(days), max(days)))
    missing = sorted({d.isoformat() for d in pl.date_range(first, last, eager=True)} - set(days))
    if missing:
        msg = f"raw_{table} lacks {len(missing)} days between {first} and {last}, first {missing[0]}; backfill these partitions"
        raise ContractError(msg)
    return pl.concat([days[day] for day in sorted(days)])


#: A table's rows depend on its own raw table and on the catalogues its keys must stand in; the quarantine on all.
_READS = {
    "core_items": {"raw_items"},
    "core_vendors": {"raw_vendors"},
    **{f"core_{name}": {f"raw_{name}", "raw_items"} | ({"raw_vendors"} if name == "offers" else set()) for name in DAILY_TABLES},
}
_ALL_RAW = {"raw_items", "raw_vendors", *(f"raw_{name}" for name in DAILY_TABLES)}
_DEPENDENCIES = {out: {dg.AssetKey(key) for key in sorted(_READS.get(out, _ALL_RAW))} for out in (*_CORE, *_QUARANTINE)}


@dg.multi_asset(outs=_CORE | _QUARANTINE, ins=_DAYS, internal_asset_deps=_DEPENDENCIES, name="validate_tables")
def core_tables(
    raw_items: pl.DataFrame,
    raw_vendors: pl.DataFrame,
    raw_sales_daily: dict[str, pl.DataFrame],
    raw_stock_daily: dict[str, pl.DataFrame],
    raw_page_views_daily: dict[str, pl.DataFrame],
    raw_offers: dict[str, pl.DataFrame],
    raw_orderable_daily: dict[str, pl.DataFrame],
    settings: ShopSettings,
) -> Iterator[dg.Output[pl.DataFrame]]:
    """Hold every raw table against its contract; without a record of orderable days, days that opened with stock were orderable."""
    daily = {
        "sales_daily": raw_sales_daily,
        "stock_daily": raw_stock_daily,
        "page_views_daily": raw_page_views_daily,
        "offers": raw_offers,
        "orderable_daily": raw_orderable_daily,
    }
    whole = {name: joined(days, name) for name, days in daily.items()}
    as_of = date.fromisoformat(max(raw_sales_daily))
    if "orderable_daily" not in present_tables(settings.get()):
        whole["orderable_daily"] = spans_from_stock(whole["stock_daily"], as_of)
    validation = validate_tables({"items": raw_items, "vendors": raw_vendors, **whole}, as_of=as_of, source="raw assets")
    for table in CONTRACTS:
        frac = validation.failed_frac[table]
        yield dg.Output(validation.tables[table], f"core_{table}", metadata=figures({"quarantined_frac": frac}))
    yield dg.Output(validation.quarantine, "quarantine", metadata={"quarantined_rows": len(validation.quarantine)})
    yield dg.Output(_all_counts(validation.counts, {"items": raw_items, "vendors": raw_vendors, **whole}), "quarantine_counts")


def present_tables(settings: Settings) -> set[str]:
    """Return the tables the shop has: all of the embedded shop, the mapped ones of a shop with databases."""
    return set(settings.tables.mapped) if settings.source == "databases" else set(CONTRACTS)


def _all_counts(counts: pl.DataFrame, tables: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Add a row with no rule for every table without a failure, so that the counts name every table."""
    clean = [name for name in tables if name not in set(counts["table"])]
    rows = {"table": clean, "rule": None, "failed_rows": 0, "total_rows": [len(tables[name]) for name in clean], "example": None}
    return pl.concat([counts, pl.DataFrame(rows, schema=counts.schema)]) if clean else counts


@dg.asset(io_manager_key="objects", **declared("contracts", __file__, "source", "tables", kinds={"polars"}))
def shop_history(
    context: dg.AssetExecutionContext,
    core_items: pl.DataFrame,
    core_vendors: pl.DataFrame,
    core_sales_daily: pl.DataFrame,
    core_stock_daily: pl.DataFrame,
    core_page_views_daily: pl.DataFrame,
    core_offers: pl.DataFrame,
    core_orderable_daily: pl.DataFrame,
    quarantine_counts: pl.DataFrame,
    settings: ShopSettings,
) -> ShopHistory:
    """All validated tables of the shop as one value: the input of everything downstream."""
    now = settings.get()
    tables = {
        "items": core_items,
        "vendors": core_vendors,
        "sales_daily": core_sales_daily,
        "stock_daily": core_stock_daily,
        "page_views_daily": core_page_views_daily,
        "offers": core_offers,
        "orderable_daily": core_orderable_daily,
    }
    absent = OPTIONAL_TABLES - present_tables(now)  # an absent table is unknown, not empty
    history = ShopHistory.from_valid({name: frame for name, frame in tables.items() if name not in absent})
    cells = len(history.skus) * history.n_days
    context.add_output_metadata(
        {
            "skus": len(history.skus),
            "first_day": history.first_day.isoformat(),
            "last_day": history.last_day.isoformat(),
            "sales_rows": len(history.sales_daily),
            **figures({"zero_cells_frac": 1 - len(history.sales_daily) / cells}),
            "units_sold_when_not_orderable": history.sales_units_not_orderable,
            "quarantined_rows": int(quarantine_counts["failed_rows"].sum()),
            "fiscal_years": dg.MetadataValue.md(markdown(fiscal_years(history.sales_daily, now.report.fiscal_year_start))),
        }
    )
    return history


@dg.asset(io_manager_key="objects", **declared("contracts", __file__, "source", "tables", kinds={"polars"}))
def offer_deltas(context: dg.AssetExecutionContext, core_offers: pl.LazyFrame) -> OfferDeltas:
    """Record what changed in vendors' offers, in the order of time, and only that: values that stayed are null."""
    context.add_output_metadata({"offer_events": core_offers.select(pl.len()).collect().item()})
    return OfferDeltas.of(core_offers)
