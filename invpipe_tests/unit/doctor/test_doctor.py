"""What the doctor finds outside Dagster."""

import json
import os
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import invpipe
from invpipe.doctor import PYTHON, Finding, check_alerts, check_databases, check_disk, check_python, check_settings, document, table_finding
from invpipe.settings import Settings
from invpipe.settings.alerts import AlertSettings
from invpipe.sources.databases.check import TableCheck


def test_python_versions_are_those_of_the_package() -> None:
    """Prevents a doctor that praises a version pip refuses."""
    project = tomllib.loads((Path(invpipe.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    wanted = SpecifierSet(project["requires-python"])
    for minor in range(8, 20):
        state = check_python((3, minor)).state
        assert (state == "ok") == wanted.contains(f"3.{minor}.1"), minor
    assert check_python((3, 9)).cure == f"install invpipe under Python 3.{PYTHON[0][1]} or newer, below 3.{PYTHON[1][1]}"


def test_little_room_is_told(tmp_path: Path) -> None:
    """Prevents a disk that fills up at night; a home that is not made yet is looked at where it will be."""
    assert check_disk(tmp_path / "not" / "yet", 0.0).state == "ok"
    assert check_disk(tmp_path, 1e9).state == "warning"
    assert "prune" in check_disk(tmp_path, 1e9).cure


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_home_that_cannot_be_written_is_broken(tmp_path: Path) -> None:
    """Prevents a good report about a home in which no run can work."""
    tmp_path.chmod(0o500)
    assert check_disk(tmp_path, 0.0).state == "broken"


def test_refused_settings_are_one_finding(tmp_path: Path) -> None:
    """Prevents a doctor that dies of the patient's illness."""
    (tmp_path / "invpipe.toml").write_text("sead = 1\n")
    settings, finding = check_settings(tmp_path)
    assert (settings, finding.state) == (None, "broken")
    assert "sead in" in finding.text


@pytest.mark.parametrize(
    ("table", "state", "text"),
    [
        (TableCheck("items", "query of MariaDB", total_rows=1234), "ok", "1,234 rows can be read"),
        (TableCheck("items", "query of MariaDB", failures=("2 of 9 rows break x",)), "warning", "2 of 9 rows break x"),
        (TableCheck("items", "query of MariaDB", error="no route to host"), "broken", "no route to host"),
    ],
)
def test_a_tables_check_becomes_a_finding(table: TableCheck, state: str, text: str) -> None:
    """Prevents a table that cannot be read from passing, and one with odd rows from stopping everything."""
    finding = table_finding(table)
    assert (finding.name, finding.state) == ("table items", state)
    assert text in finding.text
    assert bool(finding.cure) == (state != "ok")


def test_dead_database_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a good report about a shop whose database nobody reaches."""
    tables = "".join(f"[tables.{name}]\nsql = 'SELECT 1 WHERE :first_day < :last_day'\n" for name in ("sales_daily", "stock_daily"))
    head = "source = 'databases'\nshop.first_day = 2024-01-01\nmariadb.port = 1\n"
    (tmp_path / "invpipe.toml").write_text(head + "[tables.items]\nsql = 'SELECT 1'\n" + tables)
    findings = list(check_databases(Settings.load(tmp_path), lambda _: None))
    assert [(finding.name, finding.state) for finding in findings] == [
        (f"table {name}", "broken") for name in ("items", "sales_daily", "stock_daily")
    ]


def test_shop_without_databases_is_well() -> None:
    """Prevents a broken demo."""
    assert [finding.state for finding in check_databases(Settings(), lambda _: None)] == ["ok"]


def test_silent_failures_are_warned_of(tmp_path: Path) -> None:
    """Prevents a shop whose runs fail without anybody hearing of it, and a secret's file that is missing."""
    assert check_alerts(Settings()).state == "ok"
    shop = Settings().model_copy(update={"source": "databases"})
    assert check_alerts(shop).state == "warning"
    missing = check_alerts(Settings(alerts=AlertSettings(webhook_url_file=tmp_path / "absent")))
    assert (missing.state, missing.text) == ("broken", "a file of a secret cannot be used: No such file or directory")
    (tmp_path / "address").write_text("s3cret")
    wrong = check_alerts(Settings(alerts=AlertSettings(webhook_url_file=tmp_path / "address")))
    assert wrong.state == "broken"
    assert "s3cret" not in wrong.line()
    assert check_alerts(Settings(alerts=AlertSettings(email_to=("a@b.c",)))).text.startswith("1 of 2 channels, told are run_failure")


def test_finding_is_a_line_and_a_document() -> None:
    """Prevents a finding without its cure, in words or for programs."""
    finding = Finding("disk", "broken", "full", "make room")
    assert finding.line() == "broken   disk: full\n         -> make room"
    assert Finding("disk", "ok", "room").line() == "OK       disk: room"
    assert json.loads(document([finding])) == {"findings": [{"name": "disk", "state": "broken", "text": "full", "cure": "make room"}]}
