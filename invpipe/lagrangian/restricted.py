r"""The best plan of options seen: the integer programme over those that a better plan may take, the other items as they are.

With :math:`r_{ix} = \max_y [v_i(y) - \lambda^\top u_i(y)] - [v_i(x) - \lambda^\top u_i(x)]`, the *regret* of option x, a plan is worth at
most the bound less the sum of its regrets. So no plan better than the one at hand takes an option whose regret is above bound -
objective: such options are left out, and of the others those of least regret are taken first.

Source: the restricted master heuristic of column generation, e.g. Joncour, Michel, Sadykov, Sverdlov, Vanderbeck (2010), Column
generation based primal heuristics, *Electronic Notes in Discrete Mathematics* 36, 695-702; the regrets are the reduced values of Balas and
Zemel (1980).

Limits: it only knows options that were seen, so its optimum is a plan, no bound.
"""

from __future__ import annotations

import highspy
import numpy as np

from invpipe.errors import SolverError
from invpipe.lagrangian.items import Choice, FloatArray, IntArray
from invpipe.lagrangian.solver import new_solver

#: Ends of a run that may leave a plan.
STOPPED = (
    highspy.HighsModelStatus.kOptimal,
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kSolutionLimit,
    highspy.HighsModelStatus.kIterationLimit,
    highspy.HighsModelStatus.kInfeasible,
)


def free_options(
    seen: Choice, start: IntArray, plan: IntArray, best: FloatArray, multipliers: FloatArray, room: float, most: int
) -> IntArray:
    """Return which of the options seen the programme may take, rising; every item of one of them has its option of the plan too.

    Parameters
    ----------
    seen
        Distinct options, item by item, shape (k,).
    start
        First option of each item in `seen`, and k, shape (n + 1,).
    plan
        Option of the plan per item, as an index into `seen`, shape (n,).
    best
        Highest value - multipliers @ use per item, shape (n,).
    multipliers
        Shape (m,).
    room
        Bound less objective, >= 0.
    most
        Most options to return.
    """
    item = np.repeat(np.arange(len(plan)), np.diff(start))
    regret = best[item] - (seen.value - seen.use @ multipliers)
    order = np.argsort(regret, kind="stable")
    is_plan = np.zeros(len(item), dtype=bool)
    is_plan[plan] = True
    wanted = order[(regret[order] <= room) & ~is_plan[order]]
    new_item = np.zeros(len(wanted), dtype=np.int64)
    new_item[np.unique(item[wanted], return_index=True)[1]] = 1  # its option of the plan comes with the first
    taken = wanted[np.cumsum(1 + new_item) <= most]
    return np.unique(np.concatenate([taken, plan[item[taken]]]))


def best_of_seen(
    value: FloatArray,
    use: FloatArray,
    item: IntArray,
    is_plan: FloatArray,
    left: FloatArray,
    penalty: FloatArray,
    *,
    gap: float,
    max_nodes: int,
    seconds: float,
) -> IntArray | None:
    """Return the options a better plan takes, one per item; None where no plan was found.

    Parameters
    ----------
    value, use, item
        Of each free option, shapes (k,), (k, m), (k,); items rising.
    is_plan
        1 where the option is that of the plan at hand, shape (k,); the search starts there.
    left
        Capacity that the other items leave, shape (m,).
    penalty
        Cost per unit above each capacity, inf for a hard row, shape (m,).
    gap
        Absolute gap at which to stop, >= 0.
    max_nodes, seconds
        Limits of the branch and bound.

    Raises
    ------
    SolverError
        Where HiGHS refuses the programme or fails.
    """
    k, m = use.shape
    rows = np.unique(item, return_inverse=True)[1]
    n, soft = int(rows[-1]) + 1, np.flatnonzero(np.isfinite(penalty))
    scale = np.abs(use).max(axis=0)
    scale[scale == 0] = 1.0
    solver = new_solver(mip_rel_gap=0.0, mip_abs_gap=gap, mip_max_nodes=max_nodes, time_limit=seconds)
    entries = np.concatenate([use / scale, np.ones((k, 1))], axis=1)
    index = np.concatenate([np.broadcast_to(np.arange(m), (k, m)), m + rows[:, None]], axis=1)
    begin = np.concatenate([np.arange(0, k * (m + 1), m + 1), k * (m + 1) + np.arange(len(soft))])
    status = solver.passModel(
        k + len(soft),
        m + n,
        entries.size + len(soft),
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMaximize),
        0.0,
        np.concatenate([value, -penalty[soft] * scale[soft]]),
        np.zeros(k + len(soft)),
        np.concatenate([np.ones(k), np.full(len(soft), highspy.kHighsInf)]),
        np.concatenate([np.full(m, -highspy.kHighsInf), np.ones(n)]),
        np.concatenate([left / scale, np.ones(n)]),
        begin.astype(np.int32),
        np.concatenate([index.ravel(), soft]).astype(np.int32),
        np.concatenate([entries.ravel(), -np.ones(len(soft))]),
        np.concatenate([np.ones(k), np.zeros(len(soft))]).astype(np.int32),
    )
    if status == highspy.HighsStatus.kError:
        msg = f"HiGHS refuses the programme of {k} options; look for values or uses beyond 1e20"
        raise SolverError(msg)
    over = np.maximum(is_plan @ use - left, 0.0)[soft] / scale[soft]
    solution = highspy.HighsSolution()
    solution.col_value = np.concatenate([is_plan, over]).tolist()
    solver.setSolution(solution)
    solver.run()
    ended = solver.getModelStatus()
    if ended not in STOPPED:
        msg = f"HiGHS ended the programme of {k} options with status {solver.modelStatusToString(ended)!r}"
        raise SolverError(msg)
    if solver.getInfo().primal_solution_status != int(highspy.SolutionStatus.kSolutionStatusFeasible):
        return None
    return np.flatnonzero(np.asarray(solver.getSolution().col_value)[:k] > 0.5)
