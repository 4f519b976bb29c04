"""Grid sweep: every variant of a space under every seed on one tape, on threads, as one frame.

The unit of work is a run (one variant, one seed), taken in order by the threads; the kernel holds no interpreter lock, so the threads
share the tape's pages and run side by side. Which thread ran what, and what was taken from the store, changes no figure but those in
:data:`MEASURED`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from invpipe.arena import BacktestParams, Tape
from invpipe.errors import ArenaError
from invpipe.sweep.memory import PrivateMemory
from invpipe.sweep.progress import Progress
from invpipe.sweep.runs import Identities, Replayer, Run, RunStore
from invpipe.sweep.space import Parameters, PolicyMaker, Space, Variant, text_of, variants_of

#: Columns that are measured, and hence differ between equal sweeps.
MEASURED = ("seconds", "peak_private_mb")
#: Key figures of a trial: means over its seeds.
FIGURES = (
    "profit", "profit_ending_at_zero", "profit_ending_at_cost", "fill_rate", "capital_used_mean", "capital_used_max", "revenue",
    "holding_cost", "inbound_cost", "order_lines", "refused_lines", "ending_stock_value",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A variant with its runs in the order of the seeds."""

    parameters: Parameters
    runs: tuple[Run, ...]


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse seeds that are none, negative or repeated.

    Raises
    ------
    ArenaError
        Naming the seeds.
    """
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        msg = f"seeds are {list(seeds)}; give at least one, none twice, whole numbers >= 0"
        raise ArenaError(msg)


def run_sweep(
    tape: Tape,
    make_policy: PolicyMaker,
    space: Space,
    params: BacktestParams,
    seeds: Sequence[int],
    store: RunStore | str | Path,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Replay every variant of a space under every seed and return one row per variant, in the order of the space.

    Parameters
    ----------
    tape
        Shared by all runs; memory-mapped, its pages are no private memory.
    make_policy
        Returns the policy of a variant; called once per variant with its own parameters by name.
    space
        Values per parameter name, of which all combinations are run, or a list of variants. Names of `BacktestParams` fields change the
        backtest, the others are given to `make_policy`.
    params
        Backtest where the space says nothing else.
    seeds
        Seeds of the lead times, at least one.
    store
        Directory where finished runs lie; what is there is not replayed, so that a killed sweep goes on where it stopped.
    threads
        Runs at the same time, >= 1.
    progress
        Told after every run.

    Returns
    -------
    polars.DataFrame
        The parameters, n_seeds, means of :data:`FIGURES` over the seeds, profit_sd over the seeds (0 for one), seconds (sum over the seeds)
        and peak_private_mb (largest of them).

    Raises
    ------
    ArenaError
        Where space, seeds or threads are refused, or a policy orders what it may not; finished runs stay.
    ProvenanceError
        Where a run's file is damaged.
    """
    if threads < 1:
        msg = f"threads is {threads}; give at least 1"
        raise ArenaError(msg)
    check_seeds(seeds)
    variants = variants_of(space, make_policy, params)
    with PrivateMemory() as memory:
        replayer = Replayer(tape, store if isinstance(store, RunStore) else RunStore(store), memory, Identities())
        # keys are made here, one after the other: they read the forecasts' arrays once
        work = [(i, variant, seed, replayer.key(variant, seed)) for i, variant in enumerate(variants) for seed in seeds]
        runs = _replay(replayer, work, threads, progress)
    trials = [Trial(variant.parameters, tuple(runs[i, seed] for seed in seeds)) for i, variant in enumerate(variants)]
    return trials_frame(trials)


def _replay(
    replayer: Replayer, work: Sequence[tuple[int, Variant, int, str]], threads: int, progress: Progress | None
) -> dict[tuple[int, int], Run]:
    """Return the runs by (variant, seed); on an error those not begun are given up."""
    runs: dict[tuple[int, int], Run] = {}
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sweep")
    try:
        futures: dict[Future[Run], tuple[int, Variant, int]] = {
            pool.submit(replayer.run, variant, seed, key): (i, variant, seed) for i, variant, seed, key in work
        }
        for future in as_completed(futures):
            i, variant, seed = futures[future]
            runs[i, seed] = future.result()
            if progress is not None:
                progress(len(runs), len(work), f"{text_of(variant.parameters)}, seed {seed}: profit {runs[i, seed].summary['profit']:,.0f}")
    finally:
        pool.shutdown(cancel_futures=True)
    return runs


def trials_frame(trials: Sequence[Trial], **first: Sequence[Any]) -> pl.DataFrame:
    """Return one row per trial, the columns `first` before the parameters.

    Raises
    ------
    ArenaError
        Where a parameter is named like a figure.
    """
    names = list(trials[0].parameters)
    taken = sorted(set(names) & {"n_seeds", "profit_sd", *FIGURES, *MEASURED, *first})
    if taken:
        msg = f"{len(taken)} parameters are named like a column of the result, first {taken[0]!r}; rename it"
        raise ArenaError(msg)

    def mean(trial: Trial, figure: str) -> float:
        return float(np.mean([run.summary[figure] for run in trial.runs]))

    def largest(trial: Trial) -> float | None:
        known = [run.peak_private_mb for run in trial.runs if run.peak_private_mb is not None]
        return max(known, default=None)

    columns: Mapping[str, Sequence[Any]] = {
        **first,
        **{name: [trial.parameters[name] for trial in trials] for name in names},
        "n_seeds": [len(trial.runs) for trial in trials],
        **{figure: [mean(trial, figure) for trial in trials] for figure in FIGURES},
        "profit_sd": [float(np.std([run.summary["profit"] for run in trial.runs])) for trial in trials],
        "seconds": [sum(run.seconds for run in trial.runs) for trial in trials],
        "peak_private_mb": [largest(trial) for trial in trials],
    }
    return pl.DataFrame([pl.Series(name, values, strict=False) for name, values in columns.items()]).cast({pl.Null: pl.Float64})
