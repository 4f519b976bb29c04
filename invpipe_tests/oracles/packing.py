"""Packing from the definition: probabilities by summing the mass function, optima by trying every plan.

Shares no code with `invpipe.packing`, `invpipe.lagrangian` and `invpipe.forecast.law`. Slow on purpose.
"""

from itertools import product

import numpy as np
from scipy import stats

from invpipe.forecast.law import CountLaw
from invpipe.packing import PackingProblem

#: The food cart of Crews (2020): burger, pizza, taco.
FOOD_CART_MEANS = np.array([600.0, 900.0, 700.0])


def food_cart(demand=None) -> PackingProblem:
    """Return the published problem, with other values of demand if given."""
    return PackingProblem(
        items=("burger", "pizza", "taco"),
        capacities=("storage_cm3", "fridge_cm3", "weight_g"),
        unit_revenue=np.array([1.3, 1.6, 1.4]),
        demand=CountLaw(FOOD_CART_MEANS, np.full(3, np.inf)) if demand is None else demand,
        unit_use=np.array([[700.0, 900.0, 550.0], [950.0, 940.0, 800.0], [800.0, 850.0, 600.0]]),
        capacity=np.array([3_000_000.0, 2_000_000.0, 1_000_000.0]),
        max_units=np.full(3, 1000),
    )


def mass(problem: PackingProblem, item: int, most: int) -> np.ndarray:
    """P(D = 0), ..., P(D = most - 1), P(D >= most)."""
    if isinstance(problem.demand, CountLaw):
        mean, size = float(problem.demand.mean[item]), float(problem.demand.size[item])
        law = stats.poisson(mean) if np.isinf(size) else stats.nbinom(size, size / (size + mean))
        below = law.pmf(np.arange(most))
    else:
        survival = np.concatenate([[1.0], problem.demand[item], np.zeros(most)])
        below = survival[:most] - survival[1 : most + 1]
    return np.append(below, 1.0 - below.sum())


def moments(problem: PackingProblem, item: int, units: int) -> tuple[float, float]:
    """Mean and variance of min(D, units)."""
    weights, sold = mass(problem, item, units), np.arange(units + 1)
    mean = float(weights @ sold)
    return mean, float(weights @ (sold - mean) ** 2)


def revenue(problem: PackingProblem, units) -> float:
    """Expected revenue of a plan."""
    return float(sum(problem.unit_revenue[i] * moments(problem, i, int(x))[0] for i, x in enumerate(units)))


def best_revenue(problem: PackingProblem, most: int) -> float:
    """Expected revenue of the best plan with at most `most` units of each item."""
    limit = problem.max_units if problem.max_units is not None else np.full(len(problem), most)
    value = [[problem.unit_revenue[i] * moments(problem, i, x)[0] for x in range(most + 1)] for i in range(len(problem))]
    best = 0.0
    for units in product(*(range(min(most, int(limit[i])) + 1) for i in range(len(problem)))):
        if (np.array(units) @ problem.unit_use <= problem.capacity * (1 + 1e-12)).all():
            best = max(best, sum(value[i][x] for i, x in enumerate(units)))
    return best
