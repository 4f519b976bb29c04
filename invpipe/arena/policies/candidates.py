r"""Candidates of a decision: the few SKUs that could be ordered today, found in one pass over the catalogue.

A SKU is a candidate where its cheapest vendor has stock below the selling price, its velocity is above 0, and its need passes a test that
costs no exponential: "greedy" asks whether the rounded mean demand of the protection window exceeds the position, "exact" whether a bound
on P(D > position) leaves the next unit worth anything (:func:`invpipe.allocation.exact.cannot_pay`). Nobody else can be ordered, so the
orders are the same as over the whole catalogue.

The law of demand is m = (shape + v E) / (rate + E) days with velocity v, and size shape + v E: the gamma-Poisson posterior predictive. The
plain EWMA is its limit m = v days, Poisson, written as E = inf.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.allocation.exact import cannot_pay
from invpipe.allocation.rows import AllocationRows
from invpipe.arena.kernel import Row
from invpipe.arena.policies.base import LazyVelocity, ShopView
from invpipe.forecast.law import CountLaw

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class Prior(NamedTuple):
    """Gamma law of the demand rates, and the days of observation an EWMA velocity is worth."""

    shape: float
    rate: float
    exposure_days: float


#: Prior that leaves the velocity as it is, with Poisson demand.
NO_PRIOR = Prior(0.0, 0.0, np.inf)


class Shelf(NamedTuple):
    """What a scan of the catalogue and the rows of its candidates read: per SKU, and per offer or vendor as named."""

    unit_price: FloatArray
    unit_cost: FloatArray
    offer_index: npt.NDArray[np.int32]
    on_hand: IntArray
    on_order: IntArray
    offer_vendor: npt.NDArray[np.int32]  # per offer
    offer_min_order_units: npt.NDArray[np.int32]  # per offer
    offer_pack_units: npt.NDArray[np.int32]  # per offer
    lead_days: IntArray  # per vendor


def shelf_of(view: ShopView) -> Shelf:
    """Return what a scan reads."""
    position = (view.on_hand_units, view.on_order_units)
    offers = (view.offer_vendor, view.offer_min_order_units, view.offer_pack_units)
    return Shelf(view.unit_price, view.unit_cost, view.offer_index, *position, *offers, view.vendor_terms.lead_days)


def ewma_exposure_days(half_life_days: float) -> float:
    """Return the days E whose plain mean has the variance of the EWMA: (2 - g) / g with gain g = 1 - 2^(-1 / half life)."""
    gain: float = 1.0 - 0.5 ** (1.0 / half_life_days)
    return (2.0 - gain) / gain


@lru_cache(maxsize=16)
def _name_rank(vendors: tuple[str, ...]) -> IntArray:
    rank = np.empty(len(vendors), dtype=np.int64)
    rank[sorted(range(len(vendors)), key=vendors.__getitem__)] = np.arange(len(vendors))
    rank.flags.writeable = False
    return rank


@njit(cache=True, nogil=True, error_model="numpy")
def law_of_velocity(velocity: float, days: int, prior: Prior) -> tuple[float, float]:
    """Return mean and size of the demand of `days` days."""
    if np.isinf(prior.exposure_days):
        return velocity * days, np.inf
    weight = prior.shape + velocity * prior.exposure_days
    return weight / (prior.rate + prior.exposure_days) * days, weight


@njit(cache=True, nogil=True, error_model="numpy")
def _could_be_ordered(
    position: int, price: float, cost: float, mean: float, size: float, days: int, holding_frac: float, leftover_frac: float, greedy: bool
) -> bool:
    """Return False only where the method orders nothing of a SKU with that position and offer, whatever the capital."""
    if mean <= 0.0:
        return False
    if greedy:
        return bool(np.floor(mean + 0.5) > position)
    holding, salvage = holding_frac * cost * days, leftover_frac * cost
    hopeless: bool = cannot_pay(mean, size, price - salvage + holding, cost - salvage + holding, position)
    return not hopeless


@njit(cache=True, nogil=True, error_model="numpy")
def _thin_out(
    shelf: Shelf,
    rows: IntArray,
    mean: FloatArray,
    size: FloatArray,
    review_days: int,
    holding_frac: float,
    leftover_frac: float,
    greedy: bool,
) -> IntArray:
    """Return the places in `rows` of the SKUs that could be ordered."""
    kept, count = np.empty(len(rows), np.int64), 0
    for place in range(len(rows)):
        sku = rows[place]
        days = shelf.lead_days[shelf.offer_vendor[shelf.offer_index[sku]]] + review_days
        kept[count] = place
        position, price, cost = shelf.on_hand[sku] + shelf.on_order[sku], shelf.unit_price[sku], shelf.unit_cost[sku]
        count += _could_be_ordered(position, price, cost, mean[place], size[place], days, holding_frac, leftover_frac, greedy)
    return kept[:count]


@njit(cache=True, nogil=True, error_model="numpy")
def _first_look(shelf: Shelf, lazy: LazyVelocity, prior: Prior, longest_days: int, greedy: bool) -> IntArray:
    """Return the SKUs that may be candidates, judged by what lies in rows of memory; never too few.

    No window is longer, so no mean is above this one. A pass that only compares, which the compiler turns into vector instructions, then
    one that collects, both without a branch on the data: at 170,000 SKUs wrong guesses would cost more than the arithmetic. It reads as few
    columns as it can, because their bytes are what it waits for: "greedy" asks of the need alone, and the price is left to the second look
    at the few that remain.
    """
    velocity, decay, n, count = lazy.velocity, lazy.decay, len(lazy.velocity), Row(0)
    maybe, rows = np.empty(n, np.uint8), np.empty(n, np.int64)
    if greedy:
        on_hand, on_order = shelf.on_hand, shelf.on_order
        for sku in range(n):
            maybe[sku] = law_of_velocity(velocity[sku] * decay, longest_days, prior)[0] + 0.5 >= on_hand[sku] + on_order[sku] + 1
    else:
        price, cost = shelf.unit_price, shelf.unit_cost
        for sku in range(n):  # without an offer the cost is inf
            maybe[sku] = (velocity[sku] > 0.0) & (cost[sku] < price[sku])
    for sku in range(Row(n)):
        rows[count] = sku
        count = Row(count + maybe[sku])
    return rows[:count]


@njit(cache=True, nogil=True, error_model="numpy")
def _scan(
    shelf: Shelf,
    lazy: LazyVelocity,
    prior: Prior,
    review_days: int,
    holding_frac: float,
    leftover_frac: float,
    greedy: bool,
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return the candidates' SKU indices, rising, and mean and size of their demand."""
    longest = 0
    for v in range(len(shelf.lead_days)):
        longest = max(longest, shelf.lead_days[v] + review_days)
    rows = _first_look(shelf, lazy, prior, longest, greedy)
    if len(shelf.offer_vendor) == 0:  # a shop that nobody delivers to
        rows = rows[:0]
    count, mean, size = Row(0), np.empty(len(rows)), np.empty(len(rows))
    on_hand, on_order, unit_price, unit_cost = shelf.on_hand, shelf.on_order, shelf.unit_price, shelf.unit_cost
    lead_days, offer_vendor, offer_index = shelf.lead_days, shelf.offer_vendor, shelf.offer_index
    for place in range(len(rows)):
        sku = Row(rows[place])
        velocity, offer = lazy.velocity[sku] * lazy.decay, offer_index[sku]
        days = lead_days[Row(offer_vendor[Row(max(offer, 0))])] + review_days
        m, r = law_of_velocity(velocity, days, prior)
        position, price, cost = on_hand[sku] + on_order[sku], unit_price[sku], unit_cost[sku]
        rows[count], mean[count], size[count] = sku, m, r
        could = _could_be_ordered(position, price, cost, m, r, days, holding_frac, leftover_frac, greedy)
        count = Row(count + ((offer >= 0) & (cost < price) & (velocity > 0.0) & could))
    return rows[:count].copy(), mean[:count].copy(), size[:count].copy()


def scan(view: ShopView, prior: Prior, leftover_value_frac: float, *, greedy: bool) -> tuple[IntArray, CountLaw]:
    """Return the SKU index of each candidate, rising, and the law of its demand over the protection window.

    Parameters
    ----------
    view
        State of the shop.
    prior
        Turns velocities into laws.
    leftover_value_frac
        As in :class:`~invpipe.arena.policies.allocation.AllocationPolicy`; only the exact method reads it.
    greedy
        Test for method "greedy" instead of "exact".
    """
    rows, mean, size = _scan(
        shelf_of(view),
        view.lazy_velocity,
        prior,
        view.review_period_days,
        view.holding_cost_frac_per_day,
        leftover_value_frac,
        greedy,
    )
    return rows, CountLaw(mean, size)


def thin_out(view: ShopView, rows: IntArray, law: CountLaw, leftover_value_frac: float, *, greedy: bool) -> tuple[IntArray, CountLaw]:
    """Return the candidates among the given SKUs, whose laws are known, and their laws; parameters as in :func:`scan`."""
    money = (view.review_period_days, view.holding_cost_frac_per_day, leftover_value_frac)
    places = _thin_out(shelf_of(view), rows, law.mean, law.size, *money, greedy)
    return rows[places], law.take(places)


@njit(cache=True, nogil=True)
def _gather(
    shelf: Shelf, rows: IntArray, review_days: int, holding_frac: float, leftover_frac: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, IntArray, IntArray, IntArray, IntArray]:
    """Return price, cost, holding cost, salvage value, position, first lot, pack and vendor of the SKUs in `rows`: one pass over them."""
    n = len(rows)
    price, cost, holding, salvage = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    position, first_lot, pack, vendor = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for place in range(n):
        sku = Row(rows[place])
        offer = Row(shelf.offer_index[sku])
        vendor[place], pack[place] = shelf.offer_vendor[offer], shelf.offer_pack_units[offer]
        first_lot[place] = -(-np.int64(shelf.offer_min_order_units[offer]) // pack[place]) * pack[place]
        position[place] = shelf.on_hand[sku] + shelf.on_order[sku]
        price[place], cost[place] = shelf.unit_price[sku], shelf.unit_cost[sku]
        holding[place] = holding_frac * cost[place] * (shelf.lead_days[vendor[place]] + review_days)
        salvage[place] = leftover_frac * cost[place]
    return price, cost, holding, salvage, position, first_lot, pack, vendor


def rows_of(view: ShopView, rows: IntArray, law: CountLaw, leftover_value_frac: float) -> AllocationRows:
    """Return the allocation rows of the given SKUs, which must have an offer below their price."""
    money = (view.review_period_days, view.holding_cost_frac_per_day, leftover_value_frac)
    terms = _gather(shelf_of(view), rows, *money)
    return AllocationRows(law.mean, law.size, *terms, view.vendor_terms.min_order_value, _name_rank(view.vendors))
