"""A small tape with enough to order, and policies to sweep on it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import date

import numpy as np

from invpipe.arena import AllocationPolicy, BacktestParams, EwmaForecast, Orders, ShopView, Tape

PARAMS = BacktestParams(600.0, review_period_days=2, warm_up_days=3, holding_cost_frac_per_year=1.0)
#: Decisions of one run under PARAMS.
DECISIONS = 10


def small_tape(seed: int = 0) -> Tape:
    """Return 12 SKUs on 20 days, with two late vendors each and demand beyond the opening stock."""
    rng = np.random.default_rng(seed)
    n_sku, n_days = 12, 20
    price = rng.uniform(5.0, 20.0, n_sku)
    cell = np.flatnonzero(rng.random(n_days * n_sku) < 0.5)
    ones = np.ones(2 * n_sku, dtype=np.int64)
    return Tape.from_arrays(
        start=date(2017, 3, 1),
        n_days=n_days,
        skus=[f"S{i:02d}" for i in range(n_sku)],
        unit_price=price,
        vendors=["V0", "V1"],
        lead_time_days_mean=[2.0, 4.0],
        lead_time_days_sd=[1.0, 2.0],
        min_order_value=[0.0, 0.0],
        offer_sku=np.repeat(np.arange(n_sku), 2),
        offer_vendor=np.tile([0, 1], n_sku),
        opening_on_hand_units=rng.integers(0, 4, n_sku),
        opening_unit_cost=0.6 * price,
        opening_offers=(np.repeat(price, 2) * rng.uniform(0.4, 0.8, 2 * n_sku), ones, ones, ones),
        prior_sales=([5] * n_sku, np.arange(n_sku), rng.integers(5, 30, n_sku)),
        demand=(cell // n_sku, cell % n_sku, rng.integers(1, 5, len(cell))),
    )


def marginal(leftover_value_frac: float = 0.9) -> AllocationPolicy:
    return AllocationPolicy("ewma_marginal", EwmaForecast(), "exact", leftover_value_frac)


class Counter:
    """Counts calls, notes threads; has a fingerprint, so that a policy may hold it."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: set[str] = set()
        self._lock = threading.Lock()

    def fingerprint(self) -> str:
        return "counter"

    def call(self) -> None:
        with self._lock:
            self.calls += 1
            self.threads.add(threading.current_thread().name)


@dataclass(frozen=True)
class Counted:
    """Decides as `marginal` does and counts the decisions."""

    counter: Counter = field(default_factory=Counter)
    leftover_value_frac: float = 0.9
    name: str = "counted"

    def decide(self, view: ShopView) -> Orders:
        self.counter.call()
        return marginal(self.leftover_value_frac).decide(view)
