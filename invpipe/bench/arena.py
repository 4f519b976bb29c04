"""Benchmark of the arena: a simulated tape of any size, written in bounded memory, and replays of it that decide every day.

The tape is drawn day by day: which SKUs are wanted, looked at, or offered anew are Bernoulli draws with probabilities 1 - exp(-c w), w a
long-tailed popularity of the SKU and c such that the day has as many events as asked for on average. Every SKU has two offers; most deltas
move a price, some take an offer out of stock or back. All of it is simulated and says nothing about a shop.

Compiled before the clock runs; best of the runs, wall clock, one thread. Private memory is that of the process apart from the mapped tape.
"""

from __future__ import annotations

import importlib
import importlib.util
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from invpipe.arena import AllocationPolicy, BacktestParams, EwmaForecast, OrderNothing, Orders, Policy, ShopView, Tape, run_backtest
from invpipe.arena.tape_writer import TapeDays, TapeWriter
from invpipe.errors import TapeError
from invpipe.sweep.memory import Peak, PrivateMemory, private_mb

Figures = dict[str, Any]
FloatArray = npt.NDArray[np.float64]

#: Module with the ratios of the kernel to the readable engines; it comes with the tests, not with the package.
REFERENCE = "invpipe_tests.benchmarks.arena_reference"
START = date(2017, 3, 1)
N_VENDOR = 20
#: Spread of the popularity of SKUs: standard deviation of its logarithm.
POPULARITY_SD = 1.5
#: Days of demand on the shelf at the start, and working capital as a share of that stock's value.
OPENING_DAYS, CAPITAL_FRAC = 60, 1.25
#: Share of deltas that take an offer with stock away, and that bring one without stock back.
GONE_FRAC, BACK_FRAC = 0.03, 0.5
DAYS_PER_CHUNK = 25
#: Days on which the exact allocation is timed.
PROBED_DAYS = 10


@dataclass(frozen=True)
class TapeSize:
    """Size of a simulated tape: SKUs, days, and events of a day on average; `seed` draws it."""

    skus: int
    days: int
    demand: int = 5_000
    views: int = 30_000
    deltas: int = 20_000
    seed: int = 0

    @property
    def name(self) -> str:
        """Name of its directory."""
        return f"tape-{self.skus}x{self.days}-{self.demand}-{self.views}-{self.deltas}-seed{self.seed}"


def event_probability(weight: FloatArray, per_day: int, what: str) -> FloatArray:
    """Return 1 - exp(-c weight) with c such that it sums up to `per_day`.

    Raises
    ------
    TapeError
        Where more events a day are asked for than there are weights.
    """
    if per_day >= len(weight):
        msg = f"{per_day} {what} a day among {len(weight)} are too many; ask for fewer, each occurs at most once a day"
        raise TapeError(msg)
    low, high = 0.0, 1.0
    while -np.expm1(-high * weight).sum() < per_day:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if -np.expm1(-middle * weight).sum() < per_day else (low, middle)
    return np.asarray(-np.expm1(-high * weight))


class _Shop:
    """Population of a simulated tape; days are drawn from (seed, day), so that any of them can be drawn again."""

    def __init__(self, size: TapeSize) -> None:
        rng = np.random.default_rng([size.seed, 0])
        self.size, n = size, size.skus
        popularity = np.exp(rng.normal(0.0, POPULARITY_SD, n))
        self.demand = event_probability(popularity, size.demand, "demand events")
        self.views = event_probability(popularity, size.views, "page view events")
        self.deltas = event_probability(np.repeat(np.sqrt(popularity), 2), size.deltas, "offer deltas")
        self.price = np.round(rng.uniform(5.0, 50.0, n), 2)
        self.cost = np.round(np.repeat(self.price, 2) * rng.uniform(0.5, 0.7, 2 * n), 2)
        # two vendors per SKU, the second behind the first
        first = rng.integers(0, N_VENDOR // 2, n, dtype=np.int32)
        self.offer_vendor = np.stack([first, first + rng.integers(1, N_VENDOR // 2 + 1, n, dtype=np.int32)], axis=1).ravel()
        self.lead_mean, self.lead_sd = rng.uniform(2.0, 20.0, N_VENDOR), rng.uniform(0.0, 4.0, N_VENDOR)
        self.opening = rng.poisson(2.0 * OPENING_DAYS * self.demand)
        prior = rng.poisson(2.0 * 28 * self.demand)
        sold = np.flatnonzero(prior)
        self.prior_sales = (np.full(len(sold), 14), sold, prior[sold])
        self.prior_conversion = (rng.poisson(100 * self.demand), rng.poisson(1_000 * self.views))

    def chunk(self, first: int, n_days: int, in_stock: npt.NDArray[np.int8]) -> TapeDays:
        """Return the events of some days; `in_stock` per offer is carried on in place."""
        parts: dict[str, list[tuple[Any, ...]]] = {"demand": [], "views": [], "deltas": []}
        for day in range(n_days):
            rng = np.random.default_rng([self.size.seed, 1 + first + day])
            sku, seen, offer = (np.flatnonzero(rng.random(len(p)) < p) for p in (self.demand, self.views, self.deltas))
            parts["demand"].append((np.full(len(sku), day), sku, rng.integers(1, 4, len(sku))))
            parts["views"].append((np.full(len(seen), day), seen, rng.integers(1, 20, len(seen))))
            cost = np.round(self.cost[offer] * rng.uniform(0.9, 1.1, len(offer)), 4)
            flips = rng.random(len(offer)) < np.where(in_stock[offer] == 1, GONE_FRAC, BACK_FRAC)
            in_stock[offer[flips]] ^= 1
            none = np.zeros(len(offer), dtype=np.int32)
            parts["deltas"].append((np.full(len(offer), day), offer, cost, np.where(flips, in_stock[offer], -1), none, none))
        joined = {name: tuple(np.concatenate(column) for column in zip(*days, strict=True)) for name, days in parts.items()}
        return TapeDays(n_days, **joined, prior_sales=self.prior_sales if first == 0 else ((), (), ()))

    def fixed(self) -> dict[str, npt.ArrayLike]:
        """Return the arrays of the tape that do not grow with its days."""
        n = self.size.skus
        ones = np.ones(2 * n, dtype=np.int32)
        return {
            "unit_price": self.price, "lead_time_days_mean": self.lead_mean, "lead_time_days_sd": self.lead_sd,
            "min_order_value": np.zeros(N_VENDOR), "offer_start": np.arange(0, 2 * n + 1, 2), "offer_sku": np.repeat(np.arange(n), 2),
            "offer_vendor": self.offer_vendor, "opening_on_hand_units": self.opening, "opening_unit_cost": 0.6 * self.price,
            "opening_offer_unit_cost": self.cost, "opening_offer_in_stock": ones, "opening_offer_min_order_units": ones,
            "opening_offer_pack_units": ones, "prior_conversion_units": self.prior_conversion[0],
            "prior_conversion_views": self.prior_conversion[1],
        }  # fmt: skip


def write_large_tape(folder: str | Path, size: TapeSize, days_per_chunk: int = DAYS_PER_CHUNK) -> Path:
    """Write the simulated tape under its name in a folder, unless it is there, and return its directory.

    Memory is bounded by a chunk of days. What was killed goes on; the bytes depend on the size and its seed alone.
    """
    path = Path(folder) / size.name
    if path.exists():
        return path
    shop = _Shop(size)
    with TapeWriter(path, {"simulated": size.name}, size.skus) as writer:
        in_stock = writer.state.get("in_stock", np.ones(2 * size.skus, dtype=np.int8))
        while writer.n_days < size.days:
            n_days = min(days_per_chunk, size.days - writer.n_days)
            writer.append(shop.chunk(writer.n_days, n_days, in_stock), 2 * size.skus, {"in_stock": in_stock})
        skus, vendors = [f"S{i:06d}" for i in range(size.skus)], [f"V{i:02d}" for i in range(N_VENDOR)]
        return writer.finish(START, skus, vendors, shop.fixed())


@dataclass(frozen=True)
class MarginalProbe:
    """Orders as `policy` does, and on every n-th day times what the exact allocation over all SKUs with demand takes."""

    policy: Policy
    every: int
    name: str = "probe"
    milliseconds: list[float] = field(default_factory=list)

    def decide(self, view: ShopView) -> Orders:
        """Return the orders of the policy."""
        if view.day_index % self.every == 0:
            start = time.perf_counter()
            AllocationPolicy("ewma_marginal", EwmaForecast(), "exact").decide(view)
            self.milliseconds.append(1e3 * (time.perf_counter() - start))
        return self.policy.decide(view)


def policies() -> tuple[Policy, Policy]:
    """Return the policies that are timed."""
    return OrderNothing(), AllocationPolicy("ewma_greedy", EwmaForecast(), "greedy")


def bench_arena(
    skus: int = 170_000,
    days: int = 200,
    demand: int = 5_000,
    views: int = 30_000,
    deltas: int = 20_000,
    runs: int = 2,
    seed: int = 0,
    cache: str = "",
) -> list[Figures]:
    """Replay a simulated, memory-mapped tape with a decision every day, on one thread.

    Parameters
    ----------
    skus, days
        Size of the tape.
    demand, views, deltas
        Events per day, on average.
    runs
        Runs per policy; the best counts.
    seed
        Seed of the tape.
    cache
        Directory that keeps the tape for the next time; "" for none.

    Returns
    -------
    list of dict
        One row per policy. The ratios to the readable engines, on a tape of the same SKUs and few days, only where the tests are installed.
    """
    size = TapeSize(skus, days, min(demand, skus // 4), min(views, skus // 2), min(deltas, skus), seed)
    with ExitStack() as stack:
        folder = cache or stack.enter_context(tempfile.TemporaryDirectory())
        start = time.perf_counter()
        path = write_large_tape(folder, size)
        written = time.perf_counter()
        tape = Tape.open(path)
        facts: Figures = {
            "skus": skus, "days": days, "seed": seed, "events": tape.n_events, "write_seconds": written - start,
            "open_and_verify_seconds": time.perf_counter() - written,
        }  # fmt: skip
        tape.fingerprint()
        warm = Tape.open(write_large_tape(folder, TapeSize(200, 5, 20, 40, 40)))
        marginal_ms = _probe(warm, tape)
        rows = [facts | _measure(tape, warm, policy, runs) for policy in policies()]
        swept = _swept(tape, policies()[1])
    for row, ratios in zip(rows, _ratios(size), strict=True):
        row |= ratios
    rows[-1] |= {"exact_marginal_ms_per_day": marginal_ms, **swept}
    return rows


def bench_params(tape: Tape) -> BacktestParams:
    """Return the parameters of the replays: a decision every day, capital that binds."""
    a = tape.arrays
    return BacktestParams(CAPITAL_FRAC * float(a.opening_on_hand_units @ a.opening_unit_cost), review_period_days=1)


def _probe(warm: Tape, tape: Tape) -> float:
    """Return the median milliseconds of an exact allocation on some days of the replay."""
    run_backtest(warm, MarginalProbe(policies()[1], 1), bench_params(warm))
    probe = MarginalProbe(policies()[1], max(1, tape.n_days // PROBED_DAYS))
    run_backtest(tape, probe, bench_params(tape))
    return statistics.median(probe.milliseconds)


def _measure(tape: Tape, warm: Tape, policy: Policy, runs: int) -> Figures:
    run_backtest(warm, policy, bench_params(warm))  # compiles
    seconds: list[float] = []
    for _ in range(runs):
        start = time.perf_counter()
        result = run_backtest(tape, policy, bench_params(tape))
        seconds.append(time.perf_counter() - start)
    best = min(seconds)
    return {
        "policy": policy.name,
        "run_seconds": best,
        "sku_days_per_second": len(tape.skus) * tape.n_days / best,
        "events_per_second": tape.n_events / best,
        "order_lines": result.summary["order_lines"],
        **{f"{phase}_seconds": spent for phase, spent in result.phase_seconds.items()},
        "private_mb": private_mb(),
        "fingerprint": result.fingerprint(),
    }


def _swept(tape: Tape, policy: Policy) -> Figures:
    """Return what four runs, as a sweep makes them, take on one, two and four threads, and the private memory of four at once."""
    params = bench_params(tape)
    seconds: dict[int, float] = {}
    peak = Peak()
    with PrivateMemory() as memory:
        for threads in (1, 2, 4):
            with memory.watch() as peak, ThreadPoolExecutor(threads) as pool:
                start = time.perf_counter()
                list(pool.map(lambda seed: run_backtest(tape, policy, params, seed, keep_orders=False), range(4)))
                seconds[threads] = time.perf_counter() - start
    return {
        "four_runs_seconds": seconds[1],
        "four_runs_two_threads_seconds": seconds[2],
        "efficiency_frac_two_threads": seconds[1] / seconds[2] / 2,
        "private_mb_four_workers": peak.megabytes,
    }


def _ratios(size: TapeSize) -> list[Figures]:
    """Return the ratios per policy, nothing where the tests are not installed."""
    if importlib.util.find_spec("invpipe_tests") is None:
        return [{} for _ in policies()]
    ratios: list[Figures] = importlib.import_module(REFERENCE).ratios(size)
    return ratios
