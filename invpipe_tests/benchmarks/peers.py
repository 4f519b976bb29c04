"""The arena beside other inventory simulators: order up to a level every day, lost sales, one lead time, no capital limit.

Run it with ``python -m invpipe_tests.benchmarks.peers``, in an environment that also has ``stockcast`` and ``replenishment`` (pip install
them; they are no dependencies); one that is not installed is left out, and said so. Same demand (Poisson, simulated, seeded), same levels,
same opening stock. The work is not equal: stockcast writes an audited row per SKU and day, replenishment a snapshot; the arena keeps totals
per SKU, KPIs per day and every order, and would also take offers, views and capital. stockcast decides before the day's demand, the other
two after it, so its fill rate is another one; replenishment's has to be the arena's.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.arena import BacktestParams, Orders, ShopView, Tape, run_backtest

START = date(2024, 1, 1)
LEAD_DAYS = 5


@dataclass(frozen=True)
class Work:
    """Demand, shape (n_days, n_sku), and the level of each SKU, which is its opening stock, too."""

    demand: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]

    @classmethod
    def draw(cls, skus: int, days: int, seed: int) -> Work:
        rng = np.random.default_rng(seed)
        mean = rng.gamma(0.6, 3.0, skus) + 0.02
        window = mean * (LEAD_DAYS + 1)
        return cls(rng.poisson(mean, (days, skus)), np.ceil(window + 1.3 * np.sqrt(window)).astype(np.int64))


@dataclass(frozen=True)
class OrderUpTo:
    """Raise every position to its level."""

    level: npt.NDArray[np.int64]
    name: str = "order_up_to"

    def decide(self, view: ShopView) -> Orders:
        """Return what is missing."""
        missing = self.level - view.on_hand_units - view.on_order_units
        rows = np.flatnonzero(missing > 0)
        return Orders(rows, missing[rows])


def arena(work: Work) -> Callable[[], float]:
    """Return the run of invpipe; it gives the fill rate."""
    n_days, n = work.demand.shape
    day, sku = np.nonzero(work.demand)
    ones = np.ones(n)
    tape = Tape.from_arrays(
        start=START,
        n_days=n_days,
        skus=[f"S{k:06d}" for k in range(n)],
        unit_price=2 * ones,
        vendors=["V"],
        lead_time_days_mean=[float(LEAD_DAYS)],
        lead_time_days_sd=[0.0],
        min_order_value=[0.0],
        offer_sku=np.arange(n),
        offer_vendor=np.zeros(n, dtype=np.int64),
        opening_on_hand_units=work.level,
        opening_offers=(ones, ones.astype(np.int64), ones.astype(np.int64), ones.astype(np.int64)),
        demand=(day, sku, work.demand[day, sku]),
    )
    params = BacktestParams(capital_limit=float("inf"), review_period_days=1)
    return lambda: float(run_backtest(tape, OrderUpTo(work.level), params).summary["fill_rate"])


def replenishment(work: Work) -> Callable[[], float]:
    """Return the run of replenishment, one article after the other."""
    from replenishment import simulate_replenishment

    class UpTo:
        def __init__(self, level: int) -> None:
            self.level = level

        def order_quantity_for(self, state: object) -> int:
            return self.level - state.on_hand - state.on_order  # type: ignore[attr-defined]

    columns = [column.tolist() for column in work.demand.T]

    def run() -> float:
        served = wanted = 0
        for level, column in zip(work.level.tolist(), columns, strict=True):
            found = simulate_replenishment(
                periods=len(column), demand=column, initial_on_hand=level, lead_time=LEAD_DAYS, policy=UpTo(level)
            )
            served += found.summary.total_fulfilled
            wanted += found.summary.total_demand
        return served / wanted

    return run


def stockcast(work: Work) -> Callable[[], float]:
    """Return the run of stockcast."""
    import pandas as pd
    from stockcast.core import InventoryStateDataFrame, SimulationEngine
    from stockcast.evaluation import InventoryEvaluator, fill_rate
    from stockcast.policies import OrderUpToPolicy

    n_days, n = work.demand.shape
    days = pd.date_range(START, periods=n_days, freq="D")
    names = [f"S{k:06d}" for k in range(n)]
    demand = pd.DataFrame({"unique_id": np.repeat(names, n_days), "date": np.tile(days, n), "y": work.demand.T.ravel()})
    target = pd.DataFrame({"unique_id": names, "date": days[0], "q95": work.level})
    shelf = pd.DataFrame({"unique_id": names, "date": days[0] - pd.Timedelta(days=1), "on_hand": work.level})

    def run() -> float:
        policy = OrderUpToPolicy(lead_time=LEAD_DAYS, review_period=1, freq="D", service_level=0.95, allow_backorders=False)
        policy.fit(target, target_column="q95")
        stock = InventoryStateDataFrame.from_observed(shelf)
        result = SimulationEngine().run(policy=policy, demand_source=demand, inventory=stock)
        return float(InventoryEvaluator().fit(result).evaluate([fill_rate])["fill_rate"].mean())

    return run


PEERS: dict[str, Callable[[Work], Callable[[], float]]] = {"invpipe": arena, "replenishment": replenishment, "stockcast": stockcast}


def compare(skus: int, days: int, seed: int, repeats: int) -> pl.DataFrame:
    """Return one row per simulator that is installed: SKU-days per second (best of the repeats), ratio to it, fill rate."""
    work = Work.draw(skus, days, seed)
    rows = []
    for name, prepare in PEERS.items():
        if importlib.util.find_spec(name) is None:
            continue
        run = prepare(work)
        rate = run()  # compiles
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
        rows.append({"simulator": name, "sku_days_per_second": skus * days / min(seconds), "fill_rate": rate})
    table = pl.DataFrame(rows)
    return table.with_columns(invpipe_is_faster_by=table["sku_days_per_second"][0] / pl.col("sku_days_per_second"))


def main(argv: list[str] | None = None) -> None:
    """Print the table, and who is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skus", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(argv)
    with pl.Config(tbl_hide_dataframe_shape=True, tbl_width_chars=120):
        print(compare(args.skus, args.days, args.seed, args.repeats))
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if missing:
        print(f"not installed: {', '.join(missing)}")


if __name__ == "__main__":
    main()
