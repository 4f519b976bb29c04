"""Runs, events and ticks in a real Postgres, by the shipped configuration alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from invpipe.defs.jobs import range_tags
from invpipe.defs.retention import plan_pruning
from invpipe_tests.integration.cluster.conftest import program
from invpipe_tests.integration.postgres.conftest import DAYS, Deployment

CHECKOUT = Path(__file__).parents[3]

#: No run writes its first materialisation before both have started, so neither can end before the other begins.
BARRIER = """
CREATE FUNCTION wait_for_the_other() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE (SELECT count(DISTINCT run_id) FROM event_logs WHERE dagster_event_type = 'PIPELINE_START') < 2 LOOP
        PERFORM pg_sleep(0.02);
    END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER barrier BEFORE INSERT ON event_logs FOR EACH ROW
    WHEN (NEW.dagster_event_type = 'ASSET_MATERIALIZATION') EXECUTE FUNCTION wait_for_the_other();
"""


def test_runs_events_and_ticks_lie_in_postgres(deployment: Deployment) -> None:
    """Prevents a storage section that loads while everything still goes into files of one machine."""
    home = deployment.home
    with deployment.instance() as instance:
        outcome = home.materialise(instance, "extract", *DAYS)
        instance.create_tick(TickData("origin", "daily_at_0530", InstigatorType.SCHEDULE, TickStatus.STARTED, 0.0))
    assert outcome.made > 5 * len(DAYS)
    ((run_id, status),) = deployment.ask("SELECT run_id, status FROM runs")
    assert status == "SUCCESS"
    written = deployment.ask("SELECT run_id, count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY run_id")
    assert written == [(run_id, outcome.made)]
    assert deployment.ask("SELECT status FROM job_ticks") == [("STARTED",)]
    assert [path.name for path in home.path.rglob("*.db*")] == []
    listed = subprocess.run([program("dagster"), "run", "list"], capture_output=True, text=True, check=False, timeout=120)
    assert f"Run: {run_id}" in listed.stdout, listed.stdout + listed.stderr
    with deployment.instance() as instance:
        again = home.materialise(instance, "extract", *DAYS)
        assert (again.made, again.reused) == (0, outcome.made)
        assert len(instance.get_materialized_partitions(dg.AssetKey("raw_sales_daily"))) == len(DAYS)
    assert deployment.ask("SELECT count(*) FROM runs") == [(1,)]
    assert deployment.secret_is_in(listed.stdout, listed.stderr, *home.lines) == []


def test_two_processes_at_once_lose_no_event(deployment: Deployment) -> None:
    """Prevents events that overwrite one another or get lost where several processes write."""
    home, run_job = deployment.home, "invpipe_tests.integration.shop.extract_process"
    with deployment.instance() as instance:
        deployment.ask(BARRIER)
        command = [sys.executable, "-m", run_job, str(home.path), "sales_daily", DAYS[0], DAYS[-1]]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": CHECKOUT}
        with subprocess.Popen(command, **pipes) as other:
            try:
                job = home.definitions().resolve_job_def("extract")
                chosen = [dg.AssetKey("raw_stock_daily")]
                job.execute_in_process(instance=instance, tags=range_tags(DAYS[0], DAYS[-1]), asset_selection=chosen)
                output, _ = other.communicate(timeout=120)
            finally:
                other.kill()
    assert other.returncode == 0, output[-3000:]
    (first, second) = deployment.ask("SELECT min(id), max(id) FROM event_logs GROUP BY run_id ORDER BY 1")
    assert second[0] < first[1], "the runs were not at the same time"
    kinds = deployment.ask("SELECT run_id, dagster_event_type FROM event_logs")
    runs = deployment.ask("SELECT run_id FROM runs WHERE status = 'SUCCESS'")
    assert len(runs) == 2
    alone = deployment.lone_events("raw_sales_daily")
    assert [Counter(kind for run, kind in kinds if run == run_id) for (run_id,) in runs] == [alone] * 2


def test_prune_deletes_old_runs_in_postgres(deployment: Deployment) -> None:
    """Prevents a retention that frees files only, while the database grows for ever."""
    home = deployment.home
    with deployment.instance() as instance:
        home.materialise(instance, "extract", DAYS[0])
        deployment.forget_artifacts()
        home.materialise(instance, "extract", DAYS[0])
        old, new = (row[0] for row in deployment.ask("SELECT run_id FROM runs ORDER BY id"))
        plan = plan_pruning(home.definitions(), instance, home.settings, datetime.now(UTC) + timedelta(days=100))
        assert [leaving.name for leaving in plan.runs] == [f"run {str(old)[:8]} of extract"]
        assert plan.old_runs_kept == 1
        plan.carry_out()
    assert deployment.ask("SELECT run_id FROM runs") == [(new,)]
    assert {row[0] for row in deployment.ask("SELECT run_id FROM event_logs")} == {new}
    assert os.environ["DAGSTER_HOME"] == str(home.path / "dagster")
