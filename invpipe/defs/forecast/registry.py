"""The models of a home: their gates, which served which day, and the command `invpipe models` that shows, pins and rolls back.

It reads artifacts by their records. A model is opened only when its content still is what its gates were passed with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from invpipe.defs.io import CONTENT_NAME
from invpipe.defs.provenance import ArtifactStore, check_content, cure_of, directory_hash, name_of
from invpipe.errors import ForecastError, ProvenanceError
from invpipe.forecast import DemandForecaster
from invpipe.forecast.gates import GATE_SCHEMA
from invpipe.forecast.registry import PIN_NAME, Choice, Pin, choose_model, model_before, refuse, verdicts
from invpipe.history import ShopHistory
from invpipe.settings import Settings

#: Columns of `model_gates`: which model, and the verdicts on it.
MODEL_GATES_SCHEMA = {"model": pl.Date, "model_hash": pl.String, **GATE_SCHEMA}
#: Columns of `serving_model`, one row per day.
SERVING_SCHEMA = {
    "day": pl.Date,
    "model": pl.Date,
    "model_hash": pl.String,
    "why": pl.String,
    "pinned": pl.Boolean,
    "held_back": pl.String,
    "gates": pl.String,
}
#: Word of `invpipe models --serve` that lifts the pin.
NEWEST = "newest"


class ModelRegistry:
    """Models of one home.

    Parameters
    ----------
    settings
        Settings of the home.
    """

    def __init__(self, settings: Settings) -> None:
        self.home, self.store = settings.home, ArtifactStore.of(settings)

    def gates(self) -> pl.DataFrame:
        """Return the verdicts on all models, columns MODEL_GATES_SCHEMA."""
        return self._tables("model_gates", MODEL_GATES_SCHEMA)

    def served(self) -> pl.DataFrame:
        """Return what served which day, columns SERVING_SCHEMA."""
        return self._tables("serving_model", SERVING_SCHEMA).sort("day")

    def _tables(self, asset: str, schema: Mapping[str, Any]) -> pl.DataFrame:
        files = sorted(self.store.directory_path((asset, None)).glob("[0-9]*.parquet"))
        return pl.concat([pl.DataFrame(schema=schema), *(pl.read_parquet(file) for file in files)])

    def choose(self, day: date, gates: pl.DataFrame | None = None) -> Choice | None:
        """Return the model that serves a day, None where none may; see `choose_model`.

        Parameters
        ----------
        day
            Day whose end the forecast is made at.
        gates
            Verdicts to choose by; all of the home where None.
        """
        return choose_model(day, self.gates() if gates is None else gates, Pin.open(self.home))

    def open(self, model: date, model_hash: str, history: ShopHistory, cutoff: date) -> DemandForecaster:
        """Return a model that looks at the history as known at the end of a day.

        Raises
        ------
        ProvenanceError
            Where the model is gone, damaged, or another one than was gated.
        ForecastError
            Where the model knows SKUs by their place in a catalogue that changed since.
        """
        artifact = ("demand_model", model.isoformat())
        record, path = self.store.record(artifact), self.store.directory_path(artifact)
        if record is None:
            msg = f"the artifact {name_of(artifact)}, which passed its gates, is gone ({path}); {cure_of(artifact)}"
            raise ProvenanceError(msg)
        if record.content_hash != model_hash:
            msg = (
                f"the artifact {name_of(artifact)} was trained again after its gates ({model_hash[:12]} -> {record.content_hash[:12]}); "
                f"run the job weekly for {model}, then plan again"
            )
            raise ProvenanceError(msg)
        check_content(record, directory_hash(path), path)
        return DemandForecaster.open(path / CONTENT_NAME, history, cutoff)


def serving_row(day: date, choice: Choice | None, gates: pl.DataFrame) -> pl.DataFrame:
    """Return the row of `serving_model` of a day; `gates` are the verdicts up to it, which say why where no model may serve.

    Raises
    ------
    ForecastError
        Where no model may serve.
    """
    if choice is None:
        newest = verdicts(gates).tail(1)["failed"]
        why = f"the newest one failed {newest.item()}" if len(newest) else "none was trained up to then"
        msg = (
            f"no model up to {day} passed its gates, nothing can be forecast: {why}; read the gates with invpipe models, then run the job "
            "weekly or change the limits in [gates]"
        )
        raise ForecastError(msg)
    values = {"day": day, **{name: getattr(choice, name) for name in SERVING_SCHEMA if name != "day"}}
    return pl.DataFrame([values], schema=SERVING_SCHEMA)


def models_command(settings: Settings, serve: str | None, *, roll_back: bool, say: Callable[[str], object]) -> None:
    """Pin a model, lift the pin or roll back where asked for, then say every model, its gates and the days it served.

    Parameters
    ----------
    settings
        Settings of the home.
    serve
        Cutoff of the model to pin, ISO day; "newest" lifts the pin.
    roll_back
        Pin the model before the one that serves now.
    say
        Told every line.

    Raises
    ------
    ForecastError
        Where the model asked for cannot serve, or there is none to roll back to.
    """
    registry = ModelRegistry(settings)
    gates = registry.gates()
    if serve == NEWEST:
        (registry.home / PIN_NAME).unlink(missing_ok=True)
    elif serve is not None or roll_back:
        model = _previous(registry, gates) if serve is None else _day(serve)
        refuse(model, gates)
        Pin(model.isoformat(), datetime.now(UTC).date().isoformat()).save(registry.home)
    for line in _listing(registry, gates):
        say(line)


def _previous(registry: ModelRegistry, gates: pl.DataFrame) -> date:
    now = registry.choose(date.max, gates)
    if now is None:
        msg = "no model serves, there is nothing to roll back; run the job weekly"
        raise ForecastError(msg)
    return model_before(now.model, gates)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is no model; give its cutoff as YYYY-MM-DD, or {NEWEST!r} to lift the pin"
        raise ForecastError(msg) from error


def _listing(registry: ModelRegistry, gates: pl.DataFrame) -> list[str]:
    models, served = verdicts(gates), registry.served()
    if models.is_empty():
        return [f"no model in {registry.home} yet; the job weekly, or the first daily run, trains one"]
    choice, pin = registry.choose(date.max, gates), Pin.open(registry.home)
    lines = []
    for row in models.iter_rows(named=True):
        days = served.filter(pl.col("model") == row["model"])["day"]
        span = f"served {len(days)} days, {days[0]} .. {days[-1]}" if len(days) else "served no day"
        mark = "  <- serves from now on" if choice is not None and choice.model == row["model"] else ""
        lines.append(f"{row['model']}  {'passed' if row['passed'] else 'FAILED'}  {span}{mark}")
        lines += [f"    {message}" for message in row["messages"].split("; ")] if not row["passed"] or mark else []
    if pin is not None:
        lines.append(f"pinned to {pin.model} on {pin.pinned_on}; invpipe models --serve {NEWEST} lifts the pin")
    return lines
