"""``invpipe.toml``: found in the home or the working directory, read whole, changed without losing its comments."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.exceptions import TOMLKitError

from invpipe.atomic import atomic_replace
from invpipe.errors import SettingsError

ENV_PREFIX = "INVPIPE_"
FILE_NAME = "invpipe.toml"
DEFAULT_HOME = Path(".invpipe")

#: Names of secrets: they stand in the environment or in a file of their own.
SECRETS = ("password", "webhook_url")


def find_home(home: str | Path | None = None) -> Path:
    """Return the directory of all state: the one given, else ``INVPIPE_HOME``, else ``.invpipe`` in the working directory."""
    return Path(home or os.environ.get(f"{ENV_PREFIX}HOME") or DEFAULT_HOME)


def refuse_file_as_home(home: Path) -> None:
    """Raise a SettingsError where the home is a file."""
    if home.exists() and not home.is_dir():
        msg = f"home {home} is a file; name a directory, which is made where it is absent"
        raise SettingsError(msg)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with the values of `over`, section by section."""
    result = dict(under)
    for name, value in over.items():
        both_sections = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = merged(result[name], value) if both_sections else value
    return result


def read_first_file(home: Path) -> tuple[Path | None, dict[str, Any]]:
    """Return the file that holds, the home's before the working directory's, and its values; None and nothing without one."""
    for file in (home / FILE_NAME, Path(FILE_NAME)):
        if file.is_file():
            return file, read_file(file)
    return None, {}


def read_file(file: Path) -> dict[str, Any]:
    """Return the values of a file.

    Raises
    ------
    SettingsError
        The file is no TOML, sets the home, or holds a secret.
    """
    values: dict[str, Any] = _document(file).unwrap()
    if "home" in values:
        msg = f"home cannot be set in {file}, which is found through it; set {ENV_PREFIX}HOME instead"
        raise SettingsError(msg)
    for section, inner in values.items():
        if isinstance(inner, Mapping) and (found := sorted(set(SECRETS) & set(inner))):
            msg = (
                f"{section}.{found[0]} stands in {file}; files are copied and committed: take it out, and set "
                f"{ENV_PREFIX}{section.upper()}__{found[0].upper()} or {section}.{found[0]}_file instead"
            )
            raise SettingsError(msg)
    return values


def changed_text(file: Path, values: Mapping[str, Any]) -> str:
    """Return the file's text with `values` set, section by section; what it does not name, comments too, stays as it is."""
    document = _document(file) if file.is_file() else tomlkit.document()
    _set(document, values)
    return tomlkit.dumps(document)


def write_text(file: Path, text: str) -> None:
    """Write a file in one step."""
    with atomic_replace(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _document(file: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(file.read_text(encoding="utf-8"))
    except (TOMLKitError, UnicodeDecodeError) as error:
        msg = f"{file} is no TOML: {error}"
        raise SettingsError(msg) from error


def _set(table: Any, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            msg = f"{name!r} cannot name a setting"
            raise SettingsError(msg)
        if value is None:
            table.pop(name, None)
        elif isinstance(value, Mapping):
            if not isinstance(table.get(name), Mapping):
                table[name] = tomlkit.table()
            _set(table[name], value)
        else:
            table[name] = plain(value)


def plain(value: Any) -> Any:
    """Return a value as TOML knows it: models as mappings, tuples as lists, paths as texts, no None inside."""
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
