"""Order plans: one call for all methods, vendor minimums, and the what-if curve of capital.

Order of events of :func:`allocate`: the method solves the problem as if vendors had no minimum order value, which gives the bound; while
a vendor's order is above 0 and below its minimum, the vendor with the smallest share of its minimum is deferred (its rows leave, its
capital is free for the others) and the rest is solved again; last the figures are taken. One vendor at a time, because the capital that
one frees may lift another over its minimum; a vendor once deferred stays so, hence at most as many rounds as vendors. This is a
heuristic: the bound stays certified, as it ignores the vendor minimums, and the gap includes what they cost.

Methods "mip" and "lagrangian" take vendor minimums as they are; for them an :class:`AllocationProblem` is written out as the
:class:`~invpipe.allocation.procurement.ProcurementProblem` it is, one offer per row. "mip" starts from the Lagrangian plan and goes on to
branch and bound where that leaves a gap; the better of the two bounds certifies the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Literal, get_args

import numpy as np
import polars as pl

from invpipe.allocation import exact, greedy, lp, programme, reasons, rounding, separable
from invpipe.allocation.decomposition import solve_lagrangian
from invpipe.allocation.problem import AllocationParams, AllocationProblem, FloatArray, IntArray
from invpipe.allocation.procurement import ProcurementProblem
from invpipe.errors import AllocationError, SolverError

Method = Literal["exact", "lp", "mip", "lagrangian", "greedy"]
METHODS: tuple[Method, ...] = get_args(Method)

#: A plan this close to its bound is called optimal, relative.
OPTIMAL_GAP = 1e-9
#: A plan above its bound by more than this, relative, is an error of the method, not of rounding.
BOUND_TOLERANCE = 1e-7
#: Relative gap to which a point of the capital curve is solved.
CURVE_GAP = 1e-3
#: Method "mip" gives this share of its time to the Lagrangian start.
START_TIME_FRAC = 0.5
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
        "exact", "lp", "mip", "lagrangian" or "greedy".
    status
        "optimal" where the gap is at most 1e-9, or "exact" has shown by search that no plan of whole lots is better, else "feasible".
    objective, bound
        Value of the integer plan and certified upper bound on it, money: methods "exact" and "greedy" in expected value, "lp" in the
        terms of its own programme. Of a procurement problem all in the terms of the problem.
    gap
        (bound - objective) / max(abs(bound), 1e-12).
    order_units
        Units to order per row (offer) of the problem, shape (n,).
    capital_price
        What one more unit of money would earn, in the terms of the objective; 0 where the capital does not bind. Method "greedy" has none
        of its own and reports that of the exact relaxation (of the Lagrangian method, where the problem is not separable).
    expected_value
        Sum of v_n over the ordered units under the full demand law, money: comparable between all methods. Of a procurement problem the
        objective.
    deferred_vendors
        Vendors that get no order because it would be below their minimum, sorted.
    seconds
        Wall clock of the solve.
    capacity_prices
        What one more unit of each capacity would earn, shape (k,); of an :class:`AllocationProblem` the capital's alone.
    """

    problem: AllocationProblem | ProcurementProblem = field(repr=False)
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
    capacity_prices: FloatArray = field(repr=False)

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
        """One row per ordered SKU or offer with figures and reason, see :mod:`invpipe.allocation.reasons`; built when first read."""
        if isinstance(self.problem, ProcurementProblem):
            return reasons.offer_lines(self.problem, self.order_units, self.capacity_prices)
        return reasons.order_lines(self.problem, self.order_units, self.capital_price, self.method)

    def summary(self) -> dict[str, str | int | float]:
        """Return the key figures of the plan."""
        problem, ordered = self.problem, np.flatnonzero(self.order_units)
        if isinstance(problem, ProcurementProblem):
            vendors, capital = int(problem.vendor_used(self.order_units).sum()), _capital(problem)
        else:
            vendors, capital = len({problem.vendors[i] for i in ordered}), problem.capital
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
            "order_vendors": vendors,
            "order_value": self.order_value,
            "capital": capital,
            "capital_price": self.capital_price,
            "deferred_vendors": ", ".join(self.deferred_vendors),
            "seconds": self.seconds,
        }


#: The capacity of a procurement problem that is money.
CAPITAL = "capital"


def _capital(problem: ProcurementProblem) -> float:
    named = dict(zip(problem.capacity_names, problem.capacity_limit.tolist(), strict=True))
    return float(named.get(CAPITAL, np.inf))


@dataclass(frozen=True)
class _Answer:
    order_units: IntArray
    bound: float
    capital_price: float


@dataclass(frozen=True)
class _Procured:
    order_units: IntArray
    bound: float
    capacity_prices: FloatArray
    proved: bool = False


def _procure(problem: ProcurementProblem, method: Method, params: AllocationParams) -> _Procured:
    """Solve a procurement problem."""
    if method == "exact":
        found = separable.solve(problem)
        return _Procured(found.order_units, found.bound, np.full(len(problem.capacity_names), found.price), found.proved)
    if method == "lp":
        relaxed = _linear(problem, params)
        return _Procured(rounding.rounded_plan(problem, *relaxed[:2]), relaxed[2], relaxed[1])
    until = perf_counter() + params.time_limit_seconds
    share = START_TIME_FRAC if method == "mip" else 1.0
    priced = solve_lagrangian(problem, params.mip_gap_frac, share * params.time_limit_seconds)
    if method == "greedy":
        return _Procured(rounding.greedy_plan(problem), priced.bound, priced.capacity_prices)
    units = priced.order_units
    if priced.bound - problem.objective(units) > params.mip_gap_frac * abs(priced.bound):
        others = rounding.rounded_plan(problem, units.astype(np.float64), priced.capacity_prices), rounding.greedy_plan(problem)
        units = max(units, *others, key=problem.objective)
    if method == "lagrangian" or priced.bound - problem.objective(units) <= params.mip_gap_frac * abs(priced.bound):
        return _Procured(units, priced.bound, priced.capacity_prices)
    searched = programme.solve_whole(problem, units, params.mip_gap_frac, max(until - perf_counter(), 1.0))
    return _Procured(searched.order_units, min(priced.bound, searched.bound), priced.capacity_prices)


def _linear(problem: ProcurementProblem, params: AllocationParams) -> tuple[FloatArray, FloatArray, float]:
    """Return fractions of units per offer, prices and optimum of the linear relaxation in the form asked for."""
    if params.lp_form != "three_variables":
        linear = programme.solve_linear(problem, params.time_limit_seconds)
        return linear.order_units, linear.capacity_prices, linear.objective
    model = problem.quantiles
    if model is None:
        msg = "lp_form is 'three_variables', but the problem has no quantiles; make it by from_quantiles, or take 'segments'"
        raise AllocationError(msg)
    found = lp.solve(lp.LpModel(model, model.median_units, model.upper_units, model.penalty), params.time_limit_seconds)
    return found.order_units, np.array([found.capital_price]), found.objective


def _plan_procurement(problem: ProcurementProblem, method: Method, params: AllocationParams) -> OrderPlan:
    """Return the plan of a procurement problem, checked against all its constraints."""
    began = perf_counter()
    found = _procure(problem, method, params)
    faults = problem.faults(found.order_units)
    if faults:
        msg = f"method {method!r} gives a plan that breaks its constraints: {'; '.join(faults)}; this is a defect of the method, report it"
        raise SolverError(msg)
    objective = problem.objective(found.order_units)
    bound, gap = _gap(method, objective, found.bound)
    prices = dict(zip(problem.capacity_names, found.capacity_prices.tolist(), strict=True))
    return OrderPlan(
        problem=problem,
        method=method,
        status="optimal" if gap <= OPTIMAL_GAP or found.proved else "feasible",
        objective=objective,
        bound=bound,
        gap=gap,
        order_units=found.order_units,
        capital_price=prices.get(CAPITAL, 0.0),
        expected_value=objective,
        deferred_vendors=(),
        seconds=perf_counter() - began,
        capacity_prices=found.capacity_prices,
    )


def _gap(method: Method, objective: float, bound: float) -> tuple[float, float]:
    """Return bound and gap of a plan, the bound lifted over the rounding of its sum.

    Raises
    ------
    SolverError
        Where the plan is above its bound by more than rounding.
    """
    if objective - bound > BOUND_TOLERANCE * max(abs(bound), 1.0):
        msg = f"method {method!r} gives a plan of {objective} above its bound of {bound}; this is a defect of the method, report it"
        raise SolverError(msg)
    bound = max(bound, objective)  # they may differ by the rounding of their sums
    return bound, (bound - objective) / max(abs(bound), 1e-12)


def _solve(problem: AllocationProblem, method: Method, params: AllocationParams) -> _Answer:
    if method == "lp":
        model = lp.LpModel.of(problem, params)
        if params.lp_form == "segments":
            linear = programme.solve_linear(model.segments(), params.time_limit_seconds)
            price = float(linear.capacity_prices[0])
            return _Answer(lp.round_to_lots(problem, model, linear.order_units), linear.objective, price)
        solution = lp.solve(model, params.time_limit_seconds)
        return _Answer(lp.round_to_lots(problem, model, solution.order_units), solution.objective, solution.capital_price)
    if method in ("mip", "lagrangian"):
        found = _procure(exact.procurement_of(problem), method, params)
        return _Answer(found.order_units, found.bound, float(found.capacity_prices[0]))
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
    if method in ("mip", "lagrangian"):  # they have kept the minimums themselves
        return answer, ()
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


def allocate(
    problem: AllocationProblem | ProcurementProblem, method: Method = "exact", params: AllocationParams | None = None
) -> OrderPlan:
    """Choose what to order.

    Parameters
    ----------
    problem
        What may be ordered, what it is worth, and what it may use.
    method
        "exact" (marginal value under the full law; separable problems), "lp" (linear programme, rounded), "mip" (branch and bound from
        the Lagrangian plan), "lagrangian" (any size) or "greedy" (baseline).
    params
        Parameters of the methods; default `AllocationParams()`.

    Returns
    -------
    OrderPlan
        Whole lots that never use more than there is.

    Raises
    ------
    AllocationError
        Where the method is unknown or does not fit the problem, or the problem has too many lots worth buying.
    SolverError
        Where HiGHS gives no certified optimum, or a plan overspends or passes its bound.
    """
    if method not in METHODS:
        msg = f"method is {method!r}; choose 'exact', 'lp', 'mip', 'lagrangian' or 'greedy'"
        raise AllocationError(msg)
    params = params or AllocationParams()
    if isinstance(problem, ProcurementProblem):
        return _plan_procurement(problem, method, params)
    began = perf_counter()
    answer, deferred = _solve_with_vendor_minimums(problem, method, params)
    value = float(exact.expected_values(problem, answer.order_units).sum())
    objective = float(lp.LpModel.of(problem, params).row_values(answer.order_units).sum()) if method == "lp" else value
    bound, gap = _gap(method, objective, answer.bound)
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
        capacity_prices=np.array([answer.capital_price]),
    )
    if plan.order_value > problem.capital * (1.0 + OVERSPEND_TOLERANCE):
        msg = f"method {method!r} spends {plan.order_value} of a capital of {problem.capital}; this is a defect of the method, report it"
        raise SolverError(msg)
    return plan


def capital_curve(
    problem: AllocationProblem | ProcurementProblem, capitals: Sequence[float], plan: OrderPlan | None = None
) -> pl.DataFrame:
    """Return what other sums of capital would earn, everything else as it is.

    An :class:`AllocationProblem` is solved by the exact method without vendor minimums. The bound never falls and the capital price never
    rises with the capital. The expected value of the integer plan follows the bound within one lot, so it may dip by less than that.

    Of a :class:`ProcurementProblem` bound and capital price are those without vendor terms, by the Lagrangian method to `CURVE_GAP`; the
    value is that of its plan made to keep the terms (:func:`~invpipe.allocation.rounding.rounded_plan`). As a plan for less money is one
    for more, value and bound never fall.

    Parameters
    ----------
    problem
        What may be ordered; its own capital is not used.
    capitals
        Sums of money, each >= 0.
    plan
        A plan of the procurement problem that is known: no value for its capital or more is below its value, no bound for its capital or
        less above its bound.

    Returns
    -------
    pl.DataFrame
        One row per capital as given: capital, expected_value, bound, capital_price, order_value, all Float64.

    Raises
    ------
    AllocationError
        Where a capital is negative or not a number, or a procurement problem has no capacity "capital".
    """
    wrong = [capital for capital in capitals if not capital >= 0]
    if wrong:
        msg = f"{len(wrong)} of {len(capitals)} capitals are negative or not a number, first {wrong[0]}; give sums >= 0"
        raise AllocationError(msg)
    rows = _procurement_curve(problem, capitals, plan) if isinstance(problem, ProcurementProblem) else _exact_curve(problem, capitals)
    names = ("capital", "expected_value", "bound", "capital_price", "order_value")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Float64), orient="row")


def _exact_curve(problem: AllocationProblem, capitals: Sequence[float]) -> list[tuple[float, ...]]:
    lots = exact.Lots.of(problem)
    rows: list[tuple[float, ...]] = []
    for capital in capitals:
        bought = lots.buy(capital)
        spent = float(bought.order_units @ problem.unit_cost)
        value = float(exact.expected_values(problem, bought.order_units).sum())
        rows.append((float(capital), value, max(bought.bound, value), bought.capital_price, spent))
    return rows


def _procurement_curve(problem: ProcurementProblem, capitals: Sequence[float], plan: OrderPlan | None) -> list[tuple[float, ...]]:
    if CAPITAL not in problem.capacity_names:
        msg = f"the problem has the capacities {', '.join(problem.capacity_names) or 'none'}, none named {CAPITAL!r}; name it so"
        raise AllocationError(msg)
    money, params = problem.capacity_names.index(CAPITAL), AllocationParams(mip_gap_frac=CURVE_GAP)
    values: dict[float, tuple[float, float]] = {}  # value and money spent, the best for this capital or less
    bounds: dict[float, tuple[float, float]] = {}
    best = -np.inf, 0.0
    for capital in sorted(set(capitals)):
        limit = problem.capacity_limit.copy()
        limit[money] = capital
        limited = replace(problem, capacity_limit=limit)
        free = allocate(replace(limited, vendor_fixed_cost=np.zeros(1), vendor_min_order_value=np.zeros(1)), "lagrangian", params)
        units = rounding.rounded_plan(limited, free.order_units.astype(np.float64), free.capacity_prices)
        known = [(plan.objective, plan.order_value)] if plan is not None and _capital(problem) <= capital else []
        best = max([best, (problem.objective(units), float(units @ problem.unit_cost)), *known], key=lambda found: found[0])
        values[capital], bounds[capital] = best, (free.bound, free.capital_price)
    if plan is not None:
        bounds = {c: (min(bound, plan.bound) if c <= _capital(problem) else bound, price) for c, (bound, price) in bounds.items()}
    least = np.inf
    for capital in sorted(bounds, reverse=True):
        least = min(least, bounds[capital][0])
        bounds[capital] = max(least, values[capital][0]), bounds[capital][1]
    return [(float(capital), values[capital][0], *bounds[capital], values[capital][1]) for capital in capitals]
