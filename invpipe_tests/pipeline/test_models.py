"""Which model serves which day, through real runs: gates hold a bad model back, a roll-back changes the next forecast, records name it."""

import json
import shutil
from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import dagster as dg
import polars as pl
import pytest

from invpipe import cli
from invpipe.defs.jobs import EXTRACT, MODEL, daily_assets
from invpipe.defs.provenance import name_of
from invpipe.errors import ForecastError, ProvenanceError
from invpipe.settings import write_settings
from invpipe_tests.pipeline.conftest import Home

OLD, NEW, DAY = "2017-03-17", "2017-03-31", "2017-04-10"

#: Limits that any model of a small sample keeps, so that a test decides which one is broken.
WIDE = {"pinball_worse_frac": 9.0, "baseline_worse_frac": 9.0, "bracket_points": 90.0, "bias_frac": 9.0, "drift_psi": 9.0}
FORECAST = [dg.AssetKey("serving_model"), dg.AssetKey("window_forecast")]


def run(home: Home, instance: dg.DagsterInstance, job: str, day: str, assets: list[dg.AssetKey] | None = None) -> dg.ExecuteInProcessResult:
    """Run a job for a day."""
    found = home.definitions().resolve_job_def(job)
    return found.execute_in_process(instance=instance, partition_key=day, asset_selection=assets, run_config={"loggers": {"progress": {}}})


def outcome(result: dg.ExecuteInProcessResult, check: str) -> tuple[bool, str, str]:
    """Whether a check passed, its severity and what it says."""
    (found,) = [evaluation for evaluation in result.get_asset_check_evaluations() if evaluation.check_name == check]
    return found.passed, found.severity.value, found.description or ""


def forecast_hash(home: Home, day: str = DAY) -> str:
    """Content of the window forecast of a day."""
    record = home.store.record(("window_forecast", day))
    assert record is not None
    return record.content_hash


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose days up to DAY are extracted and validated, without a model; tests must not change it."""
    home = Home(tmp_path_factory.mktemp("quarter") / "home")
    write_settings(
        home.path, embedded={"skus": 150}, folds={"horizon_days": 14}, forecast={"window_days": (7,), "taus": (0.5,)}, gates=WIDE
    )
    days = [(date(2017, 1, 1) + timedelta(days=k)).isoformat() for k in range(100)]
    assert days[-1] == DAY
    with dg.DagsterInstance.ephemeral() as instance:
        home.materialise(instance, "extract", *days)
        home.materialise(instance, "validate_tables_again")
    return home


@pytest.fixture(scope="module")
def served(quarter: Home, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The same with a model of OLD that passed, and the forecast of DAY made by it; tests must not change it."""
    home = Home(tmp_path_factory.mktemp("served") / "home")
    shutil.copytree(quarter.path, home.path)
    with dg.DagsterInstance.ephemeral() as instance:
        run(home, instance, "weekly", OLD)
        run(home, instance, "plan", DAY, FORECAST)
    return home


def test_records_lead_from_the_forecast_to_the_model(served: Home) -> None:
    """Prevents a forecast of which nobody can say which model made it: every step of the way is named with its content hash."""
    names = [("window_forecast", DAY), ("serving_model", DAY), ("model_gates", OLD), ("model_scores", OLD), ("demand_model", OLD)]
    for artifact, source in pairwise(names):
        record, made_from = served.store.record(artifact), served.store.record(source)
        assert record is not None
        assert made_from is not None
        read = {(item.asset_key, item.partition): item.content_hash for item in record.upstream}
        assert read.get(source) == made_from.content_hash, name_of(source)
    model = served.store.record(names[-1])
    row = served.frame("serving_model", DAY).row(0, named=True)
    assert model is not None
    assert (row["model"], row["model_hash"]) == (date.fromisoformat(OLD), model.content_hash)


def test_failing_gate_keeps_the_old_model(served: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a bad model from serving, a run that stops because of it, and a fallback nobody hears of."""
    home = copy_of(served)
    write_settings(home.path, gates={"drift_psi": 0.0})
    passed, severity, said = outcome(run(home, instance, "weekly", NEW), "candidate_passes_its_gates")
    assert (passed, severity) == (False, "ERROR")
    assert f"model of {NEW}: feature_drift: " in said
    assert "raise gates.drift_psi or wait for more days; it does not serve; the last model that passed goes on" in said
    scored = home.frame("model_scores", NEW).filter(against="serving model", method="serving model")
    assert scored["fitted_on"].to_list() == [date.fromisoformat(OLD)]  # held against the model that serves
    result = run(home, instance, "plan", DAY, FORECAST)
    assert outcome(result, "model_may_serve_its_day")[0]
    passed, severity, said = outcome(result, "newest_model_serves")
    assert (passed, severity) == (False, "WARN")
    assert said.startswith(f"model of {NEW} failed feature_drift")
    assert said.endswith(f"The model of {OLD} serves {DAY}")
    assert home.frame("serving_model", DAY)["model"].to_list() == [date.fromisoformat(OLD)]
    assert forecast_hash(home) == forecast_hash(served)


def test_roll_back_changes_the_next_forecast(
    served: Home,
    copy_of: Callable[[Home], Home],
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Prevents a roll-back that has no effect, changes what was decided before, or cannot be lifted."""
    home = copy_of(served)
    run(home, instance, "weekly", NEW)
    run(home, instance, "plan", DAY, FORECAST)
    with_new = forecast_hash(home)
    assert home.frame("serving_model", DAY)["model"].to_list() == [date.fromisoformat(NEW)]
    assert with_new != forecast_hash(served)
    assert cli.main(["models", "--roll-back", "--home", str(home.path)]) == 0
    assert f"pinned to {OLD} on " in capsys.readouterr().out
    assert cli.main(["models", "--roll-back", "--home", str(home.path)]) == 1
    assert f"no model before that of {OLD} that passed its gates" in capsys.readouterr().err
    assert json.loads((home.path / "serving.json").read_text())["model"] == OLD
    assert forecast_hash(home) == with_new
    run(home, instance, "plan", DAY, FORECAST)
    row = home.frame("serving_model", DAY).row(0, named=True)
    assert (row["model"], row["pinned"]) == (date.fromisoformat(OLD), True)
    assert forecast_hash(home) == forecast_hash(served)
    assert cli.main(["models", "--serve", "newest", "--home", str(home.path)]) == 0
    printed = capsys.readouterr().out
    assert "pinned" not in printed
    assert f"{OLD}  passed  served 1 days, {DAY} .. {DAY}\n" in printed
    run(home, instance, "plan", DAY, FORECAST)
    assert forecast_hash(home) == with_new


def test_wrong_models_are_refused_and_change_nothing(
    served: Home, copy_of: Callable[[Home], Home], capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a pin to a model that does not exist, which would stop the next night's run."""
    home = copy_of(served)
    for argv, message in (
        (["--serve", "2017-12-02"], "the model of 2017-12-02 cannot serve: it was never trained and gated; choose one of ['2017-03-17']"),
        (["--serve", "friday"], "'friday' is no model; give its cutoff as YYYY-MM-DD, or 'newest' to lift the pin"),
    ):
        assert cli.main(["models", *argv, "--home", str(home.path)]) == 1
        assert message in capsys.readouterr().err
    assert not (home.path / "serving.json").exists()


def test_model_trained_again_does_not_serve_ungated(served: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a model whose gates were those of another one with the same name."""
    home = copy_of(served)
    write_settings(home.path, seed=7)
    run(home, instance, "weekly", OLD, [dg.AssetKey("demand_model")])
    with pytest.raises(ProvenanceError, match=rf"demand_model\[{OLD}\] was trained again after its gates .* run the job weekly for {OLD}"):
        run(home, instance, "plan", DAY, FORECAST)


def test_day_without_a_model_says_what_to_run(served: Home, instance: dg.DagsterInstance) -> None:
    """Prevents a forecast of a day by a model that knows later ones."""
    with pytest.raises(ForecastError, match=r"no model up to 2017-03-16 passed its gates, .* run the job weekly"):
        run(served, instance, "plan", "2017-03-16", [dg.AssetKey("serving_model")])


def test_daily_run_trains_only_where_no_model_serves(served: Home) -> None:
    """Prevents a training every night, and a first night that fails because there is no model."""
    assert daily_assets(served.settings, date(2017, 3, 16)) is None
    later = daily_assets(served.settings, date.fromisoformat(DAY))
    assert later is not None
    names = {key.to_user_string() for key in later}
    assert not names & set(MODEL)
    assert {*EXTRACT, "serving_model", "order_plan"} <= names
    tick = datetime(2017, 4, 11, 5, 30, tzinfo=ZoneInfo("UTC"))
    definitions = served.definitions()
    schedule = definitions.resolve_schedule_def("daily_at_0530")
    context = dg.build_schedule_context(scheduled_execution_time=tick, repository_def=definitions.get_repository_def())
    (request,) = schedule.evaluate_tick(context).run_requests or []
    assert (request.partition_key, request.asset_selection) == (DAY, later)


def test_first_daily_run_trains_gates_and_plans(quarter: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents a first night without a plan; the scores of the only model are those against baselines."""
    home = copy_of(quarter)
    assert run(home, instance, "daily", OLD).success
    assert home.frame("serving_model", OLD)["model"].to_list() == [date.fromisoformat(OLD)]
    assert set(home.frame("model_scores", OLD)["against"]) == {"baselines"}
    assert home.frame("model_gates", OLD).filter(~pl.col("passed") & pl.col("blocks")).is_empty()
