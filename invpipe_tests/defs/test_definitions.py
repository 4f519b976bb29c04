"""What Dagster is told: every asset, check, job and schedule, and that they fit together.

The whole graph is kept as ``graph.json`` beside this file. After a wanted change write it anew, and read the difference before you commit::

    python -m invpipe_tests.defs.test_definitions
"""

import difflib
import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invpipe.defs.build import build_definitions
from invpipe.defs.graph import FAMILIES, mermaid
from invpipe.defs.partitions import BASELINE, VARIANTS
from invpipe.defs.provenance import ROOMS, SETTINGS_KEY, depends_on
from invpipe.errors import SettingsError
from invpipe.settings import Settings, write_settings

GRAPH = Path(__file__).with_name("graph.json")
README = Path(__file__).parents[2] / "README.md"

#: Assets that may know the true demand; a forecast or a plan never does.
FOLDS = {"fold_scores", "fold_summary", "fold_class_scores", "fold_calibration"}
EVALUATION = FOLDS | {"tape", "backtest", "ablation", "policy_sweep", "lambda_frontier", "backtest_report", "window_report", "report"}


def definitions_of_defaults(home: Path) -> dg.Definitions:
    """Definitions of a home with default settings; its own file hides one in the working directory."""
    write_settings(home)
    return build_definitions(str(home))


def described(definitions: dg.Definitions) -> dict[str, Any]:
    """The graph as plain values: assets, checks, jobs, schedules."""
    graph = definitions.resolve_asset_graph()
    specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
    assets = {
        name: {
            "group": spec.group_name,
            "kinds": sorted(spec.kinds),
            "settings": spec.metadata[SETTINGS_KEY],
            "partitions": partitions_in_words(spec.partitions_def),
            "depends_on": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        }
        for name, spec in specs.items()
    }
    checks = {
        key.name: {
            "asset": key.asset_key.to_user_string(),
            "blocking": graph.get_check_spec(key).blocking,
            "also_reads": sorted(dep.asset_key.to_user_string() for dep in graph.get_check_spec(key).additional_deps),
        }
        for key in graph.asset_check_keys
    }
    jobs = {
        job.name: {
            "assets": sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys),
            "checks": sorted(key.name for key in job.asset_layer.asset_graph.asset_check_keys),
            "partitions": partitions_in_words(job.partitions_def),
        }
        for job in definitions.resolve_all_job_defs()
        if not job.name.startswith("__")
    }
    schedules = {
        schedule.name: {"job": schedule.job_name, "cron": schedule.cron_schedule, "status": schedule.default_status.value}
        for schedule in definitions.schedules or ()
        if isinstance(schedule, dg.ScheduleDefinition)
    }
    return {"assets": assets, "checks": checks, "jobs": jobs, "schedules": schedules}


def partitions_in_words(partitions: dg.PartitionsDefinition | None) -> str:
    """Dimensions, first and last key and number of keys."""
    if partitions is None:
        return "none"
    keys = [str(key) for key in partitions.get_partition_keys()]
    names = [d.name for d in partitions.partitions_defs] if isinstance(partitions, dg.MultiPartitionsDefinition) else []
    return f"{' x '.join(names) + ': ' if names else ''}{len(keys)}, {keys[0]} ... {keys[-1]}"


def as_text(graph: dict[str, Any]) -> str:
    return json.dumps(graph, indent=1, sort_keys=True) + "\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with default settings."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def definitions(home: Path) -> dg.Definitions:
    """The definitions of that home."""
    return definitions_of_defaults(home)


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[str, dg.AssetSpec]:
    """Specs of all assets by name."""
    return {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}


def upstream_of(specs: dict[str, dg.AssetSpec], name: str) -> set[str]:
    """All assets that an asset depends on, directly or not."""
    found: set[str] = set()
    open_names = [name]
    while open_names:
        for dep in specs[open_names.pop()].deps:
            if (key := dep.asset_key.to_user_string()) not in found:
                found.add(key)
                open_names.append(key)
    return found


def test_definitions_can_be_loaded(definitions: dg.Definitions) -> None:
    """Prevents a resource, job or dependency that Dagster finds missing only when somebody starts it."""
    dg.Definitions.validate_loadable(definitions)


def test_every_asset_declares_what_an_operator_needs(specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents assets without a room, an owner or words in the UI, and artifacts whose staleness cannot be judged."""
    wrong = []
    for name, spec in specs.items():
        if spec.group_name not in ROOMS:
            wrong.append(f"{name}: group {spec.group_name!r} is no room")
        if not (spec.description or "").strip():
            wrong.append(f"{name}: no description")
        if not 1 <= len(spec.kinds) <= 3:
            wrong.append(f"{name}: kinds {sorted(spec.kinds)}")
        if not spec.owners:
            wrong.append(f"{name}: no owner")
        if not spec.code_version:
            wrong.append(f"{name}: no code version")
        if SETTINGS_KEY not in spec.metadata:
            wrong.append(f"{name}: declares no settings, so every setting makes it stale")
    assert not wrong, "\n".join(wrong)


def test_descriptions_say_what_is_simulated(specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents simulated supply from being taken for a shop's data."""
    for table in ("vendors", "stock_daily", "page_views_daily", "offers", "orderable_daily"):
        for stage in ("raw", "core"):
            assert "imulated" in (specs[f"{stage}_{table}"].description or ""), f"{stage}_{table}"


def test_unknown_setting_is_refused_where_it_is_declared() -> None:
    """Prevents an asset that depends on a misspelt setting, which would never make it stale."""
    with pytest.raises(SettingsError, match="'planing' is no setting an artifact can depend on; allowed: .*planning"):
        depends_on("planing")


def test_graph_is_the_one_on_record(definitions: dg.Definitions) -> None:
    """Prevents an asset, dependency, partition, job or schedule that appears, moves or vanishes unnoticed."""
    now, then = as_text(described(definitions)), GRAPH.read_text(encoding="utf-8")
    difference = "\n".join(difflib.unified_diff(then.splitlines(), now.splitlines(), GRAPH.name, "definitions", n=2, lineterm=""))
    assert now == then, f"the graph changed; if you want that, run python -m invpipe_tests.defs.test_definitions\n{difference}"


def test_true_demand_is_read_by_evaluation_only(specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents leakage: a forecast, a plan or the history they read must not know the demand that stock-outs hid."""
    readers = {name for name, spec in specs.items() if "true_demand" in {dep.asset_key.to_user_string() for dep in spec.deps}}
    assert readers == {"fold_scores", "fold_class_scores", "tape", "report"}
    assert {name for name in specs if "true_demand" in upstream_of(specs, name)} == EVALUATION
    models = {"demand_model", "model_scores", "model_gates", "serving_model", "window_forecast"}
    decided = models | {"shop_history", "training_grid", "features", "order_plan", "scheduled_forecasts"}
    assert decided <= set(specs) - EVALUATION


def test_leak_through_another_asset_would_be_found(specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents a search that looks at direct inputs only: with the grid made from fold scores, every reader of the grid knows too."""
    leaking = specs | {"shop_history": specs["shop_history"].replace_attributes(deps=[*specs["shop_history"].deps, "fold_scores"])}
    knowing = {name for name in leaking if "true_demand" in upstream_of(leaking, name)}
    assert {"shop_history", "demand_model", "order_plan"} <= knowing


def test_all_checks_that_guard_a_decision_block(definitions: dg.Definitions) -> None:
    """Prevents bad rows, censored cells, crossing quantiles or an overdrawn plan from going on downstream."""
    graph = definitions.resolve_asset_graph()
    blocking = {key.name for key in graph.asset_check_keys if graph.get_check_spec(key).blocking}
    assert blocking == {
        "quarantine_within_threshold",
        "no_censored_cell",
        "model_may_serve_its_day",
        "daily_quantiles_do_not_cross",
        "window_quantiles_do_not_cross",
        "plan_within_capital",
        "packing_plan_holds",
    }
    assert {key.name for key in graph.asset_check_keys} - blocking == {
        "candidate_passes_its_gates",  # the model is held back, the run goes on with the last good one
        "newest_model_serves",
        "window_law_beats_baselines",
    }


def test_jobs_cover_every_asset(definitions: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents an asset that no job makes."""
    jobs = [job for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")]
    made = {key.to_user_string() for job in jobs for key in job.asset_layer.executable_asset_keys}
    assert made == set(specs)


def test_mermaid_shows_every_asset_and_every_dependency(definitions: dg.Definitions, specs: dict[str, dg.AssetSpec]) -> None:
    """Prevents a diagram that leaves out what was added last; families of tables are one box each."""

    def box(name: str) -> str:
        return next((f"{family}*" for family in FAMILIES if name.startswith(family)), name)

    lines = mermaid(definitions).splitlines()
    assert lines[0] == "graph LR"
    boxes: dict[str, str] = {found[1]: found[2] for line in lines if (found := re.fullmatch(r'    (\w+)\["(.+)"\]', line))}
    assert sorted(boxes.values()) == sorted({box(name) for name in specs})
    arrows = {(boxes[found[1]], boxes[found[2]]) for line in lines if (found := re.fullmatch(r"  (\w+) --> (\w+)", line))}
    pairs = {(box(dep.asset_key.to_user_string()), box(name)) for name, spec in specs.items() for dep in spec.deps}
    assert arrows == {pair for pair in pairs if pair[0] != pair[1]}
    frames = [line.split()[1] for line in lines if line.startswith("  subgraph")]
    assert sorted(frames) == sorted({str(spec.group_name) for spec in specs.values()})
    assert lines.count("  end") == len(frames)
    assert len(lines) == 1 + len(boxes) + len(arrows) + 2 * len(frames)


def test_readme_draws_the_graph_of_today(definitions: dg.Definitions) -> None:
    """Prevents a picture of last month's chain; renew it with what `invpipe graph` prints."""
    assert f"```mermaid\n{mermaid(definitions)}\n```" in README.read_text(encoding="utf-8")


@pytest.fixture
def schedule(definitions: dg.Definitions) -> dg.ScheduleDefinition:
    """The daily schedule."""
    return definitions.resolve_schedule_def("daily_at_0530")


def test_schedule_plans_the_day_before_the_tick(definitions: dg.Definitions, schedule: dg.ScheduleDefinition) -> None:
    """Prevents a plan for a day that is not over, or a second run for the same day."""
    tick = datetime(2017, 7, 1, 5, 30, tzinfo=UTC)
    result = schedule.evaluate_tick(
        dg.build_schedule_context(scheduled_execution_time=tick, repository_def=definitions.get_repository_def())
    )
    (request,) = result.run_requests or []
    assert (request.partition_key, request.run_key) == ("2017-06-30", "2017-06-30")
    assert schedule.job_name == "daily"


@pytest.mark.parametrize("year", [2016, 2018])
def test_schedule_skips_days_the_source_does_not_have(definitions: dg.Definitions, schedule: dg.ScheduleDefinition, year: int) -> None:
    """Prevents a failed run every morning once the embedded shop has no more days."""
    tick = datetime(year, 7, 1, 5, 30, tzinfo=UTC)
    result = schedule.evaluate_tick(
        dg.build_schedule_context(scheduled_execution_time=tick, repository_def=definitions.get_repository_def())
    )
    assert not result.run_requests
    assert result.skip_message == f"the source has no day {year}-06-30; its last one is 2017-12-31"


@pytest.mark.parametrize(("month", "day", "trained"), [(7, 2, "2017-06-30"), (12, 31, "2017-12-29")])
def test_weekly_run_trains_on_what_is_extracted_by_then(definitions: dg.Definitions, month: int, day: int, trained: str) -> None:
    """Prevents a training at the end of Saturday, whose rows come after the tick: on Sunday at 03:00 the last extracted day is Friday."""
    weekly = definitions.resolve_schedule_def("weekly_on_sunday_at_0300")
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2017, month, day, 3, tzinfo=UTC), repository_def=definitions.get_repository_def()
    )
    (request,) = weekly.evaluate_tick(context).run_requests or []
    assert (request.partition_key, request.run_key, weekly.job_name) == (trained, trained, "weekly")
    assert weekly.execution_timezone == Settings().shop.time_zone


def test_weekly_run_skips_weeks_the_source_does_not_have(definitions: dg.Definitions) -> None:
    """Prevents a failed run every Sunday once the embedded shop has no more days."""
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2018, 7, 1, 3, tzinfo=UTC), repository_def=definitions.get_repository_def()
    )
    result = definitions.resolve_schedule_def("weekly_on_sunday_at_0300").evaluate_tick(context)
    assert result.skip_message == "the source has no day 2018-06-29; its last one is 2017-12-31"


def test_partitions_follow_the_settings(tmp_path: Path) -> None:
    """Prevents folds, windows or variants in Dagster that the settings do not have."""
    window = {"name": "spring", "start": "2017-03-01", "end": "2017-06-01"}
    write_settings(tmp_path, folds={"n_folds": 3}, backtest={"windows": [window]})
    specs = {spec.key.to_user_string(): spec for spec in build_definitions(str(tmp_path)).resolve_all_asset_specs()}

    def keys(name: str) -> list[str]:
        partitions = specs[name].partitions_def
        assert partitions is not None
        return [str(key) for key in partitions.get_partition_keys()]

    assert keys("fold_scores") == ["00", "01", "02"]
    assert keys("tape") == ["spring"]
    assert sorted(keys("backtest")) == sorted(f"{variant}|spring" for variant in VARIANTS)
    assert (keys("order_plan")[0], keys("order_plan")[-1], len(keys("order_plan"))) == ("2017-01-01", "2017-12-31", 365)
    assert BASELINE in VARIANTS
    assert Settings.load(tmp_path).folds.n_folds == 3


def test_home_of_the_call_is_the_home_of_every_resource(definitions: dg.Definitions, home: Path) -> None:
    """Prevents artifacts in one home that were made with the settings of another."""
    for name in ("io_manager", "objects", "settings"):
        assert (definitions.resources or {})[name].home == str(home)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        GRAPH.write_text(as_text(described(definitions_of_defaults(Path(directory)))), encoding="utf-8")
