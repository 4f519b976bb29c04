"""The clairvoyant bound: nobody earns more, by enumeration of all plans, on random worlds, and by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.arena import BacktestParams, ClairvoyantPolicy, Tape, clairvoyant_bound, run_backtest, standard_policies
from invpipe_tests.oracles.clairvoyant import best_profit, bound_without_capital
from invpipe_tests.unit.arena.test_policies import market
from invpipe_tests.unit.arena.worlds import START, MixedPolicy, random_params, random_tape

SEEDS = st.integers(0, 2**32 - 1)
PROFITS = ("profit", "profit_ending_at_zero", "profit_ending_at_cost")


def tiny(seed: int, n_sku: int, n_days: int) -> Tape:
    """Return a world in which single units may be ordered and vendors are quick, so that plans matter within few days."""
    rng = np.random.default_rng(seed)
    a = random_tape(seed, n_sku, 2, n_days)
    arrays = a.arrays._replace(
        lead_time_days_mean=rng.uniform(1.0, 2.0, 2),
        lead_time_days_sd=rng.choice([0.0, 0.7], 2),
        min_order_value=np.zeros(2),
        opening_on_hand_units=rng.integers(0, 3, n_sku),
        opening_offer_min_order_units=np.ones_like(a.arrays.opening_offer_min_order_units),
        opening_offer_pack_units=np.ones_like(a.arrays.opening_offer_pack_units),
        opening_offer_in_stock=np.where(np.isnan(a.arrays.opening_offer_unit_cost), 0, 1),
        delta_min_order_units=np.zeros_like(a.arrays.delta_min_order_units),
        delta_pack_units=np.zeros_like(a.arrays.delta_pack_units),
    )
    return dataclasses.replace(a, arrays=arrays)


def above_slack(bound: float) -> float:
    return bound + 1e-9 * max(1.0, abs(bound))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(SEEDS, st.sampled_from([(1, 5, 1, 3), (1, 6, 2, 5), (2, 3, 1, 2), (2, 5, 3, 3)]), st.sampled_from([0.0, 1.0, 2.5, math.inf]))
def test_no_plan_of_a_tiny_world_earns_more(seed, shape, capital):
    """Prevents a bound that the best plan beats: all plans are tried, with and without capital, warm-up and jitter."""
    n_sku, n_days, review, most_units = shape
    tape = tiny(seed, n_sku, n_days)
    params = BacktestParams(capital, review, holding_cost_frac_per_year=0.0, warm_up_days=seed % 2)
    best = best_profit(tape, params, seed % 5, most_units)
    known = clairvoyant_bound(tape, params, seed % 5)
    assert best <= above_slack(known)
    assert known <= above_slack(clairvoyant_bound(tape, params))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(SEEDS, st.integers(1, 6), st.integers(1, 3), st.integers(1, 30))
def test_no_policy_earns_more(seed, n_sku, n_vendor, n_days):
    """Prevents a bound that a policy beats where lead times jitter, packs and minimums bite, and stock is there at the opening."""
    tape, params = random_tape(seed, n_sku, n_vendor, n_days), random_params(seed + 1, n_days)
    known, any_seed = clairvoyant_bound(tape, params, seed % 11), clairvoyant_bound(tape, params)
    assert known <= above_slack(any_seed)
    for policy in (MixedPolicy(seed + 2), ClairvoyantPolicy(tape)):
        summary = run_backtest(tape, policy, params, seed % 11).summary
        assert max(summary[name] for name in PROFITS) <= above_slack(known)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(SEEDS, st.integers(1, 4), st.integers(1, 3), st.integers(1, 20))
def test_costs_by_enumeration_of_all_orders(seed, n_sku, n_vendor, n_days):
    """Prevents a cost that no order could have brought by that day, and one missed because a later order overtakes an earlier one.

    The bound may be lower than the enumeration nowhere; where no offer ends it is equal, but for an order placed after its end.
    """
    tape = random_tape(seed, n_sku, n_vendor, n_days)
    params = dataclasses.replace(random_params(seed + 1, n_days), capital_limit=math.inf)
    exact = bound_without_capital(tape, params, 3)
    assert clairvoyant_bound(tape, params, 3) >= exact - 1e-9
    a = tape.arrays
    lasting = dataclasses.replace(tape, arrays=a._replace(delta_start=np.zeros_like(a.delta_start), **_no_deltas(a)))
    assert clairvoyant_bound(lasting, params, 3) == pytest.approx(bound_without_capital(lasting, params, 3))


def _no_deltas(arrays):
    return {name: getattr(arrays, name)[:0] for name in arrays._fields if name.startswith("delta_") and name != "delta_start"}


@pytest.mark.parametrize("capital", [0.0, 50.0, 150.0, 400.0, 2_000.0, math.inf])
def test_capital_lowers_the_bound(capital):
    """Prevents a bound blind to capital: it never rises as capital falls, and stays above every policy."""
    tape = market(1, n_sku=30, n_days=60)
    params = BacktestParams(capital, review_period_days=2)
    bound = clairvoyant_bound(tape, params, 0)
    assert bound <= above_slack(clairvoyant_bound(tape, dataclasses.replace(params, capital_limit=capital * 2 + 1.0), 0))
    for policy in standard_policies(tape).values():
        assert run_backtest(tape, policy, params, 0).summary["profit_ending_at_cost"] <= above_slack(bound)
    if capital <= 50.0:
        assert bound < 0.8 * clairvoyant_bound(tape, BacktestParams(math.inf, review_period_days=2), 0)


def by_hand(lead_sd: float = 0.0, opening: int = 9) -> Tape:
    return Tape.from_arrays(
        start=START,
        n_days=4,
        skus=["a"],
        unit_price=np.array([2.0]),
        vendors=["v"],
        lead_time_days_mean=np.array([1.0]),
        lead_time_days_sd=np.array([lead_sd]),
        min_order_value=np.array([0.0]),
        offer_sku=np.array([0]),
        offer_vendor=np.array([0]),
        opening_on_hand_units=np.array([opening]),
        opening_unit_cost=np.array([1.5]),
        demand=(np.array([0, 1, 2, 3]), np.zeros(4, dtype=int), np.array([1, 10, 100, 1000])),
        deltas=(np.array([1, 3]), np.zeros(2, dtype=int), np.array([1.0, 0.5]), np.array([1, -1]), np.array([1, 0]), np.array([1, 0])),
    )


def test_bound_by_hand():
    """Prevents a bound that reads offers of the day of sale or later, oversells the opening stock, or orders between reviews."""
    tape, rich = by_hand(), math.inf
    daily = BacktestParams(rich, review_period_days=1)
    # 9 opening units at 1.5 until the first order of day 1 arrives on day 2 at 1.0; 0.5 on day 3 comes too late
    assert clairvoyant_bound(tape, daily) == pytest.approx(0.5 * 9 + 1.0 * 100 + 1.0 * 1000)
    assert clairvoyant_bound(tape, dataclasses.replace(daily, warm_up_days=3)) == pytest.approx(1000.0)
    # reviews on days 0 and 2: at 1.0 from day 3 on
    assert clairvoyant_bound(tape, BacktestParams(rich, review_period_days=2)) == pytest.approx(0.5 * 9 + 1000.0)
    assert clairvoyant_bound(tape, BacktestParams(0.0, review_period_days=1)) == pytest.approx(0.5 * 9)
    # 150 of capital, bound for a day per unit sold at 1.0, on days 0, 1 and 2: at most 450 units
    assert clairvoyant_bound(tape, BacktestParams(150.0, review_period_days=1)) == pytest.approx(0.5 * 9 + 450.0, rel=1e-6)


def test_seed_fixes_lead_times():
    """Prevents a bound of one seed that uses the lead times of another."""
    tape, daily = by_hand(lead_sd=3.0, opening=0), BacktestParams(math.inf, review_period_days=1)
    bounds = [clairvoyant_bound(tape, daily, seed) for seed in range(12)]
    assert len(set(bounds)) > 1
    assert max(bounds) <= clairvoyant_bound(tape, daily) == pytest.approx(1100.0)
