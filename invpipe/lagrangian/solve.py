r"""Lagrangian dual by cutting planes, and a plan with a certified gap.

For multipliers :math:`\lambda \ge 0` the items come apart:

.. math:: L(\lambda) = b^\top \lambda + \sum_i \max_{x_i \in X_i} \left[ v_i(x_i) - \lambda^\top u_i(x_i) \right]

is an upper bound on every plan, whatever :math:`\lambda`. The lowest bound is sought by Kelley's cutting planes (1960): solve the items at
the master's multipliers, add their cuts, solve the master again (:mod:`invpipe.lagrangian.master`). Between two item solutions,
*maximum-violation cuts* are made of options seen before: each item takes the one that is worth most under the master's multipliers, which
together are the most violated cut there is without asking an item again. Items are dealt into groups, each with a cut of its own; so a
heuristic cut is worth as many cuts as there are groups.

Order of events of an iteration: solve the items; bound; a plan, once the dual is close (below); cuts; master and heuristic cuts until they
gain little. The plan: the mixture of options that solves the master, rounded (`Items.rounded`), and the items' best options, each
repaired by the least loss per excess removed and improved by single swaps over the options seen (:mod:`invpipe.lagrangian.memory`) and by
the items themselves (`Items.improved`).

A hard row never costs more than (bound - value of the start) / (what the start leaves of it): that is the box of its multiplier, without
which the first master has no optimum. A soft row's box is its penalty, which makes the penalty exact.

Source: Streeck, Gellert, Schmitt, Dipkaya, Fux, Januschowski, Berthold (2024), Tricks from the trade for large-scale markdown pricing:
heuristic cut generation for Lagrangian decomposition, arXiv 2404.02996, eqs. (3), (6), (8), (10), where the heuristic cuts are
aggregated; one per group needs fewer of them.

Limits: the bound is that of the Lagrangian relaxation, so options between which no mixture is allowed leave a gap; all options seen are
kept in memory, 8 (m + 2) bytes per item and iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

import numpy as np

from invpipe.errors import LagrangianError
from invpipe.lagrangian.items import Choice, FloatArray, IntArray, Items
from invpipe.lagrangian.master import Master, MasterSolution
from invpipe.lagrangian.memory import Memory
from invpipe.lagrangian.restricted import best_of_seen, free_options

Status = Literal["optimal", "feasible", "violated"]

#: Use above a capacity by this share of it is rounding noise of a sum.
CAPACITY_TOLERANCE = 1e-12
#: An item worth this share less than an option it has shown before is not solved exactly.
EXACT_TOLERANCE = 1e-7
#: Rounding of one item's value, as a share of the largest value or priced use of any item.
ROUNDING = 1e-12
#: Plans are made once bound and master agree to this, relative; before, the multipliers say too little.
PLAN_GAP = 1e-2
#: Heuristic cuts go on while one lifts the master's model by this share of what is left between bound and master.
HEURISTIC_GAIN_FRAC = 0.02
#: The master is given at least this long, past the time limit too: seconds.
LEAST_SECONDS = 1.0
#: Before the options seen are searched, items are also asked at multipliers changed by these factors.
AROUND = (0.75, 0.9, 0.97, 1.03, 1.1, 1.33)
#: The search of the options seen ends at this share of the gap asked for.
PLAN_STOP_FRAC = 0.1
#: Seed of the dealing of items into groups.
GROUP_SEED = 0


@dataclass(frozen=True)
class LagrangianParams:
    """How the dual is solved and when it stops.

    Parameters
    ----------
    n_groups
        Cuts per item solution: items are dealt into this many groups (at most n), each with a cut of its own. 1 is the aggregated form,
        a number >= n the fully disaggregated one.
    heuristic_cuts
        Most rounds of maximum-violation cuts per item solution; 0 turns them off.
    max_iterations
        Most item solutions, >= 1: with it alone as limit, results are the same on every run.
    plan_nodes
        Where the plan is not within `gap` at the end, the options seen are searched for a better one by branch and bound of at most this
        many nodes (:mod:`invpipe.lagrangian.restricted`); 0 turns that off.
    plan_options
        Most options in that search, those of least regret, >= 1.
    time_limit_seconds
        No further item solution is started after this, > 0; inf is no limit. The last plan is made after it.
    dual_gap
        The dual counts as solved when bound and master agree to this, relative, >= 0.
    gap
        The plan counts as optimal, and the search stops, when plan and bound agree to this, relative, >= 0.

    Raises
    ------
    LagrangianError
        Where a parameter is out of its bounds.
    """

    n_groups: int = 100
    heuristic_cuts: int = 20
    max_iterations: int = 100
    plan_nodes: int = 0
    plan_options: int = 2_000
    time_limit_seconds: float = float("inf")
    dual_gap: float = 1e-7
    gap: float = 1e-9

    def __post_init__(self) -> None:
        for name, least in (
            ("n_groups", 1),
            ("heuristic_cuts", 0),
            ("max_iterations", 1),
            ("plan_nodes", 0),
            ("plan_options", 1),
            ("dual_gap", 0),
            ("gap", 0),
        ):
            if not getattr(self, name) >= least:
                msg = f"{name} is {getattr(self, name)}; it must be at least {least}"
                raise LagrangianError(msg)
        if not self.time_limit_seconds > 0:
            msg = f"time_limit_seconds is {self.time_limit_seconds}; it must be above 0"
            raise LagrangianError(msg)


@dataclass(frozen=True)
class Step:
    """State after an item solution.

    Parameters
    ----------
    iteration
        Number of item solutions so far.
    bound
        Lowest L(multipliers) so far, an upper bound on every plan; never rises.
    master
        Lower bound of the dual's optimum from the cuts so far, -inf before the first master; never falls.
    objective
        Value of the best plan so far less penalties, -inf before there is one; never falls.
    cuts
        Cuts in the master.
    seconds
        Wall clock since the start.
    """

    iteration: int
    bound: float
    master: float
    objective: float
    cuts: int
    seconds: float


@dataclass(frozen=True, eq=False)
class LagrangianResult:
    """Plan, certified bound and multipliers.

    Parameters
    ----------
    status
        "optimal" (gap at most `LagrangianParams.gap`), "feasible", or "violated": the best plan known is over a soft row's capacity and
        pays the penalty.
    objective
        Value of the plan less penalties.
    bound
        Certified upper bound on the objective of any plan.
    gap
        (bound - objective) / max(abs(bound), 1e-12).
    choice
        The plan: option, value and use per item.
    multipliers
        The multipliers of the bound, shape (m,): what one more unit of each capacity is worth.
    violation
        Use above capacity per row, shape (m,), 0 where the row is kept.
    history
        One `Step` per item solution.
    seconds
        Wall clock.
    """

    status: Status
    objective: float
    bound: float
    gap: float
    choice: Choice = field(repr=False)
    multipliers: FloatArray
    violation: FloatArray
    history: tuple[Step, ...] = field(repr=False)
    seconds: float


def relative_gap(bound: float, objective: float) -> float:
    """Return (bound - objective) / max(abs(bound), 1e-12)."""
    return (bound - objective) / max(abs(bound), 1e-12)


def solve(
    items: Items,
    capacity: FloatArray,
    *,
    start: IntArray | None = None,
    penalty: FloatArray | None = None,
    first_multipliers: FloatArray | None = None,
    params: LagrangianParams | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> LagrangianResult:
    """Maximise the items' value under the capacities.

    Parameters
    ----------
    items
        The items.
    capacity
        b, finite, shape (m,).
    start
        Options of a known plan, shape (n,). Where a row is hard it is needed, and has to leave something of that row's capacity.
    penalty
        Cost of one unit of use above each capacity, >= 0, shape (m,); inf (default) is a hard row.
    first_multipliers
        Multipliers tried first, >= 0, shape (m,); default 0.
    params
        Default `LagrangianParams()`.
    on_step
        Called after each item solution.

    Returns
    -------
    LagrangianResult
        A plan that keeps every hard row, and a bound.

    Raises
    ------
    LagrangianError
        Where shapes or bounds are wrong, a hard row has no start, or the items break their contract (best options that are not best,
        improved plans that are worse or over a capacity).
    SolverError
        Where HiGHS fails on the master. Where it gives up (iterations, time), the search ends with plan and bound so far.
    """
    search = _Search(items, capacity, penalty, params or LagrangianParams(), on_step)
    if start is not None:
        search.begin_at(np.asarray(start, dtype=np.int64))
    search.run(np.zeros(len(capacity)) if first_multipliers is None else np.asarray(first_multipliers, dtype=np.float64))
    return search.result()


class _Search:
    """State of one solve."""

    def __init__(
        self,
        items: Items,
        capacity: FloatArray,
        penalty: FloatArray | None,
        params: LagrangianParams,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self.began = perf_counter()
        self.items, self.params, self.on_step = items, params, on_step
        self.capacity = np.asarray(capacity, dtype=np.float64)
        self.penalty = np.full(items.n_rows, np.inf) if penalty is None else np.asarray(penalty, dtype=np.float64)
        _check_rows("capacity", self.capacity, items.n_rows, finite=True)
        _check_rows("penalty", self.penalty, items.n_rows, least=0.0)
        self.slack = CAPACITY_TOLERANCE * np.abs(self.capacity)
        self.memory = Memory(items.n_items, items.n_rows)
        self.n_groups = max(min(params.n_groups, items.n_items), 1)
        self.group = np.random.default_rng(GROUP_SEED).permutation(items.n_items) % self.n_groups
        self.start: Choice | None = None
        self.plan: Choice | None = None
        self.objective, self.bound, self.lower = -np.inf, np.inf, -np.inf
        self.multipliers = np.zeros(items.n_rows)
        self.cuts: list[tuple[FloatArray | None, int]] = []  # (multipliers of a heuristic cut, None for an item solution; choices by then)
        self.cut_rows: list[IntArray] = []
        self.largest_value = 0.0
        self.history: list[Step] = []

    # --- plans

    def score(self, choice: Choice) -> float:
        """Return value less penalties, -inf over a hard row."""
        over = choice.total_use() - self.capacity
        over = np.where(over > self.slack, over, 0.0)
        if (over[np.isinf(self.penalty)] > 0).any():
            return -np.inf
        soft = np.isfinite(self.penalty)
        return float(choice.value.sum() - self.penalty[soft] @ over[soft])

    def offer(self, choice: Choice) -> None:
        """Keep the choice if it is the best plan so far."""
        objective = self.score(choice)
        if objective > self.objective:
            self.plan, self.objective = choice, objective

    def begin_at(self, start: IntArray) -> None:
        """Take the start as first plan and as first choice seen."""
        if start.shape != (self.items.n_items,):
            msg = f"start has shape {start.shape}; give one option for each of {self.items.n_items} items"
            raise LagrangianError(msg)
        self.start = self.items.evaluate(start)
        self.memory.add(self.start)
        self.offer(self.start)

    def make_plans(self, choice: Choice, master: MasterSolution | None) -> None:
        """Repair and improve the items' best options and the rounded mixture of the master."""
        candidates = [choice]
        if master is not None:
            candidates.append(self.items.evaluate(self.items.rounded(*self.mixture(master))))
        for candidate in candidates:
            plan = self.memory.swapped(candidate, self.capacity, self.slack, self.penalty, self.multipliers)
            before = self.score(plan)
            self.offer(plan)
            if before > -np.inf:
                left = np.maximum(self.capacity - plan.total_use(), 0.0)
                plan = self.items.improved(plan, left, self.multipliers)
                if (after := self.score(plan)) < before - EXACT_TOLERANCE * abs(before):
                    msg = f"items.improved made a plan of {before} into one of {after} (-inf: over a capacity); it must not get worse"
                    raise LagrangianError(msg)
                self.offer(plan)

    def mixture(self, master: MasterSolution) -> tuple[IntArray, FloatArray]:
        """Return the options seen, shape (k, n), and their weights in the master's mixture."""
        weights = np.zeros((self.memory.count, self.items.n_items))
        everyone = np.arange(self.items.n_items)
        first = 0
        for (multipliers, count), groups in zip(self.cuts, self.cut_rows, strict=True):
            if first == len(master.weights):  # cuts after the last master that was solved
                break
            per_group = np.zeros(self.n_groups)
            per_group[groups] = master.weights[first : first + len(groups)]
            first += len(groups)
            if not per_group.any():
                continue
            pick = np.full(len(everyone), count - 1) if multipliers is None else self.memory.pick(multipliers, count)[0]
            weights[pick, everyone] += per_group[self.group]
        return self.memory.option[: self.memory.count], weights

    # --- the dual

    def run(self, multipliers: FloatArray) -> None:
        """Alternate between items and master until a limit or a certificate."""
        _check_rows("first_multipliers", multipliers, self.items.n_rows, least=0.0, finite=True)
        multipliers = np.minimum(multipliers, self.penalty)
        solver: Master | None = None
        master: MasterSolution | None = None
        for iteration in range(1, self.params.max_iterations + 1):
            choice = self.solve_items(multipliers)
            solver = solver or self.new_master(choice)
            self.offer(choice)
            if self.bound - self.lower <= PLAN_GAP * abs(self.bound):
                self.make_plans(choice, master)
            done = relative_gap(self.bound, self.objective) <= self.params.gap
            if not done:
                lift = self.add_cut(solver, None, master)
                solved = self.solve_master(solver) if lift > 0.0 else None
                master = solved or master
                done = solved is None or relative_gap(self.bound, self.lower) <= self.params.dual_gap
            self.note(iteration, solver)
            if done or master is None or self.seconds_left() <= 0:
                break
            multipliers = master.multipliers
        if relative_gap(self.bound, self.objective) > self.params.gap:
            self.make_plans(choice, master)
        if relative_gap(self.bound, self.objective) > self.params.gap and self.plan is not None:
            self.search_seen(self.plan)

    def search_seen(self, plan: Choice) -> None:
        """Look for a better plan among the options seen, by an integer programme."""
        params = self.params
        if params.plan_nodes == 0 or self.items.n_items == 0:
            return
        for factors in _around(self.items.n_rows):  # options that a little more or less of a capacity would call for
            if self.seconds_left() <= 0:
                break
            self.memory.add(self.items.best(np.minimum(self.multipliers * factors, self.penalty)))
        seen, start, at = self.memory.distinct(plan)
        best = self.memory.pick(self.multipliers)[1]
        room = self.bound - self.objective
        free = free_options(seen, start, at, best, self.multipliers, room, params.plan_options)
        if len(free) == 0:
            return
        item = np.searchsorted(start, free, side="right") - 1
        is_plan = np.isin(free, at)
        left = self.capacity - (plan.total_use() - seen.use[free[is_plan]].sum(axis=0))
        taken = best_of_seen(
            seen.value[free],
            seen.use[free],
            item,
            is_plan.astype(np.float64),
            left,
            self.penalty,
            gap=PLAN_STOP_FRAC * params.gap * abs(self.bound),
            max_nodes=params.plan_nodes,
            seconds=max(self.seconds_left(), LEAST_SECONDS),
        )
        if taken is None:
            return
        option = plan.option.copy()
        option[item[taken]] = seen.option[free[taken]]
        found = self.items.evaluate(option)
        self.offer(found)
        if self.score(found) > -np.inf:
            self.offer(self.items.improved(found, np.maximum(self.capacity - found.total_use(), 0.0), self.multipliers))

    def seconds_left(self) -> float:
        """Return what is left of the time."""
        return self.params.time_limit_seconds - (perf_counter() - self.began)

    def solve_items(self, multipliers: FloatArray) -> Choice:
        """Return the items' best options, with the bound they give."""
        choice = self.items.best(multipliers)
        if choice.use.shape != (self.items.n_items, self.items.n_rows):
            msg = f"items.best gave uses of shape {choice.use.shape}; give {(self.items.n_items, self.items.n_rows)}"
            raise LagrangianError(msg)
        priced = choice.value - choice.use @ multipliers
        self.largest_value = max(self.largest_value, float(np.abs(choice.value).max(initial=0.0)))
        if self.memory.count:
            self.check_exact(multipliers, priced)
        self.memory.add(choice)
        if (bound := float(self.capacity @ multipliers + priced.sum())) < self.bound:
            self.bound, self.multipliers = bound, multipliers
        return choice

    def check_exact(self, multipliers: FloatArray, priced: FloatArray) -> None:
        """Refuse best options that are worth less than options seen before: there would be no bound."""
        pick, seen = self.memory.pick(multipliers)
        best_seen = self.memory.taken(pick)
        size = np.abs(best_seen.value) + np.abs(best_seen.use) @ multipliers
        largest = max(float(size.max(initial=0.0)), float(np.abs(priced).max(initial=0.0)), self.largest_value)
        short = seen - priced > EXACT_TOLERANCE * size + ROUNDING * largest
        if short.any():
            first = int(short.argmax())
            msg = (
                f"{int(short.sum())} of {len(short)} items know a better option than items.best gives, first item {first}: "
                f"{seen[first]} > {priced[first]}; without exact best options there is no bound"
            )
            raise LagrangianError(msg)

    def new_master(self, choice: Choice) -> Master:
        """Return the master, scaled by the first choice, in the box of the multipliers."""
        used = np.abs(choice.use).sum(axis=0)
        row_scale = np.maximum(np.abs(self.capacity), used)
        value_scale = max(float(np.abs(choice.value).sum()), abs(self.bound))
        most = self.penalty.copy()
        hard = np.isinf(most)
        if hard.any():
            most[hard] = self.box()[hard]
        ones = np.ones(len(row_scale))
        return Master(self.capacity, most, self.n_groups, np.where(row_scale > 0, row_scale, ones), value_scale or 1.0)

    def box(self) -> FloatArray:
        """Return what a hard row's multiplier is at most at an optimum."""
        if self.start is None:
            msg = "a hard row needs a start, a plan that leaves something of its capacity; give start, or a finite penalty for every row"
            raise LagrangianError(msg)
        left = self.capacity - self.start.total_use()
        full = np.isinf(self.penalty) & (left <= self.slack)
        if full.any():
            row = int(full.argmax())
            msg = (
                f"the start leaves {left[row]} of the capacity {self.capacity[row]} of hard row {row} ({int(full.sum())} such rows); "
                "give a start that leaves something of each, or a finite penalty"
            )
            raise LagrangianError(msg)
        most = np.full(len(left), np.inf)
        hard = np.isinf(self.penalty)
        most[hard] = max(self.bound - self.score(self.start), 0.0) / left[hard]
        return most

    def add_cut(self, solver: Master, multipliers: FloatArray | None, master: MasterSolution | None) -> float:
        """Add cuts and return by how much they lift the model where the master has its optimum, 0 where only by rounding noise.

        The cuts are those of the last choice, or, for multipliers, of the best options seen under them. Only cuts above the master's
        model by more than its noise are added, of the best options seen only where they lift it by enough.
        """
        count = self.memory.count
        pick = np.full(self.items.n_items, count - 1) if multipliers is None else self.memory.pick(multipliers)[0]
        value, use = self.memory.group_sums(pick, self.group, self.n_groups)
        groups, lift = np.arange(self.n_groups), np.inf
        if master is not None:
            above = value - use @ master.multipliers - master.theta
            groups = np.flatnonzero(above > solver.noise)
            lift = float(above[groups].sum())
            least = HEURISTIC_GAIN_FRAC * (self.bound - self.lower) if multipliers is not None else 0.0
            if lift <= least:
                return 0.0
        solver.add(groups, value[groups], use[groups])
        self.cuts.append((multipliers, count))
        self.cut_rows.append(groups)
        return lift

    def solve_master(self, solver: Master) -> MasterSolution | None:
        """Solve the master, adding heuristic cuts while they lift it; None where the master was given up."""
        master = solver.solve(max(self.seconds_left(), LEAST_SECONDS))
        for _ in range(self.params.heuristic_cuts):
            if master is None:
                return None
            self.lower = max(self.lower, master.lower)
            if self.bound - self.lower <= self.params.dual_gap * abs(self.bound):
                break
            if self.add_cut(solver, master.multipliers, master) == 0.0:
                break
            master = solver.solve(max(self.seconds_left(), LEAST_SECONDS))
        return master

    def note(self, iteration: int, solver: Master) -> None:
        """Write the history and call back."""
        step = Step(iteration, self.bound, self.lower, self.objective, solver.n_cuts, perf_counter() - self.began)
        self.history.append(step)
        if self.on_step:
            self.on_step(step)

    def result(self) -> LagrangianResult:
        """Return plan and bound."""
        if self.plan is None:
            msg = "no plan was found that keeps the hard rows; give a start"
            raise LagrangianError(msg)
        bound = max(self.bound, self.objective)  # they may differ by the rounding of their sums
        over = self.plan.total_use() - self.capacity
        violation = np.where(over > self.slack, over, 0.0)
        gap = relative_gap(bound, self.objective)
        status: Status = "violated" if (violation > 0).any() else "optimal" if gap <= self.params.gap else "feasible"
        seconds = perf_counter() - self.began
        return LagrangianResult(status, self.objective, bound, gap, self.plan, self.multipliers, violation, tuple(self.history), seconds)


def _around(m: int) -> list[FloatArray]:
    """Return factors of multipliers: all rows together, then each row by itself."""
    together = [np.full(m, factor) for factor in AROUND]
    alone = [np.where(np.arange(m) == row, factor, 1.0) for row in range(m if m > 1 else 0) for factor in AROUND]
    return together + alone


def _check_rows(name: str, values: FloatArray, m: int, *, least: float = -np.inf, finite: bool = False) -> None:
    if values.shape != (m,):
        msg = f"{name} has shape {values.shape}; give one number for each of {m} rows"
        raise LagrangianError(msg)
    bad = np.isnan(values) | (values < least) | (finite & np.isinf(values))
    if bad.any():
        row = int(bad.argmax())
        wanted = ("finite" if finite else "a number") + (f" and at least {least:g}" if least > -np.inf else "")
        msg = f"{name} of {int(bad.sum())} of {m} rows is out of bounds, first at row {row}: {values[row]}; it must be {wanted}"
        raise LagrangianError(msg)
