r"""Frontier: what capital and the LP's stock-out penalty buy, measured by replay.

For every capital limit the exact marginal policy, which has no penalty, and the LP policy under every penalty
:math:`\lambda` (a share of the unit price per unit missing at the upper quantile) are replayed under the same law of demand and the same
lead times. The table gives profit, fill rate and the capital in use. Two figures are drawn from it:

- the realised price of capital between two neighbouring limits of one policy, :math:`\Delta\,\text{profit} / \Delta\,\text{limit}`: what
  one more unit of capital, there for the whole KPI span, earned. Unlike the plan's own capital price it is no promise of one day's
  problem, but it belongs to this tape only;
- whether a point is efficient: no other point has at least its profit with less capital in use on average, or more with no more.

Limits: :math:`\lambda` has no market price, it is a choice this frontier lets one see; the best :math:`\lambda` of one tape need not be
that of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.allocation import AllocationParams
from invpipe.arena import AllocationPolicy, BacktestParams, DemandSource, Tape
from invpipe.errors import ArenaError
from invpipe.sweep.grid import run_sweep
from invpipe.sweep.progress import Progress
from invpipe.sweep.runs import RunStore
from invpipe.sweep.space import Parameters

#: Policies of the frontier.
MARGINAL, LP = "marginal", "lp"


def lambda_frontier(
    tape: Tape,
    source: DemandSource,
    params: BacktestParams,
    seeds: Sequence[int],
    store: RunStore | str | Path,
    *,
    capital_limits: Sequence[float],
    stockout_penalty_fracs: Sequence[float],
    leftover_value_frac: float = 0.9,
    threads: int = 1,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Return profit, fill rate and capital over capital limits and penalties.

    Parameters
    ----------
    tape, params, seeds, store, threads, progress
        As in :func:`~invpipe.sweep.grid.run_sweep`; the capital limit of `params` is not used.
    source
        Law of demand of all policies.
    capital_limits
        Money, rising, at least one.
    stockout_penalty_fracs
        Penalties of the LP as shares of the unit price, rising, at least one.
    leftover_value_frac
        As in :class:`~invpipe.arena.AllocationPolicy`; the LP does not read it.

    Returns
    -------
    polars.DataFrame
        Key policy ("marginal", then "lp"), stockout_penalty_frac (null for "marginal"), capital_limit; the columns of `run_sweep`,
        realised_capital_price (money per money from the limit before; null at the first one) and efficient.

    Raises
    ------
    ArenaError
        Where limits or penalties do not rise, or as `run_sweep`.
    """
    for name, values in (("capital_limits", capital_limits), ("stockout_penalty_fracs", stockout_penalty_fracs)):
        if not len(values) or list(values) != sorted(set(values)):
            msg = f"{name} are {list(values)}; give at least one value, in rising order, none twice"
            raise ArenaError(msg)
    limits = [float(limit) for limit in capital_limits]
    penalties: list[float | None] = [None, *map(float, stockout_penalty_fracs)]
    space: list[Parameters] = [
        {"policy": MARGINAL if penalty is None else LP, "stockout_penalty_frac": penalty, "capital_limit": limit}
        for penalty in penalties
        for limit in limits
    ]

    def make_policy(policy: str, stockout_penalty_frac: float | None) -> AllocationPolicy:
        if stockout_penalty_frac is None:
            return AllocationPolicy(policy, source, "exact", leftover_value_frac)
        return AllocationPolicy(policy, source, "lp", leftover_value_frac, AllocationParams(stockout_penalty_frac=stockout_penalty_frac))

    table = run_sweep(tape, make_policy, space, params, seeds, store, threads=threads, progress=progress)
    table = table.with_columns(pl.col("stockout_penalty_frac").cast(pl.Float64))
    slope = pl.col("profit").diff() / pl.col("capital_limit").diff()
    efficient = efficient_points(table["profit"].to_numpy(), table["capital_used_mean"].to_numpy())
    return table.with_columns(
        slope.over("policy", "stockout_penalty_frac").alias("realised_capital_price"), pl.Series("efficient", efficient)
    )


def efficient_points(profit: npt.ArrayLike, capital: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which points no other point beats: more profit with no more capital, or as much with less.

    Parameters
    ----------
    profit, capital
        Money per point, shape (n,).
    """
    p, c = np.asarray(profit, dtype=np.float64), np.asarray(capital, dtype=np.float64)
    beats = (p[:, None] >= p) & (c[:, None] <= c) & ((p[:, None] > p) | (c[:, None] < c))
    return np.asarray(~beats.any(axis=0))
