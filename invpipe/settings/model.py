r"""Settings of a run: one frozen model, read from defaults, an optional ``invpipe.toml`` and the environment, in rising priority.

The file is looked for in the home directory first, then in the working directory; the first one found is the only one read. In the
environment every setting is ``INVPIPE_<NAME>``, inside a section ``INVPIPE_<SECTION>__<NAME>``; lists are written as JSON. Nothing is read
at import. A name nobody knows is an error, in the file as in the environment: a misspelt setting must not look like one that has no effect.

Limits: ``home`` cannot stand in the file, because the file is found through it; passwords cannot, because files are copied.

>>> Settings().folds.n_folds
12
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import tomlkit
from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from invpipe.errors import SettingsError
from invpipe.settings.alerts import AlertSettings, OperationSettings
from invpipe.settings.databases import (
    ExtractSettings,
    MariaDBSettings,
    MongoDBSettings,
    ProposalSettings,
    ShopSettings,
    TablesSettings,
)
from invpipe.settings.files import (
    DEFAULT_HOME,
    ENV_PREFIX,
    FILE_NAME,
    SECRETS,
    changed_text,
    find_home,
    merged,
    read_first_file,
    refuse_file_as_home,
    write_text,
)
from invpipe.settings.gates import GateSettings
from invpipe.settings.packing import PackingSettings
from invpipe.settings.sections import (
    BacktestSettings,
    EmbeddedSettings,
    FoldSettings,
    ForecastSettings,
    Fraction,
    PlanningSettings,
    ReportSettings,
    SweepSettings,
)

#: Variables of the test suite (servers to test against); they are not settings.
TEST_ENV_PREFIX = "INVPIPE_TEST_"

#: Settings no artifact depends on: where state lies, how fast and through which connection it is made, who watches.
NO_HASH = frozenset({"home", "threads", "mariadb", "mongodb", "extract", "operations", "alerts"})


class Settings(BaseSettings):
    """All settings of a run, validated and frozen.

    Parameters
    ----------
    home
        Directory of all state: runs, artifacts, tapes, models. It is part of no hash.
    source
        Where the shop's tables come from: "embedded", the shop of the demo, or "databases", your own.
    seed
        Seed of everything random after the source: training, lead-time noise.
    threads
        Folds or replays at the same time; no result depends on it, so it is part of no hash.
    quarantine_threshold_frac
        Largest share of a table's rows that may break its contract before the check of the table fails.
    embedded
        The embedded shop.
    shop, tables, mariadb, mongodb, extract, proposals
        Your own shop: its calendar, how its databases' tables are mapped, connections, how they are read, and what is written back.
    folds, forecast, planning, backtest, sweep, report
        What is computed.
    gates
        What a newly trained model has to show before it serves.
    packing
        Items and capacities of the packing assets.
    operations, alerts
        When a plan is due, what is caught up and kept, and who is told what failed.

    Notes
    -----
    ``Settings()`` takes arguments, then the environment, then defaults; `load` reads the file as well and is what programs use.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter="__", env_ignore_empty=True)

    home: Path = DEFAULT_HOME
    source: Literal["embedded", "databases"] = "embedded"
    seed: int = Field(default=0, ge=0)
    threads: int = Field(default=2, ge=1)
    quarantine_threshold_frac: Fraction = 0.01
    embedded: EmbeddedSettings = EmbeddedSettings()
    shop: ShopSettings = ShopSettings()
    tables: TablesSettings = TablesSettings()
    mariadb: MariaDBSettings = MariaDBSettings()
    mongodb: MongoDBSettings = MongoDBSettings()
    extract: ExtractSettings = ExtractSettings()
    proposals: ProposalSettings = ProposalSettings()
    folds: FoldSettings = FoldSettings()
    forecast: ForecastSettings = ForecastSettings()
    gates: GateSettings = GateSettings()
    planning: PlanningSettings = PlanningSettings()
    backtest: BacktestSettings = BacktestSettings()
    sweep: SweepSettings = SweepSettings()
    report: ReportSettings = ReportSettings()
    packing: PackingSettings = PackingSettings()
    operations: OperationSettings = OperationSettings()
    alerts: AlertSettings = AlertSettings()

    @model_validator(mode="after")
    def _tables_are_mapped(self) -> Self:
        if self.source == "databases":
            self.shop.must_be_complete()
            self.tables.must_be_complete()
        return self

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
        refuse_file_as_home(home_path)
        file, from_file = read_first_file(home_path)
        try:
            from_environment = EnvSettingsSource(cls)()
        except ValueError as error:  # a list that is no JSON
            msg = f"the environment ({ENV_PREFIX}*) cannot be read: {error}; write lists and whole sections as JSON"
            raise SettingsError(msg) from error
        try:
            return cls(**merged(merged(from_file, from_environment), {"home": home_path}))
        except ValidationError as error:
            raise SettingsError(_explain(error, file, from_environment)) from error

    def settings_hash(self, *names: str) -> str:
        """Return the SHA-256, in hex, of the named settings or sections; without names, of all but those of NO_HASH.

        Raises
        ------
        SettingsError
            A name is no setting.
        """
        values = self.model_dump(mode="json", exclude=set(NO_HASH))
        unknown = sorted(set(names) - set(values))
        if unknown:
            msg = f"{unknown[0]!r} is no setting an artifact can depend on; allowed: {', '.join(sorted(values))}"
            raise SettingsError(msg)
        chosen = {name: values[name] for name in (names or values)}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_settings(home: str | Path, **values: Any) -> Path:
    """Set values in the home's ``invpipe.toml``, keep the others that stand there, and return the file's path.

    The result is validated first and written in one step (temporary name, then rename).

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
    refuse_file_as_home(Path(home))
    file = Path(home) / FILE_NAME
    text = changed_text(file, values)
    try:
        Settings(**tomlkit.parse(text).unwrap())
    except ValidationError as error:
        raise SettingsError(_explain(error, file, {})) from error
    write_text(file, text)
    return file


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
        value = "(hidden)" if set(location) & set(SECRETS) else repr(_without_secrets(first["input"]))
        value = re.sub(r"://\S*@", "://(hidden)@", value)  # a login in an address
        msg = f"{name} = {value} in {origin} is refused: {first['msg']}"
    others = error.error_count() - 1
    return f"{msg} (and {others} more)" if others else msg


def _without_secrets(value: Any) -> Any:
    """Return a value to show: an error of a whole section quotes all of it."""
    if not isinstance(value, Mapping):
        return value
    return {name: "(hidden)" if name in SECRETS else _without_secrets(inner) for name, inner in value.items()}


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
