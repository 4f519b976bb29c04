"""A blocking check that failed in one run stops what reads the asset in another one: Dagster stops the steps of its own run only."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from invpipe.defs.io import FramesIOManager
from invpipe.errors import ProvenanceError

DAYS = dg.StaticPartitionsDefinition(["1", "2"])
Run = Callable[..., bool]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run assets and checks of a home on one instance, call by call."""
    instance = dg.DagsterInstance.ephemeral()

    def call(everything: list[object], *names: str, partition: str | None = None) -> bool:
        chosen = dg.AssetSelection.assets(*names) - dg.AssetSelection.all_asset_checks() if names == ("plan",) else None
        done = dg.materialize(
            everything,  # type: ignore[arg-type]
            instance=instance,
            selection=chosen or dg.AssetSelection.assets(*names),
            partition_key=partition,
            resources={"io_manager": FramesIOManager(home=str(tmp_path), blocking_checks={"grid": ["no_hole"]})},
            raise_on_error=names == ("plan",),
        )
        return done.success

    return call


def chain(
    *, passes: bool, severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR, days: dg.PartitionsDefinition | None = None
) -> list[object]:
    """Return a grid, its blocking check, and a plan made from it."""

    @dg.asset(code_version="1", partitions_def=days)
    def grid() -> pl.DataFrame:
        return pl.DataFrame({"n": [1]})

    @dg.asset_check(asset=grid, blocking=True, partitions_def=days)
    def no_hole(grid: pl.DataFrame) -> dg.AssetCheckResult:
        assert len(grid) == 1
        return dg.AssetCheckResult(passed=passes, severity=severity, description="7 cells are missing")

    @dg.asset(code_version="1", partitions_def=days)
    def plan(grid: pl.DataFrame) -> pl.DataFrame:
        return grid

    return [grid, no_hole, plan]


def test_failed_check_of_another_run_stops_the_reader(run: Run) -> None:
    """Prevents Sunday's model from being trained on the grid that Saturday's run refused, and a refusal that outlives its cause."""
    assert not run(chain(passes=False), "grid")
    said = "input 'grid' needs grid, whose blocking check no_hole failed in run .*: 7 cells are missing; mend the cause and materialise"
    with pytest.raises(ProvenanceError, match=said):
        run(chain(passes=False), "plan")
    assert run(chain(passes=True), "grid")  # the check itself could read the refused grid
    assert run(chain(passes=True), "plan")


def test_warning_stops_nobody(run: Run) -> None:
    """Prevents a warning from becoming an error one run later."""
    warns = chain(passes=False, severity=dg.AssetCheckSeverity.WARN)
    assert run(warns, "grid")
    assert run(warns, "plan")


def test_check_of_a_partition_stops_its_partition_only(run: Run) -> None:
    """Prevents one bad day from stopping all others, and a good day after it from hiding it."""
    assert not run(chain(passes=False, days=DAYS), "grid", partition="1")
    assert run(chain(passes=True, days=DAYS), "grid", partition="2")
    assert run(chain(passes=True, days=DAYS), "plan", partition="2")
    with pytest.raises(ProvenanceError, match=r"input 'grid' needs grid\[1\], whose blocking check no_hole failed"):
        run(chain(passes=True, days=DAYS), "plan", partition="1")
