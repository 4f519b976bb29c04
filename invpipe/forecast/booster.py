"""LightGBM as invpipe uses it: deterministic, the same bytes for any number of threads, no output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from invpipe.errors import ForecastError
from invpipe.features import CATEGORICAL
from invpipe.forecast.params import ForecastParams

FloatArray = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

#: Training that is watched on held cells ends after so many rounds without a lower loss.
PATIENCE = 10


def training_set(
    matrix: Matrix, names: tuple[str, ...], label: FloatArray, *, weight: FloatArray | None = None, init_score: FloatArray | None = None
) -> lgb.Dataset:
    """Return cells that are binned at their first use; several boosters can be trained on them or on subsets of their rows.

    Parameters
    ----------
    matrix
        Shape (n, len(names)). Inputs that are missing in every cell become 0, in place: LightGBM leaves out what is constant, but drags
        along what is missing, and five such inputs of 41 made its training take 1.6 times as long.
    label, weight, init_score
        Shape (n,).
    """
    matrix[:, np.isnan(matrix).all(axis=0)] = 0.0
    categorical = [names.index(name) for name in (*CATEGORICAL, "sku") if name in names]
    fixed = {"verbosity": -1, "feature_pre_filter": False}  # the filter depends on the least cells per leaf, which is the booster's
    return lgb.Dataset(
        matrix, label, weight=weight, init_score=init_score, feature_name=list(names), categorical_feature=categorical, params=fixed
    )


@dataclass(frozen=True)
class Held:
    """Cells that are not trained on, and the loss of raw scores on them."""

    data: lgb.Dataset
    loss: Callable[[FloatArray], float]


def train_booster(objective: dict[str, object], data: lgb.Dataset, params: ForecastParams, held: Held | None = None) -> lgb.Booster:
    """Return a trained booster.

    Parameters
    ----------
    objective
        LightGBM objective and its own parameters.
    data
        A :func:`training_set` or a subset of one.
    held
        Training ends where the loss of held cells has not fallen for PATIENCE rounds; the rounds after the least loss are left out.
    """
    settings = {
        **objective,
        "learning_rate": params.learning_rate,
        "num_leaves": params.leaves,
        "min_data_in_leaf": min(params.min_leaf_cells, max(1, data.construct().num_data() // 20)),
        "num_threads": params.threads,
        "seed": params.seed,
        "deterministic": True,
        "force_row_wise": True,
        "feature_pre_filter": False,
        "verbosity": -1,
    }
    if held is None:
        return lgb.train(settings, data, num_boost_round=params.rounds)
    loss = held.loss
    return lgb.train(
        {**settings, "metric": "None"},
        data,
        num_boost_round=params.rounds,
        valid_sets=[held.data],
        feval=lambda raw, _: ("loss", loss(raw), False),
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False)],
    )


def save_booster(booster: lgb.Booster, path: Path) -> None:
    """Write a booster as text.

    Raises
    ------
    OSError
        The disk is full, or the file cannot be written; LightGBM has an error of its own for it that no caller expects of a disk.
    """
    try:
        booster.save_model(str(path))
    except lgb.basic.LightGBMError as error:
        raise OSError(str(error)) from error


def open_booster(path: Path, names: tuple[str, ...]) -> lgb.Booster:
    """Read a booster written by :func:`save_booster`; of the inputs in `names` it may know fewer, in its own order.

    Raises
    ------
    ForecastError
        Where it was trained on an input that is not among them.
    """
    booster = lgb.Booster(model_file=str(path))
    unknown = [name for name in booster.feature_name() if name not in names]
    if unknown:
        msg = (
            f"{len(unknown)} of {booster.num_feature()} inputs of the booster {path.name} are unknown to this version of invpipe, "
            f"first {unknown[0]!r}; fit the forecaster again"
        )
        raise ForecastError(msg)
    return booster


def inputs_of(booster: lgb.Booster, matrix: Matrix, names: tuple[str, ...]) -> Matrix:
    """Return the columns a booster was trained on, in its order, of a matrix with columns `names`: older models have fewer inputs."""
    wanted = booster.feature_name()
    return matrix if wanted == list(names) else matrix[:, [names.index(name) for name in wanted]]


def gain_by_feature(booster: lgb.Booster) -> dict[str, float]:
    """Return each feature's share of the total gain, 0-1."""
    gain = booster.feature_importance("gain")
    return dict(zip(booster.feature_name(), (gain / max(gain.sum(), 1e-300)).tolist(), strict=True))
