r"""A procurement problem as a programme for HiGHS, on one thread: method "mip", and "lp" by segments.

Columns are the units taken of each segment, the units (programme "lp") or packs (whole, programme "mip") of each offer, and one binary
for each offer whose minimum is above a pack and each vendor with a fixed cost or a minimum. A SKU with a single offer of single units
needs no column for it: its segments carry cost and use themselves, so that a problem without several offers has one row per capacity and
nothing else.

Minimums are binaries with :math:`l z \le x \le u z`, not HiGHS' semi-continuous columns, which have had wrong optima (issues 3015, 3188).
An optimum of the linear programme counts only with its certificate: the dual objective, computed here from the capacities' prices by
:func:`relaxed_value`, equals the primal one. A mixed-integer plan is read as whole lots, checked against every constraint, and valued
anew; its bound is the solver's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import highspy
import numpy as np
from numba import njit
from scipy import sparse

from invpipe.allocation.procurement import FloatArray, IntArray, ProcurementProblem
from invpipe.errors import SolverError
from invpipe.lagrangian.solver import Option, new_solver

#: Relative difference of primal and dual objective up to which an optimum counts as certified.
CERTIFICATE_TOLERANCE = 1e-7


@njit(cache=True, nogil=True, error_model="numpy")
def _relaxed(
    segment_start: IntArray,
    segment_units: FloatArray,
    segment_value: FloatArray,
    offer_start: IntArray,
    price: FloatArray,
    cap_units: FloatArray,
    sku_max_units: FloatArray,
) -> float:
    total = 0.0
    for i in range(len(offer_start) - 1):
        first, last = offer_start[i], offer_start[i + 1]
        if first == last:
            continue
        order = first + np.argsort(price[first:last])
        j, room, k = segment_start[i], segment_units[segment_start[i]], 0
        left, cap = cap_units[order[0]], sku_max_units[i]
        while cap > 0.0 and segment_value[j] > price[order[k]]:
            taken = min(min(room, left), cap)
            total += taken * (segment_value[j] - price[order[k]])
            room, left, cap = room - taken, left - taken, cap - taken
            if left <= 0.0:
                k += 1
                if k == len(order):
                    break
                left = cap_units[order[k]]
            if room <= 0.0:
                j += 1
                room = segment_units[j]
    return total


def relaxed_value(problem: ProcurementProblem, capacity_prices: FloatArray) -> float:
    """Return the dual function of the linear relaxation: an upper bound on every plan, money.

    Lots and vendor terms are left out; each SKU buys fractions at its offers' charges plus the priced use.

    Parameters
    ----------
    problem
        What may be ordered.
    capacity_prices
        Price of one unit of each capacity, >= 0, shape (k,); 0 where a capacity has no limit.
    """
    price = problem.charge + capacity_prices @ problem.capacity_use
    own = _relaxed(
        problem.segment_start, problem.segment_units, problem.segment_value, problem.offer_start, price, problem.cap_units,
        problem.sku_max_units,
    )  # fmt: skip
    finite = np.isfinite(problem.capacity_limit)
    return float(problem.base_value + capacity_prices[finite] @ problem.capacity_limit[finite] + own)


@dataclass
class _Model:
    """Columns and rows as they are added; every column starts at 0."""

    gain: list[FloatArray] = field(default_factory=list)
    upper: list[FloatArray] = field(default_factory=list)
    whole: list[FloatArray] = field(default_factory=list)
    low: list[FloatArray] = field(default_factory=list)
    high: list[FloatArray] = field(default_factory=list)
    entries: list[tuple[IntArray, IntArray, FloatArray]] = field(default_factory=list)
    n_columns: int = 0
    n_rows: int = 0

    def columns(self, gain: FloatArray, upper: FloatArray, *, whole: bool) -> IntArray:
        """Add columns and return their indices."""
        self.gain.append(gain)
        self.upper.append(upper)
        self.whole.append(np.full(len(gain), float(whole)))
        self.n_columns += len(gain)
        return np.arange(self.n_columns - len(gain), self.n_columns)

    def rows(self, low: FloatArray, high: FloatArray, *entries: tuple[IntArray, IntArray, FloatArray]) -> None:
        """Add rows; entries are (row within these, column, value)."""
        self.low.append(low)
        self.high.append(high)
        self.entries += [(self.n_rows + row, column, value) for row, column, value in entries]
        self.n_rows += len(high)

    def matrix(self) -> sparse.csc_array:
        """Return the rows column by column."""
        row, column, value = (np.concatenate([entry[i] for entry in self.entries]) for i in range(3))
        keep = value != 0
        return sparse.csc_array((value[keep], (row[keep], column[keep])), shape=(self.n_rows, self.n_columns))


@dataclass(frozen=True)
class _Layout:
    """Where the columns stand: segments (and the offer each one buys from, -1 where through an offer's column), offers, vendors."""

    model: _Model
    segment: IntArray
    segment_offer: IntArray
    column: IntArray
    offer: IntArray
    step: IntArray
    start_column: IntArray
    start_offer: IntArray
    vendor_column: IntArray
    vendor: IntArray


def _reachable(problem: ProcurementProblem, most: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Return index, SKU and units of the segments that `most` units per SKU, shape (n,), reach."""
    start, units = problem.segment_start, problem.segment_units
    sku = np.repeat(np.arange(len(problem.skus)), np.diff(start))
    before = np.concatenate([[0.0], np.cumsum(np.where(np.isinf(units), 0.0, units))])[:-1]
    before -= np.repeat(before[start[:-1]], np.diff(start))
    room = np.minimum(units, most[sku] - before)
    keep = np.flatnonzero(room > 0)
    return keep, sku[keep], room[keep]


def _build(problem: ProcurementProblem, *, whole: bool) -> _Layout:
    n, model = len(problem.skus), _Model()
    most_of_offer = problem.most_units.astype(np.float64) if whole else problem.cap_units
    most = np.minimum(np.bincount(problem.offer_sku, weights=most_of_offer, minlength=n), problem.sku_max_units)
    through_column = whole | (np.diff(problem.offer_start) > 1)[problem.offer_sku]
    offer_of = np.full(n, -1, dtype=np.int64)
    offer_of[problem.offer_sku[~through_column]] = np.flatnonzero(~through_column)
    segment, sku, room = _reachable(problem, most)
    segment_offer = offer_of[sku]
    gain = problem.segment_value[segment] - np.where(segment_offer >= 0, problem.charge[segment_offer], 0.0)
    keep = (segment_offer < 0) | (gain > 0)
    segment, sku, segment_offer = segment[keep], sku[keep], segment_offer[keep]
    at_segment = model.columns(gain[keep], room[keep], whole=False)
    offer = np.flatnonzero(through_column & (most_of_offer > 0))
    step = problem.pack_units[offer] if whole else np.ones(len(offer), dtype=np.int64)
    column = model.columns(-problem.charge[offer] * step, most_of_offer[offer] / step, whole=whole)
    _add_capacities(problem, model, at_segment, segment_offer, column, offer, step)
    _add_skus(problem, model, at_segment[segment_offer < 0], sku[segment_offer < 0], column, offer, step)
    none = np.zeros(0, dtype=np.int64)
    layout = _Layout(model, segment, segment_offer, column, offer, step, none, none, none, none)
    return _with_binaries(problem, layout, most_of_offer[offer] / step) if whole else layout


def _add_capacities(
    problem: ProcurementProblem,
    model: _Model,
    at_segment: IntArray,
    segment_offer: IntArray,
    column: IntArray,
    offer: IntArray,
    step: IntArray,
) -> None:
    direct = segment_offer >= 0
    for k in np.flatnonzero(np.isfinite(problem.capacity_limit)):
        use = problem.capacity_use[k]
        own, through = at_segment[direct], use[offer] * step
        entries = (np.zeros(len(own), np.int64), own, use[segment_offer[direct]]), (np.zeros(len(column), np.int64), column, through)
        model.rows(np.array([-np.inf]), problem.capacity_limit[k : k + 1], *entries)


def _add_skus(
    problem: ProcurementProblem, model: _Model, at_segment: IntArray, sku: IntArray, column: IntArray, offer: IntArray, step: IntArray
) -> None:
    """Add: what the segments of a SKU take is what its offers bring; and the SKU's cap."""
    linked, row = np.unique(problem.offer_sku[offer], return_inverse=True)
    place = np.full(len(problem.skus), -1, dtype=np.int64)
    place[linked] = np.arange(len(linked))
    known = place[sku] >= 0
    zero = np.zeros(len(linked))
    units = step.astype(np.float64)
    model.rows(zero, zero, (place[sku[known]], at_segment[known], np.ones(int(known.sum()))), (row, column, -units))
    capped = np.flatnonzero(np.isfinite(problem.sku_max_units[linked]))
    inside = np.isin(row, capped)
    entries = np.searchsorted(capped, row[inside]), column[inside], units[inside]
    model.rows(np.full(len(capped), -np.inf), problem.sku_max_units[linked[capped]], entries)


def _with_binaries(problem: ProcurementProblem, layout: _Layout, most_steps: FloatArray) -> _Layout:
    """Add the binaries of minimums and vendor terms; `most_steps` packs per offer with a column."""
    model, offer, column, step = layout.model, layout.offer, layout.column, layout.step
    starts = np.flatnonzero(problem.first_lot_units[offer] > step)
    at_start = model.columns(np.zeros(len(starts)), np.ones(len(starts)), whole=True)
    row, one, least = np.arange(len(starts)), np.ones(len(starts)), problem.first_lot_units[offer[starts]] / step[starts]
    model.rows(0 * one, np.inf * one, (row, column[starts], one), (row, at_start, -least))
    model.rows(-np.inf * one, 0 * one, (row, column[starts], one), (row, at_start, -most_steps[starts]))
    vendor = np.flatnonzero(problem.has_vendor_terms)
    at_vendor = model.columns(-problem.vendor_fixed_cost[vendor], np.ones(len(vendor)), whole=True)
    place = np.full(len(problem.vendors), -1, dtype=np.int64)
    place[vendor] = np.arange(len(vendor))
    bound = np.flatnonzero(place[problem.offer_vendor[offer]] >= 0)
    its = place[problem.offer_vendor[offer[bound]]]
    row, one = np.arange(len(bound)), np.ones(len(bound))
    model.rows(-np.inf * one, 0 * one, (row, column[bound], one), (row, at_vendor[its], -most_steps[bound]))
    value = problem.unit_cost[offer[bound]] * step[bound]
    least = problem.vendor_min_order_value[vendor]
    entries = (its, column[bound], value), (np.arange(len(vendor)), at_vendor, -least)
    model.rows(np.zeros(len(vendor)), np.full(len(vendor), np.inf), *entries)
    return _Layout(model, layout.segment, layout.segment_offer, column, offer, step, at_start, offer[starts], at_vendor, vendor)


def _loaded(model: _Model, **options: Option) -> highspy.Highs:
    """Return a solver with the model and the options."""
    solver = new_solver(**options)
    matrix, columns = model.matrix(), model.n_columns
    status = solver.passModel(
        columns,
        model.n_rows,
        matrix.nnz,
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMaximize),
        0.0,
        np.concatenate(model.gain),
        np.zeros(columns),
        np.concatenate(model.upper),
        np.concatenate(model.low),
        np.concatenate(model.high),
        matrix.indptr[:-1].astype(np.int32),
        matrix.indices.astype(np.int32),
        matrix.data,
        np.concatenate(model.whole).astype(np.int32),
    )
    if status == highspy.HighsStatus.kError:
        msg = f"HiGHS refuses the model of {columns} columns; look for prices, costs or limits beyond 1e20"
        raise SolverError(msg)
    return solver


@dataclass(frozen=True)
class LinearSolution:
    """Optimum of the linear relaxation, certified by its duals.

    Parameters
    ----------
    order_units
        Units per offer, fractions, shape (m,).
    capacity_prices
        Dual of each capacity, >= 0, shape (k,).
    objective
        Money.
    """

    order_units: FloatArray
    capacity_prices: FloatArray
    objective: float


def solve_linear(problem: ProcurementProblem, time_limit_seconds: float) -> LinearSolution:
    """Solve the linear relaxation: fractions of units, no minimums, no vendor terms.

    Raises
    ------
    SolverError
        Where HiGHS ends without an optimum (time limit included), or its optimum lacks the dual certificate.
    """
    layout = _build(problem, whole=False)
    limited = np.flatnonzero(np.isfinite(problem.capacity_limit))
    prices = np.zeros(len(problem.capacity_names))
    if layout.model.n_columns == 0 or layout.model.n_rows == 0:
        # nothing to buy, or nothing that binds: the segments within their bounds
        values, duals = np.concatenate(layout.model.upper), np.zeros(len(limited))
    else:
        solver = _loaded(layout.model, presolve="off", time_limit=time_limit_seconds)
        solver.run()
        status = solver.getModelStatus()
        if status == highspy.HighsModelStatus.kTimeLimit:
            msg = f"HiGHS reached the time limit of {time_limit_seconds} s on {len(problem)} offers; raise time_limit_seconds"
            raise SolverError(msg)
        if status != highspy.HighsModelStatus.kOptimal:
            msg = f"HiGHS ended with status {solver.modelStatusToString(status)!r} on {len(problem)} offers; no plan"
            raise SolverError(msg)
        solution = solver.getSolution()
        values, duals = np.asarray(solution.col_value), np.asarray(solution.row_dual)
    prices[limited] = np.maximum(duals[: len(limited)], 0.0)
    values = np.clip(values, 0.0, np.concatenate(layout.model.upper)) if len(values) else values
    units = np.zeros(len(problem))
    units[layout.offer] = values[layout.column]
    direct = np.flatnonzero(layout.segment_offer >= 0)
    np.add.at(units, layout.segment_offer[direct], values[direct])
    objective = problem.base_value + (float(np.concatenate(layout.model.gain) @ values) if len(values) else 0.0)
    bound = relaxed_value(problem, prices)
    gap = (bound - objective) / max(abs(objective), 1.0)
    if not abs(gap) <= CERTIFICATE_TOLERANCE:
        msg = f"the optimum of HiGHS lacks its certificate: primal {objective}, dual {bound}, relative gap {gap} > {CERTIFICATE_TOLERANCE}"
        raise SolverError(msg)
    return LinearSolution(units, prices, objective)


@dataclass(frozen=True)
class WholeSolution:
    """What branch and bound found.

    Parameters
    ----------
    order_units
        Units per offer, whole lots, shape (m,); that of the start where nothing better was found.
    bound
        The solver's upper bound on every plan, money.
    """

    order_units: IntArray
    bound: float


def solve_whole(problem: ProcurementProblem, start_units: IntArray, gap_frac: float, time_limit_seconds: float) -> WholeSolution:
    """Solve the mixed-integer programme from a known plan.

    Parameters
    ----------
    problem
        What may be ordered.
    start_units
        A plan that keeps all constraints, units per offer, shape (m,).
    gap_frac
        Relative gap at which to stop, >= 0.
    time_limit_seconds
        Wall clock, > 0.

    Raises
    ------
    SolverError
        Where HiGHS fails; a time limit is no failure.
    """
    layout = _build(problem, whole=True)
    if layout.model.n_columns == 0:
        return WholeSolution(start_units, problem.objective(start_units))
    solver = _loaded(layout.model, mip_rel_gap=gap_frac, mip_abs_gap=0.0, time_limit=time_limit_seconds)
    solution = highspy.HighsSolution()
    solution.col_value = _columns_of(problem, layout, start_units).tolist()
    solver.setSolution(solution)
    solver.run()
    status = solver.getModelStatus()
    if status not in (highspy.HighsModelStatus.kOptimal, highspy.HighsModelStatus.kTimeLimit):
        msg = f"HiGHS ended with status {solver.modelStatusToString(status)!r} on {len(problem)} offers; no plan"
        raise SolverError(msg)
    info = solver.getInfo()
    units = start_units
    if info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible):
        found = np.zeros(len(problem), dtype=np.int64)
        values = np.asarray(solver.getSolution().col_value)[layout.column]
        found[layout.offer] = np.round(values).astype(np.int64) * layout.step
        if not problem.faults(found) and problem.objective(found) > problem.objective(start_units):
            units = found
    return WholeSolution(units, problem.base_value + float(info.mip_dual_bound))


def _columns_of(problem: ProcurementProblem, layout: _Layout, order_units: IntArray) -> FloatArray:
    """Return the columns of the mixed-integer programme that mean this plan."""
    values, upper = np.zeros(layout.model.n_columns), np.concatenate(layout.model.upper)
    sku = np.searchsorted(problem.segment_start, layout.segment, side="right") - 1
    units = problem.sku_units(order_units)
    first = np.searchsorted(sku, np.arange(len(problem.skus)))
    room = upper[: len(sku)]
    before = np.concatenate([[0.0], np.cumsum(room)])[:-1]
    before -= before[np.minimum(first[sku], len(sku) - 1)]
    values[: len(sku)] = np.clip(units[sku] - before, 0.0, room)
    values[layout.column] = order_units[layout.offer] / layout.step
    values[layout.start_column] = order_units[layout.start_offer] > 0
    values[layout.vendor_column] = problem.vendor_used(order_units)[layout.vendor]
    return values
