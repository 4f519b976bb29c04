"""What Dagster costs in a daily run: the time of the job `daily` less the time its assets compute.

Run it with ``python -m invpipe_tests.benchmarks.overhead``; it prints one JSON line. A small shop is extracted, validated and has a
model; then the next day is made twice: in this process, and in a fresh one that imports everything, as every run of the daemon is (the
queue's wait is not in it). `compute_s` is what the bodies of the assets and checks take, measured around the call of each; `overhead_s`
is the rest: imports, definitions, event log, reading, hashing and writing of artifacts. The last is not Dagster's: `artifacts_s` says
how much of the rest the IO managers take. Where the machine has other work, look at the `cpu_s`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from dagster._core.execution.plan import compute_generator

from invpipe.defs.io import FramesIOManager, ObjectsIOManager
from invpipe.defs.jobs import daily_assets
from invpipe.defs.run import prepare_home
from invpipe.settings import write_settings
from invpipe.settings.gates import GateSettings
from invpipe_tests.pipeline.conftest import Home, surroundings

Figures = dict[str, Any]
FIRST_DAY = date(2017, 1, 1)
#: Steps of a fresh process are measured from outside: its command.
EXECUTE = "from invpipe_tests.benchmarks.overhead import execute; execute()"


def make_home(path: Path, days: int, skus: int) -> tuple[Home, str]:
    """Make a home that has a model and validated tables up to a day; return it with the next day."""
    keys = [(FIRST_DAY + timedelta(days=k)).isoformat() for k in range(days)]
    write_settings(path, embedded={"skus": skus}, gates=dict.fromkeys(GateSettings.model_fields, 1e6), folds={"horizon_days": 7})
    home = Home(path)
    with dg.DagsterInstance.from_config(str(prepare_home(path))) as instance:
        home.materialise(instance, "extract", *keys)
        home.materialise(instance, "validate_tables_again")
        home.materialise(instance, "weekly", keys[-1])
    return home, (FIRST_DAY + timedelta(days=days)).isoformat()


class Clock:
    """Seconds spent in calls that it was put around; calls inside one of them count once."""

    def __init__(self) -> None:
        self.seconds, self.cpu_seconds, self._inside = 0.0, 0.0, 0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            began, cpu, self._inside = time.perf_counter(), time.process_time(), self._inside + 1
            try:
                return call(*args, **kwargs)
            finally:
                self._inside -= 1
                if not self._inside:
                    self.seconds += time.perf_counter() - began
                    self.cpu_seconds += time.process_time() - cpu

        return timed

    def around_items(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call whose result may be a generator of outputs: the work between its items counts as well."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            result = self.around(call)(*args, **kwargs)
            return self._items(result) if hasattr(result, "__next__") else result

        return timed

    def _items(self, items: Iterator[Any]) -> Iterator[Any]:
        nothing = object()
        step = self.around(lambda: next(items, nothing))
        while (item := step()) is not nothing:
            yield item


@contextmanager
def timed() -> Iterator[tuple[Clock, Clock]]:
    """Time the bodies of assets and checks, and the reading and writing of artifacts."""
    bodies, artifacts = Clock(), Clock()
    with (
        patch.object(compute_generator, "invoke_compute_fn", bodies.around_items(compute_generator.invoke_compute_fn)),
        patch.object(FramesIOManager, "handle_output", artifacts.around(FramesIOManager.handle_output)),
        patch.object(FramesIOManager, "load_input", artifacts.around(FramesIOManager.load_input)),
        patch.object(ObjectsIOManager, "handle_output", artifacts.around(ObjectsIOManager.handle_output)),
        patch.object(ObjectsIOManager, "load_input", artifacts.around(ObjectsIOManager.load_input)),
    ):
        yield bodies, artifacts


def daily(home: Home, instance: dg.DagsterInstance, day: str) -> Figures:
    """Run the job of a day in this process."""
    with timed() as (bodies, artifacts):
        began, cpu = time.perf_counter(), time.process_time()
        job = home.definitions().resolve_job_def("daily")
        chosen = daily_assets(home.settings, date.fromisoformat(day))
        done = job.execute_in_process(
            instance=instance, partition_key=day, asset_selection=chosen, run_config={"loggers": {"progress": {}}}
        )
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    steps = len([event for event in done.all_events if event.event_type == dg.DagsterEventType.STEP_SUCCESS])
    took = {"seconds": seconds, "compute_s": bodies.seconds, "artifacts_s": artifacts.seconds}
    return took | {"cpu_s": cpu_seconds, "compute_cpu_s": bodies.cpu_seconds, "artifacts_cpu_s": artifacts.cpu_seconds, "steps": steps}


def execute() -> None:
    """Run the job in a fresh process, with the home and the day of the command line, and print its figures."""
    home, day = Home(Path(sys.argv[1])), sys.argv[2]
    with dg.DagsterInstance.get() as instance:
        print(json.dumps(daily(home, instance, day)))


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(path: Path, days: int, skus: int) -> list[Figures]:
    """Return the figures of a run in this process and of one in a fresh process."""
    rows = []
    with surroundings():
        home, day = make_home(path / "home", days, skus)
        with dg.DagsterInstance.get() as instance:
            rows.append({"run": "in this process", **daily(home, instance, day)})
        began, before = time.perf_counter(), _cpu_of_children()
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", EXECUTE, str(home.path), day],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        whole = {"seconds": time.perf_counter() - began, "cpu_s": _cpu_of_children() - before}
        rows.append({"run": "in a process of its own", **json.loads(done.stdout.splitlines()[-1]), **whole})
    for row in rows:
        row |= {"overhead_s": row["seconds"] - row["compute_s"], "overhead_cpu_s": row["cpu_s"] - row["compute_cpu_s"]}
    return [{name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()} | {"skus": skus} for row in rows]


def main(argv: list[str] | None = None) -> int:
    """Measure and print a JSON line per run."""
    parser = argparse.ArgumentParser(prog="python -m invpipe_tests.benchmarks.overhead", description=(__doc__ or "").split("\n")[0])
    for name, default in (("skus", 2000), ("days", 120)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="default: %(default)s")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        for row in measure(Path(folder), given.days, given.skus):
            print(json.dumps(row))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
