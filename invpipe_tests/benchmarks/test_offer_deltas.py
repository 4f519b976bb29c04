"""The benchmark of offer deltas runs, at a size that says nothing about speed."""

from __future__ import annotations

import polars as pl

from invpipe_tests.benchmarks.offer_deltas import events, run


def test_offer_deltas_benchmark_counts_its_own_events() -> None:
    """Prevents a benchmark that no longer runs, or that measures events without changes or without repeats."""
    figures = run(offers=50, days=9, events_per_day=20, days_per_span=4, seed=1)
    assert figures["events"] == 50 + 8 * 20
    assert 50 < figures["deltas"] < figures["events"]


def test_offer_deltas_benchmark_is_the_same_each_time() -> None:
    """Prevents figures that cannot be repeated."""
    first, second = (pl.concat(list(events(30, 5, 10, 2, seed=3))) for _ in range(2))
    assert first.equals(second)
