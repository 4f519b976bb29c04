"""Allocation from the definition: values unit by unit from scipy's laws, relaxations by scipy's linprog, integer plans by enumeration.

Shares no code with `invpipe.allocation` but the problem it is given. Slow on purpose.
"""

from itertools import pairwise, product

import numpy as np
from scipy import sparse, stats
from scipy.optimize import linprog

from invpipe.allocation import AllocationProblem
from invpipe.forecast.law import CountLaw


def random_problem(
    seed: int, rows: int, *, capital_share: float = 0.4, mean: float = 2.0, packs: bool = False, price_below_cost: bool = False
) -> AllocationProblem:
    """A problem with Poisson and negative binomial rows; the capital is a share of what ordering the mean demand costs."""
    g = np.random.default_rng(seed)
    cost = np.round(g.uniform(1.0, 20.0, rows), 2)
    price = np.round(cost * g.uniform(0.8 if price_below_cost else 1.05, 2.5, rows), 2)
    means = np.where(g.random(rows) < 0.1, 0.0, g.gamma(1.0, mean, rows))
    lots = {"min_order_units": g.integers(1, 5, rows), "pack_units": g.integers(1, 4, rows)} if packs else {}
    return AllocationProblem(
        skus=tuple(f"S{i:04d}" for i in range(rows)),
        vendors=tuple(f"V{i % 3}" for i in range(rows)),
        unit_price=price,
        unit_cost=cost,
        holding_cost=np.round(0.05 * cost * g.random(rows), 3),
        salvage_value=np.round(0.6 * np.minimum(cost, price) * g.random(rows), 2),
        inventory_position_units=g.integers(0, 3, rows),
        demand=CountLaw(means, np.where(g.random(rows) < 0.3, np.inf, g.gamma(2.0, 1.0, rows) + 0.1)),
        capital=capital_share * float(cost @ np.ceil(means)),
        **lots,
    )


def survival(problem: AllocationProblem, row: int, units: int) -> float:
    """P(D >= units)."""
    mean, size = problem.demand.mean[row], problem.demand.size[row]
    if mean == 0:
        return float(units <= 0)
    if np.isinf(size):
        return float(stats.poisson.sf(units - 1, mean))
    return float(stats.nbinom.sf(units - 1, size, size / (size + mean)))


def unit_value(problem: AllocationProblem, row: int, units: int) -> float:
    """v_n = p S(n) + (s - h)(1 - S(n)) - c."""
    sells = survival(problem, row, units)
    left_over = problem.salvage_value[row] - problem.holding_cost[row]
    return float(problem.unit_price[row] * sells + left_over * (1 - sells) - problem.unit_cost[row])


def order_value(problem: AllocationProblem, row: int, order_units: int) -> float:
    """Sum of v_n over the ordered units."""
    position = int(problem.inventory_position_units[row])
    return sum(unit_value(problem, row, n) for n in range(position + 1, position + order_units + 1))


def plan_value(problem: AllocationProblem, order_units: np.ndarray) -> float:
    """Sum of v_n over the ordered units of all rows."""
    return sum(order_value(problem, row, int(units)) for row, units in enumerate(order_units))


def admissible_orders(problem: AllocationProblem, row: int) -> list[int]:
    """0 and every order of whole packs from the minimum on, as long as its last lot is worth anything."""
    pack, least = int(problem.pack_units[row]), int(problem.min_order_units[row])
    order = pack
    while order < least:
        order += pack
    orders, value = [0], 0.0
    while (new := order_value(problem, row, order)) > value:
        orders.append(order)
        value = new
        order += pack
    return orders


def best_value(problem: AllocationProblem) -> float:
    """Value of the best integer plan, by enumeration of all of them."""
    orders = [admissible_orders(problem, row) for row in range(len(problem))]
    values = [[order_value(problem, row, units) for units in choices] for row, choices in enumerate(orders)]
    best = 0.0
    for choice in product(*(range(len(choices)) for choices in orders)):
        spent = sum(problem.unit_cost[row] * orders[row][k] for row, k in enumerate(choice))
        if spent <= problem.capital * (1 + 1e-12):
            best = max(best, sum(values[row][k] for row, k in enumerate(choice)))
    return best


def lot_relaxation(problem: AllocationProblem) -> float:
    """Optimum of the linear relaxation over lots, by HiGHS through scipy."""
    values, costs = [], []
    for row in range(len(problem)):
        orders = admissible_orders(problem, row)
        for before, after in pairwise(orders):
            values.append(order_value(problem, row, after) - order_value(problem, row, before))
            costs.append(problem.unit_cost[row] * (after - before))
    if not values:
        return 0.0
    answer = linprog(-np.array(values), A_ub=np.array([costs]), b_ub=[problem.capital], bounds=(0, 1), method="highs")
    assert answer.status == 0
    return -float(answer.fun)


def document_programme(problem: AllocationProblem, median: np.ndarray, upper: np.ndarray, penalty_frac: float) -> float:
    """Optimum of max sum p s - c x - h (P + x - s) - lambda u as it is written, by scipy, without any added bound."""
    n = len(problem)
    position, eye, zero = problem.inventory_position_units, sparse.eye(n), sparse.csr_matrix((n, n))
    gain = np.concatenate(
        [
            -problem.unit_cost - problem.holding_cost,
            problem.unit_price + problem.holding_cost,
            -penalty_frac * problem.unit_price,
        ]
    )
    spend = sparse.csr_matrix(np.concatenate([problem.unit_cost, np.zeros(2 * n)]))
    matrix = sparse.vstack(
        [
            spend,
            sparse.hstack([-eye, eye, zero]),  # s - x <= P
            sparse.hstack([zero, eye, zero]),  # s <= q50
            sparse.hstack([-eye, zero, -eye]),  # -x - u <= P - q90
        ]
    )
    right = np.concatenate([[problem.capital], position, median, position - upper])
    answer = linprog(-gain, A_ub=matrix, b_ub=right, bounds=(0, None), method="highs")
    assert answer.status == 0
    return -float(answer.fun) - float(problem.holding_cost @ position)
