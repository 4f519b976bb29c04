"""Smoke run of the benchmark on tiny sizes."""

from __future__ import annotations

from invpipe_tests.unit.arena.bench_arena import measure


def test_benchmark_runs():
    """Prevents a benchmark that no longer runs when somebody wants a figure; the kernel must at least beat the reference."""
    figures = measure(200, 5, demand=50, views=100, deltas=80, small_skus=50)
    assert figures["events"] > 0
    assert figures["reference_ratio"] > 1
