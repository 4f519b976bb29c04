"""Studies: resuming, reproducibility, pruning."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from invpipe.arena import run_backtest
from invpipe.errors import ArenaError
from invpipe.sweep import MEASURED, tune
from invpipe.sweep.study import STUDY_FILE
from invpipe_tests.unit.sweep.worlds import PARAMS, Counted, Counter, marginal, small_tape

SPACE: dict[str, BaseDistribution] = {"leftover_value_frac": FloatDistribution(0.0, 0.99), "review_period_days": IntDistribution(1, 7)}
SEEDS = (0, 1, 2)
N_TRIALS = 16


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """A study that nothing interrupted."""
    return tune(small_tape(), marginal, SPACE, PARAMS, SEEDS, tmp_path_factory.mktemp("whole"), n_trials=N_TRIALS)


def test_killed_study_ends_like_one_that_was_not(whole: pl.DataFrame, tmp_path: Path) -> None:
    """Prevents a sampler that proposes its first trials again after a restart, and trials a kill left running for ever."""

    class Killed(BaseException):
        pass

    def at_seven(done: int, total: int, last: str) -> None:
        if done == 7:
            raise Killed

    with pytest.raises(Killed):
        tune(small_tape(), marginal, SPACE, PARAMS, SEEDS, tmp_path, n_trials=N_TRIALS, progress=at_seven)
    url = f"sqlite:///{tmp_path / STUDY_FILE}"
    study = optuna.load_study(study_name=optuna.get_all_study_names(url)[0], storage=url)
    study.ask(SPACE)  # as a process killed in the middle of a trial leaves it
    resumed = tune(small_tape(), marginal, SPACE, PARAMS, SEEDS, tmp_path, n_trials=N_TRIALS)
    assert resumed.drop(MEASURED).equals(whole.drop(MEASURED))
    assert not study.get_trials(states=(TrialState.RUNNING,))


def test_trials_are_counted_in_all(tmp_path: Path) -> None:
    """Prevents a study that runs as many trials again each time it is called."""
    counter = Counter()

    def maker(**given: float) -> Counted:
        return Counted(counter, **given)

    first = tune(small_tape(), maker, SPACE, PARAMS, (0,), tmp_path, n_trials=4)
    counter.calls = 0
    again = tune(small_tape(), maker, SPACE, PARAMS, (0,), tmp_path, n_trials=4)
    assert counter.calls == 0
    assert again.equals(first)
    more = tune(small_tape(), maker, SPACE, PARAMS, (0,), tmp_path, n_trials=6)
    assert more[:4].equals(first)
    assert more.height == 6


def test_trials_say_what_was_replayed(whole: pl.DataFrame) -> None:
    """Prevents a best trial whose profit nobody can replay, or a pruned one that looks complete."""
    assert set(whole["state"]) == {"complete", "pruned"}
    for row in whole.iter_rows(named=True):
        assert (row["n_seeds"] == len(SEEDS)) == (row["state"] == "complete")
        params = replace(PARAMS, review_period_days=row["review_period_days"])
        runs = [run_backtest(small_tape(), marginal(row["leftover_value_frac"]), params, seed) for seed in SEEDS[: row["n_seeds"]]]
        assert row["profit"] == np.mean([run.summary["profit"] for run in runs])
    assert whole["trial"].to_list() == list(range(N_TRIALS))


def test_pruned_trials_were_below_the_median(whole: pl.DataFrame) -> None:
    """Prevents pruning the good trials: the direction of the study is upwards."""
    pruned = whole.filter(pl.col("state") == "pruned")
    complete = whole.filter(pl.col("state") == "complete")
    assert len(pruned) > 0
    assert pruned["profit"].max() < complete["profit"].max()  # type: ignore[operator]
    assert (whole[:5]["state"] == "complete").all()


def test_other_questions_are_other_studies(tmp_path: Path) -> None:
    """Prevents trials of one tape, seed or space from teaching the search of another."""
    for seeds, sampler_seed, tape_seed in (((0,), 0, 0), ((1,), 0, 0), ((0,), 1, 0), ((0,), 0, 1)):
        tune(small_tape(tape_seed), marginal, SPACE, PARAMS, seeds, tmp_path, n_trials=1, sampler_seed=sampler_seed)
    assert len(optuna.get_all_study_names(f"sqlite:///{tmp_path / STUDY_FILE}")) == 4


def test_threads_run_all_trials(tmp_path: Path) -> None:
    """Prevents threads that run one trial twice, or one too many."""
    trials = tune(small_tape(), marginal, SPACE, PARAMS, SEEDS, tmp_path, n_trials=9, threads=3)
    assert trials.height == 9


def test_failing_trial_stops_the_study_and_does_not_count(tmp_path: Path) -> None:
    """Prevents a policy's mistake that looks like a trial with a poor profit."""
    with pytest.raises(ArenaError, match="leftover_value_frac is .*; it must lie in"):
        tune(small_tape(), marginal, {"leftover_value_frac": FloatDistribution(0.9, 5.0)}, PARAMS, (0,), tmp_path, n_trials=8)
    url = f"sqlite:///{tmp_path / STUDY_FILE}"
    study = optuna.load_study(study_name=optuna.get_all_study_names(url)[0], storage=url)
    assert [trial.state for trial in study.trials][-1] == TrialState.FAIL


def test_choices_are_searched(tmp_path: Path) -> None:
    """Prevents methods or other names from being left out of the search."""
    space: dict[str, BaseDistribution] = {"method": CategoricalDistribution(["exact", "greedy"])}

    def maker(method: str) -> object:
        return type(marginal())("by_method", marginal().source, method)  # type: ignore[arg-type]

    trials = tune(small_tape(), maker, space, PARAMS, (0,), tmp_path, n_trials=8)  # type: ignore[arg-type]
    assert set(trials["method"]) == {"exact", "greedy"}


def test_impossible_study_is_refused(tmp_path: Path) -> None:
    """Prevents a study that ends before it begins."""
    with pytest.raises(ArenaError, match="the study has n_trials=0, threads=1, sampler_seed=0, 2 parameters; give at least one trial"):
        tune(small_tape(), marginal, SPACE, PARAMS, (0,), tmp_path, n_trials=0)
