"""Benchmarks: fixed, seeded work whose figures anybody can repeat, `invpipe bench NAME` or `python -m invpipe.bench NAME`.

Each benchmark is a function that returns its figures with their size and seed. Everything is compiled and warmed up before the clock runs.
Seconds are wall clock unless they say cpu; repeated work gives its median. All shops here are simulated, but for the window law and the
validation, which are trained on the embedded shop. Memory is the peak of the process, so under "all" it is that of the largest benchmark so
far.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from invpipe.bench.allocation import bench_allocation
from invpipe.bench.arena import bench_arena
from invpipe.bench.extract import bench_extract
from invpipe.bench.forecast import bench_forecast, forecast_tables
from invpipe.bench.packing import bench_packing
from invpipe.features import FEATURES, FeatureStore
from invpipe.forecast import DemandForecaster, Fold, ForecastParams, score_fold, walk_forward_folds
from invpipe.forecast.classes import score_classes
from invpipe.history import ShopHistory
from invpipe.report.tables import text
from invpipe.sources.embedded import EmbeddedParams, embedded_shop
from invpipe.sources.shop import SyntheticShopParams, stream_synthetic_shop, synthetic_shop
from invpipe.sources.tables import concat_tables

Figures = dict[str, Any]

#: Protection windows of a daily run, days: lead times of vendors plus a review.
PROTECTION_DAYS = (4, 6, 8, 11, 15, 18, 22, 29)


def peak_memory_mib() -> float:
    """Return the largest resident set of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _timed(run: Callable[[], Any], n: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the median seconds of n runs."""
    seconds = []
    for _ in range(n):
        start = clock()
        run()
        seconds.append(clock() - start)
    return statistics.median(seconds)


def _history(tables: dict[str, pl.DataFrame]) -> ShopHistory:
    named: dict[str, Any] = dict(tables)
    return ShopHistory.from_frames(**named)


def bench_features(skus: int = 5_000, days: int = 730, cells: int = 1_000_000, seed: int = 0) -> list[Figures]:
    """Fill the feature matrix of all SKUs at random origins, with random windows, as a training does; on one thread.

    Parameters
    ----------
    skus, days
        Size of the shop.
    cells
        Rows of the matrix; a whole number of origins, at least one, is made of them.
    seed
        Seed of the shop and of the cells.
    """
    history = _history(synthetic_shop(SyntheticShopParams(n_skus=skus, n_days=days, seed=seed)).as_history_kwargs())
    store = FeatureStore.of(history)
    rng = np.random.default_rng(seed)
    origins = max(cells // skus, 1)
    cells = origins * skus
    sku, origin = np.tile(np.arange(skus), origins), np.repeat(rng.integers(days, size=origins), skus)
    first, length = rng.integers(1, 61, size=cells), rng.integers(0, 60, size=cells)
    store.matrix(sku[:10], origin[:10], first[:10], first[:10])  # compiles
    seconds = _timed(lambda: store.matrix(sku, origin, first, first + length), 3)
    return [
        {
            "skus": skus,
            "days": days,
            "cells": cells,
            "seed": seed,
            "seconds": seconds,
            "cells_per_second": cells / seconds,
            "values_per_second": cells * len(FEATURES) / seconds,
            "peak_memory_mib": peak_memory_mib(),
        }
    ]


def bench_sources(skus: int = 5_000, days: int = 1_095, days_per_chunk: int = 100, seed: int = 0) -> list[Figures]:
    """Generate a synthetic shop by ranges of days, and validate it into a history.

    Parameters
    ----------
    skus, days
        Size of the shop.
    days_per_chunk
        Days per range.
    seed
        Seed of the shop.
    """
    synthetic_shop(SyntheticShopParams(n_skus=20, n_days=30))  # compiles
    start = time.perf_counter()
    chunks = list(stream_synthetic_shop(SyntheticShopParams(n_skus=skus, n_days=days, seed=seed), days_per_chunk))
    generated = time.perf_counter() - start
    tables = concat_tables(chunks).as_history_kwargs()
    start = time.perf_counter()
    _history(tables)
    return [
        {
            "skus": skus,
            "days": days,
            "seed": seed,
            "rows": sum(frame.height for frame in tables.values()),
            "generate_seconds": generated,
            "sku_days_per_second": skus * days / generated,
            "validate_seconds": time.perf_counter() - start,
            "peak_memory_mib": peak_memory_mib(),
        }
    ]


def bench_window_law(skus: int = 5_000, rounds: int = 200, threads: int = 2, seed: int = 0) -> list[Figures]:
    """Train the window law on the embedded shop up to 28 days before its end and score it on those, one row per method.

    Demand is real and is scored against as it was before the simulated stock censored it; what is trained on is censored.

    Parameters
    ----------
    skus
        SKUs drawn from the embedded shop.
    rounds, threads
        Boosting rounds and threads of LightGBM.
    seed
        Seed of the draw, of the simulated supply and of the training.
    """
    shop = embedded_shop(EmbeddedParams(n_skus=skus, seed=seed))
    history = _history(shop.as_history_kwargs())
    fold = walk_forward_folds(history.first_day, history.last_day, horizon_days=28, n_folds=1)[0]
    params = ForecastParams(daily_taus=(), rounds=rounds, threads=threads, seed=seed)
    known = history.until(fold.cutoff)
    start = time.perf_counter()
    forecaster = DemandForecaster.fit(known, fold.cutoff, params)
    fitted = time.perf_counter() - start
    start = time.perf_counter()
    forecaster.window_demand([(1, fold.horizon_days)])
    predicted = time.perf_counter() - start
    scores = score_fold(forecaster, history, fold, shop.demand_daily)
    named = ("method", "pinball_50", "pinball_90", "pinball_90_vs_zero", "bracket_90_low", "bracket_90_high", "randomised_coverage_80")
    facts = {"skus": skus, "seed": seed, "cutoff": fold.cutoff.isoformat(), "window_days": fold.horizon_days}
    own = {"fit_seconds": fitted, "predict_seconds": predicted, "peak_memory_mib": peak_memory_mib()}
    return [facts | row | (own if row["method"] == "window law" else {}) for row in scores.select(named).to_dicts()]


def bench_validation(skus: int = 5_000, folds: int = 4, threads: int = 2, seed: int = 0) -> list[Figures]:
    """Validate the forecasts walk-forward as the job `validate` does: train every fold, score it, score it by class.

    What is compiled at its first use counts, as it does there.

    Parameters
    ----------
    skus
        SKUs drawn from the embedded shop; it has 67,845.
    folds, threads
        Folds two weeks apart, of 28 days, and how many are made at once.
    seed
        Seed of the draw, of the simulated supply and of the training.
    """
    shop = embedded_shop(EmbeddedParams(n_skus=skus, seed=seed))
    history = _history(shop.as_history_kwargs())
    chosen = walk_forward_folds(history.first_day, history.last_day, horizon_days=28, step_days=14, n_folds=folds)

    def validate(fold: Fold) -> pl.DataFrame:
        forecaster = DemandForecaster.fit(history, fold.cutoff, ForecastParams(seed=seed))
        scores = score_fold(forecaster, history, fold, shop.demand_daily)
        score_classes(forecaster, history, fold, shop.demand_daily)
        return scores

    start, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        scores = pl.concat(pool.map(validate, chosen))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    facts = {"skus": skus, "folds": len(chosen), "threads": threads, "seed": seed}
    own = {"seconds": seconds, "cpu_seconds": cpu, "peak_memory_mib": peak_memory_mib()}
    measures = ("pinball_50", "pinball_90", "rps", "randomised_coverage_80")
    means = scores.group_by("target", "method", maintain_order=True).agg(pl.col(measures).mean())
    return [facts | row | (own if row["method"] == "window law" else {}) for row in means.to_dicts()]


def bench_daily_forecast(skus: int = 20_000, days: int = 400, threads: int = 2, seed: int = 0) -> list[Figures]:
    """Forecast a day for a whole catalogue as the daily run does: the protection windows, and quantiles of the next 60 days.

    Parameters
    ----------
    skus, days
        Size of the synthetic shop.
    threads
        Threads of the forecast; the training takes one.
    seed
        Seed of the shop and of the training.
    """
    chunks = list(stream_synthetic_shop(SyntheticShopParams(n_skus=skus, n_days=days, seed=seed), 100))
    history = _history(concat_tables(chunks).as_history_kwargs())
    del chunks
    start = time.perf_counter()
    forecaster = DemandForecaster.fit(history, history.last_day, ForecastParams(seed=seed))
    fitted, at_fit = time.perf_counter() - start, peak_memory_mib()
    windows = [(1, last) for last in PROTECTION_DAYS]
    forecaster.window_demand(windows[:1])  # compiles what serving alone needs
    start = time.perf_counter()
    forecaster.window_demand(windows, threads)
    middle = time.perf_counter()
    rows = forecaster.daily_quantiles(60, threads).height
    end = time.perf_counter()
    return [
        {
            "skus": skus,
            "days": days,
            "threads": threads,
            "seed": seed,
            "fit_seconds": fitted,
            "windows": len(windows),
            "windows_seconds": middle - start,
            "daily_rows": rows,
            "daily_seconds": end - middle,
            "forecast_seconds": end - start,
            "peak_memory_fit_mib": at_fit,
            "peak_memory_mib": peak_memory_mib(),
        }
    ]


#: Benchmarks by name, each runnable without arguments.
BENCHMARKS: dict[str, Callable[..., list[Figures]]] = {
    "allocation": bench_allocation,
    "arena": bench_arena,
    "daily-forecast": bench_daily_forecast,
    "extract": bench_extract,
    "features": bench_features,
    "forecast": bench_forecast,
    "packing": bench_packing,
    "sources": bench_sources,
    "validation": bench_validation,
    "window-law": bench_window_law,
}


def _seed(given: str, least: int = 0) -> int:
    """Return the whole number an option gives."""
    if not given.isdecimal() or int(given) < least:
        msg = f"{given!r} is no whole number >= {least}"
        raise argparse.ArgumentTypeError(msg)
    return int(given)


def _count(given: str) -> int:
    return _seed(given, least=1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="invpipe bench", description="Fixed, seeded work whose figures anybody can repeat.")
    names = parser.add_subparsers(dest="name", required=True, metavar="|".join([*BENCHMARKS, "all"]))
    for name, run in BENCHMARKS.items():
        one = names.add_parser(name, help=(inspect.getdoc(run) or "").split("\n")[0])
        for option, parameter in inspect.signature(run).parameters.items():
            several: dict[str, Any] = {"nargs": "+"} if option == "sizes" else {}
            kind: Callable[[str], object] = str if isinstance(parameter.default, str) else _seed if option == "seed" else _count
            flag, given = f"--{option.replace('_', '-')}", "default: %(default)s"
            one.add_argument(flag, type=kind, default=parameter.default, metavar="PATH" if kind is str else "N", help=given, **several)
    names.add_parser("all", help="all of them at their default sizes")
    for one in names.choices.values():
        one.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark that is named and print its figures; return the exit status.

    Parameters
    ----------
    argv
        Arguments after the command: NAME or "all", sizes, --json. Default: those of this process.
    """
    options = vars(_parser().parse_args(argv))
    name, as_json = options.pop("name"), options.pop("json")
    chosen = BENCHMARKS if name == "all" else {name: BENCHMARKS[name]}
    machine = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}", "cpus": os.cpu_count()}
    results: dict[str, list[Figures]] = {}
    for benchmark, run in chosen.items():
        results[benchmark] = run(**options)
        if not as_json:
            print(f"{benchmark}\n{(forecast_tables if benchmark == 'forecast' else _table)(results[benchmark])}", flush=True)
    if as_json:
        print(json.dumps({"machine": machine, "benchmarks": results}, indent=1))
    return 0


def _table(rows: list[Figures]) -> str:
    """Return one figure per line, one column per row of figures."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, list[str]] = {}
    for i, row in enumerate(rows, 1):
        figures = [_figure(row.get(name)) for name in names]
        width = max(map(len, figures))
        columns[f"run {i}"] = [figure.rjust(width) for figure in figures]
    return text(pl.DataFrame({"figure": names, **columns}))


def _figure(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
