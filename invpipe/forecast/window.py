r"""Window model: mean and dispersion of the demand in a window of days.

Model: units :math:`Y` sold on the :math:`e` orderable days of a window of :math:`L` days follow a negative binomial with mean
:math:`e \lambda(x, L)` and size :math:`r(m, L)`. The rate :math:`\lambda` per orderable day is the mean of LightGBM boosters with Tweedie
loss and log link over all window lengths (the exposure e enters as an offset, L as a feature), each trained without one fold of the
SKUs; the size is fitted by maximum likelihood per class of the mean (demand class) and window length, against means predicted for the SKUs
a booster has not seen, and interpolated in the logarithms of both. Demand over the whole window is the law at e = L.

A booster fits its own cells too well: a dispersion fitted to those residuals would make the law too narrow. The folds give honest
residuals and an ensemble at the cost of two boosters; against one booster and two halves for the residuals the pinball loss was measured
1 % lower.

SKUs that were never sold before the origin have models of their own: their few sales follow another law than those of slow movers.

Windows with a single orderable day count, with the exposure of that day: leaving out those that were mostly out of stock would leave out
the SKUs that sell best, and was measured to lower the mean by another 6 %.

Limits: a window that does not start on day 1 takes the rate of a window of its length that does, with its own calendar; one SKU's
windows are modelled one by one, so nothing is said about their dependence.

Source: Tweedie boosting as in LightGBM's manual; negative binomial NB2, Hilbe (2011); one model per fold kept as an ensemble:
cross-validation aggregation, Barrow & Crone (2016), International Journal of Forecasting 32(4); measured in the project's yardsticks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from invpipe.errors import ForecastError
from invpipe.features import FEATURES, FeatureStore
from invpipe.forecast.booster import gain_by_feature, train_booster
from invpipe.forecast.params import ForecastParams
from invpipe.grid import window_labels

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]

#: Inputs of the booster: the features, then what the question is.
INPUTS = (*FEATURES, "window_days")

#: Demand classes: bins of the mean with at least so many cells, at most so many bins.
MIN_CLASS_CELLS = 500
MAX_CLASSES = 12

#: Folds of SKUs, one booster each.
SKU_FOLDS = 3

#: Bounds of log r: below, all mass at zero with a fat tail; above, Poisson for any practical purpose.
LOG_SIZE_BOUNDS = (-5.0, 8.0)

#: Least predicted rate, units per day: one unit in about 2,700 years.
MIN_RATE = 1e-6


@dataclass(frozen=True)
class Dispersion:
    """Size r of the negative binomial as a function of the mean, one curve per window length.

    Parameters
    ----------
    window_days
        Window lengths, ascending, shape (k,).
    log_mean, log_size
        Knots per window length, shape (n_class,) each.
    """

    window_days: tuple[int, ...]
    log_mean: tuple[FloatArray, ...]
    log_size: tuple[FloatArray, ...]

    def size(self, mean: FloatArray, days: int) -> FloatArray:
        """Return r for the means of windows of `days` days: linear in log mean, then in log days; flat outside."""
        log_mean = np.log(np.maximum(mean, MIN_RATE))
        by_length = np.array([np.interp(log_mean, x, y) for x, y in zip(self.log_mean, self.log_size, strict=True)])
        position = float(np.interp(np.log(days), np.log(self.window_days), np.arange(len(self.window_days))))
        low = int(position)
        high = min(low + 1, len(self.window_days) - 1)
        share = position - low
        return np.asarray(np.exp((1 - share) * by_length[low] + share * by_length[high]))


def fit_size(mean: FloatArray, units: FloatArray) -> float:
    """Return log r of the negative binomial that makes the units likeliest given their means, within LOG_SIZE_BOUNDS."""
    values, counts = np.unique(units, return_counts=True)
    log_mean_units = float((units * np.log(mean)).sum())  # a sum, not a dot product: BLAS adds in an order that depends on its threads

    def loss(log_size: float) -> float:
        r = np.exp(log_size)
        by_count = (counts * (special.gammaln(values + r) - special.gammaln(r))).sum()
        by_cell = ((units + r) * np.log(r + mean)).sum()
        return -float(by_count + log_mean_units - by_cell + len(units) * r * log_size)

    return float(optimize.minimize_scalar(loss, bounds=LOG_SIZE_BOUNDS, method="bounded").x)


def fit_dispersion(mean: FloatArray, units: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the knots (log mean, log size) over demand classes: bins of the mean with equal numbers of cells."""
    order = np.argsort(mean, kind="stable")
    n_class = int(np.clip(len(mean) // MIN_CLASS_CELLS, 1, MAX_CLASSES))
    knots = []
    for rows in np.array_split(order, n_class):
        knots.append((float(np.log(mean[rows]).mean()), fit_size(mean[rows], units[rows])))
    log_mean, log_size = np.array(knots).T
    return log_mean, log_size


@dataclass(frozen=True)
class _Cells:
    """Training windows: SKU, booster inputs, window length, units sold and orderable days, one row each."""

    sku: IndexArray
    matrix: Matrix
    days: IndexArray
    units: FloatArray
    exposure: FloatArray

    def take(self, rows: npt.NDArray[np.bool_]) -> _Cells:
        return _Cells(self.sku[rows], self.matrix[rows], self.days[rows], self.units[rows], self.exposure[rows])


@dataclass(frozen=True)
class CountModel:
    """Rate boosters around a base rate (log units per day), one per fold of SKUs it has not seen, and a dispersion."""

    boosters: tuple[lgb.Booster, ...]
    log_base_rate: float
    dispersion: Dispersion

    @classmethod
    def fit(cls, cells: _Cells, params: ForecastParams) -> CountModel:
        """Fit rate and dispersion on cells with at least one unit sold."""
        base = float(np.log(cells.units.sum() / cells.exposure.sum()))
        boosters, mean = [], np.full(len(cells.units), np.nan)
        for fold in range(SKU_FOLDS):
            held_out = cells.sku % SKU_FOLDS == fold
            others_sold = cells.units[~held_out].sum() > 0  # else all sales are of this fold: nothing to hold out
            booster = _train(cells.take(~held_out) if others_sold else cells, base, params)
            if held_out.any():
                mean[held_out] = _rate((booster,), base, cells.matrix[held_out]) * cells.exposure[held_out]
            boosters.append(booster)
        lengths = tuple(sorted(set(cells.days.tolist())))
        knots = [fit_dispersion(mean[cells.days == d], cells.units[cells.days == d]) for d in lengths]
        return cls(tuple(boosters), base, Dispersion(lengths, tuple(k[0] for k in knots), tuple(k[1] for k in knots)))

    def predict(self, matrix: Matrix, days: int) -> tuple[FloatArray, FloatArray]:
        """Return mean units and size r of windows of `days` days, shape (n,) each."""
        mean = _rate(self.boosters, self.log_base_rate, matrix) * days
        return mean, self.dispersion.size(mean, days)

    def save(self, directory: Path, name: str) -> None:
        """Write the boosters as text, the rest as JSON."""
        for fold, booster in enumerate(self.boosters):
            booster.save_model(str(directory / f"window_{name}_{fold}.txt"))
        rest = {
            "log_base_rate": self.log_base_rate,
            "window_days": list(self.dispersion.window_days),
            "log_mean": [knots.tolist() for knots in self.dispersion.log_mean],
            "log_size": [knots.tolist() for knots in self.dispersion.log_size],
        }
        (directory / f"window_{name}.json").write_text(json.dumps(rest, indent=1))

    @classmethod
    def open(cls, directory: Path, name: str) -> CountModel:
        """Read a model written by :meth:`save`."""
        rest = json.loads((directory / f"window_{name}.json").read_text())
        dispersion = Dispersion(
            tuple(rest["window_days"]),
            tuple(np.array(knots) for knots in rest["log_mean"]),
            tuple(np.array(knots) for knots in rest["log_size"]),
        )
        boosters = tuple(lgb.Booster(model_file=str(directory / f"window_{name}_{fold}.txt")) for fold in range(SKU_FOLDS))
        return cls(boosters, rest["log_base_rate"], dispersion)


@dataclass(frozen=True)
class WindowModel:
    """One count model for SKUs sold before, one for those never sold; without enough of the latter the first serves both."""

    sold: CountModel
    unsold: CountModel | None

    @classmethod
    def fit(cls, store: FeatureStore, params: ForecastParams) -> WindowModel:
        """Fit on all windows that end at or before the last day of the store's history.

        Raises
        ------
        ForecastError
            Where the history is too short for a single training window, or nothing was sold in any.
        """
        cells = _training_cells(store, params)
        sold_before = ~_never_sold(cells.matrix)
        sold, unsold = cells.take(sold_before), cells.take(~sold_before)
        if sold.units.sum() <= 0:
            last = store.history.last_day
            msg = f"no units sold in {len(cells.units)} training windows up to {last}; the forecaster needs at least one sale"
            raise ForecastError(msg)
        enough = len(unsold.units) >= MIN_CLASS_CELLS and unsold.units.sum() > 0
        return cls(CountModel.fit(sold, params), CountModel.fit(unsold, params) if enough else None)

    def predict(self, store: FeatureStore, windows: tuple[tuple[int, int], ...]) -> tuple[FloatArray, FloatArray]:
        """Return mean units and size r per (SKU, window after the store's last day), shape (n_sku, n_window) each."""
        n = len(store.history.skus)
        sku = np.arange(n)
        origin = np.full(n, store.history.n_days - 1)
        mean = np.full((n, len(windows)), np.nan)
        size = np.full((n, len(windows)), np.nan)
        for j, (first, last) in enumerate(windows):
            matrix = window_inputs(store, sku, origin, np.full(n, first), np.full(n, last))
            never = _never_sold(matrix)
            for model, rows in ((self.sold, ~never), (self.unsold or self.sold, never)):
                if rows.any():
                    mean[rows, j], size[rows, j] = model.predict(matrix[rows], last - first + 1)
        return mean, size

    def gain_by_feature(self) -> dict[str, float]:
        """Return each input's share of the total gain of the boosters for SKUs sold before, 0-1."""
        shares = [gain_by_feature(booster) for booster in self.sold.boosters]
        return {name: sum(share[name] for share in shares) / len(shares) for name in shares[0]}

    def save(self, directory: Path) -> None:
        """Write the models into a directory."""
        self.sold.save(directory, "sold")
        if self.unsold is not None:
            self.unsold.save(directory, "unsold")

    @classmethod
    def open(cls, directory: Path) -> WindowModel:
        """Read a model written by :meth:`save`."""
        unsold = CountModel.open(directory, "unsold") if (directory / "window_unsold.json").is_file() else None
        return cls(CountModel.open(directory, "sold"), unsold)


def _never_sold(matrix: Matrix) -> npt.NDArray[np.bool_]:
    return np.isnan(matrix[:, FEATURES.index("days_since_sale")])


def _train(cells: _Cells, base: float, params: ForecastParams) -> lgb.Booster:
    objective = {"objective": "tweedie", "tweedie_variance_power": params.tweedie_power, "feature_fraction": params.feature_frac}
    return train_booster(objective, cells.matrix, INPUTS, cells.units, params, init_score=np.log(cells.exposure) + base)


def _rate(boosters: tuple[lgb.Booster, ...], base: float, matrix: Matrix) -> FloatArray:
    raw = np.array([booster.predict(matrix, raw_score=True, num_threads=1) for booster in boosters], dtype=np.float64)
    return np.asarray(np.maximum(np.exp(raw + base).mean(axis=0), MIN_RATE))


def window_inputs(store: FeatureStore, sku: IndexArray, origin: IndexArray, first: IndexArray, last: IndexArray) -> npt.NDArray[np.float32]:
    """Return the booster's inputs, shape (n, 25): the features and the length of the window."""
    return np.column_stack([store.matrix(sku, origin, first, last), (last - first + 1).astype(np.float32)])


def _training_cells(store: FeatureStore, params: ForecastParams) -> _Cells:
    """Return the training windows, at most max_window_cells, without those that had no orderable day."""
    last_day = store.history.n_days - 1
    n = len(store.history.skus)
    pairs = [
        (last_day - days - k * params.origin_step_days, days)
        for days in sorted(set(params.window_days))
        for k in range(params.origins)
        if last_day - days - k * params.origin_step_days >= params.min_history_days
    ]
    if not pairs:
        shortest = min(params.window_days)
        msg = (
            f"the history has {last_day + 1} days up to {store.history.last_day}; a window of {shortest} days after "
            f"{params.min_history_days} days of history needs {shortest + params.min_history_days + 1}; choose a later cutoff"
        )
        raise ForecastError(msg)
    per_pair = min(n, max(1, params.max_window_cells // len(pairs)))
    rng = np.random.default_rng(params.seed)
    chosen = [np.sort(rng.choice(n, size=per_pair, replace=False)) if per_pair < n else np.arange(n) for _ in pairs]
    sku = np.concatenate(chosen)
    origin = np.repeat([pair[0] for pair in pairs], per_pair)
    days = np.repeat([pair[1] for pair in pairs], per_pair)
    ones = np.ones(len(sku), dtype=np.int64)
    labels = window_labels(store.history.arrays, sku, origin, ones, days)
    keep = labels.orderable_days > 0
    sku, origin, days, ones = sku[keep], origin[keep], days[keep], ones[keep]
    exposure = labels.orderable_days[keep].astype(np.float64)
    return _Cells(sku, window_inputs(store, sku, origin, ones, days), days, labels.units[keep], exposure)
