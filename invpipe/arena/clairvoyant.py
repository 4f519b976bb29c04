r"""Upper bound on the profit any policy can earn on a tape: the shop is given foresight and freed of all rules but a few.

Let :math:`D_t` be the demand of a SKU on day t, p its price, w the warm-up, K the capital limit. In the relaxed shop a unit sold on day t
is either one of the :math:`q_0` opening units at their cost :math:`c_0`, or a bought unit at :math:`c_t`, the lowest cost of an offer
from which an order can have arrived by day t. For any price of capital :math:`\lambda \ge 0`

.. math:: B(\lambda) = \lambda K T + \sum_{\text{SKU}} \max_{0 \le x_t \le D_t, \sum x_t \le q_0} \sum_{t \ge w}
   x_t (p - c_0)^+ + (D_t - x_t) (p - c_t (1 + \lambda \ell))^+

bounds the profit of every policy for every valuation f of ending stock in [0, 1], with :math:`\ell` the SKU's shortest lead time in days
and T the days on which capital of counted sales can be bound. The bound is the lowest of the values tried, first of them
:math:`\lambda = 0`.

What is kept of the arena's rules, and why each sale is worth no more than above:

1. *Orders and lead times.* Orders are placed at the end of review days at the SKU's cheapest offer of that day, and arrive on day d plus
   the lead time drawn for (d, vendor), at least 1. So a unit bought at an offer that holds from review day d on is on the shelf on the
   earliest of d' + lead(d', vendor) over review days d' >= d at the soonest. Under one seed the lead times are known; without a seed a
   vendor whose lead time does not vary has its own, any other 1 day.
2. *Moving average cost.* Goods of one SKU are as if mixed: a sale takes from every lot in proportion. Every unit of every lot is taken
   once at most, so sales on day t cost what some fractions of lots on the shelf by then cost, and all sales together take at most
   :math:`q_0` units of the opening stock. As :math:`c_t` never rises with t, the opening units earn most on the earliest demand.
3. *Sales.* No more than :math:`D_t` units are sold on day t.
4. *Capital.* At the end of each day on which something is ordered, stock and open orders at cost are at most K; in between they only
   fall. So the bought part is at most K at the end of every day, and a bought unit that is sold counts with its cost on at least the
   :math:`\ell` days before its sale. Summed over the T days: cost x :math:`\ell` of all bought units sold is at most K T. By weak
   duality any :math:`\lambda \ge 0` gives a bound.

What is dropped, each of which can only raise the profit: packs, least orders and vendor minimums; that capital is also bound by opening
stock, by units on the shelf and by longer lead times; the day on which an offer ended; holding and inbound costs; the write-down of ending
stock and pipeline :math:`(1 - f)(\cdot) \ge 0`; and that what is on the shelf during the warm-up is sold. So as a rule no policy attains
it.

The engine lets orders exceed the capital by a share of 1e-9 (rounding); K is raised by as much.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.arena.engine import CAPITAL_TOLERANCE_FRAC, lead_days
from invpipe.arena.params import BacktestParams
from invpipe.arena.tape import Tape, TapeArrays

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Int8Array = npt.NDArray[np.int8]

#: Prices of capital tried by bisection; each is a bound, so few are enough.
N_CAPITAL_PRICES = 24
NONE = -1


@njit(cache=True, nogil=True)
def _cheapest(tape: TapeArrays, cost: FloatArray, live: Int8Array, sku: int) -> int:
    best = NONE
    for offer in range(tape.offer_start[sku], tape.offer_start[sku + 1]):
        if live[offer] == 1 and (best == NONE or cost[offer] < cost[best]):
            best = offer
    return best


@njit(cache=True, nogil=True)
def _bought_costs(
    tape: TapeArrays, cost: FloatArray, live: Int8Array, arrival: IntArray, review_period_days: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the events at which a lower cost of bought units reaches a shelf: first event per day, SKU, unit cost.

    `cost` and `live` are the offers' state, changed in place; `arrival[d, v]` is the soonest arrival of an order placed on day d or later.
    A cost is noted where it is below the lowest that has arrived by then: a dearer one may still arrive sooner than a cheap one on its way.
    """
    n_days, n_sku = len(tape.demand_start) - 1, len(tape.unit_price)
    lowest = np.full(n_sku, np.inf)  # that has arrived
    head = np.full(n_days, NONE, np.int64)
    event_sku, event_cost, link, count = np.empty(1024, np.int64), np.empty(1024), np.empty(1024, np.int64), 0
    touched, is_touched, n_touched = np.arange(n_sku), np.ones(n_sku, np.bool_), n_sku
    for day in range(n_days):
        event = head[day]
        while event != NONE:
            lowest[event_sku[event]] = min(lowest[event_sku[event]], event_cost[event])
            event = link[event]
        for row in range(tape.delta_start[day], tape.delta_start[day + 1]):
            offer = tape.delta_offer[row]
            if not np.isnan(tape.delta_unit_cost[row]):
                cost[offer] = tape.delta_unit_cost[row]
            if tape.delta_in_stock[row] >= 0:
                live[offer] = tape.delta_in_stock[row]
            sku = tape.offer_sku[offer]
            if not is_touched[sku]:
                is_touched[sku] = True
                touched[n_touched] = sku
                n_touched += 1
        if day % review_period_days != 0:
            continue
        for place in range(n_touched):
            sku = touched[place]
            is_touched[sku] = False
            offer = _cheapest(tape, cost, live, sku)
            if offer == NONE or cost[offer] >= lowest[sku]:
                continue
            soonest = arrival[day, tape.offer_vendor[offer]]
            if soonest >= n_days:
                continue
            if count == len(event_sku):
                event_sku = np.concatenate((event_sku, event_sku))
                event_cost = np.concatenate((event_cost, event_cost))
                link = np.concatenate((link, link))
            event_sku[count], event_cost[count], link[count] = sku, cost[offer], head[soonest]
            head[soonest] = count
            count += 1
        n_touched = 0
    start, skus, costs, at = np.zeros(n_days + 1, np.int64), np.empty(count, np.int64), np.empty(count), 0
    for day in range(n_days):
        event = head[day]
        while event != NONE:
            skus[at], costs[at] = event_sku[event], event_cost[event]
            at += 1
            event = link[event]
        start[day + 1] = at
    return start, skus, costs


@njit(cache=True, nogil=True)
def _walk(
    tape: TapeArrays,
    start: IntArray,
    skus: IntArray,
    costs: FloatArray,
    lead: IntArray,
    warm_up_days: int,
    capital_price: float,
) -> tuple[float, float]:
    """Return the profit of the relaxed shop at a price of capital, and the money times days it binds in bought units."""
    profit, money_days = 0.0, 0.0
    opening = tape.opening_on_hand_units.copy()
    lowest = np.full(len(tape.unit_price), np.inf)
    for day in range(len(tape.demand_start) - 1):
        for event in range(start[day], start[day + 1]):
            lowest[skus[event]] = min(lowest[skus[event]], costs[event])
        if day < warm_up_days:
            continue
        for row in range(tape.demand_start[day], tape.demand_start[day + 1]):
            sku, wanted = tape.demand_sku[row], np.int64(tape.demand_units[row])
            price = tape.unit_price[sku]
            bought = 0.0
            if lowest[sku] < np.inf:
                bought = max(0.0, price - lowest[sku] * (1.0 + capital_price * lead[sku]))
            opened = max(0.0, price - tape.opening_unit_cost[sku])
            if opened > bought:
                units = min(opening[sku], wanted)
                opening[sku] -= units
                wanted -= units
                profit += units * opened
            profit += wanted * bought
            if bought > 0.0:
                money_days += wanted * lowest[sku] * lead[sku]
    return profit, money_days


def _soonest_arrival(tape: Tape, review_period_days: int, seed: int | None) -> tuple[IntArray, IntArray]:
    """Return the soonest arrival of an order placed on day d or later, shape (n_days, n_vendor), and the shortest lead time per vendor."""
    a, n_days = tape.arrays, tape.n_days
    if seed is None:
        shortest = np.where(a.lead_time_days_sd == 0.0, np.maximum(np.rint(a.lead_time_days_mean), 1.0), 1.0).astype(np.int64)
        return np.arange(n_days)[:, None] + shortest[None, :], shortest
    lead = lead_days(tape, seed).astype(np.int64)
    ordered = np.arange(n_days) % review_period_days == 0
    arrival = np.where(ordered[:, None], np.arange(n_days)[:, None] + lead, 2 * n_days + int(lead.max(initial=1)))
    soonest = np.minimum.accumulate(arrival[::-1], axis=0)[::-1]
    return np.ascontiguousarray(soonest), lead[ordered].min(axis=0)


def _shortest_per_sku(tape: Tape, shortest: IntArray) -> IntArray:
    a = tape.arrays
    per_sku = np.full(len(tape.skus), np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(per_sku, a.offer_sku, shortest[a.offer_vendor])
    return np.where(per_sku == np.iinfo(np.int64).max, 0, per_sku)


def clairvoyant_bound(tape: Tape, params: BacktestParams, seed: int | None = None) -> float:
    """Return a bound on the profit of every policy over the KPI span, money; see the module docstring for the proof.

    Parameters
    ----------
    tape
        Recorded shop.
    params
        Warm-up, review period and capital limit count.
    seed
        Bound for the lead times of this seed; without it for those of every seed, which is higher.
    """
    a = tape.arrays
    arrival, shortest = _soonest_arrival(tape, params.review_period_days, seed)
    start, skus, costs = _bought_costs(
        a, a.opening_offer_unit_cost.copy(), a.opening_offer_in_stock.copy(), arrival, params.review_period_days
    )
    lead = _shortest_per_sku(tape, shortest)

    def walk(capital_price: float) -> tuple[float, float]:
        profit, money_days = _walk(a, start, skus, costs, lead, params.warm_up_days, capital_price)
        return float(profit), float(money_days)

    bound, money_days = walk(0.0)
    days = min(tape.n_days - 1, tape.n_days - 1 - params.warm_up_days + int(lead.max(initial=0)))
    limit = params.capital_limit * (1.0 + CAPITAL_TOLERANCE_FRAC) * days if days > 0 else 0.0
    if money_days <= limit:
        return bound
    low, high = 0.0, float((a.unit_price[skus] / costs).max(initial=0.0))  # at this price nothing is bought, as every lead is >= 1
    for _ in range(N_CAPITAL_PRICES):
        price = (low + high) / 2.0
        profit, money_days = walk(price)
        bound = min(bound, profit + price * limit)
        low, high = (price, high) if money_days > limit else (low, price)
    profit, _ = walk(high)
    return min(bound, profit + high * limit)
