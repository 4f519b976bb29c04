"""Policies that a sweep tries by name."""

from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from invpipe.arena import AllocationPolicy, BaseStock, EwmaForecast, GammaPoissonMarginal, Policy, SsPolicy, run_backtest, standard_policies
from invpipe.errors import ArenaError
from invpipe.settings.sections import SweptPolicy
from invpipe.sweep import PARAMETERS, named_space, parameters_of, policy_maker, run_sweep
from invpipe_tests.unit.sweep.worlds import PARAMS, small_tape

VALUES = {"leftover_value_frac": (0.8, 0.9), "exposure_frac": (1.0,), "safety_factor": (0.5, 1.0), "cover_days": (0.0, 7.0)}


def made(policy: str, **parameters: float | None) -> Policy:
    """The policy of a name, with a forecast at hand."""
    return policy_maker(EwmaForecast())(policy, **parameters)


def test_every_policy_is_tried_with_the_parameters_it_has() -> None:
    """Prevents equal runs under different names, and parameters of the settings that reach no policy."""
    space = named_space(["ewma_greedy", "gamma_poisson_marginal", "ss", "base_stock"], VALUES, (7,))
    names = ("policy", *PARAMETERS, "review_period_days")
    assert [tuple(variant[name] for name in names) for variant in space] == [
        *(("ewma_greedy", frac, None, None, None, 7) for frac in (0.8, 0.9)),
        *(("gamma_poisson_marginal", frac, 1.0, None, None, 7) for frac in (0.8, 0.9)),
        *(("ss", None, None, factor, days, 7) for factor in (0.5, 1.0) for days in (0.0, 7.0)),
        *(("base_stock", None, None, factor, None, 7) for factor in (0.5, 1.0)),
    ]


def test_values_reach_the_policy() -> None:
    """Prevents two parameters from changing places, and a default instead of what was asked for."""
    assert made("ss", safety_factor=0.3, cover_days=5.0, exposure_frac=None) == SsPolicy(0.3, 5.0)
    assert made("base_stock", safety_factor=0.3) == BaseStock(0.3)
    assert made("gamma_poisson_marginal", exposure_frac=0.7, leftover_value_frac=0.6) == GammaPoissonMarginal(0.7, 0.6)
    greedy = made("ewma_greedy", leftover_value_frac=0.6)
    assert isinstance(greedy, AllocationPolicy)
    assert (greedy.method, greedy.leftover_value_frac) == ("greedy", 0.6)


@pytest.mark.parametrize("policy", get_args(SweptPolicy))
def test_every_policy_of_the_settings_exists(policy: str) -> None:
    """Prevents a name that the settings take and the sweep does not know."""
    assert made(policy, **{name: VALUES[name][0] for name in parameters_of(policy)}).name == policy


def test_swept_policies_are_those_of_the_ablation(tmp_path: Path) -> None:
    """Prevents a sweep whose policy of a name is another one than the ablation's, and columns that change type with the choice."""
    tape = small_tape()
    values = {"leftover_value_frac": (0.9,), "exposure_frac": (1.0,), "safety_factor": (1.0,), "cover_days": (14.0,)}
    names = ["ewma_greedy", "gamma_poisson_marginal", "ss", "base_stock"]
    trials = run_sweep(tape, policy_maker(None), named_space(names, values, (2,)), PARAMS, [0], tmp_path)
    ablation = standard_policies(tape)
    assert trials["profit"].to_list() == [run_backtest(tape, ablation[name], PARAMS).summary["profit"] for name in names]
    alone = run_sweep(tape, policy_maker(None), named_space(["base_stock"], values, (2,)), PARAMS, [0], tmp_path)
    assert alone.schema == trials.schema
    assert alone["cover_days"].dtype == pl.Float64


@pytest.mark.parametrize(
    ("policy", "parameters", "message"),
    [
        ("ss", {"safety_factor": 1.0}, r"policy 'ss' got the parameters \['safety_factor'\]; give \['cover_days', 'safety_factor'\]"),
        ("base_stock", {"safety_factor": 1.0, "cover_days": 3.0}, "policy 'base_stock' got the parameters"),
        ("forecast_lp", {"leftover_value_frac": 0.9}, "policy 'forecast_lp' needs a forecast that was not given"),
        ("ewma_best", {"leftover_value_frac": 0.9}, "there is no policy 'ewma_best' to sweep"),
        ("ss", {"safety_factor": 1.0, "cover_days": -3.0}, "cover_days is -3.0"),
    ],
)
def test_wrong_names_and_values_are_refused(policy: str, parameters: dict[str, float], message: str) -> None:
    """Prevents a parameter that is silently dropped, and a policy that is another one than it is called."""
    with pytest.raises(ArenaError, match=message):
        policy_maker(None)(policy, **parameters)
