"""Speed of the arena on fixed, seeded work: `python -m invpipe_tests.unit.arena.bench_arena [--skus N] [--days N]`.

Prints events and SKU-days per second of the kernel on one thread (compile time apart), and its ratio to the readable reference engine on
the same small tape in the same process.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from invpipe.arena import BacktestParams, Tape, run_backtest
from invpipe_tests.oracles.arena import run_reference
from invpipe_tests.unit.arena.worlds import START, QuietPolicy, random_tape


def large_tape(n_sku: int, n_days: int, demand: int, views: int, deltas: int, seed: int = 0) -> Tape:
    """Return a tape with about the given events per day, long-tailed over SKUs, two offers per SKU."""
    rng = np.random.default_rng(seed)

    def events(per_day: int, n_index: int) -> tuple[np.ndarray, np.ndarray]:
        index = [np.unique((rng.random(per_day) ** 3 * n_index).astype(np.int64)) for _ in range(n_days)]
        return np.repeat(np.arange(n_days), [len(i) for i in index]), np.concatenate(index)

    n_offer = 2 * n_sku
    price = rng.uniform(5.0, 50.0, n_sku)
    cost = np.repeat(price, 2) * rng.uniform(0.5, 0.7, n_offer)
    d_day, d_sku = events(demand, n_sku)
    v_day, v_sku = events(views, n_sku)
    o_day, o_offer = events(deltas, n_offer)
    ones = np.ones(n_offer, dtype=np.int64)
    return Tape.from_arrays(
        start=START,
        n_days=n_days,
        skus=[f"S{i:06d}" for i in range(n_sku)],
        unit_price=price,
        vendors=[f"V{i:02d}" for i in range(20)],
        lead_time_days_mean=rng.uniform(2.0, 20.0, 20),
        lead_time_days_sd=rng.uniform(0.0, 4.0, 20),
        min_order_value=np.zeros(20),
        offer_sku=np.repeat(np.arange(n_sku), 2),
        offer_vendor=np.sort(np.stack([rng.integers(0, 10, n_sku), rng.integers(10, 20, n_sku)], axis=1)).ravel(),
        opening_on_hand_units=rng.poisson(20.0, n_sku),
        opening_unit_cost=0.6 * price,
        opening_offers=(cost, ones, ones, ones),
        prior_conversion=(rng.integers(0, 10, n_sku), rng.integers(10, 500, n_sku)),
        demand=(d_day, d_sku, rng.integers(1, 4, len(d_sku))),
        views=(v_day, v_sku, rng.integers(1, 20, len(v_sku))),
        deltas=(
            o_day,
            o_offer,
            cost[o_offer] * rng.uniform(0.9, 1.1, len(o_offer)),
            rng.integers(-1, 2, len(o_offer)),
            np.zeros(len(o_offer)),
            np.zeros(len(o_offer)),
        ),
    )


def best_of(n: int, run: Callable[[], object], clock: Callable[[], float]) -> float:
    """Return the least time of n runs, seconds."""
    times = []
    for _ in range(n):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def measure(
    n_sku: int, n_days: int, demand: int = 5_000, views: int = 30_000, deltas: int = 20_000, small_skus: int = 1_000
) -> dict[str, float]:
    """Return the figures of a run over a saved and memory-mapped tape, and the ratio to the reference."""
    small, params, quiet = random_tape(1, small_skus, 4, 100), BacktestParams(1e4, review_period_days=7), QuietPolicy()
    run_backtest(small, quiet, params)  # compiles
    with tempfile.TemporaryDirectory() as folder:
        path = large_tape(n_sku, n_days, demand, views, deltas).save(Path(folder) / "tape")
        open_seconds = best_of(1, lambda: Tape.open(path), time.perf_counter)
        tape = Tape.open(path)
        tape.fingerprint()
        cpu = best_of(3, lambda: run_backtest(tape, quiet, params), time.thread_time)
        wall = best_of(3, lambda: run_backtest(tape, quiet, params), time.perf_counter)
        daily = best_of(3, lambda: run_backtest(tape, quiet, BacktestParams(1e4, review_period_days=1)), time.thread_time)
    fast = best_of(5, lambda: run_backtest(small, quiet, params), time.thread_time)
    slow = best_of(2, lambda: run_reference(small, quiet, params), time.thread_time)
    return {
        "events": tape.n_events,
        "open_and_verify_seconds": open_seconds,
        "run_cpu_seconds": cpu,
        "run_wall_seconds": wall,
        "run_cpu_seconds_daily_review": daily,
        "events_per_cpu_second": tape.n_events / cpu,
        "sku_days_per_cpu_second": n_sku * n_days / cpu,
        "reference_ratio": slow / fast,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=170_000)
    parser.add_argument("--days", type=int, default=200)
    arguments = parser.parse_args()
    for name, value in measure(arguments.skus, arguments.days).items():
        print(f"{name:36s} {value:,.3f}")
