r"""Kernel: the loops of a replay over preallocated arrays; the cost of a day grows with its events, never with the catalogue.

Order of a day: offer deltas, arrivals, sales against demand, censored-demand estimate, [decide, place orders], holding cost, snapshot.
:func:`advance` runs from the day after a decision up to the next decision, :func:`place` takes the orders, :func:`close_day` ends the day.

Definitions, per SKU, on day d:

- stock is valued at moving average cost: an arrival of q units at cost c moves the average to (n a + q c) / (n + q);
- sales s = min(demand, on hand), revenue = s p, cost of goods sold = s a;
- velocity: v_d = 2^{-1/H} v_{d-1} + (1 - 2^{-1/H}) x_d, with x_d the units sold or estimated lost; kept lazily as the value on the last
  day with x_d > 0 and decayed by a table of powers;
- a SKU that opens the day with nothing on hand (after arrivals) and is viewed lost an estimated views * conversion units, conversion =
  (units sold + prior units) / (views + prior views) over the days it opened with stock, up to and including d; the estimate moves the
  velocity, never revenue;
- holding cost of a day = rate * value of stock at its end. Per SKU it is charged per stretch of days on which its stock did not change.

Limits: one selling price per SKU; orders arrive whole; several orders of one SKU arriving on one day enter the average in order of
placement. The readable twin is ``invpipe_tests/oracles/arena.py``; both agree to the last bit, so every sum here runs in the order of the
events.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.arena.tape import TapeArrays

Int8Array = npt.NDArray[np.int8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

#: Columns of the daily snapshot, in order.
DAY_UNITS = (
    "demand_units", "sales_units", "lost_sales_units", "arrival_units", "on_hand_units", "on_order_units",
    "skus_out_of_stock_with_demand", "order_units", "order_lines", "refused_lines",
)  # fmt: skip
DAY_MONEY = (
    "revenue", "cogs", "holding_cost", "inbound_cost", "profit_at_cost", "inventory_value", "on_order_value", "arrival_value",
    "capital_available", "order_value", "lost_estimate_units",
)  # fmt: skip
DEMAND, SALES, LOST, ARRIVAL, ON_HAND, ON_ORDER, OUT_OF_STOCK, ORDERED, LINES, REFUSED = range(len(DAY_UNITS))
REVENUE, COGS, HOLDING, INBOUND, PROFIT, INVENTORY_VALUE, ON_ORDER_VALUE = range(7)
ARRIVAL_VALUE, CAPITAL, ORDER_VALUE, LOST_ESTIMATE = range(7, len(DAY_MONEY))

NO_ORDER = -1


class Law(NamedTuple):
    """Scalars of a run, from the backtest parameters."""

    capital_limit: float
    holding_frac_per_day: float
    inbound_cost_per_line: float
    warm_up_days: int
    velocity_gain: float
    prior_units: float
    prior_views: float


class State(NamedTuple):
    """Everything a replay changes; arrays per SKU unless named otherwise."""

    on_hand: Int64Array
    on_order: Int64Array
    average_cost: FloatArray
    velocity: FloatArray  # on velocity_day
    velocity_day: Int64Array
    decay: FloatArray  # decay[k] = 2 ** (-k / half life)
    last_sale_day: Int64Array
    conversion_units: Int64Array
    conversion_views: Int64Array
    offer_unit_cost: FloatArray  # per offer
    offer_in_stock: Int8Array  # per offer
    offer_min_order_units: Int32Array  # per offer
    offer_pack_units: Int32Array  # per offer
    best_offer: Int64Array  # cheapest in stock, -1 where none
    best_cost: FloatArray  # its unit cost, inf where none
    total_units: Int64Array  # (on hand, on order)
    total_value: FloatArray  # (inventory, on order)
    held_until: Int64Array
    sku_demand: Int64Array
    sku_sales: Int64Array
    sku_revenue: FloatArray
    sku_cogs: FloatArray
    sku_holding: FloatArray
    sku_inbound: FloatArray
    lead_days: Int32Array  # (day, vendor)
    arrival_head: Int64Array  # per day: first order that arrives, -1 for none
    arrival_tail: Int64Array
    vendor_value: FloatArray  # per vendor, scratch of place()
    day_units: Int64Array  # (day, DAY_UNITS)
    day_money: FloatArray  # (day, DAY_MONEY)


class OrderLog(NamedTuple):
    """Orders placed so far, in order of placement; `next` links the orders that arrive on the same day."""

    day: Int32Array
    sku: Int32Array
    vendor: Int32Array
    units: Int64Array
    unit_cost: FloatArray
    arrival_day: Int32Array
    next: Int64Array

    @classmethod
    def empty(cls, capacity: int) -> OrderLog:
        """Return a log with room for `capacity` orders."""
        i4, i8 = np.int32, np.int64
        types: list[type[np.generic]] = [i4, i4, i4, i8, np.float64, i4, i8]
        columns: list[Any] = [np.full(capacity, -1, dtype=t) for t in types]
        return cls(*columns)

    def grown(self, n_orders: int, capacity: int) -> OrderLog:
        """Return a log with room for `capacity` orders and the first `n_orders` of this one."""
        out = OrderLog.empty(capacity)
        columns: list[tuple[Any, Any]] = list(zip(out, self, strict=True))
        for new, old in columns:
            new[:n_orders] = old[:n_orders]
        return out


@njit(cache=True, nogil=True)
def _scan_offers(tape: TapeArrays, state: State, sku: int) -> None:
    """Set the cheapest in-stock offer of a SKU from all its offers; ties go to the lowest offer index."""
    best, cost = -1, np.inf
    for offer in range(tape.offer_start[sku], tape.offer_start[sku + 1]):
        if state.offer_in_stock[offer] == 1 and state.offer_unit_cost[offer] < cost:
            best, cost = offer, state.offer_unit_cost[offer]
    state.best_offer[sku] = best
    state.best_cost[sku] = cost


@njit(cache=True, nogil=True)
def start_run(tape: TapeArrays, state: State, law: Law) -> None:
    """Fill the state on the eve of day 0: stock value, velocity of the prior sales, cheapest offers."""
    for sku in range(len(tape.unit_price)):
        state.total_units[0] += state.on_hand[sku]
        state.total_value[0] += state.on_hand[sku] * state.average_cost[sku]
        _scan_offers(tape, state, sku)
    for row in range(len(tape.prior_sales_sku)):
        _move_velocity(state, law, tape.prior_sales_sku[row], -tape.prior_sales_age_days[row], float(tape.prior_sales_units[row]))


@njit(cache=True, nogil=True)
def _move_velocity(state: State, law: Law, sku: int, day: int, units: float) -> None:
    age = day - state.velocity_day[sku]
    state.velocity[sku] = state.velocity[sku] * state.decay[age] + law.velocity_gain * units
    state.velocity_day[sku] = day


@njit(cache=True, nogil=True)
def _charge_holding(state: State, law: Law, sku: int, day: int) -> None:
    """Charge the holding cost of the days before `day` since the stock of the SKU last changed."""
    days = day - state.held_until[sku]
    if days > 0:
        state.sku_holding[sku] += law.holding_frac_per_day * (state.on_hand[sku] * state.average_cost[sku]) * days
        state.held_until[sku] = day


@njit(cache=True, nogil=True)
def _start_counting(state: State, law: Law, day: int) -> None:
    """End the warm-up: totals per SKU start at zero on `day`."""
    for sku in range(len(state.on_hand)):
        state.held_until[sku] = day
        state.sku_demand[sku] = 0
        state.sku_sales[sku] = 0
        state.sku_revenue[sku] = 0.0
        state.sku_cogs[sku] = 0.0
        state.sku_holding[sku] = 0.0
        state.sku_inbound[sku] = 0.0


@njit(cache=True, nogil=True)
def _apply_deltas(tape: TapeArrays, state: State, day: int) -> None:
    for row in range(tape.delta_start[day], tape.delta_start[day + 1]):
        offer = tape.delta_offer[row]
        if not np.isnan(tape.delta_unit_cost[row]):
            state.offer_unit_cost[offer] = tape.delta_unit_cost[row]
        if tape.delta_in_stock[row] >= 0:
            state.offer_in_stock[offer] = tape.delta_in_stock[row]
        if tape.delta_min_order_units[row] > 0:
            state.offer_min_order_units[offer] = tape.delta_min_order_units[row]
        if tape.delta_pack_units[row] > 0:
            state.offer_pack_units[offer] = tape.delta_pack_units[row]
        sku = tape.offer_sku[offer]
        best = state.best_offer[sku]
        cost = state.offer_unit_cost[offer] if state.offer_in_stock[offer] == 1 else np.inf
        if offer == best:
            if cost > state.best_cost[sku]:
                _scan_offers(tape, state, sku)
            else:
                state.best_cost[sku] = cost
        elif cost < state.best_cost[sku] or (cost == state.best_cost[sku] and cost < np.inf and offer < best):
            state.best_offer[sku] = offer
            state.best_cost[sku] = cost


@njit(cache=True, nogil=True)
def _receive(state: State, log: OrderLog, law: Law, day: int) -> None:
    order = state.arrival_head[day]
    while order != NO_ORDER:
        sku, units, cost = log.sku[order], log.units[order], log.unit_cost[order]
        _charge_holding(state, law, sku, day)
        before = state.on_hand[sku]
        value = units * cost
        state.average_cost[sku] = (before * state.average_cost[sku] + value) / (before + units)
        state.on_hand[sku] = before + units
        state.on_order[sku] -= units
        state.total_units[0] += units
        state.total_units[1] -= units
        state.total_value[0] += value
        state.total_value[1] -= value
        state.day_units[day, ARRIVAL] += units
        state.day_money[day, ARRIVAL_VALUE] += value
        order = log.next[order]


@njit(cache=True, nogil=True)
def _sell(tape: TapeArrays, state: State, law: Law, day: int) -> None:
    for row in range(tape.demand_start[day], tape.demand_start[day + 1]):
        sku, wanted = tape.demand_sku[row], np.int64(tape.demand_units[row])
        state.sku_demand[sku] += wanted
        state.day_units[day, DEMAND] += wanted
        sold = min(wanted, state.on_hand[sku])
        if sold < wanted:
            state.day_units[day, LOST] += wanted - sold
            state.day_units[day, OUT_OF_STOCK] += 1
        if sold == 0:
            continue
        _charge_holding(state, law, sku, day)
        revenue = sold * tape.unit_price[sku]
        cogs = sold * state.average_cost[sku]
        state.on_hand[sku] -= sold
        state.last_sale_day[sku] = day
        state.conversion_units[sku] += sold
        _move_velocity(state, law, sku, day, float(sold))
        state.sku_sales[sku] += sold
        state.sku_revenue[sku] += revenue
        state.sku_cogs[sku] += cogs
        state.total_units[0] -= sold
        state.total_value[0] -= cogs
        state.day_units[day, SALES] += sold
        state.day_money[day, REVENUE] += revenue
        state.day_money[day, COGS] += cogs


@njit(cache=True, nogil=True)
def _estimate_lost(tape: TapeArrays, state: State, law: Law, day: int) -> None:
    for row in range(tape.views_start[day], tape.views_start[day + 1]):
        sku, views = tape.views_sku[row], tape.views[row]
        # nothing on hand now and nothing sold today: the SKU opened empty
        if state.on_hand[sku] > 0 or state.last_sale_day[sku] == day:
            state.conversion_views[sku] += views
            continue
        weight = state.conversion_views[sku] + law.prior_views
        if weight > 0:
            lost = views * ((state.conversion_units[sku] + law.prior_units) / weight)
            _move_velocity(state, law, sku, day, lost)
            state.day_money[day, LOST_ESTIMATE] += lost


@njit(cache=True, nogil=True)
def capital_available(state: State, law: Law) -> float:
    """Return the money left under the limit: max(0, limit - inventory value - value on order)."""
    free: float = law.capital_limit - state.total_value[0] - state.total_value[1]
    return max(0.0, free)


@njit(cache=True, nogil=True)
def close_day(state: State, law: Law, day: int) -> None:
    """Charge the day's holding cost and take its snapshot."""
    money, units = state.day_money[day], state.day_units[day]
    money[HOLDING] = law.holding_frac_per_day * state.total_value[0]
    money[PROFIT] = money[REVENUE] - money[COGS] - money[HOLDING] - money[INBOUND]
    money[INVENTORY_VALUE] = state.total_value[0]
    money[ON_ORDER_VALUE] = state.total_value[1]
    money[CAPITAL] = capital_available(state, law)
    units[ON_HAND] = state.total_units[0]
    units[ON_ORDER] = state.total_units[1]


@njit(cache=True, nogil=True)
def advance(tape: TapeArrays, state: State, log: OrderLog, law: Law, first: int, last: int) -> None:
    """Replay the days first .. last; the last one stays open for the decision."""
    for day in range(first, last + 1):
        if day == law.warm_up_days:
            _start_counting(state, law, day)
        state.day_units[day] = 0
        state.day_money[day] = 0.0
        _apply_deltas(tape, state, day)
        _receive(state, log, law, day)
        _sell(tape, state, law, day)
        _estimate_lost(tape, state, law, day)
        if day < last:
            close_day(state, law, day)


@njit(cache=True, nogil=True)
def place(
    tape: TapeArrays, state: State, log: OrderLog, law: Law, n_orders: int, day: int, sku_index: Int64Array, order_units: Int64Array
) -> int:
    """Place the lines at each SKU's cheapest offer; refuse the lines of a vendor whose total stays below its minimum.

    Returns the number of orders in the log, which must have room for all lines.
    """
    vendor_value = state.vendor_value
    vendor_value[:] = 0.0
    for line in range(len(sku_index)):
        sku = sku_index[line]
        vendor_value[tape.offer_vendor[state.best_offer[sku]]] += order_units[line] * state.best_cost[sku]
    for line in range(len(sku_index)):
        sku, units = sku_index[line], order_units[line]
        vendor, cost = tape.offer_vendor[state.best_offer[sku]], state.best_cost[sku]
        if vendor_value[vendor] < tape.min_order_value[vendor]:
            state.day_units[day, REFUSED] += 1
            continue
        value = units * cost
        arrival = day + state.lead_days[day, vendor]
        log.day[n_orders] = day
        log.sku[n_orders] = sku
        log.vendor[n_orders] = vendor
        log.units[n_orders] = units
        log.unit_cost[n_orders] = cost
        log.arrival_day[n_orders] = arrival
        log.next[n_orders] = NO_ORDER
        if arrival < len(state.arrival_head):
            if state.arrival_head[arrival] == NO_ORDER:
                state.arrival_head[arrival] = n_orders
            else:
                log.next[state.arrival_tail[arrival]] = n_orders
            state.arrival_tail[arrival] = n_orders
        n_orders += 1
        state.on_order[sku] += units
        state.total_units[1] += units
        state.total_value[1] += value
        state.sku_inbound[sku] += law.inbound_cost_per_line
        state.day_units[day, LINES] += 1
        state.day_units[day, ORDERED] += units
        state.day_money[day, ORDER_VALUE] += value
        state.day_money[day, INBOUND] += law.inbound_cost_per_line
    return n_orders


@njit(cache=True, nogil=True)
def finish_run(state: State, law: Law, n_days: int) -> None:
    """Charge the holding cost per SKU up to the end of the tape."""
    for sku in range(len(state.on_hand)):
        _charge_holding(state, law, sku, n_days)


@njit(cache=True, nogil=True)
def velocity_now(state: State, day: int) -> FloatArray:
    """Return the velocity per SKU at the end of `day`, units per day."""
    out = np.full(len(state.velocity), np.nan)
    for sku in range(len(out)):
        out[sku] = state.velocity[sku] * state.decay[day - state.velocity_day[sku]]
    return out
