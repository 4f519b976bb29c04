"""Postgres goes away: a run goes on or fails with the reason, artifacts stay whole, the next run completes, the doctor says what is up."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable

import dagster as dg
import pytest
from sqlalchemy.exc import OperationalError

from invpipe import cli
from invpipe.defs.build import build_definitions
from invpipe.defs.provenance import frame_hash
from invpipe.defs.run import Outcome, materialise, progress_logger
from invpipe_tests.deployment import environment
from invpipe_tests.integration.postgres.conftest import DAYS, Deployment

AtFirstRetry = Callable[[Callable[[], object]], list[str]]

#: The record of one day takes so long that a fault meets it half-way.
STALL = """
CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600); RETURN NEW; END $$;
CREATE TRIGGER stall BEFORE INSERT ON event_logs FOR EACH ROW
    WHEN (NEW.dagster_event_type = 'ASSET_MATERIALIZATION' AND NEW.asset_key = '["raw_sales_daily"]' AND NEW.partition = '{day}')
    EXECUTE FUNCTION stall();
"""
STALLED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
EVENTS = "SELECT dagster_event_type FROM event_logs"


def extract(deployment: Deployment, instance: dg.DagsterInstance, say: Callable[[str], object]) -> Outcome:
    """Run the extract for what is stale and tell `say` how far it is."""
    home = deployment.home
    definitions = dg.Definitions.merge(build_definitions(str(home.path)), dg.Definitions(loggers={"progress": progress_logger(say)}))
    return materialise(definitions, instance, home.settings, "extract", DAYS)


def assert_whole(deployment: Deployment) -> int:
    """Every artifact on disk is what its record says, and none is half; return how many there are."""
    store = deployment.home.store
    artifacts = deployment.home.artifacts(raw=True)
    assert all(frame_hash(deployment.home.frame(*artifact)) == record.content_hash for artifact, record in artifacts.items())
    assert sorted(store.root.rglob("*.parquet")) == sorted(map(store.frame_path, artifacts))
    assert list(store.root.rglob("*.tmp")) == []
    return len(artifacts)


def test_server_restarted_between_two_events(
    deployment: Deployment, at_first_retry: AtFirstRetry, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a night that ends because the database was restarted, and a history with a gap where it was."""
    server = deployment.server
    undisturbed = deployment.lone_events()
    deployment.forget_artifacts()
    retries = at_first_retry(server.start)
    down: list[str] = []

    def restart_once(line: str) -> None:
        if "raw_offers" in line and not down:
            down.append(line)
            server.kill()

    with deployment.instance() as instance:
        made = extract(deployment, instance, restart_once).made
    assert len(retries) == 1
    assert assert_whole(deployment) == made
    assert Counter(row[0] for row in deployment.ask(EVENTS)) == undisturbed
    said = capfd.readouterr()
    assert deployment.secret_is_in(*retries, said.out, said.err) == []


def test_server_killed_while_it_writes_an_event(
    deployment: Deployment, at_first_retry: AtFirstRetry, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents half an artifact, a run that counts as started for ever, and a failure without its reason."""
    server = deployment.server

    def kill_when_stalled() -> None:
        while not deployment.ask(STALLED)[0][0]:
            time.sleep(0.02)
        server.kill()

    def restart() -> None:
        server.start()
        deployment.ask("DROP TRIGGER stall ON event_logs")

    retries = at_first_retry(restart)
    killer = threading.Thread(target=kill_when_stalled, daemon=True)
    with deployment.instance() as instance:
        deployment.ask(STALL.format(day=DAYS[1]))
        killer.start()
        with pytest.raises(OperationalError, match="server closed the connection unexpectedly") as failed:
            extract(deployment, instance, lambda _: None)
        killer.join()
        assert retries
        assert deployment.ask("SELECT status FROM runs") == [("FAILURE",)]
        ((reason,),) = deployment.ask("SELECT event FROM event_logs WHERE dagster_event_type = 'STEP_FAILURE'")
        assert "server closed the connection unexpectedly" in str(reason)
        there = assert_whole(deployment)
        outcome = extract(deployment, instance, lambda _: None)
        assert outcome.made > 0
        assert outcome.reused == there
        assert assert_whole(deployment) == outcome.made + outcome.reused
        assert extract(deployment, instance, lambda _: None).made == 0
    said = capfd.readouterr()
    assert deployment.secret_is_in(str(failed.value), *retries, said.out, said.err) == []


def test_doctor_says_that_the_server_is_down(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Prevents a doctor that hangs on the patient, or gives its password away; what needs no Postgres goes on without it."""
    server, home = deployment.server, str(deployment.home.path)
    assert cli.main(["doctor", "--home", home, "--json"]) == 0
    well = found(capfd)
    assert well["storage"]["state"] == "ok"
    assert well["storage"]["text"].startswith(f"Postgres at 127.0.0.1:{server.port}, database dagster, user dagster, version ")
    assert well["dagster"]["text"].endswith(", 0 runs")
    server.kill()
    assert cli.main(["doctor", "--home", home]) == 1
    said = capfd.readouterr()
    assert f"broken   storage: Postgres at 127.0.0.1:{server.port}, database dagster, user dagster: " in said.out
    assert "Connection refused\n         -> start it, or correct host and port in the environment variable DAGSTER_POSTGRES_URL" in said.out
    assert "order plan: " in said.out, "what does not need the storage is still looked at"
    assert cli.main(["prune", "--home", home]) == 1
    refused = capfd.readouterr().err
    assert refused.startswith("invpipe: StorageError: Postgres at ")
    assert "Connection refused; start it, or correct host and port" in refused
    assert cli.main(["init", "--home", f"{home}-new"]) == 0
    assert deployment.secret_is_in(said.out, said.err, refused, caplog.text, json.dumps(well)) == []


def test_commands_say_that_the_server_is_down(
    deployment: Deployment, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Prevents a traceback of a hundred lines, after many seconds, where one line says what to start."""
    server, home = deployment.server, str(deployment.home.path)
    server.kill()
    before = sorted(deployment.home.path.rglob("*"))
    for command in ("ui", "demo", "backtest"):
        assert cli.main([command, "--home", home]) == 1
        said = capfd.readouterr()
        assert said.err.startswith(f"invpipe: StorageError: Postgres at 127.0.0.1:{server.port}, database dagster, user dagster: ")
        assert said.err.endswith(
            "Connection refused; start it, or correct host and port in the environment variable DAGSTER_POSTGRES_URL; "
            "artifacts are safe, runs that were open are ended in the UI\n"
        )
        assert (said.err.count("\n"), said.out) == (1, "")
        assert deployment.secret_is_in(said.err, caplog.text) == []
    assert sorted(deployment.home.path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "text", "cure"),
    [
        (("dagster:", "dagster:wr0ng"), "password authentication failed for user", "correct user and password in the environment variable"),
        (
            ("/dagster?", "/absent?"),
            'database "absent" does not exist',
            "CREATE DATABASE absent OWNER dagster, then `dagster instance info`",
        ),
        (
            ("postgresql+psycopg2:", "postgresql:"),
            "asks for the driver psycopg, not installed",
            "write postgresql+psycopg2://user:password@",
        ),
        (("%40", "@"), "DAGSTER_POSTGRES_URL is no address of Postgres", "with @ in user and password written as %40"),
        (("postgresql+psycopg2://", ""), "DAGSTER_POSTGRES_URL is no address of Postgres", "write postgresql+psycopg2://user:password@"),
        (None, "DAGSTER_POSTGRES_URL is not set", "set it to postgresql+psycopg2://user:password@host:5432/database"),
    ],
)
def test_doctor_says_what_is_wrong_with_the_address(
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    change: tuple[str, str] | None,
    text: str,
    cure: str,
) -> None:
    """Prevents an operator who must guess which part of a secret line is wrong, and the secret in the answer."""
    address = deployment.server.address(environment()["DAGSTER_POSTGRES_URL"])
    if change is None:
        monkeypatch.delenv("DAGSTER_POSTGRES_URL")
    else:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", address.replace(*change, 1))
    assert cli.main(["doctor", "--home", str(deployment.home.path), "--json"]) == 1
    finding = found(capfd)["storage"]
    assert finding["state"] == "broken"
    assert text in finding["text"]
    assert cure in finding["cure"]
    assert deployment.secret_is_in(*finding.values()) == []
    _, tail = deployment.server.password.split("@")
    assert all(tail not in said for said in finding.values()), "what follows @ was taken for the host"


def found(capfd: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    """Return what `invpipe doctor --json` printed, by name."""
    return {finding["name"]: finding for finding in json.loads(capfd.readouterr().out)["findings"]}
