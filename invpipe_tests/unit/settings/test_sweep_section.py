"""The settings of sweeps."""

import pytest
from pydantic import ValidationError

from invpipe.settings import Settings
from invpipe.settings.sections import SweepSettings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policies": []}, "give at least one value"),
        ({"policies": ["order_nothing"]}, "Input should be 'ewma_greedy'"),
        ({"policies": ["ewma_lp", "ewma_lp"]}, r"policies are \['ewma_lp', 'ewma_lp'\]; give each once"),
        ({"leftover_value_frac": [0.9, 0.8]}, "give values in rising order, none twice"),
        ({"safety_factor": [1.0, 0.5]}, "give values in rising order, none twice"),
        ({"safety_factor": [float("nan")]}, "Input should be a finite number"),
        ({"cover_days": []}, "give at least one value"),
        ({"cover_days": [-1.0]}, "Input should be greater than or equal to 0"),
        ({"exposure_frac": [0.0]}, "Input should be greater than 0"),
        ({"leftover_value_frac": [1.0]}, "Input should be less than 1"),
        ({"capital_limit_frac": [0.0]}, "Input should be greater than 0"),
        (
            {"review_period_days": [7, 14]},
            "review_period_days is swept with 'forecast_marginal', whose forecasts are for one review period",
        ),
    ],
)
def test_bad_sweep_is_refused(given: dict[str, object], message: str) -> None:
    """Prevents a sweep that fails after its first hour, because forecasts or values it needs cannot exist."""
    with pytest.raises(ValidationError, match=message):
        SweepSettings(**given)  # type: ignore[arg-type]


def test_review_periods_are_swept_without_forecasts() -> None:
    """Prevents the check from refusing what is possible."""
    swept = SweepSettings(policies=("ewma_marginal", "gamma_poisson_marginal", "ss", "base_stock"), review_period_days=(1, 7))
    assert swept.review_period_days == (1, 7)


def test_sweep_is_a_setting_artifacts_depend_on() -> None:
    """Prevents tables that stay when the settings ask for others."""
    changed = Settings(sweep=SweepSettings(lead_time_seeds=2))
    assert changed.settings_hash("sweep") != Settings().settings_hash("sweep")
