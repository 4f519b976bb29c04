r"""The last units of a plan of concave items, chosen by a mixed-integer programme in a window, and the certificate that they are best.

Two programmes, one binary per unit, the units before the window taken and those after it left out:

1. a window of some units around the plan: a better plan, no statement about the others;
2. *reduced-value fixing*: with :math:`r_{in} = w_{in} - \lambda^\top a_i`, a plan without a unit is worth at most bound - r, a plan with it
   at most bound + r. So every plan better than the one at hand has all units with r > bound - objective and none with r below its
   negative. The programme over the rest is exact: its bound is a bound on every plan.

Source: Balas and Zemel (1980), An algorithm for large zero-one knapsack problems, *Operations Research* 28, 1130-1154, who fix the
variables of a knapsack so and solve the core that is left.
"""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import highspy
import numpy as np

from invpipe.errors import LagrangianError, SolverError
from invpipe.lagrangian.concave import ConcaveItems
from invpipe.lagrangian.items import FloatArray, IntArray
from invpipe.lagrangian.solve import CAPACITY_TOLERANCE, LagrangianParams, LagrangianResult, relative_gap
from invpipe.lagrangian.solver import new_solver

#: Added to bound - objective before units are fixed, relative to the bound: rounding noise of sums.
FIXING_TOLERANCE = 1e-9


def polish(
    items: ConcaveItems,
    capacity: FloatArray,
    result: LagrangianResult,
    *,
    window_units: int = 8,
    max_free_units: int = 5_000,
    max_nodes: int = 20_000,
    time_limit_seconds: float = float("inf"),
    gap: float | None = None,
) -> LagrangianResult:
    """Return the result with a plan at least as good and a bound at least as low; hard rows only.

    Parameters
    ----------
    items, capacity, result
        What was solved, and its result.
    window_units
        Units to each side of the plan that the first programme may change, >= 1.
    max_free_units
        A programme over more units than this is not started, >= 1.
    max_nodes
        Most nodes of one programme's branch and bound, >= 1; with it alone as limit, results are the same on every run.
    time_limit_seconds
        Wall clock of both programmes, > 0.
    gap
        Plan counts as optimal at this relative gap; default that of `LagrangianParams`.

    Raises
    ------
    LagrangianError
        Where the result is over a capacity, or a limit is out of its bounds.
    SolverError
        Where HiGHS refuses the programme or fails.
    """
    for name, limit in (("window_units", window_units), ("max_free_units", max_free_units), ("max_nodes", max_nodes)):
        if limit < 1:
            msg = f"{name} is {limit}; it must be at least 1"
            raise LagrangianError(msg)
    if (result.violation > 0).any():
        msg = f"the plan is over {int((result.violation > 0).sum())} capacities; only plans that keep all of them are polished"
        raise LagrangianError(msg)
    began = perf_counter()
    wanted_gap = LagrangianParams().gap if gap is None else gap
    for fixing in (False, True):
        left_seconds = time_limit_seconds - (perf_counter() - began)
        if result.gap <= wanted_gap or left_seconds <= 0:
            break
        low, high = _core(items, result) if fixing else _window(items, result.choice.option, window_units)
        if int((high - low).sum()) <= max_free_units:
            result = _improved(items, capacity, result, low, high, max_nodes, left_seconds, exact=fixing)
    seconds = result.seconds + perf_counter() - began
    return replace(result, status="optimal" if result.gap <= wanted_gap else "feasible", seconds=seconds)


def _window(items: ConcaveItems, units: IntArray, window_units: int) -> tuple[IntArray, IntArray]:
    return np.maximum(units - window_units, 0), np.minimum(units + window_units, items.max_units)


def _core(items: ConcaveItems, result: LagrangianResult) -> tuple[IntArray, IntArray]:
    """Return fewest and most units of each item in any plan better than the result's."""
    price = items.unit_use @ result.multipliers
    room = result.bound - result.objective + FIXING_TOLERANCE * abs(result.bound)
    return items.units_above(price + room), items.units_above(price - room)


def _improved(
    items: ConcaveItems,
    capacity: FloatArray,
    result: LagrangianResult,
    low: IntArray,
    high: IntArray,
    max_nodes: int,
    seconds: float,
    *,
    exact: bool,
) -> LagrangianResult:
    """Solve the programme between low and high units; its bound counts only where it is `exact`."""
    base = items.evaluate(low)
    item = np.repeat(np.arange(items.n_items), high - low)
    unit = np.arange(len(item)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
    value, use = items.marginal[items.start[item] + low[item] + unit], items.unit_use[item]
    taken, found_bound = _solve_binaries(value, use, capacity - base.total_use(), max_nodes, seconds)
    choice, objective, bound = result.choice, result.objective, result.bound
    if taken is not None:
        found = items.evaluate(low + np.bincount(item[taken], minlength=items.n_items))
        over = found.total_use() - capacity > CAPACITY_TOLERANCE * np.abs(capacity)
        if not over.any() and found.value.sum() > objective:
            choice, objective = found, float(found.value.sum())
    if exact:
        bound = min(bound, float(base.value.sum()) + found_bound)
    bound = max(bound, objective)
    return replace(result, choice=choice, objective=objective, bound=bound, gap=relative_gap(bound, objective))


def _solve_binaries(value: FloatArray, use: FloatArray, left: FloatArray, max_nodes: int, seconds: float) -> tuple[IntArray | None, float]:
    """Return the units taken (None where no plan was found) and the bound of the programme, -inf where it has no plan at all."""
    k, m = use.shape
    if k == 0:
        return np.zeros(0, dtype=np.int64), 0.0
    solver = new_solver(mip_rel_gap=0.0, mip_abs_gap=0.0, mip_max_nodes=max_nodes, time_limit=seconds)
    scale = np.where(use.max(axis=0) > 0, use.max(axis=0), 1.0)
    status = solver.passModel(
        k,
        m,
        k * m,
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMaximize),
        0.0,
        value,
        np.zeros(k),
        np.ones(k),
        np.full(m, -highspy.kHighsInf),
        left / scale,
        np.arange(0, k * m + 1, m, dtype=np.int32),
        np.tile(np.arange(m, dtype=np.int32), k),
        (use / scale).ravel(),
        np.ones(k, np.int32),
    )
    if status == highspy.HighsStatus.kError:
        msg = f"HiGHS refuses the programme of {k} units; look for values or uses beyond 1e20"
        raise SolverError(msg)
    solver.run()
    ended, info = solver.getModelStatus(), solver.getInfo()
    if ended == highspy.HighsModelStatus.kInfeasible:
        return None, -np.inf
    stopped = highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kSolutionLimit, highspy.HighsModelStatus.kIterationLimit
    if ended != highspy.HighsModelStatus.kOptimal and ended not in stopped:
        msg = f"HiGHS ended the programme of {k} units with status {solver.modelStatusToString(ended)!r}"
        raise SolverError(msg)
    has_plan = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
    taken = np.flatnonzero(np.asarray(solver.getSolution().col_value) > 0.5) if has_plan else None
    return taken, float(info.mip_dual_bound)
