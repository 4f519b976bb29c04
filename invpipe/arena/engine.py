"""Engine: replay a tape under one policy, day by day.

Order of a day: offer deltas, arrivals, censored-demand estimate, sales against demand, decide (on review days), place orders, holding cost,
KPI snapshot. Decisions fall on day 0 and every `review_period_days` after it; the kernel runs from one decision to the next without
returning to Python.

An order placed at the end of day d at vendor v arrives on day d + max(1, round(mean_v + sd_v z)), before that day's sales. The z are drawn
up front per (day, vendor) from the seed, whoever orders: policies compared under one seed meet the same lead times, and a longer tape
meets the same ones on the days it shares.
"""

from __future__ import annotations

import math
import time
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.arena import kernel
from invpipe.arena.kernel import DAY_MONEY, DAY_UNITS, Law, OrderLog, State
from invpipe.arena.kpis import BacktestResult, summarise
from invpipe.arena.params import BacktestParams
from invpipe.arena.policies.base import Orders, Policy, ShopView
from invpipe.arena.tape import Tape
from invpipe.errors import ArenaError

IntArray = npt.NDArray[np.int64]

#: Orders a run has room for at first; the room doubles where it is full.
FIRST_ORDERS = 1024
#: Relative slack of the capital check, for sums taken in another order.
CAPITAL_TOLERANCE_FRAC = 1e-9


def lead_days(tape: Tape, seed: int) -> npt.NDArray[np.int32]:
    """Return the lead time of an order placed on each day at each vendor, days, shape (n_days, n_vendor), >= 1."""
    noise = np.random.Generator(np.random.Philox(seed)).standard_normal((tape.n_days, len(tape.vendors)))
    days = np.rint(tape.arrays.lead_time_days_mean + tape.arrays.lead_time_days_sd * noise)
    return np.maximum(days, 1.0).astype(np.int32)


def make_law(tape: Tape, params: BacktestParams) -> Law:
    """Return the kernel's scalars."""
    views = int(tape.arrays.prior_conversion_views.sum())
    rate = int(tape.arrays.prior_conversion_units.sum()) / views if views else 0.0
    return Law(
        capital_limit=float(params.capital_limit),
        holding_frac_per_day=params.holding_cost_frac_per_day,
        inbound_cost_per_line=float(params.inbound_cost_per_line),
        warm_up_days=params.warm_up_days,
        velocity_gain=1.0 - 0.5 ** (1.0 / params.velocity_half_life_days),
        prior_units=rate * params.conversion_prior_views,
        prior_views=float(params.conversion_prior_views) if views else 0.0,
    )


def _new_state(tape: Tape, params: BacktestParams, seed: int) -> State:
    a, n, n_days, n_vendor = tape.arrays, len(tape.skus), tape.n_days, len(tape.vendors)
    oldest = int(a.prior_sales_age_days[0]) if len(a.prior_sales_age_days) else 0
    book, in_stock = np.zeros((n, len(kernel.BOOK))), a.opening_offer_in_stock == 1
    book[:, kernel.CONVERSION_UNITS], book[:, kernel.AVERAGE_COST] = a.prior_conversion_units, a.opening_unit_cost
    book[:, kernel.UNIT_PRICE] = a.unit_price
    half_lives = int(kernel.MAX_HALF_LIVES * params.velocity_half_life_days)
    busiest = max(int(np.diff(start).max()) for start in (a.demand_start, a.views_start, a.delta_start))
    return State(
        on_hand=a.opening_on_hand_units.copy(),
        on_order=np.zeros(n, dtype=np.int64),
        velocity=np.zeros(n),
        velocity_day=np.array([-oldest]),
        velocity_now=np.full(n, np.nan),
        growth=np.exp2(np.arange(max(2, min(oldest + n_days + 1, half_lives))) / params.velocity_half_life_days),
        conversion_views=a.prior_conversion_views.copy(),
        book=book,
        conversion_start=np.zeros(n),
        inbound_cost=np.zeros(n),
        offer_cost=np.where(in_stock, 1.0, -1.0) * np.nan_to_num(a.opening_offer_unit_cost, nan=np.inf),
        offer_min_order_units=a.opening_offer_min_order_units.copy(),
        offer_pack_units=a.opening_offer_pack_units.copy(),
        best_offer=np.full(n, -1, dtype=np.int32),
        best_cost=np.full(n, np.inf),
        total_units=np.zeros(2, dtype=np.int64),
        total_value=np.zeros(2),
        lead_days=lead_days(tape, seed),
        arrival_head=np.full(n_days, kernel.NO_ORDER, dtype=np.int64),
        arrival_tail=np.full(n_days, kernel.NO_ORDER, dtype=np.int64),
        vendor_value=np.zeros(n_vendor),
        ordered_on=np.full(n, -1, dtype=np.int64),
        noted=np.zeros(busiest + 1, dtype=np.int64),
        day_units=np.full((n_days, len(DAY_UNITS)), -1, dtype=np.int64),
        day_money=np.full((n_days, len(DAY_MONEY)), np.nan),
    )


class _Clock:
    """Adds up wall-clock seconds per phase."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(("start", "kernel", "view", "decide", "orders", "result"), 0.0)
        self._last = time.perf_counter()

    def book(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] += now - self._last
        self._last = now


def run_backtest(tape: Tape, policy: Policy, params: BacktestParams, seed: int = 0, *, keep_orders: bool = True) -> BacktestResult:
    """Replay the tape under the policy and return its result.

    Parameters
    ----------
    tape
        Recorded shop; shared between threads without a copy.
    policy
        Decides at the end of each review day.
    params
        Costs, capital, review period, warm-up.
    seed
        Seed of the lead times, >= 0; the same seed gives the same bytes.
    keep_orders
        Whether the result lists the orders. Years of daily orders are what takes memory: a sweep, which reads the summary, does without.

    Raises
    ------
    ArenaError
        Where the seed is negative, the warm-up leaves no day to count, or the policy orders what it may not.
    """
    if seed < 0:
        msg = f"seed is {seed}; it must be a whole number >= 0"
        raise ArenaError(msg)
    if params.warm_up_days >= tape.n_days:
        msg = f"warm_up_days is {params.warm_up_days} on a tape of {tape.n_days} days; leave at least one day to count"
        raise ArenaError(msg)
    clock = _Clock()
    law, state, log, n_orders = make_law(tape, params), _new_state(tape, params, seed), OrderLog.empty(FIRST_ORDERS), 0
    kernel.start_run(tape.arrays, state, law)
    clock.book("start")
    first = 0
    for day in range(0, tape.n_days, params.review_period_days):
        kernel.advance(tape.arrays, state, log, law, first, day)
        clock.book("kernel")
        capital = float(kernel.capital_available(state, law))
        view = ShopView(tape, state, params, day, tape.start + timedelta(days=day), capital)
        clock.book("view")
        orders = policy.decide(view)
        clock.book("decide")
        if len(orders.sku_index):
            sku_index, order_units = _lines(orders, view, policy.name)
            bound = capital * (1.0 + CAPITAL_TOLERANCE_FRAC)
            if not kernel.lines_are_allowed(tape.arrays, state, day, sku_index, order_units, bound):
                _refuse(sku_index, order_units, view, policy.name)
            if not keep_orders and n_orders + len(sku_index) > len(log.sku):
                n_orders = kernel.drop_arrived(state, log, n_orders, day)
            if n_orders + len(sku_index) > len(log.sku):
                log = log.grown(n_orders, 2 * (n_orders + len(sku_index)))
            n_orders = kernel.place(tape.arrays, state, log, law, n_orders, day, sku_index, order_units)
        kernel.close_day(state, law, day)
        clock.book("orders")
        first = day + 1
    if first < tape.n_days:
        last = tape.n_days - 1
        kernel.advance(tape.arrays, state, log, law, first, last)
        kernel.close_day(state, law, last)
    clock.book("kernel")
    kernel.finish_run(state, law, tape.n_days)
    days, orders_frame, sku_totals = _frames(tape, state, log, n_orders, params)
    orders_frame = orders_frame if keep_orders else orders_frame.clear()
    summary = summarise(days, sku_totals, params)
    fingerprint = tape.fingerprint()
    clock.book("result")
    return BacktestResult(policy.name, seed, params, fingerprint, days, orders_frame, sku_totals, summary, clock.seconds)


def _lines(orders: Orders, view: ShopView, name: str) -> tuple[IntArray, IntArray]:
    """Return the lines as int64 arrays, or raise ArenaError where they are no whole numbers, one per line."""
    rows, units = np.asarray(orders.sku_index), np.asarray(orders.order_units)
    if rows.ndim != 1 or rows.shape != units.shape or rows.dtype.kind not in "iu" or units.dtype.kind not in "iu":
        found = f"sku_index {rows.dtype}{list(rows.shape)}, order_units {units.dtype}{list(units.shape)}"
        msg = f"policy {name!r} on {view.day} returned {found}; give whole numbers, one per line"
        raise ArenaError(msg)
    return np.ascontiguousarray(rows, dtype=np.int64), np.ascontiguousarray(units, dtype=np.int64)


def _refuse(rows: IntArray, units: IntArray, view: ShopView, name: str) -> None:
    """Raise ArenaError naming the policy, the first offending SKU and the rule that the kernel found broken."""
    where = f"policy {name!r} on {view.day}"
    outside = (rows < 0) | (rows >= len(view.skus))
    if outside.any():
        msg = f"{where} ordered SKU index {rows[outside][0]}; indices are 0 .. {len(view.skus) - 1}"
        raise ArenaError(msg)

    def refuse(bad: npt.NDArray[np.bool_], rule: str, bound: npt.NDArray[Any] | None = None) -> None:
        if bad.any():
            line = int(np.flatnonzero(bad)[0])
            limit = "" if bound is None else f" {bound[line]}"
            first = f"first SKU {view.skus[rows[line]]!r} with {units[line]} units"
            msg = f"{where}: {int(bad.sum())} of {len(rows)} order lines {rule}{limit}, {first}"
            raise ArenaError(msg)

    doubled = np.ones(len(rows), dtype=np.bool_)
    doubled[np.unique(rows, return_index=True)[1]] = False
    refuse(doubled, "repeat a SKU; give one line per SKU")
    refuse(units <= 0, "have no units; leave them out")
    refuse(view.offer_index[rows] < 0, "have no vendor with stock; order only where unit_cost is finite")
    minimum, pack = view.min_order_units[rows], view.pack_units[rows]
    refuse(units < minimum, "are below min_order_units", minimum)
    refuse(units % pack != 0, "are not a multiple of pack_units", pack)
    value = math.fsum(units * view.unit_cost[rows])
    msg = f"{where} ordered for {value:.2f} with {view.capital_available:.2f} of capital available; stay within capital_available"
    raise ArenaError(msg)


def _frames(
    tape: Tape, state: State, log: OrderLog, n_orders: int, params: BacktestParams
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    n_days, n_sku = tape.n_days, len(tape.skus)
    dates = pl.date_range(tape.start, tape.end, eager=True).alias("day")
    days = pl.DataFrame(
        {
            "day": dates,
            "counted": np.arange(n_days) >= params.warm_up_days,
            **{name: state.day_units[:, i] for i, name in enumerate(DAY_UNITS)},
            **{name: state.day_money[:, i] for i, name in enumerate(DAY_MONEY)},
        }
    )
    placed = log.grown(n_orders, n_orders)
    epoch = (tape.start - date(1970, 1, 1)).days
    orders = pl.DataFrame(
        {
            "day": pl.Series(placed.day + epoch).cast(pl.Date),
            "sku": pl.Series(tape.skus, dtype=pl.String).gather(placed.sku),
            "vendor": pl.Series(tape.vendors, dtype=pl.String).gather(placed.vendor),
            "order_units": placed.units,
            "unit_cost": placed.unit_cost,
            "arrival_day": pl.Series(placed.arrival_day + epoch).cast(pl.Date),
        }
    )
    pending = placed.arrival_day >= n_days
    pipeline = np.bincount(placed.sku[pending], weights=placed.units[pending] * placed.unit_cost[pending], minlength=n_sku)
    sku_totals = pl.DataFrame(
        {
            "sku": pl.Series(tape.skus, dtype=pl.String),
            "demand_units": state.book[:, kernel.SKU_DEMAND].astype(np.int64),
            "sales_units": (state.book[:, kernel.CONVERSION_UNITS] - state.conversion_start).astype(np.int64),
            "revenue": state.book[:, kernel.SKU_REVENUE],
            "cogs": state.book[:, kernel.SKU_COGS],
            "holding_cost": state.book[:, kernel.SKU_HOLDING],
            "inbound_cost": state.inbound_cost,
            "ending_on_hand_units": state.on_hand,
            "ending_on_order_units": state.on_order,
            "ending_stock_value": state.on_hand * state.book[:, kernel.AVERAGE_COST],
            "ending_pipeline_value": pipeline.astype(np.float64),  # an empty count is of whole numbers
        }
    )
    return days, orders, sku_totals
