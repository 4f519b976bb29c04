"""Benchmark of the forecasts: every method on the same cells of the same walk-forward folds, shop by shop.

The methods of the package always run; the peers (the prototype, TSB, Croston, mlforecast) where the tests and their libraries are.
What is asked and how it is scored stands in `invpipe.bench.forecast_folds`. Seconds are wall clock of the window's answer, training
included, on one thread; the sum of daily quantiles finds the features ready that the window law has built.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np

from invpipe.bench.forecast_folds import TAUS, Figures, FloatArray, Fold, Quantiles, Question, Scores, WindowLaw, quantiles_of, summary
from invpipe.bench.yardsticks import ALWAYS, Yardstick, complete_journey, fresh_retail, online_retail
from invpipe.forecast import CountLaw, ForecastParams, WindowDemand
from invpipe.forecast.baselines import empirical, ewma, ewma_negative_binomial, gamma_poisson, zero
from invpipe.history import ShopHistory

Baseline = Callable[[ShopHistory, date, Sequence[tuple[int, int]]], WindowDemand]

#: Module with the peers; it comes with the tests, not with the package.
REFERENCE = "invpipe_tests.benchmarks.forecast_peers"
#: Peers and the library each needs.
PEERS: dict[str, str | None] = {
    "prototype": None,
    "TSB + Poisson": "statsforecast",
    "TSB + negative binomial": "statsforecast",
    "Croston SBA + Poisson": "statsforecast",
    "Croston SBA + negative binomial": "statsforecast",
    "LightGBM + conformal": "mlforecast",
}


@dataclass(frozen=True)
class Method:
    """What a method says of a window and of its days: quantiles at TAUS per day, or one day that stands for all, shape (n_sku, 1, 3)."""

    window: Callable[[Question], WindowLaw | Quantiles] | None = None
    daily: Callable[[Question], FloatArray] | None = None


def law_method(baseline: Baseline) -> Method:
    """Return a method of a baseline that gives window laws; its law of one day stands for every day."""

    def window(question: Question) -> CountLaw:
        return question.seen(baseline(question.known, question.known.last_day, [(1, question.days)]))

    def daily(question: Question) -> FloatArray:
        return quantiles_of(baseline(question.known, question.known.last_day, [(1, 1)]).law(0))[:, None, :]

    return Method(window, daily)


def _window_law(question: Question) -> CountLaw:
    return question.seen(question.forecaster.window_demand([(1, question.days)]))


def _window_law_of_demand(question: Question) -> CountLaw:
    return question.seen(question.forecaster_of_demand.window_demand([(1, question.days)]))


def _window_law_by_day(question: Question) -> FloatArray:
    demand = question.forecaster.window_demand([(day, day) for day in range(1, question.days + 1)])
    return np.stack([demand.quantile(tau).astype(np.float64) for tau in TAUS], axis=2)


def _sum_of_daily_quantiles(question: Question) -> Quantiles:
    return Quantiles((question.daily_quantiles * question.orderable[:, :, None]).sum(axis=1))


def _empirical(question: Question) -> WindowLaw:
    return empirical(question.known, question.known.last_day, np.maximum(question.exposure, 1))


def _empirical_day(question: Question) -> FloatArray:
    return quantiles_of(empirical(question.known, question.known.last_day, np.ones(len(question.exposure), dtype=np.int64)))[:, None, :]


#: Methods of the package by name.
METHODS: dict[str, Method] = {
    "window law": Method(_window_law, _window_law_by_day),
    "window law of all demand": Method(_window_law_of_demand),
    "zero": law_method(zero),
    "empirical": Method(_empirical, _empirical_day),
    "EWMA + Poisson": law_method(ewma),
    "EWMA + negative binomial": law_method(ewma_negative_binomial),
    "gamma-Poisson 91 d": law_method(gamma_poisson),
    "gamma-Poisson all": law_method(partial(gamma_poisson, exposure_days=ALWAYS)),
    "sum of daily quantiles": Method(window=_sum_of_daily_quantiles),
    "daily quantile boosters": Method(daily=lambda question: question.daily_quantiles),
}


def peers() -> tuple[dict[str, Method], dict[str, str]]:
    """Return the peers that can run here, and for each of the others what it lacks."""
    lacking: dict[str, str] = {}
    for name, library in PEERS.items():
        for needed in ("invpipe_tests", library):
            if needed and importlib.util.find_spec(needed) is None:
                lacking.setdefault(name, f"needs {needed}")
    if len(lacking) == len(PEERS):
        return {}, lacking
    methods: dict[str, Method] = importlib.import_module(REFERENCE).METHODS
    return {name: methods[name] for name in PEERS if name not in lacking}, lacking


def score_yardstick(yardstick: Yardstick, methods: Mapping[str, Method], params: ForecastParams) -> Iterator[Figures]:
    """Yield one row of figures per (target, method); tells each fold and method on the error stream when it is done."""
    window: dict[str, list[Scores]] = {}
    daily: dict[str, list[Scores]] = {}
    for cutoff in yardstick.cutoffs:
        fold = Fold.of(yardstick, cutoff, params)
        for name, method in methods.items():
            start = time.perf_counter()
            if method.window:
                answer = method.window(fold.question)
                window.setdefault(name, []).append(fold.window_scores(answer, time.perf_counter() - start))
            if method.daily:
                daily.setdefault(name, []).append(fold.daily_scores(method.daily(fold.question)))
            print(f"{yardstick.name}, {cutoff}: {name} {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    for target, scores in (("window", window), ("daily", daily)):
        zero_loss = float(np.mean([fold.pinball[-1] for fold in scores["zero"]])) if "zero" in scores else 0.0
        for name, folds in scores.items():
            figures = summary(folds)
            ratio = figures["pinball_90"] / zero_loss if zero_loss > 0 else None
            yield {"yardstick": yardstick.name, "target": target, "method": name, **figures, "pinball_90_vs_zero": ratio}


def bench_forecast(skus: int = 100_000, folds: int = 10, online_retail: str = "", fresh_retail: str = "", seed: int = 0) -> list[Figures]:
    """Score every forecast on the same walk-forward folds of all shops: windows of demand, and daily quantiles.

    Parameters
    ----------
    skus
        At most so many SKUs per shop, drawn.
    folds
        At most so many folds per yardstick, the last ones.
    online_retail, fresh_retail
        Parquet files of the other two shops; "" leaves a shop out.
    seed
        Seed of the draw of the SKUs and of the training.

    Returns
    -------
    list of dict
        One row per yardstick, target (window, daily) and method, and one per peer that cannot run here, with what it lacks.
    """
    found, lacking = peers()
    rows: list[Figures] = []
    for yardstick in _yardsticks(online_retail, fresh_retail):
        rows += score_yardstick(yardstick.small(skus, folds, seed), METHODS | found, ForecastParams(seed=seed))
    return rows + [{"method": name, "lacking": reason} for name, reason in lacking.items()]


def _yardsticks(online: str, fresh: str) -> list[Yardstick]:
    others = [*(online_retail(Path(online)) if online else []), *(fresh_retail(Path(fresh)) if fresh else [])]
    return [complete_journey(), *others]


#: Columns of the tables for people, with their name there; bracket columns are percentage points outside the bracket.
WINDOW_COLUMNS = {
    "pinball_10": "pin.10",
    "pinball_50": "pin.50",
    "pinball_90": "pin.90",
    "rps": "rps",
    "bracket_10_violation_points": "out.10",
    "bracket_50_violation_points": "out.50",
    "bracket_90_violation_points": "out.90",
    "bracket_10_worst_decile_points": "decile.10",
    "bracket_50_worst_decile_points": "decile.50",
    "bracket_90_worst_decile_points": "decile.90",
    "randomised_coverage_80": "covered",
    "bias_frac": "bias",
    "seconds": "seconds",
}
DAILY_COLUMNS = {
    "pinball_10": "pin.10",
    "pinball_50": "pin.50",
    "pinball_90": "pin.90",
    "pinball_90_vs_zero": "of zero's",
    "coverage_80": "covered",
    "coverage_80_of_zero": "by [0,0]",
    "bracket_90_violation_points": "out.90",
    "bracket_90_worst_decile_points": "decile.90",
}


def forecast_tables(rows: Sequence[Figures]) -> str:
    """Return the rows of :func:`bench_forecast` as one table per yardstick and target, and what did not run."""
    parts: dict[tuple[str, str], list[Figures]] = {}
    lines = []
    for row in rows:
        if "lacking" in row:
            lines.append(f"not run: {row['method']} {row['lacking']}")
        else:
            parts.setdefault((row["yardstick"], row["target"]), []).append(row)
    tables = [
        f"{yardstick}, {target}: {part[0]['folds']} folds, {part[0]['cells']:,} cells\n{_aligned(part, target)}"
        for (yardstick, target), part in parts.items()
    ]
    return "\n\n".join([*tables, *(["\n".join(lines)] if lines else [])])


def _aligned(rows: list[Figures], target: str) -> str:
    columns = WINDOW_COLUMNS if target == "window" else DAILY_COLUMNS
    cells = [["method", *columns.values()]]
    cells += [[row["method"], *("–" if row[name] is None else f"{row[name]:.4g}" for name in columns)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for name, *figures in cells:
        lines.append("  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True))]))
    return "\n".join(lines)
