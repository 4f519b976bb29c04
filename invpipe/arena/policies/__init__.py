"""Policies of the arena: order nothing, {EWMA, forecast} x {greedy, LP, marginal}, clairvoyant."""

from __future__ import annotations

from invpipe.allocation import AllocationParams
from invpipe.arena.policies.allocation import AllocationPolicy, DemandSource, EwmaForecast, Method, ScheduledForecast
from invpipe.arena.policies.base import OrderNothing, Orders, Policy, ShopView
from invpipe.arena.policies.clairvoyant import ClairvoyantPolicy
from invpipe.arena.tape import Tape

__all__ = [
    "AllocationPolicy",
    "ClairvoyantPolicy",
    "DemandSource",
    "EwmaForecast",
    "OrderNothing",
    "Orders",
    "Policy",
    "ScheduledForecast",
    "ShopView",
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
        Tape the clairvoyant policy knows.
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
    policies.append(ClairvoyantPolicy(tape))
    return {policy.name: policy for policy in policies}
