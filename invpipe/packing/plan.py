r"""Packing plans: the certified optimum, the usual rule of thumb, and what a plan earns and varies by.

A packing problem is a set of concave items under linking capacities, so its relaxation has at most m fractional items, m the number of
capacities: the plan of the Lagrangian core is within the m largest unit revenues of the optimum, however many items there are. Small
problems are finished by a mixed-integer programme over the units that can matter (:func:`invpipe.lagrangian.polish`).

Revenue of a plan with x units of an item, from the survival alone:

.. math:: E \min(D, x) = \sum_{n \le x} P(D \ge n), \qquad E \min(D, x)^2 = \sum_{n \le x} (2 n - 1) P(D \ge n)

Demands of different items are independent, so their variances add.

The food cart (:mod:`invpipe.packing.problem`) with its published figures:

>>> from invpipe.forecast.law import CountLaw
>>> cart = PackingProblem(
...     items=("burger", "pizza", "taco"),
...     capacities=("storage_cm3", "fridge_cm3", "weight_g"),
...     unit_revenue=np.array([1.3, 1.6, 1.4]),
...     demand=CountLaw(np.array([600.0, 900.0, 700.0]), np.full(3, np.inf)),
...     unit_use=np.array([[700.0, 900.0, 550.0], [950.0, 940.0, 800.0], [800.0, 850.0, 600.0]]),
...     capacity=np.array([3e6, 2e6, 1e6]),
... )
>>> round(plan_figures(cart, np.array([572, 355, 669])).mean_revenue, 2)
2244.1
>>> plan = pack(cart)
>>> plan.status, plan.units.tolist(), round(plan.objective, 4)
('optimal', [576, 350, 672], 2244.1964)

Limits: the plan maximises the mean alone; leftovers are worth nothing; no item stands in for another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np
import polars as pl
from numba import njit

from invpipe.errors import PackingError
from invpipe.lagrangian import LagrangianParams, Step, polish, solve
from invpipe.packing.problem import FIT_TOLERANCE, FloatArray, IntArray, PackingProblem


@dataclass(frozen=True)
class PackingParams:
    """Limits of the search.

    Parameters
    ----------
    max_iterations
        Most rounds of the dual, >= 1.
    time_limit_seconds
        Wall clock after which no further round starts, > 0; inf (default) makes results the same on every run.
    exact_items
        Problems with at most so many items are finished by a mixed-integer programme, >= 0.
    max_nodes
        Most nodes of each such programme, >= 1.

    Raises
    ------
    PackingError
        Where a limit is out of its bounds.
    """

    max_iterations: int = 100
    time_limit_seconds: float = float("inf")
    exact_items: int = 30
    max_nodes: int = 1_000

    def __post_init__(self) -> None:
        for name, least in (("max_iterations", 1), ("exact_items", 0), ("max_nodes", 1)):
            if getattr(self, name) < least:
                msg = f"{name} is {getattr(self, name)}; it must be at least {least}"
                raise PackingError(msg)
        if not self.time_limit_seconds > 0:
            msg = f"time_limit_seconds is {self.time_limit_seconds}; it must be above 0"
            raise PackingError(msg)


@dataclass(frozen=True, eq=False)
class PlanFigures:
    """What a plan earns and uses.

    Parameters
    ----------
    mean_revenue, variance
        Of the revenue, money and money squared.
    use, utilisation_frac
        Use of each capacity, and its share, shape (m,); the share of a capacity of 0 is 0.
    """

    mean_revenue: float
    variance: float
    use: FloatArray
    utilisation_frac: FloatArray

    @property
    def standard_deviation(self) -> float:
        """Of the revenue, money."""
        return float(np.sqrt(self.variance))


@dataclass(frozen=True, eq=False)
class PackingPlan:
    """Units of each item with their certificate.

    Parameters
    ----------
    problem
        What was asked.
    status
        "optimal" where the gap is at most 1e-9, else "feasible".
    objective, bound, gap
        Expected revenue, certified upper bound on that of any plan, and (bound - objective) / max(abs(bound), 1e-12).
    units
        Units of each item, shape (n,).
    capacity_price
        What one more unit of each capacity would earn, shape (m,), from the dual: exact for the relaxation.
    figures
        Mean, variance and utilisation.
    history
        One step per round of the dual.
    seconds
        Wall clock.
    """

    problem: PackingProblem = field(repr=False)
    status: Literal["optimal", "feasible"]
    objective: float
    bound: float
    gap: float
    units: IntArray = field(repr=False)
    capacity_price: FloatArray
    figures: PlanFigures
    history: tuple[Step, ...] = field(repr=False)
    seconds: float

    def lines(self) -> pl.DataFrame:
        """Return one row per item: units, probability that the last and the next unit sell, expected sales and revenue."""
        problem = self.problem
        sales, _ = _moments_of(problem, self.units)
        return pl.DataFrame(
            {
                "item": list(problem.items),
                "units": self.units,
                "mean_demand_units": problem.mean_units,
                "last_unit_sells": problem.survival(self.units),
                "next_unit_sells": problem.survival(self.units + 1),
                "expected_sales_units": sales,
                "expected_revenue": problem.unit_revenue * sales,
            }
        )

    def capacity_lines(self) -> pl.DataFrame:
        """Return one row per capacity: what there is, use, share and price."""
        return pl.DataFrame(
            {
                "capacity": list(self.problem.capacities),
                "available": self.problem.capacity,
                "used": self.figures.use,
                "utilisation_frac": self.figures.utilisation_frac,
                "capacity_price": self.capacity_price,
            }
        )


def checked_units(problem: PackingProblem, units: IntArray) -> IntArray:
    """Return a plan after checking that it is one whole number of units >= 0 per item.

    Raises
    ------
    PackingError
        Where it is not.
    """
    units = np.asarray(units)
    if units.shape != (len(problem),) or not np.issubdtype(units.dtype, np.integer) or (units < 0).any():
        msg = f"a plan is one whole number of units >= 0 for each of {len(problem)} items; got shape {units.shape}, type {units.dtype}"
        raise PackingError(f"{msg}, least {units.min(initial=0)}")
    return units.astype(np.int64)


@njit(cache=True, nogil=True)
def _moments(start: IntArray, survival: FloatArray, units: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return E min(D, x) and E min(D, x)^2 per item; units past the table are never wanted."""
    first, second = np.zeros(len(units)), np.zeros(len(units))
    for i in range(len(units)):
        for n in range(min(units[i], start[i + 1] - start[i])):
            first[i] += survival[start[i] + n]
            second[i] += (2.0 * n + 1.0) * survival[start[i] + n]
    return first, second


def _moments_of(problem: PackingProblem, units: IntArray) -> tuple[FloatArray, FloatArray]:
    start, survival = problem.loadable
    if (units > np.diff(start)).any():  # more than fits, or than anybody wants
        start, survival = problem.survival_up_to(units)
    first, second = _moments(start, survival, units)
    return first, second


def plan_figures(problem: PackingProblem, units: IntArray) -> PlanFigures:
    """Return mean and variance of a plan's revenue in closed form, and its use of the capacities.

    Parameters
    ----------
    problem
        The problem.
    units
        Units of each item, shape (n,). It may be over a capacity: the utilisation says so.

    Raises
    ------
    PackingError
        Where the plan is not one whole number >= 0 per item.
    """
    units = checked_units(problem, units)
    first, second = _moments_of(problem, units)
    use = units @ problem.unit_use
    share = np.divide(use, problem.capacity, out=np.zeros(len(use)), where=problem.capacity > 0)
    variance = float((problem.unit_revenue**2 * np.maximum(second - first**2, 0.0)).sum())
    return PlanFigures(float((problem.unit_revenue * first).sum()), variance, use, share)


def load_to_mean(problem: PackingProblem) -> IntArray:
    """Return the rule of thumb: by falling unit revenue, as many units as are wanted on average or still fit, shape (n,)."""
    units, left = np.zeros(len(problem), dtype=np.int64), problem.capacity.copy()
    wanted = np.floor(problem.mean_units).astype(np.int64)
    if problem.max_units is not None:
        wanted = np.minimum(wanted, problem.max_units)
    for item in np.argsort(-problem.unit_revenue, kind="stable"):
        use = problem.unit_use[item]
        fit = np.floor(left[use > 0] / use[use > 0] * (1.0 + FIT_TOLERANCE)).min(initial=np.inf)
        units[item] = int(min(wanted[item], fit))
        left = np.maximum(left - units[item] * use, 0.0)
    return units


def pack(problem: PackingProblem, params: PackingParams | None = None) -> PackingPlan:
    """Choose the units of each item that earn most on average.

    Parameters
    ----------
    problem
        Items and capacities.
    params
        Default `PackingParams()`.

    Returns
    -------
    PackingPlan
        A plan that never exceeds a capacity, and its bound.

    Raises
    ------
    SolverError
        Where HiGHS fails.
    """
    params, began = params or PackingParams(), perf_counter()
    items, short = problem.concave_items, problem.capacity > 0
    if not short.all():  # nothing that uses an empty capacity has a unit that fits
        items = type(items)(items.start, items.marginal, problem.unit_use[:, short])
    search = LagrangianParams(max_iterations=params.max_iterations, time_limit_seconds=params.time_limit_seconds)
    result = solve(items, problem.capacity[short], start=np.zeros(len(problem), dtype=np.int64), params=search)
    if len(problem) <= params.exact_items:
        left_seconds = max(params.time_limit_seconds - (perf_counter() - began), 1e-3)
        result = polish(items, problem.capacity[short], result, max_nodes=params.max_nodes, time_limit_seconds=left_seconds)
    price = np.zeros(len(problem.capacity))
    price[short] = result.multipliers
    units = result.choice.option
    return PackingPlan(
        problem,
        "optimal" if result.status == "optimal" else "feasible",
        result.objective,
        result.bound,
        result.gap,
        units,
        price,
        plan_figures(problem, units),
        result.history,
        perf_counter() - began,
    )
