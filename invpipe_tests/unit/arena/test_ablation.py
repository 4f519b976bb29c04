"""Ablation: pairing, intervals, thread independence."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest

from invpipe.arena import BacktestParams, BacktestResult, OrderNothing, clairvoyant_bound, compare, pairwise, run_ablation, run_backtest
from invpipe.arena.ablation import block_profit, paired_interval, sku_blocks
from invpipe.errors import ArenaError
from invpipe_tests.unit.arena.worlds import MixedPolicy, random_tape

PARAMS = BacktestParams(40.0, review_period_days=3, warm_up_days=4)
POLICIES = {"order_nothing": OrderNothing(), "mixed": MixedPolicy(1)}


def test_table_is_the_same_for_any_thread_count_and_from_disk(tmp_path):
    """Prevents a comparison that depends on scheduling, or on whether the runs were made now or read back."""
    tape = random_tape(21, 6, 3, 25)
    one = run_ablation(tape, POLICIES, PARAMS, [1, 2, 3], baseline="order_nothing")
    two = run_ablation(tape, POLICIES, PARAMS, [1, 2, 3], baseline="order_nothing", n_threads=3)
    assert one.table.drop("seconds").equals(two.table.drop("seconds"))
    for name, runs in one.results.items():
        for run in runs:
            run.save(tmp_path / f"{name}-{run.seed}")
    read = {name: [BacktestResult.open(tmp_path / f"{name}-{seed}") for seed in (1, 2, 3)] for name in POLICIES}
    assert compare(read, "order_nothing", bound=one.bound).table.equals(one.table)


def test_table_figures():
    """Prevents a difference that is not profit less baseline profit, and an interval that does not hold it."""
    tape = random_tape(21, 6, 3, 25)
    ablation = run_ablation(tape, POLICIES, PARAMS, [1, 2, 3], baseline="order_nothing")
    base, mixed = ablation.table.rows(named=True)
    assert (base["profit_difference"], base["profit_difference_low"], base["profit_difference_high"]) == (0.0, 0.0, 0.0)
    profit = np.mean([run_backtest(tape, MixedPolicy(1), PARAMS, seed).summary["profit"] for seed in (1, 2, 3)])
    assert mixed["profit"] == pytest.approx(profit)
    assert mixed["profit_difference"] == pytest.approx(mixed["profit"] - base["profit"])
    assert mixed["profit_difference_low"] <= mixed["profit_difference"] <= mixed["profit_difference_high"]
    assert mixed["share_of_clairvoyant_frac"] == pytest.approx(profit / ablation.bound)


def test_interval_covers_both_spreads():
    """Prevents an interval of lead-time seeds only: block effects alone must widen it as the central limit theorem says."""
    rng = np.random.default_rng(0)
    blocks = rng.normal(10.0, 5.0, 40)
    mean, low, high = paired_interval(np.tile(blocks, (5, 1)))
    assert mean == pytest.approx(blocks.sum())
    assert (high - low) / 2 == pytest.approx(1.96 * blocks.std() * np.sqrt(40), rel=0.1)
    seeds = rng.normal(0.0, 3.0, 30)
    _, low, high = paired_interval(np.repeat(seeds[:, None], 2, axis=1))
    assert (high - low) / 2 == pytest.approx(1.96 * 2 * seeds.std() / np.sqrt(30), rel=0.1)


def test_blocks_are_stable_and_complete():
    """Prevents blocks that depend on the process (hash randomisation) or lose profit."""
    assert sku_blocks(["S0", "S1", "S2", "S3"], 20).tolist() == [int(n) for n in sku_blocks(["S0", "S1", "S2", "S3"], 20)]
    result = run_backtest(random_tape(3), MixedPolicy(1), PARAMS)
    assert block_profit([result], 20).sum() == pytest.approx(result.summary["profit"])


def test_compare_refuses_what_cannot_be_paired():
    """Prevents comparisons across seeds, tapes or parameters."""
    tape = random_tape(3)
    run = run_backtest(tape, OrderNothing(), PARAMS, 1)
    with pytest.raises(ArenaError, match="baseline 'x' is not among the 1 policies"):
        compare({"a": [run]}, "x")
    with pytest.raises(ArenaError, match="baseline 'a' has no result"):
        compare({"a": []}, "a")
    with pytest.raises(ArenaError, match=r"policy 'b' ran with seeds \[2\], baseline 'a' with \[1\]"):
        compare({"a": [run], "b": [dataclasses.replace(run, seed=2)]}, "a")
    with pytest.raises(ArenaError, match="ran with other tape than baseline 'a'"):
        compare({"a": [run], "b": [run_backtest(random_tape(4), OrderNothing(), PARAMS, 1)]}, "a")
    with pytest.raises(ArenaError, match="ran with other parameters"):
        compare({"a": [run], "b": [run_backtest(tape, OrderNothing(), BacktestParams(1.0), 1)]}, "a")
    with pytest.raises(ArenaError, match="n_blocks is 1"):
        compare({"a": [run]}, "a", n_blocks=1)
    with pytest.raises(ArenaError, match="seeds must not be empty"):
        run_ablation(tape, POLICIES, PARAMS, [], baseline="mixed")


def test_pairs_of_any_number_of_policies():
    """Prevents pairs that are not paired: each interval is that of `compare` with the other as baseline, and none is missing."""
    tape = random_tape(21, 6, 3, 25)
    policies = {"order_nothing": OrderNothing()} | {f"mixed{i}": MixedPolicy(i) for i in range(1, 6)}
    results = run_ablation(tape, policies, PARAMS, [1, 2, 3], baseline="order_nothing").results
    table = pairwise(results)
    assert len(table) == 6 * 5 // 2
    for row in table.iter_rows(named=True):
        other = compare(results, row["other"]).table.row(by_predicate=pl.col("policy") == row["policy"], named=True)
        for name in ("profit_difference", "profit_difference_low", "profit_difference_high"):
            assert row[name] == pytest.approx(other[name], rel=1e-9, abs=1e-9)
        assert row["simultaneous_low"] <= row["profit_difference"] <= row["simultaneous_high"]
    width = table["simultaneous_high"] - table["simultaneous_low"]
    assert (width > 1.05 * (table["profit_difference_high"] - table["profit_difference_low"])).mean() > 0.5
    assert pairwise(results).equals(table)
    assert len(pairwise({"mixed1": results["mixed1"]})) == 0
    twins = pairwise({"a": results["mixed1"], "b": results["mixed1"]}).row(0, named=True)
    assert (twins["profit_difference"], twins["simultaneous_low"], twins["simultaneous_high"]) == (0.0, 0.0, 0.0)


def test_simultaneous_intervals_hold_for_all_pairs():
    """Prevents a reach that is that of one pair: with two policies it is about 1.96 standard deviations, with more it is larger."""
    tape = random_tape(21, 6, 3, 25)
    policies = {f"mixed{i}": MixedPolicy(i) for i in range(1, 8)}
    results = run_ablation(tape, policies, PARAMS, [1, 2, 3, 4, 5], baseline="mixed1").results
    two = pairwise({name: results[name] for name in ("mixed1", "mixed2")}).row(0, named=True)
    all_pairs = pairwise(results).row(0, named=True)
    narrow, wide = (row["simultaneous_high"] - row["simultaneous_low"] for row in (two, all_pairs))
    assert two["profit_difference_high"] - two["profit_difference_low"] == pytest.approx(narrow, rel=0.15)
    assert wide > 1.2 * narrow


def test_pairwise_refuses():
    """Prevents an empty comparison, and one across seeds."""
    run = run_backtest(random_tape(3), OrderNothing(), PARAMS, 1)
    with pytest.raises(ArenaError, match="there are no results to compare"):
        pairwise({})
    with pytest.raises(ArenaError, match=r"policy 'b' ran with seeds \[2\], baseline 'a' with \[1\]"):
        pairwise({"a": [run], "b": [dataclasses.replace(run, seed=2)]})
    with pytest.raises(ArenaError, match="n_blocks is 1"):
        pairwise({"a": [run]}, n_blocks=1)


def test_bound_is_that_of_the_seeds():
    """Prevents a share of a bound for lead times nobody had."""
    tape = random_tape(21, 6, 3, 25)
    ablation = run_ablation(tape, POLICIES, PARAMS, [1, 2, 3], baseline="order_nothing")
    assert ablation.bound == pytest.approx(np.mean([clairvoyant_bound(tape, PARAMS, seed) for seed in (1, 2, 3)]))
    assert (ablation.table["profit"] <= ablation.bound).all()
