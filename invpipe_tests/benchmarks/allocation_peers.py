"""The document's programme over two quantiles in several ways beside the exact method: one optimum, seconds from arrays to answer.

Run it with ``python -m invpipe_tests.benchmarks.allocation_peers``, in an environment with the extra ``test``, which brings ``pulp`` and
``linopy``; one that is not installed is left out, and said so. Every way gets the same arrays (simulated, seeded)
and its time includes building the model, as a planner pays for that every day. Optima that differ by more than 1e-6 are an error.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from invpipe.allocation import AllocationParams, ProcurementProblem, allocate
from invpipe.allocation.procurement import QuantileModel
from invpipe.bench.allocation import CAPITAL_FRAC, allocation_problem, quantile_problem

#: Optima of the peers may differ by the tolerances of their solvers.
TOLERANCE = 1e-6


def problem_of(skus: int, seed: int) -> tuple[ProcurementProblem, QuantileModel]:
    """Return the quantile problem of simulated SKUs and its figures."""
    unlimited = allocate(allocation_problem(skus, seed)).order_value
    problem = quantile_problem(allocation_problem(skus, seed, CAPITAL_FRAC * unlimited))
    assert problem.quantiles is not None
    return problem, problem.quantiles


def by_scipy(model: QuantileModel) -> float:
    """Solve the programme as it is written by scipy's linprog (HiGHS)."""
    n, stock = len(model), model.inventory_position_units
    eye, zero = sparse.eye_array(n), sparse.csr_array((n, n))
    spend = sparse.csr_array(np.concatenate([model.unit_cost, np.zeros(2 * n)])[None, :])
    rows = sparse.vstack([spend, sparse.hstack([-eye, eye, zero]), sparse.hstack([zero, eye, zero]), sparse.hstack([-eye, zero, -eye])])
    right = np.concatenate([[model.capital], stock, model.median_units, stock - model.upper_units])
    cost = np.concatenate([model.unit_cost + model.holding_cost, -model.unit_price - model.holding_cost, model.penalty])
    answer = linprog(cost, A_ub=rows, b_ub=right, bounds=(0, None), method="highs")
    return -float(answer.fun) - float(model.holding_cost @ stock)


def by_pulp(model: QuantileModel) -> float:
    """Solve it by PuLP with the CBC it brings."""
    pulp = importlib.import_module("pulp")
    n, programme = len(model), pulp.LpProblem("plan", pulp.LpMaximize)
    x, s, u = ([programme.add_variable(f"{name}{i}", 0) for i in range(n)] for name in "xsu")
    p, c, h, stock = (a.tolist() for a in (model.unit_price, model.unit_cost, model.holding_cost, model.inventory_position_units))
    low, high, penalty = model.median_units.tolist(), model.upper_units.tolist(), model.penalty.tolist()
    programme += pulp.lpSum(p[i] * s[i] - c[i] * x[i] - h[i] * (x[i] - s[i]) - penalty[i] * u[i] for i in range(n))
    programme += pulp.lpSum(c[i] * x[i] for i in range(n)) <= model.capital
    for i in range(n):
        programme += s[i] <= stock[i] + x[i]
        programme += s[i] <= low[i]
        programme += u[i] >= high[i] - stock[i] - x[i]
    with warnings.catch_warnings():  # the way to the CBC that PuLP brings; version 4 finds it in a package of its own
        warnings.filterwarnings("ignore", "PULP_CBC_CMD", DeprecationWarning)
        programme.solve(pulp.PULP_CBC_CMD(msg=False, threads=1))
    return float(pulp.value(programme.objective)) - float(model.holding_cost @ model.inventory_position_units)


def by_linopy(model: QuantileModel) -> float:
    """Solve it by linopy with HiGHS."""
    linopy, xarray = importlib.import_module("linopy"), importlib.import_module("xarray")
    named = {name: xarray.DataArray(getattr(model, name), dims="sku") for name in model.__dataclass_fields__ if name != "capital"}
    stock, programme = named["inventory_position_units"], linopy.Model()
    coords = [np.arange(len(model))]
    x, s, u = (programme.add_variables(lower=0, coords=coords, dims=["sku"], name=name) for name in "xsu")
    programme.add_constraints((named["unit_cost"] * x).sum() <= model.capital)
    programme.add_constraints(s - x <= stock)
    programme.add_constraints(s <= named["median_units"])
    programme.add_constraints(u + x >= named["upper_units"] - stock)
    held = named["holding_cost"]
    gain = (named["unit_price"] + held) * s - (named["unit_cost"] + held) * x - named["penalty"] * u
    programme.add_objective(gain.sum(), sense="max")
    programme.solve("highs", output_flag=False, threads=1)
    return float(programme.objective.value) - float(model.holding_cost @ model.inventory_position_units)


def ways(problem: ProcurementProblem, model: QuantileModel) -> dict[str, Callable[[], float] | None]:
    """Return each way to the optimum, None where its package is not installed."""
    written = AllocationParams(lp_form="three_variables")
    found: dict[str, Callable[[], float] | None] = {
        "invpipe exact": lambda: allocate(problem).bound,
        "invpipe lp, segments": lambda: allocate(problem, "lp").bound,
        "invpipe lp, three variables": lambda: allocate(problem, "lp", written).bound,
        "scipy linprog": lambda: by_scipy(model),
    }
    for name, run in (("pulp", by_pulp), ("linopy", by_linopy)):
        found[name] = (lambda run=run: run(model)) if importlib.util.find_spec(name) else None
    return found


def compare(skus: int, runs: int, seed: int) -> dict[str, tuple[float, float] | None]:
    """Return median seconds and ratio to the exact method of each way, None where it is not installed.

    Raises
    ------
    ValueError
        Where a way finds another optimum.
    """
    problem, model = problem_of(skus, seed)
    allocate(problem)  # compiles
    seconds: dict[str, float | None] = {}
    for name, run in ways(problem, model).items():
        taken = []
        for _ in range(runs if run else 0):
            start = time.perf_counter()
            optimum = run()
            taken.append(time.perf_counter() - start)
            best = allocate(problem).bound
            if not abs(optimum - best) <= TOLERANCE * max(abs(best), 1.0):
                msg = f"{name} finds {optimum}, the exact method {best}; they were given different problems"
                raise ValueError(msg)
        seconds[name] = statistics.median(taken) if taken else None
    exact = seconds["invpipe exact"]
    return {name: None if spent is None else (spent, spent / exact) for name, spent in seconds.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The document's programme in several ways.")
    parser.add_argument("--skus", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, figures in compare(options.skus, options.runs, options.seed).items():
        print(f"{name:28}" + ("not installed" if figures is None else f"{1e3 * figures[0]:12.2f} ms {figures[1]:10.1f} x"))


if __name__ == "__main__":
    main()
