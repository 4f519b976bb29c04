"""Boosters of other versions: fewer inputs, another order, inputs that are no more."""

from datetime import date
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pytest

from invpipe.errors import ForecastError
from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.forecast import window as window_module
from invpipe.forecast.booster import gain_by_feature, inputs_of, open_booster, save_booster, train_booster, training_set
from invpipe.history import ShopHistory

WINDOWS = ((1, 7), (1, 28))


def trained(names: tuple[str, ...], quick: ForecastParams) -> tuple[lgb.Booster, npt.NDArray[np.float32]]:
    """Return a booster on two inputs that matter differently, and its inputs."""
    matrix = np.random.default_rng(0).random((600, 2)).astype(np.float32)
    data = training_set(matrix, names, 3.0 * matrix[:, 0] - matrix[:, 1].astype(np.float64))
    return train_booster({"objective": "l2"}, data, quick), matrix


def test_booster_finds_its_inputs_by_name(quick: ForecastParams, tmp_path: Path) -> None:
    """Prevents a model of an earlier version from reading another feature in the place of its own."""
    booster, matrix = trained(("b", "a"), quick)
    save_booster(booster, tmp_path / "model.txt")
    names = ("a", "new", "b")
    opened = open_booster(tmp_path / "model.txt", names)
    wide = np.column_stack([matrix[:, 1], np.full(len(matrix), np.nan), matrix[:, 0]]).astype(np.float32)
    assert opened.predict(inputs_of(opened, wide, names)).tobytes() == booster.predict(matrix).tobytes()
    assert inputs_of(booster, matrix, ("b", "a")) is matrix


def test_input_without_a_value_is_never_split_on(quick: ForecastParams) -> None:
    """Prevents a model trained in a shop's first year from answering otherwise once last year is known."""
    matrix = np.random.default_rng(0).random((600, 2)).astype(np.float32)
    matrix[:, 1] = np.nan
    data = training_set(matrix, ("a", "unknown"), matrix[:, 0].astype(np.float64))
    booster = train_booster({"objective": "l2"}, data, quick)
    later = np.random.default_rng(1).normal(0.0, 9.0, (50, 2)).astype(np.float32)
    blank = later.copy()
    blank[:, 1] = np.nan
    assert booster.predict(later).tobytes() == booster.predict(blank).tobytes()
    assert gain_by_feature(booster) == {"a": 1.0, "unknown": 0.0}


def test_booster_on_an_input_that_is_no_more_is_refused(quick: ForecastParams, tmp_path: Path) -> None:
    """Prevents an error of LightGBM in the middle of the night, or a forecast from the wrong columns."""
    save_booster(trained(("a", "gone"), quick)[0], tmp_path / "model.txt")
    message = "1 of 2 inputs of the booster model.txt are unknown to this version of invpipe, first 'gone'; fit the forecaster again"
    with pytest.raises(ForecastError, match=message):
        open_booster(tmp_path / "model.txt", ("a", "b"))


def test_model_serves_after_a_feature_was_added(
    history: ShopHistory, cutoff: date, forecaster: DemandForecaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a night without a plan after an update: the last good model goes on, with the features it knows."""
    wanted = forecaster.window_demand(WINDOWS)
    forecaster.save(tmp_path / "model")
    inputs = window_module.window_inputs
    monkeypatch.setattr(window_module, "window_inputs", lambda *cells: np.column_stack([inputs(*cells), cells[1].astype(np.float32)]))
    monkeypatch.setattr(window_module, "INPUTS", (*window_module.INPUTS, "new"))
    monkeypatch.setattr(window_module, "SPREAD_INPUTS", (*window_module.INPUTS, "log_mean"))
    found = DemandForecaster.open(tmp_path / "model", history, cutoff).window_demand(WINDOWS)
    assert found.mean.tobytes() == wanted.mean.tobytes()
    assert found.size.tobytes() == wanted.size.tobytes()
