"""Level, legacy and gamma-Poisson policies: against their formulas, and honest about the future."""

from __future__ import annotations

import dataclasses
import doctest

import numpy as np
import pytest
from scipy import stats

from invpipe.arena import (
    BacktestParams,
    BaseStock,
    GammaPoissonMarginal,
    LegacyPolicy,
    OrderNothing,
    SsPolicy,
    policies,
    run_backtest,
    standard_policies,
)
from invpipe.arena.policies import GammaPoissonVelocity
from invpipe.arena.policies.record import DemandRecord
from invpipe.errors import ArenaError
from invpipe_tests.unit.arena.test_policies import N_DAYS, PARAMS, look_at, market, schedule
from invpipe_tests.unit.arena.worlds import random_params, random_tape

NEW = ("ss", "base_stock", "legacy", "gamma_poisson_marginal")


def lines(tape, policy):
    """Orders of day 0 as {SKU index: units}."""
    orders = look_at(tape, policy.decide)
    return dict(zip(orders.sku_index.tolist(), orders.order_units.tolist(), strict=True))


def test_example_runs():
    """Prevents a documented example that no longer runs."""
    assert doctest.testmod(policies).failed == 0


def test_standard_policies_have_the_new_ones():
    """Prevents a policy that the ablation cannot name."""
    names = list(standard_policies(market(n_days=10), schedule(market(n_days=10))))
    assert set(NEW) <= set(names)
    assert len(names) == len(set(names)) == 12


@pytest.mark.parametrize("seed", range(6))
def test_rules_are_kept_on_random_worlds(seed):
    """Prevents orders the engine refuses as cheating: packs, minimums, capital, vendors that come and go."""
    tape = random_tape(seed, 8, 3, 30)
    for name in NEW:
        policy = standard_policies(tape)[name]
        params = dataclasses.replace(random_params(seed), warm_up_days=0)
        assert run_backtest(tape, policy, params, seed).fingerprint() == run_backtest(tape, policy, params, seed).fingerprint()
        assert run_backtest(tape, policy, params, seed).summary["refused_lines"] == 0


@pytest.mark.parametrize("name", NEW)
def test_policies_sell(name):
    """Prevents a policy that orders next to nothing: in a steady shop with capital each one serves most of the demand."""
    tape = market()
    params = BacktestParams(2_000.0, review_period_days=7, warm_up_days=14)
    policy = standard_policies(tape)[name]
    summary = run_backtest(tape, policy, params).summary
    assert summary["fill_rate"] > 0.7
    assert summary["profit"] > run_backtest(tape, OrderNothing(), params).summary["profit"]


def test_levels_by_their_formula():
    """Prevents a wrong window, variance, or rounding of s and S: against the formula, SKU by SKU."""
    tape = market(2, lead_sd=1.5)
    gain = 1.0 - 0.5 ** (1.0 / PARAMS.velocity_half_life_days)

    def expected(view):
        out = {}
        for s in range(len(view.skus)):
            v, n = view.velocity[s], np.ceil(view.lead_time_days_mean[s]) + 7
            spread = np.sqrt(v * n * (1 + n * gain / (2 - gain)) + (v * view.lead_time_days_sd[s]) ** 2)
            position = view.on_hand_units[s] + view.on_order_units[s]
            reorder_point, up_to = np.floor(v * n + 1.3 * spread + 0.5) - 1, np.floor(v * n + 1.3 * spread + 10.0 * v + 0.5)
            if position <= reorder_point:
                out[s] = int(up_to) - int(position)
        return out

    want = look_at(tape, expected)
    assert len(want) > 10
    rich = dataclasses.replace(PARAMS, capital_limit=float("inf"))
    seen = run_backtest(tape, SsPolicy(1.3, 10.0), rich).orders.filter(day=tape.start)
    assert {int(sku[1:]): units for sku, units in zip(seen["sku"], seen["order_units"], strict=True)} == want


def test_base_stock_is_ss_without_cover():
    """Prevents two definitions of the same level."""
    tape = market(2)
    a, b = run_backtest(tape, BaseStock(0.7), PARAMS), run_backtest(tape, SsPolicy(0.7, 0.0), PARAMS)
    assert a.fingerprint() == b.fingerprint()
    assert run_backtest(tape, SsPolicy(0.7, 30.0), PARAMS).summary["order_lines"] < a.summary["order_lines"]


def test_scarce_capital_goes_to_the_barest_shelf():
    """Prevents capital spent in catalogue order by a level policy: what is ordered covers fewer days than what is left out."""
    tape = market(2, n_sku=60)
    params = dataclasses.replace(PARAMS, capital_limit=float(tape.arrays.opening_on_hand_units @ tape.arrays.opening_unit_cost) + 120.0)

    class Peek:
        name = "peek"

        def decide(self, view):
            orders = BaseStock().decide(view)
            if view.day_index == 0:
                cover = (view.on_hand_units + view.on_order_units) / np.maximum(view.velocity, 1e-12)
                rest = np.setdiff1d(look_rows(view), orders.sku_index)
                assert 0 < len(orders.sku_index) < len(look_rows(view))
                assert np.median(cover[orders.sku_index]) < np.median(cover[rest])
            return orders

    def look_rows(view):
        free = dataclasses.replace(PARAMS, capital_limit=float("inf"))
        assert free.capital_limit > view.capital_available
        view = _with_capital(view, float("inf"))
        return BaseStock().decide(view).sku_index

    run_backtest(tape, Peek(), params)


def _with_capital(view, capital):
    import copy

    rich = copy.copy(view)
    rich.capital_available = capital
    return rich


def test_record_sums():
    """Prevents a sum over days that is off by one, or forgets the sales before the start: against a dense matrix."""
    for seed in range(8):
        tape = random_tape(seed, 5, 2, 20)
        a, record = tape.arrays, DemandRecord.of(tape)
        dense = np.zeros((5, 80), dtype=int)
        np.add.at(dense, (a.prior_sales_sku, 40 - a.prior_sales_age_days), a.prior_sales_units)
        day = np.repeat(np.arange(20), np.diff(a.demand_start))
        np.add.at(dense, (a.demand_sku, 40 + day), a.demand_units)
        rows = np.arange(5)
        for first, end in ((-40, 40), (-7, 3), (0, 0), (5, 2), (19, 30), (-3, -2)):
            want = dense[:, 40 + first : 40 + end].sum(axis=1) if end > first else np.zeros(5, dtype=int)
            assert record.units_between(rows, first, end).tolist() == want.tolist()


def test_legacy_forecast_by_hand():
    """Prevents a wrong year, ratio, guard rail or fallback."""
    tape = market(n_sku=4, n_days=30)
    policy = LegacyPolicy(tape, lookback_days=10, ratio_max=2.0, min_history_units=5)
    # record: this year's 10 days, last year's 10 days, last year's window
    events = {0: (20, 10, 8), 1: (90, 10, 8), 2: (1, 10, 8), 3: (20, 4, 8)}
    day, sku, units = [], [], []
    for s, (recent, before, window) in events.items():
        day += [29, 29 - 364, 30 - 364]
        sku += [s] * 3
        units += [recent, before, window]
    order = np.lexsort((day, sku))
    rows = np.array(sku)[order]
    start = np.searchsorted(rows, np.arange(5))
    total = np.concatenate([[0], np.cumsum(np.array(units)[order])])
    record = DemandRecord(-400, start, np.array(day, dtype=np.int32)[order], total)
    object.__setattr__(policy, "record", record)
    want = [2.0 * 8, 2.0 * 8, 0.5 * 8, 20 / 10 * 7]
    assert policy.forecast(np.arange(4), 29, np.full(4, 7)).tolist() == want
    object.__setattr__(policy, "record", dataclasses.replace(record, first_day=-340))
    assert policy.forecast(np.arange(4), 29, np.full(4, 7)) == pytest.approx([14.0, 63.0, 0.7, 14.0])


def test_legacy_spends_in_catalogue_order():
    """Prevents shared optimisation creeping into the policy that stands for having none."""
    tape = market(2, n_sku=40)
    free = run_backtest(tape, LegacyPolicy(tape), dataclasses.replace(PARAMS, capital_limit=float("inf"))).orders.filter(day=tape.start)
    budget = float(tape.arrays.opening_on_hand_units @ tape.arrays.opening_unit_cost) + 150.0
    scarce = run_backtest(tape, LegacyPolicy(tape), dataclasses.replace(PARAMS, capital_limit=budget)).orders.filter(day=tape.start)
    assert 0 < len(scarce) < len(free)
    first = int((free["order_units"] * free["unit_cost"]).cum_sum().le(150.0).sum())
    assert scarce["sku"].to_list()[:first] == free["sku"].to_list()[:first]


@pytest.mark.parametrize("name", [*NEW, "ewma_greedy", "ewma_marginal"])
def test_nothing_after_the_day_is_read(name):
    """Prevents foresight: with other demand from day 60 on, every order up to then is the same."""
    tape = market(3)
    a, cut = tape.arrays, tape.arrays.demand_start[60]
    units = a.demand_units.copy()
    units[cut:] = units[cut:] * 7 + 3
    poisoned = dataclasses.replace(tape, arrays=a._replace(demand_units=units))
    seen = [run_backtest(t, standard_policies(t)[name], PARAMS).orders for t in (tape, poisoned)]
    day = tape.start + (tape.end - tape.start) * 59 / (N_DAYS - 1)
    past = [orders.filter(orders["day"] <= day) for orders in seen]
    assert past[0].equals(past[1])
    assert len(past[0]) > 20
    assert not seen[0].equals(seen[1])


def test_gamma_poisson_posterior():
    """Prevents a wrong prior or exposure: moments over SKUs, posterior mean between own velocity and the assortment's."""
    tape = market(5, n_sku=200)
    rows, days = np.arange(200), np.full(200, 10)

    def look(view):
        return np.array(view.velocity), GammaPoissonVelocity().law(view, rows, days), GammaPoissonVelocity(0.05).law(view, rows, days)

    velocity, (known, law), (_, doubtful) = look_at(tape, look)
    gain = 1.0 - 0.5 ** (1.0 / PARAMS.velocity_half_life_days)
    exposure = (2 - gain) / gain
    mean, variance = velocity.mean(), velocity.var() - velocity.mean() / exposure
    shape, rate = mean**2 / variance, mean / variance
    own = velocity[known]
    np.testing.assert_allclose(law.mean, 10 * (shape + own * exposure) / (rate + exposure))
    np.testing.assert_allclose(law.size, shape + own * exposure)
    assert (np.sign(law.mean - 10 * own) == np.sign(mean - own)).all()
    assert (np.abs(doubtful.mean - 10 * mean) < np.abs(law.mean - 10 * mean)).all()
    assert (own > 0).all()


def test_ewma_exposure_is_that_of_its_variance():
    """Prevents a believed history longer than the EWMA's: the variance of the EWMA of Poisson counts is rate / E."""
    from invpipe.arena.policies.candidates import ewma_exposure_days

    gain = 1.0 - 0.5 ** (1.0 / 28.0)
    weights = gain * (1 - gain) ** np.arange(4_000)
    assert 1.0 / (weights**2).sum() == pytest.approx(ewma_exposure_days(28.0))
    assert stats.poisson(0.3).var() / ewma_exposure_days(28.0) == pytest.approx(0.3 * (weights**2).sum())


def test_parameters_are_bounded():
    """Prevents a sweep from running nonsense: each bound is named with the value."""
    tape = market(n_days=10)
    for make, message in (
        (lambda: SsPolicy(float("nan")), "safety_factor is nan; it must be finite"),
        (lambda: SsPolicy(1.0, -1.0), "cover_days is -1.0; it must be >= 0 and finite"),
        (lambda: BaseStock(float("inf")), "safety_factor is inf; it must be finite"),
        (lambda: GammaPoissonMarginal(0.0), "exposure_frac is 0.0; it must be above 0"),
        (lambda: GammaPoissonMarginal(leftover_value_frac=1.0), "leftover_value_frac is 1.0"),
        (lambda: LegacyPolicy(tape, lookback_days=365), "lookback_days is 365; it must be 1 to 364"),
        (lambda: LegacyPolicy(tape, ratio_max=0.5), "ratio_max is 0.5; it must be 1 or more and finite"),
        (lambda: LegacyPolicy(tape, min_history_units=0), "min_history_units is 0; it must be 1 or more"),
        (lambda: LegacyPolicy(tape, leftover_value_frac=1.0), "leftover_value_frac is 1.0; it must be 0 to below 1"),
    ):
        with pytest.raises(ArenaError, match=message):
            make()
