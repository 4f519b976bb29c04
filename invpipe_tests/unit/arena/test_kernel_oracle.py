"""The kernel against the readable reference engine and against the laws of conservation, on random small worlds."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.arena import BacktestParams, OrderNothing, clairvoyant_bound, run_backtest
from invpipe_tests.oracles.arena import run_reference
from invpipe_tests.unit.arena.worlds import MixedPolicy, random_params, random_tape

WORLDS = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.integers(1, 25))


def _world(world):
    seed, n_sku, n_vendor, n_days = world
    return random_tape(seed, n_sku, n_vendor, n_days), random_params(seed + 1, n_days), MixedPolicy(seed + 2), seed % 1000


@settings(max_examples=150, deadline=None, derandomize=True)
@given(WORLDS)
def test_kernel_equals_reference(world):
    """Prevents any drift of the fast loops from the definition of a day: every output byte is compared."""
    tape, params, policy, seed = _world(world)
    fast, slow = run_backtest(tape, policy, params, seed), run_reference(tape, policy, params, seed)
    for name in ("days", "orders", "sku_totals"):
        a, b = getattr(fast, name), getattr(slow, name)
        assert a.columns == b.columns
        for column in a.columns:
            assert a[column].to_list() == b[column].to_list(), (name, column)
    assert fast.summary == slow.summary
    assert fast.fingerprint() == slow.fingerprint()


@settings(max_examples=80, deadline=None, derandomize=True)
@given(WORLDS)
def test_units_and_money_are_conserved(world):
    """Prevents units or money from appearing or vanishing between orders, shelf and customers."""
    tape, params, policy, seed = _world(world)
    result = run_backtest(tape, policy, params, seed)
    days, a = {name: result.days[name].to_numpy() for name in result.days.columns}, tape.arrays
    assert (days["sales_units"] + days["lost_sales_units"] == days["demand_units"]).all()
    assert days["on_hand_units"].min() >= 0
    on_hand = a.opening_on_hand_units.sum() + np.cumsum(days["arrival_units"] - days["sales_units"])
    assert (on_hand == days["on_hand_units"]).all()
    assert (np.cumsum(days["order_units"] - days["arrival_units"]) == days["on_order_units"]).all()
    opening = float(a.opening_on_hand_units @ a.opening_unit_cost)
    np.testing.assert_allclose(opening + np.cumsum(days["arrival_value"] - days["cogs"]), days["inventory_value"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.cumsum(days["order_value"] - days["arrival_value"]), days["on_order_value"], rtol=1e-9, atol=1e-9)
    ordered = days["order_value"] > 0
    assert (days["inventory_value"] + days["on_order_value"])[ordered].max(initial=0.0) <= params.capital_limit + 1e-6
    np.testing.assert_allclose(result.sku_totals["ending_stock_value"].sum(), days["inventory_value"][-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.sku_totals["ending_pipeline_value"].sum(), days["on_order_value"][-1], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.sku_totals["holding_cost"].sum(), result.summary["holding_cost"], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(result.profit_per_sku().sum(), result.summary["profit"], rtol=1e-9, atol=1e-9)


class Inspector:
    """Compares, on every review day, the incremental cheapest offer with a full scan of the offers."""

    name = "inspector"

    def __init__(self, tape):
        self.tape = tape

    def decide(self, view):
        """Scan, then order nothing."""
        state, a = view._state, self.tape.arrays
        for sku in range(len(view.skus)):
            offers = range(a.offer_start[sku], a.offer_start[sku + 1])
            live = [(state.offer_cost[o], o) for o in offers if state.offer_cost[o] > 0.0]
            assert (view.unit_cost[sku], view.offer_index[sku]) == min(live, default=(np.inf, -1))
        return OrderNothing().decide(view)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_cheapest_offer_equals_full_scan(seed):
    """Prevents a stale cheapest offer after a price rises or a vendor runs out."""
    tape = random_tape(seed, 6, 4, 25)
    run_backtest(tape, Inspector(tape), BacktestParams(capital_limit=10.0, review_period_days=1))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(WORLDS)
def test_nobody_beats_the_bound(world):
    """Prevents a clairvoyant bound that is no bound: random policies, every valuation, opening stock included."""
    tape, params, policy, seed = _world(world)
    bound = clairvoyant_bound(tape, params)
    result = run_backtest(tape, policy, params, seed)
    for name in ("profit", "profit_ending_at_zero", "profit_ending_at_cost"):
        assert result.summary[name] <= bound * (1 + 1e-9) + 1e-9
