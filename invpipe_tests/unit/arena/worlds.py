"""Small random worlds and policies that the kernel and the reference engine can both run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

import numpy as np

from invpipe.arena import BacktestParams, Orders, ShopView, Tape

START = date(2017, 3, 1)


def random_tape(seed: int, n_sku: int = 5, n_vendor: int = 2, n_days: int = 20) -> Tape:
    """Return a world with ties in cost, packs, minimums, late vendors, stock-outs, and several offers per SKU."""
    rng = np.random.default_rng(seed)
    pairs = [(s, v) for s in range(n_sku) for v in range(n_vendor) if rng.random() < 0.8]
    offer_sku, offer_vendor = (np.array([p[i] for p in pairs], dtype=np.int64) for i in range(2))
    n_offer = len(pairs)

    def costs(n: int) -> np.ndarray:
        return np.where(rng.random(n) < 0.5, rng.integers(2, 6, n) / 4, rng.uniform(0.5, 1.5, n))

    def events(rate: float, n_index: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        cells = np.flatnonzero(rng.random(n_days * n_index) < rate)
        return cells // max(n_index, 1), cells % max(n_index, 1), rng.integers(1, high, len(cells))

    seen = rng.random(n_offer) < 0.7
    ones = np.ones(n_offer, dtype=np.int64)
    minimum, pack = rng.integers(1, 6, n_offer), rng.integers(1, 5, n_offer)
    opening = (
        np.where(seen, costs(n_offer), np.nan),
        (seen & (rng.random(n_offer) < 0.7)).astype(np.int8),
        np.where(seen, minimum, ones),
        np.where(seen, pack, ones),
    )
    day, offer, _ = events(0.2, n_offer, 2)
    first = ~seen[offer] & (np.unique(offer, return_index=True)[1][np.searchsorted(np.unique(offer), offer)] == np.arange(len(offer)))
    n = len(day)
    deltas = (
        day,
        offer,
        np.where(first | (rng.random(n) < 0.7), costs(n), np.nan),
        np.where(first, 1, rng.integers(-1, 2, n)),
        np.where(rng.random(n) < 0.2, rng.integers(1, 6, n), 0),
        np.where(rng.random(n) < 0.2, rng.integers(1, 5, n), 0),
    )
    n_prior = int(rng.integers(0, 10))
    return Tape.from_arrays(
        start=START,
        n_days=n_days,
        skus=[f"S{i}" for i in range(n_sku)],
        unit_price=rng.uniform(1.0, 3.0, n_sku),
        vendors=[f"V{i}" for i in range(n_vendor)],
        lead_time_days_mean=rng.uniform(1.0, 5.0, n_vendor),
        lead_time_days_sd=rng.uniform(0.0, 2.0, n_vendor),
        min_order_value=rng.choice([0.0, 4.0, 12.0], n_vendor),
        offer_sku=offer_sku,
        offer_vendor=offer_vendor,
        opening_on_hand_units=rng.integers(0, 6, n_sku),
        opening_unit_cost=rng.uniform(0.5, 1.5, n_sku),
        opening_offers=opening,
        prior_sales=(np.sort(rng.integers(1, 40, n_prior))[::-1], rng.integers(0, n_sku, n_prior), rng.integers(1, 4, n_prior)),
        prior_conversion=(rng.integers(0, 5, n_sku), rng.integers(0, 60, n_sku)) if rng.random() < 0.7 else None,
        demand=events(0.35, n_sku, 5),
        views=events(0.5, n_sku, 9) if rng.random() < 0.8 else ((), (), ()),
        deltas=deltas,
    )


def random_params(seed: int, n_days: int = 20) -> BacktestParams:
    """Return parameters with every term of the profit switched on at times."""
    rng = np.random.default_rng(seed)
    return BacktestParams(
        capital_limit=float(rng.choice([0.0, 8.0, 30.0, math.inf])),
        review_period_days=int(rng.integers(1, 6)),
        holding_cost_frac_per_year=float(rng.choice([0.0, 0.25, 3.0])),
        inbound_cost_per_line=float(rng.choice([0.0, 0.3])),
        liquidation_frac=float(rng.choice([0.0, 0.5, 1.0])),
        warm_up_days=int(rng.integers(0, n_days)),
        velocity_half_life_days=float(rng.uniform(1.0, 30.0)),
        conversion_prior_views=float(rng.choice([0.0, 50.0])),
    )


@dataclass(frozen=True)
class Facts:
    """What a test policy knows about one SKU that can be ordered."""

    sku: int
    cost: float
    min_order_units: int
    pack_units: int
    position_units: int
    velocity: float


@dataclass(frozen=True)
class MixedPolicy:
    """Orders at random or up to velocity x 9 days, whole packs, while capital lasts; runs on the kernel and on the reference."""

    seed: int
    name: str = "mixed"

    def lines(self, day: int, capital: float, facts: list[Facts]) -> list[tuple[int, int]]:
        """Return (SKU index, units)."""
        rng = np.random.default_rng([self.seed, day])
        spent, out = 0.0, []
        for fact in facts:
            wish = int(rng.integers(0, 8)) if rng.random() < 0.5 else math.ceil(fact.velocity * 9) - fact.position_units
            if wish <= 0:
                continue
            units = -(-max(wish, fact.min_order_units) // fact.pack_units) * fact.pack_units
            if spent + units * fact.cost <= capital:
                spent += units * fact.cost
                out.append((fact.sku, units))
        return out

    def decide(self, view: ShopView) -> Orders:
        """Read the arrays of the view."""
        facts = [
            Facts(
                s,
                float(view.unit_cost[s]),
                int(view.min_order_units[s]),
                int(view.pack_units[s]),
                int(view.on_hand_units[s] + view.on_order_units[s]),
                float(view.velocity[s]),
            )
            for s in range(len(view.skus))
            if np.isfinite(view.unit_cost[s])
        ]
        lines = self.lines(view.day_index, view.capital_available, facts)
        return Orders(np.array([s for s, _ in lines], dtype=np.int64), np.array([n for _, n in lines], dtype=np.int64))

    def decide_reference(self, shop, day: int) -> list[tuple[int, int]]:
        """Read the objects of the reference shop."""
        facts = []
        for s, sku in enumerate(shop.skus):
            offer = sku.cheapest()
            if offer is not None:
                on_order = sum(o.units for o in shop.orders if o.sku == s and o.arrival_day > day)
                position = sku.on_hand + on_order
                facts.append(Facts(s, offer.unit_cost, offer.min_order_units, offer.pack_units, position, shop.velocity(s, day)))
        return self.lines(day, shop.capital_available(), facts)


@dataclass(frozen=True)
class FixedPolicy:
    """Orders what it is told per day index: {day: [(SKU index, units), ...]}."""

    plan: dict[int, list[tuple[int, int]]]
    name: str = "fixed"

    def decide(self, view: ShopView) -> Orders:
        """Return the day's lines."""
        lines = self.plan.get(view.day_index, [])
        return Orders(np.array([s for s, _ in lines], dtype=np.int64), np.array([n for _, n in lines], dtype=np.int64))


@dataclass(frozen=True)
class QuietPolicy:
    """Orders nothing, on the kernel and on the reference: what remains is the replay itself."""

    name: str = "order_nothing"

    def decide(self, view: ShopView) -> Orders:
        """Return no order."""
        return Orders.none()

    def decide_reference(self, shop, day: int) -> list[tuple[int, int]]:
        """Return no order."""
        return []
