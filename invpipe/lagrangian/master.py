r"""The cutting-plane master: a piecewise linear model, from below, of the Lagrangian dual function.

.. math:: \min_{0 \le \lambda \le c,\ \theta} b^\top \lambda + \sum_g \theta_g \quad \text{s.t.} \quad
    \theta_g \ge V_g^k - \lambda^\top U_g^k \quad \text{for each cut } k \text{ of group } g

where :math:`V_g^k, U_g^k` are value and use of one option for each item of group g. Such a cut is valid whatever the options, as the best
ones are worth no less. The duals of the cuts are the weights of a mixture of options (Dantzig and Wolfe, 1960).

The programme is solved by HiGHS' dual simplex on one thread, warm from the last basis, after scaling rows and values to the order of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np

from invpipe.errors import SolverError
from invpipe.lagrangian.items import FloatArray, IntArray
from invpipe.lagrangian.solver import checked_option, new_solver

#: Feasibility of the scaled programme: three digits below the relative gap of `LagrangianParams.dual_gap`.
FEASIBILITY_TOLERANCE = 1e-10
#: Simplex iterations of one solve before it is given up, far above what a warm start takes: between nearly equal cuts it can cycle.
MOST_ITERATIONS = 100_000
#: A solve that ended so was given up; what it left is no optimum.
GIVEN_UP = (highspy.HighsModelStatus.kIterationLimit, highspy.HighsModelStatus.kTimeLimit, highspy.HighsModelStatus.kUnknown)


@dataclass(frozen=True, eq=False)
class MasterSolution:
    """Optimum of the master.

    Parameters
    ----------
    multipliers
        Where the model of the dual is lowest, shape (m,).
    theta
        The model's value per group there, shape (g,).
    lower
        Lower bound of the dual's optimum over the box, computed from the weights: valid whatever the solver's tolerances.
    weights
        Weight of each cut, shape (number of cuts,), >= 0, summing to 1 within each group.
    """

    multipliers: FloatArray
    theta: FloatArray
    lower: float
    weights: FloatArray


class Master:
    """The master with the cuts added so far.

    Parameters
    ----------
    capacity, most
        b and the box c of the multipliers, shape (m,); c finite.
    n_groups
        Number of groups.
    row_scale, value_scale
        Typical use of a row, shape (m,), and typical total value, > 0.
    """

    def __init__(self, capacity: FloatArray, most: FloatArray, n_groups: int, row_scale: FloatArray, value_scale: float) -> None:
        self.capacity, self.most = capacity, most
        self.n_groups, self.n_cuts = n_groups, 0
        self.row_scale, self.value_scale = row_scale, value_scale
        self._group: list[IntArray] = []
        self._value: list[FloatArray] = []
        self._use: list[FloatArray] = []
        self._solver = solver = new_solver(
            presolve="off",
            solver="simplex",
            simplex_iteration_limit=MOST_ITERATIONS,
            primal_feasibility_tolerance=FEASIBILITY_TOLERANCE,
            dual_feasibility_tolerance=FEASIBILITY_TOLERANCE,
        )
        m = len(capacity)
        solver.addVars(m + n_groups, np.full(m + n_groups, -highspy.kHighsInf), np.full(m + n_groups, highspy.kHighsInf))
        for j in range(m):
            solver.changeColBounds(j, 0.0, float(most[j] * row_scale[j] / value_scale))
        costs = np.concatenate([capacity / row_scale, np.ones(n_groups)])
        solver.changeColsCost(m + n_groups, np.arange(m + n_groups, dtype=np.int32), costs)

    @property
    def noise(self) -> float:
        """A cut violated by no more than this is kept, as far as the solver can tell: money, or what the values are."""
        return FEASIBILITY_TOLERANCE * self.value_scale

    def add(self, group: IntArray, value: FloatArray, use: FloatArray) -> None:
        """Add one cut for each of the groups given, shape (k,): theta >= value - multipliers @ use, value (k,), use (k, m)."""
        k, m = use.shape
        lower = value / self.value_scale
        entries = np.concatenate([use / self.row_scale, np.ones((k, 1))], axis=1)
        columns = np.concatenate([np.broadcast_to(np.arange(m), (k, m)), m + group[:, None]], axis=1)
        status = self._solver.addRows(
            k,
            lower,
            np.full(k, highspy.kHighsInf),
            entries.size,
            np.arange(0, entries.size, m + 1, dtype=np.int32),
            columns.ravel().astype(np.int32),
            entries.ravel(),
        )
        if status == highspy.HighsStatus.kError:
            msg = f"HiGHS refuses {k} cuts; look for values or uses beyond 1e20"
            raise SolverError(msg)
        self._group.append(group)
        self._value.append(value)
        self._use.append(use)
        self.n_cuts += k

    def solve(self, time_limit_seconds: float = float("inf")) -> MasterSolution | None:
        """Solve the master; None where that was given up, after too many iterations from the last basis and again from none, or too long.

        Parameters
        ----------
        time_limit_seconds
            Wall clock, > 0.

        Raises
        ------
        SolverError
            Where HiGHS finds no optimum although there is one.
        """
        if np.isfinite(time_limit_seconds):
            checked_option(self._solver, "time_limit", self._solver.getRunTime() + time_limit_seconds)  # its clock runs on
        self._solver.run()
        if (status := self._solver.getModelStatus()) in GIVEN_UP and status != highspy.HighsModelStatus.kTimeLimit:
            self._solver.clearSolver()
            self._solver.run()
            status = self._solver.getModelStatus()
        if status in GIVEN_UP:
            return None
        if status != highspy.HighsModelStatus.kOptimal:
            msg = f"HiGHS ended the master of {self.n_cuts} cuts with status {self._solver.modelStatusToString(status)!r}; no bound"
            raise SolverError(msg)
        solution, m = self._solver.getSolution(), len(self.capacity)
        columns = np.asarray(solution.col_value)
        multipliers = np.clip(columns[:m] * self.value_scale / self.row_scale, 0.0, self.most)
        weights = self._normalised(np.maximum(np.asarray(solution.row_dual), 0.0))
        value, use = weights @ np.concatenate(self._value), weights @ np.concatenate(self._use)
        lower = float(value - self.most @ np.maximum(use - self.capacity, 0.0))
        return MasterSolution(multipliers, columns[m:] * self.value_scale, lower, weights)

    def _normalised(self, weights: FloatArray) -> FloatArray:
        group = np.concatenate(self._group)
        total = np.bincount(group, weights=weights, minlength=self.n_groups)
        return np.asarray(weights / total[group])
