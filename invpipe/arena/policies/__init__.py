"""Policies of the arena, and how to add one.

| name | law of demand | how the capital is spent |
|---|---|---|
| order_nothing | none | not at all: the floor |
| {ewma, forecast}_{greedy, lp, marginal} | EWMA velocity, or forecasts made as of their day | best per unit of capital, by three methods |
| gamma_poisson_marginal | gamma-Poisson posterior of the velocity | exact marginal value |
| ss, base_stock | EWMA velocity and its variance | levels per SKU, least cover first |
| legacy | this year over last year | newsvendor per SKU, in catalogue order |
| clairvoyant | the demand to come | best margin first: how much is possible, about |

A policy is any object with a `name` and a method `decide`, which reads a :class:`ShopView` and returns :class:`Orders`. It may order only
what the view offers: SKUs with a finite `unit_cost`, whole lots, within `capital_available`. It keeps nothing between calls, so one object
serves many threads; its parameters are dataclass fields, so that a sweep can vary them. A policy that keeps `target_units` of everything:

>>> from dataclasses import dataclass
>>> from datetime import date
>>> import numpy as np
>>> from invpipe.arena import BacktestParams, Orders, ShopView, Tape, run_backtest
>>> @dataclass(frozen=True)
... class KeepSome:
...     target_units: int = 3
...     name: str = "keep_some"
...
...     def decide(self, view: ShopView) -> Orders:
...         position = view.on_hand_units + view.on_order_units
...         rows = np.flatnonzero((view.offer_index >= 0) & (position < self.target_units))
...         terms = view.offer_terms(rows)
...         missing = np.maximum(self.target_units - position[rows], terms.min_order_units)
...         units = -(-missing // terms.pack_units) * terms.pack_units
...         fits = np.cumsum(units * view.unit_cost[rows]) <= view.capital_available
...         return Orders(rows[fits], units[fits])
>>> ones = np.ones(1, dtype=int)
>>> tape = Tape.from_arrays(
...     start=date(2024, 1, 1), n_days=6, skus=["A"], unit_price=[10.0],
...     vendors=["V"], lead_time_days_mean=[1.0], lead_time_days_sd=[0.0], min_order_value=[0.0],
...     offer_sku=[0], offer_vendor=[0], opening_offers=([6.0], ones, ones, ones),
...     demand=([1, 2, 4], [0, 0, 0], [2, 1, 1]),
... )
>>> result = run_backtest(tape, KeepSome(), BacktestParams(capital_limit=100.0, review_period_days=1, holding_cost_frac_per_year=0.0))
>>> result.orders.select("order_units").to_series().to_list(), result.summary["sales_units"], result.summary["profit"]
([3, 2, 1, 1], 4, 7.0)
"""

from __future__ import annotations

from invpipe.allocation import AllocationParams
from invpipe.arena.policies.allocation import (
    AllocationPolicy,
    DemandSource,
    EwmaForecast,
    GammaPoissonMarginal,
    GammaPoissonVelocity,
    Method,
    ScheduledForecast,
    VelocitySource,
)
from invpipe.arena.policies.base import OrderNothing, Orders, Policy, ShopView
from invpipe.arena.policies.clairvoyant import ClairvoyantPolicy
from invpipe.arena.policies.legacy import LegacyPolicy
from invpipe.arena.policies.levels import BaseStock, SsPolicy
from invpipe.arena.tape import Tape

__all__ = [
    "AllocationPolicy",
    "BaseStock",
    "ClairvoyantPolicy",
    "DemandSource",
    "EwmaForecast",
    "GammaPoissonMarginal",
    "GammaPoissonVelocity",
    "LegacyPolicy",
    "OrderNothing",
    "Orders",
    "Policy",
    "ScheduledForecast",
    "ShopView",
    "SsPolicy",
    "VelocitySource",
    "standard_policies",
]

#: Name of a policy's second half, and the allocation method behind it.
METHODS: dict[str, Method] = {"greedy": "greedy", "lp": "lp", "marginal": "exact"}


def standard_policies(
    tape: Tape, forecast: DemandSource | None = None, *, leftover_value_frac: float = 0.9, params: AllocationParams | None = None
) -> dict[str, Policy]:
    """Return the policies of the standard comparison by name.

    Parameters
    ----------
    tape
        Tape the clairvoyant policy knows, and whose past the legacy policy reads.
    forecast
        Trained law of demand; the three forecast policies are left out where None.
    leftover_value_frac, params
        As in :class:`AllocationPolicy`, the same for all, so that they differ in law and method only.
    """
    law_params = params or AllocationParams()
    policies: list[Policy] = [OrderNothing()]
    ewma = EwmaForecast()
    for law, source in (("ewma", ewma), ("forecast", forecast)):
        if source is not None:
            policies += [
                AllocationPolicy(f"{law}_{name}", source, method, leftover_value_frac, law_params) for name, method in METHODS.items()
            ]
    policies += [
        GammaPoissonMarginal(leftover_value_frac=leftover_value_frac),
        SsPolicy(),
        BaseStock(),
        LegacyPolicy(tape, leftover_value_frac=leftover_value_frac),
        ClairvoyantPolicy(tape),
    ]
    return {policy.name: policy for policy in policies}
