"""The section of the settings that says when a plan is due and what is kept."""

from pathlib import Path

import pytest

from invpipe.errors import SettingsError
from invpipe.settings import Settings


@pytest.mark.parametrize("value", ["00:00:00", "07:00:30", "07:00:00Z"])
def test_due_time_is_hour_and_minute_after_midnight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """Prevents a due time that the freshness policy cannot express, or a plan that is due before its day is over."""
    monkeypatch.setenv("INVPIPE_OPERATIONS__PLAN_BY", value)
    with pytest.raises(SettingsError, match="give hour and minute after midnight in the shop's time zone, 07:00:00"):
        Settings.load(tmp_path)
