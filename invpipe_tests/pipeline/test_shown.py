"""What the UI shows of the demo: every column with its meaning, its lineage, figures that can be read."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from invpipe.defs.columns import LINEAGE, LINEAGE_KEY, OWN, SCHEMA_KEY, SHARED, TYPES, description_of, table_schema
from invpipe.defs.common import FIGURE_DIGITS, figures
from invpipe_tests.defs.test_definitions import upstream_of
from invpipe_tests.pipeline.conftest import Home

#: Tables that the demo does not make: a test of their own looks at them, order proposals need a database.
NOT_IN_DEMO = {"policy_sweep", "lambda_frontier", "packing_plan", "packing_capacities", "packing_comparison", "order_proposals"}


def tables(home: Home, specs: Collection[dg.AssetSpec]) -> dict[str, list[str]]:
    """Columns of every frame of a home, by asset; of a partitioned one those of its newest partition."""
    names = sorted(spec.key.to_user_string() for spec in specs)
    files = {name: sorted(home.store.root.glob(f"{name}.parquet")) or sorted(home.store.root.glob(f"{name}/*.parquet")) for name in names}
    return {name: list(pl.read_parquet_schema(found[-1])) for name, found in files.items() if found}


def wrong(found: dict[str, list[str]], names: Collection[str]) -> list[str]:
    """Columns of some tables that nobody has described, and descriptions of their own without a column."""
    missing = [f"{name}.{column} has no description" for name in names for column in found[name] if not description_of(name, column)]
    left = [f"{name}.{column} is described, and no column" for name in names for column in OWN.get(name, {}) if column not in found[name]]
    return missing + left


@pytest.fixture(scope="module")
def specs(demo: Home) -> dict[str, dg.AssetSpec]:
    """Specs of the demo's assets by name."""
    return {spec.key.to_user_string(): spec for spec in demo.definitions().resolve_all_asset_specs()}


@pytest.fixture(scope="module")
def found(demo: Home, specs: dict[str, dg.AssetSpec]) -> dict[str, list[str]]:
    """Columns of the demo's tables."""
    return tables(demo, specs.values())


def test_every_column_is_described(found: dict[str, list[str]]) -> None:
    """Prevents columns whose meaning and unit an operator has to guess, and descriptions that outlive their column."""
    assert wrong(found, found) == []
    assert set(OWN) - set(found) == NOT_IN_DEMO
    assert set(SHARED) - {column for columns in found.values() for column in columns} == set()
    shadowed = [f"{name}.{column}" for name, columns in OWN.items() for column, text in columns.items() if SHARED.get(column) == text]
    assert shadowed == []


def test_packing_tables_are_described(specs: dict[str, dg.AssetSpec], tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """Prevents the same in the tables of a job that is not part of the demo."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.materialise(instance, "pack")
    found = tables(home, specs.values())
    assert wrong(found, [name for name in NOT_IN_DEMO if name.startswith("packing_")]) == []


def test_lineage_names_columns_that_are_there(found: dict[str, list[str]], specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents a lineage that leads nowhere, or to a table that the asset is not made from."""
    for name, columns in LINEAGE.items():
        if name in NOT_IN_DEMO:
            continue
        before = upstream_of(specs, name)
        assert set(columns) <= set(found[name]), name
        for column, sources in columns.items():
            for table, _, source in (text.partition(".") for text in sources):
                assert source in found[table], f"{name}.{column} names {table}.{source}"
                assert table in before, f"{name}.{column} names {table}, which it is not made from"
    assert specs["core_offers"].metadata[LINEAGE_KEY] == dg.TableColumnLineage(
        {column: [dg.TableColumnDep(dg.AssetKey("raw_offers"), column)] for column in found["core_offers"]}
    )


@pytest.fixture(scope="module")
def shown(demo: Home, specs: dict[str, dg.AssetSpec]) -> dict[str, dict[str, Any]]:
    """Metadata of the newest event of every asset and check of the demo, by name."""
    with dg.DagsterInstance.from_config(str(demo.path / "dagster")) as instance:
        return dict(metadata(demo, specs, instance))


def metadata(home: Home, specs: dict[str, dg.AssetSpec], instance: dg.DagsterInstance) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the metadata of assets and checks."""
    for asset, spec in specs.items():
        for record in instance.fetch_materializations(spec.key, limit=1).records:
            if record.asset_materialization is not None:
                yield asset, {name: value.value for name, value in record.asset_materialization.metadata.items()}
    checks = home.definitions().resolve_asset_graph().asset_check_keys
    for key, record in instance.event_log_storage.get_latest_asset_check_execution_by_key(list(checks)).items():
        event = record.event.dagster_event if record.event else None
        if event is not None:
            yield key.name, {name: value.value for name, value in event.asset_check_evaluation_data.metadata.items()}


def test_figures_can_be_read(shown: dict[str, dict[str, Any]]) -> None:
    """Prevents key figures with sixteen digits in the UI, in assets and checks alike."""
    assert {"order_plan", "training_grid", "quarantine_within_threshold", "plan_within_capital"} <= set(shown)
    floats = [(name, key, value) for name, values in shown.items() for key, value in values.items() if isinstance(value, float)]
    assert len(floats) > 10
    assert [row for row in floats if row[2] != float(f"{row[2]:.{FIGURE_DIGITS}g}")] == []


def test_artifacts_keep_every_digit(demo: Home, shown: dict[str, dict[str, Any]]) -> None:
    """Prevents a figure that is rounded for the eye from being rounded for those who compute with it."""
    summary = demo.frame("order_plan_summary", "2017-12-31").row(0, named=True)
    exact = {name: value for name, value in summary.items() if isinstance(value, float)}
    assert figures(exact) != exact
    assert {name: shown["order_plan"][name] for name in exact} == figures(exact)


def test_columns_are_shown_with_their_meaning(
    demo: Home, shown: dict[str, dict[str, Any]], specs: dict[str, dg.AssetSpec], found: dict[str, list[str]]
) -> None:
    """Prevents descriptions that lie in the code and never reach the UI, and columns in each of 120 events that a page of plots loads."""
    columns = shown["window_forecast"][SCHEMA_KEY].columns
    assert {column.name: column.description for column in columns} == {
        name: description_of("window_forecast", name) for name in found["window_forecast"]
    }
    assert all(column.description for column in columns)
    for asset in TYPES:
        partition = max(demo.store.root.glob(f"{asset}/*.parquet")).stem
        types = {name: str(dtype) for name, dtype in demo.frame(asset, partition).schema.items()}
        assert specs[asset].metadata[SCHEMA_KEY] == table_schema(asset, types)
        assert SCHEMA_KEY not in shown[asset]
