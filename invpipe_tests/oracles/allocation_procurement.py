"""Procurement from the definition: random problems, value and feasibility offer by offer, the best plan by enumeration of all of them.

Shares no code with `invpipe.allocation` but the problem it is given. Slow on purpose.
"""

from itertools import product

import numpy as np

from invpipe.allocation import AllocationProblem, ProcurementProblem


def quantile_problem(seed: int, rows: int, *, fractions: bool = False) -> ProcurementProblem:
    """The document's problem with ties, zeros and a capital that may be 0 or inf."""
    g = np.random.default_rng(seed)
    cost = np.round(g.choice([0.0, 1.0, 2.0, 5.0, 7.5], rows) * g.choice([1.0, 1.0, 1.37], rows), 2)
    q50 = g.integers(0, 5, rows) * (0.77 if fractions else 1.0)
    q90 = q50 + g.integers(0, 5, rows) * (1.31 if fractions else 1.0)
    price = np.round(cost * g.choice([0.0, 0.8, 1.5, 2.0], rows) + g.choice([0.0, 1.0], rows), 2)
    capital = float(g.choice([0.0, 1.0, np.inf, 0.3, 0.6])) * float(cost @ q90 + 1)
    holding, stock = g.choice([0.0, 0.1, 1.0], rows), g.integers(0, 4, rows).astype(float)
    return AllocationProblem.from_quantiles(price, cost, holding, stock, q50, q90, g.choice([0.0, 1.0, 2.0], rows) * price, capital)


def survival_problem(seed: int, rows: int, width: int = 6) -> ProcurementProblem:
    """Units that each sell with their own probability, with ties, certain sales and impossible ones."""
    g = np.random.default_rng(seed)
    cost = np.round(g.uniform(1, 9, rows), 2)
    value = np.round(cost * g.choice([0.7, 1.2, 2.0], rows), 2)
    steps = np.array([0.0, 0.0, 0.25, 0.5, 0.5, 1.0])
    survival = -np.sort(-np.round(g.choice(steps, (rows, width)) * g.uniform(0.5, 1.0, (rows, width)), 2), axis=1)
    salvage = np.round(np.minimum(0.6 * cost, value), 2)
    capital = float(g.choice([0.15, 0.4, 1.5])) * float(cost.sum() * 2)
    return AllocationProblem.from_survival(value, salvage, cost, 0.05 * cost, g.integers(0, 3, rows), survival, capital)


def rich_problem(
    seed: int, skus: int, vendors: int, offers: int = 2, *, capacities: int = 2, lots: bool = True, terms: bool = True
) -> ProcurementProblem:
    """Several offers per SKU, lots, caps, lead times, vendor terms and capacities; small orders."""
    g = np.random.default_rng(seed)
    m, per = skus * offers, g.integers(1, 4, skus)
    start = np.concatenate([[0], np.cumsum(per + 1)])
    price, units, value = np.round(g.uniform(5, 20, skus), 2), [], []
    for i in range(skus):
        units += [*g.choice([1.0, 1.0, 1.5, 2.0], per[i]), np.inf]
        value += [*-np.sort(-np.round(price[i] * g.uniform(0.3, 1.0, per[i]), 2)), 0.1 * price[i]]
    cost = np.round(np.repeat(price, offers) * g.uniform(0.3, 0.9, m), 2)
    use = np.stack([cost, *(g.choice([0.0, 0.5, 1.0, 2.0], m) for _ in range(capacities - 1))])[:capacities]
    vendor = np.argsort(g.random((skus, vendors)), axis=1)[:, :offers].ravel()
    scale = float(cost.mean() * skus / vendors)
    return ProcurementProblem(
        skus=tuple(f"S{i:03d}" for i in range(skus)),
        vendors=tuple(f"V{i:02d}" for i in range(vendors)),
        segment_start=start,
        segment_units=np.array(units),
        segment_value=np.array(value),
        offer_sku=np.repeat(np.arange(skus), offers),
        offer_vendor=vendor,
        unit_cost=cost,
        capacity_names=("capital", "volume", "weight")[:capacities],
        capacity_use=use,
        capacity_limit=np.round(g.uniform(0.2, 1.0, capacities) * use.sum(axis=1), 2) * g.choice([1.0, 1.0, 1.0, 0.0], capacities),
        min_order_units=g.choice([1, 1, 2, 3], m) if lots else np.ones(m, np.int64),
        pack_units=g.choice([1, 1, 2], m) if lots else np.ones(m, np.int64),
        available_units=g.choice([np.inf, 2.0, 3.0], m),
        lead_time_days=g.integers(0, 8, m).astype(float),
        delay_cost_per_unit_day=np.round(0.01 * price, 3),
        sku_max_units=g.choice([np.inf, np.inf, 4.0], skus),
        vendor_fixed_cost=np.round(g.choice([0.0, 0.1, 0.5], vendors) * scale, 2) if terms else np.zeros(vendors),
        vendor_min_order_value=np.round(g.choice([0.0, 0.5, 1.5], vendors) * scale, 2) if terms else np.zeros(vendors),
        base_value=3.0,
    )


def plan_value(problem: ProcurementProblem, order_units) -> float:
    """Worth of each SKU's units, segment by segment, less charges and fixed costs."""
    total = problem.base_value
    for i in range(len(problem.skus)):
        left = sum(float(x) for x, sku in zip(order_units, problem.offer_sku, strict=True) if sku == i)
        for j in range(problem.segment_start[i], problem.segment_start[i + 1]):
            taken = min(left, problem.segment_units[j])
            total += taken * problem.segment_value[j] if taken else 0.0
            left -= taken
    for o, x in enumerate(order_units):
        delay = problem.delay_cost_per_unit_day[problem.offer_sku[o]] * problem.lead_time_days[o]
        total -= (problem.unit_cost[o] + delay) * float(x)
    used = {int(problem.offer_vendor[o]) for o, x in enumerate(order_units) if x > 0}
    return total - sum(problem.vendor_fixed_cost[v] for v in used)


def is_allowed(problem: ProcurementProblem, order_units) -> bool:
    """Whether the plan keeps lots, availability, caps, capacities and vendor minimums; where an order ends is `orders_of`."""
    spent = dict.fromkeys(range(len(problem.vendors)), 0.0)
    for o, x in enumerate(order_units):
        if x and (x < problem.min_order_units[o] or x % problem.pack_units[o] or x > problem.available_units[o]):
            return False
        spent[int(problem.offer_vendor[o])] += float(x) * problem.unit_cost[o]
    for i in range(len(problem.skus)):
        if sum(x for x, sku in zip(order_units, problem.offer_sku, strict=True) if sku == i) > problem.sku_max_units[i]:
            return False
    if any(0 < value < problem.vendor_min_order_value[v] * (1 - 1e-12) for v, value in spent.items()):
        return False
    for use, limit in zip(problem.capacity_use, problem.capacity_limit, strict=True):
        if sum(a * float(x) for a, x in zip(use, order_units, strict=True)) > limit * (1 + 1e-12):
            return False
    return True


def orders_of(problem: ProcurementProblem, offer: int) -> list[int]:
    """0 and every order of whole packs from the minimum on, up to the lot that holds the last unit worth its charge."""
    i = problem.offer_sku[offer]
    charge = problem.unit_cost[offer] + problem.delay_cost_per_unit_day[i] * problem.lead_time_days[offer]
    span = range(problem.segment_start[i], problem.segment_start[i + 1])
    worth_having = sum(problem.segment_units[j] for j in span if problem.segment_value[j] > charge)
    most = min(problem.available_units[offer], problem.sku_max_units[i])
    orders, x = [0], int(problem.pack_units[offer])
    while x <= most and min(worth_having, most) > (0 if len(orders) == 1 else orders[-1]):
        if x >= problem.min_order_units[offer]:
            orders.append(x)
        x += int(problem.pack_units[offer])
    return orders


def best_value(problem: ProcurementProblem) -> float:
    """Value of the best plan, by enumeration of all of them."""
    choices = [orders_of(problem, o) for o in range(len(problem))]
    return max(plan_value(problem, plan) for plan in product(*choices) if is_allowed(problem, plan))
