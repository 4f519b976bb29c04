"""Policies: what they assemble from a view, where they refuse, and that foresight pays."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import numpy as np
import pytest

from invpipe.allocation import expected_values
from invpipe.arena import (
    AllocationPolicy,
    BacktestParams,
    ClairvoyantPolicy,
    EwmaForecast,
    OrderNothing,
    Orders,
    ScheduledForecast,
    Tape,
    clairvoyant_bound,
    run_backtest,
    standard_policies,
)
from invpipe.errors import ArenaError
from invpipe.forecast.law import CountLaw, WindowDemand
from invpipe_tests.unit.arena.worlds import START, random_tape

N_DAYS = 120


def market(seed: int = 0, n_sku: int = 30, n_days: int = N_DAYS, min_order_value: float = 0.0, lead_sd: float = 0.5) -> Tape:
    """Return a steady shop: Poisson demand of known rates, two vendors with packs of one, 40 % margin, a year of prior sales."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.5, 0.6, n_sku)
    price = rng.uniform(5.0, 20.0, n_sku)
    units = rng.poisson(rate, (n_days, n_sku))
    prior = rng.poisson(rate, (360, n_sku))
    day, sku = np.nonzero(units)
    prior_day, prior_sku = np.nonzero(prior)
    ones = np.ones(2 * n_sku, dtype=np.int64)
    return Tape.from_arrays(
        start=START,
        n_days=n_days,
        skus=[f"S{i:03d}" for i in range(n_sku)],
        unit_price=price,
        vendors=["v", "w"],
        lead_time_days_mean=np.array([3.0, 6.0]),
        lead_time_days_sd=np.array([lead_sd, 2 * lead_sd]),
        min_order_value=np.full(2, min_order_value),
        offer_sku=np.repeat(np.arange(n_sku), 2),
        offer_vendor=np.tile([0, 1], n_sku),
        opening_on_hand_units=rng.poisson(7 * rate),
        opening_unit_cost=0.6 * price,
        opening_offers=(np.repeat(price, 2) * rng.uniform(0.5, 0.7, 2 * n_sku), ones, ones, ones),
        prior_sales=(360 - prior_day, prior_sku, prior[prior_day, prior_sku]),
        demand=(day, sku, units[day, sku]),
    )


PARAMS = BacktestParams(2_000.0, review_period_days=7, warm_up_days=14)
#: Protection periods of the market: lead time 3 or 6 and review of 7 days.
WINDOWS = ((1, 10), (1, 13))


def forecast_of(tape: Tape, day_index: int) -> WindowDemand:
    """Return a forecast from the prior sales alone, with a cutoff on the given day."""
    a = tape.arrays
    rate = np.bincount(a.prior_sales_sku, weights=a.prior_sales_units, minlength=len(tape.skus)) / 360
    mean = rate[:, None] * np.array([[last for _, last in WINDOWS]])
    return WindowDemand(tape.skus, tape.start + timedelta(days=day_index), WINDOWS, mean, np.full(mean.shape, np.inf))


def schedule(tape: Tape, every: int = 28) -> ScheduledForecast:
    """Return forecasts every some days, the first on the eve of the tape."""
    forecasts = [forecast_of(tape, d) for d in range(-1, tape.n_days, every)]
    return ScheduledForecast({f.cutoff: f for f in forecasts})


class Peek:
    """Keeps what a function of the first day's view returns."""

    name = "peek"

    def __init__(self, look):
        self.look, self.seen = look, None

    def decide(self, view):
        """Look once."""
        if view.day_index == 0:
            self.seen = self.look(view)
        return Orders.none()


def look_at(tape, look):
    """Return look(view of day 0)."""
    peek = Peek(look)
    run_backtest(tape, peek, PARAMS)
    return peek.seen


def test_the_standard_policies_and_their_order():
    """Prevents a policy that loses to ordering nothing, or one that beats foresight, on a shop where all assumptions hold."""
    tape = market()
    policies = standard_policies(tape, schedule(tape))
    assert list(policies) == [
        "order_nothing",
        "ewma_greedy",
        "ewma_lp",
        "ewma_marginal",
        "forecast_greedy",
        "forecast_lp",
        "forecast_marginal",
        "gamma_poisson_marginal",
        "ss",
        "base_stock",
        "legacy",
        "clairvoyant",
    ]
    assert all(name == policy.name for name, policy in policies.items())
    results = {name: run_backtest(tape, policy, PARAMS) for name, policy in policies.items()}
    profit = {name: result.summary["profit"] for name, result in results.items()}
    bound = clairvoyant_bound(tape, PARAMS)
    assert profit["order_nothing"] < min(p for name, p in profit.items() if name != "order_nothing")
    assert max(profit.values()) == profit["clairvoyant"]
    assert 0.8 * bound < profit["clairvoyant"] < bound
    assert profit["forecast_marginal"] > 0.6 * bound
    for name in set(policies) - {"order_nothing", "clairvoyant"}:
        assert results[name].summary["order_lines"] > 0


def test_without_forecasts_the_forecast_policies_are_left_out():
    """Prevents a forecast policy that silently falls back to another law."""
    names = list(standard_policies(market(n_days=2)))
    assert not [name for name in names if name.startswith("forecast")]
    assert len(names) == 9


def test_problem_holds_the_days_offers():
    """Prevents a wrong cost, window, position or holding cost in what the allocation is asked."""
    tape = market()
    policy = AllocationPolicy("p", EwmaForecast(), "exact", leftover_value_frac=0.8)

    def look(view):
        rows, problem = policy.problem(view)
        return rows, problem, view.velocity.copy(), view.unit_cost.copy(), view.vendor_index.copy()

    rows, problem, velocity, cost, vendor = look_at(tape, look)
    days = np.where(vendor == 0, 3, 6) + 7
    np.testing.assert_array_equal(problem.unit_cost, cost[rows])
    np.testing.assert_allclose(problem.demand.mean, velocity[rows] * days[rows])
    np.testing.assert_allclose(problem.holding_cost, 0.2 / 365 * cost[rows] * days[rows])
    np.testing.assert_allclose(problem.salvage_value, 0.8 * cost[rows])
    assert problem.skus == tuple(tape.skus[r] for r in rows)


def test_velocity_is_the_ewma_of_the_prior_sales():
    """Prevents a velocity that starts cold: on a year of steady sales it is near the true rate, computed here day by day."""
    tape = market(n_days=1)
    a, gain = tape.arrays, 1 - 0.5 ** (1 / PARAMS.velocity_half_life_days)
    velocity = np.zeros(len(tape.skus))
    for age in range(360, -1, -1):
        velocity *= 1 - gain
        today = a.prior_sales_age_days == age
        np.add.at(velocity, a.prior_sales_sku[today], gain * a.prior_sales_units[today])
    sold = np.minimum(np.bincount(a.demand_sku, weights=a.demand_units, minlength=len(tape.skus)), a.opening_on_hand_units)
    peek = Peek(lambda view: view.velocity.copy())
    run_backtest(tape, peek, dataclasses.replace(PARAMS, warm_up_days=0))
    np.testing.assert_allclose(peek.seen, velocity + gain * sold, rtol=1e-9)


def test_scheduled_forecast_reads_the_latest_and_its_window():
    """Prevents a forecast from the future, a window of another protection period, or rows of other SKUs."""
    tape = market(n_days=60)
    early, late = forecast_of(tape, -1), forecast_of(tape, 20)
    late = dataclasses.replace(late, mean=late.mean * 2)
    source = ScheduledForecast({f.cutoff: f for f in (late, early)})
    assert source.at(START + timedelta(days=19)) is early
    assert source.at(START + timedelta(days=20)) is late
    rows, days = np.array([4, 2]), np.array([13, 10])
    known, law = look_at(tape, lambda view: source.law(view, rows, days))
    assert known.tolist() == [4, 2]
    assert law.mean.tolist() == [early.mean[4, 1], early.mean[2, 0]]
    part = dataclasses.replace(early, skus=early.skus[2:3], mean=early.mean[2:3], size=early.size[2:3])
    known, law = look_at(tape, lambda view: ScheduledForecast({part.cutoff: part}).law(view, rows, days))
    assert (known.tolist(), law.mean.tolist()) == ([2], [early.mean[2, 0]])


def test_scheduled_forecast_refuses():
    """Prevents decisions on a forecast that is missing, stale, misfiled, or of other windows."""
    tape = market(n_days=60)
    early = forecast_of(tape, -1)
    with pytest.raises(ArenaError, match="no forecast is scheduled"):
        ScheduledForecast({})
    with pytest.raises(ArenaError, match="filed under 2017-03-01 has cutoff 2017-02-28"):
        ScheduledForecast({START: early})
    source = ScheduledForecast({early.cutoff: early}, max_age_days=10)
    with pytest.raises(ArenaError, match="no forecast of at most 10 days for 2017-03-15: the latest is of 2017-02-28, 15 days old"):
        run_backtest(tape, AllocationPolicy("p", source, "exact"), PARAMS)
    with pytest.raises(ArenaError, match="for 2017-02-27: there is none"):
        source.at(START - timedelta(days=2))
    with pytest.raises(ArenaError, match=r"the forecast of 2017-02-28 lacks 2 windows, first \(1, 4\); forecast every lead time"):
        run_backtest(tape, AllocationPolicy("p", source, "exact"), BacktestParams(2_000.0, review_period_days=1))


def test_leftover_value_is_bounded():
    """Prevents a salvage value at cost, under which buying without limit would pay."""
    with pytest.raises(ArenaError, match=r"leftover_value_frac is 1.0; it must lie in \[0, 1\)"):
        AllocationPolicy("p", EwmaForecast(), "exact", leftover_value_frac=1.0)


def test_capital_and_vendor_minimums_are_respected():
    """Prevents plans the engine would refuse: tight capital and high minimums give no error and no refused line."""
    tape = market(min_order_value=60.0)
    params = BacktestParams(250.0, review_period_days=7, inbound_cost_per_line=0.5)
    for policy in standard_policies(tape, schedule(tape)).values():
        summary = run_backtest(tape, policy, params).summary
        assert summary["refused_lines"] == 0, policy.name
        assert summary["capital_used_max"] <= max(250.0 + 1e-6, float(tape.arrays.opening_on_hand_units @ tape.arrays.opening_unit_cost))


def test_expected_value_is_the_sum_of_marginal_values():
    """Prevents a line that loses money from being kept: closed form against v_n summed over the units."""
    tape = market()
    _, problem = look_at(tape, AllocationPolicy("p", EwmaForecast(), "exact").problem)
    units = np.arange(len(problem.skus)) % 4
    want = np.zeros(len(units))
    for i, n in enumerate(units):
        for unit in range(1, n + 1):
            s = CountLaw(problem.demand.mean[i : i + 1], problem.demand.size[i : i + 1]).survival(
                problem.inventory_position_units[i : i + 1] + unit
            )[0]
            left = problem.salvage_value[i] - problem.holding_cost[i]
            want[i] += problem.unit_price[i] * s + left * (1 - s) - problem.unit_cost[i]
    np.testing.assert_allclose(expected_values(problem, units), want, rtol=1e-9, atol=1e-9)


def test_clairvoyant_loses_nothing_without_jitter_and_limit():
    """Prevents a window error in the clairvoyant: with fixed lead times and free capital it misses only what no order can reach."""
    tape = market(lead_sd=0.0)
    params = BacktestParams(float("inf"), review_period_days=7, warm_up_days=14)
    assert run_backtest(tape, ClairvoyantPolicy(tape), params).summary["fill_rate"] == 1.0


def test_clairvoyant_reaches_vendor_minimums():
    """Prevents a clairvoyant that starves because each week's need stays below the vendor's minimum."""
    tape = market(min_order_value=150.0, n_sku=10)
    summary = run_backtest(tape, ClairvoyantPolicy(tape), PARAMS).summary
    assert summary["fill_rate"] > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_standard_policies_stay_below_the_bound(seed):
    """Prevents a bound that foresight beats, on worlds with packs, minimums and vendors that come and go."""
    tape = random_tape(seed, 6, 3, 25)
    for policy in standard_policies(tape).values():
        params = BacktestParams(50.0, review_period_days=2, liquidation_frac=1.0)
        assert run_backtest(tape, policy, params).summary["profit"] <= clairvoyant_bound(tape, params) + 1e-9


def test_order_nothing_orders_nothing():
    """Prevents a floor that is not the floor."""
    assert len(run_backtest(market(n_days=20), OrderNothing(), PARAMS).orders) == 0
