"""Differential deltas of vendor offers, made from full offer events.

An event (contract ``offers``) states an offer in full; a delta states what changed: its other values are null. Order of events, per span:
sort by (observed_at, sku, vendor); compare every event with the one before it of the same (sku, vendor), in this span or in the state that
earlier spans left; drop events that change nothing; carry the last state on. The first event of an offer is complete.

Replaying the deltas in order gives the state that the events give. Any cut of the events into spans by time gives the same deltas. Memory
is bounded by the state of all offers and one span.

Assumes that spans come in the order of time, each of them later than all before it; within a span any order will do.

>>> from datetime import datetime
>>> event = {"sku": "A", "vendor": "V", "unit_cost": 2.0, "in_stock": True, "min_order_units": 1, "pack_units": 1}
>>> times = [datetime(2025, 3, 1, hour) for hour in (8, 9, 10)]
>>> events = pl.DataFrame([event | {"observed_at": at, "unit_cost": cost} for at, cost in zip(times, (2.0, 2.0, 2.5))], schema=OFFER_SCHEMA)
>>> (frame,) = deltas([events])
>>> frame.select("observed_at", "unit_cost", "in_stock").rows()
[(datetime.datetime(2025, 3, 1, 8, 0), 2.0, True), (datetime.datetime(2025, 3, 1, 10, 0), 2.5, None)]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from invpipe.contracts.tables import Offers
from invpipe.errors import SourceError

OFFER_KEY = ("sku", "vendor")
OFFER_VALUES = ("unit_cost", "in_stock", "min_order_units", "pack_units")
#: Events and deltas have the columns of the contract; in deltas the values may be null.
OFFER_SCHEMA = pl.Schema({name: column.dtype for name, column in Offers.columns().items()})
_STATE_SCHEMA = pl.Schema({name: OFFER_SCHEMA[name] for name in (*OFFER_KEY, *OFFER_VALUES)})
_ORDER = ("observed_at", *OFFER_KEY)


@dataclass
class OfferState:
    """The last state of every offer; `deltas` and `replay` carry it on from span to span.

    Attributes
    ----------
    offers
        One row per (sku, vendor) with its last values, in no certain order.
    last_observed_at
        Time of the last event taken in, None before the first.
    """

    offers: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=_STATE_SCHEMA))
    last_observed_at: datetime | None = None


def deltas(spans: Iterable[pl.DataFrame], state: OfferState | None = None) -> Iterator[pl.DataFrame]:
    """Yield the deltas of each span of events, sorted by (observed_at, sku, vendor).

    Parameters
    ----------
    spans
        Events (contract ``offers``), each span later than those before; rows in any order.
    state
        Where to go on from; carried on in place, so that after a yield it holds the state after that span. None starts without offers.

    Raises
    ------
    SourceError
        When an event is not complete or of other types, two events have the same key, or a span begins before the last one ended.
    """
    state = state or OfferState()
    for span in spans:
        yield _deltas_of_span(span, state)


@dataclass(frozen=True)
class OfferDeltas:
    """The deltas of a whole history as files in the order of time, one per span of days; read them with :meth:`frames`.

    Parameters
    ----------
    parts
        Pairs (name of the file, deltas), made or read one at a time.
    """

    parts: Iterable[tuple[str, pl.DataFrame]]

    @classmethod
    def of(cls, offers: pl.LazyFrame, days_per_span: int = 28) -> OfferDeltas:
        """Return the deltas of all events (contract ``offers``); a span of them is in memory at a time."""
        return cls(_parts(offers, timedelta(days=days_per_span)))

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield the deltas of each span."""
        yield from (frame for _, frame in self.parts)

    def save(self, directory: Path) -> None:
        """Write a Parquet file per span into a new directory."""
        directory.mkdir()
        for name, frame in self.parts:
            frame.write_parquet(directory / name)

    @classmethod
    def open(cls, directory: Path) -> OfferDeltas:
        """Return the deltas written by :meth:`save`."""
        return cls(_Files(directory))


@dataclass(frozen=True)
class _Files:
    """Files of a directory by name, read when they are asked for, as often as that is."""

    directory: Path

    def __iter__(self) -> Iterator[tuple[str, pl.DataFrame]]:
        return ((path.name, pl.read_parquet(path)) for path in sorted(self.directory.glob("*.parquet")))


def _parts(offers: pl.LazyFrame, length: timedelta) -> Iterator[tuple[str, pl.DataFrame]]:
    at = pl.col("observed_at")
    first, last = offers.select(at.min().dt.truncate("1d").alias("first"), at.max().alias("last")).collect().row(0)
    state = OfferState()
    while first is not None and first <= last:
        within = offers.filter(at.is_between(first, first + length, closed="left"))
        (frame,) = deltas([within.collect(engine="streaming")], state)
        yield f"{first:%Y-%m-%d}.parquet", frame
        first += length


def replay(frames: Iterable[pl.DataFrame], state: OfferState | None = None) -> OfferState:
    """Return the state after the deltas; `state`, where they go on from, is carried on in place.

    Raises
    ------
    SourceError
        When the first delta of an offer is not complete, or a frame begins before the last one ended.
    """
    state = state or OfferState()
    for frame in frames:
        ordered = _in_order(frame, state, complete=False)
        last = [pl.col(name).drop_nulls().last() for name in OFFER_VALUES]
        offers = pl.concat([state.offers, ordered.select(_STATE_SCHEMA.names())]).group_by(OFFER_KEY).agg(last)
        unknown = offers.filter(pl.any_horizontal(pl.col(OFFER_VALUES).is_null()))
        if unknown.height:
            msg = f"{unknown.height:,} offers begin with a delta that is not complete, first {_first(unknown)}; replay from its first event"
            raise SourceError(msg)
        _carry_on(state, offers, ordered)
    return state


def _deltas_of_span(span: pl.DataFrame, state: OfferState) -> pl.DataFrame:
    events = _in_order(span, state, complete=True)
    before = state.offers.rename({name: f"{name}_before" for name in OFFER_VALUES})
    joined = events.join(before, on=OFFER_KEY, how="left", maintain_order="left")
    changes = joined.select(
        *_ORDER,
        *(
            pl.when(pl.col(name).ne_missing(pl.col(name).shift(1).over(OFFER_KEY).fill_null(pl.col(f"{name}_before"))))
            .then(name)
            .alias(name)
            for name in OFFER_VALUES
        ),
    )
    offers = pl.concat([state.offers, events.select(_STATE_SCHEMA.names())]).unique(OFFER_KEY, keep="last")
    _carry_on(state, offers, events)
    return changes.filter(pl.any_horizontal(pl.col(OFFER_VALUES).is_not_null())).select(OFFER_SCHEMA.names())


def _carry_on(state: OfferState, offers: pl.DataFrame, ordered: pl.DataFrame) -> None:
    state.offers = offers
    if ordered.height:
        state.last_observed_at = ordered["observed_at"][-1]


def _in_order(span: pl.DataFrame, state: OfferState, *, complete: bool) -> pl.DataFrame:
    """Return the rows of a span in order, once they are known to be complete, unique and later than the state."""
    wrong = [f"{name} {span.schema.get(name, 'missing')}" for name, dtype in OFFER_SCHEMA.items() if span.schema.get(name) != dtype]
    if wrong:
        msg = f"offers have other columns than their contract: {', '.join(wrong)}; wanted {dict(OFFER_SCHEMA)}"
        raise SourceError(msg)
    ordered = span.select(OFFER_SCHEMA.names()).sort(_ORDER)
    filled = OFFER_SCHEMA.names() if complete else list(_ORDER)
    partial = ordered.filter(pl.any_horizontal(pl.col(filled).is_null()))
    if partial.height:
        msg = f"{partial.height:,} of {span.height:,} offer events have nulls, first {_first(partial)}; give every event in full"
        raise SourceError(msg)
    twice = ordered.filter(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in _ORDER))
    if twice.height:
        msg = f"{twice.height:,} offer events repeat a key (sku, vendor, observed_at), first {_first(twice)}; keep one event per time"
        raise SourceError(msg)
    if ordered.height and state.last_observed_at is not None and ordered["observed_at"][0] <= state.last_observed_at:
        last = state.last_observed_at
        msg = f"a span of offers begins with {_first(ordered)}, not after the last event taken in ({last}); give spans in order"
        raise SourceError(msg)
    return ordered


def _first(rows: pl.DataFrame) -> str:
    row = rows.row(0, named=True)
    return "(" + ", ".join(f"{name}={row[name]}" for name in (*OFFER_KEY, "observed_at") if name in row) + ")"
