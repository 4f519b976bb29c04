"""Every benchmark runs, at sizes that say nothing about speed."""

from __future__ import annotations

import json
import math
import os
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest

from invpipe import bench
from invpipe.bench import arena as bench_arena_module
from invpipe.bench.arena import TapeSize
from invpipe.bench.yardsticks import Yardstick
from invpipe.defs.io import FramesIOManager
from invpipe.defs.partitions import VARIANTS
from invpipe.features import FEATURES
from invpipe.forecast import ForecastParams
from invpipe.history import ShopHistory
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop
from invpipe.sources.tables import ShopTables
from invpipe_tests.benchmarks import arena_reference, backfill, overhead, peers, window_law
from invpipe_tests.benchmarks.prototype import Prototype


def test_allocation_compares_the_methods_on_one_problem() -> None:
    """Prevents a benchmark that no longer runs when somebody wants a figure, or compares plans of different problems."""
    small, larger = bench.bench_allocation(sizes=(40, 80), seed=3)
    assert (small["rows"], larger["rows"], small["seed"]) == (40, 80, 3)
    for row in (small, larger):
        assert row["exact_expected_value"] >= row["greedy_expected_value"] > 0
        assert row["lp_over_exact"] > 0


def test_allocation_problem_is_the_same_each_time() -> None:
    """Prevents figures that cannot be repeated."""
    keep = ("exact_expected_value", "lp_expected_value", "greedy_expected_value", "exact_gap_frac")
    first, second = (bench.bench_allocation(sizes=(60,), seed=1)[0] for _ in range(2))
    assert [first[name] for name in keep] == [second[name] for name in keep]


def test_arena_replays_a_stored_tape(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a benchmark that no longer runs, counts other events than the tape has, or draws another tape than the one it kept."""
    monkeypatch.setattr(arena_reference, "ratios", lambda size: [{"ratio_dict_engine": 7.0}, {"ratio_dict_engine": 8.0}])
    sizes = {"skus": 300, "days": 5, "demand": 50, "views": 100, "deltas": 80, "runs": 1}
    nothing, greedy = bench.bench_arena(**sizes, cache=str(tmp_path))
    assert 5 * 180 < nothing["events"] < 5 * 280
    assert (nothing["policy"], nothing["order_lines"], nothing["ratio_dict_engine"]) == ("order_nothing", 0, 7.0)
    assert (greedy["policy"], greedy["skus"], greedy["seed"]) == ("ewma_greedy", 300, 0)
    assert greedy["order_lines"] > 0
    assert min(greedy["sku_days_per_second"], greedy["events_per_second"], greedy["exact_marginal_ms_per_day"]) > 0
    again = bench.bench_arena(**sizes)
    assert [row["fingerprint"] for row in again] == [nothing["fingerprint"], greedy["fingerprint"]]


def test_arena_runs_without_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents `invpipe bench arena` from failing where only the package is installed."""
    monkeypatch.setattr(bench_arena_module.importlib.util, "find_spec", lambda _: None)
    assert "ratio_dict_engine" not in bench.bench_arena(skus=100, days=3, demand=5, views=5, deltas=5, runs=1)[0]


def test_kernel_beats_the_references() -> None:
    """Prevents ratios that are upside down, and engines compared on different results: they are compared byte by byte."""
    quiet, greedy = arena_reference.ratios(TapeSize(2_000, 4, 100, 300, 300))
    assert min(*quiet.values(), *greedy.values()) > 1


def test_features_and_sources_run() -> None:
    """Prevents benchmarks that no longer run when somebody wants a figure."""
    (features,) = bench.bench_features(skus=30, days=60, cells=500)
    assert (features["cells"], features["seed"]) == (480, 0)  # 16 origins of 30 SKUs
    assert features["values_per_second"] == pytest.approx(len(FEATURES) * features["cells_per_second"])
    (sources,) = bench.bench_sources(skus=30, days=60, days_per_chunk=25)
    assert sources["rows"] > 60


def test_packing_keeps_its_capacities() -> None:
    """Prevents a benchmark that no longer runs, or a plan that does not fit."""
    (row,) = bench.bench_packing(items=200, seed=1)
    assert row["items"] == 200
    assert 0.99 < row["fullest_frac"] <= 1.0
    assert 0 <= row["gap_frac"] < 1e-3


def test_window_law_of_the_package_scores_every_method() -> None:
    """Prevents a table without the baselines that give the figure its meaning."""
    rows = bench.bench_window_law(skus=150, rounds=5, threads=1)
    assert [row["method"] for row in rows][:2] == ["window law", "zero"]
    assert len(rows) == 4
    assert rows[0]["fit_seconds"] > 0
    assert all("fit_seconds" not in row for row in rows[1:])
    assert all(math.isfinite(row["pinball_90"]) for row in rows)


def test_validation_scores_every_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a figure of folds that were never made, or made without the daily boosters."""
    monkeypatch.setattr(bench, "ForecastParams", lambda seed: ForecastParams(rounds=3, daily_rounds=3, origins=2, seed=seed))
    rows = bench.bench_validation(skus=150, folds=2)
    assert {row["folds"] for row in rows} == {2}
    assert {"window law", "quantile boosters", "zero", "sum of daily quantiles"} <= {row["method"] for row in rows}
    assert [row["method"] for row in rows if "seconds" in row] == ["window law"]
    assert rows[0]["seconds"] > 0


def test_daily_forecast_covers_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a benchmark that no longer runs, or forecasts fewer SKUs than it says."""
    monkeypatch.setattr(bench, "ForecastParams", lambda seed: ForecastParams(rounds=3, daily_rounds=3, origins=2, seed=seed))
    (row,) = bench.bench_daily_forecast(skus=80, days=120)
    assert (row["skus"], row["daily_rows"], row["windows"]) == (80, 80 * 60, 8)
    assert row["forecast_seconds"] == pytest.approx(row["windows_seconds"] + row["daily_seconds"])


def always_orderable(tables: ShopTables, sales: pl.DataFrame) -> ShopHistory:
    spans = tables.items.select("sku", from_day=pl.lit(tables.first_day), to_day=pl.lit(tables.last_day))
    return ShopHistory.from_frames(items=tables.items, sales_daily=sales, orderable_daily=spans)


def test_window_law_yardstick_runs() -> None:
    """Prevents the yardstick from breaking unseen: its own data take minutes."""
    tables = synthetic_shop(SyntheticShopParams(n_skus=60, n_days=200, first_day=date(2017, 1, 1)))
    sales = tables.demand_daily.select("sku", "day", pl.col("demand_units").alias("sales_units"), revenue=pl.lit(0.0))
    history = always_orderable(tables, sales)
    cutoffs = (date(2017, 5, 31), date(2017, 6, 30))
    yardstick = Yardstick("small", history, 14, cutoffs)
    params = ForecastParams(daily_taus=(), rounds=5, origins=3, window_days=(14,), threads=1)
    rows = pl.DataFrame(list(window_law.run(yardstick, params)))
    assert rows["cutoff"].unique().sort().to_list() == list(cutoffs)
    assert "window law" in rows["method"]
    assert rows["pinball_90"].is_finite().all()


def test_command_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents figures that no program can read, or that lack what they were measured on."""
    assert bench.main(["allocation", "--sizes", "40", "50", "--seed", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["rows"] for row in document["benchmarks"]["allocation"]] == [40, 50]
    assert set(document["machine"]) == {"python", "system", "cpus"}


def test_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a command without readable output."""
    assert bench.main(["sources", "--skus", "20", "--days", "30"]) == 0
    assert "validate_seconds" in capsys.readouterr().out


def test_all_runs_each_benchmark_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a benchmark that "all" forgets."""
    monkeypatch.setattr(bench, "BENCHMARKS", {name: lambda: [{"figure": 1}] for name in bench.BENCHMARKS})
    assert bench.main(["all", "--json"]) == 0
    names = ["allocation", "arena", "daily-forecast", "extract", "features", "forecast", "packing", "sources", "validation", "window-law"]
    assert list(json.loads(capsys.readouterr().out)["benchmarks"]) == names


def test_wrong_name_and_size_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a misspelt benchmark from doing nothing, and options of one from being ignored by another."""
    with pytest.raises(SystemExit, match="2"):
        bench.main(["alocation"])
    assert "invalid choice: 'alocation'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        bench.main(["sources", "--sizes", "3"])
    assert "unrecognized arguments: --sizes" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        bench.main(["sources", "--skus", "0"])
    assert "argument --skus: '0' is no whole number >= 1" in capsys.readouterr().err


def test_prototype_is_honest_unless_told_otherwise() -> None:
    """Prevents a comparison with a rival that has seen the days it is scored on."""
    tables = synthetic_shop(SyntheticShopParams(n_skus=80, n_days=200, first_day=date(2017, 1, 1)))
    sales = tables.demand_daily.select("sku", "day", pl.col("demand_units").alias("sales_units"), revenue=pl.lit(0.0))
    cutoff = tables.first_day + timedelta(days=150)
    poisoned = sales.with_columns(pl.when(pl.col("day") > cutoff).then(50).otherwise("sales_units").cast(pl.Int32).alias("sales_units"))
    means = {}
    for name, frame in (("clean", sales), ("poisoned", poisoned)):
        prototype = Prototype(always_orderable(tables, frame))
        means[name] = [prototype.window_demand(150, 20, reach).mean.tolist() for reach in (0, 8)]
    assert means["clean"][0] == means["poisoned"][0]
    assert means["clean"][1] != means["poisoned"][1]


def test_extract_compares_all_ways_on_the_same_rows() -> None:
    """Prevents a benchmark that no longer runs when somebody wants a figure, or a reader that reads other rows than the plain loop."""
    found = {row["way"]: row for row in bench.bench_extract(rows=2_000, backfill_rows=60_000, documents=200)}
    assert [way.partition(",")[0] for way in found] == ["MariaDB"] * 4 + ["MongoDB"] * 2
    assert found["MariaDB, backfill of 3 days"]["cells"] == 60_000
    assert all(row["rows_per_second"] > 0 for row in found.values())


def test_peers_replay_the_work_by_its_definition() -> None:
    """Prevents a comparison on other work: the arena's fill rate is that of a plain loop over days."""
    work = peers.Work.draw(20, 60, seed=1)
    (row,) = [row for row in peers.compare(20, 60, 1, 1).to_dicts() if row["simulator"] == "invpipe"]
    on_hand, pipeline, served = work.level.copy(), [np.zeros(20, dtype=np.int64)] * peers.LEAD_DAYS, 0
    for demand in work.demand:
        on_hand = on_hand + pipeline.pop(0)
        sold = np.minimum(on_hand, demand)
        on_hand, served = on_hand - sold, served + int(sold.sum())
        pipeline.append(np.maximum(work.level - on_hand - sum(pipeline), 0))
    assert row["fill_rate"] == pytest.approx(served / work.demand.sum(), abs=1e-12)


def test_backfill_asks_for_what_can_be_made() -> None:
    """Prevents a figure of fewer backtests than it says: as many keys as wanted, none twice, each of a variant and a window."""
    keys = backfill.chosen(100)
    assert len(set(keys)) == 100
    windows = {variant: [key.partition("|")[2] for key in keys if key.startswith(f"{variant}|")] for variant in VARIANTS}
    assert {len(names) for names in windows.values()} == {8, 9}
    assert windows["legacy"] == [f"{k:03d}" for k in range(8)]


def test_backfill_weighs_a_whole_group() -> None:
    """Prevents a peak that leaves out the memory of the runs: this process alone has some tens of megabytes."""
    assert backfill.memory_mb(os.getpgid(0)) > 30


def test_overhead_tells_bodies_from_artifacts(tmp_path: Path) -> None:
    """Prevents an overhead that counts the work of assets as Dagster's, once Dagster calls them in another way."""
    seen: list[float] = []

    @dg.asset(code_version="1")
    def made() -> pl.DataFrame:
        seen.append(sum(math.sqrt(k) for k in range(1_000_000)))
        return pl.DataFrame({"n": seen})

    with overhead.timed() as (bodies, artifacts), dg.DagsterInstance.ephemeral() as instance:
        dg.materialize([made], instance=instance, resources={"io_manager": FramesIOManager(home=str(tmp_path))})
    assert len(seen) == 1
    assert bodies.cpu_seconds > 0.005
    assert artifacts.cpu_seconds > 0


def test_clocks_count_calls_within_calls_once() -> None:
    """Prevents more seconds of bodies than the whole run took, and generators whose work is not counted."""
    clock, whole = overhead.Clock(), overhead.Clock()

    def work() -> int:
        return len([math.sqrt(k) for k in range(200_000)])

    def outer() -> int:
        return clock.around(work)() + clock.around(work)()

    assert whole.around(clock.around(outer))() == 400_000
    assert 0 < clock.seconds <= whole.seconds
    items = overhead.Clock()
    assert list(items.around_items(lambda: (work() for _ in range(2)))()) == [200_000, 200_000]
    assert items.cpu_seconds > clock.cpu_seconds / 20  # the same work again; to make the generator takes next to nothing
