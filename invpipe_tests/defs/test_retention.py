"""What `invpipe prune` deletes, and what it must not."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.dagster_run import DagsterRun

from invpipe import cli
from invpipe.defs.build import build_definitions
from invpipe.defs.partitions import Partitions
from invpipe.defs.provenance import ArtifactStore
from invpipe.defs.retention import plan_pruning, prunable_assets
from invpipe.defs.run import prepare_home
from invpipe.errors import StorageError
from invpipe.settings import Settings, write_settings
from invpipe_tests.defs.artifacts import put

DAY = Partitions.of(Settings()).day
LATER = datetime.now(UTC) + timedelta(days=100)


@dg.asset(partitions_def=DAY)
def raw() -> int:
    """Extract."""
    return 1


@dg.asset
def gathered(raw: dict[str, int]) -> int:
    """Read every day."""
    return len(raw)


@dg.asset(partitions_def=DAY, deps=[gathered])
def plan() -> int:
    """Plan a day."""
    return 1


@dg.asset(ins={"plan": dg.AssetIn(partition_mapping=dg.LastPartitionMapping())})
def page(plan: int) -> int:
    """Read the last day."""
    return plan


@dg.asset_check(asset=plan)
def good(plan: int) -> dg.AssetCheckResult:
    """Pass."""
    return dg.AssetCheckResult(passed=True)


DEFINITIONS = dg.Definitions(
    assets=[raw, gathered, plan, page],
    asset_checks=[good],
    jobs=[dg.define_asset_job(f"{name}s", dg.AssetSelection.assets(name), executor_def=dg.in_process_executor) for name in ("raw", "plan")],
    resources={"io_manager": dg.mem_io_manager},
)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on disk."""
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a home: artifacts stay for 400 days, runs for 90."""
    return Settings(home=tmp_path)


def extract(instance: dg.DagsterInstance, day: str) -> str:
    job = DEFINITIONS.resolve_job_def("raws")
    return job.execute_in_process(instance=instance, partition_key=day, resources={"io_manager": dg.mem_io_manager}).run_id


def pruned(instance: dg.DagsterInstance, settings: Settings, now: datetime = LATER) -> set[str]:
    """Delete and return the names of what went."""
    pruning = plan_pruning(DEFINITIONS, instance, settings, now)
    pruning.carry_out()
    return {leaving.name for leaving in (*pruning.artifacts, *pruning.runs)}


def test_only_what_nothing_needs_can_go() -> None:
    """Prevents raw days from being deleted, of which every later history is made."""
    assert prunable_assets(DEFINITIONS, Settings()) == ["plan"]


def test_raw_and_validated_tables_of_the_chain_stay(tmp_path: Path) -> None:
    """Prevents a change of the graph that hands extracts, folds, backtests or models to the prune; an old model may be serving."""
    (tmp_path / "invpipe.toml").write_text("")
    found = set(prunable_assets(build_definitions(str(tmp_path)), Settings(home=tmp_path)))
    assert {"order_plan", "order_plan_summary", "capital_curve", "features"} <= found
    assert not [name for name in found if name.startswith(("raw_", "core_")) or name in {"shop_history", "tape", "backtest", "fold_scores"}]
    assert not found & {"demand_model", "model_scores", "model_gates"}


def test_old_days_go_and_the_newest_stays(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Prevents a home that grows for ever, and one without its last plan after a long pause."""
    store = ArtifactStore.of(settings)
    for day in ("2017-01-01", "2017-01-02", "2017-01-03"):
        put(store, "plan", day)
        put(store, "raw", day)
    now = datetime(2018, 2, 6, tzinfo=UTC)  # 400 days after 2017-01-02
    planned = plan_pruning(DEFINITIONS, instance, settings, now)
    assert [leaving.name for leaving in planned.artifacts] == ["plan[2017-01-01]"]
    assert planned.size_bytes == store.frame_path(("plan", "2017-01-01")).stat().st_size > 0
    assert store.frame_path(("plan", "2017-01-01")).is_file()  # a plan is a dry run
    planned.carry_out()
    planned.carry_out()  # again, as after a kill
    assert pruned(instance, settings, now + timedelta(days=9000)) == {"plan[2017-01-02]"}
    assert [store.frame_path(("raw", f"2017-01-0{day}")).is_file() for day in (1, 2, 3)] == [True] * 3


def test_old_runs_go_with_their_files_unless_they_hold_the_newest_record(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Prevents event logs that grow for ever, and a UI that shows as missing what is there."""
    first, second = extract(instance, "2017-01-01"), extract(instance, "2017-01-01")
    other = extract(instance, "2017-01-02")
    shard = Path(instance.event_log_storage.path_for_shard(first))  # type: ignore[attr-defined]
    assert shard.is_file()
    planned = plan_pruning(DEFINITIONS, instance, settings, LATER)
    assert [leaving.name for leaving in planned.runs] == [f"run {first[:8]} of raws"]
    assert (planned.old_runs_kept, planned.size_bytes >= shard.stat().st_size) == (2, True)
    planned.carry_out()
    assert not shard.exists()
    assert {run.run_id for run in instance.get_runs()} == {second, other}
    assert instance.get_materialized_partitions(dg.AssetKey("raw")) == {"2017-01-01", "2017-01-02"}
    assert pruned(instance, settings) == set()


def test_run_of_a_pruned_day_goes_and_that_of_a_check_stays(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Prevents runs that stay for an artifact that goes, and a blocking check that counts as never run afterwards."""
    job = DEFINITIONS.resolve_job_def("plans")
    put(ArtifactStore.of(settings), "plan", "2017-01-01")
    put(ArtifactStore.of(settings), "plan", "2017-01-02")
    runs = []
    for day in ("2017-01-01", "2017-01-02"):
        result = job.execute_in_process(partition_key=day, instance=instance)
        runs.append(result.run_id)
    went = pruned(instance, settings)
    assert went == {"plan[2017-01-01]", f"run {runs[0][:8]} of plans"}
    check = dg.AssetCheckKey(dg.AssetKey("plan"), "good")
    assert check in instance.event_log_storage.get_latest_asset_check_execution_by_key([check])


def test_young_runs_stay(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Prevents yesterday's run from going, which somebody is looking at."""
    extract(instance, "2017-01-01")
    extract(instance, "2017-01-01")
    assert pruned(instance, settings, datetime.now(UTC) + timedelta(days=89)) == set()


def test_nothing_is_pruned_beside_an_open_run(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Prevents an artifact from going while a run reads it."""
    run = instance.add_run(DagsterRun(job_name="daily", status=dg.DagsterRunStatus.STARTED))
    with pytest.raises(StorageError, match=rf"run {run.run_id[:8]} of daily \(started\) is open and may read what would go; prune when"):
        plan_pruning(DEFINITIONS, instance, settings, LATER)


def test_command_is_a_dry_run_until_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a look at what could go from deleting it."""
    for name in ("INVPIPE_HOME", "DAGSTER_HOME"):
        monkeypatch.setenv(name, "")
    home = tmp_path / "home"
    write_settings(home)
    store = ArtifactStore(home / "artifacts")
    for day in ("2017-01-01", "2017-01-02"):
        put(store, "order_plan", day)
    assert cli.main(["prune", "--home", str(home)]) == 1
    assert "holds no dagster.yaml; nothing has run here" in capsys.readouterr().err
    prepare_home(home)
    path = store.frame_path(("order_plan", "2017-01-01"))
    size = path.stat().st_size
    assert cli.main(["prune", "--home", str(home)]) == 0
    assert f"1 artifacts and 0 runs, {size:,} bytes, would go (nothing was deleted; prune --delete does)" in capsys.readouterr().out
    assert path.is_file()
    assert cli.main(["prune", "--home", str(home), "--delete"]) == 0
    assert f"{size:,} bytes, deleted" in capsys.readouterr().out
    assert not path.exists()
