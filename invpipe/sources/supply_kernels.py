"""Compiled loops of the simulated supply: random draws, offers, stock replay, page views, orderable spans.

Every random number is a hash of (key of the SKU or offer, stream, day), not the next value of a generator:

    u(key, stream, day) = mix64(key ^ mix64(stream * 2**32 + day)) / 2**64

So the draws of a SKU depend neither on the other SKUs of the shop, nor on how its days are cut into chunks, nor on threads.

Arrays are indexed [SKU] or [SKU, day of the chunk]; the offers of SKU s are the rows ``offer_start[s]:offer_start[s + 1]``. Days are
counted from the first day of the shop; ``day0`` is the first day of the chunk. Arrays named as state are modified in place, so that
the next chunk goes on where this one ended.

All compiled functions live in this one module because numba's cache notices changes only of the module a function stands in.

Source: counter-based generators, Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3"; the mixer is that of
SplitMix64, Steele, Lea and Flood (2014), "Fast splittable pseudorandom number generators".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
KeyArray = npt.NDArray[np.uint64]

#: Days of sales the legacy policy looks back on.
TRAILING_DAYS = 28
#: Slots of the ring of arrivals; a lead time is cut at one less.
ARRIVAL_SLOTS = 32
#: Share of a unit's leading page views that fall 0, 1, ..., 5 days before it is wanted.
VIEW_LEAD_WEIGHTS = np.array([0.35, 0.20, 0.15, 0.12, 0.10, 0.08])
#: Above this mean a Poisson draw is a rounded normal one: the search from 0 would take longer than it is worth.
POISSON_SEARCH_MAX = 30.0
#: Bounds of an offer's unit cost as a share of the list price, and the step of its random walk.
COST_FRAC_MIN, COST_FRAC_MAX, COST_FRAC_STEP = 0.45, 0.80, 0.02

# One stream per use; two uses of one stream at the same (key, day) would be the same number.
COST_CHANGE, COST_STEP, STOCK_TOGGLE, EVENT_TIME, LEAD_TIME, VIEWS, DEMAND, RATE_SHOCK, PAST_SALES, FIRST_STOCK = range(1, 11)
VENDOR_COUNT, VENDOR_TURN, COST_LEVEL, PACK, VIEW_RATE, BACKGROUND = range(11, 17)


class OfferEvents(NamedTuple):
    """Changes of offers within a chunk; events of offer o are the rows ``start[o]:start[o + 1]``."""

    start: IntArray
    day: IntArray
    unit_cost: FloatArray
    in_stock: BoolArray


class SkuTerms(NamedTuple):
    """What the replay knows of each SKU and of its offers."""

    key: KeyArray
    launch_day: IntArray
    launch_units: IntArray
    offer_start: IntArray
    offer_vendor: IntArray
    min_order_units: IntArray
    pack_units: IntArray


class StockState(NamedTuple):
    """State of the stock replay at the end of a day."""

    on_hand: IntArray
    on_order: IntArray
    arriving: Int32Array
    sold: Int32Array
    seen_cost: FloatArray
    seen_in_stock: BoolArray


@njit(cache=True, nogil=True)
def mix64(x: np.uint64) -> np.uint64:
    """Scramble 64 bits (the SplitMix64 finaliser)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _bits(key: np.uint64, stream: int, day: int) -> np.uint64:
    return mix64(key ^ mix64((np.uint64(stream) << np.uint64(32)) + np.uint64(day)))


@njit(cache=True, nogil=True)
def _to_unit(bits: np.uint64) -> float:
    """Turn 64 random bits into a number in (0, 1)."""
    return (np.float64(bits >> np.uint64(11)) + 0.5) * 2.0**-53


@njit(cache=True, nogil=True)
def uniform(key: np.uint64, stream: int, day: int) -> float:
    """Draw from the uniform law on (0, 1)."""
    return _to_unit(_bits(key, stream, day))


@njit(cache=True, nogil=True)
def normal(key: np.uint64, stream: int, day: int) -> float:
    """Draw from the standard normal law (Box and Muller, 1958)."""
    bits = _bits(key, stream, day)
    return math.sqrt(-2.0 * math.log(_to_unit(bits))) * math.cos(2.0 * math.pi * _to_unit(mix64(bits)))


@njit(cache=True, nogil=True)
def poisson(mean: float, key: np.uint64, stream: int, day: int) -> int:
    """Draw a Poisson count: search from 0 for small means, a rounded normal above ``POISSON_SEARCH_MAX``."""
    if mean <= 0.0:
        return 0
    if mean > POISSON_SEARCH_MAX:
        return max(0, round(mean + math.sqrt(mean) * normal(key, stream, day)))
    left = uniform(key, stream, day)
    probability = math.exp(-mean)
    count = 0
    while left > probability and probability > 0.0:
        left -= probability
        count += 1
        probability *= mean / count
    return count


@njit(cache=True, nogil=True)
def uniforms(key: KeyArray, stream: int) -> FloatArray:
    """Draw one uniform number per key."""
    out = np.empty(key.size)
    for i in range(key.size):
        out[i] = uniform(key[i], stream, 0)
    return out


@njit(cache=True, nogil=True)
def normals(key: KeyArray, stream: int) -> FloatArray:
    """Draw one standard normal number per key."""
    out = np.empty(key.size)
    for i in range(key.size):
        out[i] = normal(key[i], stream, 0)
    return out


@njit(cache=True, nogil=True)
def offer_keys(sku_key: KeyArray, vendor: IntArray) -> KeyArray:
    """Derive the key of each offer from that of its SKU and its vendor's number."""
    out = np.empty(sku_key.size, dtype=np.uint64)
    for i in range(sku_key.size):
        out[i] = mix64(sku_key[i] ^ mix64(np.uint64(vendor[i] + 1)))
    return out


@njit(cache=True, nogil=True)
def event_seconds(key: KeyArray, day: IntArray) -> IntArray:
    """Draw the second of the day of each event; 0 on the first day of the shop."""
    out = np.zeros(key.size, dtype=np.int64)
    for i in range(key.size):
        if day[i] > 0:
            out[i] = int(uniform(key[i], EVENT_TIME, day[i]) * 86_400)
    return out


@njit(cache=True, nogil=True)
def offer_events(
    key: KeyArray,
    list_price: FloatArray,
    change_probs: tuple[float, float, float],
    day0: int,
    n_days: int,
    cost_frac: FloatArray,
    in_stock: BoolArray,
) -> OfferEvents:
    """Run the random walk of the unit cost and the stock switch of each offer; modifies cost_frac and in_stock (state).

    ``change_probs`` holds the daily probabilities of a new cost, of losing stock and of getting it back. An offer has at most one event per
    day, and always one on day 0.
    """
    cost_prob, down_prob, up_prob = change_probs
    capacity = key.size * 2 + 16
    start = np.zeros(key.size + 1, dtype=np.int64)
    days = np.empty(capacity, dtype=np.int64)
    costs = np.empty(capacity)
    stocks = np.empty(capacity, dtype=np.bool_)
    n = 0
    for offer in range(key.size):
        for day in range(day0, day0 + n_days):
            changed = day == 0
            if day > 0 and uniform(key[offer], COST_CHANGE, day) < cost_prob:
                step = COST_FRAC_STEP * normal(key[offer], COST_STEP, day)
                cost_frac[offer] = min(COST_FRAC_MAX, max(COST_FRAC_MIN, cost_frac[offer] + step))
                changed = True
            if day > 0 and uniform(key[offer], STOCK_TOGGLE, day) < (down_prob if in_stock[offer] else up_prob):
                in_stock[offer] = not in_stock[offer]
                changed = True
            if changed:
                if n == capacity:
                    capacity *= 2
                    days = np.concatenate((days, np.empty_like(days)))
                    costs = np.concatenate((costs, np.empty_like(costs)))
                    stocks = np.concatenate((stocks, np.empty_like(stocks)))
                days[n] = day
                # four decimals: the cheapest article of Complete Journey is listed at 0.01
                costs[n] = max(1.0, round(list_price[offer] * cost_frac[offer] * 1e4)) / 1e4
                stocks[n] = in_stock[offer]
                n += 1
        start[offer + 1] = n
    return OfferEvents(start, days[:n].copy(), costs[:n].copy(), stocks[:n].copy())


@njit(cache=True, nogil=True)
def base_stock_level(sold_units: int, lead_time_days: float, review_period_days: int, guard: float) -> int:
    """Order-up-to level of the legacy policy: trailing daily sales over lead time and review, with a guard, at least 1 unit."""
    return max(1, math.ceil(sold_units / TRAILING_DAYS * (lead_time_days + review_period_days) * guard))


@njit(cache=True, nogil=True)
def replay_stock(
    demand: Int32Array,
    terms: SkuTerms,
    events: OfferEvents,
    vendor_lead: FloatArray,
    review_period_days: int,
    guard: float,
    day0: int,
    state: StockState,
    opening: Int32Array,
    sales: Int32Array,
) -> None:
    """Replay each SKU's stock through the days of ``opening``; modifies state, and fills opening and sales.

    Order of a day: arrivals, opening count, sales = min(demand, on hand); at the end of every ``review_period_days``-th day an order up to
    the base stock level from the cheapest vendor with stock, rounded up to minimum and packs. It arrives after a lead time drawn from
    the vendor's normal law, rounded up, between 1 and ``ARRIVAL_SLOTS`` - 1 days. ``vendor_lead`` has the columns mean, sd.
    """
    n_skus, n_days = opening.shape
    for s in range(n_skus):
        first, end = terms.offer_start[s], terms.offer_start[s + 1]
        pointer = events.start[first : end + 1].copy()
        sold_units = state.sold[s].sum()
        for j in range(n_days):
            day = day0 + j
            slot = day % ARRIVAL_SLOTS
            state.on_hand[s] += state.arriving[s, slot]
            state.on_order[s] -= state.arriving[s, slot]
            state.arriving[s, slot] = 0
            if day == terms.launch_day[s]:
                state.on_hand[s] += terms.launch_units[s]
            opening[s, j] = state.on_hand[s]
            sales[s, j] = min(np.int64(demand[s, j]), state.on_hand[s])
            state.on_hand[s] -= sales[s, j]
            sold_units += sales[s, j] - state.sold[s, day % TRAILING_DAYS]
            state.sold[s, day % TRAILING_DAYS] = sales[s, j]
            if (day + 1) % review_period_days > 0 or day < terms.launch_day[s]:
                continue
            best = -1
            for o in range(first, end):
                _see_events(o, day, pointer, first, events, state)
                if state.seen_in_stock[o] and (best < 0 or state.seen_cost[o] < state.seen_cost[best]):
                    best = o
            if best < 0:
                continue
            lead_mean, lead_sd = vendor_lead[terms.offer_vendor[best]]
            level = base_stock_level(sold_units, lead_mean, review_period_days, guard)
            need = level - state.on_hand[s] - state.on_order[s]
            if need <= 0:
                continue
            pack = terms.pack_units[best]
            order_units = (max(need, terms.min_order_units[best]) + pack - 1) // pack * pack
            lead = math.ceil(lead_mean + lead_sd * normal(terms.key[s], LEAD_TIME, day))
            lead = min(ARRIVAL_SLOTS - 1, max(1, lead))
            state.arriving[s, (day + lead) % ARRIVAL_SLOTS] += order_units
            state.on_order[s] += order_units
        for o in range(first, end):
            _see_events(o, day0 + n_days, pointer, first, events, state)


@njit(cache=True, nogil=True)
def _see_events(offer: int, day: int, pointer: IntArray, first: int, events: OfferEvents, state: StockState) -> None:
    """Bring the seen cost and stock of one offer up to the end of ``day``; modifies pointer and state."""
    i = pointer[offer - first]
    while i < events.start[offer + 1] and events.day[i] <= day:
        state.seen_cost[offer] = events.unit_cost[i]
        state.seen_in_stock[offer] = events.in_stock[i]
        i += 1
    pointer[offer - first] = i


@njit(cache=True, nogil=True)
def draw_views(
    key: KeyArray,
    demand: Int32Array,
    launch_day: IntArray,
    views_per_unit: FloatArray,
    background: FloatArray,
    day0: int,
    n_days: int,
) -> Int32Array:
    """Draw the page views of each (SKU, day): background from the launch on, and views that lead demand by 0 to 5 days."""
    n_leads = VIEW_LEAD_WEIGHTS.size
    views = np.empty((key.size, n_days), dtype=np.int32)
    for s in range(key.size):
        for j in range(n_days):
            led = 0.0
            for k in range(n_leads):
                led += VIEW_LEAD_WEIGHTS[k] * demand[s, j + k]
            mean = views_per_unit[s] * led
            if day0 + j >= launch_day[s]:
                mean += background[s]
            views[s, j] = poisson(mean, key[s], VIEWS, day0 + j)
    return views


@njit(cache=True, nogil=True)
def past_sales(key: KeyArray, rate: FloatArray) -> Int32Array:
    """Draw the sales of the ``TRAILING_DAYS`` days before the first day, at the opening rate."""
    sold = np.empty((key.size, TRAILING_DAYS), dtype=np.int32)
    for s in range(key.size):
        for day in range(TRAILING_DAYS):
            sold[s, day] = poisson(rate[s], key[s], PAST_SALES, day)
    return sold


@njit(cache=True, nogil=True)
def orderable_spans(opening: Int32Array, day0: int, last: bool, span_from: IntArray) -> npt.NDArray[np.int64]:
    """Collect the runs of days with opening stock that end in this chunk; modifies span_from (state, -1: no open run).

    Returns rows (SKU, first day, last day), both days included. With ``last`` the runs still open end on the last day.
    """
    n_skus, n_days = opening.shape
    spans = np.empty((n_skus + 16, 3), dtype=np.int64)
    n = 0
    for s in range(n_skus):
        for j in range(n_days + 1):
            ended = (last if j == n_days else opening[s, j] == 0) and span_from[s] >= 0
            if ended:
                if n == spans.shape[0]:
                    spans = np.concatenate((spans, np.empty_like(spans)))
                spans[n, 0], spans[n, 1], spans[n, 2] = s, span_from[s], day0 + j - 1
                span_from[s] = -1
                n += 1
            elif j < n_days and opening[s, j] > 0 and span_from[s] < 0:
                span_from[s] = day0 + j
    return spans[:n].copy()


@njit(cache=True, nogil=True)
def fill_rates(
    key: KeyArray,
    base_rate: FloatArray,
    launch_day: IntArray,
    phase: FloatArray,
    week_factor: FloatArray,
    annual: tuple[float, float],
    shock: tuple[float, float],
    day0: int,
    n_carry: int,
    log_shock: FloatArray,
    rates: FloatArray,
) -> None:
    """Fill the expected units per (SKU, day) of the synthetic shop; modifies rates, and log_shock (state after ``n_carry`` days).

    rate = base * week factor * (1 + amplitude * sin(2 pi (day of year / 365.25 + phase))) * exp(sd * z - sd^2 / 2), 0 before the launch,
    where z is an AR(1) process with standard normal margins: z_d = phi * z_{d-1} + sqrt(1 - phi^2) * e_d. ``annual`` = (amplitude, day of
    year of day 0), ``shock`` = (phi, sd); phi = 0 means no z at all.
    """
    amplitude, first_day_of_year = annual
    phi, sd = shock
    n_skus, n_days = rates.shape
    for s in range(n_skus):
        z = log_shock[s]
        for j in range(n_days):
            day = day0 + j
            rate = base_rate[s] * week_factor[day % 7]
            rate *= 1.0 + amplitude * math.sin(2.0 * math.pi * ((first_day_of_year + day) / 365.25 + phase[s]))
            if phi > 0.0:
                shock_weight = 1.0 if day == 0 else math.sqrt(1.0 - phi * phi)
                z = phi * z + shock_weight * normal(key[s], RATE_SHOCK, day)
                rate *= math.exp(sd * z - 0.5 * sd * sd)
            if j == n_carry - 1:
                log_shock[s] = z
            rates[s, j] = rate if day >= launch_day[s] else 0.0


@njit(cache=True, nogil=True)
def draw_demand(key: KeyArray, rates: FloatArray, day0: int) -> Int32Array:
    """Draw Poisson demand for each (SKU, day) from its rate."""
    demand = np.empty(rates.shape, dtype=np.int32)
    for s in range(rates.shape[0]):
        for j in range(rates.shape[1]):
            demand[s, j] = poisson(rates[s, j], key[s], DEMAND, day0 + j)
    return demand
