r"""Ablation: policies on one tape under the same lead-time seeds, with intervals that mean something.

Lead-time seeds alone understate the uncertainty of a difference between two policies several times over, because the demand is the same in
every run. The interval is therefore a two-way bootstrap: with :math:`d_{kb}` the difference of profit to the baseline under seed k in SKU
block b (SKUs fall into blocks by a stable hash of their name), one replicate draws seeds and blocks with replacement and takes the mean
over its seeds of the sum over its blocks. The 95 % interval is the 2.5 % to 97.5 % percentile of the replicates.

Any two policies are compared by :func:`pairwise`: all pairs share the draws, so each pair is as well paired as with the baseline. Among
many pairs some intervals miss by chance; the simultaneous ones hold for all pairs at once with 95 %: difference +- q times the standard
deviation of the pair's replicates, q the 95 % quantile over replicates of the largest standardised deviation of any pair.

Limits: blocks are drawn as if independent, though all SKUs share the capital; one span of demand is still one world, so the interval speaks
of other assortments and lead times, not of other years. Percentile intervals of few seeds are somewhat too narrow.

Source: Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1(2); simultaneous intervals: Romano and Wolf (2005), Exact and
approximate stepdown methods for multiple hypothesis testing, JASA 100.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.arena.clairvoyant import clairvoyant_bound
from invpipe.arena.engine import run_backtest
from invpipe.arena.kpis import BacktestResult
from invpipe.arena.params import BacktestParams
from invpipe.arena.policies.base import Policy
from invpipe.arena.tape import Tape
from invpipe.errors import ArenaError

FloatArray = npt.NDArray[np.float64]

#: Replicates and seed of the bootstrap, and the two percentiles of its interval.
N_REPLICATES = 2000
BOOTSTRAP_SEED = 20170101
INTERVAL = (0.025, 0.975)

_MEANS = (
    "profit", "profit_ending_at_zero", "profit_ending_at_cost", "fill_rate", "revenue", "holding_cost", "inbound_cost", "order_lines",
    "refused_lines", "ending_stock_value", "capital_used_mean",
)  # fmt: skip


def sku_blocks(skus: Sequence[str], n_blocks: int) -> npt.NDArray[np.int64]:
    """Return the block of each SKU, 0 .. n_blocks - 1, by a hash of its name that is the same on every machine."""
    hashes = (hashlib.blake2b(sku.encode(), digest_size=8).digest() for sku in skus)
    return np.array([int.from_bytes(digest, "big") % n_blocks for digest in hashes], dtype=np.int64)


def block_profit(results: Sequence[BacktestResult], n_blocks: int) -> FloatArray:
    """Return the headline profit per (result, SKU block), money."""
    return _block_sums(results, sku_blocks(results[0].sku_totals["sku"].to_list(), n_blocks), n_blocks)


def _block_sums(results: Sequence[BacktestResult], blocks: npt.NDArray[np.int64], n_blocks: int) -> FloatArray:
    return np.array([np.bincount(blocks, weights=result.profit_per_sku(), minlength=n_blocks) for result in results])


def _replicates(difference: FloatArray, n_replicates: int, seed: int) -> FloatArray:
    """Return the bootstrap replicates of a sum given per (seed, SKU block); linear in it, with the same draws for every call."""
    n_seed, n_block = difference.shape
    rng = np.random.default_rng(seed)
    seed_weight = rng.multinomial(n_seed, np.full(n_seed, 1.0 / n_seed), size=n_replicates) / n_seed
    block_weight = rng.multinomial(n_block, np.full(n_block, 1.0 / n_block), size=n_replicates)
    return np.asarray(((seed_weight @ difference) * block_weight).sum(axis=1))


def paired_interval(difference: FloatArray, n_replicates: int = N_REPLICATES, seed: int = BOOTSTRAP_SEED) -> tuple[float, float, float]:
    """Return mean and 95 % interval of a difference given per (seed, SKU block).

    Parameters
    ----------
    difference
        Profit less the baseline's, money, shape (n_seed, n_block).
    n_replicates, seed
        Size and seed of the bootstrap.
    """
    low, high = np.quantile(_replicates(difference, n_replicates, seed), INTERVAL)
    return float(difference.sum(axis=1).mean()), float(low), float(high)


@dataclass(frozen=True)
class SeedRuns:
    """Results of one policy on one tape, one per lead-time seed, in the order of the seeds."""

    results: tuple[BacktestResult, ...]

    def save(self, directory: Path) -> None:
        """Write the results into a new directory, one directory each."""
        directory.mkdir()
        for i, result in enumerate(self.results):
            result.save(directory / f"{i:03d}")

    @classmethod
    def open(cls, directory: Path) -> SeedRuns:
        """Read results written by :meth:`save`.

        Raises
        ------
        ProvenanceError
            Where a result is not whole.
        """
        return cls(tuple(BacktestResult.open(path) for path in sorted(directory.iterdir())))


@dataclass(frozen=True)
class Ablation:
    """Comparison of policies on one tape.

    Parameters
    ----------
    baseline
        Policy the differences are taken to.
    bound
        Clairvoyant bound on the mean profit of any policy under the seeds, NaN where it was not given.
    table
        One row per policy in the given order: policy, n_seeds, means of the summary over the seeds, share_of_clairvoyant_frac (of the
        bound), profit_difference to the baseline with interval low and high, seconds.
    results
        Results per policy, one per seed.
    """

    baseline: str
    bound: float
    table: pl.DataFrame
    results: Mapping[str, Sequence[BacktestResult]] = field(repr=False)


def _check_blocks(n_blocks: int) -> None:
    if n_blocks < 2:
        msg = f"n_blocks is {n_blocks}; it must be at least 2"
        raise ArenaError(msg)


def _check_comparable(results: Mapping[str, Sequence[BacktestResult]], baseline: str) -> None:
    if baseline not in results:
        msg = f"baseline {baseline!r} is not among the {len(results)} policies {sorted(results)}; choose one of them"
        raise ArenaError(msg)
    base = results[baseline]
    if not base:
        msg = f"baseline {baseline!r} has no result; run it with at least one seed"
        raise ArenaError(msg)
    want = ([r.seed for r in base], base[0].params, base[0].tape_fingerprint)
    for name, runs in results.items():
        for run in runs:
            if run.params != want[1] or run.tape_fingerprint != want[2]:
                what = "parameters" if run.params != want[1] else "tape"
                msg = f"policy {name!r}, seed {run.seed}, ran with other {what} than baseline {baseline!r}; run all under the same"
                raise ArenaError(msg)
        if [r.seed for r in runs] != want[0]:
            seeds = [r.seed for r in runs]
            msg = f"policy {name!r} ran with seeds {seeds}, baseline {baseline!r} with {want[0]}; pair the seeds, in the same order"
            raise ArenaError(msg)


def pairwise(results: Mapping[str, Sequence[BacktestResult]], *, n_blocks: int = 20) -> pl.DataFrame:
    """Compare every policy with every later one.

    Parameters
    ----------
    results
        Per policy the results under the same seeds, in the same order.
    n_blocks
        SKU blocks of the bootstrap, >= 2.

    Returns
    -------
    pl.DataFrame
        Key (policy, other), in the given order: profit_difference of policy to other, its 95 % interval low and high, and
        simultaneous_low and simultaneous_high, which hold for all pairs at once.

    Raises
    ------
    ArenaError
        Where there are no results, or tape, parameters or seeds differ between policies.
    """
    if not results:
        msg = "there are no results to compare; run at least one policy"
        raise ArenaError(msg)
    _check_blocks(n_blocks)
    names = list(results)
    _check_comparable(results, names[0])
    blocks = sku_blocks(results[names[0]][0].sku_totals["sku"].to_list(), n_blocks)
    profit = np.array([_block_sums(runs, blocks, n_blocks) for runs in results.values()])
    draws = np.array([_replicates(p, N_REPLICATES, BOOTSTRAP_SEED) for p in profit])
    first, second = np.triu_indices(len(names), k=1)
    difference = profit.sum(axis=2).mean(axis=1)[first] - profit.sum(axis=2).mean(axis=1)[second]
    largest, deviation, intervals = np.zeros(N_REPLICATES), np.empty(len(first)), np.empty((len(first), 2))
    for pair, (a, b) in enumerate(zip(first, second, strict=True)):
        gap = draws[a] - draws[b]
        intervals[pair] = np.quantile(gap, INTERVAL)
        deviation[pair] = gap.std()
        if deviation[pair] > 0.0:
            largest = np.maximum(largest, np.abs(gap - difference[pair]) / deviation[pair])
    reach = float(np.quantile(largest, INTERVAL[1] - INTERVAL[0])) * deviation
    return pl.DataFrame(
        {
            "policy": [names[i] for i in first],
            "other": [names[i] for i in second],
            "profit_difference": difference,
            "profit_difference_low": intervals[:, 0],
            "profit_difference_high": intervals[:, 1],
            "simultaneous_low": difference - reach,
            "simultaneous_high": difference + reach,
        },
        schema_overrides={"policy": pl.String, "other": pl.String},
    )


def compare(results: Mapping[str, Sequence[BacktestResult]], baseline: str, *, n_blocks: int = 20, bound: float = float("nan")) -> Ablation:
    """Compare results that were run before.

    Parameters
    ----------
    results
        Per policy the results under the same seeds, in the same order.
    baseline
        Policy the differences are taken to.
    n_blocks
        SKU blocks of the bootstrap, >= 2.
    bound
        :func:`~invpipe.arena.clairvoyant.clairvoyant_bound` of the tape; the shares are null without it, or where it is not positive.

    Raises
    ------
    ArenaError
        Where the baseline is missing, or tape, parameters or seeds differ between policies.
    """
    _check_blocks(n_blocks)
    _check_comparable(results, baseline)
    blocks = sku_blocks(results[baseline][0].sku_totals["sku"].to_list(), n_blocks)
    base = _block_sums(results[baseline], blocks, n_blocks)
    rows = []
    for name, runs in results.items():
        means = {key: float(np.mean([run.summary[key] for run in runs])) for key in _MEANS}
        difference, low, high = paired_interval(_block_sums(runs, blocks, n_blocks) - base)
        rows.append(
            {
                "policy": name,
                "n_seeds": len(runs),
                **means,
                "share_of_clairvoyant_frac": means["profit"] / bound if bound > 0 else None,
                "profit_difference": difference,
                "profit_difference_low": low,
                "profit_difference_high": high,
                "seconds": float(np.mean([sum(run.phase_seconds.values()) for run in runs])),
            }
        )
    table = pl.DataFrame(rows, schema_overrides={"share_of_clairvoyant_frac": pl.Float64})
    return Ablation(baseline, bound, table, results)


def run_ablation(
    tape: Tape,
    policies: Mapping[str, Policy],
    params: BacktestParams,
    seeds: Sequence[int],
    *,
    baseline: str,
    n_blocks: int = 20,
    n_threads: int = 1,
) -> Ablation:
    """Run every policy under every seed and compare them.

    Parameters
    ----------
    tape, params
        Shared by all runs.
    policies
        Policies by name.
    seeds
        Lead-time seeds, at least one.
    baseline
        Policy the differences are taken to.
    n_blocks
        SKU blocks of the bootstrap, >= 2.
    n_threads
        Runs at the same time; the answer does not depend on it.

    Raises
    ------
    ArenaError
        As :func:`compare` and :func:`~invpipe.arena.engine.run_backtest`.
    """
    if baseline not in policies or not seeds:
        msg = f"baseline {baseline!r} must be among the policies {sorted(policies)}, and seeds must not be empty, got {list(seeds)}"
        raise ArenaError(msg)
    with ThreadPoolExecutor(n_threads) as pool:
        runs = {name: [pool.submit(run_backtest, tape, policy, params, seed) for seed in seeds] for name, policy in policies.items()}
        results = {name: [future.result() for future in futures] for name, futures in runs.items()}
    bound = float(np.mean([clairvoyant_bound(tape, params, seed) for seed in seeds]))
    return compare(results, baseline, n_blocks=n_blocks, bound=bound)
