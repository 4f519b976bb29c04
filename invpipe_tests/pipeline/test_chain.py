"""The chain end to end: what the demo leaves behind, what it re-uses, and that any thread count gives the same bytes."""

import re
import shutil
from collections.abc import Callable

import dagster as dg
import polars as pl
import pytest

from invpipe.arena import SeedRuns, Tape
from invpipe.defs.partitions import BASELINE, VARIANTS
from invpipe.defs.provenance import stale_assets
from invpipe.forecast.classes import pool, whole_slab
from invpipe.history import ShopHistory
from invpipe.report.html import ORDER_LINES
from invpipe.settings import write_settings
from invpipe_tests.pipeline.conftest import WINDOW, Home

LAST_DAY = "2017-12-31"
MODEL = ("demand_model", "model_scores", "model_gates")
ORDERS = ("order_plan", "order_plan_summary", "order_plan_changes", "capital_curve")
PLAN = ("features", "serving_model", "demand_forecast", "window_forecast", *ORDERS)
DAY_PAGE = ("feature_families", "forecast_drivers", "forecast_fan", "day_report")
BACKTESTS = [("backtest", f"{variant}|{WINDOW.name}") for variant in VARIANTS]
PAGES = [("backtest_report", key) for _, key in BACKTESTS]


def test_every_artifact_is_there_with_its_record(demo: Home) -> None:
    """Prevents a phase that leaves something out, or a result that names no origin."""
    records = demo.artifacts(raw=True)
    assert len(records) == demo.made
    days = [f"raw_{name}" for name in ("sales_daily", "stock_daily", "page_views_daily", "offers", "orderable_daily")]
    for name in days:
        assert sum(asset == name for asset, _ in records) == 365, name
    wanted: set[tuple[str, str | None]] = (
        {(name, LAST_DAY) for name in (*MODEL, *PLAN, *DAY_PAGE)}
        | {*BACKTESTS, *PAGES}
        | {(name, fold) for name in ("fold_model", "fold_scores", "fold_class_scores") for fold in ("00", "01")}
    )
    wanted |= {(name, WINDOW.name) for name in ("tape", "scheduled_forecasts", "ablation", "window_report")}
    wanted |= {(name, None) for name in ("report", "fold_summary", "fold_calibration")}
    assert wanted <= set(records)
    for (name, partition), record in records.items():
        assert (record.asset_key, record.partition) == (name, partition)
        assert bool(record.upstream) == (not name.startswith("raw_") and name != "true_demand"), name
    read = {source.asset_key for source in records["order_plan", LAST_DAY].upstream}
    assert read == {"shop_history", "window_forecast"}


def test_nothing_is_stale_afterwards(demo: Home) -> None:
    """Prevents a run that leaves work undone, or artifacts that look stale as soon as they are made."""
    specs = [
        spec for spec in demo.definitions().resolve_all_asset_specs() if spec.group_name not in {"sweep", "packing"}
    ]  # no part of the demo
    days = {name: [LAST_DAY] for name in (*MODEL, *PLAN, *DAY_PAGE)}
    assert stale_assets(specs, demo.settings, days) == {}


def test_order_plan_stays_within_the_capital_and_says_why(demo: Home) -> None:
    """Prevents a plan that cannot be paid, or lines nobody can explain."""
    lines, summary = demo.frame("order_plan", LAST_DAY), demo.frame("order_plan_summary", LAST_DAY).row(0, named=True)
    value = (lines["order_units"] * lines["unit_cost"]).sum()
    assert 0 < len(lines) == summary["order_lines"]
    assert value == pytest.approx(summary["order_value"])
    assert value <= summary["capital"]
    assert (lines["order_units"] > 0).all()
    assert lines.select("sku", "vendor").is_unique().all()
    assert lines["reason"].str.contains("raises? the position from").all()
    assert "seconds" not in summary  # would be another plan in every run


def test_ablation_compares_all_variants(demo: Home) -> None:
    """Prevents a comparison without the floor, the baseline or the bound, or without intervals."""
    table = demo.frame("ablation", WINDOW.name)
    assert sorted(table["policy"]) == sorted(VARIANTS)
    assert set(table["n_seeds"]) == {2}
    assert (table["profit_difference_low"] <= table["profit_difference_high"]).all()
    assert (table["share_of_clairvoyant_frac"] <= 1.0).all()
    assert table["clairvoyant_bound"].n_unique() == 1
    assert (table["clairvoyant_bound"] >= table["profit"]).all()
    baseline = table.row(by_predicate=pl.col("policy") == BASELINE, named=True)
    assert (baseline["profit_difference"], baseline["profit_difference_low"], baseline["profit_difference_high"]) == (0.0, 0.0, 0.0)


def test_folds_are_scored_against_baselines(demo: Home) -> None:
    """Prevents scores of the forecaster alone."""
    for fold in ("00", "01"):
        methods = set(demo.frame("fold_scores", fold)["method"])
        assert {"window law", "zero", "EWMA + Poisson", "quantile boosters"} <= methods


def test_forecasts_are_scored_by_class_and_explained(demo: Home) -> None:
    """Prevents scores by class that lose a fold, and drivers of another day or of SKUs the shop does not have."""
    scores = pl.concat(demo.frame("fold_class_scores", fold) for fold in ("00", "01"))
    whole = pool(whole_slab(scores), "fold").filter(method="window law")
    folds = pl.concat(demo.frame("fold_scores", fold) for fold in ("00", "01")).filter(target="window", method="window law")
    assert whole["rps"].to_list() == pytest.approx(folds["rps"].to_list())
    drivers = demo.frame("forecast_drivers", LAST_DAY)
    assert set(drivers["cutoff"].cast(pl.String)) == {LAST_DAY}
    assert drivers["sku"].n_unique() == 400
    assert demo.frame("forecast_fan", LAST_DAY)["sku"].n_unique() == 10


def test_report_is_one_page_that_needs_no_network(demo: Home) -> None:
    """Prevents a report that opens empty on another machine."""
    page = (demo.content("report") / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)[^"']*""", page) == []
    assert "<script src" not in page
    assert "imulated" in page
    for sku in demo.frame("order_plan", LAST_DAY)["sku"].head(ORDER_LINES):
        assert sku in page
    for variant in VARIANTS:
        assert variant in page


def test_output_names_the_places(demo: Home) -> None:
    """Prevents results that the reader of the terminal cannot find."""
    assert f"Report:     {demo.content('report') / 'report.html'}" in demo.output
    assert f"Pages:      {demo.path / 'exports' / 'reports'}" in demo.output
    assert f"Artifacts:  {demo.store.root}" in demo.output
    assert f"invpipe ui --home {demo.path}" in demo.output
    assert [line.split()[0] for line in demo.lines if line.startswith("[")] == [f"[{k}/10]" for k in range(1, 11)]
    for text in ("Forecast: mean scores", f"Order plan of {LAST_DAY}", f"Ablation on {WINDOW.name}", "simulated supply", "of bound"):
        assert text in demo.output


def results(home: Home) -> str:
    """What the demo prints after its phases."""
    return home.output[home.output.index("Forecast: mean scores") :]


def test_second_run_makes_nothing(demo: Home) -> None:
    """Prevents minutes of work for a second look."""
    again = Home(demo.path)
    assert again.show() == 0
    assert sum("0 artifacts made" in line for line in again.lines) == 10
    assert results(again) == results(demo)


def test_planning_setting_makes_only_what_depends_on_it(demo: Home, copy_of: Callable[[Home], Home]) -> None:
    """Prevents boosters from being trained again, or an old plan from being shown, after a change of costs."""
    home = copy_of(demo)
    before = home.artifacts()
    write_settings(home.path, planning={"leftover_value_frac": 0.8})
    made = home.show()
    after = home.artifacts()
    assert set(after) == set(before)
    changed = {artifact for artifact, record in after.items() if record.created_at != before[artifact].created_at}
    wanted: set[tuple[str, str | None]] = {(name, LAST_DAY) for name in ("window_forecast", *ORDERS, *DAY_PAGE)}
    wanted |= {(name, WINDOW.name) for name in ("scheduled_forecasts", "ablation", "window_report")}
    wanted |= {("report", None), *BACKTESTS, *PAGES}
    assert changed == wanted
    assert made == len(wanted)
    assert after["window_forecast", LAST_DAY].content_hash == before["window_forecast", LAST_DAY].content_hash


def test_made_again_with_another_thread_count_gives_the_same_bytes(demo: Home, copy_of: Callable[[Home], Home]) -> None:
    """Prevents results that depend on the run, or on how many threads it had."""
    home = copy_of(demo)
    names = (*MODEL, *PLAN, "fold_scores", "fold_summary", "scheduled_forecasts", "tape", "backtest", "ablation")
    kept = {name for name in home.artifacts() if name[0] not in names}
    for name in names:
        shutil.rmtree(home.store.directory_path((name, None)), ignore_errors=True)
        home.store.frame_path((name, None)).unlink(missing_ok=True)
    assert set(home.artifacts()) == kept
    write_settings(home.path, threads=1)
    assert home.show() >= len(MODEL) + len(PLAN) + len(BACKTESTS)
    before, after = demo.artifacts(), home.artifacts()
    assert set(after) == set(before)
    different = {key for key in after if after[key].content_hash != before[key].content_hash}
    assert different <= set(BACKTESTS)
    for artifact in BACKTESTS:  # their directories also hold the seconds of each phase
        runs = [SeedRuns.open(place.content(*artifact)).results for place in (demo, home)]
        assert [run.fingerprint() for run in runs[0]] == [run.fingerprint() for run in runs[1]], artifact
        assert len(runs[0]) == 2


def test_daily_job_plans_one_day_in_one_run(demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a nightly run whose partitioned and whole assets do not go together; extracting a day again changes no other plan."""
    home, day = copy_of(demo), "2017-12-30"
    before = home.store.record(("order_plan", LAST_DAY))
    history = home.store.record(("shop_history", None))
    job = home.definitions().resolve_job_def("daily")
    assert job.execute_in_process(instance=instance, partition_key=day, run_config={"loggers": {"progress": {}}}).success
    assert not home.frame("order_plan_summary", day).is_empty()
    after = home.store.record(("shop_history", None))
    assert history is not None
    assert after is not None
    assert after.content_hash == history.content_hash  # a day extracted twice gives the same bytes
    assert home.store.record(("order_plan", LAST_DAY)) == before


def test_the_streamed_tape_is_the_tape_of_the_history(demo: Home) -> None:
    """Prevents a tape that misses what lies on the edge of a span: built from the whole history in memory it has the same fingerprint."""
    history = ShopHistory.open(demo.content("shop_history"))
    whole = Tape.build(history, WINDOW.start, WINDOW.end, demand=demo.frame("true_demand"))
    assert Tape.open(demo.content("tape", WINDOW.name)).fingerprint() == whole.fingerprint()
    assert list((demo.path / "tapes").iterdir()) == []
