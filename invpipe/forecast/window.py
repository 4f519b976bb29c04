r"""Window model: mean and dispersion of the demand in a window of days.

Model: units :math:`Y` wanted on the :math:`e` days that count of a window of :math:`L` days follow a negative binomial with mean
:math:`e \lambda(x, L)` and size :math:`r(x, m, L)`. The rate :math:`\lambda` per day is the mean of LightGBM boosters with Tweedie
loss and log link over all window lengths (the exposure e enters as an offset, L as a feature), each trained without one fold of the
SKUs; the size is that of :mod:`invpipe.forecast.dispersion`, fitted to means predicted for the SKUs a booster has not seen: a curve
per class of the mean and window length, and a booster of what the features say beyond it. Demand over the whole window is the law at
e = L.

A booster fits its own cells too well: a dispersion fitted to those residuals would make the law too narrow. The folds give honest
residuals and an ensemble at the cost of two boosters; against one booster and two halves for the residuals the pinball loss was measured
1 % lower. For SKUs it has not seen a booster is too low, by what the level curve says; of the ensemble that is true of one booster in
SKU_FOLDS, so the mean is raised by that share of it.

Held-out SKUs lived through the same days as the others, so their residuals say nothing of what the coming days add: a promotion or a
season that moves many SKUs together was seen on the others. A booster of the earlier days is therefore held against the last ones, and
log r is lowered by what makes those likeliest, after the total is put right (the total of one period says little about the next). On
seven to twelve weeks of FreshRetailNet the 80 % interval covered .72 of the windows of 7 days and .67 of those of 14, with it .81 and .76;
where months or years are known it moves next to nothing.

Where the history has a year before the window, the sum of all SKUs' means is held against what last year says
(:mod:`invpipe.forecast.season`).

SKUs that were never sold before the origin have models of their own: their few sales follow another law than those of slow movers.

Days on which a SKU sold out or was out of stock count with the demand that was lost (:mod:`invpipe.forecast.censoring`). The source
document's way, sold units on orderable days alone, is `ForecastParams(censoring="orderable")`; on the embedded shop its labels are 8 %
too low, those with the lost demand 3 %.

Limits: a window that does not start on day 1 takes the rate of a window of its length that does, with its own calendar; one SKU's
windows are modelled one by one, so nothing is said about their dependence.

Source: Tweedie boosting as in LightGBM's manual; negative binomial NB2, Hilbe (2011); one model per fold kept as an ensemble:
cross-validation aggregation, Barrow & Crone (2016), International Journal of Forecasting 32(4); measured in the project's yardsticks.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from invpipe.errors import ForecastError
from invpipe.features import FEATURES, FeatureStore
from invpipe.forecast.booster import gain_by_feature, inputs_of, open_booster, save_booster, train_booster, training_set
from invpipe.forecast.censoring import training_labels
from invpipe.forecast.dispersion import (
    LOG_SIZE_BOUNDS,
    MIN_CLASS_CELLS,
    Curves,
    fit_size,
    fit_size_shift,
    log_level,
    spread_inputs,
    train_spread,
)
from invpipe.forecast.params import ForecastParams
from invpipe.forecast.season import season_step
from invpipe.grid import window_labels

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]

#: Inputs of the booster: the features, then what the question is.
INPUTS = (*FEATURES, "window_days")
SPREAD_INPUTS = (*INPUTS, "log_mean")

#: Folds of SKUs, one booster each.
SKU_FOLDS = 3

#: At most so many cells, predicted by the booster that has not seen their SKU, give level, dispersion and spread.
MAX_HONEST_CELLS = 300_000

#: Fewer training origins than this move closer.
FEW_ORIGINS = 8

#: Days count as not seen where at least this share of the cells lies before them; so many cells before and on them are used, and fewer
#: units tell nothing (on SKUs never sold the pinball loss at .9 would be 3 % higher).
MIN_EARLIER_FRAC = 0.25
MAX_UNSEEN_CELLS = 100_000
MIN_UNSEEN_UNITS = 500

#: Least predicted rate, units per day: one unit in about 2,700 years.
MIN_RATE = 1e-6


@dataclass(frozen=True)
class _Cells:
    """Training windows, one row each: SKU, origin, inputs, window length, units wanted, the same as whole numbers, days that count."""

    sku: IndexArray
    origin: IndexArray
    matrix: Matrix
    days: IndexArray
    units: FloatArray
    whole_units: FloatArray
    exposure: FloatArray

    def take(self, rows: npt.NDArray[np.bool_] | IndexArray) -> _Cells:
        return _Cells(*(getattr(self, field.name)[rows] for field in fields(self)))

    def sampled(self, most: int, seed: int, among: npt.NDArray[np.bool_] | None = None) -> _Cells:
        """Return at most so many cells, of all or of those marked, in their order."""
        rows = np.arange(len(self.units)) if among is None else np.flatnonzero(among)
        if len(rows) > most:
            rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), size=most, replace=False))]
        return self.take(rows)


@dataclass(frozen=True)
class CountModel:
    """Mean and size of windows.

    Parameters
    ----------
    boosters
        Rate boosters around a base rate, one per fold of SKUs it has not seen.
    log_base_rate
        Log units per day.
    level
        Curves of what is added to the logarithm of the mean.
    dispersion
        Curves of log r.
    spread
        Booster of what is added to log r.
    unseen_days
        What days that no booster has seen add to log r, at most 0.
    """

    boosters: tuple[lgb.Booster, ...]
    log_base_rate: float
    level: Curves
    dispersion: Curves
    spread: lgb.Booster
    unseen_days: float

    @classmethod
    def fit(cls, cells: _Cells, params: ForecastParams) -> CountModel:
        """Fit rate, level and dispersion on cells with at least one unit sold."""
        base = float(np.log(cells.units.sum() / cells.exposure.sum()))
        data = training_set(cells.matrix, INPUTS, cells.units, init_score=np.log(cells.exposure) + base)
        objective = {"objective": "tweedie", "tweedie_variance_power": params.tweedie_power, "feature_fraction": params.feature_frac}
        boosters = []
        for fold in range(SKU_FOLDS):
            others = cells.sku % SKU_FOLDS != fold
            some_sold = cells.units[others].sum() > 0  # else all sales are of this fold: nothing to hold out
            boosters.append(train_booster(objective, data.subset(np.flatnonzero(others).tolist()) if some_sold else data, params))
        honest = cells.sampled(MAX_HONEST_CELLS, params.seed)
        mean = np.full(len(honest.units), np.nan)
        for fold, booster in enumerate(boosters):
            held = honest.sku % SKU_FOLDS == fold
            if held.any():
                mean[held] = _rate((booster,), base, honest.matrix[held]) * honest.exposure[held]
        level = Curves.fit(mean, honest.units, honest.days, log_level)
        mean *= np.exp(level.at_cells(mean, honest.days))
        dispersion = Curves.fit(mean, honest.whole_units, honest.days, fit_size)
        log_size = dispersion.at_cells(mean, honest.days)
        inputs, held = spread_inputs(honest.matrix, mean), honest.sku % SKU_FOLDS == 0
        spread = train_spread(inputs, SPREAD_INPUTS, (mean, honest.whole_units, log_size), held, params)
        model = cls(tuple(boosters), base, level, dispersion, spread, 0.0)
        return replace(model, unseen_days=_unseen_days(model, cells, objective, params))

    def predict(self, matrix: Matrix, days: int) -> tuple[FloatArray, FloatArray]:
        """Return mean units and size r of windows of `days` days, shape (n,) each."""
        mean = _rate(self.boosters, self.log_base_rate, matrix) * days
        mean *= np.exp(self.level.at(mean, days) / SKU_FOLDS)
        return mean, np.exp(self.log_size(matrix, mean, np.full(len(mean), days)))

    def log_size(self, matrix: Matrix, mean: FloatArray, days: IndexArray) -> FloatArray:
        """Return log r of cells with windows of their own lengths, shape (n,)."""
        inputs = inputs_of(self.spread, spread_inputs(matrix, mean), SPREAD_INPUTS)
        moved = np.asarray(self.spread.predict(inputs, raw_score=True, num_threads=1), dtype=np.float64)
        return np.asarray(np.clip(self.dispersion.at_cells(mean, days) + moved + self.unseen_days, *LOG_SIZE_BOUNDS))

    def save(self, directory: Path, name: str) -> None:
        """Write the boosters as text, the rest as JSON."""
        for fold, booster in enumerate(self.boosters):
            save_booster(booster, directory / f"window_{name}_{fold}.txt")
        save_booster(self.spread, directory / f"window_{name}_spread.txt")
        curves = {"level": self.level.document(), "dispersion": self.dispersion.document()}
        rest = {"log_base_rate": self.log_base_rate, "unseen_days": self.unseen_days, **curves}
        (directory / f"window_{name}.json").write_text(json.dumps(rest, indent=1))

    @classmethod
    def open(cls, directory: Path, name: str) -> CountModel:
        """Read a model written by :meth:`save`."""
        rest = json.loads((directory / f"window_{name}.json").read_text())
        boosters = tuple(open_booster(directory / f"window_{name}_{fold}.txt", INPUTS) for fold in range(SKU_FOLDS))
        spread = open_booster(directory / f"window_{name}_spread.txt", SPREAD_INPUTS)
        level, dispersion = (Curves.of_document(rest[curve]) for curve in ("level", "dispersion"))
        unseen_days = rest.get("unseen_days", 0.0)  # models saved before it was known have none
        return cls(boosters, rest["log_base_rate"], level, dispersion, spread, unseen_days)


def _unseen_days(model: CountModel, cells: _Cells, objective: dict[str, object], params: ForecastParams) -> float:
    """Return what has to be added to log r, at most 0, for the windows of the last days to be likeliest under a booster of the days before.

    The last days are those of the longest window length that leaves enough cells before them; without such a length, or with too few units
    to tell, the answer is 0.
    """
    end = cells.origin + cells.days
    starts = [int(end.max()) - days for days in sorted(set(cells.days.tolist()), reverse=True)]
    start = next((day for day in starts if (end <= day).sum() >= MIN_EARLIER_FRAC * len(end)), None)
    if start is None:
        return 0.0
    earlier, later = (cells.sampled(MAX_UNSEEN_CELLS, params.seed, rows) for rows in (end <= start, cells.origin >= start))
    if min(earlier.units.sum(), later.units.sum()) < MIN_UNSEEN_UNITS:
        return 0.0
    base = model.log_base_rate
    data = training_set(earlier.matrix, INPUTS, earlier.units, init_score=np.log(earlier.exposure) + base)
    mean = _rate((train_booster(objective, data, params),), base, later.matrix) * later.exposure
    mean *= later.units.sum() / mean.sum()  # how much all SKUs together sold in one period says little about the next
    return fit_size_shift(mean, later.whole_units, model.log_size(later.matrix, mean, later.days))


@dataclass(frozen=True)
class WindowModel:
    """One count model for SKUs sold before, one for those never sold; without enough of the latter the first serves both.

    Parameters
    ----------
    sold, unsold
        Count models.
    wanted_per_sold
        Units the models' labels say were wanted per unit sold, which is what last year's total is known in; None in models saved before
        it was kept: their total is left as it is.
    """

    sold: CountModel
    unsold: CountModel | None
    wanted_per_sold: float | None

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
        wanted = (cells.units * cells.days / cells.exposure).sum()
        ones = np.ones(len(cells.sku), dtype=np.int64)
        sold_units = window_labels(store.history.arrays, cells.sku, cells.origin, ones, cells.days).units.sum()
        return cls(CountModel.fit(sold, params), CountModel.fit(unsold, params) if enough else None, float(wanted / sold_units))

    def predict(self, store: FeatureStore, windows: tuple[tuple[int, int], ...], threads: int = 1) -> tuple[FloatArray, FloatArray]:
        """Return mean units and size r per (SKU, window after the store's last day), shape (n_sku, n_window) each."""
        n = len(store.history.skus)
        sku = np.arange(n)
        origin = np.full(n, store.history.n_days - 1)
        mean = np.full((n, len(windows)), np.nan)
        size = np.full((n, len(windows)), np.nan)

        def one(j: int) -> None:
            first, last = windows[j]
            matrix = window_inputs(store, sku, origin, np.full(n, first), np.full(n, last))
            never = _never_sold(matrix)
            for model, rows in ((self.sold, ~never), (self.unsold or self.sold, never)):
                if rows.any():
                    mean[rows, j], size[rows, j] = model.predict(matrix[rows], last - first + 1)
            if self.wanted_per_sold is not None:
                mean[:, j] *= season_step(store.history.arrays, first, last, float(mean[:, j].sum()) / self.wanted_per_sold)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(one, range(len(windows))))
        return mean, size

    def gain_by_feature(self) -> dict[str, float]:
        """Return each input's share of the total gain of the boosters for SKUs sold before, 0-1."""
        shares = [gain_by_feature(booster) for booster in self.sold.boosters]
        return {name: sum(share[name] for share in shares) / len(shares) for name in shares[0]}

    def save(self, directory: Path) -> None:
        """Write the models into a directory."""
        (directory / "window.json").write_text(json.dumps({"wanted_per_sold": self.wanted_per_sold}))
        self.sold.save(directory, "sold")
        if self.unsold is not None:
            self.unsold.save(directory, "unsold")

    @classmethod
    def open(cls, directory: Path) -> WindowModel:
        """Read a model written by :meth:`save`."""
        unsold = CountModel.open(directory, "unsold") if (directory / "window_unsold.json").is_file() else None
        shop = directory / "window.json"
        wanted_per_sold = json.loads(shop.read_text())["wanted_per_sold"] if shop.is_file() else None
        return cls(CountModel.open(directory, "sold"), unsold, wanted_per_sold)


def _never_sold(matrix: Matrix) -> npt.NDArray[np.bool_]:
    return np.isnan(matrix[:, FEATURES.index("days_since_sale")])


def _rate(boosters: tuple[lgb.Booster, ...], base: float, matrix: Matrix) -> FloatArray:
    inputs = inputs_of(boosters[0], matrix, INPUTS)
    raw = np.array([booster.predict(inputs, raw_score=True, num_threads=1) for booster in boosters], dtype=np.float64)
    return np.asarray(np.maximum(np.exp(raw + base).mean(axis=0), MIN_RATE))


def window_inputs(store: FeatureStore, sku: IndexArray, origin: IndexArray, first: IndexArray, last: IndexArray) -> npt.NDArray[np.float32]:
    """Return the booster's inputs, shape (n, 41): the features and the length of the window."""
    return np.column_stack([store.matrix(sku, origin, first, last), (last - first + 1).astype(np.float32)])


def least_history_days(params: ForecastParams) -> int:
    """Return the days of history below which no model can be fitted: those before a window, its origin, and the shortest window."""
    return params.min_history_days + 1 + min(params.window_days)


def training_origins(last: int, params: ForecastParams) -> range:
    """Return the training origins, day indices counted back from the last; half a step apart where the history has room for few."""
    step, room = params.origin_step_days, last - params.min_history_days
    step = step if room >= FEW_ORIGINS * step else (step + 1) // 2
    return range(last, params.min_history_days - 1, -step)[: params.origins]


def _training_cells(store: FeatureStore, params: ForecastParams) -> _Cells:
    """Return the training windows, at most max_window_cells, without those that had no orderable day."""
    last_day = store.history.n_days - 1
    n = len(store.history.skus)
    pairs = [(origin, days) for days in sorted(set(params.window_days)) for origin in training_origins(last_day - days, params)]
    if not pairs:
        msg = (
            f"the history has {last_day + 1} days up to {store.history.last_day}; a window of {min(params.window_days)} days after "
            f"{params.min_history_days} days of history needs {least_history_days(params)}; choose a later cutoff"
        )
        raise ForecastError(msg)
    per_pair = min(n, max(1, params.max_window_cells // len(pairs)))
    rng = np.random.default_rng(params.seed)
    chosen = [np.sort(rng.choice(n, size=per_pair, replace=False)) if per_pair < n else np.arange(n) for _ in pairs]
    sku = np.concatenate(chosen)
    origin = np.repeat([pair[0] for pair in pairs], per_pair)
    days = np.repeat([pair[1] for pair in pairs], per_pair)
    ones = np.ones(len(sku), dtype=np.int64)
    labels = training_labels(store.history, sku, origin, days, params)
    keep = labels.exposure > 0
    sku, origin, days, ones = sku[keep], origin[keep], days[keep], ones[keep]
    matrix = window_inputs(store, sku, origin, ones, days)
    return _Cells(sku, origin, matrix, days, labels.units[keep], labels.whole_units[keep], labels.exposure[keep])
