"""Offer deltas against brute force, however the events are cut into spans."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from invpipe.errors import SourceError
from invpipe.sources.databases.offer_deltas import OFFER_SCHEMA, OFFER_VALUES, OfferDeltas, OfferState, deltas, replay
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop
from invpipe_tests.oracles import offer_deltas as oracle

START = datetime(2025, 3, 1)
MINUTES = 40

EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "sku": st.sampled_from(["A", "B", "BA"]),
            "vendor": st.sampled_from(["V", "W"]),
            "observed_at": st.integers(0, MINUTES - 1).map(lambda minute: START + timedelta(minutes=minute)),
            "unit_cost": st.sampled_from([1.0, 1.5, 1e9]),
            "in_stock": st.booleans(),
            "min_order_units": st.integers(1, 2),
            "pack_units": st.integers(1, 2),
        }
    ),
    max_size=60,
    unique_by=lambda event: (event["sku"], event["vendor"], event["observed_at"]),
)
CUTS = st.lists(st.integers(0, MINUTES), max_size=5).map(sorted)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=OFFER_SCHEMA, orient="row")


def event(minute: int, **values: Any) -> dict[str, Any]:
    full = {"sku": "A", "vendor": "V", "unit_cost": 1.0, "in_stock": True, "min_order_units": 1, "pack_units": 1}
    return full | {"observed_at": START + timedelta(minutes=minute)} | values


def cut(events: list[dict[str, Any]], cuts: list[int]) -> list[pl.DataFrame]:
    bounds = [START + timedelta(minutes=minute) for minute in (0, *cuts, MINUTES)]
    return [frame([row for row in events if start <= row["observed_at"] < end]) for start, end in pairwise(bounds)]


def by_offer(state: OfferState) -> oracle.State:
    return {(row["sku"], row["vendor"]): {name: row[name] for name in OFFER_VALUES} for row in state.offers.to_dicts()}


@given(EVENTS, CUTS)
def test_deltas_are_those_of_brute_force_for_any_cut(events: list[dict[str, Any]], cuts: list[int]) -> None:
    """Prevents deltas that depend on how the extract was split, miss a change, or state one that is none."""
    state = OfferState()
    read = pl.concat(list(deltas(cut(events, cuts), state)))
    assert_frame_equal(read, frame(oracle.deltas_of(events)))
    assert by_offer(state) == oracle.state_after(events)


@given(EVENTS, CUTS, CUTS)
def test_replay_gives_the_state_of_the_events(events: list[dict[str, Any]], cuts: list[int], other_cuts: list[int]) -> None:
    """Prevents an offer whose replayed state is another than what its vendor last said."""
    changes = pl.concat(list(deltas(cut(events, cuts)))).to_dicts()
    state = replay(cut(changes, other_cuts))
    assert by_offer(state) == oracle.state_after(events) == oracle.replayed(changes)


@given(EVENTS, st.integers(0, MINUTES))
def test_state_goes_on_where_it_was_left(events: list[dict[str, Any]], minute: int) -> None:
    """Prevents the night after a backfill from stating every offer anew."""
    first, second = cut(events, [minute])
    state = OfferState()
    before = list(deltas([first], state))
    kept = OfferState(state.offers, state.last_observed_at)
    after = list(deltas([second], kept))
    assert_frame_equal(pl.concat(before + after), frame(oracle.deltas_of(events)))


def test_only_changes_are_stated() -> None:
    """Prevents full events from passing as deltas, and repeats from being stated at all."""
    events = [event(0), event(1), event(2, unit_cost=2.0), event(3, unit_cost=2.0, in_stock=False), event(4, in_stock=True, unit_cost=2.0)]
    (read,) = deltas([frame(events[::-1])])
    assert read.select("observed_at", *OFFER_VALUES).rows() == [
        (START, 1.0, True, 1, 1),
        (START + timedelta(minutes=2), 2.0, None, None, None),
        (START + timedelta(minutes=3), None, False, None, None),
        (START + timedelta(minutes=4), None, True, None, None),
    ]


def test_span_without_events_has_no_deltas() -> None:
    """Prevents a quiet day from failing or from touching the state."""
    state = OfferState()
    first, quiet = deltas([frame([event(0)]), frame([])], state)
    assert (first.height, quiet.height) == (1, 0)
    assert quiet.schema == OFFER_SCHEMA
    assert state.last_observed_at == START


def test_two_events_of_one_time_are_refused() -> None:
    """Prevents the order of rows in a file from deciding what an offer costs."""
    rows = frame([event(0, sku="B"), event(1), event(1, unit_cost=2.0)])
    message = (
        r"1 offer events repeat a key \(sku, vendor, observed_at\), first \(sku=A, vendor=V, observed_at=2025-03-01 00:01:00\); keep one"
    )
    with pytest.raises(SourceError, match=message):
        list(deltas([rows]))


def test_spans_out_of_order_are_refused() -> None:
    """Prevents a day that is read twice from being counted twice, and an old state from overwriting a new one."""
    message = r"a span of offers begins with \(sku=A, vendor=V, observed_at=2025-03-01 00:05:00\), not after the last event taken in"
    with pytest.raises(SourceError, match=message):
        list(deltas([frame([event(5)]), frame([event(5), event(6)])]))


def test_events_with_nulls_are_refused() -> None:
    """Prevents a value that could not be read from passing as one that did not change."""
    with pytest.raises(SourceError, match=r"1 of 2 offer events have nulls, first \(sku=A, vendor=V, .*give every event in full"):
        list(deltas([frame([event(0), event(1, unit_cost=None)])]))


def test_wrong_columns_are_refused() -> None:
    """Prevents times of another unit, or a column that is missing, from being compared."""
    rows = frame([event(0)]).drop("pack_units").with_columns(pl.col("observed_at").cast(pl.Datetime("ms")))
    with pytest.raises(SourceError, match=r"other columns than their contract: observed_at Datetime\(.*'ms'.*, pack_units missing; wanted"):
        list(deltas([rows]))


def test_replay_without_the_first_event_is_refused() -> None:
    """Prevents an offer without a cost from entering the shop."""
    first, second = deltas([frame([event(0)]), frame([event(1, unit_cost=3.0)])])
    assert by_offer(replay([first, second]))["A", "V"]["unit_cost"] == 3.0
    with pytest.raises(SourceError, match=r"1 offers begin with a delta that is not complete, first \(sku=A, vendor=V\); replay from"):
        replay([second])


def test_the_deltas_of_a_history_are_files_that_can_be_replayed(tmp_path: Path) -> None:
    """Prevents an artifact whose replay is another state than the last event of every offer, or that can be read only once."""
    tables = synthetic_shop(SyntheticShopParams(n_skus=30, n_days=70))
    OfferDeltas.of(tables.offers.lazy(), days_per_span=28).save(tmp_path / "deltas")
    found = OfferDeltas.open(tmp_path / "deltas")
    assert [path.name for path in sorted((tmp_path / "deltas").iterdir())] == [
        "2018-01-01.parquet",
        "2018-01-29.parquet",
        "2018-02-26.parquet",
    ]
    last = tables.offers.sort("observed_at").group_by("sku", "vendor").last().drop("observed_at")
    for _ in range(2):
        state = replay(found.frames()).offers
        assert_frame_equal(state, last.select(state.columns), check_row_order=False)
    assert sum(len(frame) for frame in found.frames()) <= len(tables.offers)
