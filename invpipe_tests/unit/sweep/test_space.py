"""Spaces and variants."""

import dataclasses
from functools import partial

import pytest

from invpipe.errors import ArenaError
from invpipe.sweep import grid
from invpipe.sweep.space import make_variant, variants_of
from invpipe_tests.unit.sweep.worlds import PARAMS, marginal


def test_grid_takes_all_combinations_in_order() -> None:
    """Prevents a sweep that leaves a combination out, or whose rows stand in another order than the space."""
    assert grid({"a": [1, 2], "b": ["x", "y"]}) == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]


def test_backtest_fields_change_the_backtest_and_others_the_policy() -> None:
    """Prevents a capital limit that is given to the policy, where it has no effect."""
    variant = make_variant({"leftover_value_frac": 0.5, "capital_limit": 7.0, "review_period_days": 3}, marginal, PARAMS)
    assert variant.policy == marginal(0.5)
    assert variant.params == dataclasses.replace(PARAMS, capital_limit=7.0, review_period_days=3)


def test_fields_of_any_policy_are_parameters() -> None:
    """Prevents policies that can be swept only after somebody wrote a maker for them."""
    maker = partial(dataclasses.replace, marginal())
    assert make_variant({"leftover_value_frac": 0.4, "method": "greedy"}, maker, PARAMS).policy.method == "greedy"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"a": []}, r"parameter 'a' has the values \[\]; give a list of at least one value"),
        ({"a": "xy"}, "parameter 'a' has the values 'xy'; give a list"),
        ({"a": [1, 2, 1]}, "parameter 'a' has 1 of 3 values twice, first 1; give each once"),
        ([], "the space has no variant; give at least one"),
        ([{"a": 1}, {"b": 1}], r"variant 1 has the parameters \['b'\], variant 0 \['a'\]; give all the same names"),
        ([{"a": 1}, {"a": 1}], "variant 1 is variant 0 again: a=1; give each once"),
        ({"a": [(1, 2)]}, "parameter 'a' is a tuple; give bool, int, float, str or None"),
        ({"lambda_": [1]}, "the policy maker does not take lambda_=1: .* sweep its arguments or fields of BacktestParams"),
        ({"leftover_value_frac": [1.5]}, r"leftover_value_frac is 1.5; it must lie in \[0, 1\)"),
        ({"review_period_days": [0]}, "review_period_days is 0; it must lie between 1 and 3650"),
    ],
)
def test_bad_space_is_refused(space: object, message: str) -> None:
    """Prevents hours of replays before the first bad variant is met."""
    with pytest.raises(ArenaError, match=message):
        variants_of(space, marginal, PARAMS)  # type: ignore[arg-type]
