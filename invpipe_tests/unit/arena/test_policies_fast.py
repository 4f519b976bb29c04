"""The fast policies against the plain ones: the same orders, to the byte, for any source, method, capital and vendor minimum."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.arena import AllocationPolicy, EwmaForecast, run_backtest
from invpipe.arena.policies.allocation import GammaPoissonVelocity
from invpipe_tests.oracles.policies import PlainAllocationPolicy
from invpipe_tests.unit.arena.test_policies import market, schedule
from invpipe_tests.unit.arena.worlds import random_params, random_tape

SOURCES = {"ewma": EwmaForecast(), "gamma": GammaPoissonVelocity(), "doubtful": GammaPoissonVelocity(0.2)}


def same(tape, policy, params, seed=0):
    """Compare orders and everything that follows from them, and return the fast result."""
    fast = run_backtest(tape, policy, params, seed)
    slow = run_backtest(tape, PlainAllocationPolicy(policy), params, seed)
    assert fast.orders.equals(slow.orders)
    assert fast.fingerprint() == slow.fingerprint()
    return fast


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_sku=st.integers(1, 12),
    n_vendor=st.integers(1, 5),
    source=st.sampled_from(sorted(SOURCES)),
    method=st.sampled_from(["greedy", "exact"]),
    leftover=st.sampled_from([0.0, 0.5, 0.9, 0.99]),
)
def test_orders_on_random_worlds(seed, n_sku, n_vendor, source, method, leftover):
    """Prevents a candidate test that drops an order, and a partial ranking that changes one: packs, minimums, ties, empty shelves."""
    tape, params = random_tape(seed, n_sku, n_vendor, 25), random_params(seed + 1, 25)
    same(tape, AllocationPolicy("p", SOURCES[source], method, leftover), params, seed % 7)


@pytest.mark.parametrize("method", ["greedy", "exact", "lp"])
@pytest.mark.parametrize("capital", [60.0, 400.0, 2_000.0, float("inf")])
@pytest.mark.parametrize("minimum", [0.0, 40.0, 150.0])
def test_orders_on_a_market(method, capital, minimum):
    """Prevents a difference under scarce capital with vendors deferred in turn, where the rounds follow each other."""
    tape = market(3, n_sku=120, n_days=40, min_order_value=minimum)
    params = dataclasses.replace(random_params(0), capital_limit=capital, review_period_days=7, inbound_cost_per_line=0.2, warm_up_days=0)
    for source in (EwmaForecast(), GammaPoissonVelocity(), schedule(tape)):
        result = same(tape, AllocationPolicy("p", source, method), params)
        if minimum < 100.0 and capital > 100.0:
            assert len(result.orders) > 0


def test_many_vendors_with_equal_shares():
    """Prevents a tie between vendors being decided by their index instead of by their name, as `allocate` does."""
    tape = market(4, n_sku=60, n_days=30, min_order_value=30.0)
    twisted = dataclasses.replace(tape, vendors=("z", "a"))
    params = dataclasses.replace(random_params(0), capital_limit=90.0, review_period_days=3, inbound_cost_per_line=0.0, warm_up_days=0)
    for method in ("greedy", "exact"):
        same(twisted, AllocationPolicy("p", EwmaForecast(), method), params)


def test_daily_decisions_stay_the_same_over_a_long_tape():
    """Prevents drift between review days: the state of a wrong order would feed every later one."""
    tape = market(5, n_sku=200, n_days=90)
    params = dataclasses.replace(random_params(0), capital_limit=900.0, review_period_days=1, inbound_cost_per_line=0.0, warm_up_days=0)
    for method in ("greedy", "exact"):
        assert len(same(tape, AllocationPolicy("p", EwmaForecast(), method), params).orders) > 50


def test_scale_of_ranking_is_exercised():
    """Prevents a test world too small for the heap to be thinned out: hundreds of candidates, capital for a few."""
    rng = np.random.default_rng(0)
    tape = market(6, n_sku=1_500, n_days=10)
    for capital in rng.uniform(50.0, 8_000.0, 6):
        params = dataclasses.replace(
            random_params(0), capital_limit=float(capital) + float(tape.arrays.opening_on_hand_units @ tape.arrays.opening_unit_cost),
            review_period_days=2, warm_up_days=0,
        )  # fmt: skip
        for method in ("greedy", "exact"):
            same(tape, AllocationPolicy("p", EwmaForecast(), method), params)
