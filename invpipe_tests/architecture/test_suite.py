"""The rules of the suite itself, which invpipe_tests/conftest.py enforces."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture
def rules(request: pytest.FixtureRequest) -> ModuleType:
    """The suite's conftest module, as pytest has loaded it."""
    plugins = request.config.pluginmanager.get_plugins()
    return next(plugin for plugin in plugins if getattr(plugin, "__file__", None) == str(TESTS / "conftest.py"))


def test_folder_is_the_tier(rules: ModuleType) -> None:
    """Prevents slow or networked tests from hiding among the quick ones."""
    assert rules.tier_of(TESTS / "unit" / "grid" / "test_cells.py") == "unit"
    assert rules.tier_of(TESTS / "oracles" / "test_x.py") is None
    assert rules.tier_of(TESTS / "test_x.py") is None
    assert rules.tier_of(TESTS.parent / "test_x.py") is None


def test_test_outside_a_tier_is_refused(tmp_path: Path) -> None:
    """Prevents a test that no tier's command runs."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_stray.py").write_text("def test_stray():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_stray.py::test_stray lies in no tier's folder; move it to one of unit, published" in run.stdout + run.stderr


def test_connection_beyond_this_machine_is_refused() -> None:
    """Prevents tests that pass or fail with somebody else's server."""
    message = r"a test of tier architecture opens a connection to 192\.0\.2\.1: tests stay on this machine"
    with socket.socket() as client, pytest.raises(RuntimeError, match=message):
        client.connect(("192.0.2.1", 9))


def test_connection_on_this_machine_is_allowed() -> None:
    """Prevents a guard that stops the tests' own servers."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5) as client:
        accepted, address = server.accept()
        accepted.close()
        assert address == client.getsockname()


def test_developers_settings_are_not_seen() -> None:
    """Prevents tests that depend on whose machine they run on."""
    assert [name for name in os.environ if name.startswith("INVPIPE_") and not name.startswith("INVPIPE_TEST_")] == []
    assert "DAGSTER_HOME" not in os.environ
