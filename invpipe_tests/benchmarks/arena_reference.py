"""How many times faster the arena's kernel is than the readable reference engine: same small tape, same process, one thread.

Run it with ``python -m invpipe_tests.benchmarks.arena_reference``; `invpipe bench arena` includes it where the tests are at hand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from invpipe.arena import BacktestParams, run_backtest
from invpipe_tests.oracles.arena import run_reference
from invpipe_tests.unit.arena.worlds import QuietPolicy, random_tape


def best_of(n: int, run: Callable[[], object]) -> float:
    """Return the least CPU time of n runs, seconds."""
    times = []
    for _ in range(n):
        start = time.thread_time()
        run()
        times.append(time.thread_time() - start)
    return min(times)


def reference_ratio(n_skus: int = 1_000, n_days: int = 100) -> float:
    """Return the CPU time of the reference engine over that of the kernel."""
    tape, params, quiet = random_tape(1, n_skus, 4, n_days), BacktestParams(1e4, review_period_days=7), QuietPolicy()
    run_backtest(tape, quiet, params)  # compiles
    fast = best_of(5, lambda: run_backtest(tape, quiet, params))
    slow = best_of(2, lambda: run_reference(tape, quiet, params))
    return slow / fast


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=100)
    arguments = parser.parse_args()
    print(f"reference engine / kernel: {reference_ratio(arguments.skus, arguments.days):.0f}")
