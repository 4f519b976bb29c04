"""Settings of a run: one frozen model, read from defaults, an optional ``invpipe.toml`` and the environment, in rising priority.

The file is looked for in the home directory first, then in the working directory; the first one found is the only one read. In the
environment every setting is ``INVPIPE_<NAME>``, inside a section ``INVPIPE_<SECTION>__<NAME>``; lists are written as JSON. Nothing is read
at import. A name nobody knows is an error, in the file as in the environment: a misspelt setting must not look like one that has no effect.

Limits: ``home`` cannot stand in the file, because the file is found through it. There are no secrets among the settings yet.

>>> Settings().folds.n_folds
12
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from invpipe.errors import SettingsError

ENV_PREFIX = "INVPIPE_"
#: Variables of the test suite (servers to test against); they are not settings.
TEST_ENV_PREFIX = "INVPIPE_TEST_"
FILE_NAME = "invpipe.toml"
DEFAULT_HOME = Path(".invpipe")

Fraction = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddedSettings(_Section):
    """The embedded shop: real demand of Complete Journey, simulated supply.

    Parameters
    ----------
    skus
        Size of the uniform sample of SKUs; 0 keeps all of them.
    seed
        Seed of the sample and of the simulated supply (vendors, offers, page views, stock policy).
    """

    skus: int = Field(default=2000, ge=0)
    seed: int = Field(default=0, ge=0)


class FoldSettings(_Section):
    """Walk-forward folds.

    Parameters
    ----------
    horizon_days
        Days of a fold's test slab, counted from the day after its cutoff.
    step_days
        Days between two cutoffs.
    n_folds
        How many folds, the last one ending on the last day of the history.
    """

    horizon_days: Days = 28
    step_days: Days = 14
    n_folds: int = Field(default=12, ge=1)


class ForecastSettings(_Section):
    """The demand forecast.

    Parameters
    ----------
    window_days
        Lengths of the windows (days 1..n after the cutoff) whose demand is predicted and scored, rising.
    daily_days
        Days for which daily quantiles are predicted.
    taus
        Quantile levels of the daily boosters, rising, inside (0, 1).
    refit_days
        Days between two trainings of a backtest's forecasts; between them the boosters stay and the features move on.
    """

    window_days: tuple[Days, ...] = (7, 14, 28)
    daily_days: Days = 60
    taus: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.1, 0.5, 0.9)
    refit_days: Days = 28

    @field_validator("window_days", "taus")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not values or list(values) != sorted(set(values)):
            msg = "give at least one value, in rising order, none twice"
            raise ValueError(msg)
        return values


class BacktestWindow(_Section):
    """A named span of days, both ends inclusive, that a backtest replays.

    Parameters
    ----------
    name
        Partition key: letters, digits, ``-``, ``_`` and ``.``.
    start, end
        First and last day of the replay; the warm-up is its beginning.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    start: date
    end: date

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end <= self.start:
            msg = f"window {self.name!r} ends on {self.end}, not after its start {self.start}"
            raise ValueError(msg)
        return self


class PlanningSettings(_Section):
    """How orders are planned, today and in every backtest.

    Parameters
    ----------
    method
        Allocation method of the daily plan: "exact", "lp" or "greedy".
    capital_limit
        Working capital tied up in stock and open orders at most, money; without it `capital_limit_frac` decides.
    capital_limit_frac
        Working capital as a share of the value at cost of the stock on hand (on the plan's day, or when a backtest starts).
    review_period_days
        Days between two decisions.
    holding_cost_frac_per_year
        Cost of holding a unit for a year as a share of its cost.
    inbound_cost_per_line
        Cost of receiving one order line, money.
    leftover_value_frac
        What a unit left over at the end of the protection window is worth as a share of its cost, 0 to below 1.
    """

    method: Literal["exact", "lp", "greedy"] = "exact"
    capital_limit: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    capital_limit_frac: float = Field(default=1.25, gt=0, allow_inf_nan=False)
    review_period_days: Days = 7
    holding_cost_frac_per_year: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    inbound_cost_per_line: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    leftover_value_frac: float = Field(default=0.9, ge=0, lt=1)


class BacktestSettings(_Section):
    """Replays of the past.

    Parameters
    ----------
    windows
        Spans to replay, with different names.
    warm_up_days
        Days at the beginning of a window that no KPI counts.
    lead_time_seeds
        How many seeds of lead-time noise each policy is replayed with.
    liquidation_frac
        Share of its cost that a unit left over at the end is worth in the headline profit.
    """

    windows: tuple[BacktestWindow, ...] = (BacktestWindow(name="2017-h2", start=date(2017, 7, 2), end=date(2017, 12, 31)),)
    warm_up_days: int = Field(default=28, ge=0)
    lead_time_seeds: int = Field(default=3, ge=1)
    liquidation_frac: Fraction = 0.5

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        names = [window.name for window in self.windows]
        if not names or len(set(names)) < len(names):
            msg = f"windows need at least one name, none twice; got {names}"
            raise ValueError(msg)
        for window in self.windows:
            days = (window.end - window.start).days + 1
            if days <= self.warm_up_days:
                msg = f"window {window.name!r} has {days} days, warm_up_days is {self.warm_up_days}: no day is left to score"
                raise ValueError(msg)
        return self


class Settings(BaseSettings):
    """All settings of a run, validated and frozen.

    Parameters
    ----------
    home
        Directory of all state: runs, artifacts, tapes, models. It is part of no hash.
    source
        Where the shop's tables come from.
    seed
        Seed of everything random after the source: training, lead-time noise.
    threads
        Folds or replays at the same time; no result depends on it, so it is part of no hash.
    quarantine_threshold_frac
        Largest share of a table's rows that may break its contract before the check of the table fails.
    embedded, folds, forecast, planning, backtest
        Sections, see their classes.

    Notes
    -----
    ``Settings()`` takes arguments, then the environment, then defaults; `load` reads the file as well and is what programs use.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True)

    home: Path = DEFAULT_HOME
    source: Literal["embedded"] = "embedded"
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)
    quarantine_threshold_frac: Fraction = 0.01
    embedded: EmbeddedSettings = EmbeddedSettings()
    folds: FoldSettings = FoldSettings()
    forecast: ForecastSettings = ForecastSettings()
    planning: PlanningSettings = PlanningSettings()
    backtest: BacktestSettings = BacktestSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment; neither ``.env`` nor secret files."""
        return init_settings, env_settings

    @classmethod
    def load(cls, home: str | Path | None = None) -> Settings:
        """Read the settings that hold here and now.

        Parameters
        ----------
        home
            Directory of all state; without it ``INVPIPE_HOME``, else ``.invpipe`` in the working directory.

        Raises
        ------
        SettingsError
            A name is unknown, a value is out of its bounds, or the file is no TOML. The message names the setting, where it was
            read and which names are allowed.
        """
        _refuse_unknown_variables(cls)
        home_path = find_home(home)
        _refuse_file_as_home(home_path)
        file, from_file = _read_first_file(home_path)
        try:
            from_environment = EnvSettingsSource(cls)()
        except ValueError as error:  # a list that is no JSON
            msg = f"the environment ({ENV_PREFIX}*) cannot be read: {error}; write lists and whole sections as JSON"
            raise SettingsError(msg) from error
        try:
            return cls(**_merged(_merged(from_file, from_environment), {"home": home_path}))
        except ValidationError as error:
            raise SettingsError(_explain(error, file, from_environment)) from error

    def settings_hash(self, *names: str) -> str:
        """Return the SHA-256, in hex, of the named settings or sections; without names, of all but ``home`` and ``threads``.

        Raises
        ------
        SettingsError
            A name is no setting.
        """
        values = self.model_dump(mode="json", exclude={"home", "threads"})
        unknown = sorted(set(names) - set(values))
        if unknown:
            msg = f"{unknown[0]!r} is no setting an artifact can depend on; allowed: {', '.join(sorted(values))}"
            raise SettingsError(msg)
        chosen = {name: values[name] for name in (names or values)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def find_home(home: str | Path | None = None) -> Path:
    """Return the directory of all state: the one given, else ``INVPIPE_HOME``, else ``.invpipe`` in the working directory."""
    return Path(home or os.environ.get(f"{ENV_PREFIX}HOME") or DEFAULT_HOME)


def write_settings(home: str | Path, **values: Any) -> Path:
    """Set values in the home's ``invpipe.toml``, keep the others that stand there, and return the file's path.

    The result is validated first and written in one step (temporary name, then rename); comments of an old file are lost.

    Parameters
    ----------
    home
        Directory of all state, made if absent.
    values
        Settings by name; a section is a mapping, of which only the given names change: ``embedded={"skus": 500}``.

    Raises
    ------
    SettingsError
        The file would not be valid.
    """
    _refuse_file_as_home(Path(home))
    file = Path(home) / FILE_NAME
    wanted = _merged(_read_file(file) if file.is_file() else {}, values)
    try:
        Settings(**wanted)
    except ValidationError as error:
        raise SettingsError(_explain(error, file, {})) from error
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(_toml(wanted), encoding="utf-8")
    temporary.replace(file)
    return file


def _refuse_file_as_home(home: Path) -> None:
    if home.exists() and not home.is_dir():
        msg = f"home {home} is a file; name a directory, which is made where it is absent"
        raise SettingsError(msg)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`under` with the values of `over`, section by section."""
    result = dict(under)
    for name, value in over.items():
        both_sections = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = _merged(result[name], value) if both_sections else value
    return result


def _read_first_file(home: Path) -> tuple[Path | None, dict[str, Any]]:
    for file in (home / FILE_NAME, Path(FILE_NAME)):
        if file.is_file():
            return file, _read_file(file)
    return None, {}


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{file} is no TOML: {error}"
        raise SettingsError(msg) from error
    if "home" in values:
        msg = f"home cannot be set in {file}, which is found through it; set {ENV_PREFIX}HOME instead"
        raise SettingsError(msg)
    return values


def _refuse_unknown_variables(model: type[Settings]) -> None:
    for variable in sorted(os.environ):
        if not variable.startswith(ENV_PREFIX) or variable.startswith(TEST_ENV_PREFIX):
            continue
        section = variable.removeprefix(ENV_PREFIX).lower().partition("__")[0]
        if section not in model.model_fields:
            names = ", ".join(f"{ENV_PREFIX}{name.upper()}" for name in model.model_fields)
            msg = (
                f"the environment sets {variable}, which is no setting; allowed: {names} (inside a section: {ENV_PREFIX}<SECTION>__<NAME>)"
            )
            raise SettingsError(msg)


def _explain(error: ValidationError, file: Path | None, from_environment: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    location = [part for part in first["loc"] if isinstance(part, str)]
    variable = _variable_of(first["loc"], from_environment)
    origin = f"the environment ({variable})" if variable else str(file or "an argument")
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        msg = f"{name} in {origin} is no setting; allowed there: {', '.join(_names_beside(location))}"
    else:
        msg = f"{name} = {first['input']!r} in {origin} is refused: {first['msg']}"
    others = error.error_count() - 1
    return f"{msg} (and {others} more)" if others else msg


def _variable_of(location: tuple[int | str, ...], from_environment: Mapping[str, Any]) -> str | None:
    """Name of the environment variable that set the value at `location`, if one did."""
    names: list[str] = []
    inner: Any = from_environment
    for part in location:
        if not isinstance(inner, Mapping):  # inside the JSON of a list
            break
        if part not in inner:
            return None
        names.append(str(part))
        inner = inner[part]
    return ENV_PREFIX + "__".join(names).upper()


def _names_beside(location: list[str]) -> list[str]:
    """Names allowed where the last part of `location` stands."""
    model: type[BaseModel] = Settings
    for part in location[:-1]:
        annotation = model.model_fields[part].annotation
        kinds = (annotation, *getattr(annotation, "__args__", ()))
        model = next(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel))
    return sorted(model.model_fields)


def _toml(values: Mapping[str, Any]) -> str:
    """TOML text of nested mappings of the kinds settings are made of."""
    plain = [f"{name} = {_toml_value(value)}\n" for name, value in values.items() if value is not None and not isinstance(value, Mapping)]
    sections = [f"\n[{name}]\n{_toml(value)}" for name, value in values.items() if isinstance(value, Mapping)]
    return "".join([*plain, *sections])


def _toml_value(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, bool | int | float):
        return json.dumps(value) if isinstance(value, bool) else repr(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str | Path):
        return json.dumps(str(value), ensure_ascii=False)
    if isinstance(value, Mapping):
        if bad := [name for name in value if not re.fullmatch(r"[A-Za-z0-9_-]+", name)]:
            msg = f"{bad[0]!r} cannot name a setting"
            raise SettingsError(msg)
        return "{ " + ", ".join(f"{name} = {_toml_value(inner)}" for name, inner in value.items() if inner is not None) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(inner) for inner in value) + "]"
    msg = f"{value!r} ({type(value).__name__}) cannot be written to {FILE_NAME}"
    raise SettingsError(msg)
