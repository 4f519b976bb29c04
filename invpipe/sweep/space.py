"""What a sweep varies: named values of a policy and of the backtest, and the variants they make.

A variant is a set of parameters, name -> value. A name that is a field of :class:`~invpipe.arena.BacktestParams` (`capital_limit`,
`review_period_days`, ...) changes the backtest; every other is an argument of the policy maker, a function or a dataclass that returns a
policy: ``functools.partial(dataclasses.replace, policy)`` makes the fields of a policy its parameters.

>>> grid({"leftover_value_frac": [0.8, 0.9], "review_period_days": [7]})
[{'leftover_value_frac': 0.8, 'review_period_days': 7}, {'leftover_value_frac': 0.9, 'review_period_days': 7}]
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from invpipe.arena import BacktestParams, Policy
from invpipe.errors import ArenaError

#: One value of a parameter; plain, so that it can stand in a file and in a column.
Value: TypeAlias = bool | int | float | str | None
Parameters: TypeAlias = Mapping[str, Value]
#: Values per name, of which all combinations are run; or the variants themselves.
Space: TypeAlias = Mapping[str, Sequence[Value]] | Sequence[Parameters]
PolicyMaker: TypeAlias = Callable[..., Policy]

BACKTEST_FIELDS = frozenset(field.name for field in dataclasses.fields(BacktestParams))


@dataclass(frozen=True)
class Variant:
    """One policy under one backtest: `parameters` say how it was made."""

    parameters: Parameters
    policy: Policy
    params: BacktestParams


def grid(space: Mapping[str, Sequence[Value]]) -> list[dict[str, Value]]:
    """Return all combinations of the values, the last name changing fastest.

    Parameters
    ----------
    space
        Values per parameter name, at least one each, none twice.

    Raises
    ------
    ArenaError
        Where a parameter has no value, one twice, or one that is no plain value.
    """
    for name, values in space.items():
        if isinstance(values, str) or not len(values):
            msg = f"parameter {name!r} has the values {values!r}; give a list of at least one value"
            raise ArenaError(msg)
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice:
            msg = f"parameter {name!r} has {len(twice)} of {len(values)} values twice, first {twice[0]!r}; give each once"
            raise ArenaError(msg)
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def variants_of(space: Space, make_policy: PolicyMaker, params: BacktestParams) -> list[Variant]:
    """Return the variants of a space in its order.

    Parameters
    ----------
    space
        Values per name, or the variants' parameters themselves, all with the same names.
    make_policy
        Called with the parameters that are not the backtest's.
    params
        Backtest whose fields the other parameters replace.

    Raises
    ------
    ArenaError
        Where there is no variant, two are the same, their names differ, or a value is refused.
    """
    chosen = grid(space) if isinstance(space, Mapping) else [dict(parameters) for parameters in space]
    if not chosen:
        msg = "the space has no variant; give at least one"
        raise ArenaError(msg)
    for i, parameters in enumerate(chosen):
        if set(parameters) != set(chosen[0]):
            msg = f"variant {i} has the parameters {sorted(parameters)}, variant 0 {sorted(chosen[0])}; give all the same names"
            raise ArenaError(msg)
        if parameters in chosen[:i]:
            msg = f"variant {i} is variant {chosen.index(parameters)} again: {text_of(parameters)}; give each once"
            raise ArenaError(msg)
    return [make_variant(parameters, make_policy, params) for parameters in chosen]


def make_variant(parameters: Parameters, make_policy: PolicyMaker, params: BacktestParams) -> Variant:
    """Return the policy and the backtest that the parameters ask for.

    Raises
    ------
    ArenaError
        Where a value is no plain value, the maker does not know a name, or policy or backtest refuse a value.
    """
    for name, value in parameters.items():
        if value is not None and not isinstance(value, bool | int | float | str):
            msg = f"parameter {name!r} is a {type(value).__name__}; give bool, int, float, str or None"
            raise ArenaError(msg)
    changed = {name: value for name, value in parameters.items() if name in BACKTEST_FIELDS}
    own = {name: value for name, value in parameters.items() if name not in BACKTEST_FIELDS}
    try:
        policy = make_policy(**own)
    except TypeError as error:
        msg = f"the policy maker does not take {text_of(own) or 'no parameter'}: {error}; sweep its arguments or fields of BacktestParams"
        raise ArenaError(msg) from error
    return Variant(parameters, policy, dataclasses.replace(params, **changed))  # type: ignore[arg-type]


def text_of(parameters: Parameters) -> str:
    """Return the parameters on one line."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())
