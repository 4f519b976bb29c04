"""Which model serves a day."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invpipe.errors import ForecastError
from invpipe.forecast.registry import PIN_NAME, Pin, choose_model, model_before, verdicts

FIRST = date(2025, 1, 3)


def gates(*models: tuple[int, bool]) -> pl.DataFrame:
    """Verdicts on models by week and whether they pass; every one fails a gate that does not block."""
    rows = [
        {"model": FIRST + timedelta(weeks=week), "model_hash": f"hash {week}", "passed": ok, "blocks": blocks, "message": text}
        for week, passes in models
        for ok, blocks, text in ((passes, True, f"bracket of {week}"), (False, False, "a warning"))
    ]
    schema = {"model": pl.Date, "model_hash": pl.String, "passed": pl.Boolean, "blocks": pl.Boolean, "message": pl.String}
    return pl.DataFrame(rows, schema=schema)


def week(number: int) -> date:
    return FIRST + timedelta(weeks=number)


@given(st.lists(st.booleans(), max_size=6), st.integers(-3, 50))
def test_newest_model_that_passed_serves(passed: list[bool], days: int) -> None:
    """Prevents a model that failed, or that knows days after the one it serves, from serving; and an old one from staying on."""
    day = FIRST + timedelta(days=days)
    choice = choose_model(day, gates(*enumerate(passed)))
    allowed = [week(k) for k, ok in enumerate(passed) if ok and week(k) <= day]
    assert (choice and choice.model) == (max(allowed) if allowed else None)
    if choice:
        newer = [week(k) for k, ok in enumerate(passed) if not ok and choice.model < week(k) <= day]
        assert choice.held_back.count("failed") == len(newer)


def test_choice_names_model_hash_and_what_was_held_back() -> None:
    """Prevents a fallback nobody hears of."""
    choice = choose_model(week(2), gates((0, True), (1, True), (2, False), (3, True)))
    assert choice is not None
    assert (choice.model, choice.model_hash, choice.pinned) == (week(1), "hash 1", False)
    assert choice.why == f"newest model up to {week(2)} that passed its gates"
    assert choice.held_back == f"model of {week(2)} failed bracket of 2"
    assert choice.gates == "bracket of 1; a warning"


def test_pin_is_kept_while_newer_models_pass() -> None:
    """Prevents a rolled-back model from coming back with the next training, and a pin that reaches into the past."""
    table, pin = gates((0, True), (1, True), (2, True)), Pin(week(1).isoformat(), "2025-02-01")
    choice = choose_model(week(5), table, pin)
    assert choice is not None
    assert (choice.model, choice.pinned, choice.why) == (week(1), True, "pinned on 2025-02-01")
    before = choose_model(week(1) - timedelta(days=1), table, pin)
    assert before is not None
    assert (before.model, before.pinned) == (week(0), False)


@pytest.mark.parametrize(
    ("number", "message"),
    [(1, r"cannot serve: it failed bracket of 1; choose one of \['2025-01-03'\]"), (4, "it was never trained and gated")],
)
def test_pin_cannot_pass_the_gates_by(number: int, message: str) -> None:
    """Prevents a model that failed from serving because somebody asked for it, and a silent fallback from a model that is gone."""
    with pytest.raises(ForecastError, match=message):
        choose_model(week(9), gates((0, True), (1, False)), Pin(week(number).isoformat(), "2025-02-01"))


def test_roll_back_goes_to_the_last_good_one() -> None:
    """Prevents a roll-back to a model that failed, or to nothing."""
    table = gates((0, True), (1, False), (2, True))
    assert model_before(week(2), table) == week(0)
    with pytest.raises(ForecastError, match=f"no model before that of {week(0)} that passed its gates; nothing to roll back to"):
        model_before(week(0), table)


def test_verdicts_of_no_model_are_none() -> None:
    """Prevents a home without models from looking like one with a good model."""
    assert verdicts(gates()).is_empty()
    assert choose_model(FIRST, gates()) is None


def test_pin_is_kept_in_one_file(tmp_path: Path) -> None:
    """Prevents a pin that is lost with the process, or a leftover beside it."""
    assert Pin.open(tmp_path) is None
    pin = Pin("2025-01-03", "2025-02-01")
    pin.save(tmp_path)
    assert Pin.open(tmp_path) == pin
    assert [path.name for path in tmp_path.iterdir()] == [PIN_NAME]


@pytest.mark.parametrize("text", ["", "{}", '{"model": "friday", "pinned_on": "x"}', "[1]", '{"model": 3, "pinned_on": "x"}'])
def test_damaged_pin_is_refused(text: str, tmp_path: Path) -> None:
    """Prevents a file somebody edited from silently lifting the pin."""
    (tmp_path / PIN_NAME).write_text(text)
    with pytest.raises(ForecastError, match=r"serving\.json names no model to serve: .*--serve DAY"):
        Pin.open(tmp_path)
