"""What buyers get of a plan: files that hold the plan, tables by vendor, and the changes since the plan before."""

import shutil
from collections.abc import Callable

import dagster as dg
import polars as pl
import pytest

from invpipe.defs.allocation import assets
from invpipe.defs.allocation.exports import EXPORTS, plan_before
from invpipe.defs.common import figures
from invpipe.defs.report.pages import PAGES
from invpipe_tests.pipeline.conftest import Home

DAYS = ("2017-12-30", "2017-12-31")


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dg.MetadataValue]:
    """Metadata of the one materialisation of an asset."""
    found = [event.materialization for event in result.get_asset_materialization_events()]
    return dict(next(m.metadata for m in found if m.asset_key == dg.AssetKey(asset)))


def test_files_and_changes_of_a_plan(demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a file that is another plan than the artifact, and changes that do not lead from the plan before to this one."""
    home, day = copy_of(demo), DAYS[1]
    old = home.frame("order_plan", day).with_row_index().with_columns(order_units=pl.col("order_units") + (pl.col("index") == 1))
    old.filter(pl.col("index") > 0).drop("index").write_parquet(home.store.frame_path(("order_plan", DAYS[0])))  # made up
    shutil.rmtree(home.path / EXPORTS)
    job = home.definitions().resolve_job_def("plan")
    shown = job.execute_in_process(instance=instance, partition_key=day, run_config={"loggers": {"progress": {}}})
    plan, files = home.frame("order_plan", day), home.path / EXPORTS
    assert pl.read_parquet(files / f"{day}.parquet").equals(plan.sort("vendor", "sku"))
    read = pl.read_csv(files / f"{day}.csv", schema_overrides=plan.schema)
    assert read.select("sku", "vendor", "order_units").equals(plan.sort("vendor", "sku").select("sku", "vendor", "order_units"))
    said = metadata(shown, "order_plan_summary")
    assert said["csv"].value == str((files / f"{day}.csv").resolve())
    assert said["parquet"].value == str((files / f"{day}.parquet").resolve())
    assert all(vendor in str(said["vendors"].value) for vendor in plan["vendor"].unique())
    assert "total" in str(said["buyer_table"].value)
    price = home.frame("order_plan_summary", day)["capital_price"][0]
    assert {"price_of_capital": metadata(shown, "order_plan")["price_of_capital"].value} == figures({"price_of_capital": price})
    assert said["changes_since"].value == DAYS[0]
    changes = pl.read_csv(files / f"{day}_changes.csv", schema_overrides={"sku": pl.String})
    assert [said[f"lines_{kind}"].value for kind in ("new", "gone", "more", "fewer")] == [1, 0, 0, 1]
    assert sorted(changes["sku"]) == sorted(plan["sku"].head(2))
    assert changes["reason"].str.len_chars().min() > 0
    kept = home.frame("order_plan_changes", day)
    assert kept["plan_before"].cast(pl.String).to_list() == [DAYS[0]] * 2
    assert kept.drop("plan_before").equals(changes.cast(kept.drop("plan_before").schema))
    page = (home.path / PAGES / f"{day}.html").read_text(encoding="utf-8")
    assert f"<dt>since the plan of</dt><dd>{DAYS[0]}</dd>" in page
    assert all(f'<th scope="row">{sku}</th>' in page for sku in changes["sku"])
    assert not (demo.path / EXPORTS / f"{day}_changes.csv").exists()  # the demo plans one day: nothing is before it
    assert demo.frame("order_plan_changes", day).schema == kept.schema
    assert demo.frame("order_plan_changes", day).is_empty()


def test_plan_before_is_the_last_one_before_the_day(demo: Home) -> None:
    """Prevents a plan compared with itself, with a later one, or with an older one than that of the same run."""
    last = demo.frame("order_plan", DAYS[1])
    assert plan_before(demo.settings, DAYS[1], {DAYS[1]: last}) is None
    found = plan_before(demo.settings, "2018-01-03", {})
    assert found is not None
    assert (found[0], found[1].equals(last)) == (DAYS[1], True)
    made = plan_before(demo.settings, "2018-01-03", {"2018-01-02": last.clear()})
    assert made is not None
    assert (made[0], len(made[1])) == ("2018-01-02", 0)


def test_plan_of_the_demo_keeps_vendor_minimums_within_its_gap(demo: Home) -> None:
    """Prevents orders that a vendor refuses, and a plan that stops far from its bound."""
    summary = demo.frame("order_plan_summary", DAYS[1]).row(0, named=True)
    assert summary["method"] == "mip"
    assert summary["deferred_vendors"] == ""
    assert summary["gap_frac"] <= assets.PLAN_PARAMS.mip_gap_frac
    least = demo.frame("core_vendors").select("vendor", "min_order_value")
    spent = demo.frame("order_plan", DAYS[1]).group_by("vendor").agg(pl.col("order_value").sum()).join(least, on="vendor")
    assert spent.filter(pl.col("order_value") < pl.col("min_order_value") * (1 - 1e-9)).is_empty()
    curve = demo.frame("capital_curve", DAYS[1])
    assert (curve["capital"] / summary["capital"]).to_list() == pytest.approx(assets.CURVE)
