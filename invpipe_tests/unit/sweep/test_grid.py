"""Grid sweeps: the frame, resuming, threads, identity of runs."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from invpipe.arena import Orders, ShopView, run_backtest
from invpipe.errors import ArenaError, ProvenanceError
from invpipe.sweep import MEASURED, run_sweep
from invpipe.sweep.runs import Identities
from invpipe_tests.unit.sweep.worlds import DECISIONS, PARAMS, Counted, Counter, marginal, small_tape

SPACE = {"leftover_value_frac": [0.2, 0.9], "capital_limit": [150.0, 600.0]}
SEEDS = (0, 3)

#: Reads a mapped file of 80 MB, then fills as much memory; prints what is seen: before, after reading, inner and outer peak, MB.
WATCHED = """
import json, sys
import numpy as np
from invpipe.sweep.memory import PrivateMemory, private_mb

with PrivateMemory() as memory, memory.watch() as peak:
    before = peak.megabytes
    np.memmap(sys.argv[1], mode="r").sum()
    after_mapping = private_mb()
    block = np.ones(10_000_000)
    with memory.watch() as inner:
        block += 1.0
print(json.dumps([before, after_mapping, inner.megabytes, peak.megabytes]))
"""


def test_frame_holds_the_means_of_the_backtests(tmp_path: Path) -> None:
    """Prevents a table whose figures are not those of the replays its parameters name."""
    tape = small_tape()
    trials = run_sweep(tape, marginal, SPACE, PARAMS, SEEDS, tmp_path)
    assert trials.select("leftover_value_frac", "capital_limit").rows() == [(0.2, 150.0), (0.2, 600.0), (0.9, 150.0), (0.9, 600.0)]
    for row in trials.iter_rows(named=True):
        params = dataclasses.replace(PARAMS, capital_limit=row["capital_limit"])
        summaries = [run_backtest(tape, marginal(row["leftover_value_frac"]), params, seed).summary for seed in SEEDS]
        for name in ("profit", "fill_rate", "capital_used_mean", "order_lines"):
            assert row[name] == np.mean([summary[name] for summary in summaries]), name
        assert row["profit_sd"] == np.std([summary["profit"] for summary in summaries])
        assert row["n_seeds"] == len(SEEDS)
        assert row["seconds"] > 0
    assert trials["profit"].n_unique() == len(trials)


def test_threads_change_no_figure(tmp_path: Path) -> None:
    """Prevents rows that stand in the order in which threads finished, or figures that depend on it."""
    tape, counter = small_tape(), Counter()
    one = run_sweep(tape, lambda **given: Counted(counter, **given), SPACE, PARAMS, SEEDS, tmp_path / "one")
    counter.threads.clear()
    two = run_sweep(tape, lambda **given: Counted(counter, **given), SPACE, PARAMS, SEEDS, tmp_path / "two", threads=3)
    assert one.drop(MEASURED).equals(two.drop(MEASURED))
    assert all(name.startswith("sweep_") for name in counter.threads)


def test_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Prevents replaying what a killed sweep has finished, and losing it."""
    tape, counter, told = small_tape(), Counter(), []

    class Killed(BaseException):
        pass

    def until_three(done: int, total: int, last: str) -> None:
        told.append((done, total))
        if done == 3:
            raise Killed

    def maker(**given: float) -> Counted:
        return Counted(counter, **given)

    with pytest.raises(Killed):
        run_sweep(tape, maker, SPACE, PARAMS, SEEDS, tmp_path / "killed", progress=until_three)
    assert told == [(1, 8), (2, 8), (3, 8)]
    finished = len(list((tmp_path / "killed" / "runs").glob("*.json")))
    assert 3 <= finished < 8
    counter.calls = 0
    resumed = run_sweep(tape, maker, SPACE, PARAMS, SEEDS, tmp_path / "killed")
    assert counter.calls == (8 - finished) * DECISIONS
    whole = run_sweep(tape, maker, SPACE, PARAMS, SEEDS, tmp_path / "whole")
    assert resumed.drop(MEASURED).equals(whole.drop(MEASURED))


def test_seeds_added_later_replay_only_themselves(tmp_path: Path) -> None:
    """Prevents paying for a whole sweep again when one seed is added."""
    tape, counter = small_tape(), Counter()
    run_sweep(tape, lambda: Counted(counter), {}, PARAMS, [0], tmp_path)
    counter.calls = 0
    trials = run_sweep(tape, lambda: Counted(counter), {}, PARAMS, [0, 1], tmp_path)
    assert (counter.calls, trials["n_seeds"].item()) == (DECISIONS, 2)


def test_runs_of_other_tapes_backtests_and_policies_are_not_taken(tmp_path: Path) -> None:
    """Prevents results of one shop or policy that are shown as those of another."""
    counter = Counter()

    def decisions(tape_seed: int = 0, limit: float = 600.0, frac: float = 0.9, name: str = "a") -> int:
        counter.calls = 0
        params = dataclasses.replace(PARAMS, capital_limit=limit)
        run_sweep(small_tape(tape_seed), lambda: Counted(counter, frac, name), {}, params, [0], tmp_path)
        return counter.calls

    assert decisions() == DECISIONS
    assert decisions() == 0
    assert [decisions(tape_seed=1), decisions(limit=601.0), decisions(frac=0.8), decisions(name="b")] == [DECISIONS] * 4


def test_damaged_run_is_refused(tmp_path: Path) -> None:
    """Prevents a torn or foreign file from being read as a result, or being passed over in silence."""
    run_sweep(small_tape(), marginal, {}, PARAMS, [0, 1], tmp_path)
    one, two = sorted((tmp_path / "runs").glob("*.json"))
    text = one.read_text()
    one.write_text(two.read_text())
    with pytest.raises(ProvenanceError, match=r"\.json is not a whole run: it is another run's file; remove it"):
        run_sweep(small_tape(), marginal, {}, PARAMS, [0, 1], tmp_path)
    one.write_text(text[: len(text) // 2])
    with pytest.raises(ProvenanceError, match=r"\.json is not a whole run: .*; remove it, and the sweep will replay it"):
        run_sweep(small_tape(), marginal, {}, PARAMS, [0, 1], tmp_path)
    one.unlink()
    run_sweep(small_tape(), marginal, {}, PARAMS, [0, 1], tmp_path)


def test_failing_variant_stops_the_sweep_and_keeps_what_is_done(tmp_path: Path) -> None:
    """Prevents a sweep that hides a policy's mistake, or goes on for hours after it."""

    @dataclasses.dataclass(frozen=True)
    class Spender:
        units: int
        name: str = "spender"

        def decide(self, view: ShopView) -> Orders:
            return Orders(np.arange(self.units), np.full(self.units, 10**6))

    with pytest.raises(ArenaError, match="policy 'spender' on 2017-03-01"):
        run_sweep(small_tape(), Spender, {"units": [0, 5, 6]}, PARAMS, [0], tmp_path)
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("seeds", "threads", "message"),
    [
        ([], 1, r"seeds are \[\]; give at least one, none twice, whole numbers >= 0"),
        ([1, 1], 1, r"seeds are \[1, 1\]; give at least one, none twice"),
        ([-1], 1, r"seeds are \[-1\]; give at least one"),
        ([0], 0, "threads is 0; give at least 1"),
    ],
)
def test_bad_seeds_and_threads_are_refused(tmp_path: Path, seeds: list[int], threads: int, message: str) -> None:
    """Prevents a sweep of nothing, or one that counts a seed twice."""
    with pytest.raises(ArenaError, match=message):
        run_sweep(small_tape(), marginal, {}, PARAMS, seeds, tmp_path, threads=threads)


def test_parameter_named_like_a_figure_is_refused(tmp_path: Path) -> None:
    """Prevents a column that is overwritten by another of the same name."""
    with pytest.raises(ArenaError, match="1 parameters are named like a column of the result, first 'profit'; rename it"):
        run_sweep(small_tape(), lambda profit: marginal(profit), {"profit": [0.5]}, PARAMS, [0], tmp_path)


def test_policy_whose_content_cannot_be_told_is_refused(tmp_path: Path) -> None:
    """Prevents two different policies from sharing a result because their difference cannot be seen."""

    class Opaque:
        name = "opaque"

        def decide(self, view: ShopView) -> Orders:
            return Orders.none()

    message = "a policy holds a .*Opaque, whose content cannot be told; make it a dataclass or give it fingerprint"
    with pytest.raises(ArenaError, match=message):
        run_sweep(small_tape(), Opaque, {}, PARAMS, [0], tmp_path)


def test_identity_sees_every_value() -> None:
    """Prevents two values that differ in type, shape, order or depth from being taken for the same."""
    values: list[object] = [
        1, 1.0, True, "1", None, (), [1], (1, 2), (2, 1), ((1,), 2), {"a": 1}, {"a": 2}, {"b": 1}, ("1", "2"), ("1,2",),
        np.array([1, 2]), np.array([1, 2], dtype=np.int32), np.array([[1, 2]]), np.array([2, 1]), np.array([1.0, 2.0]),
        marginal(0.1), marginal(0.2), dataclasses.replace(marginal(0.1), method="greedy"),
    ]  # fmt: skip
    digests = [Identities().digest(value) for value in values]
    assert len(set(digests)) == len(digests)
    assert Identities().digest({"a": 1, "b": 2}) == Identities().digest({"b": 2, "a": 1})
    assert Identities().digest(np.arange(6)[::2]) == Identities().digest(np.array([0, 2, 4]))


def test_private_memory_sees_what_is_allocated(tmp_path: Path) -> None:
    """Prevents a peak that stays at its first sample or counts mapped files; seen in a process that has nothing to give back."""
    mapped = tmp_path / "mapped"
    mapped.write_bytes(bytes(80_000_000))
    run = subprocess.run([sys.executable, "-c", WATCHED, str(mapped)], capture_output=True, text=True, check=True)
    before, after_mapping, inner, peak = json.loads(run.stdout)
    if before is None:
        pytest.skip("the system does not tell the private memory of a process")
    assert after_mapping < before + 20
    assert peak > before + 76
    assert peak >= inner


def test_frame_of_no_space_is_one_row(tmp_path: Path) -> None:
    """Prevents an empty space from giving nothing, where it means the policy as it is."""
    trials = run_sweep(small_tape(), marginal, {}, PARAMS, [0], tmp_path)
    assert trials.height == 1
    assert trials.schema["peak_private_mb"] == pl.Float64
