"""Checks of the forecasts: quantiles never cross (blocking), and the window law beats its baselines (a warning)."""

from collections.abc import Mapping
from itertools import pairwise

import dagster as dg
import polars as pl

from invpipe.defs.partitions import Partitions


def forecast_checks(partitions: Partitions) -> list[dg.AssetChecksDefinition]:
    """Return the checks of the forecast room."""

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

    return [daily_quantiles_do_not_cross, window_quantiles_do_not_cross, window_law_beats_baselines]


def _rising(days: Mapping[str, pl.DataFrame]) -> dg.AssetCheckResult:
    frame = pl.concat(days.values())
    names = sorted(name for name in frame.columns if name[0] == "q" and name[1:].isdigit())
    crossing = pl.any_horizontal(pl.col(high) < pl.col(low) for low, high in pairwise(names))
    bad = pl.any_horizontal((pl.col(name).is_null() | (pl.col(name) < 0)) for name in names)
    counts = frame.select(crossing.sum().alias("crossing"), bad.sum().alias("negative_or_null")).row(0, named=True)
    return dg.AssetCheckResult(passed=not any(counts.values()), metadata={"rows": len(frame), **counts})
