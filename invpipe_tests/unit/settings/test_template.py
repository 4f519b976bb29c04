"""The commented file that `invpipe init` writes: complete, harmless, and equal to the models' defaults."""

import re
import tomllib
from pathlib import Path

import pytest

from invpipe import cli
from invpipe.errors import SettingsError
from invpipe.settings import Settings, write_settings
from invpipe.settings.template import settings_template, write_template


def uncommented(text: str) -> str:
    """The text with every default taken in; the example headers of tables that have no default stay comments."""
    lines = []
    for line in text.splitlines():
        if line.startswith("#[tables."):
            return "\n".join(lines) + "\n" + uncommented(text.partition(line)[2].partition("\n\n")[2])
        lines.append(line.removeprefix("#") if re.match(r"#\w+ = ", line) else line)
    return "\n".join(lines)


def test_untouched_file_changes_nothing(tmp_path: Path) -> None:
    """Prevents a set-up command that changes results, or writes a file nobody can read."""
    write_template(tmp_path)
    assert Settings.load(tmp_path) == Settings(home=tmp_path)


def test_defaults_of_the_file_are_the_defaults() -> None:
    """Prevents a file that says another default than the one that holds."""
    values = tomllib.loads(uncommented(settings_template()))
    assert values["sweep"]["lead_time_seeds"] == 1
    assert Settings(**values) == Settings()


def test_every_setting_stands_in_the_file_with_a_meaning() -> None:
    """Prevents a new setting or section that only readers of the code find."""
    parts = re.split(r"^\[(\w+)\]$", settings_template(), flags=re.MULTILINE)
    bodies = dict(zip(parts[1::2], parts[2::2], strict=True))
    heads = dict(zip(parts[1::2], parts[::2], strict=False))
    for name, field in Settings.model_fields.items():
        inner_names = getattr(field.annotation, "model_fields", None)
        if inner_names is None:
            assert (f"\n#{name} = " in parts[0]) == (name != "home")
            continue
        assert heads[name].splitlines()[-1].startswith("# "), f"section {name} is without a meaning"
        for inner in inner_names:
            assert re.search(rf"^#(?:{inner} = | {inner}: |\[{name}\.{inner}\])", bodies[name], re.MULTILINE), f"{name}.{inner} is absent"


def test_changed_line_takes_effect(tmp_path: Path) -> None:
    """Prevents default lines that cannot simply be uncommented."""
    file = write_template(tmp_path)
    file.write_text(file.read_text().replace("#catch_up_days = 7", "catch_up_days = 3").replace("#skus = 2000", "skus = 5"))
    assert (Settings.load(tmp_path).operations.catch_up_days, Settings.load(tmp_path).embedded.skus) == (3, 5)


def test_secrets_are_not_offered_in_the_file() -> None:
    """Prevents a file that invites to write a password into it."""
    text = settings_template()
    assert "# password: only from the environment, INVPIPE_MARIADB__PASSWORD" in text
    assert "# webhook_url: only from the environment, INVPIPE_ALERTS__WEBHOOK_URL" in text
    assert not re.search(r"^#?(password|webhook_url) =", text, re.MULTILINE)


def test_settings_are_not_overwritten(tmp_path: Path) -> None:
    """Prevents the loss of a shop's mapping by a command given twice."""
    write_settings(tmp_path, seed=4)
    with pytest.raises(SettingsError, match=r"invpipe\.toml exists and is not overwritten; edit it, or move it away first"):
        write_template(tmp_path)
    assert Settings.load(tmp_path).seed == 4


def test_file_of_the_working_directory_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents settings that stop to hold because a template was written before them."""
    (tmp_path / "invpipe.toml").write_text("seed = 4\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="holds already and the new .* would hide it"):
        write_template(tmp_path / "home")
    assert not (tmp_path / "home").exists()


def test_init_says_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a set-up command that leaves its user without the next step."""
    assert cli.main(["init", "--home", str(tmp_path)]) == 0
    assert str(tmp_path / "invpipe.toml") in capsys.readouterr().out
    assert cli.main(["init", "--home", str(tmp_path)]) == 1
    assert "is not overwritten" in capsys.readouterr().err
