r"""Study: Optuna searches the parameters that earn most on a tape; kept in SQLite beside the runs, so that it goes on after a kill.

A trial is replayed seed by seed. After each seed the mean profit so far is reported, and the trial is pruned where that is below the median
of the earlier trials after as many seeds. Seeds are few and the same for all, so the comparison is paired; a pruned trial's profit is a
mean over fewer seeds and never the best.

The sampler (tree-structured Parzen estimator, TPE) is seeded anew for the k-th trial from (sampler_seed, k), because Optuna stores no state
of its random generator: a sampler that started again with its first seed would propose the first trials again. With one thread a study
that was killed and went on is hence the same, trial by trial, as one that was not. With more threads a proposal depends on which trials
happened to be finished.

Limits: one process per study; what another process left running counts as killed. A trial is what the search saw of one sample of lead
times and one span of demand: replay the best on seeds and windows the search did not see before believing it.

Source: Bergstra, Bardenet, Bengio, Kegl (2011), Algorithms for hyper-parameter optimization, NIPS 24 (TPE).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import optuna
import polars as pl
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution, distribution_to_json
from optuna.trial import FrozenTrial, TrialState

from invpipe.arena import BacktestParams, Tape
from invpipe.errors import ArenaError
from invpipe.sweep.grid import Trial, check_seeds, trials_frame
from invpipe.sweep.memory import PrivateMemory
from invpipe.sweep.progress import Progress
from invpipe.sweep.runs import Identities, Replayer, RunStore
from invpipe.sweep.space import Parameters, PolicyMaker, Value, make_variant, text_of

#: File of all studies of a store.
STUDY_FILE = "studies.sqlite"
#: Trials drawn at random before the sampler learns, and before the pruner cuts.
N_RANDOM_TRIALS = 10
N_UNPRUNED_TRIALS = 5
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Distributions = Mapping[str, BaseDistribution]


def tune(
    tape: Tape,
    make_policy: PolicyMaker,
    space: Distributions,
    params: BacktestParams,
    seeds: Sequence[int],
    store: RunStore | str | Path,
    *,
    n_trials: int,
    sampler_seed: int = 0,
    threads: int = 1,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Search the parameters with the highest mean profit and return all trials in their order.

    Parameters
    ----------
    tape, make_policy, params, seeds, store
        As in :func:`~invpipe.sweep.grid.run_sweep`.
    space
        Optuna distribution per parameter: ``FloatDistribution``, ``IntDistribution`` or ``CategoricalDistribution``.
    n_trials
        Trials in all; those of an earlier call with the same arguments count.
    sampler_seed
        Seed of the proposals.
    threads
        Trials at the same time; with more than one the proposals depend on timing.
    progress
        Told after every trial.

    Returns
    -------
    polars.DataFrame
        trial and state ("complete" or "pruned"), then as `run_sweep`; a pruned trial's means are over the seeds it was replayed with.

    Raises
    ------
    ArenaError
        Where space, seeds, n_trials or threads are refused, or a policy orders what it may not; finished trials stay.
    """
    if n_trials < 1 or threads < 1 or sampler_seed < 0 or not space:
        given = f"n_trials={n_trials}, threads={threads}, sampler_seed={sampler_seed}, {len(space)} parameters"
        msg = f"the study has {given}; give at least one trial, thread and parameter, and a seed >= 0"
        raise ArenaError(msg)
    check_seeds(seeds)
    runs = store if isinstance(store, RunStore) else RunStore(store)
    with PrivateMemory() as memory, _quiet():
        replayer = Replayer(tape, runs, memory, Identities())
        name = _study_name(replayer, make_policy, space, params, seeds, sampler_seed)
        search = _Search(replayer, make_policy, space, params, tuple(seeds), sampler_seed, n_trials, _open_study(runs, name), progress)
        search.run(threads)
        return search.frame()


@dataclass
class _Search:
    replayer: Replayer
    make_policy: PolicyMaker
    space: Distributions
    params: BacktestParams
    seeds: tuple[int, ...]
    sampler_seed: int
    n_trials: int
    study: optuna.Study
    progress: Progress | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    begun: int = 0
    failed: bool = False

    def run(self, threads: int) -> None:
        """Run trials until there are `n_trials`, or one fails."""
        for left in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(left.number, state=TrialState.FAIL)
        self.begun = len(self._finished())
        with ThreadPoolExecutor(threads, thread_name_prefix="study") as pool:
            for worker in [pool.submit(self._work) for _ in range(threads)]:
                worker.result()

    def _work(self) -> None:
        while (trial := self._next()) is not None:
            try:
                state, profit = self._replay(trial)
            except BaseException:
                self.failed = True  # the other threads end after their trial
                with self.lock:
                    self.study.tell(trial, state=TrialState.FAIL)
                raise
            with self.lock:
                self.study.tell(trial, profit if state == TrialState.COMPLETE else None, state=state)
                if self.progress is not None:
                    done = len(self._finished())
                    self.progress(done, self.n_trials, f"{text_of(trial.params)}: profit {profit:,.0f}, {state.name.lower()}")

    def _next(self) -> optuna.Trial | None:
        with self.lock:
            if self.begun >= self.n_trials or self.failed:
                return None
            seed = int(np.random.SeedSequence([self.sampler_seed, self.begun]).generate_state(1)[0])
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=N_RANDOM_TRIALS)
            self.begun += 1
            return self.study.ask(dict(self.space))

    def _replay(self, trial: optuna.Trial) -> tuple[TrialState, float]:
        """Replay seed after seed; return the state and the mean profit over the seeds replayed."""
        variant = make_variant(trial.params, self.make_policy, self.params)
        profits: list[float] = []
        for step, seed in enumerate(self.seeds, 1):
            with self.lock:  # the digests of the policies are shared
                key = self.replayer.key(variant, seed)
            profits.append(self.replayer.run(variant, seed, key).summary["profit"])
            with self.lock:
                trial.report(float(np.mean(profits)), step)
                if step < len(self.seeds) and trial.should_prune():
                    return TrialState.PRUNED, float(np.mean(profits))
        return TrialState.COMPLETE, float(np.mean(profits))

    def _finished(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=FINISHED)

    def frame(self) -> pl.DataFrame:
        """Return the finished trials; their runs come from the store."""
        finished = self._finished()
        trials = [self._trial({name: done.params[name] for name in self.space}, len(done.intermediate_values)) for done in finished]
        return trials_frame(trials, trial=list(range(len(finished))), state=[done.state.name.lower() for done in finished])

    def _trial(self, parameters: Parameters, n_seeds: int) -> Trial:
        variant = make_variant(parameters, self.make_policy, self.params)
        return Trial(parameters, tuple(self.replayer.run(variant, seed, self.replayer.key(variant, seed)) for seed in self.seeds[:n_seeds]))


def _study_name(
    replayer: Replayer, make_policy: PolicyMaker, space: Distributions, params: BacktestParams, seeds: Sequence[int], sampler_seed: int
) -> str:
    """Return the name that only a study of the same question has: all but the number of trials counts."""
    variant = make_variant({name: _lowest(name, distribution) for name, distribution in space.items()}, make_policy, params)
    question = [
        [replayer.key(variant, seed) for seed in seeds],
        {name: distribution_to_json(distribution) for name, distribution in space.items()},
        sampler_seed,
    ]
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


def _lowest(name: str, distribution: BaseDistribution) -> Value:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[0]
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return distribution.low
    msg = f"parameter {name!r} has a {type(distribution).__name__}; give a Float-, Int- or CategoricalDistribution of optuna.distributions"
    raise ArenaError(msg)


def _open_study(store: RunStore, name: str) -> optuna.Study:
    store.root.mkdir(parents=True, exist_ok=True)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=N_UNPRUNED_TRIALS)
    url = f"sqlite:///{(store.root / STUDY_FILE).absolute()}"
    return optuna.create_study(storage=url, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from writing a line per trial to stderr."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
