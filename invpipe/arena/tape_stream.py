"""Tape from a stream of days: the same bytes as from the whole history, in memory bounded by a span and the state of SKUs and offers.

Spans come in the order of time. Those before the start make the opening state: stock, sales, conversion, offers. Offers come in full or as
differential deltas (:mod:`invpipe.sources.databases.offer_deltas`): null means unchanged, the first row of an offer is complete. What an
offer's last row of a day changes against the day before becomes a delta of the tape. Offers are numbered as they appear, and for good at
the end.

Limits: the orderable spans of the whole shop are held in memory; sales before the start go to disk, as the tape keeps them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.arena.tape import Columns, Tape
from invpipe.arena.tape_build import (
    OFFER_STATE,
    differential,
    events_of,
    numbered,
    offer_events,
    opening_cost,
    opening_offers,
    orderable_total,
    unit_prices,
    vendor_columns,
)
from invpipe.arena.tape_writer import TapeDays, TapeWriter
from invpipe.errors import TapeError
from invpipe.history import ShopHistory

AnyArray = npt.NDArray[Any]

_EPOCH = date(1970, 1, 1)
_OPENING = {name: f"opening_{name}" for name in OFFER_STATE}
_OFFER_TYPES = {"unit_cost": pl.Float64, "in_stock": pl.Int8, "min_order_units": pl.Int32, "pack_units": pl.Int32}
_OFFERS = pl.Schema(
    {"s": pl.Int32, "v": pl.Int32} | _OFFER_TYPES | {_OPENING[name]: dtype for name, dtype in _OFFER_TYPES.items()} | {"i": pl.Int32}
)


@dataclass(frozen=True)
class DaySpan:
    """Rows of adjacent days of a shop, first_day .. last_day, both inclusive; tables by contract, each row within the days.

    Parameters
    ----------
    offers
        Full events, or differential deltas with null where a value did not change.
    demand_daily
        True demand, where a tape of it is wanted.
    """

    first_day: date
    last_day: date
    sales_daily: pl.DataFrame
    page_views_daily: pl.DataFrame | None = None
    offers: pl.DataFrame | None = None
    stock_daily: pl.DataFrame | None = None
    demand_daily: pl.DataFrame | None = None


def frame_spans(tables: Mapping[str, pl.LazyFrame | None], last_day: date, days_per_span: int) -> Callable[[date], Iterator[DaySpan]]:
    """Return a reader of tables for :meth:`Tape.stream`: given a day, it yields the days from it on, a span in memory at a time.

    Parameters
    ----------
    tables
        Tables by contract, names of the fields of :class:`DaySpan`; sales_daily must be among them.
    last_day
        Last day of the shop's records.
    days_per_span
        Days per span, >= 1.
    """
    given = {name: frame for name, frame in tables.items() if frame is not None}

    def spans(first: date) -> Iterator[DaySpan]:
        while first <= last_day:
            last = min(first + timedelta(days=days_per_span - 1), last_day)
            day = {name: pl.col("observed_at").dt.date() if name == "offers" else pl.col("day") for name in given}
            cut = [frame.filter(day[name].is_between(first, last)) for name, frame in given.items()]
            yield DaySpan(first, last, **dict(zip(given, pl.collect_all(cut), strict=True)))
            first = last + timedelta(days=1)

    return spans


def history_spans(history: ShopHistory, days_per_span: int, demand: pl.DataFrame | None = None) -> Callable[[date], Iterator[DaySpan]]:
    """Return the reader of a history, and of the true demand (contract demand_daily) where it is known; see :func:`frame_spans`."""
    names = ("sales_daily", "page_views_daily", "offers", "stock_daily")
    frames: dict[str, pl.DataFrame | None] = {name: getattr(history, name) for name in names} | {"demand_daily": demand}
    lazy = {name: None if frame is None else frame.lazy() for name, frame in frames.items()}
    return frame_spans(lazy, history.last_day, days_per_span)


def stream_stored(
    path: str | Path, history: Path, start: date, end: date, demand: pl.DataFrame | None = None, *, days_per_span: int = 28
) -> Tape:
    """Record the days start .. end of a stored history (:meth:`ShopHistory.save`) as :meth:`Tape.stream` does, never reading it whole.

    Parameters
    ----------
    path
        Directory of the tape.
    history
        Directory of the history.
    start, end
        Days of the tape, both inclusive.
    demand
        True demand (contract demand_daily), where it is known.
    days_per_span
        Days in memory at a time, >= 1.

    Raises
    ------
    TapeError
        As :meth:`Tape.stream`.
    """
    days = ShopHistory.stored_days(history)
    names = ("sales_daily", "page_views_daily", "offers", "stock_daily")
    stored = {name: pl.scan_parquet(history / f"{name}.parquet") for name in names if (history / f"{name}.parquet").is_file()}
    vendors = history / "vendors.parquet"
    return Tape.stream(
        path,
        frame_spans({**stored, "demand_daily": None if demand is None else demand.lazy()}, days[1], days_per_span),
        items=pl.read_parquet(history / "items.parquet"),
        vendors=pl.read_parquet(vendors) if vendors.is_file() else None,
        orderable_daily=pl.read_parquet(history / "orderable_daily.parquet"),
        start=start,
        end=end,
        first_day=days[0],
        true_demand=demand is not None,
    )


@dataclass(frozen=True)
class ShopStream:
    """What is known of a shop beforehand, and which of its days become a tape; see :meth:`Tape.stream`.

    Raises
    ------
    TapeError
        Where the days are not in order.
    """

    items: pl.DataFrame
    vendors: pl.DataFrame | None
    orderable_daily: pl.DataFrame
    first_day: date
    start: date
    end: date
    true_demand: bool
    opening_cost_frac: float
    skus: tuple[str, ...] = field(init=False)
    index: pl.DataFrame = field(init=False)

    def __post_init__(self) -> None:
        if not self.first_day <= self.start <= self.end:
            msg = f"first_day {self.first_day}, start {self.start}, end {self.end} are not in this order; choose days that are"
            raise TapeError(msg)
        object.__setattr__(self, "skus", tuple(self.items["sku"].sort()))
        object.__setattr__(self, "index", numbered(self.skus, "sku", "s"))

    def identity(self) -> dict[str, object]:
        """Return what tells this build from others, as JSON."""
        days = {name: getattr(self, name).isoformat() for name in ("first_day", "start", "end")}
        tables = {"items": self.items.select("sku", "list_price").sort("sku"), "orderable_daily": self.orderable_daily}
        if self.vendors is not None:
            tables["vendors"] = self.vendors.sort("vendor")
        flags = {"true_demand": self.true_demand, "opening_cost_frac": self.opening_cost_frac}
        return {**days, **flags, **{name: _sha256(frame) for name, frame in tables.items()}}


def _sha256(frame: pl.DataFrame) -> str:
    sha = hashlib.sha256()
    for column in frame:
        sha.update(f"{column.name}:{column.dtype}[{len(column)}]".encode())
        text = column.dtype == pl.String
        sha.update("\0".join(column.fill_null("\1")).encode() if text else column.to_physical().to_numpy().tobytes())
    return sha.hexdigest()


class _StreamState:
    """What goes on from span to span: the opening state so far, and the last state of every offer."""

    def __init__(self, shop: ShopStream, saved: dict[str, AnyArray]) -> None:
        self.shop, n_sku = shop, len(shop.skus)
        self.vendors, self.vendor_columns = vendor_columns(shop.vendors)
        self.next_day = _EPOCH + timedelta(days=int(saved["next_day"])) if saved else shop.first_day
        self.first_view_day = int(saved["first_view_day"]) if saved else -1
        self.per_sku: dict[str, AnyArray] = {
            name: saved[name] if saved else np.zeros(n_sku, dtype=np.int64)
            for name in ("opening_on_hand_units", "prior_conversion_units", "prior_conversion_views")
        }
        known = pl.DataFrame({name: saved[f"offer_{name}"] for name in _OFFERS} if saved else None, schema=_OFFERS)
        # a missing opening value is stored as that of no other: no cost is 0, no state below it
        self.offers = known.with_columns(pl.when(pl.col(name) >= 0).then(name).alias(name) for name in _OPENING.values())

    def arrays(self) -> dict[str, AnyArray]:
        """Return what a build needs to go on from here."""
        days = {"next_day": np.array((self.next_day - _EPOCH).days), "first_view_day": np.array(self.first_view_day)}
        filled = self.offers.with_columns(pl.col(name).fill_null(-1) for name in _OPENING.values())
        return {**self.per_sku, **days, **{f"offer_{name}": filled[name].to_numpy() for name in _OFFERS}}

    def take(self, span: DaySpan) -> TapeDays:
        """Take a span in and return its events."""
        shop = self.shop
        if span.first_day != self.next_day or span.last_day < span.first_day:
            msg = f"a span of days {span.first_day} .. {span.last_day} came where {self.next_day} is next; give adjacent spans in order"
            raise TapeError(msg)
        first, last = max(span.first_day, shop.start), min(span.last_day, shop.end)
        self._take_stock(span)
        self._take_conversion(span)
        recorded, column, name = span.sales_daily, "sales_units", "sales_daily"
        if shop.true_demand:
            recorded, column, name = _required_demand(span), "demand_units", "demand_daily"
        views = span.page_views_daily
        days = TapeDays(
            n_days=max(0, (last - first).days + 1),
            demand=events_of(recorded.select("sku", "day", units=column), shop.index, first, last, "units", name),
            views=((), (), ()) if views is None else events_of(views, shop.index, first, last, "views", "page_views_daily"),
            deltas=self._take_offers(span, first),
            prior_sales=self._prior_sales(span),
        )
        self.next_day = span.last_day + timedelta(days=1)
        return days

    def _take_stock(self, span: DaySpan) -> None:
        if span.stock_daily is None:
            return
        _, sku, units = events_of(span.stock_daily, self.shop.index, span.first_day, self.shop.start, "on_hand_units", "stock_daily")
        self.per_sku["opening_on_hand_units"][np.asarray(sku)] = units  # rows run by day: the last one stays

    def _prior_sales(self, span: DaySpan) -> Columns:
        start = self.shop.start
        before = start - timedelta(days=1)
        day, sku, units = events_of(span.sales_daily, self.shop.index, span.first_day, before, "sales_units", "sales_daily")
        return (start - span.first_day).days - (np.asarray(day)), sku, units

    def _take_conversion(self, span: DaySpan) -> None:
        views, shop = span.page_views_daily, self.shop
        if views is None or span.first_day >= shop.start:
            return
        if self.first_view_day < 0 and len(views):
            self.first_view_day = (cast("date", views["day"].min()) - _EPOCH).days
        if self.first_view_day < 0:
            return
        within = pl.col("day").is_between(_EPOCH + timedelta(days=self.first_view_day), shop.start, closed="left")
        for name, frame, column in (("units", span.sales_daily, "sales_units"), ("views", views, "views")):
            self.per_sku[f"prior_conversion_{name}"] += orderable_total(frame.filter(within), shop.orderable_daily, shop.index, column)

    def _take_offers(self, span: DaySpan, first: date) -> Columns:
        if span.offers is None or span.offers.is_empty():
            return ((), (), (), (), (), ())
        shop = self.shop
        events = offer_events(span.offers, shop.index, self.vendors, shop.end)
        before = self.offers.join(events, on=["s", "v"], how="semi").select(
            "s", "v", pl.lit(None, dtype=pl.Date).alias("day"), *OFFER_STATE
        )
        rows = (
            pl.concat([before, events]).sort("s", "v", maintain_order=True).with_columns(pl.col(OFFER_STATE).forward_fill().over("s", "v"))
        )
        partial = rows.filter(pl.any_horizontal(pl.col(OFFER_STATE).is_null()))
        if len(partial):
            s, v, day = partial.row(0)[:3]
            first_offer = f"({shop.skus[s]}, {self.vendors[v]}) on {day}"
            msg = f"{len(partial)} offer rows come before any that is complete, first {first_offer}; begin every offer with a full row"
            raise TapeError(msg)
        days = rows.group_by("s", "v", "day", maintain_order=True).agg(pl.col(OFFER_STATE).last())
        self._keep(days)
        deltas = differential(days).filter(pl.col("day") >= first).join(self.offers.select("s", "v", "i"), on=["s", "v"])
        day_number = (deltas["day"] - first).dt.total_days().to_numpy()
        return (day_number, deltas["i"].to_numpy(), *(deltas[name].to_numpy() for name in OFFER_STATE))

    def _keep(self, days: pl.DataFrame) -> None:
        """Carry the states of offers on, those before the start as opening state too, and number new offers."""
        last = days.group_by("s", "v", maintain_order=True).agg(pl.col(OFFER_STATE).last())
        seen = days.filter(pl.col("day") < self.shop.start).group_by("s", "v", maintain_order=True).agg(pl.col(OFFER_STATE).last())
        new = last.join(self.offers, on=["s", "v"], how="anti").select("s", "v")
        offers = pl.concat([self.offers, new], how="diagonal").with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("i"))
        offers = offers.update(last, on=["s", "v"]).update(seen.rename(_OPENING), on=["s", "v"])
        self.offers = offers.select(_OFFERS.names()).sort("i")

    def finish(self, writer: TapeWriter) -> Path:
        """Give the opening state and the final numbers of the offers to the writer."""
        shop = self.shop
        offers = self.offers.sort("s", "v")
        number = np.empty(len(offers), dtype=np.int32)
        number[offers["i"].to_numpy()] = np.arange(len(offers), dtype=np.int32)
        opening = offers.select("s", "v", **{name: pl.col(column) for name, column in _OPENING.items()})
        fixed = {
            "unit_price": unit_prices(shop.items, shop.index),
            **self.vendor_columns,
            "offer_start": np.searchsorted(offers["s"].to_numpy(), np.arange(len(shop.skus) + 1)),
            "offer_sku": offers["s"].to_numpy(),
            "offer_vendor": offers["v"].to_numpy(),
            **self.per_sku,
            "opening_unit_cost": opening_cost(shop.items, shop.index, opening, shop.opening_cost_frac),
            **dict(zip((f"opening_offer_{name}" for name in OFFER_STATE), opening_offers(opening), strict=True)),
        }
        return writer.finish(shop.start, shop.skus, self.vendors, fixed, number)


def _required_demand(span: DaySpan) -> pl.DataFrame:
    if span.demand_daily is None:
        msg = f"the span {span.first_day} .. {span.last_day} has no demand_daily, which true_demand asks for; give it or replay the sales"
        raise TapeError(msg)
    return span.demand_daily


def stream_tape(path: str | Path, spans: Callable[[date], Iterable[DaySpan]], shop: ShopStream) -> Tape:
    """Write the tape of a stream and open it; see :meth:`Tape.stream`."""
    with TapeWriter(path, shop.identity(), len(shop.skus), renumber=True) as writer:
        state = _StreamState(shop, writer.state)
        if state.next_day <= shop.end:
            for span in spans(state.next_day):
                writer.append(state.take(span), len(state.offers), state.arrays())
                if state.next_day > shop.end:
                    break
        if state.next_day <= shop.end:
            last = state.next_day - timedelta(days=1)
            msg = f"the spans end on {last}, the tape on {shop.end}; give the days up to its end, or choose an earlier end"
            raise TapeError(msg)
        return Tape.open(state.finish(writer), verify=False)
