r"""Kernel: the loops of a replay over preallocated arrays; the cost of a day grows with its events, never with the catalogue.

Order of a day: offer deltas, arrivals, censored-demand estimate, sales against demand, [decide, place orders], holding cost, snapshot.
:func:`advance` runs from the day after a decision up to the next decision, :func:`place` takes the orders, :func:`close_day` ends the day.

Definitions, per SKU, on day d:

- stock is valued at moving average cost: an arrival of q units at cost c moves the average to (n a + q c) / (n + q);
- sales s = min(demand, on hand), revenue = s p, cost of goods sold = s a;
- velocity: v_d = 2^{-1/H} v_{d-1} + (1 - 2^{-1/H}) x_d, with x_d the units sold or estimated lost; kept as u = 2^{(d - e) / H} v_d, which
  changes only on days with x_d > 0. The day e is that of all SKUs, so that a scan needs no date to compare velocities; it is moved before
  the powers leave the range of floats;
- a SKU that opens the day with nothing on hand (after arrivals) and is viewed lost an estimated views * conversion units, conversion =
  (units sold + prior units) / (views + prior views) over the days it opened with stock, up to and including d; the estimate moves the
  velocity, never revenue;
- holding cost of a day = rate * value of stock at its end. Per SKU it is charged per stretch of days on which its stock did not change.

Helpers that are inlined into a loop take the arrays they touch, not the whole state: for a tuple of arrays the compiler may count
references of each array at every turn, which made :func:`place` four times as slow. For the same reason loops take the arrays they touch
out of the state first. What indexes an array in a loop is unsigned: a signed index may count from the end, which every access has to ask;
that made the views of a day half as dear again.

Limits: one selling price per SKU; orders arrive whole; several orders of one SKU arriving on one day enter the average in order of
placement. The readable twin is ``invpipe_tests/oracles/arena.py``; both agree to the last bit but for the rounding of
velocities, so every sum here runs in the order of the events.
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

#: Columns of the book, in order. A SKU's row is a cache line, so that a sale touches one instead of eight arrays; counts are whole numbers
#: in floats, exact to 2^53. What page views or a scan of the catalogue touch lies apart, in arrays of their own that stay in the cache.
BOOK = ("average_cost", "revenue", "cogs", "holding_cost", "unit_price", "conversion_units", "demand_units", "held_until")
AVERAGE_COST, SKU_REVENUE, SKU_COGS, SKU_HOLDING, UNIT_PRICE, CONVERSION_UNITS, SKU_DEMAND, HELD_UNTIL = range(len(BOOK))

NO_ORDER = -1

#: Velocities are put in units of another day after so many half-lives; 2^1024 is no float.
MAX_HALF_LIVES = 500

#: Unsigned index of a SKU, offer, vendor or order; and that of an event, of which a tape may have more.
Row, Event = np.uint32, np.uint64
Index = int | np.uint32


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
    velocity: FloatArray  # in units of velocity_day
    velocity_day: Int64Array  # (1,)
    velocity_now: FloatArray  # buffer of velocity_now()
    growth: FloatArray  # growth[k] = 2 ** (k / half life)
    conversion_views: Int64Array
    book: FloatArray  # (sku, BOOK)
    conversion_start: FloatArray  # conversion_units where counting began
    inbound_cost: FloatArray
    offer_cost: FloatArray  # per offer: its unit cost, inf where not known, with a minus sign where the vendor has no stock
    offer_min_order_units: Int32Array  # per offer
    offer_pack_units: Int32Array  # per offer
    best_offer: Int32Array  # cheapest in stock, -1 where none; 32 bits, because deltas wait for its bytes
    best_cost: FloatArray  # its unit cost, inf where none
    total_units: Int64Array  # (on hand, on order)
    total_value: FloatArray  # (inventory, on order)
    lead_days: Int32Array  # (day, vendor)
    arrival_head: Int64Array  # per day: first order that arrives, -1 for none
    arrival_tail: Int64Array
    vendor_value: FloatArray  # per vendor, scratch of place()
    ordered_on: Int64Array  # day of the last order, scratch of lines_are_allowed()
    noted: Int64Array  # rows or SKUs of one day to come back to, scratch
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
        columns: list[Any] = [np.empty(capacity, dtype=t) for t in types]  # never read behind the orders placed
        return cls(*columns)

    def grown(self, n_orders: int, capacity: int) -> OrderLog:
        """Return a log with room for `capacity` orders and the first `n_orders` of this one."""
        out = OrderLog.empty(capacity)
        columns: list[tuple[Any, Any]] = list(zip(out, self, strict=True))
        for new, old in columns:
            new[:n_orders] = old[:n_orders]
        return out


@njit(cache=True, nogil=True, inline="always")
def _scan_offers(offer_start: Int64Array, offer_cost: FloatArray, best_offer: Int32Array, best_cost: FloatArray, sku: Index) -> None:
    """Set the cheapest in-stock offer of a SKU from all its offers; ties go to the lowest offer index."""
    best, cost = np.int32(-1), np.inf
    for offer in range(Row(offer_start[sku]), Row(offer_start[Row(sku + 1)])):
        cheaper = (offer_cost[offer] > 0.0) & (offer_cost[offer] < cost)
        best, cost = (np.int32(offer), offer_cost[offer]) if cheaper else (best, cost)
    best_offer[sku] = best
    best_cost[sku] = cost


@njit(cache=True, nogil=True)
def start_run(tape: TapeArrays, state: State, law: Law) -> None:
    """Fill the state on the eve of day 0: stock value, velocity of the prior sales, cheapest offers."""
    for sku in range(len(tape.unit_price)):
        state.total_units[0] += state.on_hand[sku]
        state.total_value[0] += state.on_hand[sku] * state.book[sku, AVERAGE_COST]
        _scan_offers(tape.offer_start, state.offer_cost, state.best_offer, state.best_cost, Row(sku))
    for row in range(len(tape.prior_sales_sku)):
        step = _velocity_step(state, law, -tape.prior_sales_age_days[row])  # may rescale what the next line reads
        state.velocity[tape.prior_sales_sku[row]] += step * tape.prior_sales_units[row]


@njit(cache=True, nogil=True)
def _rescale_velocities(state: State, day: int) -> None:
    """Put all velocities in units of `day`."""
    decay = state.growth[1] ** -float(day - state.velocity_day[0])
    for sku in range(len(state.velocity)):
        state.velocity[sku] *= decay
    state.velocity_day[0] = day


@njit(cache=True, nogil=True)
def _velocity_step(state: State, law: Law, day: int) -> float:
    """Return what a unit of `day` adds to a velocity as it is kept."""
    if day - state.velocity_day[0] >= len(state.growth):
        _rescale_velocities(state, day)
    step: float = law.velocity_gain * state.growth[day - state.velocity_day[0]]
    return step


@njit(cache=True, nogil=True, inline="always")
def _charge_holding(book: FloatArray, on_hand: Int64Array, holding_frac_per_day: float, sku: Index, day: int) -> None:
    """Charge the holding cost of the days before `day` since the stock of the SKU last changed."""
    days = day - book[sku, HELD_UNTIL]
    if days > 0.0:
        book[sku, SKU_HOLDING] += holding_frac_per_day * (on_hand[sku] * book[sku, AVERAGE_COST]) * days
        book[sku, HELD_UNTIL] = day


@njit(cache=True, nogil=True)
def _start_counting(state: State, day: int) -> None:
    """End the warm-up: totals per SKU start at zero on `day`."""
    for sku in range(len(state.on_hand)):
        state.book[sku, HELD_UNTIL] = day
        state.conversion_start[sku] = state.book[sku, CONVERSION_UNITS]
        state.inbound_cost[sku] = 0.0
        for column in (SKU_REVENUE, SKU_COGS, SKU_HOLDING, SKU_DEMAND):
            state.book[sku, column] = 0.0


@njit(cache=True, nogil=True)
def _apply_deltas(tape: TapeArrays, state: State, day: int) -> None:
    """Change the offers, and each SKU's cheapest one with them.

    Which delta hits the cheapest offer cannot be guessed, so the loop selects instead of branching; the SKUs whose cheapest offer got
    dearer are noted and scanned at the end, when all offers are those of the day.
    """
    offer_cost, best_offer, best_cost = state.offer_cost, state.best_offer, state.best_cost
    offers, costs, stocks, offer_sku = tape.delta_offer, tape.delta_unit_cost, tape.delta_in_stock, tape.offer_sku
    minima, packs = tape.delta_min_order_units, tape.delta_pack_units
    dearer, noted = Row(0), state.noted
    for row in range(Event(tape.delta_start[day]), Event(tape.delta_start[day + 1])):
        offer, stated, flag = Row(offers[row]), costs[row], stocks[row]
        before = offer_cost[offer]
        price = abs(before) if np.isnan(stated) else stated
        out = (flag == 0) | ((flag < 0) & (before < 0.0))
        offer_cost[offer] = -price if out else price
        if minima[row] > 0:
            state.offer_min_order_units[offer] = minima[row]
        if packs[row] > 0:
            state.offer_pack_units[offer] = packs[row]
        sku = Row(offer_sku[offer])
        best, least = best_offer[sku], best_cost[sku]
        cost = np.inf if out else price
        noted[dearer] = sku
        dearer = Row(dearer + ((offer == best) & (cost > least)))
        wins = (cost < least) | ((cost == least) & (cost < np.inf) & (offer < best))
        best_offer[sku] = offer if wins else best
        best_cost[sku] = cost if wins else least
    for place in range(dearer):
        _scan_offers(tape.offer_start, offer_cost, best_offer, best_cost, Row(noted[place]))


@njit(cache=True, nogil=True)
def _receive(state: State, log: OrderLog, law: Law, day: int) -> None:
    """Put the orders that arrive today on the shelf, in order of placement; visits no other order."""
    book, on_hand, order = state.book, state.on_hand, state.arrival_head[day]
    while order != NO_ORDER:
        sku, units, cost = log.sku[order], log.units[order], log.unit_cost[order]
        _charge_holding(book, on_hand, law.holding_frac_per_day, sku, day)
        before = on_hand[sku]
        value = units * cost
        book[sku, AVERAGE_COST] = (before * book[sku, AVERAGE_COST] + value) / (before + units)
        on_hand[sku] = before + units
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
    """Serve the day's demand from the shelf; sums run in local variables, in the order of the events.

    As with the views, a first pass without branches notes the rows that find something on the shelf.
    """
    demand, sales, short = np.int64(0), np.int64(0), np.int64(0)
    day_revenue, day_cogs, inventory = 0.0, 0.0, state.total_value[0]
    skus, units_wanted, on_hand, book = tape.demand_sku, tape.demand_units, state.on_hand, state.book
    velocity, step = state.velocity, _velocity_step(state, law, day)
    served, noted = Row(0), state.noted
    for row in range(Event(tape.demand_start[day]), Event(tape.demand_start[day + 1])):
        sku, wanted = Row(skus[row]), np.int64(units_wanted[row])
        book[sku, SKU_DEMAND] += wanted
        demand += wanted
        short += on_hand[sku] < wanted
        noted[served] = row
        served = Row(served + (on_hand[sku] > 0))
    for place in range(served):
        event = Event(noted[place])
        sku = Row(skus[event])
        sold = min(np.int64(units_wanted[event]), on_hand[sku])
        _charge_holding(book, on_hand, law.holding_frac_per_day, sku, day)
        revenue = sold * book[sku, UNIT_PRICE]
        cogs = sold * book[sku, AVERAGE_COST]
        on_hand[sku] -= sold
        book[sku, CONVERSION_UNITS] += sold
        book[sku, SKU_REVENUE] += revenue
        book[sku, SKU_COGS] += cogs
        velocity[sku] += step * sold
        sales += sold
        day_revenue += revenue
        day_cogs += cogs
        inventory -= cogs
    state.total_units[0] -= sales
    state.total_value[0] = inventory
    units, money = state.day_units[day], state.day_money[day]
    units[DEMAND], units[SALES], units[LOST], units[OUT_OF_STOCK] = demand, sales, demand - sales, short
    money[REVENUE], money[COGS] = day_revenue, day_cogs


@njit(cache=True, nogil=True)
def _estimate_lost(tape: TapeArrays, state: State, law: Law, day: int) -> None:
    """Count the views of SKUs that open with stock; move the velocity of the others that are looked at.

    Runs before the sales, while the shelf is as the day found it; a SKU that opens empty sells nothing all day, so its conversion is that
    of the days before. A first pass without branches, as which shelf is empty cannot be guessed, notes the rows of the second.
    """
    total, empty, noted = 0.0, Row(0), state.noted
    skus, seen = tape.views_sku, tape.views
    on_hand, conversion_views, book = state.on_hand, state.conversion_views, state.book
    velocity, step = state.velocity, _velocity_step(state, law, day)
    for row in range(Event(tape.views_start[day]), Event(tape.views_start[day + 1])):
        sku = Row(skus[row])
        opens_empty = on_hand[sku] == 0
        conversion_views[sku] += 0 if opens_empty else seen[row]
        noted[empty] = row
        empty = Row(empty + opens_empty)
    for place in range(empty):
        sku, views = Row(skus[Event(noted[place])]), seen[Event(noted[place])]
        weight = conversion_views[sku] + law.prior_views
        if weight > 0:
            lost = views * ((book[sku, CONVERSION_UNITS] + law.prior_units) / weight)
            velocity[sku] += step * lost
            total += lost
    state.day_money[day, LOST_ESTIMATE] = total


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
            _start_counting(state, day)
        state.day_units[day] = 0
        state.day_money[day] = 0.0
        _apply_deltas(tape, state, day)
        _receive(state, log, law, day)
        _estimate_lost(tape, state, law, day)
        _sell(tape, state, law, day)
        if day < last:
            close_day(state, law, day)


@njit(cache=True, nogil=True)
def lines_are_allowed(
    tape: TapeArrays, state: State, day: int, sku_index: Int64Array, order_units: Int64Array, capital_bound: float
) -> bool:
    """Return whether every line keeps the rules of orders: known SKU, once, whole packs from the minimum on, within the capital."""
    value = 0.0
    for line in range(len(sku_index)):
        sku, units = sku_index[line], order_units[line]
        if sku < 0 or sku >= len(state.on_hand) or state.ordered_on[sku] == day or units <= 0:
            return False
        state.ordered_on[sku] = day
        offer = state.best_offer[sku]
        if offer < 0 or units < state.offer_min_order_units[offer] or units % state.offer_pack_units[offer] != 0:
            return False
        value += units * state.best_cost[sku]
    return value <= capital_bound


@njit(cache=True, nogil=True, inline="always")
def _await_arrival(head: Int64Array, tail: Int64Array, following: Int64Array, order: int, arrival: int) -> None:
    """Append an order to those that arrive on its day; one that arrives after the tape waits for nothing."""
    following[order] = NO_ORDER
    if arrival < len(head):
        if head[arrival] == NO_ORDER:
            head[arrival] = order
        else:
            following[tail[arrival]] = order
        tail[arrival] = order


@njit(cache=True, nogil=True)
def place(
    tape: TapeArrays, state: State, log: OrderLog, law: Law, n_orders: int, day: int, sku_index: Int64Array, order_units: Int64Array
) -> int:
    """Place the lines at each SKU's cheapest offer; refuse the lines of a vendor whose total stays below its minimum.

    Returns the number of orders in the log, which must have room for all lines.
    """
    vendor_value, best_offer, best_cost, offer_vendor = state.vendor_value, state.best_offer, state.best_cost, tape.offer_vendor
    vendor_value[:] = 0.0
    for line in range(Row(len(sku_index))):
        sku = Row(sku_index[line])
        vendor_value[Row(offer_vendor[Row(best_offer[sku])])] += order_units[line] * best_cost[sku]
    on_order, inbound_cost, lead_days, least = state.on_order, state.inbound_cost, state.lead_days[day], tape.min_order_value
    first, ordered, on_order_value, day_value, inbound = n_orders, np.int64(0), state.total_value[1], 0.0, 0.0
    for line in range(Row(len(sku_index))):
        sku, units = Row(sku_index[line]), order_units[line]
        vendor, cost = Row(offer_vendor[Row(best_offer[sku])]), best_cost[sku]
        if vendor_value[vendor] < least[vendor]:
            state.day_units[day, REFUSED] += 1
            continue
        value, order = units * cost, Row(n_orders)
        arrival = day + lead_days[vendor]
        log.day[order] = day
        log.sku[order] = sku
        log.vendor[order] = vendor
        log.units[order] = units
        log.unit_cost[order] = cost
        log.arrival_day[order] = arrival
        _await_arrival(state.arrival_head, state.arrival_tail, log.next, n_orders, arrival)
        n_orders += 1
        on_order[sku] += units
        inbound_cost[sku] += law.inbound_cost_per_line
        ordered += units
        on_order_value += value
        day_value += value
        inbound += law.inbound_cost_per_line
    state.total_units[1] += ordered
    state.total_value[1] = on_order_value
    units_of_day, money_of_day = state.day_units[day], state.day_money[day]
    units_of_day[LINES], units_of_day[ORDERED] = n_orders - first, ordered
    money_of_day[ORDER_VALUE], money_of_day[INBOUND] = day_value, inbound
    return n_orders


@njit(cache=True, nogil=True)
def drop_arrived(state: State, log: OrderLog, n_orders: int, day: int) -> int:
    """Move the orders that arrive after `day` to the front of the log, in their order; returns how many they are.

    For runs whose orders nobody reads: the log then holds what is on the way, instead of all orders of years.
    """
    state.arrival_head[day + 1 :] = NO_ORDER
    state.arrival_tail[day + 1 :] = NO_ORDER
    kept = 0
    for order in range(n_orders):
        arrival = log.arrival_day[order]
        if arrival <= day:
            continue
        log.day[kept] = log.day[order]
        log.sku[kept] = log.sku[order]
        log.vendor[kept] = log.vendor[order]
        log.units[kept] = log.units[order]
        log.unit_cost[kept] = log.unit_cost[order]
        log.arrival_day[kept] = arrival
        _await_arrival(state.arrival_head, state.arrival_tail, log.next, kept, arrival)
        kept += 1
    return kept


@njit(cache=True, nogil=True)
def finish_run(state: State, law: Law, n_days: int) -> None:
    """Charge the holding cost per SKU up to the end of the tape."""
    for sku in range(len(state.on_hand)):
        _charge_holding(state.book, state.on_hand, law.holding_frac_per_day, sku, n_days)


@njit(cache=True, nogil=True)
def velocity_now(state: State, day: int) -> FloatArray:
    """Return the velocity per SKU at the end of `day`, units per day, in a buffer that the next call fills again."""
    out, velocity, decay = state.velocity_now, state.velocity, velocity_decay(state, day)
    for sku in range(len(out)):
        out[sku] = velocity[sku] * decay
    return out


@njit(cache=True, nogil=True)
def velocity_decay(state: State, day: int) -> float:
    """Return what a velocity as it is kept is multiplied by to be that at the end of `day`."""
    decay: float = 1.0 / state.growth[day - state.velocity_day[0]]
    return decay
