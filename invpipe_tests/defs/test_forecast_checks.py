"""What the checks of models and forecasts say."""

from datetime import date

import dagster as dg
import polars as pl
import pytest

from invpipe.defs.forecast.checks import forecast_checks, gate_result, serving_faults
from invpipe.defs.partitions import Partitions
from invpipe.settings import Settings

MODEL, DAY = date(2025, 3, 7), date(2025, 3, 9)


def gates(**passed: bool) -> pl.DataFrame:
    """Verdicts by gate on a model; the one called "warns" does not block."""
    rows = [
        {"model": MODEL, "model_hash": "h", "gate": gate, "passed": ok, "blocks": gate != "warns", "message": f"{gate}: 1, limit 0; look"}
        for gate, ok in passed.items()
    ]
    return pl.DataFrame(rows)


@pytest.mark.parametrize(
    ("verdicts", "passed", "severity", "said"),
    [
        ({"bias": True, "warns": True}, True, "WARN", "2 gates passed"),
        ({"bias": True, "warns": False}, False, "WARN", "model of 2025-03-07: warns: 1, limit 0; look"),
        (
            {"bias": False, "warns": True},
            False,
            "ERROR",
            "model of 2025-03-07: bias: 1, limit 0; look; "
            "it does not serve; the last model that passed goes on (invpipe models lists them)",
        ),
    ],
)
def test_severity_says_whether_the_model_is_held_back(verdicts: dict[str, bool], passed: bool, severity: str, said: str) -> None:
    """Prevents a warning that stops a model unnoticed, and an error for a model that serves."""
    result = gate_result(gates(**verdicts))
    assert (result.passed, result.severity.value, result.description) == (passed, severity, said)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, ""),
        ({"model_hash": "other"}, "the model of 2025-03-07 has not passed its gates as it is now; run the job weekly for 2025-03-07"),
        ({"model": date(2025, 3, 14)}, "the model of 2025-03-14 knows days after 2025-03-09"),
    ],
)
def test_model_that_may_not_serve_is_found(changed: dict[str, object], message: str) -> None:
    """Prevents a blocking check that trusts what the choice wrote: it looks at the gates themselves and at the day."""
    row = pl.DataFrame([{"day": DAY, "model": MODEL, "model_hash": "h"} | changed])
    faults = serving_faults(row, gates(bias=True, warns=False))
    assert bool(faults) == bool(message)
    assert message in "; ".join(faults)
    assert serving_faults(row, gates(bias=False))


@pytest.mark.parametrize(
    ("quantiles", "passed"),
    [({"q50": [1.0]}, True), ({"q10": [0.0], "q90": [1.0]}, True), ({"q10": [2.0], "q90": [1.0]}, False), ({"q50": [-1.0]}, False)],
)
def test_crossing_quantiles_fail_and_one_quantile_can_be_asked_for(quantiles: dict[str, list[float]], passed: bool) -> None:
    """Prevents a check that dies where the settings ask for a single quantile, and quantiles that cross."""
    check = next(check for check in forecast_checks(Partitions.of(Settings())) if "daily_quantiles" in str(check.check_key.name))
    result = check(demand_forecast={"2025-03-09": pl.DataFrame(quantiles)})
    assert isinstance(result, dg.AssetCheckResult)
    assert result.passed is passed
