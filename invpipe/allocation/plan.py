"""Order plans: one call for all methods, vendor minimums, and the what-if curve of capital.

Order of events of :func:`allocate`: the method solves the problem as if vendors had no minimum order value, which gives the bound; while
a vendor's order is above 0 and below its minimum, the vendor with the smallest share of its minimum is deferred (its rows leave, its
capital is free for the others) and the rest is solved again; last the figures are taken. One vendor at a time, because the capital that
one frees may lift another over its minimum; a vendor once deferred stays so, hence at most as many rounds as vendors. This is a
heuristic: the bound stays certified, as it ignores the vendor minimums, and the gap includes what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Literal

import numpy as np
import polars as pl

from invpipe.allocation import exact, greedy, lp, reasons
from invpipe.allocation.problem import AllocationParams, AllocationProblem, IntArray
from invpipe.errors import AllocationError, SolverError

Method = Literal["exact", "lp", "greedy"]

#: A plan this close to its bound is called optimal, relative.
OPTIMAL_GAP = 1e-9
#: A plan above its bound by more than this, relative, is an error of the method, not of rounding.
BOUND_TOLERANCE = 1e-7
#: An overspend above this share of the capital is an error of the method, not of rounding.
OVERSPEND_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class OrderPlan:
    """Orders of one day with their certificate.

    Parameters
    ----------
    problem
        What was asked.
    method
        "exact", "lp" or "greedy".
    status
        "optimal" where the gap is at most 1e-9, else "feasible".
    objective, bound
        Value of the integer plan and certified upper bound on it, money: methods "exact" and "greedy" in expected value, "lp" in the
        terms of its own programme.
    gap
        (bound - objective) / max(abs(bound), 1e-12).
    order_units
        Units to order per row of the problem, shape (n,).
    capital_price
        What one more unit of money would earn, in the terms of the objective; 0 where the capital does not bind. Method "greedy" has none
        of its own and reports that of the exact relaxation.
    expected_value
        Sum of v_n over the ordered units under the full demand law, money: comparable between all methods.
    deferred_vendors
        Vendors that get no order because it would be below their minimum, sorted.
    seconds
        Wall clock of the solve.
    """

    problem: AllocationProblem = field(repr=False)
    method: Method
    status: Literal["optimal", "feasible"]
    objective: float
    bound: float
    gap: float
    order_units: IntArray = field(repr=False)
    capital_price: float
    expected_value: float
    deferred_vendors: tuple[str, ...]
    seconds: float

    @property
    def order_value(self) -> float:
        """Capital spent, money."""
        return float(self.order_units @ self.problem.unit_cost)

    @property
    def rounding_loss(self) -> float:
        """What whole lots (and vendor minimums) cost against the relaxation, money in the terms of the objective."""
        return self.bound - self.objective

    @cached_property
    def lines(self) -> pl.DataFrame:
        """One row per ordered SKU with its figures and its reason, see :mod:`invpipe.allocation.reasons`; built when first read."""
        return reasons.order_lines(self.problem, self.order_units, self.capital_price, self.method)

    def summary(self) -> dict[str, str | int | float]:
        """Return the key figures of the plan."""
        ordered = np.flatnonzero(self.order_units)
        return {
            "method": self.method,
            "status": self.status,
            "objective": self.objective,
            "bound": self.bound,
            "gap_frac": self.gap,
            "expected_value": self.expected_value,
            "rounding_loss": self.rounding_loss,
            "order_lines": len(ordered),
            "order_units": int(self.order_units.sum()),
            "order_vendors": len({self.problem.vendors[i] for i in ordered}),
            "order_value": self.order_value,
            "capital": self.problem.capital,
            "capital_price": self.capital_price,
            "deferred_vendors": ", ".join(self.deferred_vendors),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class _Answer:
    order_units: IntArray
    bound: float
    capital_price: float


def _solve(problem: AllocationProblem, method: Method, params: AllocationParams) -> _Answer:
    if method == "lp":
        model = lp.LpModel.of(problem, params)
        solution = lp.solve(model, params.time_limit_seconds)
        return _Answer(lp.round_to_lots(model, solution.order_units), solution.objective, solution.capital_price)
    relaxed = exact.Lots.of(problem).buy(problem.capital)
    order_units = relaxed.order_units if method == "exact" else greedy.fill_by_rank(problem)
    return _Answer(order_units, relaxed.bound, relaxed.capital_price)


def _shortest_vendor(problem: AllocationProblem, order_units: IntArray) -> int | None:
    """Return the code of the vendor whose order is the smallest share of its minimum and below it, None if all orders are large enough."""
    codes = problem.vendor_codes
    total = np.bincount(codes, weights=order_units * problem.unit_cost)
    least = np.zeros(len(total))
    least[codes] = problem.vendor_min_order_value
    short = (total > 0) & (total < least)
    if not short.any():
        return None
    return int(np.where(short, total / np.where(short, least, 1.0), np.inf).argmin())


def _solve_with_vendor_minimums(problem: AllocationProblem, method: Method, params: AllocationParams) -> tuple[_Answer, tuple[str, ...]]:
    answer = _solve(problem, method, params)
    order_units, capital_price = answer.order_units, answer.capital_price
    rows = np.arange(len(problem))
    deferred: list[str] = []
    while problem.vendor_min_order_value.any():
        vendor = _shortest_vendor(problem, order_units)
        if vendor is None:
            break
        deferred.append(problem.vendors[int(np.argmax(problem.vendor_codes == vendor))])
        rows = rows[problem.vendor_codes[rows] != vendor]
        again = _solve(problem.take(rows), method, params)
        order_units = np.zeros(len(problem), dtype=np.int64)
        order_units[rows] = again.order_units
        capital_price = again.capital_price
    return _Answer(order_units, answer.bound, capital_price), tuple(sorted(deferred))


def allocate(problem: AllocationProblem, method: Method = "exact", params: AllocationParams | None = None) -> OrderPlan:
    """Choose what to order.

    Parameters
    ----------
    problem
        Rows, demand and capital.
    method
        "exact" (marginal value under the full law), "lp" (linear programme over two quantiles) or "greedy" (baseline).
    params
        Parameters of the methods; default `AllocationParams()`.

    Returns
    -------
    OrderPlan
        Whole lots that never cost more than the capital.

    Raises
    ------
    AllocationError
        Where the method is unknown or the problem has too many lots worth buying.
    SolverError
        Where HiGHS gives no certified optimum, or a plan overspends or passes its bound.
    """
    if method not in ("exact", "lp", "greedy"):
        msg = f"method is {method!r}; choose 'exact', 'lp' or 'greedy'"
        raise AllocationError(msg)
    params = params or AllocationParams()
    began = perf_counter()
    answer, deferred = _solve_with_vendor_minimums(problem, method, params)
    value = float(exact.expected_values(problem, answer.order_units).sum())
    objective = float(lp.LpModel.of(problem, params).row_values(answer.order_units).sum()) if method == "lp" else value
    if objective - answer.bound > BOUND_TOLERANCE * max(abs(answer.bound), 1.0):
        msg = f"method {method!r} gives a plan of {objective} above its bound of {answer.bound}; this is a defect of the method, report it"
        raise SolverError(msg)
    bound = max(answer.bound, objective)  # they may differ by the rounding of their sums
    gap = (bound - objective) / max(abs(bound), 1e-12)
    plan = OrderPlan(
        problem=problem,
        method=method,
        status="optimal" if gap <= OPTIMAL_GAP else "feasible",
        objective=objective,
        bound=bound,
        gap=gap,
        order_units=answer.order_units,
        capital_price=answer.capital_price,
        expected_value=value,
        deferred_vendors=deferred,
        seconds=perf_counter() - began,
    )
    if plan.order_value > problem.capital * (1.0 + OVERSPEND_TOLERANCE):
        msg = f"method {method!r} spends {plan.order_value} of a capital of {problem.capital}; this is a defect of the method, report it"
        raise SolverError(msg)
    return plan


def capital_curve(problem: AllocationProblem, capitals: Sequence[float]) -> pl.DataFrame:
    """Return what other sums of capital would earn, by the exact method without vendor minimums.

    The bound never falls and the capital price never rises with the capital. The expected value of the integer plan follows the bound
    within one lot, so it may dip by less than that.

    Parameters
    ----------
    problem
        Rows and demand; its own capital is not used.
    capitals
        Sums of money, each >= 0.

    Returns
    -------
    pl.DataFrame
        One row per capital as given: capital, expected_value, bound, capital_price, order_value, all Float64.

    Raises
    ------
    AllocationError
        Where a capital is negative or not a number.
    """
    wrong = [capital for capital in capitals if not capital >= 0]
    if wrong:
        msg = f"{len(wrong)} of {len(capitals)} capitals are negative or not a number, first {wrong[0]}; give sums >= 0"
        raise AllocationError(msg)
    lots = exact.Lots.of(problem)
    rows = []
    for capital in capitals:
        bought = lots.buy(capital)
        spent = float(bought.order_units @ problem.unit_cost)
        value = float(exact.expected_values(problem, bought.order_units).sum())
        rows.append((float(capital), value, max(bought.bound, value), bought.capital_price, spent))
    names = ("capital", "expected_value", "bound", "capital_price", "order_value")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Float64), orient="row")
