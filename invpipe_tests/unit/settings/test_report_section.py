"""The section of the settings that says how a shop's year begins and where its pages can be read."""

from pathlib import Path

import pytest

from invpipe.errors import SettingsError
from invpipe.settings import Settings


@pytest.mark.parametrize(
    "address", ["dagster.example.com", "ftp://example.com", "https://", "https:// example.com", "https://example.com/a?b=c", "javascript:x"]
)
def test_link_is_an_address_of_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Prevents links that lead nowhere, and one that runs a script in the reader's browser."""
    monkeypatch.setenv("INVPIPE_REPORT__BASE_URL", address)
    with pytest.raises(SettingsError, match=r"report\.base_url = .* in the environment \(INVPIPE_REPORT__BASE_URL\) is refused"):
        Settings.load(tmp_path)


@pytest.mark.parametrize("setting", ["REPORT__BASE_URL", "ALERTS__UI_URL"])
def test_login_in_an_address_is_refused_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """Prevents a password in every event of the pages, and in the message that refuses it."""
    monkeypatch.setenv(f"INVPIPE_{setting}", "https://alice:s3cr@t/word@example.com/reports")
    with pytest.raises(SettingsError, match=r"= 'https://\(hidden\)@example\.com/reports' in the environment") as refused:
        Settings.load(tmp_path)
    assert "s3cr" not in str(refused.value)
    assert "alice" not in str(refused.value)
