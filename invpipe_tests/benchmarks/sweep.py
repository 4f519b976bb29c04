"""Sweep: efficiency of two threads over one mapped tape, and the private memory of four.

Run it with ``python -m invpipe_tests.benchmarks.sweep`` on an otherwise idle machine; ``--json`` prints one JSON document. The tape is that
of a synthetic shop; it is built and saved by this process and measured in a fresh one, whose private memory hence holds no trace of the
building. The same variants are replayed with one thread and with two in turn, each time into an empty store; the best of the repeats
counts. Efficiency is the seconds of one thread over twice those of two. The policy "order_nothing" shows what kernel and sweep do by
themselves; what another one loses against it, its own code loses to the interpreter lock. `machine_efficiency_frac` is the efficiency of
two threads that only count, taken between the sweeps: where it is not near 1 the machine was not idle, and no other figure says anything.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from numba import njit

from invpipe.arena import AllocationPolicy, BacktestParams, EwmaForecast, OrderNothing, Policy, Tape
from invpipe.arena.policies import METHODS
from invpipe.history import ShopHistory
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop
from invpipe.sweep import run_sweep
from invpipe.sweep.memory import PrivateMemory

Figures = dict[str, Any]

#: Days of the shop before the tape, for velocity and offers.
PRIOR_DAYS = 60
#: Capital as a multiple of the opening stock at cost.
CAPITAL_FRAC = 1.25
#: Steps of the loop that shows how much of the machine is free: some tenths of a second.
COUNT = 100_000_000


def build_tape(skus: int, days: int, seed: int, path: Path) -> None:
    """Save the tape of the last `days` of a synthetic shop."""
    params = SyntheticShopParams(n_skus=skus, n_days=PRIOR_DAYS + days, seed=seed)
    shop = synthetic_shop(params)
    tables: dict[str, Any] = dict(shop.as_history_kwargs())
    start = params.first_day + timedelta(days=PRIOR_DAYS)
    Tape.build(ShopHistory.from_frames(**tables), start, params.last_day, demand=shop.demand_daily).save(path)


@njit(nogil=True)
def _count(n: int) -> float:
    """Keep one core busy."""
    x = 1.0
    for _ in range(n):
        x = x * 1.0000001 + 1e-9
    return x


def counting_seconds(threads: int) -> float:
    """Return the wall-clock seconds in which two equal counts are done by the threads."""
    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_count, [COUNT] * 2))
    return time.perf_counter() - began


def swept(tape: Tape, policy: str, review_period_days: int, n_variants: int, threads: int) -> tuple[float, pl.DataFrame]:
    """Sweep into an empty store; return wall-clock seconds and the trials."""
    opening = float(tape.arrays.opening_on_hand_units @ tape.arrays.opening_unit_cost)
    params = BacktestParams(CAPITAL_FRAC * opening, review_period_days=review_period_days, warm_up_days=28)
    values = [round(0.5 + 0.45 * k / n_variants, 4) for k in range(n_variants)]
    name = "holding_cost_frac_per_year" if policy == OrderNothing.name else "leftover_value_frac"

    def make(leftover_value_frac: float | None = None) -> Policy:
        if leftover_value_frac is None:
            return OrderNothing()
        return AllocationPolicy(policy, EwmaForecast(), METHODS[policy.removeprefix("ewma_")], leftover_value_frac)

    with tempfile.TemporaryDirectory() as store:
        began = time.perf_counter()
        trials = run_sweep(tape, make, {name: values}, params, [0], store, threads=threads)
        return time.perf_counter() - began, trials


def measure(path: Path, policy: str, review_period_days: int, n_variants: int, repeats: int) -> Figures:
    """Return the figures of one policy on a saved tape, in this process."""
    tape = Tape.open(path)
    tape.fingerprint()
    run: Callable[[int, int], tuple[float, pl.DataFrame]] = lambda n, threads: swept(tape, policy, review_period_days, n, threads)  # noqa: E731
    run(2, 2)  # compiles
    _count(1)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    counting: dict[int, list[float]] = {1: [], 2: []}
    profits = set()
    for _ in range(repeats):
        for threads, times in seconds.items():
            took, trials = run(n_variants, threads)
            times.append(took)
            counting[threads].append(counting_seconds(threads))
            profits.add(tuple(trials["profit"]))
    assert len(profits) == 1, "the trials depend on the number of threads"
    with PrivateMemory() as memory, memory.watch() as before:
        pass
    with PrivateMemory() as memory, memory.watch() as peak:
        run(n_variants, 4)
    one, two = min(seconds[1]), min(seconds[2])
    return {
        "policy": policy,
        "review_period_days": review_period_days,
        "skus": len(tape.skus),
        "days": tape.n_days,
        "events": tape.n_events,
        "variants": n_variants,
        "one_thread_s": one,
        "two_threads_s": two,
        "efficiency_frac": one / (2 * two),
        "machine_efficiency_frac": min(counting[1]) / (2 * min(counting[2])),
        "run_s": one / n_variants,
        "idle_private_mb": before.megabytes,
        "four_threads_peak_private_mb": peak.megabytes,
    }


def main() -> None:
    """Build the tape, measure each policy in a process of its own, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m invpipe_tests.benchmarks.sweep", description=(__doc__ or "").split("\n")[0])
    for name, default in (("skus", 20_000), ("days", 400), ("variants", 8), ("repeats", 3), ("seed", 0), ("review-period-days", 7)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    parser.add_argument("--policies", nargs="+", default=["order_nothing", "ewma_greedy", "ewma_marginal"], help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.policies[0], given.review_period_days, given.variants, given.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tape"
        build_tape(given.skus, given.days, given.seed, path)
        rows = []
        for policy in given.policies:
            command = [sys.executable, "-m", "invpipe_tests.benchmarks.sweep", "--measure", str(path), "--policies", policy]
            command += ["--review-period-days", str(given.review_period_days)]
            command += ["--variants", str(given.variants), "--repeats", str(given.repeats)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout) | {"seed": given.seed})
            if not given.json:
                print(
                    "\n".join(
                        f"{name:32}{value:,.3f}" if isinstance(value, float) else f"{name:32}{value}" for name, value in rows[-1].items()
                    )
                )
    if given.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
