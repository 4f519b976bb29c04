"""Laws of the counter-based draws, and the stock replay against a twin written from its definition."""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from invpipe.sources import supply_kernels as kernels

KEYS = np.arange(20_000, dtype=np.uint64)


def test_mixer_matches_its_source() -> None:
    """Prevents a mistyped constant: first outputs of SplitMix64 with seed 0, whose n-th state is n times the golden gamma."""
    golden = 0x9E3779B97F4A7C15
    outputs = [int(kernels.mix64(np.uint64(n * golden % 2**64))) for n in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_uniform_and_normal_laws() -> None:
    """Prevents draws that are not uniform or normal although the keys are consecutive numbers."""
    assert stats.kstest(kernels.uniforms(KEYS, 1), "uniform").pvalue > 1e-3
    assert stats.kstest(kernels.normals(KEYS, 1), "norm").pvalue > 1e-3


def test_streams_do_not_repeat_each_other() -> None:
    """Prevents two uses of one SKU from seeing the same luck."""
    first, second = kernels.uniforms(KEYS, 1), kernels.uniforms(KEYS, 2)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    numbers = [kernels.COST_CHANGE, kernels.COST_STEP, kernels.STOCK_TOGGLE, kernels.EVENT_TIME, kernels.LEAD_TIME, kernels.VIEWS]
    numbers += [kernels.DEMAND, kernels.RATE_SHOCK, kernels.PAST_SALES, kernels.FIRST_STOCK, kernels.VENDOR_COUNT, kernels.VENDOR_TURN]
    numbers += [kernels.COST_LEVEL, kernels.PACK, kernels.VIEW_RATE, kernels.BACKGROUND]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("mean", [0.03, 1.0, 7.5, 29.0, 31.0, 400.0])
def test_poisson_law(mean: float) -> None:
    """Prevents a biased search or a bad normal approximation above its threshold."""
    draws = kernels.draw_demand(KEYS, np.full((KEYS.size, 1), mean), 0)[:, 0]
    assert draws.mean() == pytest.approx(mean, abs=4 * math.sqrt(mean / KEYS.size))
    assert draws.var() == pytest.approx(mean, abs=4 * math.sqrt((mean + 2 * mean**2) / KEYS.size))
    below = int(stats.poisson.ppf(0.3, mean))
    assert (draws <= below).mean() == pytest.approx(stats.poisson.cdf(below, mean), abs=0.02)


def reference_replay(
    demand: npt.NDArray[np.int32],
    terms: kernels.SkuTerms,
    events: kernels.OfferEvents,
    lead: list[tuple[float, float]],
    review: int,
    guard: Fraction,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Replay one SKU at a time with lists of orders and of past sales; opening stock and sales, NaN where nothing was written."""
    opening = np.full(demand.shape, np.nan)
    sales = np.full(demand.shape, np.nan)
    for s in range(demand.shape[0]):
        on_hand, past, orders = 0, [1] * kernels.TRAILING_DAYS, []  # orders: (arrival day, units)
        for day in range(demand.shape[1]):
            on_hand += sum(units for arrival, units in orders if arrival == day)
            on_hand += int(terms.launch_units[s]) if day == terms.launch_day[s] else 0
            opening[s, day] = on_hand
            sold = min(int(demand[s, day]), on_hand)
            sales[s, day] = sold
            on_hand -= sold
            past.append(sold)
            if (day + 1) % review or day < terms.launch_day[s]:
                continue
            known = []
            for o in range(terms.offer_start[s], terms.offer_start[s + 1]):
                seen = [i for i in range(events.start[o], events.start[o + 1]) if events.day[i] <= day]
                if seen and events.in_stock[seen[-1]]:
                    known.append((events.unit_cost[seen[-1]], o))
            if not known:
                continue
            offer = min(known)[1]
            mean, sd = lead[terms.offer_vendor[offer]]
            level = max(
                1, math.ceil(Fraction(sum(past[-kernels.TRAILING_DAYS :]), kernels.TRAILING_DAYS) * (Fraction(mean) + review) * guard)
            )
            need = level - on_hand - sum(units for arrival, units in orders if arrival > day)
            if need > 0:
                pack = int(terms.pack_units[offer])
                units = math.ceil(max(need, int(terms.min_order_units[offer])) / pack) * pack
                days = math.ceil(mean + sd * kernels.normal(terms.key[s], kernels.LEAD_TIME, day))
                orders.append((day + min(kernels.ARRIVAL_SLOTS - 1, max(1, days)), units))
    return opening, sales


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), review=st.integers(1, 9), n_vendors=st.integers(1, 3), cut=st.integers(1, 79))
def test_replay_matches_its_twin(seed: int, review: int, n_vendors: int, cut: int) -> None:
    """Prevents a kernel that drifts from the legacy policy, and a state that gets lost between two chunks."""
    rng = np.random.default_rng(seed)
    n_skus, n_days = 4, 80
    demand = rng.poisson(rng.gamma(0.5, 2.0, size=(n_skus, 1)), size=(n_skus, n_days)).astype(np.int32)
    n_offers = n_skus * n_vendors
    per_offer = rng.integers(1, 6, size=n_offers)
    days = [np.concatenate(([0], np.sort(rng.choice(np.arange(1, n_days), size=k - 1, replace=False)))) for k in per_offer]
    events = kernels.OfferEvents(
        np.concatenate(([0], np.cumsum(per_offer))),
        np.concatenate(days).astype(np.int64),
        rng.integers(1, 4, size=per_offer.sum()) / 2,
        rng.random(per_offer.sum()) < 0.7,
    )
    pack = np.repeat(rng.choice([1, 6], size=n_skus), n_vendors).astype(np.int64)
    terms = kernels.SkuTerms(
        key=rng.integers(0, 2**63, size=n_skus, dtype=np.uint64),
        launch_day=rng.choice([0, 0, 17], size=n_skus).astype(np.int64),
        launch_units=rng.integers(0, 5, size=n_skus),
        offer_start=np.arange(n_skus + 1) * n_vendors,
        offer_vendor=np.tile(np.arange(n_vendors), n_skus),
        min_order_units=pack + rng.integers(0, 3),
        pack_units=pack,
    )
    lead = [(2.0, 1.0), (5.0, 0.0), (28.0, 9.0)]
    state = kernels.StockState(
        on_hand=np.zeros(n_skus, dtype=np.int64),
        on_order=np.zeros(n_skus, dtype=np.int64),
        arriving=np.zeros((n_skus, kernels.ARRIVAL_SLOTS), dtype=np.int32),
        sold=np.ones((n_skus, kernels.TRAILING_DAYS), dtype=np.int32),
        seen_cost=np.zeros(n_offers),
        seen_in_stock=np.zeros(n_offers, dtype=np.bool_),
    )
    got = []
    for day0, end in ((0, cut), (cut, n_days)):
        opening = np.empty((n_skus, end - day0), dtype=np.int32)
        sales = np.empty_like(opening)
        chunk = demand[:, day0:end].copy()
        kernels.replay_stock(chunk, terms, events_between(events, day0, end), np.array(lead), review, 1.5, day0, state, opening, sales)
        got.append((opening, sales))
    opening, sales = reference_replay(demand, terms, events, lead, review, Fraction(3, 2))
    np.testing.assert_array_equal(np.concatenate([got[0][0], got[1][0]], axis=1), opening)
    np.testing.assert_array_equal(np.concatenate([got[0][1], got[1][1]], axis=1), sales)


def events_between(events: kernels.OfferEvents, day0: int, end: int) -> kernels.OfferEvents:
    """Events of the days day0 .. end - 1."""
    kept = (events.day >= day0) & (events.day < end)
    before = np.concatenate(([0], np.cumsum(kept)))
    return kernels.OfferEvents(before[events.start], events.day[kept], events.unit_cost[kept], events.in_stock[kept])
