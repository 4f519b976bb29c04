"""Simulated revenue of a packing plan: an independent check of its closed form, and the whole distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from invpipe.errors import PackingError
from invpipe.forecast.law import POISSON_SIZE, CountLaw
from invpipe.packing.plan import checked_units
from invpipe.packing.problem import FloatArray, IntArray, PackingProblem


@dataclass(frozen=True, eq=False)
class SimulatedRevenue:
    """Revenue of a plan over independent runs.

    Parameters
    ----------
    revenue
        Money of each run, shape (number of runs,).
    """

    revenue: FloatArray

    @property
    def mean(self) -> float:
        """Sample mean, money."""
        return float(self.revenue.mean())

    @property
    def variance(self) -> float:
        """Sample variance, money squared."""
        return float(self.revenue.var(ddof=1))

    def mean_interval(self, confidence: float = 0.99) -> tuple[float, float]:
        """Return the normal interval of the mean at the given confidence, money.

        Raises
        ------
        PackingError
            Where the confidence is not inside (0, 1).
        """
        if not 0 < confidence < 1:
            msg = f"confidence is {confidence}; it must lie strictly between 0 and 1"
            raise PackingError(msg)
        half = float(special.ndtri(0.5 + confidence / 2)) * float(np.sqrt(self.variance / len(self.revenue)))
        return self.mean - half, self.mean + half


def simulate_revenue(problem: PackingProblem, units: IntArray, n_runs: int = 1_000_000, seed: int = 0) -> SimulatedRevenue:
    """Draw demand and sell the plan.

    Parameters
    ----------
    problem
        The problem; demands of its items are drawn independently.
    units
        Units of each item, shape (n,).
    n_runs
        Number of runs, >= 2.
    seed
        Of the draws; the same seed gives the same runs.

    Raises
    ------
    PackingError
        Where the plan or the number of runs is out of its bounds.
    """
    units = checked_units(problem, units)
    if n_runs < 2:
        msg = f"n_runs is {n_runs}; a variance needs at least 2"
        raise PackingError(msg)
    generator, revenue = np.random.default_rng(seed), np.zeros(n_runs)
    for item in range(len(problem)):
        revenue += problem.unit_revenue[item] * np.minimum(_draws(problem.demand, item, n_runs, generator), units[item])
    return SimulatedRevenue(revenue)


def _draws(demand: CountLaw | FloatArray, item: int, n_runs: int, generator: np.random.Generator) -> IntArray:
    if not isinstance(demand, CountLaw):  # the number of n with P(D >= n) > u
        return np.asarray(demand.shape[1] - np.searchsorted(demand[item, ::-1], generator.random(n_runs), side="right"))
    mean, size = float(demand.mean[item]), float(demand.size[item])
    if mean == 0:
        return np.zeros(n_runs, dtype=np.int64)
    if size >= POISSON_SIZE:
        return generator.poisson(mean, n_runs)
    return generator.negative_binomial(size, size / (size + mean), n_runs)
