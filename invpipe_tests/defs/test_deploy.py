"""The files of invpipe/examples/deploy: what reads them takes them, and they fit one another."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

import invpipe
from invpipe import cli
from invpipe.defs.build import build_definitions
from invpipe.defs.report.pages import PAGES, published
from invpipe.defs.run import prepare_home
from invpipe.errors import StorageError
from invpipe.settings import Settings, find_home, write_settings
from invpipe_tests.deployment import DEPLOY, environment, unit

UNITS = sorted(path.name for path in (*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")))


def test_dagster_takes_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a misspelt key, which Dagster finds when the service starts."""
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", environment()["DAGSTER_POSTGRES_URL"])
    shutil.copyfile(DEPLOY / "dagster.yaml", tmp_path / "dagster.yaml")
    values, _ = dagster_instance_config(str(tmp_path))
    assert values["storage"] == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    (tmp_path / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text() + "run_monitorin: {enabled: true}\n")
    with pytest.raises(dg.DagsterInvalidConfigError, match="run_monitorin"):
        dagster_instance_config(str(tmp_path))


def test_instance_works_with_all_but_its_storage(tmp_path: Path) -> None:
    """Prevents limits and retries that load and are not what was meant."""
    values = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    del values["storage"]  # invpipe_tests/integration/postgres has it with its storage
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(values))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 1)
        assert instance.run_monitoring_enabled
        assert instance.freshness_enabled
        assert {"SENSOR", "SCHEDULER", "QUEUED_RUN_COORDINATOR", "FRESHNESS_DAEMON"} <= set(instance.get_required_daemon_types())


def test_commands_keep_the_operators_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents `invpipe ui`, called once on a deployment, from sending its next runs to SQLite; a copy of an older version is renewed."""
    for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("DAGSTER_POSTGRES_URL", raising=False)
    ours = (Path(invpipe.__file__).parents[1] / "dagster.yaml").read_text()
    file = prepare_home(tmp_path) / "dagster.yaml"
    for operators in (DEPLOY / "dagster.yaml", DEPLOY.parent / "celery" / "dagster.yaml"):
        shutil.copyfile(operators, file)
        with pytest.raises(StorageError, match="the environment variable DAGSTER_POSTGRES_URL is not set"):
            prepare_home(tmp_path)
        assert file.read_text() == operators.read_text()
    file.write_text("telemetry: {enabled: true}\n")
    prepare_home(tmp_path)
    assert file.read_text() == ours


def test_runs_leave_nothing_beside_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents runs, events and logs at the top of the repository, where a dagster.yaml lies and commands are called."""
    checkout = Path(invpipe.__file__).parents[1]
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(checkout / name, tmp_path / name)
    before = {path.name for path in tmp_path.iterdir()}
    for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    home = find_home(None)
    write_settings(home, embedded={"skus": 60})
    with dg.DagsterInstance.from_config(str(prepare_home(home))) as instance:
        job = build_definitions(str(home)).resolve_job_def("extract")
        assert job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("raw_items")]).success
        assert instance.get_runs_count() == 1
    assert {path.name for path in tmp_path.iterdir()} - before == {".invpipe"}
    assert ".invpipe/" in (checkout / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", UNITS)
def test_units_can_be_parsed_and_name_what_exists(name: str) -> None:
    """Prevents a unit with a key twice, a program we do not install, or an option the command does not have."""
    parsed = unit(name)
    assert parsed["Unit"]["Description"].startswith("invpipe: ")
    if name.endswith(".timer"):
        assert (DEPLOY / name.replace(".timer", ".service")).is_file()
        return
    service = parsed["Service"]
    assert service["EnvironmentFile"] == "/etc/invpipe/environment"
    assert service["ReadWritePaths"] == environment()["INVPIPE_HOME"] == service["WorkingDirectory"]
    program, *rest = service["ExecStart"].split()
    assert shutil.which(Path(program).name), program
    if Path(program).name == "invpipe":
        assert rest == ["prune", "--delete"]
        with pytest.raises(SystemExit, match="0"):
            cli.main([*rest, "--help"])


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """Prevents a key that systemd passes over with a line in a log; programs are replaced by one that exists here."""
    for name in UNITS:
        (tmp_path / name).write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", (DEPLOY / name).read_text()))
    paths = [str(tmp_path / name) for name in UNITS]
    run = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False, timeout=120)
    assert [line for line in run.stderr.splitlines() if str(tmp_path) in line] == []


def test_ui_is_bound_to_loopback() -> None:
    """Prevents a UI without a password on the network."""
    assert "--host 127.0.0.1 --port 3000" in unit("invpipe-webserver.service")["Service"]["ExecStart"]
    proxy = (DEPLOY / "nginx.conf").read_text()
    assert "proxy_pass http://127.0.0.1:3000;" in proxy
    assert proxy.index("auth_basic_user_file") < proxy.index("location /")
    assert proxy.count("{") == proxy.count("}")
    assert "-p 127.0.0.1:3000:3000" in (DEPLOY / "Containerfile").read_text()


def test_pages_are_given_out_where_they_lie(tmp_path: Path) -> None:
    """Prevents links of the assets that lead nowhere: the proxy's directory and address are those of the published pages."""
    proxy = (DEPLOY / "nginx.conf").read_text()
    assert f"alias {environment()['INVPIPE_HOME']}/{PAGES.as_posix()}/;" in proxy
    (address,) = re.findall(r'base_url = "(.*)"', proxy)
    write_settings(tmp_path, report={"base_url": address})
    shown = published(Settings.load(tmp_path), "2017-12-31", "<p>page</p>")
    (host,) = set(re.findall(r"server_name (\S+);", proxy))
    (location,) = re.findall(r"location (/\w+/) \{", proxy)
    assert shown["link"].value == f"https://{host}{location}2017-12-31.html"
    assert proxy.index("auth_basic_user_file") < proxy.index(f"location {location}")  # the server's password holds for the pages


def test_environment_is_made_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a variable of the example that is no setting, and a real secret in it."""
    values = environment()
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load(tmp_path)
    assert settings.alerts.channels == 1
    assert all("CHANGE-ME" in value for name, value in values.items() if "PASSWORD" in name or "URL" in name)
    assert os.environ["DAGSTER_HOME"] == f"{values['INVPIPE_HOME']}/dagster"


def test_container_copies_what_exists_and_is_no_root() -> None:
    """Prevents an image that cannot be built, or runs models as root."""
    lines = (DEPLOY / "Containerfile").read_text().splitlines()
    top = Path(invpipe.__file__).parents[1]
    copied = [line.split()[-2] for line in lines if line.startswith("COPY")]
    assert copied == [".", "invpipe/examples/deploy/dagster.yaml"]
    assert all((top / path).exists() for path in copied)
    assert (top / ".ci" / "constraints.txt").is_file()
    users = [line for line in lines if line.startswith("USER")]
    assert users == ["USER invpipe"]
    assert next(k for k, line in enumerate(lines) if line == users[0]) < next(k for k, line in enumerate(lines) if line.startswith("CMD"))
