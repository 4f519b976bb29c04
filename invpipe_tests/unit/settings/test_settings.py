"""Settings: where values come from, what is refused, and what a hash depends on."""

from datetime import date
from pathlib import Path

import pytest

from invpipe.errors import SettingsError
from invpipe.settings import BacktestWindow, Settings, write_settings


@pytest.fixture(autouse=True)
def bare_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working directory and no INVPIPE_ variable."""
    import os

    for name in os.environ:
        if name.startswith("INVPIPE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_file_under_environment_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the order of priority: a value of one section's file entry must survive an environment variable for its neighbour."""
    Path("invpipe.toml").write_text("seed = 5\n[folds]\nn_folds = 3\nstep_days = 7\n")
    monkeypatch.setenv("INVPIPE_FOLDS__N_FOLDS", "4")
    settings = Settings.load()
    assert (settings.seed, settings.folds.n_folds, settings.folds.step_days, settings.folds.horizon_days) == (5, 4, 7, 28)


def test_home_file_hides_working_directory_file(tmp_path: Path) -> None:
    """Guards against half of each file being in force."""
    Path("invpipe.toml").write_text("seed = 5\nquarantine_threshold_frac = 0.5\n")
    home = tmp_path / "home"
    write_settings(home, seed=7)
    settings = Settings.load(home)
    assert (settings.home, settings.seed, settings.quarantine_threshold_frac) == (home, 7, 0.01)


def test_home_comes_from_argument_then_environment_then_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against state landing somewhere the user did not name."""
    assert Settings.load().home == Path(".invpipe")
    monkeypatch.setenv("INVPIPE_HOME", "elsewhere")
    assert Settings.load().home == Path("elsewhere")
    assert Settings.load("here").home == Path("here")


def test_test_variables_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards the integration tests' server addresses against being refused as unknown settings."""
    monkeypatch.setenv("INVPIPE_TEST_MONGO_URI", "mongodb://localhost")
    assert Settings.load().seed == 0


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("INVPIPE_SEDE", "1", r"sets INVPIPE_SEDE, which is no setting; allowed: INVPIPE_HOME, .*INVPIPE_BACKTEST"),
        ("INVPIPE_FOLD__N_FOLDS", "1", "sets INVPIPE_FOLD__N_FOLDS, which is no setting"),
        (
            "INVPIPE_FOLDS__N_FOLD",
            "1",
            r"folds\.n_fold in the environment \(INVPIPE_FOLDS__N_FOLD\) is no setting; allowed there: horizon_days, n_folds, step_days",
        ),
        ("INVPIPE_FOLDS__N_FOLDS", "0", r"folds\.n_folds = '0' in the environment \(INVPIPE_FOLDS__N_FOLDS\) is refused: .*greater than"),
        ("INVPIPE_FOLDS__N_FOLDS", "many", r"folds\.n_folds = 'many' .* is refused: .*integer"),
        ("INVPIPE_BACKTEST__WINDOWS", "2017", r"backtest\.windows = 2017 in the environment"),
        ("INVPIPE_BACKTEST__WINDOWS", "[{", r"environment \(INVPIPE_\*\) cannot be read: .*backtest.*as JSON"),
        ("INVPIPE_PLANNING__CAPITAL_LIMIT", "inf", r"planning\.capital_limit = 'inf' .* is refused: .*finite"),
        (
            "INVPIPE_PLANNING__METHOD",
            "magic",
            r"planning\.method = 'magic' .* is refused: .*'auto', 'exact', 'lp', 'mip', 'lagrangian' or 'greedy'",
        ),
        ("INVPIPE_PLANNING__LEFTOVER_VALUE_FRAC", "1.0", r"planning\.leftover_value_frac = '1\.0' .* is refused: .*less than 1"),
        ("INVPIPE_THREADS", "0", r"threads = '0' .* is refused: .*greater than or equal to 1"),
        ("INVPIPE_BACKTEST__WARM_UP_DAYS", "183", r"window '2017-h2' has 183 days, warm_up_days is 183: no day is left"),
        ("INVPIPE_SOURCE", "oracle", r"source = 'oracle' .* is refused: .*'embedded'"),
        ("INVPIPE_QUARANTINE_THRESHOLD_FRAC", "5", r"quarantine_threshold_frac = '5' .* is refused: .*less than or equal to 1"),
        ("INVPIPE_FORECAST__TAUS", "[0.9, 0.1]", r"forecast\.taus = .* in rising order"),
    ],
)
def test_wrong_variables_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    """Guards against a misspelt or impossible setting that silently has no effect."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=message):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sead = 1", r"sead in .*invpipe\.toml is no setting; allowed there: alerts, backtest, embedded, .*seed"),
        (
            "[[backtest.windows]]\nname = 'a'\nstart = 2017-01-01\nend = 2017-06-01\nfirst = 3",
            r"backtest\.windows\.0\.first in .*invpipe\.toml is no setting; allowed there: end, name, start",
        ),
        ("[[backtest.windows]]\nname = 'a/b'\nstart = 2017-01-01\nend = 2017-06-01", r"windows\.0\.name = 'a/b' .* is refused"),
        ("[[backtest.windows]]\nname = 'a'\nstart = 2017-06-01\nend = 2017-06-01", "'a' ends on 2017-06-01, not after its start"),
        ("home = 'x'", r"home cannot be set in .*invpipe\.toml.*INVPIPE_HOME"),
        ("seed = = 1", r"invpipe\.toml is no TOML"),
    ],
)
def test_wrong_files_are_refused_by_name(text: str, message: str) -> None:
    """Guards the same for the file: the message must say which name in which file."""
    Path("invpipe.toml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        Settings.load()


def test_write_settings_keeps_what_it_does_not_set(tmp_path: Path) -> None:
    """Guards the round trip, and that setting one name of a section does not reset its neighbours."""
    window = BacktestWindow(name="spring", start=date(2017, 3, 1), end=date(2017, 6, 1))
    write_settings(tmp_path, embedded={"skus": 500, "seed": 3}, backtest={"windows": [window]}, planning={"capital_limit": 1e5})
    file = write_settings(tmp_path, embedded={"skus": 60}, forecast={"taus": (0.25, 0.75)}, planning={"method": "lp"})
    settings = Settings.load(tmp_path)
    assert file == tmp_path / "invpipe.toml"
    assert (settings.embedded.skus, settings.embedded.seed, settings.forecast.taus) == (60, 3, (0.25, 0.75))
    assert (settings.backtest.windows, settings.planning.capital_limit, settings.planning.method) == ((window,), 1e5, "lp")


def test_write_settings_leaves_the_old_file_when_the_new_one_would_be_wrong(tmp_path: Path) -> None:
    """Guards against a file that the next start refuses."""
    file = write_settings(tmp_path, seed=3)
    with pytest.raises(SettingsError, match=r"embedded\.skus = -1 in .*invpipe\.toml is refused"):
        write_settings(tmp_path, embedded={"skus": -1})
    assert file.read_text() == "seed = 3\n"
    assert [path.name for path in tmp_path.iterdir()] == ["invpipe.toml"]


def test_hash_depends_on_the_named_sections_only() -> None:
    """Guards re-use: a changed review period must not make every model stale, a changed home or thread count nothing at all."""
    plain, moved, other = Settings(), Settings(home=Path("x"), threads=7), Settings(planning={"review_period_days": 14})
    assert plain.settings_hash() == moved.settings_hash() != other.settings_hash()
    assert plain.settings_hash("embedded", "seed") == other.settings_hash("seed", "embedded")
    assert plain.settings_hash("planning") != other.settings_hash("planning")
    for name in ("home", "threads"):
        with pytest.raises(SettingsError, match=f"'{name}' is no setting an artifact can depend on; allowed: backtest, .*seed"):
            plain.settings_hash(name)


def test_settings_are_frozen() -> None:
    """Guards against a run that changes its own settings after their hash was taken."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().seed = 4  # type: ignore[misc]


def test_a_file_as_home_is_refused_by_name(tmp_path: Path) -> None:
    """Prevents a traceback from mkdir where --home names a file."""
    file = tmp_path / "home"
    file.write_text("")
    for call in (lambda: Settings.load(file), lambda: write_settings(file, seed=1)):
        with pytest.raises(SettingsError, match=r"is a file; name a directory"):
            call()
