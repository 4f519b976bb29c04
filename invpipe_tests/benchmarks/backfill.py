"""A backfill of many small backtests by the real daemon: seconds, runs, failures, peak memory; with `--kill` it is killed half-way.

Run it with ``python -m invpipe_tests.benchmarks.backfill --partitions 100``; it prints one JSON line. The home is a small shop with one
recorded week under as many window names as the backtests need (each window has all variants). The daemon is ``dagster-daemon`` with the
project's dagster.yaml, in a process group of its own; nobody looks after it. With `--kill`, the group gets SIGKILL when half of the
backtests are there, and another daemon is started, as a service manager does. `seconds` run from the start of the first daemon to the last
artifact, waits included. `peak_memory_mb` is the greatest sum of the proportional memory (Linux, PSS) of daemon, code server and runs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster import DagsterRunStatus

from invpipe.defs.partitions import VARIANTS
from invpipe.defs.run import prepare_home
from invpipe.settings import BacktestWindow, write_settings
from invpipe_tests.integration.daemon.conftest import Daemon
from invpipe_tests.pipeline.conftest import Home, surroundings

Figures = dict[str, Any]
FIRST_DAY, DAYS = date(2017, 1, 1), 45
TICK_SECONDS = 0.5


def chosen(partitions: int) -> list[str]:
    """Return so many partition keys, variant by variant of one window after the other."""
    return [f"{VARIANTS[k % len(VARIANTS)]}|{k // len(VARIANTS):03d}" for k in range(partitions)]


def make_home(path: Path, keys: list[str], skus: int) -> Home:
    """Make a home with every window the backtests need recorded."""
    names = sorted({key.partition("|")[2] for key in keys})
    week = {"start": date(2017, 2, 6), "end": date(2017, 2, 12)}
    windows = [BacktestWindow.model_validate({"name": name, **week}) for name in names]
    write_settings(
        path,
        embedded={"skus": skus},
        forecast={"window_days": (7,)},
        backtest={"windows": windows, "warm_up_days": 2, "lead_time_seeds": 1},
        threads=1,
    )
    home = Home(path)
    with dg.DagsterInstance.from_config(str(prepare_home(path))) as instance:
        home.materialise(instance, "extract", *((FIRST_DAY + timedelta(days=k)).isoformat() for k in range(DAYS)))
        home.materialise(instance, "validate_tables_again")
        home.materialise(instance, "record", *names)
    return home


def memory_mb(group: int) -> float:
    """Return the proportional memory of all processes of a group."""
    total = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getpgid(int(entry.name)) == group:
                total += sum(int(line.split()[1]) for line in (entry / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
        except (ProcessLookupError, FileNotFoundError, PermissionError):
            continue
    return total / 1024


class Watch:
    """What is watched while a daemon works: the backtests that are there, the memory, the end."""

    def __init__(self, daemon: Daemon, keys: list[str], limit_s: float) -> None:
        self.daemon, self.keys, self.end = daemon, keys, time.monotonic() + limit_s
        self.peak_mb = 0.0

    def done(self) -> int:
        """Return how many backtests are there."""
        return sum(self.daemon.home.store.record(("backtest", key)) is not None for key in self.keys)

    def over(self) -> bool:
        """Say whether all are there, or every run has ended for good with some missing."""
        if self.done() == len(self.keys):
            return True
        runs = [run for run in self.daemon.runs() if "dagster/backfill" in run.tags]
        return len(runs) >= len(self.keys) and all(run.is_finished and not run.is_complete_and_waiting_to_retry for run in runs)

    def until(self, process: subprocess.Popen[bytes], wanted: int) -> None:
        """Look on until so many are there or nothing is left to do."""
        while self.done() < wanted and not self.over():
            if time.monotonic() > self.end:
                msg = f"{self.done()} of {len(self.keys)} backtests after the time limit; the daemon's log is {self.daemon.log}"
                raise TimeoutError(msg)
            self.peak_mb = max(self.peak_mb, memory_mb(process.pid))
            time.sleep(TICK_SECONDS)


def measure(path: Path, partitions: int, skus: int, *, kill: bool, limit_s: float) -> Figures:
    """Run the backfill on a new home and return its figures."""
    keys = chosen(partitions)
    with surroundings():
        home = make_home(path / "home", keys, skus)
        with dg.DagsterInstance.from_config(str(home.path / "dagster")) as instance:
            daemon = Daemon(home, instance, path / "daemon.log", "invpipe.definitions")
            daemon.backfill("backtest", keys)
            watch, began = Watch(daemon, keys, limit_s), time.monotonic()
            if kill:
                with daemon.running() as process:
                    watch.until(process, partitions // 2)
                    os.killpg(process.pid, signal.SIGKILL)
                daemon.log = path / "daemon-again.log"
            with daemon.running() as process:
                watch.until(process, partitions)
                seconds = time.monotonic() - began
            runs = [run for run in daemon.runs() if "dagster/backfill" in run.tags]
    return {
        "partitions": partitions,
        "complete": watch.done(),
        "seconds": round(seconds, 1),
        "seconds_per_partition": round(seconds / partitions, 2),
        "runs": len(runs),
        "retries": sum(run.parent_run_id is not None for run in runs),
        "failed_runs": sum(run.status == DagsterRunStatus.FAILURE for run in runs),
        "killed_half_way": kill,
        "peak_memory_mb": round(watch.peak_mb),
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print one JSON line; return 1 where a backtest is missing."""
    parser = argparse.ArgumentParser(prog="python -m invpipe_tests.benchmarks.backfill", description=(__doc__ or "").split("\n")[0])
    for name, default, what in (
        ("partitions", 100, "backtests"),
        ("skus", 150, "size of the shop"),
        ("limit-seconds", 3600, "time after which it is given up"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what}; default: %(default)s")
    parser.add_argument("--kill", action="store_true", help="SIGKILL daemon, code server and runs half-way, and start another daemon")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), given.partitions, given.skus, kill=given.kill, limit_s=given.limit_seconds)
    print(json.dumps(figures))
    return int(figures["complete"] != figures["partitions"])


if __name__ == "__main__":
    raise SystemExit(main())
