"""A webshop in a real MariaDB and a real MongoDB wire server, mapped by the shipped example."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from pymongo.database import Database

from invpipe.bench.servers import ThrowAwayMariaDB
from invpipe.defs.build import build_definitions
from invpipe.defs.jobs import range_tags
from invpipe.defs.provenance import ArtifactStore, ProvenanceRecord
from invpipe.defs.run import progress_logger
from invpipe.settings import Settings, write_settings
from invpipe.settings.gates import GateSettings
from invpipe_tests.integration.mongo_server import DATABASE, READER, READER_PASSWORD, ThrowAwayMongoDB
from invpipe_tests.integration.shop.webshop import EXAMPLE, Webshop, load, synthetic_webshop


@dataclass(frozen=True)
class Databases:
    """Both servers and what was loaded into them."""

    mariadb: ThrowAwayMariaDB
    mongodb: ThrowAwayMongoDB
    mongo: Database[dict[str, Any]]
    shop: Webshop


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Loaded once; a test that changes rows puts them back."""
    shop = synthetic_webshop(n_skus=40, n_days=45)
    directory = tmp_path_factory.mktemp("webshop")
    (directory / "mariadb").mkdir()
    with (
        ThrowAwayMariaDB(directory / "mariadb") as mariadb,
        ThrowAwayMongoDB(directory / "mongodb") as mongodb,
        mongodb.admin() as client,
    ):
        load(shop, mariadb, client[DATABASE])
        yield Databases(mariadb, mongodb, client[DATABASE], shop)


@dataclass(frozen=True)
class Home:
    """A home that reads the webshop."""

    path: Path
    databases: Databases

    @property
    def settings(self) -> Settings:
        return Settings.load(self.path)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore.of(self.settings)

    @property
    def days(self) -> list[date]:
        return self.databases.shop.days

    def run(self, job: str, first: date | None = None, last: date | None = None, **options: Any) -> list[str]:
        """Run a job over a range of days and return what it said."""
        said: list[str] = []
        definitions = dg.Definitions.merge(
            build_definitions(str(self.path)), dg.Definitions(loggers={"progress": progress_logger(said.append)})
        )
        tags = range_tags(str(first), str(last or first)) if first else {}
        with dg.DagsterInstance.ephemeral() as instance:
            config = {"loggers": {"progress": {}}}
            definitions.resolve_job_def(job).execute_in_process(instance=instance, tags=tags, run_config=config, **options)
        return said

    def extract(self, table: str, first: date, last: date) -> list[str]:
        """Run the extract of one table."""
        return self.run("extract", first, last, asset_selection=[dg.AssetKey(f"raw_{table}")])

    def raw(self, table: str, day: date) -> pl.DataFrame:
        return pl.read_parquet(self.store.frame_path((f"raw_{table}", day.isoformat())))

    def records(self, table: str) -> dict[date, ProvenanceRecord]:
        found = {day: self.store.record((f"raw_{table}", day.isoformat())) for day in self.days}
        return {day: record for day, record in found.items() if record is not None}

    def leftovers(self) -> list[Path]:
        return list(self.path.rglob("*.tmp"))


@pytest.fixture
def home(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The shipped example's file, pointed at the throw-away servers."""
    path = tmp_path / "home"
    path.mkdir()
    with (EXAMPLE / "invpipe.toml").open("rb") as example, (path / "invpipe.toml").open("wb") as file:
        shutil.copyfileobj(example, file)
    monkeypatch.setenv("INVPIPE_MARIADB__PASSWORD", databases.mariadb.password)
    monkeypatch.setenv("INVPIPE_MONGODB__PASSWORD", READER_PASSWORD)
    write_settings(
        path,
        shop={"first_day": databases.shop.tables.first_day},
        mariadb={"port": databases.mariadb.port, "user": databases.mariadb.user, "tls": False, "connect_timeout_s": 3},
        mongodb={"port": databases.mongodb.port, "user": READER, "tls": False, "connect_timeout_s": 3},
        extract={"retry_wait_s": 0.2, "days_per_query": 10},
        folds={"horizon_days": 7},  # models are scored on the last horizon of 45 days
        gates=dict.fromkeys(GateSettings.model_fields, 1e6),  # a model of so small a shop is no good one
    )
    return Home(path, databases)


@pytest.fixture
def restored(databases: Databases) -> Iterator[Callable[[str, str], None]]:
    """Runs SQL, and at the end the SQL that takes it back."""
    undo: list[str] = []

    def change(sql: str, back: str) -> None:
        undo.append(back)
        databases.mariadb.execute(sql)

    yield change
    for sql in reversed(undo):
        databases.mariadb.execute(sql)
