"""Engine: the order of a day by hand, rules for policies, determinism, no look-ahead, results on disk."""

from __future__ import annotations

import dataclasses
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl
import pytest

from invpipe.arena import AllocationPolicy, BacktestParams, BacktestResult, EwmaForecast, OrderNothing, Orders, Tape, run_backtest
from invpipe.arena.engine import lead_days
from invpipe.errors import ArenaError, ProvenanceError
from invpipe_tests.unit.arena.worlds import START, FixedPolicy, MixedPolicy, random_params, random_tape


def _shop(**changes) -> Tape:
    """One SKU at price 5, one vendor (lead time 2, unit cost 2), 10 days, 2 units of demand a day, 3 on hand at cost 1."""
    days = np.arange(10)
    arguments = {
        "start": START,
        "n_days": 10,
        "skus": ["a"],
        "unit_price": np.array([5.0]),
        "vendors": ["v"],
        "lead_time_days_mean": np.array([2.0]),
        "lead_time_days_sd": np.array([0.0]),
        "min_order_value": np.array([0.0]),
        "offer_sku": np.array([0]),
        "offer_vendor": np.array([0]),
        "opening_on_hand_units": np.array([3]),
        "opening_unit_cost": np.array([1.0]),
        "opening_offers": (np.array([2.0]), np.array([1]), np.array([1]), np.array([1])),
        "demand": (days, np.zeros(10, dtype=int), np.full(10, 2)),
    }
    return Tape.from_arrays(**(arguments | changes))


def test_a_week_by_hand():
    """Prevents an off-by-one in the clock: an order at the end of day 0 with lead time 2 serves the demand of day 2."""
    params = BacktestParams(100.0, review_period_days=1, holding_cost_frac_per_year=3.65, inbound_cost_per_line=0.5)
    result = run_backtest(_shop(), FixedPolicy({0: [(0, 4)], 9: [(0, 3)]}), params)
    days = result.days
    assert days["sales_units"].to_list() == [2, 1, 2, 2, 0, 0, 0, 0, 0, 0]
    assert days["lost_sales_units"].to_list() == [0, 1, 0, 0, 2, 2, 2, 2, 2, 2]
    assert days["arrival_units"].to_list() == [0, 0, 4, 0, 0, 0, 0, 0, 0, 0]
    assert days["on_order_value"].to_list() == [8.0, 8.0, 0, 0, 0, 0, 0, 0, 0, 6.0]
    assert days["inventory_value"].to_list() == [1.0, 0.0, 4.0, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(days["holding_cost"], [0.01, 0.0, 0.04, 0, 0, 0, 0, 0, 0, 0])
    assert days["capital_available"].to_list()[:3] == [91.0, 92.0, 96.0]
    assert result.summary["cogs"] == 3 * 1.0 + 4 * 2.0
    assert result.summary["profit"] == pytest.approx(35.0 - 11.0 - 0.05 - 1.0 - 0.5 * 6.0)
    assert result.summary["profit_ending_at_zero"] == pytest.approx(35.0 - 11.0 - 0.05 - 1.0 - 6.0)
    assert result.summary["profit_ending_at_cost"] == pytest.approx(35.0 - 11.0 - 0.05 - 1.0)
    assert result.summary["fill_rate"] == 7 / 20
    assert result.orders.rows()[0] == (START, "a", "v", 4, 2.0, pl.date_range(START, START, eager=True).dt.offset_by("2d")[0])


def test_warm_up_is_replayed_but_not_counted():
    """Prevents the opening stock's transient from entering the KPIs, or the stock bought in the warm-up from vanishing."""
    policy = FixedPolicy({0: [(0, 4)]})
    all_days = run_backtest(_shop(), policy, BacktestParams(100.0, review_period_days=1, inbound_cost_per_line=1.0))
    counted = run_backtest(_shop(), policy, BacktestParams(100.0, review_period_days=1, inbound_cost_per_line=1.0, warm_up_days=3))
    assert counted.days.drop("counted").equals(all_days.days.drop("counted"))
    assert counted.summary["revenue"] == 10.0
    assert counted.summary["inbound_cost"] == 0.0
    assert counted.sku_totals["sales_units"].to_list() == [2]
    assert counted.summary["holding_cost"] == pytest.approx(counted.sku_totals["holding_cost"].sum())


def test_estimate_of_censored_demand_by_hand():
    """Prevents an estimate that counts days that merely ended empty, or that reaches revenue.

    Prior 10 units of 100 views. Day 0 opens with 1 unit, sells it, 20 views: conversion 11 / 120. Day 1 opens empty: 30 views lose 2.75.
    """
    two = np.arange(2)
    zero = np.zeros(2, dtype=int)
    tape = _shop(
        n_days=2,
        opening_on_hand_units=np.array([1]),
        demand=(two, zero, np.full(2, 2)),
        views=(two, zero, np.array([20, 30])),
        prior_conversion=(np.array([10]), np.array([100])),
    )
    result = run_backtest(tape, OrderNothing(), BacktestParams(0.0, conversion_prior_views=0.0))
    assert result.days["lost_estimate_units"].to_list() == [0.0, 30 * 11 / 120]
    assert result.summary["revenue"] == 5.0


class Lines:
    """Orders one fixed answer on the first day."""

    name = "cheat"

    def __init__(self, sku_index, order_units):
        self.orders = Orders(np.asarray(sku_index), np.asarray(order_units))

    def decide(self, view):
        return self.orders if view.day_index == 0 else Orders.none()


@pytest.mark.parametrize(
    ("sku_index", "order_units", "message"),
    [
        ([0], [2], r"policy 'cheat' on 2017-03-01: 1 of 1 order lines are below min_order_units 3, first SKU 'a' with 2 units"),
        ([0], [5], "are not a multiple of pack_units 3"),
        ([0], [3000], "ordered for 6000.00 with 99.00 of capital available; stay within capital_available"),
        ([0], [-3], "have no units"),
        ([0, 0], [3, 3], "1 of 2 order lines repeat a SKU"),
        ([1], [3], r"ordered SKU index 1; indices are 0 .. 0"),
        ([-1], [3], "ordered SKU index -1"),
        ([0], [3.0], "give whole numbers, one per line"),
        ([0], [3, 3], "give whole numbers, one per line"),
    ],
)
def test_a_policy_must_not_cheat(sku_index, order_units, message):
    """Prevents a policy from gaining by an order no vendor or bank would take; the error names policy, day, SKU and rule."""
    tape = _shop(opening_offers=(np.array([2.0]), np.array([1]), np.array([3]), np.array([3])))
    with pytest.raises(ArenaError, match=message):
        run_backtest(tape, Lines(sku_index, order_units), BacktestParams(100.0))


def test_ordering_without_an_offer_is_an_error():
    """Prevents orders from a vendor that has no stock."""
    tape = _shop(opening_offers=(np.array([2.0]), np.array([0]), np.array([1]), np.array([1])))
    with pytest.raises(ArenaError, match="have no vendor with stock"):
        run_backtest(tape, Lines([0], [3]), BacktestParams(100.0))


def test_vendor_minimum_refuses_and_counts():
    """Prevents a vendor's minimum from being ignored, and the refused lines from binding capital."""
    result = run_backtest(_shop(min_order_value=np.array([8.01])), Lines([0], [4]), BacktestParams(100.0))
    assert result.summary["refused_lines"] == 1
    assert result.summary["order_lines"] == 0
    assert len(result.orders) == 0
    assert result.days["on_order_value"].max() == 0.0


def test_views_are_read_only():
    """Prevents a policy from writing into the shop's books."""

    class Thief:
        name = "thief"

        def decide(self, view):
            for name in dir(view):
                value = getattr(view, name)
                if not name.startswith("_") and isinstance(value, np.ndarray):
                    assert not value.flags.writeable, name
            with pytest.raises(ValueError, match="read-only"):
                view.on_hand_units[0] = 1_000
            return Orders.none()

    run_backtest(random_tape(3), Thief(), BacktestParams(100.0))


def test_fingerprints_repeat_across_runs_and_threads():
    """Prevents hidden state in policy, tape or kernel."""
    tape, params = random_tape(11, 6, 3, 25), BacktestParams(30.0, review_period_days=2)
    jobs = [(MixedPolicy(i % 3), i % 4) for i in range(24)]
    alone = [run_backtest(tape, policy, params, seed).fingerprint() for policy, seed in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda job: run_backtest(tape, job[0], params, job[1]).fingerprint(), jobs))
    assert alone == together
    assert len(set(alone)) > 6


def test_lead_times_are_common_and_keep_their_prefix():
    """Prevents policies from meeting different lead times under one seed, and a longer tape from changing past ones."""
    tape = _shop(lead_time_days_sd=np.array([1.5]))
    longer = _shop(lead_time_days_sd=np.array([1.5]), n_days=20)
    assert (lead_days(tape, 5) == lead_days(longer, 5)[:10]).all()
    assert (lead_days(tape, 5) != lead_days(tape, 6)).any()
    assert lead_days(longer, 5).min() >= 1


@pytest.mark.parametrize("policy", [MixedPolicy(1), *(AllocationPolicy(m, EwmaForecast(), m) for m in ("exact", "lp", "greedy"))])
@pytest.mark.parametrize("seed", range(4))
def test_poison_after_a_day_changes_nothing_up_to_it(seed, policy):
    """Prevents look-ahead: other demand, views and offers after day T leave every decision and figure up to T as it was."""
    tape, other, params, cut = random_tape(seed, 5, 3, 20), random_tape(seed + 100, 5, 3, 20), random_params(seed), 9
    params = dataclasses.replace(params, warm_up_days=0, capital_limit=30.0)
    a = tape.arrays

    def spliced(source, start, *names):
        """Rows up to the cut from the tape, later rows from elsewhere."""
        keep, rest = getattr(a, start)[cut + 1], getattr(source, start)[cut + 1]
        return {name: np.concatenate([getattr(a, name)[:keep], getattr(source, name)[rest:]]) for name in names} | {
            start: np.concatenate([getattr(a, start)[: cut + 2], getattr(source, start)[cut + 2 :] - rest + keep])
        }

    n_offer = len(a.offer_sku)
    b = other.arrays
    good = b.delta_offer < n_offer
    deltas = {name: getattr(b, name)[good] for name in a._fields if name.startswith("delta_") and name != "delta_start"}
    counted = np.concatenate([[0], np.cumsum(good)])
    b = b._replace(delta_start=counted[b.delta_start], **deltas)
    poison = a._replace(
        **spliced(b, "demand_start", "demand_sku", "demand_units"),
        **spliced(b, "views_start", "views_sku", "views"),
        **spliced(b, "delta_start", *deltas),
    )
    poisoned = dataclasses.replace(tape, arrays=poison)
    assert poisoned.fingerprint() != tape.fingerprint()
    left, right = run_backtest(tape, policy, params, seed), run_backtest(poisoned, policy, params, seed)
    last = tape.start + pl.duration(days=cut)
    assert left.days[: cut + 1].equals(right.days[: cut + 1])
    assert left.orders.filter(pl.col("day") <= last).equals(right.orders.filter(pl.col("day") <= last))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capital_limit": -1.0}, "capital_limit is -1.0; it must lie between 0.0 and inf"),
        ({"capital_limit": math.nan}, "capital_limit is nan"),
        ({"review_period_days": 0}, "review_period_days is 0; it must lie between 1 and 3650"),
        ({"review_period_days": 1.5}, "review_period_days is 1.5; give a whole number"),
        ({"liquidation_frac": 1.1}, "liquidation_frac is 1.1"),
        ({"velocity_half_life_days": 0.0}, "velocity_half_life_days is 0.0"),
        ({"warm_up_days": -1}, "warm_up_days is -1"),
    ],
)
def test_params_refuse(change, message):
    """Prevents a backtest under nonsense parameters."""
    with pytest.raises(ArenaError, match=message):
        BacktestParams(**({"capital_limit": 1.0} | change))


def test_warm_up_must_leave_a_day():
    """Prevents a summary over no day."""
    with pytest.raises(ArenaError, match="warm_up_days is 10 on a tape of 10 days; leave at least one day"):
        run_backtest(_shop(), OrderNothing(), BacktestParams(1.0, warm_up_days=10))


def test_seed_must_not_be_negative():
    """Prevents an error of the random generator in place of one that names the seed."""
    with pytest.raises(ArenaError, match="seed is -1; it must be a whole number >= 0"):
        run_backtest(_shop(), OrderNothing(), BacktestParams(1.0), seed=-1)


def test_result_survives_the_disk(tmp_path):
    """Prevents a result that changes on its way through a file, an infinite limit included, or a damaged one that is read."""
    result = run_backtest(random_tape(5), MixedPolicy(5), BacktestParams(math.inf, review_period_days=1))
    path = result.save(tmp_path / "result")
    result.save(path)
    back = BacktestResult.open(path)
    assert back.fingerprint() == result.fingerprint()
    assert (back.params, back.seed, back.policy, back.phase_seconds) == (result.params, result.seed, result.policy, result.phase_seconds)
    assert [p.name for p in tmp_path.iterdir()] == ["result"]
    result.days.with_columns(pl.col("revenue") + 1).write_parquet(path / "days.parquet")
    with pytest.raises(ProvenanceError, match="is damaged: its content has another fingerprint"):
        BacktestResult.open(path)
    (path / "days.parquet").unlink()
    with pytest.raises(ProvenanceError, match="is not a whole backtest result"):
        BacktestResult.open(path)
    (tmp_path / "else").mkdir()
    with pytest.raises(ProvenanceError, match="is not a backtest result"):
        result.save(tmp_path / "else")


def test_phases_are_timed():
    """Prevents a run without its wall-clock seconds per phase."""
    seconds = run_backtest(_shop(), OrderNothing(), BacktestParams(1.0)).phase_seconds
    assert set(seconds) == {"start", "kernel", "view", "decide", "orders", "result"}
    assert all(value >= 0 for value in seconds.values())


@pytest.mark.parametrize("seed", range(40))
def test_a_run_without_its_orders_is_the_same_run(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a sweep, which drops the orders that have arrived, from measuring another backtest than the one with all orders."""
    tape, params = random_tape(seed, n_days=40), random_params(seed)
    whole = run_backtest(tape, MixedPolicy(seed), params, seed)
    monkeypatch.setattr("invpipe.arena.engine.FIRST_ORDERS", 2)  # full every day
    brief = run_backtest(tape, MixedPolicy(seed), params, seed, keep_orders=False)
    assert brief.orders.is_empty()
    assert brief.orders.schema == whole.orders.schema
    assert brief.summary == whole.summary
    assert brief.days.equals(whole.days)
    assert brief.sku_totals.equals(whole.sku_totals)
