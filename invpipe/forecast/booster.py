"""LightGBM as invpipe uses it: deterministic, the same bytes for any number of threads, no output."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from invpipe.features import CATEGORICAL
from invpipe.forecast.params import ForecastParams

FloatArray = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]


def train_booster(
    objective: dict[str, object],
    matrix: Matrix,
    names: tuple[str, ...],
    label: FloatArray,
    params: ForecastParams,
    *,
    weight: FloatArray | None = None,
    init_score: FloatArray | None = None,
) -> lgb.Booster:
    """Return a trained booster.

    Parameters
    ----------
    objective
        LightGBM objective and its own parameters.
    matrix
        Shape (n, len(names)).
    label, weight, init_score
        Shape (n,).
    """
    settings = {
        **objective,
        "learning_rate": params.learning_rate,
        "num_leaves": params.leaves,
        "min_data_in_leaf": min(params.min_leaf_cells, max(1, len(label) // 20)),
        "num_threads": params.threads,
        "seed": params.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    categorical = [name for name in (*CATEGORICAL, "sku") if name in names]
    data = lgb.Dataset(
        matrix,
        label,
        weight=weight,
        init_score=init_score,
        feature_name=list(names),
        categorical_feature=[names.index(name) for name in categorical],
        params={"verbosity": -1},
    )
    return lgb.train(settings, data, num_boost_round=params.rounds)


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


def gain_by_feature(booster: lgb.Booster) -> dict[str, float]:
    """Return each feature's share of the total gain, 0-1."""
    gain = booster.feature_importance("gain")
    return dict(zip(booster.feature_name(), (gain / max(gain.sum(), 1e-300)).tolist(), strict=True))
