"""Streamed tapes: the bytes of a tape built at once, however the days are cut and wherever the build was killed."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.arena import Tape
from invpipe.arena.tape_stream import history_spans
from invpipe.bench.arena import TapeSize, write_large_tape
from invpipe.errors import TapeError
from invpipe.history import ShopHistory
from invpipe.sources.databases.offer_deltas import deltas
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop


@cache
def shop():
    """A synthetic shop of 60 days, its history, and a tape's first and last day."""
    tables = synthetic_shop(SyntheticShopParams(n_skus=40, n_days=60, seed=2))
    history = ShopHistory.from_frames(**tables.as_history_kwargs())
    return tables, history, history.first_day + timedelta(days=25), history.last_day - timedelta(days=4)


def stream(path, spans, **changes):
    _, history, start, end = shop()
    tables = {"items": history.items, "orderable_daily": history.orderable_daily, "vendors": history.vendors}
    return Tape.stream(path, spans, **(tables | {"start": start, "end": end, "first_day": history.first_day} | changes))


def files(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@cache
def whole(folder):
    _, history, start, end = shop()
    return files(Tape.build(history, start, end).save(folder / "whole"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Files of the tape that is built at once."""
    return whole(tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("days_per_span", [1, 7, 25, 26, 1_000])
def test_stream_writes_the_bytes_of_a_build(tmp_path, expected, days_per_span):
    """Prevents a streamed tape that differs, in any file, from the one built in memory; spans end before, on and after the start."""
    stream(tmp_path / "tape", history_spans(shop()[1], days_per_span))
    assert files(tmp_path / "tape") == expected
    assert [p.name for p in tmp_path.iterdir()] == ["tape"]


def test_stream_takes_differential_deltas(tmp_path, expected):
    """Prevents a source of differential deltas from making another tape than one of full events."""
    spans, history = history_spans(shop()[1], 9), shop()[1]
    (changes,) = deltas([history.offers])

    def differential(first):
        for span in spans(first):
            day = pl.col("observed_at").dt.date()
            yield dataclasses.replace(span, offers=changes.filter(day.is_between(span.first_day, span.last_day)))

    stream(tmp_path / "tape", differential)
    assert files(tmp_path / "tape") == expected


def test_stream_replays_the_true_demand(tmp_path):
    """Prevents a replay against censored sales when the true demand is asked for."""
    tables, history, start, end = shop()
    streamed = stream(tmp_path / "tape", history_spans(history, 8, tables.demand_daily), true_demand=True)
    assert streamed.fingerprint() == Tape.build(history, start, end, tables.demand_daily).fingerprint()
    with pytest.raises(TapeError, match="has no demand_daily, which true_demand asks for"):
        stream(tmp_path / "other", history_spans(history, 8), true_demand=True)


class KilledError(Exception):
    """Stands for the end of the process."""


def killed(spans, after, begun):
    """Return a reader that dies after some spans and notes from which day it was read."""

    def read(first):
        begun.append(first)
        for n, span in enumerate(spans(first)):
            if n == after:
                raise KilledError
            yield span

    return read


@settings(max_examples=8, deadline=None, derandomize=True)
@given(st.integers(1, 20), st.lists(st.integers(0, 6), min_size=1, max_size=3), st.integers(1, 20))
def test_a_killed_build_goes_on(tmp_path_factory, days_per_span, deaths, later_span):
    """Prevents a killed build from starting over, losing a day, or ending with other bytes - killed once or often, cut otherwise later."""
    tmp_path, history = tmp_path_factory.mktemp("killed"), shop()[1]
    begun = []
    for after in deaths:
        try:
            stream(tmp_path / "tape", killed(history_spans(history, days_per_span), after, begun))
        except KilledError:
            assert not (tmp_path / "tape").exists()
            for file in (tmp_path / ".tape.build").rglob("*_sku.npy"):  # a chunk that was being written
                file.write_bytes(file.read_bytes() + b"half a row")
        else:
            break
    stream(tmp_path / "tape", killed(history_spans(history, later_span), -1, begun))
    assert files(tmp_path / "tape") == whole(tmp_path)
    goes_on = history.first_day + timedelta(days=deaths[0] * days_per_span)
    if goes_on <= shop()[3]:
        assert begun[1] == goes_on


def _unfinished(folder):
    with pytest.raises(KilledError):
        stream(folder / "tape", killed(history_spans(shop()[1], 10), 4, []))
    return folder / ".tape.build"


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


def _newer(build):
    progress = json.loads((build / "progress.json").read_text())
    (build / "progress.json").write_text(json.dumps(progress | {"version": 2}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda b: _flip(b / "tape" / "demand_sku.npy"), "demand_sku.npy of an unfinished build is damaged: its checksum differs"),
        (lambda b: (b / "raw" / "delta_offer.npy").write_bytes(b"x" * 130), "delta_offer.npy .* is damaged: it has 130 bytes"),
        (lambda b: (b / "tape" / "views.npy").unlink(), "views.npy of an unfinished build is missing"),
        (lambda b: (b / "progress.json").write_text("{"), "progress.json is damaged"),
        (_newer, "is of format 'invpipe-tape-build' version 2, not 'invpipe-tape-build' version 1"),
    ],
)
def test_a_damaged_build_is_refused(tmp_path, damage, message):
    """Prevents a tape on top of rows that are not those that were written; the message names the file and the cure."""
    damage(_unfinished(tmp_path))
    with pytest.raises(TapeError, match=message):
        stream(tmp_path / "tape", history_spans(shop()[1], 10))


def test_another_build_is_not_gone_on_with(tmp_path):
    """Prevents two halves of different tapes in one: other days or other prices are another build."""
    _unfinished(tmp_path)
    _, history, _, end = shop()
    with pytest.raises(TapeError, match=r"unfinished build of another tape: 1 parts differ, first end '.*', not '.*'; end that build"):
        stream(tmp_path / "tape", history_spans(history, 10), end=end - timedelta(days=1))
    dearer = history.items.with_columns(pl.col("list_price") + 1)
    with pytest.raises(TapeError, match="1 parts differ, first items"):
        stream(tmp_path / "tape", history_spans(history, 10), items=dearer)


def test_two_builds_of_one_tape_do_not_meet(tmp_path):
    """Prevents two processes from appending to the same files."""

    def greedy(first):
        for span in history_spans(shop()[1], 10)(first):
            with pytest.raises(TapeError, match="is being written by another process"):
                stream(tmp_path / "tape", history_spans(shop()[1], 10))
            yield span

    stream(tmp_path / "tape", greedy)


def test_spans_must_be_adjacent_and_reach_the_end(tmp_path):
    """Prevents a gap in the records from looking like days without demand."""
    spans = list(history_spans(shop()[1], 10)(shop()[1].first_day))
    with pytest.raises(TapeError, match="came where .* is next; give adjacent spans in order"):
        stream(tmp_path / "gap", lambda first: [spans[0], spans[2]])
    with pytest.raises(TapeError, match="the spans end on .*, the tape on .*; give the days up to its end"):
        stream(tmp_path / "short", lambda first: spans[:3])
    assert not list(tmp_path.glob("[a-z]*"))


def test_rows_that_name_nothing_known_are_refused(tmp_path):
    """Prevents a row of an unknown SKU, or an offer that begins with a partial row, from being dropped silently."""
    spans = list(history_spans(shop()[1], 100)(shop()[1].first_day))
    strange = spans[0].sales_daily.with_columns(pl.lit("zz").alias("sku"))
    with pytest.raises(TapeError, match="rows of sales_daily name a SKU that is not in items, first 'zz'"):
        stream(tmp_path / "tape", lambda first: [dataclasses.replace(spans[0], sales_daily=strange)])
    partial = spans[0].offers.with_columns(pl.lit(None, dtype=pl.Float64).alias("unit_cost"))
    with pytest.raises(TapeError, match="offer rows come before any that is complete, first .*; begin every offer with a full row"):
        stream(tmp_path / "tape", lambda first: [dataclasses.replace(spans[0], offers=partial)])


def test_simulated_tape_does_not_depend_on_its_chunks(tmp_path):
    """Prevents benchmarks on tapes that differ with the chunk size, and a cached tape from being drawn again."""
    size = TapeSize(50, 30, 10, 20, 30, seed=3)
    one, many = write_large_tape(tmp_path / "one", size, 30), write_large_tape(tmp_path / "many", size, 4)
    assert files(one) == files(many)
    tape, stamp = Tape.open(one), one.stat().st_mtime_ns
    assert write_large_tape(tmp_path / "one", size) == one
    assert one.stat().st_mtime_ns == stamp
    a = tape.arrays
    per_day = [len(rows) / tape.n_days for rows in (a.demand_sku, a.views_sku, a.delta_offer)]
    np.testing.assert_allclose(per_day, [10, 20, 30], rtol=0.25)
    known = np.where(a.delta_in_stock >= 0)[0]
    state = a.opening_offer_in_stock.copy()
    for row in known:  # differential: a stated stock is never the one known
        assert a.delta_in_stock[row] != state[a.delta_offer[row]]
        state[a.delta_offer[row]] = a.delta_in_stock[row]
