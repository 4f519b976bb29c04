"""Parameters out of their bounds are refused with the bound."""

import re

import pytest
from pydantic import ValidationError

from invpipe.forecast import ForecastParams


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tweedie_power": 2.0}, "tweedie_power\n  Input should be less than 2"),
        ({"rounds": 0}, "rounds\n  Input should be greater than or equal to 1"),
        ({"learning_rate": 0.0}, "learning_rate\n  Input should be greater than 0"),
        ({"window_days": ()}, "window_days\n  Tuple should have at least 1 item"),
        ({"window_days": (7, 367)}, "window_days.1\n  Input should be less than or equal to 366"),
        ({"daily_taus": (0.1, 90)}, "daily_taus.1\n  Input should be less than 1"),
        ({"daily_taus": (0.9, 0.9)}, "quantiles (0.9, 0.9) have columns ['q90', 'q90']; give taus that differ in whole percents"),
        ({"daily_taus": (0.101, 0.104)}, "quantiles (0.101, 0.104) have columns ['q10', 'q10']"),
        ({"treads": 2}, "treads\n  Extra inputs are not permitted"),
    ],
)
def test_wrong_parameter_is_refused(changes: dict[str, object], message: str) -> None:
    """Prevents a misspelt or impossible setting from being ignored, and two quantiles from sharing a column."""
    with pytest.raises(ValidationError, match=re.escape(message)):
        ForecastParams(**changes)


def test_parameters_are_frozen() -> None:
    """Prevents parameters that change after the provenance record was written."""
    with pytest.raises(ValidationError, match="Instance is frozen"):
        ForecastParams().rounds = 3  # type: ignore[misc]
