"""Arena: replay of a shop's past under ordering policies."""

from __future__ import annotations

from invpipe.arena.ablation import Ablation, SeedRuns, compare, pairwise, run_ablation
from invpipe.arena.clairvoyant import clairvoyant_bound
from invpipe.arena.engine import run_backtest
from invpipe.arena.kpis import BacktestResult
from invpipe.arena.params import BacktestParams
from invpipe.arena.policies import (
    AllocationPolicy,
    BaseStock,
    ClairvoyantPolicy,
    DemandSource,
    EwmaForecast,
    GammaPoissonMarginal,
    LegacyPolicy,
    OrderNothing,
    Orders,
    Policy,
    ScheduledForecast,
    ShopView,
    SsPolicy,
    standard_policies,
)
from invpipe.arena.tape import Tape

__all__ = [
    "Ablation",
    "AllocationPolicy",
    "BacktestParams",
    "BacktestResult",
    "BaseStock",
    "ClairvoyantPolicy",
    "DemandSource",
    "EwmaForecast",
    "GammaPoissonMarginal",
    "LegacyPolicy",
    "OrderNothing",
    "Orders",
    "Policy",
    "ScheduledForecast",
    "SeedRuns",
    "ShopView",
    "SsPolicy",
    "Tape",
    "clairvoyant_bound",
    "compare",
    "pairwise",
    "run_ablation",
    "run_backtest",
    "standard_policies",
]
