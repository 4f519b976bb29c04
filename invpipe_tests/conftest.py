"""Rules of the suite: the folder is the tier, nothing leaves this machine, nothing of the developer's own set-up is seen.

Refused at collection: a test outside a tier's folder. Refused at run time: a connection beyond this machine, except from `integration/`,
whose servers may be elsewhere (``INVPIPE_TEST_*``).
"""

import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

import hypothesis
import pytest

HERE = Path(__file__).parent
TIERS = ("unit", "published", "architecture", "defs", "pipeline", "integration", "ui", "benchmarks")
NETWORK_TIERS = {"integration"}

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex
_tier_running: str | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Register the tiers as markers, and take the developer's settings out of the environment."""
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: set by the folder invpipe_tests/{tier}")
    for name in [name for name in os.environ if name.startswith("INVPIPE_") and not name.startswith("INVPIPE_TEST_")]:
        del os.environ[name]
    os.environ.pop("DAGSTER_HOME", None)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"
    hypothesis.settings.register_profile("explore", deadline=None)
    hypothesis.settings.register_profile("invpipe", deadline=None, derandomize=True, database=None)
    hypothesis.settings.load_profile(config.getoption("--hypothesis-profile", None) or "invpipe")
    socket.socket.connect = _guarded(_connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = _guarded(_connect_ex)  # type: ignore[method-assign]


def pytest_unconfigure() -> None:
    """Give the network back."""
    socket.socket.connect, socket.socket.connect_ex = _connect, _connect_ex  # type: ignore[method-assign]


def tier_of(path: Path) -> str | None:
    """Return the tier a test file belongs to, None when it lies in no tier's folder."""
    parts = path.relative_to(HERE).parts if path.is_relative_to(HERE) else ()
    return parts[0] if len(parts) > 1 and parts[0] in TIERS else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier."""
    for item in items:
        tier = tier_of(item.path)
        if tier is None:
            msg = f"{item.nodeid} lies in no tier's folder; move it to one of {', '.join(TIERS)}"
            raise pytest.UsageError(msg)
        item.add_marker(tier)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note the tier, for the network guard."""
    global _tier_running  # noqa: PLW0603, RUF100 - the guard has no other way to know
    _tier_running = tier_of(item.path)


def _guarded(connect: Any) -> Any:
    def guarded(self: socket.socket, address: Any) -> Any:
        if self.family != socket.AF_UNIX and _tier_running not in NETWORK_TIERS and not _is_here(address[0]):
            msg = f"a test of tier {_tier_running} opens a connection to {address[0]}: tests stay on this machine"
            raise RuntimeError(msg)
        return connect(self, address)

    return guarded


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
