"""Settings of a shop with databases: secrets, completeness, and a file that keeps its comments."""

import json
from datetime import date
from pathlib import Path

import pytest

from invpipe.errors import SettingsError
from invpipe.settings import Settings, write_settings

SHOP = """\
source = "databases"  # ours

[shop]
time_zone = "Europe/Berlin"
first_day = 2024-01-01

[mariadb]
user = "reader"

# what is sold
[tables.items]
sql = "SELECT * FROM items"

[tables.sales_daily]
sql = '''
SELECT sku, day, sales_units, revenue
FROM sales WHERE day BETWEEN :first_day AND :last_day
'''

[tables.stock_daily]
collection = "stock"
fields = { sku = "sku", on_hand_units = "left" }
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "invpipe.toml").write_text(SHOP)
    return tmp_path


def test_mapped_tables_are_read(home: Path) -> None:
    """Guards the way from the file to the readers."""
    settings = Settings.load(home)
    assert settings.shop.first_day == date(2024, 1, 1)
    assert list(settings.tables.mapped) == ["items", "sales_daily", "stock_daily"]
    assert settings.tables.sales_daily is not None
    assert ":first_day" in (settings.tables.sales_daily.sql or "")


def test_a_changed_setting_keeps_comments_and_queries(home: Path) -> None:
    """Guards an operator's file: the demo and the set-up commands write to it."""
    write_settings(home, embedded={"skus": 50}, shop={"first_day": date(2023, 1, 1)})
    text = (home / "invpipe.toml").read_text()
    assert "# ours" in text
    assert "# what is sold" in text
    assert text.replace("2023-01-01", "2024-01-01").startswith(SHOP.rstrip())
    assert Settings.load(home).embedded.skus == 50


@pytest.mark.parametrize("section", ["mariadb", "mongodb", "proposals"])
def test_a_password_in_the_file_is_refused_without_showing_it(home: Path, section: str) -> None:
    """Guards against passwords in a file that is copied, and in the message about it."""
    path = home / "invpipe.toml"
    path.write_text(
        SHOP.replace("[mariadb]\n", "[mariadb]\npassword = 's3cret'\n")
        if section == "mariadb"
        else SHOP + f"[{section}]\npassword = 's3cret'\n"
    )
    with pytest.raises(SettingsError, match=rf"{section}\.password stands in .*, and set INVPIPE_{section.upper()}__PASSWORD or") as caught:
        Settings.load(home)
    assert "s3cret" not in str(caught.value)


def test_a_password_is_read_from_the_environment_or_a_file_and_never_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the two places of a password, and every way a settings object is printed or hashed."""
    monkeypatch.setenv("INVPIPE_MARIADB__PASSWORD", "s3cret")
    (home / "mongo-password").write_text("öther\n")
    write_settings(home, mongodb={"password_file": home / "mongo-password"})
    settings = Settings.load(home)
    assert settings.mariadb.secret() == "s3cret"
    assert settings.mongodb.secret() == "öther"
    assert "s3cret" not in repr(settings) + str(settings) + settings.model_dump_json() + json.dumps(settings.model_dump(mode="json"))
    hashed = settings.settings_hash()
    monkeypatch.setenv("INVPIPE_MARIADB__PASSWORD", "another")
    monkeypatch.setenv("INVPIPE_MARIADB__HOST", "new.example")
    assert Settings.load(home).settings_hash() == hashed  # a moved server does not make years of extracts stale


def test_a_wrong_password_type_is_not_shown(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the message of a refused value."""
    monkeypatch.setenv("INVPIPE_MARIADB", '{"password": ["s3cret"]}')
    with pytest.raises(SettingsError, match=r"mariadb\.password.* is refused") as caught:
        Settings.load(home)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("first_day = 2024-01-01\n", "", "shop.first_day is missing"),
        ('time_zone = "Europe/Berlin"', 'time_zone = "Berlin"', "'Berlin' is no time zone"),
        ("[tables.items]\nsql", "[tables.vendors]\nsql", "needs the tables items; map them under"),
        ("[tables.stock_daily]", "[tables.page_views_daily]", "needs the tables orderable_daily or stock_daily"),
        ('collection = "stock"', 'collection = "stock"\nsql = "SELECT 1"', "either sql .* or collection"),
        ("fields = {", "match = { live = true } #", "collection 'stock' needs fields"),
        ('sql = "SELECT * FROM items"', 'sql = "SELECT 1"\nunwind = "x"', "belong to a collection"),
        ('user = "reader"', 'user = "reader"\nport = 0', r"mariadb\.port = 0 .* is refused"),
    ],
)
def test_an_incomplete_shop_is_refused(home: Path, before: str, after: str, message: str) -> None:
    """Guards against a nightly run that fails hours later for what the file lacks."""
    assert before in SHOP
    (home / "invpipe.toml").write_text(SHOP.replace(before, after))
    with pytest.raises(SettingsError, match=message):
        Settings.load(home)


def test_a_fiscal_year_starts_on_a_day_of_every_year() -> None:
    """Guards sums by fiscal year against a start that most years do not have."""
    with pytest.raises(ValueError, match="'02-29' is no month-day of every year"):
        Settings(report={"fiscal_year_start": "02-29"})
