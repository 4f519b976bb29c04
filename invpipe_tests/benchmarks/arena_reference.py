"""How many times faster the arena is than two readable engines: same tape, policy and results to the last bit, one process, one thread.

Compared is the replay of the days - offers, sales, views, decisions, orders, KPIs - without opening state and result tables, which all
engines share. Run it with ``python -m invpipe_tests.benchmarks.arena_reference``; `invpipe bench arena` includes it where the tests are at
hand.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from invpipe.arena import BacktestResult, OrderNothing, Orders, ShopView, Tape, run_backtest
from invpipe.bench.arena import TapeSize, bench_params, policies, write_large_tape
from invpipe_tests.oracles.arena_dicts import DictShop, run_dicts
from invpipe_tests.oracles.arena_objects import PlainSku, run_objects

#: Days of the tape all engines replay: the plain engine takes about a second for each.
REFERENCE_DAYS = 12
LEFTOVER_VALUE_FRAC, CAPITAL_TOLERANCE = 0.9, 1e-12


@dataclass(frozen=True)
class QuietReference:
    """Orders nothing on every engine."""

    name: str = "order_nothing"

    def decide(self, view: ShopView) -> Orders:
        """Return no order."""
        return OrderNothing().decide(view)

    def decide_dicts(self, shop: DictShop, day: int) -> list[tuple[int, int]]:
        """Return no order."""
        return []

    def decide_objects(self, shop: Any, skus: list[PlainSku], day: int) -> list[tuple[int, int]]:
        """Return no order."""
        return []


@dataclass(frozen=True)
class GreedyReference:
    """EWMA + greedy on every engine; in plain Python it reads one SKU after the other. Vendors must have no minimum order value."""

    name: str = "ewma_greedy"

    def decide(self, view: ShopView) -> Orders:
        """Return what the package's policy orders."""
        return policies()[1].decide(view)

    def decide_dicts(self, shop: DictShop, day: int) -> list[tuple[int, int]]:
        """Read the dicts."""

        def facts() -> Iterable[tuple[Any, ...]]:
            for sku, live in shop.live.items():
                if live and shop.velocity[sku] > 0.0 and live[0][0] < shop.price[sku]:
                    cost, offer = live[0]
                    velocity = shop.velocity[sku] * shop.decay[day - shop.velocity_day[sku]]
                    lot = shop.minimum[offer], shop.pack[offer]
                    position = shop.on_hand[sku] + shop.on_order[sku]
                    yield sku, shop.price[sku], cost, velocity, shop.offer_vendor[offer], position, lot

        return greedy_lines(facts(), shop, shop.capital_available())

    def decide_objects(self, shop: Any, skus: list[PlainSku], day: int) -> list[tuple[int, int]]:
        """Read the objects."""

        def facts() -> Iterable[tuple[Any, ...]]:
            for sku in skus:
                best, books = sku.best, sku.books
                if best is not None and sku.velocity_now > 0.0 and best.unit_cost < books.price:
                    lot, position = (best.min_order_units, best.pack_units), books.on_hand + sku.on_order
                    yield sku.index, books.price, best.unit_cost, sku.velocity_now, best.vendor, position, lot

        return greedy_lines(facts(), shop, shop.capital_available())


def greedy_lines(facts: Iterable[tuple[Any, ...]], shop: Any, capital: float) -> list[tuple[int, int]]:
    """Return (SKU index, units) of the SKUs that are filled up to their mean demand, most profitable per unit of money first."""
    lead = [math.ceil(x) for x in shop.tape.arrays.lead_time_days_mean.tolist()]
    review, ranked = shop.params.review_period_days, []
    for sku, price, cost, velocity, vendor, position, (minimum, pack) in facts:
        days = lead[vendor] + review
        mean = velocity * days
        wanted = math.floor(mean + 0.5) - position
        if wanted <= 0:
            continue
        first = -(-minimum // pack) * pack
        down = 0 if wanted < first else first + (wanted - first) // pack * pack
        lot = pack if down else first
        target = down + (lot if 2 * (wanted - down) >= lot else 0)
        if target == 0:
            continue
        sold, value = min(target, max(mean - position, 0.0)), cost * target
        left_over = LEFTOVER_VALUE_FRAC * cost - shop.rate * cost * days
        rank = (price * sold + left_over * (target - sold) - value) / value
        if rank > 0.0:
            ranked.append((-rank, sku, target, value))
    left, slack, lines = capital, CAPITAL_TOLERANCE * capital, []
    for _, sku, target, value in sorted(ranked):
        if value <= left + slack:
            left -= value
            lines.append((sku, target))
    return sorted(lines)


def replay_seconds(result: BacktestResult) -> float:
    """Return the seconds a run spent on its days."""
    return sum(result.phase_seconds.get(phase, 0.0) for phase in ("days", "kernel", "view", "decide", "orders"))


def ratios_on(tape: Tape, runs: int = 30) -> list[dict[str, float]]:
    """Return per policy the ratios of both engines' time to the arena's, best of `runs` for the arena, best of two for the others.

    Raises
    ------
    AssertionError
        Where two engines differ in any byte of their results.
    """
    params, out = bench_params(tape), []
    for policy in (QuietReference(), GreedyReference()):
        fast = [run_backtest(tape, policy, params) for _ in range(runs + 1)]  # the first compiles
        seconds, row = min(map(replay_seconds, fast)), {}
        for name, run in (("dict", run_dicts), ("object", run_objects)):
            slow = [run(tape, policy, params) for _ in range(2)]
            if slow[0].fingerprint() != fast[0].fingerprint():
                msg = f"the {name} engine and the arena differ under {policy.name}: {slow[0].summary} {fast[0].summary}"
                raise AssertionError(msg)
            row[f"ratio_{name}_engine"] = min(map(replay_seconds, slow)) / seconds
        out.append(row)
    return out


def ratios(size: TapeSize, days: int = REFERENCE_DAYS) -> list[dict[str, float]]:
    """Return the ratios on a tape of that many SKUs and events a day, over a few days."""
    with tempfile.TemporaryDirectory() as folder:
        short = TapeSize(size.skus, days, size.demand, size.views, size.deltas, size.seed)
        return ratios_on(Tape.open(write_large_tape(folder, short)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=170_000)
    parser.add_argument("--days", type=int, default=REFERENCE_DAYS)
    arguments = parser.parse_args()
    n = arguments.skus
    for name, row in zip(("order_nothing", "ewma_greedy"), ratios(TapeSize(n, arguments.days, n // 34, n // 6, n // 8)), strict=True):
        print(name, ", ".join(f"{key} {value:.0f}" for key, value in row.items()))
