"""The state of the order plan that a live daemon keeps: nobody asks, only the time goes by.

The policy is a due time of the day, in minutes, so a real clock would have to be waited for: the daemon's is moved.
"""

from __future__ import annotations

import sys
from datetime import datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState

from invpipe.atomic import atomic_replace
from invpipe.defs.run import prepare_home
from invpipe_tests.defs.artifacts import write_database_shop
from invpipe_tests.integration.cluster.conftest import process
from invpipe_tests.integration.daemon.conftest import Daemon, kill_group
from invpipe_tests.pipeline.conftest import Home, surroundings

ZONE = ZoneInfo("Europe/Berlin")
PLAN = dg.AssetKey("order_plan")


def test_order_plan_gets_stale_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a plan that looks fresh in the UI on the morning on which it was not made."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    write_database_shop(home.path)
    monkeypatch.setenv("FRESHNESS_DAEMON_INTERVAL_SECONDS", "1")

    def move_clock(to: datetime) -> None:
        with atomic_replace(home.path / "clock") as file:
            file.write_text(to.isoformat())

    with surroundings(), dg.DagsterInstance.from_config(str(prepare_home(home.path))) as instance:
        daemon = Daemon(home, instance, tmp_path / "log")

        def state() -> FreshnessState | None:
            found = instance.get_freshness_state_records([PLAN]).get(PLAN)
            return found.freshness_state if found else None

        instance.report_runless_asset_event(dg.AssetMaterialization(PLAN, partition="2024-01-01"))
        made = instance.get_latest_materialization_event(PLAN)
        assert made is not None
        due = datetime.combine(datetime.fromtimestamp(made.timestamp, ZONE).date() + timedelta(days=1), time(6, 30), ZONE)
        move_clock(due - timedelta(seconds=1))
        command = (sys.executable, "-m", "invpipe_tests.integration.daemon.clocked", "run", "-m", "invpipe.definitions")
        with process(daemon.log, *command, env=daemon.env) as running:
            daemon.wait("a state of the plan", lambda: state() is not None)
            assert state() == FreshnessState.PASS
            move_clock(due + timedelta(seconds=1))
            daemon.wait("a stale plan", lambda: state() == FreshnessState.FAIL)
            kill_group(running)
