"""One schema per table: columns, types, key and bounds.

Key columns are `sku` and `vendor` (String) and `day` (Date); units are Int32, money is Float64 in the shop's currency. No column is
nullable unless it says so: a rule that evaluates to null would pass, so nulls are refused first.
"""

from __future__ import annotations

from dataclasses import dataclass

import dataframely as dy


class Items(dy.Schema):
    """Catalogue, key sku."""

    sku = dy.String(primary_key=True, min_length=1)
    title = dy.String(nullable=True)
    brand = dy.String(nullable=True)
    genre = dy.String(nullable=True)
    format = dy.String(nullable=True)
    release_date = dy.Date(nullable=True)
    list_price = dy.Float64(min_exclusive=0)


class Vendors(dy.Schema):
    """Vendors, key vendor: lead times in days, the least value of one order in money."""

    vendor = dy.String(primary_key=True, min_length=1)
    lead_time_days_mean = dy.Float64(min=1, max=365)
    lead_time_days_sd = dy.Float64(min=0, max=365)
    min_order_value = dy.Float64(min=0)


class SalesDaily(dy.Schema):
    """Units sold, key (sku, day); days without a sale have no row."""

    sku = dy.String(primary_key=True, min_length=1)
    day = dy.Date(primary_key=True)
    sales_units = dy.Int32(min_exclusive=0)
    revenue = dy.Float64(min=0)


class StockDaily(dy.Schema):
    """Units on hand at opening, after the day's arrivals, key (sku, day); an absent day repeats the last row of the SKU."""

    sku = dy.String(primary_key=True, min_length=1)
    day = dy.Date(primary_key=True)
    on_hand_units = dy.Int32(min=0)


class PageViewsDaily(dy.Schema):
    """Product page views, key (sku, day); days without a view have no row."""

    sku = dy.String(primary_key=True, min_length=1)
    day = dy.Date(primary_key=True)
    views = dy.Int32(min_exclusive=0)


class Offers(dy.Schema):
    """Vendor offers, key (sku, vendor, observed_at): one event per change, in the shop's local time."""

    sku = dy.String(primary_key=True, min_length=1)
    vendor = dy.String(primary_key=True, min_length=1)
    observed_at = dy.Datetime(primary_key=True, time_unit="us")
    unit_cost = dy.Float64(min_exclusive=0)
    in_stock = dy.Bool()
    min_order_units = dy.Int32(min=1)
    pack_units = dy.Int32(min=1)


class OrderableSpans(dy.Schema):
    """Days on which demand for a SKU could be seen, as spans, both ends inclusive, key (sku, from_day)."""

    sku = dy.String(primary_key=True, min_length=1)
    from_day = dy.Date(primary_key=True)
    to_day = dy.Date()


class OrderableDays(dy.Schema):
    """The same as one flag per (sku, day)."""

    sku = dy.String(primary_key=True, min_length=1)
    day = dy.Date(primary_key=True)
    orderable = dy.Bool()


@dataclass(frozen=True)
class Contract:
    """Schema of a table, the columns that date its rows, and what to do about the usual failures.

    Parameters
    ----------
    schema
        dataframely schema of the table.
    dated_by
        Column that may not lie after the as-of day, or None.
    hints
        Advice per column, closing an error message.
    """

    schema: type[dy.Schema]
    dated_by: str | None
    hints: dict[str, str]


CONTRACTS: dict[str, Contract] = {
    "items": Contract(Items, None, {"list_price": "Give every item its selling price, or leave the item out."}),
    "vendors": Contract(Vendors, None, {"lead_time_days_mean": "Give whole days from order to shelf, at least 1."}),
    "sales_daily": Contract(
        SalesDaily,
        "day",
        {"sales_units": "Book returns in their own table.", "revenue": "Net discounts against the sale they belong to."},
    ),
    "stock_daily": Contract(StockDaily, "day", {"on_hand_units": "Count reservations as on hand, or clip at 0."}),
    "page_views_daily": Contract(PageViewsDaily, "day", {"views": "Leave days without views out."}),
    "offers": Contract(Offers, "observed_at", {"unit_cost": "Write a withdrawn offer as in_stock = false with its last cost."}),
    "orderable_daily": Contract(OrderableSpans, "to_day", {"to_day": "End a running span on the last day seen."}),
}

#: Tables a shop may lack; their features are null and everything still runs.
OPTIONAL_TABLES = frozenset({"vendors", "stock_daily", "page_views_daily", "offers"})
