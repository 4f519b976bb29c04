"""The chain on a small sample of the embedded shop, run once for all tests of the tier.

The temporary homes need not survive a power cut, so their SQLite files are written without waiting for the disk: the run records
thousands of events, and would take three times as long.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from invpipe.defs.build import build_definitions
from invpipe.defs.demo import show_results
from invpipe.defs.provenance import ArtifactStore, ProvenanceRecord
from invpipe.defs.run import Outcome, materialise, progress_logger, unsynced_event_log
from invpipe.settings import BacktestWindow, Settings, write_settings

WINDOW = BacktestWindow(name="autumn", start=date(2017, 9, 1), end=date(2017, 10, 15))


@contextmanager
def surroundings() -> Iterator[None]:
    """Take back the environment variables that the demo sets."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
            patch.setenv(name, "")  # so that it is put back, or away, at the end
            patch.delenv(name)
        with unsynced_event_log():
            yield


@dataclass
class Home:
    """A home in which the demo has run, and what it printed."""

    path: Path
    lines: list[str] = field(default_factory=list)
    made: int = 0

    @property
    def settings(self) -> Settings:
        return Settings.load(self.path)

    @property
    def store(self) -> ArtifactStore:
        return ArtifactStore.of(self.settings)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def show(self) -> int:
        """Run the demo, return how many artifacts it made."""
        self.lines.clear()
        with surroundings():
            return show_results(self.path, self.settings, self.lines.append)

    def definitions(self) -> dg.Definitions:
        loggers = {"progress": progress_logger(self.lines.append)}
        return dg.Definitions.merge(build_definitions(str(self.path)), dg.Definitions(loggers=loggers))

    def materialise(self, instance: dg.DagsterInstance, job: str, *partitions: str) -> Outcome:
        """Run one job for what is stale."""
        return materialise(self.definitions(), instance, self.settings, job, partitions)

    def frame(self, asset: str, partition: str | None = None) -> pl.DataFrame:
        return pl.read_parquet(self.store.frame_path((asset, partition)))

    def content(self, asset: str, partition: str | None = None) -> Path:
        return self.store.directory_path((asset, partition)) / "content"

    def artifacts(self, *, raw: bool = False) -> dict[tuple[str, str | None], ProvenanceRecord]:
        """Records of the home's artifacts, of the 1,825 daily raw tables only when asked for."""
        store, found = self.store, {}
        for spec in self.definitions().resolve_all_asset_specs():
            name = spec.key.to_user_string()
            if name.startswith("raw_") and not raw:
                continue
            keys: list[str | None] = [str(key) for key in spec.partitions_def.get_partition_keys()] if spec.partitions_def else [None]
            found.update({(name, key): record for key in keys if (record := store.record((name, key))) is not None})
        return found


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The home of the first run; tests must not change it."""
    home = Home(tmp_path_factory.mktemp("demo") / "home")
    write_settings(
        home.path,
        embedded={"skus": 400},  # with far fewer, no order reaches a vendor's minimum and the plan is empty
        folds={"n_folds": 2},
        forecast={"window_days": (7, 14)},
        backtest={"windows": [WINDOW], "warm_up_days": 7, "lead_time_seeds": 2},
    )
    home.made = home.show()
    return home


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Home], Home]:
    """Copies a home, so that a test may change it."""

    def copied(home: Home) -> Home:
        shutil.copytree(home.path, tmp_path / "home")
        return Home(tmp_path / "home")

    return copied


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance
