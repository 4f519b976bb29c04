"""The command: what it refuses, what it prints, and with which exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invpipe import cli
from invpipe.settings import Settings, write_settings


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory; what a command puts into the environment is taken back."""
    for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def errors_of(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed as an error: one line, no traceback."""
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: command"),
        (["fly"], "invalid choice: 'fly'"),
        (["graph", "--skus", "3"], "unrecognized arguments: --skus 3"),
        (["demo", "--skus", "few"], "argument --skus: invalid int value: 'few'"),
        (["ui", "--port", "http"], "argument --port: invalid int value: 'http'"),
    ],
)
def test_wrong_calls_end_with_2_and_the_usage(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a misspelt call from running something else."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(argv)
    printed = capsys.readouterr().err
    assert printed.startswith("usage: invpipe")
    assert message in printed


def test_graph_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a diagram that needs a run, or leaves files behind."""
    assert cli.main(["graph", "--home", str(tmp_path / "home")]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("graph LR\n")
    assert "order_plan" in printed.out
    assert printed.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["demo", "graph", "sweep", "ui"])
def test_bad_settings_of_the_home_are_one_line(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a traceback, or a server that starts, where a line of a file is to be corrected."""
    (tmp_path / "invpipe.toml").write_text("[embedded]\nskus = -3\n")
    assert cli.main([command, "--home", str(tmp_path)]) == 1
    assert errors_of(capsys) == (
        f"invpipe: SettingsError: embedded.skus = -3 in {tmp_path / 'invpipe.toml'} is refused: "
        "Input should be greater than or equal to 0\n"
    )


def test_bad_variable_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a misspelt variable from being passed over."""
    monkeypatch.setenv("INVPIPE_SEDE", "1")
    assert cli.main(["graph"]) == 1
    assert "INVPIPE_SEDE, which is no setting" in errors_of(capsys)


def test_bad_number_of_skus_changes_no_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a home that is spoilt by one wrong call."""
    write_settings(tmp_path, seed=4)
    assert cli.main(["demo", "--home", str(tmp_path), "--skus", "-1"]) == 1
    assert "embedded.skus = -1" in errors_of(capsys)
    assert Settings.load(tmp_path).embedded.skus == 2000


def test_demo_keeps_the_number_of_skus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a second demo of another shop than the first, because the size was not said again."""
    import invpipe.defs.demo

    seen = []

    def show(home: Path, settings: Settings, say: object) -> int:
        seen.append((home, settings.embedded.skus, settings.home))
        return 7

    monkeypatch.setattr(invpipe.defs.demo, "show_results", show)
    assert cli.main(["demo", "--home", str(tmp_path), "--skus", "123"]) == 0
    assert cli.main(["demo", "--home", str(tmp_path)]) == 0
    assert seen == [(tmp_path, 123, tmp_path)] * 2
    assert "7 artifacts made" in capsys.readouterr().out


def test_home_is_named_by_the_call_then_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents state in a place the user did not name."""
    seen: list[Path] = []
    monkeypatch.setattr(cli, "print_graph", seen.append)
    cli.main(["graph"])
    monkeypatch.setenv("INVPIPE_HOME", "from-environment")
    cli.main(["graph"])
    cli.main(["graph", "--home", str(tmp_path)])
    assert seen == [Path(".invpipe"), Path("from-environment"), tmp_path]


def test_ui_serves_the_same_home(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a UI on other state than the command's; the server itself is not started here."""
    import invpipe.defs.serve

    called = []

    def run(command: list[str], _: object) -> int:
        called.append((command, os.environ["INVPIPE_HOME"], os.environ["DAGSTER_HOME"]))
        return 3

    monkeypatch.setattr(invpipe.defs.serve, "run_group", run)
    home = tmp_path / "home"
    assert cli.main(["ui", "--home", str(home), "--port", "3456"]) == 3
    ((command, named, dagster_home),) = called
    assert command[0] == sys.executable
    assert command[-8:] == ["dagster", "dev", "-m", "invpipe.definitions", "--host", "127.0.0.1", "--port", "3456"]
    assert (named, dagster_home) == (str(home), str(home / "dagster"))
    assert (home / "dagster" / "dagster.yaml").is_file()
    assert "http://127.0.0.1:3456" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "port 70000 of 127.0.0.1 cannot be had: bind(): port must be 0-65535"),
        (["--host", "192.0.2.1"], "port 3000 of 192.0.2.1 cannot be had: Cannot assign requested address"),
    ],
)
def test_ui_says_which_port_cannot_be_had(options: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a traceback of a web server for a port that does not exist, or a host that is not this machine."""
    assert cli.main(["ui", "--home", str(tmp_path), *options]) == 1
    assert said in errors_of(capsys)


def test_bench_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the benchmark's options from being taken for the command's."""
    import invpipe.bench

    seen = []

    def bench(rest: list[str]) -> int:
        seen.append(rest)
        return 0

    monkeypatch.setattr(invpipe.bench, "main", bench)
    assert cli.main(["bench", "--home", "x", "arena"]) == 0
    assert seen == [["--home", "x", "arena"]]


def test_wrong_settings_are_found_before_dagster_is_loaded(tmp_path: Path) -> None:
    """Prevents seconds of waiting for an error; the command as users call it."""
    (tmp_path / "invpipe.toml").write_text("sede = 1\n")
    code = (
        "import sys; from invpipe.cli import main; code = main(['demo', '--home', sys.argv[1]]); "
        "print('dagster' in sys.modules); sys.exit(code)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60)
    assert (run.returncode, run.stdout) == (1, "False\n")
    assert run.stderr.startswith("invpipe: SettingsError: sede in ")


def test_check_sources_needs_databases(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a check of nothing from looking like a good one."""
    assert cli.main(["check-sources", "--home", str(tmp_path / "home")]) == 1
    assert "source is 'embedded': there are no databases to check" in errors_of(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "ProvenanceError: the sweep needs the artifact tape[2017-h2], which is not there"),
        (["--window", "2031"], "SettingsError: there is no backtest window '2031'"),
        (["--trials", "0"], "SettingsError: --trials is 0; give at least 1"),
        (["--rows", "0"], "SettingsError: --rows is 0; give at least 1"),
    ],
)
def test_sweep_says_what_it_lacks(options: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Prevents a traceback, or files in a home in which nothing was recorded."""
    assert cli.main(["sweep", "--home", str(tmp_path / "home"), *options]) == 1
    assert message in errors_of(capsys)
    assert list(tmp_path.iterdir()) == []
