"""Arena: replay of a shop's past under ordering policies."""

from __future__ import annotations

from invpipe.arena.ablation import Ablation, SeedRuns, compare, run_ablation
from invpipe.arena.clairvoyant import clairvoyant_bound
from invpipe.arena.engine import run_backtest
from invpipe.arena.kpis import BacktestResult
from invpipe.arena.params import BacktestParams
from invpipe.arena.policies import (
    AllocationPolicy,
    ClairvoyantPolicy,
    DemandSource,
    EwmaForecast,
    OrderNothing,
    Orders,
    Policy,
    ScheduledForecast,
    ShopView,
    standard_policies,
)
from invpipe.arena.tape import Tape

__all__ = [
    "Ablation",
    "AllocationPolicy",
    "BacktestParams",
    "BacktestResult",
    "ClairvoyantPolicy",
    "DemandSource",
    "EwmaForecast",
    "OrderNothing",
    "Orders",
    "Policy",
    "ScheduledForecast",
    "SeedRuns",
    "ShopView",
    "Tape",
    "clairvoyant_bound",
    "compare",
    "run_ablation",
    "run_backtest",
    "standard_policies",
]
