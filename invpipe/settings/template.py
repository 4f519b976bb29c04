"""A commented ``invpipe.toml``: every section and setting with its meaning and default, read from the models, so that it cannot drift.

What is explained starts with ``# ``, a default with ``#`` alone: a file nobody has touched changes nothing, and later defaults hold in it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import tomlkit
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from invpipe.errors import SettingsError
from invpipe.settings.files import ENV_PREFIX, FILE_NAME, SECRETS, plain, refuse_file_as_home
from invpipe.settings.model import Settings

HEAD = f"""\
# Settings of invpipe. Take the # before a line away to change it; what stays commented keeps its default.
# In the environment every setting is {ENV_PREFIX}<NAME>, inside a section {ENV_PREFIX}<SECTION>__<NAME>, and goes before this file.
# Secrets do not stand here: they come from the environment, or from a file that is named here."""


def write_template(home: Path) -> Path:
    """Write the commented file into a home that has no settings, and return its path.

    Raises
    ------
    SettingsError
        There is such a file in the home, or in the working directory, which the new one would hide.
    """
    refuse_file_as_home(home)
    file = home / FILE_NAME
    if Path(FILE_NAME).is_file() and not file.exists():
        msg = f"{Path(FILE_NAME).absolute()} holds already and the new {file} would hide it; move it there, or edit it"
        raise SettingsError(msg)
    home.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(settings_template())
    except FileExistsError:
        msg = f"{file} exists and is not overwritten; edit it, or move it away first"
        raise SettingsError(msg) from None
    return file


def settings_template() -> str:
    """Return the text of a commented ``invpipe.toml`` in which every setting has its default."""
    sections = {name: kind for name in Settings.model_fields if (kind := _model_of(Settings, name)) is not None}
    parts = [HEAD, "\n".join(_lines_of(Settings, "", without={"home", *sections}))]
    for name, kind in sections.items():
        parts.append("\n".join([*_about(kind), f"[{name}]", *_lines_of(kind, name)]))
        inner = {field: table for field in kind.model_fields if (table := _model_of(kind, field)) is not None}
        for table in dict.fromkeys(inner.values()):  # what several tables share is explained once
            names = [f"{name}.{field}" for field in inner if inner[field] is table]
            parts.append("\n".join([*_about(table), *(f"#[{each}]" for each in names), *_lines_of(table, names[0])]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _model_of(model: type[BaseModel], field: str) -> type[BaseModel] | None:
    """Return the model of a field that is a section, also of one that may be absent."""
    return next(_models_in(model.model_fields[field].annotation, deep=False), None)


def _models_in(annotation: Any, *, deep: bool) -> Iterator[type[BaseModel]]:
    """Yield the models a type names; deep, also those inside its collections."""
    for kind in (annotation, *get_args(annotation)) if deep or get_origin(annotation) in {Union, UnionType} else (annotation,):
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield kind
        elif deep and kind is not annotation:
            yield from _models_in(kind, deep=True)


def _about(model: type[BaseModel]) -> Iterator[str]:
    """Yield what a section is for: the first paragraph of its docstring."""
    yield from (f"# {line}" for line in _docstring(model).split("\n\n")[0].splitlines())


def _lines_of(model: type[BaseModel], section: str, without: Collection[str] = ()) -> Iterator[str]:
    """Yield meaning and default of each setting, in the order of the docstring; several that are explained together stand together."""
    meanings = _meanings(model)
    told = ""
    for name in sorted(model.model_fields, key=[*meanings, *model.model_fields].index):
        if name in without or _model_of(model, name) is not None:
            continue
        if name in meanings and meanings[name] != told:
            told = meanings[name]
            yield from (f"# {line}" for line in told.splitlines())
        field = model.model_fields[name]
        for part in _models_in(field.annotation, deep=True):
            yield from (f"#   {key}: {' '.join(meaning.split())}" for key, meaning in _meanings(part).items())
        yield _default_line(name, section, field)


def _default_line(name: str, section: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if name in SECRETS:
        return f"# {name}: only from the environment, {ENV_PREFIX}{section.upper()}__{name.upper()}"
    if default is None or default is PydanticUndefined:
        return f"# {name}: no default"
    return f"#{name} = {_as_toml(plain(default))}"


def _as_toml(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{tomlkit.key(key).as_string()} = {_as_toml(part)}" for key, part in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_as_toml(part) for part in value)}]"
    return str(tomlkit.item(value).as_string())


def _docstring(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and of those it extends say about their settings."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel and "Parameters\n----------\n" in (text := _docstring(kind)):
            body = re.split(r"\n\n\w+\n-+\n", text.split("Parameters\n----------\n")[1])[0]
            for names, meaning in re.findall(r"^(\w[\w, ]*)\n((?: {4}.*\n?|\n)+)", body + "\n", re.MULTILINE):
                found |= dict.fromkeys(names.split(", "), inspect.cleandoc(meaning).strip())
    return found
