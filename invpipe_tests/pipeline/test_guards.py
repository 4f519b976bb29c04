"""Blocking checks block, and nothing after a day reaches a decision of that day."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta

import dagster as dg
import numpy as np
import polars as pl
import pytest
from dagster._core.errors import DagsterAssetCheckFailedError

from invpipe.allocation import AllocationParams, DailyOffers, OrderPlan, daily_offers, protection_windows
from invpipe.allocation.daily import DailyMethod
from invpipe.defs.allocation.assets import PLAN_PARAMS, planning_params
from invpipe.defs.allocation.checks import faults
from invpipe.defs.allocation.exports import EXPORTS
from invpipe.defs.features.assets import serving_features
from invpipe.defs.forecast.assets import forecast_params
from invpipe.defs.grid.checks import no_censored_cell
from invpipe.defs.provenance import frame_hash
from invpipe.defs.sources import assets as sources
from invpipe.errors import ContractError
from invpipe.forecast import DemandForecaster
from invpipe.grid import training_grid
from invpipe.history import ShopHistory
from invpipe.settings import write_settings
from invpipe_tests.pipeline.conftest import Home

LAST_DAY = "2017-12-31"

# --- blocking checks


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose first month is extracted and validated; tests must not change it."""
    home = Home(tmp_path_factory.mktemp("month") / "home")
    write_settings(home.path, embedded={"skus": 150})
    with dg.DagsterInstance.ephemeral() as instance:
        home.materialise(instance, "extract", *(f"2017-01-{day:02d}" for day in range(1, 32)))
        home.materialise(instance, "validate_tables_again")
    return home


@pytest.fixture
def bad_day(month: Home, copy_of: Callable[[Home], Home], monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance) -> Home:
    """The month with its last day extracted again, with sales of SKUs that nobody knows: some 5 % of all rows."""
    home = copy_of(month)
    tables = sources.shop_tables(home.settings)
    rows = len(tables.sales_daily.filter(pl.col("day") <= date(2017, 1, 31))) // 20
    bad = pl.DataFrame({"sku": [f"unknown-{i:05d}" for i in range(rows)], "day": date(2017, 1, 31), "sales_units": 1, "revenue": 1.0})
    worse = replace(tables, sales_daily=pl.concat([tables.sales_daily, bad.cast(tables.sales_daily.schema)]))
    monkeypatch.setattr(sources, "shop_tables", lambda _: worse)
    home.store.frame_path(("raw_sales_daily", "2017-01-31")).unlink()
    home.materialise(instance, "extract", "2017-01-31")
    return home


def test_too_many_bad_rows_stop_the_history_until_they_are_accepted(bad_day: Home, instance: dg.DagsterInstance) -> None:
    """Prevents forecasts on a broken delivery - also on the second try, when the tables themselves are current - and a dead end."""
    before = bad_day.artifacts()
    for _ in range(2):
        with pytest.raises(DagsterAssetCheckFailedError, match="quarantine_within_threshold"):
            bad_day.materialise(instance, "validate_tables_again")
        after = bad_day.artifacts()
        for name in ("shop_history", "training_grid"):
            assert after[name, None] == before[name, None]
    counts = bad_day.frame("quarantine_counts").filter(pl.col("failed_rows") > 0)
    assert counts.select("table", "rule").rows() == [("sales_daily", "sku|unknown_sku")]
    assert bad_day.frame("quarantine").height == counts["failed_rows"].sum()
    write_settings(bad_day.path, quarantine_threshold_frac=0.2)
    assert bad_day.materialise(instance, "validate_tables_again").made > 0
    known = ShopHistory.open(bad_day.content("shop_history"))
    assert not known.sales_daily["sku"].str.starts_with("unknown").any()
    assert bad_day.materialise(instance, "validate_tables_again").made == 0


def test_a_lower_threshold_is_applied_to_current_tables(month: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a stricter setting from having no effect until somebody happens to extract again, and a check that never ran here."""
    home = copy_of(month)
    assert home.materialise(instance, "validate_tables_again").made > 0  # this instance has not seen the checks pass
    assert home.materialise(instance, "validate_tables_again").made == 0
    write_settings(home.path, quarantine_threshold_frac=0.0)
    assert home.materialise(instance, "validate_tables_again").made > 0


def test_missing_day_is_named(month: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a day that was never extracted from looking like a day without sales."""
    home = copy_of(month)
    home.store.frame_path(("raw_sales_daily", "2017-01-15")).unlink()
    message = "raw_sales_daily lacks 1 days between 2017-01-01 and 2017-01-31, first 2017-01-15; backfill these partitions"
    with pytest.raises(ContractError, match=message):
        home.materialise(instance, "validate_tables_again")


@pytest.fixture(scope="module")
def history(demo: Home) -> ShopHistory:
    """The validated shop of the demo."""
    return ShopHistory.open(demo.content("shop_history"))


def checked(grid: pl.DataFrame, spans: pl.DataFrame) -> tuple[bool, dict[str, object]]:
    """Outcome of the grid's check and its counts."""
    result = no_censored_cell(training_grid=grid, core_orderable_daily=spans)
    assert isinstance(result, dg.AssetCheckResult)
    return bool(result.passed), {name: value.value for name, value in result.metadata.items()}


def test_grid_of_the_shop_passes(history: ShopHistory) -> None:
    """Prevents a check that fails on the right grid."""
    passed, counts = checked(training_grid(history), history.orderable_daily)
    assert passed
    assert set(counts.values()) == {0}


def test_censored_doubled_and_missing_cells_fail_the_check(history: ShopHistory) -> None:
    """Prevents training on cells in which demand could not be seen, or on a grid with holes or copies."""
    grid, spans = training_grid(history), history.orderable_daily
    sku, day = grid.select("sku", "day").row(len(grid) // 2)
    cell = (pl.col("sku") == sku) & (pl.col("from_day") <= day) & (day <= pl.col("to_day"))
    assert checked(grid, spans.filter(~cell))[0] is False
    assert checked(grid, spans.filter(~cell))[1]["censored_cells"] > 0  # type: ignore[operator]
    cut = spans.with_columns(to_day=pl.when(cell).then(pl.col("to_day") - pl.duration(days=1)).otherwise("to_day"))
    assert checked(grid, cut.filter(pl.col("from_day") <= pl.col("to_day")))[1]["censored_cells"] == 1
    assert checked(pl.concat([grid, grid[:1]]), spans) == (False, {"censored_cells": 0, "doubled_cells": 1, "missing_cells": -1})
    assert checked(grid[1:], spans) == (False, {"censored_cells": 0, "doubled_cells": 0, "missing_cells": 1})


def test_overdrawn_plan_stops_the_run(
    demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a plan over its capital from ending as a green run."""

    whole = DailyOffers.plan

    def overdraw(offers: DailyOffers, method: DailyMethod, params: AllocationParams) -> OrderPlan:
        plan = whole(offers, method, params)
        return replace(plan, order_units=plan.order_units * 1000)

    monkeypatch.setattr(DailyOffers, "plan", overdraw)
    home = copy_of(demo)
    shutil.rmtree(home.path / EXPORTS)
    job = home.definitions().resolve_job_def("plan")
    with pytest.raises(DagsterAssetCheckFailedError, match="plan_within_capital"):
        job.execute_in_process(instance=instance, partition_key="2017-12-31", run_config={"loggers": {"progress": {}}})
    assert not (home.path / EXPORTS).exists()  # nobody orders from the file of a refused plan


def test_faults_of_a_plan_are_named(demo: Home) -> None:
    """Prevents a plan over its capital, of doubled, empty or unexplained lines from being released."""
    lines = demo.frame("order_plan", LAST_DAY)
    assert len(lines) > 0
    value = float((lines["order_units"] * lines["unit_cost"]).sum())
    assert faults(lines, value) == []
    assert faults(lines.clear(), 0.0) == []
    assert faults(lines, 0.99 * value) == [f"order value {value:.2f} exceeds the capital {0.99 * value:.2f}"]
    assert faults(pl.concat([lines, lines]), 3 * value) == [f"{len(lines)} offers are ordered twice"]
    first = pl.int_range(pl.len()) == 0
    nothing = lines.with_columns(order_units=pl.when(first).then(0).otherwise("order_units"))
    assert faults(nothing, value) == ["1 lines order no unit"]
    for reason in ("", None):
        mute = lines.with_columns(reason=pl.when(first).then(pl.lit(reason, pl.String)).otherwise("reason"))
        assert faults(mute, value) == ["1 lines have no reason"]


# --- nothing after the day is read

DAY = date(2017, 10, 15)


def poisoned(history: ShopHistory, cutoff: date) -> ShopHistory:
    """The history with everything after the cutoff replaced by noise."""
    rng = np.random.default_rng(1)
    days = [cutoff + timedelta(days=k) for k in range(1, (history.last_day - cutoff).days + 1)]
    cells = pl.DataFrame({"sku": history.skus}).join(pl.DataFrame({"day": days}), how="cross").sort("sku", "day")

    def noise(frame: pl.DataFrame, **columns: object) -> pl.DataFrame:
        made = cells.with_columns(**{name: pl.Series(np.asarray(values)) for name, values in columns.items()})
        return pl.concat([frame.filter(pl.col("day") <= cutoff), made.select(frame.columns).cast(frame.schema)]).sort("sku", "day")

    def units() -> np.ndarray:
        return rng.integers(1, 500, len(cells))

    assert history.stock_daily is not None
    assert history.page_views_daily is not None
    assert history.offers is not None
    assert history.vendors is not None
    future = pl.DataFrame(
        {
            "sku": history.skus,
            "vendor": history.vendors["vendor"][0],
            "observed_at": datetime.combine(cutoff + timedelta(days=1), datetime.min.time()),
            "unit_cost": 0.01,
            "in_stock": True,
            "min_order_units": 7,
            "pack_units": 7,
        }
    )
    offers = history.offers.filter(pl.col("observed_at").cast(pl.Date) <= cutoff)
    spans = history.orderable_daily.filter(pl.col("from_day") <= cutoff)
    runs_on = pl.col("to_day") > cutoff
    return replace(
        history,
        sales_daily=noise(history.sales_daily, sales_units=units(), revenue=rng.uniform(0, 1e6, len(cells))),
        stock_daily=noise(history.stock_daily, on_hand_units=units()),
        page_views_daily=noise(history.page_views_daily, views=units()),
        offers=pl.concat([offers, future.select(offers.columns).cast(offers.schema)]).sort("sku", "vendor", "observed_at"),
        orderable_daily=spans.with_columns(to_day=pl.when(runs_on).then(pl.lit(cutoff + timedelta(days=1))).otherwise("to_day")),
    )


def decided(history: ShopHistory, home: Home) -> dict[str, str]:
    """Hashes of everything that is decided at the end of the day."""
    settings = home.settings
    model = DemandForecaster.fit(history, DAY, forecast_params(settings))
    params = planning_params(settings)
    demand = model.window_demand(protection_windows(history, params.review_period_days))
    offers = daily_offers(history, DAY, demand, params)
    lines = offers.lines(offers.plan(settings.planning.method, PLAN_PARAMS))
    assert len(lines) > 0
    return {
        "features": frame_hash(serving_features(history.until(DAY))),
        "daily quantiles": frame_hash(model.daily_quantiles(settings.forecast.daily_days)),
        "window demand": frame_hash(demand.to_frame()),
        "order plan": frame_hash(lines),
        "capital": repr(offers.cheapest.capital),
    }


@pytest.fixture(scope="module")
def clean(history: ShopHistory, demo: Home) -> dict[str, str]:
    """What is decided on the shop as it was."""
    return decided(history, demo)


def test_poison_after_the_day_changes_no_decision(history: ShopHistory, demo: Home, clean: dict[str, str]) -> None:
    """Prevents any look ahead: with all data after the day replaced by noise, forecasts and orders of the day keep their bytes."""
    poison = poisoned(history, DAY)
    assert frame_hash(poison.sales_daily) != frame_hash(history.sales_daily)
    assert decided(poison, demo) == clean


def test_poison_before_the_day_is_seen(history: ShopHistory, demo: Home, clean: dict[str, str]) -> None:
    """Prevents a poison test that passes because it poisons nothing: a week earlier the noise changes what is decided."""
    changed = decided(poisoned(history, DAY - timedelta(days=7)), demo)
    assert all(changed[name] != clean[name] for name in clean)
