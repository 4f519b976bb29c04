"""Which model serves a day: the newest one at or before it whose gates passed, or the one an operator pinned.

A model is named by its cutoff. It never serves a day before that, nor when it failed a blocking gate, pinned or not. The pin is one small
JSON file in the home; it holds for the forecasts made from then on, days already forecast keep what served them. A day before the pinned
model's cutoff (a backfill) is served as if there were no pin.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import polars as pl

from invpipe.atomic import atomic_replace
from invpipe.errors import ForecastError

#: Name of the pin's file in the home.
PIN_NAME = "serving.json"


@dataclass(frozen=True)
class Pin:
    """A model that an operator wants to serve.

    Parameters
    ----------
    model
        Its cutoff, ISO day.
    pinned_on
        When it was pinned, ISO day.
    """

    model: str
    pinned_on: str

    def save(self, home: Path) -> None:
        """Write the pin into a home in one step."""
        with atomic_replace(home / PIN_NAME) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def open(cls, home: Path) -> Pin | None:
        """Return the pin of a home, None where no model is pinned.

        Raises
        ------
        ForecastError
            Where its file cannot be read as one.
        """
        path = home / PIN_NAME
        if not path.is_file():
            return None
        try:
            pin = cls(**json.loads(path.read_text(encoding="utf-8")))
            date.fromisoformat(pin.model)
        except (ValueError, TypeError) as error:
            msg = (
                f"{path} names no model to serve: {error}; pin one again with invpipe models --serve DAY, or --serve newest to lift the pin"
            )
            raise ForecastError(msg) from error
        return pin


@dataclass(frozen=True)
class Choice:
    """The model that serves a day.

    Parameters
    ----------
    model
        Its cutoff.
    model_hash
        Content hash of the artifact that was gated.
    why
        Why this one, in words.
    pinned
        Whether an operator chose it.
    held_back
        Newer models at or before the day that failed, with the gates they failed; empty where there is none.
    gates
        Verdicts on the model that serves.
    """

    model: date
    model_hash: str
    why: str
    pinned: bool
    held_back: str
    gates: str


def verdicts(gates: pl.DataFrame) -> pl.DataFrame:
    """Return one row per gated model, oldest first: (model, model_hash, passed, failed, messages).

    Parameters
    ----------
    gates
        Verdicts of `gates.judge` of any number of models, with columns model (Date) and model_hash.
    """
    failed = ~pl.col("passed") & pl.col("blocks")
    return (
        gates.group_by("model", "model_hash", maintain_order=True)
        .agg(
            (~failed.any()).alias("passed"),
            pl.col("message").filter(failed).str.join("; ").alias("failed"),
            pl.col("message").str.join("; ").alias("messages"),
        )
        .sort("model")
    )


def choose_model(day: date, gates: pl.DataFrame, pin: Pin | None = None) -> Choice | None:
    """Return the model that serves a day, None where none may.

    Parameters
    ----------
    day
        Day whose end the forecast is made at.
    gates
        Verdicts on all models, see :func:`verdicts`.
    pin
        What an operator wants.

    Raises
    ------
    ForecastError
        Where the pinned model has no gates or failed one.
    """
    models = verdicts(gates).filter(pl.col("model") <= day)
    good = models.filter("passed")
    pinned = pin is not None and date.fromisoformat(pin.model) <= day
    if pin is not None and pinned:
        good = good.filter(pl.col("model") == date.fromisoformat(pin.model))
        if good.is_empty():
            refuse(date.fromisoformat(pin.model), gates)
    if good.is_empty():
        return None
    chosen = good.row(-1, named=True)
    why = f"pinned on {pin.pinned_on}" if pin is not None and pinned else f"newest model up to {day} that passed its gates"
    bad = models.filter((pl.col("model") > chosen["model"]) & ~pl.col("passed"))
    held_back = " | ".join(f"model of {row['model']} failed {row['failed']}" for row in bad.iter_rows(named=True))
    return Choice(chosen["model"], chosen["model_hash"], why, pinned, held_back, chosen["messages"])


def refuse(model: date, gates: pl.DataFrame) -> None:
    """Raise where a model cannot be served at all.

    Raises
    ------
    ForecastError
        Where it has no gates or failed one; names those that can be served.
    """
    models = verdicts(gates)
    found = models.filter(pl.col("model") == model)
    if found.height and found["passed"][0]:
        return
    good = [str(name) for name in models.filter("passed")["model"]]
    what = f"failed {found['failed'][0]}" if found.height else "was never trained and gated"
    msg = f"the model of {model} cannot serve: it {what}; choose one of {good or 'none, and run the job weekly first'}"
    raise ForecastError(msg)


def model_before(model: date, gates: pl.DataFrame) -> date:
    """Return the newest model older than the given one that passed its gates.

    Raises
    ------
    ForecastError
        Where there is none to roll back to.
    """
    older = verdicts(gates).filter((pl.col("model") < model) & pl.col("passed"))["model"].to_list()
    if not older:
        msg = f"there is no model before that of {model} that passed its gates; nothing to roll back to"
        raise ForecastError(msg)
    found: date = older[-1]
    return found
