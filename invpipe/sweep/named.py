"""Named policies: the policies of the ablation that a sweep tries by name, each with the parameters it has.

The allocation policies have `leftover_value_frac`, those of the gamma-Poisson law `exposure_frac` besides; (s, S) has `safety_factor` and
`cover_days`, base stock `safety_factor`. A table of several policies has a column per parameter, null where a policy has no such one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.distributions import BaseDistribution, FloatDistribution

from invpipe.arena import AllocationPolicy, BaseStock, DemandSource, EwmaForecast, GammaPoissonMarginal, Policy, SsPolicy
from invpipe.arena.policies import METHODS, GammaPoissonVelocity
from invpipe.errors import ArenaError
from invpipe.sweep.space import PolicyMaker, Value, grid

#: Parameters of named policies, in the order of the table's columns.
PARAMETERS = ("leftover_value_frac", "exposure_frac", "safety_factor", "cover_days")
LEVELS = {"ss": ("safety_factor", "cover_days"), "base_stock": ("safety_factor",)}
GAMMA_POISSON, FORECAST = "gamma_poisson", "forecast"


def parameters_of(policy: str) -> tuple[str, ...]:
    """Return the names of a policy's own parameters."""
    if policy in LEVELS:
        return LEVELS[policy]
    return ("leftover_value_frac", "exposure_frac") if policy.startswith(GAMMA_POISSON) else ("leftover_value_frac",)


def named_space(
    policies: Sequence[str], values: Mapping[str, Sequence[float]], review_period_days: Sequence[int]
) -> list[dict[str, Value]]:
    """Return the variants of the policies: all combinations of the parameters each one has, None for those it has not.

    Parameters
    ----------
    policies
        Names, in the order of the variants.
    values
        Values to try of each of :data:`PARAMETERS`.
    review_period_days
        Review periods to try.

    Raises
    ------
    ArenaError
        As :func:`~invpipe.sweep.space.grid`.
    """
    variants: list[dict[str, Value]] = []
    for policy in policies:
        own = parameters_of(policy)
        tried: dict[str, Sequence[Value]] = {name: values[name] if name in own else (None,) for name in PARAMETERS}
        variants += grid({"policy": [policy], **tried, "review_period_days": review_period_days})
    return variants


def named_distributions(policy: str, values: Mapping[str, Sequence[float]]) -> dict[str, BaseDistribution]:
    """Return what a study of a policy draws its parameters from: each one between its lowest and highest value."""
    return {name: FloatDistribution(min(values[name]), max(values[name])) for name in parameters_of(policy)}


def policy_maker(forecast: DemandSource | None) -> PolicyMaker:
    """Return the maker of the named policies; a parameter that a policy does not have must be None.

    Parameters
    ----------
    forecast
        Trained law of demand of the forecast policies; without one they are refused.
    """
    sources: dict[str, DemandSource | None] = {"ewma": EwmaForecast(), FORECAST: forecast}

    def make(policy: str, **parameters: float | None) -> Policy:
        own = {name: value for name, value in parameters.items() if value is not None}
        if set(own) != set(parameters_of(policy)):
            msg = f"policy {policy!r} got the parameters {sorted(own)}; give {sorted(parameters_of(policy))}, no more and no less"
            raise ArenaError(msg)
        if policy in LEVELS:
            return SsPolicy(own["safety_factor"], own["cover_days"]) if policy == "ss" else BaseStock(own["safety_factor"])
        law, _, method = policy.rpartition("_")
        if policy == GammaPoissonMarginal.name:
            return GammaPoissonMarginal(own["exposure_frac"], own["leftover_value_frac"])
        source = GammaPoissonVelocity(own["exposure_frac"]) if law == GAMMA_POISSON else sources.get(law)
        if source is None or method not in METHODS:
            msg = f"policy {policy!r} needs a forecast that was not given" if law == FORECAST else f"there is no policy {policy!r} to sweep"
            raise ArenaError(msg)
        return AllocationPolicy(policy, source, METHODS[method], own["leftover_value_frac"])

    return make
