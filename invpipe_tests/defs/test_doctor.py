"""What the doctor finds in a Dagster instance, and what the command says and returns."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRun
from dagster._daemon.types import DaemonHeartbeat

from invpipe import cli
from invpipe.defs.doctor import check_daemon, check_dagster, check_plan, check_runs, check_switches
from invpipe.defs.provenance import ArtifactStore
from invpipe.defs.run import prepare_home
from invpipe.settings import Settings
from invpipe_tests.defs.artifacts import put

NOW = datetime.now(UTC)
EMBEDDED = Settings()
SHOP = EMBEDDED.model_copy(update={"source": "databases"})


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def instance(tmp_path: Path, _surroundings: None) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of a home."""
    with dg.DagsterInstance.from_config(str(prepare_home(tmp_path / "home"))) as instance:
        yield instance


def beat(instance: dg.DagsterInstance, at: datetime) -> None:
    for name in instance.get_required_daemon_types():
        instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), name, "here", []))


def test_daemon_that_does_not_beat_is_found(instance: dg.DagsterInstance) -> None:
    """Prevents a morning without a plan because a restarted machine did not start the daemon."""
    silent = check_daemon(instance, SHOP, NOW)
    assert (silent.state, silent.text) == ("broken", "the daemon is not running; it never ran here")
    assert check_daemon(instance, EMBEDDED, NOW).state == "warning"
    beat(instance, NOW - timedelta(hours=5))
    assert check_daemon(instance, SHOP, NOW).text == "the daemon is not running; last heartbeat 5.0 h ago"
    beat(instance, NOW)
    assert (check_daemon(instance, SHOP, NOW).state, check_daemon(instance, SHOP, NOW).text) == ("ok", "last heartbeat 0 s ago")


def test_schedule_that_is_off_is_found(tmp_path: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a shop whose schedule was never switched on, and alerts that count as off though the settings turned them on."""
    (tmp_path / "invpipe.toml").write_text("")
    monkeypatch.setenv("INVPIPE_ALERTS__WEBHOOK_URL", "https://hooks.example.com/x")
    found = {finding.name: finding for finding in check_switches(instance, tmp_path, SHOP)}
    assert found["schedule daily_at_0530"].state == "broken"
    assert "dagster schedule start daily_at_0530 -m invpipe.definitions" in found["schedule daily_at_0530"].cure
    assert found["sensor catch_up_missed_days"].state == "warning"
    assert found["sensor alert_run_failure"].state == "ok"


def test_runs_that_hang_are_found(instance: dg.DagsterInstance) -> None:
    """Prevents a run whose process died from blocking the queue for days."""
    started = datetime.now(UTC)  # not at import: the suite may have run for minutes since
    instance.add_run(DagsterRun(job_name="daily", status=dg.DagsterRunStatus.STARTED))
    assert check_runs(instance, started).state == "ok"
    hanging = check_runs(instance, started + timedelta(hours=7))
    assert hanging.state == "broken"
    assert hanging.text.startswith("1 hang, first run ")
    assert "of daily (STARTED, 7.0 h)" in hanging.text


def test_missing_plan_is_found(tmp_path: Path) -> None:
    """Prevents a doctor that looks at everything but the plan."""
    settings = Settings(home=tmp_path)
    put(ArtifactStore.of(settings), "order_plan", "2017-06-07")
    late = check_plan(settings, datetime(2017, 6, 10, 8, tzinfo=UTC))
    assert (late.state, late.text) == (
        "broken",
        "that of 2017-06-09 is missing, newest is of 2017-06-07; missed days: 2017-06-08, 2017-06-09",
    )
    assert check_plan(settings, datetime(2017, 6, 8, 8, tzinfo=UTC)).state == "ok"


def test_instance_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    """Prevents a traceback where the storage is what is ill."""
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("nonsense: {a: 1}\n")
    (finding,) = check_dagster(tmp_path, EMBEDDED, NOW)
    assert finding.state == "broken"
    assert "cannot be read: " in finding.text
    assert "\n" not in finding.text


def test_command_looks_at_everything_and_returns_1_only_where_something_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a check that a script cannot use, and one that writes into a home it was to look at."""
    home = tmp_path / "home"
    assert cli.main(["doctor", "--home", str(home)]) == 0
    assert "warning  dagster: " in capsys.readouterr().out
    assert not home.exists()
    prepare_home(home)
    assert cli.main(["doctor", "--home", str(home), "--json"]) == 0
    findings = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert {"python", "disk", "settings", "databases", "alerts", "dagster", "daemon", "runs", "order plan"} <= set(findings)
    assert findings["schedule daily_at_0530"]["state"] == "warning"
    (home / "invpipe.toml").write_text("sead = 1\n")
    assert cli.main(["doctor", "--home", str(home)]) == 1
    assert "broken   settings: sead in" in capsys.readouterr().out
