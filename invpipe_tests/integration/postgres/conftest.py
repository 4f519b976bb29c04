"""The deployment of invpipe/examples/deploy on this machine: its dagster.yaml and its environment, on a throw-away PostgreSQL."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from invpipe.defs.build import build_definitions
from invpipe.defs.jobs import range_tags
from invpipe.defs.run import prepare_home
from invpipe.settings import write_settings
from invpipe_tests.deployment import DEPLOY, environment
from invpipe_tests.integration.postgres.server import ThrowAwayPostgres
from invpipe_tests.pipeline.conftest import Home

#: Days that are extracted; all tests share the shop, which a process makes only once.
DAYS = tuple(f"2017-01-{day:02}" for day in range(1, 4))
#: Asset of which the runs of an outage make days.
ASSET = "raw_sales_daily"
SKUS = 60


@dataclass(frozen=True)
class Deployment:
    """A home that follows the example, and the server that holds its runs."""

    home: Home
    server: ThrowAwayPostgres

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the Dagster instance as the commands of invpipe do."""
        with dg.DagsterInstance.from_config(str(prepare_home(self.home.path))) as instance:
            yield instance

    def lone_events(self, *assets: str) -> Counter[object]:
        """Return how many events of which type an extract has in memory, where nobody disturbs it; its artifacts stay."""
        job = build_definitions(str(self.home.path)).resolve_job_def("extract")
        with dg.DagsterInstance.ephemeral() as instance:
            tags, chosen = range_tags(DAYS[0], DAYS[-1]), [dg.AssetKey(asset) for asset in assets]
            run = job.execute_in_process(instance=instance, tags=tags, asset_selection=chosen or None)
            events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
        return Counter(event.event_type_value if event else None for event in events)

    def forget_artifacts(self) -> None:
        """Delete every artifact, so that all of them are stale."""
        for path in self.home.store.root.rglob("*.parquet"):
            path.unlink()

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """Return what the database itself holds."""
        return self.server.execute(sql, database="dagster")

    def secret_is_in(self, *said: str) -> list[str]:
        """Return where the password lies, quoted or not: in what was said, in a file of the home, in the database."""
        quoted = self.server.address(environment()["DAGSTER_POSTGRES_URL"]).split(":")[2].partition("@")[0]
        secrets = (self.server.password, quoted)
        files = [path for path in self.home.path.rglob("*") if path.is_file()]
        found = [str(path) for path in files if any(secret.encode() in path.read_bytes() for secret in secrets)]
        found += [text for text in said if any(secret in text for secret in secrets)]
        if self.server.runs and self.ask("SELECT 1 FROM pg_tables WHERE tablename = 'event_logs'"):
            rows = self.ask("SELECT event FROM event_logs UNION ALL SELECT run_body FROM runs")
            found += [str(row) for row in rows if any(secret in str(row) for secret in secrets)]
        return found


@pytest.fixture(scope="session")
def server() -> Iterator[ThrowAwayPostgres]:
    """A running server; every test has the database to itself."""
    with ThrowAwayPostgres() as server:
        yield server


@pytest.fixture
def deployment(server: ThrowAwayPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """A new home and an empty database, named to Dagster by nothing but the example's file and variables."""
    home = Home(tmp_path / "home")
    write_settings(home.path, embedded={"skus": SKUS})
    (home.path / "dagster").mkdir()
    shutil.copyfile(DEPLOY / "dagster.yaml", home.path / "dagster" / "dagster.yaml")
    variables = environment()
    top = variables["INVPIPE_HOME"]
    for name, value in variables.items():
        monkeypatch.setenv(name, value.replace(top, str(home.path)))
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", server.address(variables["DAGSTER_POSTGRES_URL"]))
    server.execute("CREATE DATABASE dagster")
    yield Deployment(home, server)
    if not server.runs:
        server.start()
    server.execute("DROP DATABASE dagster WITH (FORCE)")


@pytest.fixture
def at_first_retry() -> Iterator[Callable[[Callable[[], object]], list[str]]]:
    """Calls something when Dagster finds the server absent for the first time; returns the list of all it says of that, as it grows."""
    root, handlers = logging.getLogger(), list[logging.Handler]()

    def call(action: Callable[[], object]) -> list[str]:
        said: list[str] = []

        class Listener(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "Retrying failed database connection" in record.getMessage():
                    said.append(record.getMessage())
                    if len(said) == 1:
                        action()

        handlers.append(Listener())
        root.addHandler(handlers[-1])
        return said

    yield call
    for handler in handlers:
        root.removeHandler(handler)
