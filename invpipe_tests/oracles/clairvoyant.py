"""Best profit of any plan on a tiny world, by enumeration; and the bound's costs from the definition. Slow on purpose."""

from __future__ import annotations

from itertools import product

import numpy as np

from invpipe.arena import BacktestParams, Tape, run_backtest
from invpipe.arena.engine import lead_days
from invpipe.errors import ArenaError
from invpipe_tests.unit.arena.worlds import FixedPolicy


def best_profit(tape: Tape, params: BacktestParams, seed: int, most_units: int) -> float:
    """Highest profit, at any of the three values of ending stock, over all plans of 0 .. most_units per SKU and review day."""
    days = range(0, tape.n_days, params.review_period_days)
    cells = [(day, sku) for day in days for sku in range(len(tape.skus))]
    best = -np.inf
    for units in product(range(most_units + 1), repeat=len(cells)):
        plan: dict[int, list[tuple[int, int]]] = {}
        for (day, sku), n in zip(cells, units, strict=True):
            if n:
                plan.setdefault(day, []).append((sku, n))
        try:
            summary = run_backtest(tape, FixedPolicy(plan), params, seed).summary
        except ArenaError:  # not allowed by the arena's rules
            continue
        best = max(best, *(summary[name] for name in ("profit", "profit_ending_at_zero", "profit_ending_at_cost")))
    return best


def offers_on(tape: Tape, day: int) -> list[tuple[float, int, int]]:
    """(unit cost, vendor, SKU) of each SKU's cheapest offer at the end of a day, by replaying all deltas."""
    a = tape.arrays
    cost, live = a.opening_offer_unit_cost.copy(), a.opening_offer_in_stock.copy()
    for row in range(a.delta_start[day + 1]):
        offer = a.delta_offer[row]
        cost[offer] = a.delta_unit_cost[row] if not np.isnan(a.delta_unit_cost[row]) else cost[offer]
        live[offer] = a.delta_in_stock[row] if a.delta_in_stock[row] >= 0 else live[offer]
    best = {}
    for offer in np.flatnonzero(live == 1):
        sku = int(a.offer_sku[offer])
        if sku not in best or cost[offer] < best[sku][0]:
            best[sku] = (float(cost[offer]), int(a.offer_vendor[offer]), sku)
    return list(best.values())


def bound_without_capital(tape: Tape, params: BacktestParams, seed: int) -> float:
    """Every order there could have been, one by one: what each arrives at, and the earliest demand to the opening stock."""
    a, lead = tape.arrays, lead_days(tape, seed)
    arrivals = []
    for day in range(0, tape.n_days, params.review_period_days):
        # an offer that lasts can be ordered later too: the same cost, another arrival
        arrivals += [(day + int(lead[day, vendor]), sku, cost) for cost, vendor, sku in offers_on(tape, day)]
    opening, total = a.opening_on_hand_units.copy(), 0.0
    for day in range(params.warm_up_days, tape.n_days):
        for row in range(a.demand_start[day], a.demand_start[day + 1]):
            sku, price = int(a.demand_sku[row]), float(a.unit_price[a.demand_sku[row]])
            cost = min((c for arrival, s, c in arrivals if s == sku and arrival <= day), default=np.inf)
            bought, opened = max(0.0, price - cost), max(0.0, price - float(a.opening_unit_cost[sku]))
            for _ in range(a.demand_units[row]):
                if opening[sku] > 0 and opened > bought:
                    opening[sku] -= 1
                    total += opened
                else:
                    total += bought
    return total
