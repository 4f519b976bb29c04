"""Tape from a history: the tables of a shop in memory become the arrays of a tape.

The opening state reads rows up to the start day only, and nothing reads a row after the end day. Events of one offer on one day are reduced
to the last one, and to what it changes against the offer's state on the day before.

Memory holds the whole span; :mod:`invpipe.arena.tape_stream` writes the same bytes span by span.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.arena.tape import Columns, Tape
from invpipe.errors import HistoryError, TapeError
from invpipe.history import ShopHistory

AnyArray = npt.NDArray[Any]

#: What a vendor's offer states, and the values that mean "unchanged" in a delta.
OFFER_STATE = ("unit_cost", "in_stock", "min_order_units", "pack_units")
UNCHANGED = {"unit_cost": float("nan"), "in_stock": -1, "min_order_units": 0, "pack_units": 0}


def build_tape(history: ShopHistory, start: date, end: date, demand: pl.DataFrame | None, *, opening_cost_frac: float) -> Tape:
    """Return the tape of the days start .. end; see :meth:`invpipe.arena.tape.Tape.build`."""
    if not history.first_day <= start <= end <= history.last_day:
        msg = f"span {start} .. {end} is not within the history {history.first_day} .. {history.last_day}; choose days within it"
        raise HistoryError(msg)
    skus = tuple(history.skus)
    index = numbered(skus, "sku", "s")
    recorded, column = (history.sales_daily, "sales_units") if demand is None else (demand, "demand_units")
    wanted = recorded.select("sku", "day", units=column)
    vendors, columns = vendor_columns(history.vendors)
    offers, opening_offers, deltas = _offers(history, index, vendors, start, end)
    views = history.page_views_daily
    return Tape.from_arrays(
        start=start,
        n_days=(end - start).days + 1,
        skus=skus,
        unit_price=unit_prices(history.items, index),
        vendors=vendors,
        **columns,
        offer_sku=offers["s"].to_numpy(),
        offer_vendor=offers["v"].to_numpy(),
        opening_on_hand_units=_opening_stock(history, index, start),
        opening_unit_cost=opening_cost(history.items, index, offers, opening_cost_frac),
        opening_offers=opening_offers,
        prior_sales=_prior_sales(history, index, start),
        prior_conversion=_prior_conversion(history, index, start),
        demand=events_of(wanted, index, start, end, "units", "demand"),
        views=((), (), ()) if views is None else events_of(views, index, start, end, "views", "page_views_daily"),
        deltas=deltas,
    )


def events_of(frame: pl.DataFrame, index: pl.DataFrame, start: date, end: date, value: str, what: str) -> Columns:
    """Return (day, sku, value) of the rows within start .. end, sorted."""
    rows = frame.filter(pl.col("day").is_between(start, end)).join(index, on="sku", how="left", maintain_order="left")
    unknown = rows.filter(pl.col("s").is_null())
    if len(unknown):
        first = unknown.row(0, named=True)
        count = f"{len(unknown)} of {len(rows)} rows of {what}"
        msg = f"{count} name a SKU that is not in items, first {first['sku']!r} on {first['day']}; add the item"
        raise TapeError(msg)
    rows = rows.select((pl.col("day") - start).dt.total_days().cast(pl.Int32).alias("d"), "s", value).sort("d", "s")
    return rows["d"].to_numpy(), rows["s"].to_numpy(), rows[value].to_numpy()


def numbered(names: Sequence[str], name: str, number: str) -> pl.DataFrame:
    """Return the names and their numbers from 0 on, as two columns."""
    return pl.DataFrame({name: list(names), number: np.arange(len(names), dtype=np.int32)}, schema_overrides={name: pl.String})


def vendor_columns(vendors: pl.DataFrame | None) -> tuple[tuple[str, ...], dict[str, AnyArray]]:
    """Return the sorted names of the vendors and their arrays."""
    names = ("lead_time_days_mean", "lead_time_days_sd", "min_order_value")
    if vendors is None:
        return (), {name: np.zeros(0) for name in names}
    table = vendors.sort("vendor")
    return tuple(table["vendor"]), {name: table[name].to_numpy() for name in names}


def offer_events(offers: pl.DataFrame, index: pl.DataFrame, vendors: Sequence[str], end: date) -> pl.DataFrame:
    """Return the events up to the end day with the numbers of their SKU (s) and vendor (v) and their day, sorted by offer and time."""
    events = (
        offers.with_columns(pl.col("observed_at").dt.date().alias("day"), pl.col("in_stock").cast(pl.Int8))
        .filter(pl.col("day") <= end)
        .join(index, on="sku", how="left")
        .join(numbered(vendors, "vendor", "v"), on="vendor", how="left")
    )
    unknown = events.filter(pl.col("s").is_null() | pl.col("v").is_null())
    if len(unknown):
        first = unknown.row(0, named=True)
        count = f"{len(unknown)} of {len(events)} offers"
        msg = f"{count} name an unknown SKU or vendor, first ({first['sku']}, {first['vendor']}); add it to its table"
        raise TapeError(msg)
    return events.sort("s", "v", "observed_at").select("s", "v", "day", *OFFER_STATE)


def differential(states: pl.DataFrame) -> pl.DataFrame:
    """Return the states of offers, sorted by (s, v, time), reduced to what each changes against the one before it, those that change."""
    before = {name: pl.col(name).shift(1).over("s", "v") for name in OFFER_STATE}
    changed = {name: before[name].is_null() | (pl.col(name) != before[name]) for name in OFFER_STATE}
    # one with_columns: every expression sees the state as recorded, not the reduced one
    return states.with_columns(
        *(pl.when(changed[name]).then(pl.col(name)).otherwise(UNCHANGED[name]).alias(name) for name in OFFER_STATE),
        pl.any_horizontal(changed.values()).alias("changed"),
    ).filter("changed")


def opening_offers(opening: pl.DataFrame) -> tuple[AnyArray, ...]:
    """Return the opening state of the offers; what was not seen before the start has no cost and no stock."""
    never = {"unit_cost": float("nan"), "in_stock": 0, "min_order_units": 1, "pack_units": 1}
    return tuple(opening[name].fill_null(never[name]).to_numpy() for name in OFFER_STATE)


def _offers(
    history: ShopHistory, index: pl.DataFrame, vendors: tuple[str, ...], start: date, end: date
) -> tuple[pl.DataFrame, Columns | None, Columns]:
    """Return the offers (s, v, o, last cost before the start), their opening state, and the deltas of start .. end."""
    schema = {"s": pl.Int32, "v": pl.Int32, "o": pl.Int32, "unit_cost": pl.Float64}
    if history.offers is None:
        return pl.DataFrame(schema=schema), None, ((), (), (), (), (), ())
    events = offer_events(history.offers, index, vendors, end)
    days = events.group_by("s", "v", "day", maintain_order=True).agg(pl.col(OFFER_STATE).last())
    offers = days.select("s", "v").unique().sort("s", "v").with_row_index("o").with_columns(pl.col("o").cast(pl.Int32))
    seen = days.filter(pl.col("day") < start).group_by("s", "v", maintain_order=True).agg(pl.col(OFFER_STATE).last())
    opening = offers.join(seen, on=["s", "v"], how="left").sort("o")
    deltas = differential(days).filter(pl.col("day") >= start).join(offers, on=["s", "v"])
    rows = deltas.with_columns((pl.col("day") - start).dt.total_days().cast(pl.Int32).alias("d")).sort("d", "o")
    return (
        opening.select(*schema),
        opening_offers(opening),
        (rows["d"].to_numpy(), rows["o"].to_numpy(), *(rows[name].to_numpy() for name in OFFER_STATE)),
    )


def unit_prices(items: pl.DataFrame, index: pl.DataFrame) -> AnyArray:
    """Return the list price of each SKU."""
    return index.join(items, on="sku", how="left", maintain_order="left")["list_price"].to_numpy()


def _opening_stock(history: ShopHistory, index: pl.DataFrame, start: date) -> AnyArray | None:
    """Return the units on hand at the opening of the start day: the last row up to it, 0 where there is none."""
    if history.stock_daily is None:
        return None
    last = history.stock_daily.filter(pl.col("day") <= start).sort("sku", "day").group_by("sku").agg(pl.col("on_hand_units").last())
    return index.join(last, on="sku", how="left", maintain_order="left")["on_hand_units"].fill_null(0).to_numpy()


def opening_cost(items: pl.DataFrame, index: pl.DataFrame, offers: pl.DataFrame, opening_cost_frac: float) -> AnyArray:
    """Return each SKU's lowest known unit cost, or the given share of its list price where no vendor was seen."""
    lowest = offers.group_by("s").agg(pl.col("unit_cost").min())
    return (
        index.join(lowest, on="s", how="left", maintain_order="left")
        .join(items.select("sku", "list_price"), on="sku", how="left", maintain_order="left")
        .select(pl.col("unit_cost").fill_null(pl.col("list_price") * opening_cost_frac))["unit_cost"]
        .to_numpy()
    )


def _prior_sales(history: ShopHistory, index: pl.DataFrame, start: date) -> Columns:
    rows = (
        history.sales_daily.filter(pl.col("day") < start)
        .join(index, on="sku")
        .select((start - pl.col("day")).dt.total_days().cast(pl.Int32).alias("age"), "s", "sales_units")
        .sort("age", "s", descending=[True, False])
    )
    return rows["age"].to_numpy(), rows["s"].to_numpy(), rows["sales_units"].to_numpy()


def _prior_conversion(history: ShopHistory, index: pl.DataFrame, start: date) -> Columns | None:
    """Return (units, views) per SKU over the orderable days before the start on which page views were recorded at all."""
    if history.page_views_daily is None or history.page_views_daily.is_empty():
        return None
    within = pl.col("day").is_between(history.page_views_daily["day"].min(), start, closed="left")
    spans = history.orderable_daily
    sold = orderable_total(history.sales_daily.filter(within), spans, index, "sales_units")
    return sold, orderable_total(history.page_views_daily.filter(within), spans, index, "views")


def orderable_total(frame: pl.DataFrame, spans: pl.DataFrame, index: pl.DataFrame, value: str) -> AnyArray:
    """Return the sum of the value per SKU over the frame's orderable days."""
    by_start = spans.select("sku", "to_day", day="from_day").sort("sku", "day")
    rows = frame.sort("sku", "day").join_asof(by_start, on="day", by="sku", strategy="backward", check_sortedness=False)
    sums = rows.filter(pl.col("day") <= pl.col("to_day")).group_by("sku").agg(pl.col(value).cast(pl.Int64).sum().alias("n"))
    return index.join(sums, on="sku", how="left", maintain_order="left")["n"].fill_null(0).to_numpy()
