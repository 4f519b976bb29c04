"""Checks of models and forecasts.

A candidate that fails a gate makes its check red and never serves; the check does not stop the run, because the last good model goes on.
What blocks is a day served by a model that may not serve it, and quantiles that cross.
"""

from collections.abc import Mapping
from itertools import pairwise

import dagster as dg
import polars as pl

from invpipe.defs.common import ShopSettings
from invpipe.defs.forecast.registry import ModelRegistry
from invpipe.defs.partitions import Partitions
from invpipe.forecast.registry import verdicts
from invpipe.report.tables import markdown


def forecast_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the forecast room."""

    @dg.asset_check(asset="model_gates", partitions_def=partitions.day)
    def candidate_passes_its_gates(model_gates: dict[str, pl.DataFrame]) -> dg.AssetCheckResult:
        """Hold a trained model against its gates; where one fails the model never serves, and the message says what to do."""
        return gate_result(pl.concat(model_gates.values()))

    @dg.asset_check(asset="serving_model", blocking=True, partitions_def=partitions.day)
    def model_may_serve_its_day(serving_model: dict[str, pl.DataFrame], settings: ShopSettings) -> dg.AssetCheckResult:
        """Check that the model was trained at or before the day, and that its gates, as they lie there now, are passed."""
        gates = ModelRegistry(settings.get()).gates()
        wrong = [fault for row in serving_model.values() for fault in serving_faults(row, gates)]
        return dg.AssetCheckResult(passed=not wrong, description="; ".join(wrong) or "passed its gates, knows nothing after the day")

    @dg.asset_check(asset="serving_model", partitions_def=partitions.day)
    def newest_model_serves(serving_model: dict[str, pl.DataFrame]) -> dg.AssetCheckResult:
        """Say when a newer model failed its gates and an older one goes on, and which gates."""
        rows = pl.concat(serving_model.values()).filter(pl.col("held_back") != "")
        text = " | ".join(f"{row['held_back']}. The model of {row['model']} serves {row['day']}" for row in rows.iter_rows(named=True))
        return dg.AssetCheckResult(passed=rows.is_empty(), severity=dg.AssetCheckSeverity.WARN, description=text or "no newer model failed")

    @dg.asset_check(asset="demand_forecast", blocking=True, partitions_def=partitions.day)
    def daily_quantiles_do_not_cross(demand_forecast: dict[str, pl.DataFrame]) -> dg.AssetCheckResult:
        """Daily quantiles rise with tau, are not negative and not null."""
        return _rising(demand_forecast)

    @dg.asset_check(asset="window_forecast", blocking=True, partitions_def=partitions.day)
    def window_quantiles_do_not_cross(window_forecast: dict[str, pl.DataFrame]) -> dg.AssetCheckResult:
        """Quantiles of the window law rise with tau, are not negative and not null."""
        return _rising(window_forecast)

    @dg.asset_check(asset="fold_summary")
    def window_law_beats_baselines(fold_summary: pl.DataFrame) -> dg.AssetCheckResult:
        """Check that the window law has the lowest mean pinball loss at .5 and .9 of all methods."""
        windows = fold_summary.filter(pl.col("target") == "window")
        best = {name: windows.sort(name)["method"][0] for name in ("pinball_50", "pinball_90")}
        passed = all(method == "window law" for method in best.values())
        return dg.AssetCheckResult(passed=passed, severity=dg.AssetCheckSeverity.WARN, metadata={f"best_{k}": v for k, v in best.items()})

    models = [candidate_passes_its_gates, model_may_serve_its_day, newest_model_serves]
    return [*models, daily_quantiles_do_not_cross, window_quantiles_do_not_cross, window_law_beats_baselines]


def gate_result(gates: pl.DataFrame) -> dg.AssetCheckResult:
    """Return the outcome of a candidate's gates, columns of `model_gates`: an error where one failed that blocks, else a warning."""
    failed = gates.filter(~pl.col("passed"))
    blocked = failed["blocks"].any()
    lines = [f"model of {row['model']}: {row['message']}" for row in failed.iter_rows(named=True)]
    if blocked:
        lines.append("it does not serve; the last model that passed goes on (invpipe models lists them)")
    return dg.AssetCheckResult(
        passed=failed.is_empty(),
        severity=dg.AssetCheckSeverity.ERROR if blocked else dg.AssetCheckSeverity.WARN,
        description="; ".join(lines) or f"{len(gates)} gates passed",
        metadata={"gates": dg.MetadataValue.md(markdown(gates.drop("model_hash")))},
    )


def serving_faults(row: pl.DataFrame, gates: pl.DataFrame) -> list[str]:
    """Return in words why the model of a row of `serving_model` may not serve its day; empty where it may."""
    found = row.row(0, named=True)
    faults = [f"the model of {found['model']} knows days after {found['day']}"] if found["model"] > found["day"] else []
    passed = verdicts(gates).filter(pl.col("passed"), model=found["model"], model_hash=found["model_hash"])
    if passed.is_empty():
        cure = f"run the job weekly for {found['model']}, or pin another model with invpipe models --serve DAY"
        faults.append(f"the model of {found['model']} has not passed its gates as it is now; {cure}")
    return faults


def _rising(days: Mapping[str, pl.DataFrame]) -> dg.AssetCheckResult:
    frame = pl.concat(days.values())
    names = sorted(name for name in frame.columns if name[0] == "q" and name[1:].isdigit())
    crossing = pl.any_horizontal(pl.lit(False), *(pl.col(high) < pl.col(low) for low, high in pairwise(names)))
    bad = pl.any_horizontal((pl.col(name).is_null() | (pl.col(name) < 0)) for name in names)
    counts = frame.select(crossing.sum().alias("crossing"), bad.sum().alias("negative_or_null")).row(0, named=True)
    return dg.AssetCheckResult(passed=not any(counts.values()), metadata={"rows": len(frame), **counts})
