r"""Linear programme over three points of the demand law, solved by HiGHS, and its rounding to lots by largest remainder.

Per SKU with order :math:`x`, sales :math:`s`, units missing at the upper quantile :math:`u`, inventory position :math:`P`:

.. math:: \max \sum p s - c x - h (P + x - s) - \lambda u \quad \text{s.t.} \quad
    s \le P + x, \quad s \le q_{50}, \quad u \ge q_{90} - (P + x), \quad \sum c x \le K, \quad x, s, u \ge 0

with :math:`\lambda` = `stockout_penalty_frac` times the unit price. Past :math:`q_{90}` a further unit only costs, so :math:`x \le
(q_{90} - P)^+` is given as a bound; it changes no optimum and makes the dual objective finite for any multipliers. The solver's answer
counts as optimal only with that certificate: dual objective, computed here from the capital's and the rows' duals, equal to the primal
one.

Limits: two quantiles are not a distribution, the salvage value of a left-over unit is not seen, and the plan is bang-bang in
:math:`\lambda` (see :class:`~invpipe.allocation.problem.AllocationParams`). Lots are seen only by the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import highspy
import numpy as np

from invpipe.allocation.problem import CAPITAL_TOLERANCE, AllocationParams, AllocationProblem, FloatArray, IntArray
from invpipe.allocation.procurement import ProcurementProblem, QuantileModel
from invpipe.errors import SolverError
from invpipe.lagrangian.solver import new_solver

#: Relative difference of primal and dual objective up to which an optimum counts as certified.
CERTIFICATE_TOLERANCE = 1e-7
#: A part of a lot below this is noise of the solver, not a remainder.
REMAINDER_TOLERANCE = 1e-6


@dataclass(frozen=True)
class LpModel:
    """The figures of the programme, one entry per row of the problem.

    Parameters
    ----------
    problem
        Prices, costs, positions and the capital.
    median_units, upper_units
        The two quantiles, shape (n,).
    penalty
        Money per unit missing at the upper quantile, shape (n,).
    """

    problem: AllocationProblem | QuantileModel
    median_units: FloatArray
    upper_units: FloatArray
    penalty: FloatArray

    @classmethod
    def of(cls, problem: AllocationProblem, params: AllocationParams) -> LpModel:
        """Read the quantiles from the problem, or from its demand law where it has none."""
        median, upper = problem.median_units, problem.upper_units
        if median is None or upper is None:
            median = problem.demand.quantile(params.median_tau).astype(np.float64)
            upper = problem.demand.quantile(params.upper_tau).astype(np.float64)
        return cls(problem, median, upper, params.stockout_penalty_frac * problem.unit_price)

    def segments(self) -> ProcurementProblem:
        """Return the same programme as bounded segments of worth: two columns per row, one row in all."""
        problem = self.problem
        return ProcurementProblem.from_quantiles(
            problem.unit_price,
            problem.unit_cost,
            problem.holding_cost,
            problem.inventory_position_units.astype(np.float64),
            self.median_units,
            self.upper_units,
            self.penalty,
            problem.capital,
        )

    @property
    def most_units(self) -> FloatArray:
        """Order that reaches the upper quantile, units, shape (n,)."""
        return np.maximum(self.upper_units - self.problem.inventory_position_units, 0.0)

    def row_values(self, order_units: IntArray | FloatArray) -> FloatArray:
        """Return the objective of each row with the best sales and missing units for the order, money, shape (n,)."""
        problem = self.problem
        stock = problem.inventory_position_units + np.asarray(order_units, dtype=np.float64)
        sales = np.minimum(stock, self.median_units)
        missing = np.maximum(self.upper_units - stock, 0.0)
        return np.asarray(
            problem.unit_price * sales - problem.unit_cost * order_units - problem.holding_cost * (stock - sales) - self.penalty * missing
        )


@dataclass(frozen=True)
class LpSolution:
    """Optimum of the programme, certified by its duals.

    Parameters
    ----------
    order_units
        Units per row, fractions, shape (n,).
    capital_price
        Dual of the capital row, >= 0.
    objective
        Money, in the programme's own terms.
    """

    order_units: FloatArray
    capital_price: float
    objective: float


def _pass_model(solver: highspy.Highs, model: LpModel) -> None:
    """Hand the programme over column by column: x, then s, then u; rows: capital, then n of stock, then n of upper quantile."""
    problem, n = model.problem, len(model.problem)
    position = problem.inventory_position_units.astype(np.float64)
    rows = np.arange(n, dtype=np.int32)
    index = np.concatenate([np.column_stack([np.zeros(n, np.int32), 1 + rows, 1 + n + rows]).ravel(), 1 + rows, 1 + n + rows])
    value = np.concatenate([np.column_stack([problem.unit_cost, np.full(n, -1.0), np.ones(n)]).ravel(), np.ones(2 * n)])
    status = solver.passModel(
        3 * n,
        1 + 2 * n,
        5 * n,
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMaximize),
        -float(problem.holding_cost @ position),
        np.concatenate([-problem.unit_cost - problem.holding_cost, problem.unit_price + problem.holding_cost, -model.penalty]),
        np.zeros(3 * n),
        np.concatenate([model.most_units, model.median_units, model.most_units]),
        np.concatenate([np.full(1 + n, -highspy.kHighsInf), model.upper_units - position]),
        np.concatenate([[min(problem.capital, highspy.kHighsInf)], position, np.full(n, highspy.kHighsInf)]),
        np.concatenate([3 * rows, 3 * n + rows, 4 * n + rows]).astype(np.int32),
        index.astype(np.int32),
        value,
        np.zeros(3 * n, np.int32),
    )
    if status != highspy.HighsStatus.kOk:
        msg = f"HiGHS refuses the model of {n} SKUs with {status}; look for prices or costs beyond 1e20"
        raise SolverError(msg)


def _dual_objective(model: LpModel, capital_dual: float, stock_dual: FloatArray, upper_dual: FloatArray) -> float:
    """Return the dual objective of the multipliers after clipping to their signs: an upper bound whatever the solver did."""
    problem = model.problem
    position = problem.inventory_position_units
    capital_dual = max(capital_dual, 0.0) if np.isfinite(problem.capital) else 0.0
    stock_dual = np.maximum(stock_dual, 0.0)
    upper_dual = np.minimum(upper_dual, 0.0)
    order = -problem.unit_cost - problem.holding_cost - problem.unit_cost * capital_dual + stock_dual - upper_dual
    sales = problem.unit_price + problem.holding_cost - stock_dual
    missing = -model.penalty - upper_dual
    return float(
        (capital_dual * problem.capital if capital_dual > 0 else 0.0)
        + stock_dual @ position
        + upper_dual @ (model.upper_units - position)
        + np.maximum(order, 0.0) @ model.most_units
        + np.maximum(sales, 0.0) @ model.median_units
        + np.maximum(missing, 0.0) @ model.most_units
        - problem.holding_cost @ position
    )


def solve(model: LpModel, time_limit_seconds: float) -> LpSolution:
    """Solve the programme on one thread.

    Raises
    ------
    SolverError
        Where HiGHS ends without an optimum (time limit included), or its optimum lacks the dual certificate.
    """
    n = len(model.problem)
    if n == 0:
        return LpSolution(np.zeros(0), 0.0, 0.0)
    # presolve finds little here and costs more than it saves: 3 times at 50,000 SKUs, 6 times at 170,000
    solver = new_solver(presolve="off", time_limit=time_limit_seconds)
    _pass_model(solver, model)
    solver.run()
    status = solver.getModelStatus()
    if status == highspy.HighsModelStatus.kTimeLimit:
        msg = f"HiGHS reached the time limit of {time_limit_seconds} s on {n} SKUs; raise time_limit_seconds or take method 'exact'"
        raise SolverError(msg)
    if status != highspy.HighsModelStatus.kOptimal:
        msg = f"HiGHS ended with status {solver.modelStatusToString(status)!r} on {n} SKUs; no plan"
        raise SolverError(msg)
    solution = solver.getSolution()
    duals = np.asarray(solution.row_dual)
    order_units = np.clip(np.asarray(solution.col_value)[:n], 0.0, model.most_units)
    objective = float(model.row_values(order_units).sum())
    bound = _dual_objective(model, duals[0], duals[1 : 1 + n], duals[1 + n :])
    gap = (bound - objective) / max(abs(objective), 1.0)
    if not abs(gap) <= CERTIFICATE_TOLERANCE:
        msg = f"the optimum of HiGHS lacks its certificate: primal {objective}, dual {bound}, relative gap {gap} > {CERTIFICATE_TOLERANCE}"
        raise SolverError(msg)
    return LpSolution(order_units, max(float(duals[0]), 0.0), objective)


def round_to_lots(problem: AllocationProblem, model: LpModel, order_units: FloatArray) -> IntArray:
    """Round down to lots, then spend the leftover capital on the largest remainders, one lot each, while they fit.

    The remainder is the cut-off part of the next lot. A lot that would lower the programme's own objective (a minimum order for the
    sake of one unit) is not added. Ties go to the earlier row.

    Returns
    -------
    IntArray
        Whole lots per row, shape (n,), never above the capital.
    """
    units = problem.floor_to_lots(order_units)
    left = problem.capital - float(units @ problem.unit_cost)
    slack = CAPITAL_TOLERANCE * problem.capital
    while left < -slack:  # the solver may overspend by its own tolerance: give back the lot that earns least
        last = problem.last_lot_units(units)
        cost = last * problem.unit_cost
        loss = np.divide(model.row_values(units) - model.row_values(units - last), cost, out=np.full(len(units), np.inf), where=last > 0)
        row = int(loss.argmin())
        units[row] -= last[row]
        left += cost[row]
    lot = problem.next_lot_units(units)
    remainder = (order_units - units) / lot
    gain = model.row_values(units + lot) - model.row_values(units)
    for row in np.argsort(-remainder, kind="stable"):
        if remainder[row] <= REMAINDER_TOLERANCE:
            break
        cost = lot[row] * problem.unit_cost[row]
        if gain[row] > 0 and cost <= left + slack:
            units[row] += lot[row]
            left -= cost
    return units
