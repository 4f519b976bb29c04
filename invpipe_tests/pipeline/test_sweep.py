"""The sweep assets and the command `invpipe sweep` on the demo's home: what they hold, and that a second run replays nothing."""

from collections.abc import Callable

import dagster as dg
import polars as pl
import pytest

from invpipe import cli
from invpipe.defs.jobs import IN_PROCESS
from invpipe.defs.sweep.assets import store_of
from invpipe.settings import write_settings
from invpipe_tests.pipeline.conftest import WINDOW, Home
from invpipe_tests.pipeline.test_shown import wrong

NAMES = ("policy_sweep", "lambda_frontier")


def sweep(home: Home, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Materialise the sweep assets of the window from what lies in the home."""
    job = dg.define_asset_job("sweep_again", dg.AssetSelection.assets(*NAMES), executor_def=IN_PROCESS)
    definitions = dg.Definitions.merge(home.definitions(), dg.Definitions(jobs=[job]))
    return definitions.resolve_job_def(job.name).execute_in_process(partition_key=WINDOW.name, instance=instance)


def test_sweep_and_frontier_of_a_window(demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance) -> None:
    """Prevents assets that do not try what the settings say, artifacts that differ from run to run, and replaying what is there."""
    home = copy_of(demo)
    write_settings(
        home.path,
        sweep={
            "policies": ["ewma_greedy", "forecast_marginal", "gamma_poisson_marginal", "ss", "base_stock"],
            "leftover_value_frac": [0.8, 0.9],
            "safety_factor": [1.0],
            "cover_days": [7.0, 14.0],
            "stockout_penalty_frac": [0.25, 1.0],
            "capital_limit_frac": [1.0, 1.5],
        },
    )
    assert sweep(home, instance).success
    tables = {name: home.frame(name, WINDOW.name) for name in NAMES}
    columns = ("policy", "leftover_value_frac", "exposure_frac", "safety_factor", "cover_days", "review_period_days")
    assert tables["policy_sweep"].select(columns).rows() == [
        *((policy, frac, None, None, None, 7) for policy in ("ewma_greedy", "forecast_marginal") for frac in (0.8, 0.9)),
        *(("gamma_poisson_marginal", frac, 1.0, None, None, 7) for frac in (0.8, 0.9)),
        *(("ss", None, None, 1.0, days, 7) for days in (7.0, 14.0)),
        ("base_stock", None, None, 1.0, None, 7),
    ]
    frontier = tables["lambda_frontier"]
    assert frontier["stockout_penalty_frac"].to_list() == [None, None, 0.25, 0.25, 1.0, 1.0]
    assert frontier["capital_limit"].n_unique() == 2
    assert wrong({name: table.columns for name, table in tables.items()}, NAMES) == []
    assert frontier["efficient"].any()
    ablation = demo.frame("ablation", WINDOW.name)
    # two seeds there, one here: near, but not the same
    one = tables["policy_sweep"].row(by_predicate=(pl.col("policy") == "ewma_greedy") & (pl.col("leftover_value_frac") == 0.9), named=True)
    assert abs(one["profit"] / ablation.row(by_predicate=pl.col("policy") == "ewma_greedy", named=True)["profit"] - 1.0) < 0.5
    runs = sorted((store_of(home.settings) / "runs").iterdir())
    assert len(runs) == 9 + 6
    times = [run.stat().st_mtime_ns for run in runs]
    assert sweep(home, instance).success
    assert [run.stat().st_mtime_ns for run in sorted((store_of(home.settings) / "runs").iterdir())] == times
    assert all(home.frame(name, WINDOW.name).equals(tables[name]) for name in NAMES)


def test_command_sweeps_a_recorded_tape(
    demo: Home, copy_of: Callable[[Home], Home], instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a command with other runs than the assets', a table without the best, and trials made twice or kept from going on."""
    home = copy_of(demo)
    write_settings(home.path, sweep={"policies": ["ss", "forecast_greedy"], "safety_factor": [0.0, 1.0], "cover_days": [7.0]})
    call = ["sweep", "--home", str(home.path), "--window", WINDOW.name]
    runs = store_of(home.settings) / "runs"
    assert sweep(home, instance).success
    made = set(runs.iterdir())
    assert cli.main([*call, "--rows", "2"]) == 0
    printed = capsys.readouterr().out
    assert set(runs.iterdir()) == made  # the assets' runs
    assert printed.startswith(f"Best 2 of 5 variants on {WINDOW.name}, profit as mean over 1 seeds of lead times\n")
    best = home.frame("policy_sweep", WINDOW.name)["profit"].max()
    assert isinstance(best, float)
    assert f"{best:,.0f}" in printed
    assert cli.main([*call, "--trials", "2"]) == 0
    assert "Best 4 of 4 variants" in capsys.readouterr().out
    made = set(runs.iterdir())
    assert cli.main([*call, "--trials", "3"]) == 0
    assert "Best 6 of 6 variants" in capsys.readouterr().out
    assert len(set(runs.iterdir()) - made) <= 2  # one more trial per policy
