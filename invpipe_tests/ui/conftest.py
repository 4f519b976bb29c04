"""One home, one Dagster UI with its daemon and one browser for all tests of the tier.

The tests share the home, so each launches what no other one looks at. They take the pictures of the README on the way; to renew them::

    INVPIPE_TEST_SCREENSHOTS=.github/images python -m pytest invpipe_tests/ui

Without that variable they go to a temporary directory. A failed test reports what the browser showed and the end of the servers' log.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import dagster as dg
import polars as pl
import pytest
from dagster._core.errors import DagsterAssetCheckFailedError

from invpipe.defs.demo import Phase, phases
from invpipe.defs.run import prepare_home
from invpipe.defs.sources import assets as sources
from invpipe.settings import BacktestWindow, write_settings
from invpipe.settings.gates import GateSettings
from invpipe_tests.integration.cluster.conftest import wait_for
from invpipe_tests.pipeline.conftest import Home, surroundings
from invpipe_tests.ui.browser import Browser, chromium

CHECKOUT = Path(__file__).parents[2]
SCREENSHOTS = "INVPIPE_TEST_SCREENSHOTS"

DAYS = tuple((date(2017, 1, 1) + timedelta(days=k)).isoformat() for k in range(75))
#: Days with a plan; the model is trained at the end of the first one.
PLANNED = DAYS[-6:]
WINDOW = BacktestWindow(name="spring", start=date(2017, 2, 25), end=date(2017, 3, 16))

#: Where a proxy would show the pages; nobody asks it.
PAGES_URL = "https://pages.example.com"

#: Jobs of the demo that these tests do without, or start from the UI.
NOT_NEEDED = {"validate", "summarise_folds", "backtests", "compare", "write_report"}

#: Servers load the definitions twice before they answer; an ended one waits for its code server.
START_TIMEOUT_S, STOP_TIMEOUT_S = 180.0, 60.0


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with planned days and a recorded window, whose last delivery was bad: its blocking check has failed."""
    return build_home(tmp_path_factory.mktemp("ui") / "home")


def build_home(path: Path) -> Home:
    """Run the chain of a small shop in a new home, then deliver bad rows."""
    home = Home(path)
    write_settings(
        home.path,
        embedded={"skus": 200},
        forecast={"window_days": (7,)},
        gates=dict.fromkeys(GateSettings.model_fields, 1e6),  # a model of so small a shop is no good one
        planning={"capital_limit_frac": 1.05},  # so little that the plan has to choose
        backtest={"windows": [WINDOW], "warm_up_days": 3, "lead_time_seeds": 1},
        report={"base_url": PAGES_URL},
    )
    with surroundings(), dg.DagsterInstance.from_config(str(prepare_home(home.path))) as instance:
        for phase in phases(home.settings):
            days = chosen_days(phase)
            runs = [(day,) for day in days] if phase.job == "plan" else [days]  # plots have the time of the event on their axis
            for keys in runs if phase.job not in NOT_NEEDED else ():
                home.materialise(instance, phase.job, *keys)
        deliver_unknown_skus(home, instance)
    return home


def chosen_days(phase: Phase) -> tuple[str, ...]:
    """Return the keys of a phase of the demo, which runs all days of the year, for a shop that is only DAYS old."""
    if not phase.partitions or not phase.partitions[0].startswith("2017-"):
        return phase.partitions
    return {"extract": DAYS, "weekly": PLANNED[:1], "plan": PLANNED}.get(phase.job, DAYS[-1:])


def deliver_unknown_skus(home: Home, instance: dg.DagsterInstance) -> None:
    """Extract the last day again, with sales of SKUs that nobody knows, and validate."""
    tables = sources.shop_tables(home.settings)
    bad = pl.DataFrame({"sku": [f"unknown-{i:05d}" for i in range(100)], "day": date.fromisoformat(DAYS[-1])})
    bad = bad.with_columns(sales_units=pl.lit(1), revenue=pl.lit(1.0)).select(tables.sales_daily.columns).cast(tables.sales_daily.schema)
    home.store.frame_path(("raw_sales_daily", DAYS[-1])).unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "shop_tables", lambda _: replace(tables, sales_daily=pl.concat([tables.sales_daily, bad])))
        home.materialise(instance, "extract", DAYS[-1])
    with pytest.raises(DagsterAssetCheckFailedError):
        home.materialise(instance, "validate_tables_again")


@dataclass(frozen=True)
class Servers:
    """A running UI with its daemon: where it answers and where it logs."""

    url: str
    log: Path

    def log_end(self, lines: int = 40) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest, home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The command `invpipe ui` on the home; after the last test Ctrl-C must end every process of it."""
    with ui_of(home.path, tmp_path_factory.mktemp("servers")) as running:
        request.config.stash[SERVERS] = running
        yield running


@contextmanager
def ui_of(home: Path, directory: Path) -> Iterator[Servers]:
    """Start `invpipe ui` on a home and a free port, and wait until it answers; `directory` holds its log."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    running = Servers(f"http://127.0.0.1:{port}", directory / "log")
    with process_group(running, directory, "ui", "--home", str(home), "--port", str(port)) as process:

        def answers() -> bool:
            if process.poll() is not None:
                msg = f"invpipe ui ended with code {process.returncode} before it answered:\n{running.log_end()}"
                raise RuntimeError(msg)
            try:
                with urlopen(f"{running.url}/server_info", timeout=5) as answer:  # noqa: S310 - our own server
                    return "dagster_webserver_version" in json.load(answer)
            except (URLError, TimeoutError):
                return False

        wait_for("the Dagster UI", answers, running.log, START_TIMEOUT_S)
        yield running


@contextmanager
def process_group(running: Servers, directory: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the invpipe command in a group of its own; end the group as Ctrl-C does, and refuse to leave a process behind.

    A test run that a script started with `&` ignores SIGINT, and so would its children: `env` puts the signal back.
    """
    program = Path(sys.executable).with_name("invpipe")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with running.log.open("wb") as out:
        process = subprocess.Popen(
            ["env", "--default-signal=INT", str(program), *arguments],
            cwd=directory,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
        os.killpg(process.pid, signal.SIGINT)
        wait_for("the end of all processes of invpipe ui", lambda: not is_alive(process), running.log, STOP_TIMEOUT_S)
    finally:
        if is_alive(process):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def is_alive(process: subprocess.Popen[bytes]) -> bool:
    """Say whether a process of the group is there; the first one is taken from the process table when it has ended."""
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="session")
def session_browser(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of all tests."""
    shots = Path(os.environ.get(SCREENSHOTS) or tmp_path_factory.mktemp("screenshots"))
    shots.mkdir(parents=True, exist_ok=True)
    with chromium(servers.url, shots, tmp_path_factory.mktemp("chromedriver") / "log") as browser:
        browser.open("/asset-groups")
        browser.click("//*[text()='Hide navigation']")  # remembered by the browser: pages have more room
        yield browser


@pytest.fixture
def browser(session_browser: Browser) -> Browser:
    """The browser, on an empty page: nothing of the test before is still shown."""
    session_browser.driver.get("about:blank")
    return session_browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add what the browser showed and what the servers logged to the report of a failed test."""
    report = yield
    fixtures = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed:
        servers = item.session.config.stash.get(SERVERS, None)
        if isinstance(browser := fixtures.get("browser"), Browser) and servers is not None:
            shot = browser.shoot(servers.log.with_name(f"failed-{item.name}.png"))
            report.sections.append(("browser", f"{browser.driver.current_url}\nscreenshot: {shot}"))
        if servers is not None:
            report.sections.append(("servers", servers.log_end()))
    return report


SERVERS = pytest.StashKey[Servers]()
