"""Alerts of a Dagster instance: jobs that really fail, and what a receiver on this machine gets."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invpipe.defs import alerts
from invpipe.defs.alerts import alert_sensors, run_failure_alerts, stale_plan_alerts
from invpipe.defs.build import build_definitions
from invpipe.defs.partitions import Partitions
from invpipe.settings import Settings
from invpipe.settings.alerts import AlertSettings
from invpipe_tests.receivers import Receiver, webhook_receiver

DAYS = dg.DailyPartitionsDefinition("2025-03-01", end_date="2025-03-10")


@dg.asset(partitions_def=DAYS)
def fragile() -> None:
    """Fail."""
    try:
        msg = "capital is -5; set planning.capital (password s3cret)"
        raise ValueError(msg)
    except ValueError as error:
        msg = "while planning"
        raise RuntimeError(msg) from error


@dg.asset
def overdrawn() -> int:
    """Be wrong."""
    return 1


@dg.asset_check(asset=overdrawn, blocking=True)
def within_capital() -> dg.AssetCheckResult:
    """Fail."""
    return dg.AssetCheckResult(passed=False, description="order value 7 exceeds the capital 5; lower planning.capital")


@dg.asset_check(asset=overdrawn)
def nice_to_have() -> dg.AssetCheckResult:
    """Fail without blocking."""
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="not nice")


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    """A webhook."""
    with webhook_receiver() as receiver:
        yield receiver


@pytest.fixture
def settings(tmp_path: Path, webhook: Receiver) -> Settings:
    """Settings that tell the webhook everything, with a password of a database."""
    return told(webhook, home=tmp_path, mariadb={"password": "s3cret"})


def told(webhook: Receiver, home: Path, mariadb: Any = None, **alert: Any) -> Settings:
    chosen = {"webhook_url": f"http://127.0.0.1:{webhook.port}/hook", "ui_url": "https://ui.example.com/", "retries": 0} | alert
    return Settings(home=home, alerts=AlertSettings(**chosen), mariadb=mariadb or {})


def failed_run(
    instance: dg.DagsterInstance, assets: list[Any], name: str = "daily", *, partition: str | None = None, **tags: str
) -> dg.RunFailureSensorContext:
    """Run a job that fails and return what the sensor is given."""
    definitions = dg.Definitions(
        assets=[a for a in assets if isinstance(a, dg.AssetsDefinition) and not isinstance(a, dg.AssetChecksDefinition)],
        asset_checks=[a for a in assets if isinstance(a, dg.AssetChecksDefinition)],
        jobs=[dg.define_asset_job(name, executor_def=dg.in_process_executor)],
    )
    labels = {key.replace("__", "/"): value for key, value in tags.items()}
    job = definitions.resolve_job_def(name)
    result = job.execute_in_process(instance=instance, raise_on_error=False, partition_key=partition, tags=labels)
    assert not result.success
    return dg.build_run_status_sensor_context(
        "alert_run_failure", dagster_event=result.get_run_failure_event(), dagster_instance=instance, dagster_run=result.dagster_run
    ).for_run_failure()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def texts(webhook: Receiver) -> list[str]:
    return [body["text"] for _, body in webhook.got]


def test_failed_run_tells_step_cause_and_link(instance: dg.DagsterInstance, settings: Settings, webhook: Receiver) -> None:
    """Prevents an alert that says that something failed, not what; and a database's password in it."""
    context = failed_run(instance, [fragile], partition="2025-03-02")
    run_failure_alerts(settings)(context)
    (text,) = texts(webhook)
    assert text.splitlines()[0] == "invpipe: daily of 2025-03-02 failed"
    assert "step fragile: ValueError: capital is -5; set planning.capital (password ***)" in text
    assert text.endswith(f"https://ui.example.com/runs/{context.dagster_run.run_id}")


def test_blocking_check_is_named_with_its_message(instance: dg.DagsterInstance, settings: Settings, webhook: Receiver) -> None:
    """Prevents two alerts for one failure, and a check that only warns from being told as one that stopped the run."""
    run_failure_alerts(settings)(failed_run(instance, [overdrawn, within_capital, nice_to_have]))
    (text,) = texts(webhook)
    assert text.splitlines()[0] == "invpipe: check within_capital stopped daily"
    assert "within_capital of overdrawn: order value 7 exceeds the capital 5; lower planning.capital" in text
    assert "nice" not in text


@pytest.mark.parametrize(("occasion", "assets"), [("failed_check", [fragile]), ("run_failure", [overdrawn, within_capital])])
def test_only_chosen_occasions_are_told(
    instance: dg.DagsterInstance, tmp_path: Path, webhook: Receiver, occasion: str, assets: list[Any]
) -> None:
    """Prevents alerts an operator has switched off."""
    partition = "2025-03-02" if fragile in assets else None
    answer = run_failure_alerts(told(webhook, tmp_path, occasions=(occasion,)))(failed_run(instance, assets, partition=partition))
    assert isinstance(answer, dg.SkipReason)
    assert texts(webhook) == []


def test_run_that_is_tried_again_is_not_told(instance: dg.DagsterInstance, settings: Settings, webhook: Receiver) -> None:
    """Prevents waking somebody for a failure that Dagster mends by itself - and silence when the second try fails too."""
    context = failed_run(instance, [overdrawn, within_capital])
    instance.add_run_tags(context.dagster_run.run_id, {"dagster/will_retry": "true"})
    assert "is tried again" in str(run_failure_alerts(settings)(context))
    assert texts(webhook) == []
    instance.add_run_tags(context.dagster_run.run_id, {"dagster/will_retry": "false"})
    run_failure_alerts(settings)(context)
    assert len(texts(webhook)) == 1


def test_a_backfill_is_told_once(instance: dg.DagsterInstance, settings: Settings, webhook: Receiver) -> None:
    """Prevents a hundred messages for a hundred partitions with one cause."""
    sensor = run_failure_alerts(settings)
    contexts = [failed_run(instance, [fragile], partition=f"2025-03-0{day}", dagster__backfill="b1") for day in (2, 3, 4)]
    for context in contexts:
        sensor(context)
    (text,) = texts(webhook)
    assert text.startswith("invpipe: daily of 2025-03-02 failed")
    assert "It belongs to backfill b1, whose further failures are not told one by one." in text


def test_dead_receiver_does_not_fail_the_sensor(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    """Prevents a sensor that Dagster shows as broken because Slack is down."""
    settings = Settings(home=tmp_path, alerts=AlertSettings(webhook_url="http://127.0.0.1:1/x", retries=0))
    assert run_failure_alerts(settings)(failed_run(instance, [overdrawn, within_capital])) is None


# --- stale plan


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Set the clock of the sensors."""
    return lambda now: monkeypatch.setattr(alerts, "utc_now", lambda: now)


def ticked(settings: Settings, instance: dg.DagsterInstance, cursor: str | None = None) -> tuple[str, str | None]:
    """Evaluate the sensor and return its words and its cursor."""
    sensor = stale_plan_alerts(Partitions.of(settings), settings)
    data = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))
    return data.skip_message or "", data.cursor


def test_missing_plan_is_told_once_a_day(
    instance: dg.DagsterInstance, settings: Settings, webhook: Receiver, at: Callable[[datetime], None]
) -> None:
    """Prevents an unnoticed morning without a plan, an alert before the plan is due, and one every five minutes."""
    at(datetime(2017, 6, 1, 6, 59, tzinfo=UTC))
    assert ticked(settings, instance)[0] == "the plan of 2017-05-30 is missing; told by: webhook"  # yesterday's is not due yet
    at(datetime(2017, 6, 1, 7, 0, tzinfo=UTC))
    said, cursor = ticked(settings, instance, "2017-05-30")
    assert (said, cursor) == ("the plan of 2017-05-31 is missing; told by: webhook", "2017-05-31")
    assert texts(webhook)[-1].startswith(
        "invpipe: the order plan of 2017-05-31 is missing\nIt was due at 07:00 (UTC). The newest plan is of"
    )
    assert ticked(settings, instance, cursor)[0] == "the missing plan of 2017-05-31 has been told of"
    assert len(texts(webhook)) == 2


def test_untold_missing_plan_is_tried_at_the_next_tick(
    instance: dg.DagsterInstance, settings: Settings, webhook: Receiver, at: Callable[[datetime], None]
) -> None:
    """Prevents a lost alert because the receiver was down at the first tick."""
    at(datetime(2017, 6, 1, 8, tzinfo=UTC))
    webhook.answers = [500, 200]
    assert ticked(settings, instance) == ("the plan of 2017-05-31 is missing; told by: nobody took it", None)
    assert ticked(settings, instance) == ("the plan of 2017-05-31 is missing; told by: webhook", "2017-05-31")


def test_shop_without_such_a_day_has_no_stale_plan(
    instance: dg.DagsterInstance, settings: Settings, webhook: Receiver, at: Callable[[datetime], None]
) -> None:
    """Prevents an alert every morning for the embedded shop, which ends in 2017."""
    at(datetime(2026, 6, 1, 8, tzinfo=UTC))
    ticked(settings, instance)
    assert texts(webhook) == []


# --- wiring


def test_sensors_exist_and_run_where_somebody_is_to_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a second switch that an operator forgets, and sensors that send nothing to nobody."""
    (tmp_path / "invpipe.toml").write_text("")

    def names() -> dict[str, str]:
        return {s.name: s.default_status.value for s in build_definitions(str(tmp_path)).sensors or () if s.name.startswith("alert")}

    assert names() == {}
    monkeypatch.setenv("INVPIPE_ALERTS__WEBHOOK_URL", "https://hooks.example.com/x")
    assert names() == {"alert_run_failure": "RUNNING", "alert_stale_plan": "RUNNING"}
    monkeypatch.setenv("INVPIPE_ALERTS__OCCASIONS", '["stale_plan"]')
    assert names() == {"alert_stale_plan": "RUNNING"}
    dg.Definitions.validate_loadable(build_definitions(str(tmp_path)))


def test_no_occasion_no_sensor(tmp_path: Path, webhook: Receiver) -> None:
    """Prevents sensors of an operator who chose none."""
    settings = told(webhook, tmp_path, occasions=())
    assert alert_sensors(Partitions.of(settings), settings) == []
