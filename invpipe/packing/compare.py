"""Plans side by side: closed form, simulation on the same draws, use of the capacities, distribution of revenue."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from invpipe.errors import PackingError
from invpipe.packing.plan import plan_figures
from invpipe.packing.problem import IntArray, PackingProblem
from invpipe.packing.simulate import SimulatedRevenue

#: Confidence of the interval of the simulated mean.
CONFIDENCE = 0.99
#: Probabilities whose quantiles of revenue are shown.
LOW_TAU, HIGH_TAU = 0.05, 0.95


def compare_plans(
    problem: PackingProblem, plans: Mapping[str, IntArray], simulated: Mapping[str, SimulatedRevenue], bound: float
) -> pl.DataFrame:
    """Return one row per plan: exact mean and variance of revenue, gap to the bound, and what the simulation says of both.

    Parameters
    ----------
    problem
        The problem.
    plans
        Units per item by name of the plan, shape (n,) each.
    simulated
        Simulated revenue by name of the plan.
    bound
        Certified upper bound on the mean revenue of any plan, money.

    Raises
    ------
    PackingError
        Where plans and simulations have different names, or a plan is malformed.
    """
    if set(plans) != set(simulated):
        msg = f"plans are {sorted(plans)}, simulations {sorted(simulated)}; give one simulation for each plan"
        raise PackingError(msg)
    rows = []
    for name, units in plans.items():
        figures, runs = plan_figures(problem, units), simulated[name]
        low, high = runs.mean_interval(CONFIDENCE)
        rows.append(
            {
                "plan": name,
                "units": int(np.sum(units)),
                "mean_revenue": figures.mean_revenue,
                "gap_frac": (bound - figures.mean_revenue) / max(abs(bound), 1e-12),
                "variance": figures.variance,
                "simulated_mean": runs.mean,
                "simulated_mean_low": low,
                "simulated_mean_high": high,
                "simulated_variance": runs.variance,
                "revenue_05": float(np.quantile(runs.revenue, LOW_TAU)),
                "revenue_95": float(np.quantile(runs.revenue, HIGH_TAU)),
                "fits": bool((figures.use <= problem.capacity * (1 + 1e-9)).all()),
            }
        )
    return pl.DataFrame(rows)


def capacity_use(problem: PackingProblem, plans: Mapping[str, IntArray]) -> pl.DataFrame:
    """Return use and share of each capacity, key (plan, capacity)."""
    frames = []
    for name, units in plans.items():
        figures = plan_figures(problem, units)
        columns = {"available": problem.capacity, "used": figures.use, "utilisation_frac": figures.utilisation_frac}
        frames.append(pl.DataFrame({"plan": [name] * len(problem.capacity), "capacity": list(problem.capacities), **columns}))
    return pl.concat(frames)


def revenue_histogram(simulated: Mapping[str, SimulatedRevenue], n_bins: int = 60) -> pl.DataFrame:
    """Return the share of runs per bin of revenue, key (plan, revenue), revenue at the middle of the bin; bins are equal for all plans.

    The range goes from the lowest to the highest .1 % and 99.9 % quantile of any plan; what lies outside counts in the outer bins.

    Raises
    ------
    PackingError
        Where n_bins is below 1 or there is no plan.
    """
    if n_bins < 1 or not simulated:
        msg = f"n_bins is {n_bins} for {len(simulated)} plans; give at least 1 of each"
        raise PackingError(msg)
    ends = np.array([np.quantile(runs.revenue, [0.001, 0.999]) for runs in simulated.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    edges = np.linspace(low, max(high, low + 1e-9 * max(abs(low), 1.0)), n_bins + 1)
    frames = []
    for name, runs in simulated.items():
        counts, _ = np.histogram(np.clip(runs.revenue, edges[0], edges[-1]), edges)
        middle = (edges[:-1] + edges[1:]) / 2
        frames.append(pl.DataFrame({"plan": [name] * n_bins, "revenue": middle, "share_frac": counts / len(runs.revenue)}))
    return pl.concat(frames)
