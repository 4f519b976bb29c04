"""Folds of `invpipe bench forecast`: what a method is asked at a cutoff, and the scores of its answer.

At each cutoff a method gets the history as known at the end of that day and which days of the window turn out orderable, and answers with
the law, or with quantiles alone, of the units of those days. Scored are SKUs that sold before and are orderable on a day of the window.
What was wanted on the other days is not known: a law of all demand, as orders need it, is too high here by as much as stock-outs hide, and
is a row of its own.

Pinball loss and ranked probability score are means over folds of the mean per SKU; shares (brackets, coverage) and the bias are pooled over
folds. Methods that give quantiles alone have no ranked probability score and no randomised coverage.

The worst volume decile of a bracket: SKUs are sorted by their units per orderable day in the 91 days before the cutoff, ties by all units
before it. A class must be known before the outcome is (classes of the outcome make every good forecast look wrong: those that sold most
sold more than expected), and be the same for all methods, which classes of a forecast's own mean are not.

Daily quantiles are scored on the same SKUs, each orderable day of the window a cell, beside the interval [0, 0].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.bench.yardsticks import Yardstick
from invpipe.errors import ForecastError
from invpipe.forecast import CountLaw, DemandForecaster, ForecastParams, WindowDemand
from invpipe.forecast.censoring import loses_demand, sold_out_days
from invpipe.forecast.classes import volume_deciles
from invpipe.forecast.daily import DailyModel
from invpipe.forecast.metrics import (
    Law,
    bracket_counts,
    bracket_violation_points,
    pinball_loss,
    randomised_coverage,
    ranked_probability_score,
)
from invpipe.grid import window_labels
from invpipe.history import ShopHistory

Figures = dict[str, Any]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

TAUS = (0.1, 0.5, 0.9)


class WindowLaw(Law, Protocol):
    """A law per SKU with mean and quantiles."""

    @property
    def mean(self) -> FloatArray:
        """Expected units, shape (n,)."""

    def quantile(self, tau: float) -> npt.NDArray[Any]:
        """Return the quantile per row, shape (n,), units."""

    def take(self, rows: npt.NDArray[np.generic]) -> Self:
        """Return the laws of the given rows (indices or a mask)."""


@dataclass(frozen=True)
class Quantiles:
    """What a method without a law says.

    Parameters
    ----------
    values
        Quantiles at TAUS, units, shape (n_sku, 3).
    mean
        Expected units, shape (n_sku,), None where the method has none.
    """

    values: FloatArray
    mean: FloatArray | None = None


@dataclass(frozen=True)
class Question:
    """What a method is asked at one cutoff.

    Parameters
    ----------
    known
        The history as known at the end of the cutoff day.
    orderable
        Which days of the window turn out orderable, shape (n_sku, window_days): a law is of the units of those days.
    params
        Parameters of the package's forecaster.
    """

    known: ShopHistory
    orderable: BoolArray
    params: ForecastParams

    @property
    def days(self) -> int:
        """Days of the window."""
        return int(self.orderable.shape[1])

    @cached_property
    def exposure(self) -> IntArray:
        """Orderable days of the window, shape (n_sku,)."""
        return np.asarray(self.orderable.sum(axis=1), dtype=np.int64)

    def seen(self, demand: WindowDemand) -> CountLaw:
        """Return the law of what is seen of a window's demand: of the units of its orderable days."""
        return CountLaw(demand.mean[:, 0] * self.exposure / self.days, demand.size[:, 0])

    @cached_property
    def forecaster(self) -> DemandForecaster:
        """The package's forecaster of what is asked for, the units of orderable days; without daily boosters."""
        return self._fitted("orderable")

    @cached_property
    def forecaster_of_demand(self) -> DemandForecaster:
        """The package's forecaster as it plans orders: of all demand, that of stock-outs included."""
        loses = loses_demand(self.known.arrays, sold_out_days(self.known))
        return self._fitted("completed") if loses else self.forecaster

    def _fitted(self, censoring: str) -> DemandForecaster:
        params = self.params.model_copy(update={"daily_taus": (), "censoring": censoring})
        return DemandForecaster.fit(self.known, self.known.last_day, params)

    @cached_property
    def daily_quantiles(self) -> FloatArray:
        """Quantiles at TAUS of the package's daily boosters, shape (n_sku, window_days, 3)."""
        params = self.params.model_copy(update={"daily_taus": TAUS})
        daily = replace(self.forecaster, daily=DailyModel.fit(self.forecaster.store, params)).daily_quantiles(self.days)
        return daily.select("q10", "q50", "q90").to_numpy().reshape(-1, self.days, len(TAUS))


def quantiles_of(law: WindowLaw) -> FloatArray:
    """Return the quantiles at TAUS, shape (n, 3)."""
    return np.column_stack([np.asarray(law.quantile(tau), dtype=np.float64) for tau in TAUS])


@dataclass(frozen=True)
class Fold:
    """One cutoff of a yardstick: the question, and what came of it on the rows that are scored.

    Parameters
    ----------
    rows
        SKUs that are scored, indices.
    units
        Units per day of the window, shape (n_sku, window_days).
    decile
        Volume decile of each scored SKU, 0-9, shape (len(rows),).
    """

    question: Question
    rows: IntArray
    units: FloatArray
    decile: IntArray

    @classmethod
    def of(cls, yardstick: Yardstick, cutoff: date, params: ForecastParams) -> Fold:
        """Return the fold at a cutoff.

        Raises
        ------
        ForecastError
            Where no SKU is to be scored.
        """
        history, known, days = yardstick.history, yardstick.history.until(cutoff), yardstick.window_days
        n = len(history.skus)
        sku, origin = np.arange(n), np.full(n, history.day_index(cutoff))
        labels = [window_labels(history.arrays, sku, origin, np.full(n, day), np.full(n, day)) for day in range(1, days + 1)]
        question = Question(known, np.column_stack([label.orderable_days > 0 for label in labels]), params)
        sold_age = pl.lit(cutoff) - pl.col("day") < pl.duration(days=yardstick.sold_within_days)
        sold = history.items["sku"].is_in(known.sales_daily.filter(sold_age)["sku"].unique().implode()).to_numpy()
        rows = np.flatnonzero(sold & (question.exposure > 0))
        if len(rows) == 0:
            msg = f"{yardstick.name}: none of {n} SKUs sold up to {cutoff} and is orderable in the {days} days after; ask for more SKUs"
            raise ForecastError(msg)
        return cls(question, rows, np.column_stack([label.units for label in labels]), volume_deciles(known, rows) - 1)

    def window_scores(self, answer: WindowLaw | Quantiles, seconds: float) -> Scores:
        """Return the scores of an answer on the window."""
        units = self.units[self.rows].sum(axis=1)
        if isinstance(answer, Quantiles):
            mean = None if answer.mean is None else float(answer.mean[self.rows].sum())
            return Scores.of(units, answer.values[self.rows], self.decile, mean, seconds)
        law = answer.take(self.rows)
        scores = Scores.of(units, quantiles_of(law), self.decile, float(law.mean.sum()), seconds)
        return replace(scores, rps=ranked_probability_score(law, units), randomised=randomised_coverage(law, units) * len(units))

    def daily_scores(self, quantiles: FloatArray) -> Scores:
        """Return the scores of quantiles of the days, shape (n_sku, 1 or window_days, 3), on the orderable ones."""
        cells = self.question.orderable[self.rows]
        shape = (*cells.shape, len(TAUS))
        decile = np.broadcast_to(self.decile[:, None], cells.shape)[cells]
        return Scores.of(self.units[self.rows][cells], np.broadcast_to(quantiles[self.rows], shape)[cells], decile)


@dataclass(frozen=True)
class Scores:
    """Sums and means of one method on one fold.

    Parameters
    ----------
    cells, units, zeros, covered
        Cells scored, their units, those without a unit, those within [q10, q90].
    pinball
        Mean pinball loss at TAUS, shape (3,).
    brackets
        Cells, y < q and y <= q per tau and volume decile, shape (3, 10, 3).
    expected
        Units expected in all cells.
    rps, randomised
        Mean ranked probability score, and cells within the randomised 80 % interval.
    """

    cells: int
    units: float
    zeros: int
    covered: int
    pinball: FloatArray
    brackets: FloatArray
    expected: float | None
    seconds: float
    rps: float | None = None
    randomised: float | None = None

    @classmethod
    def of(cls, units: FloatArray, quantiles: FloatArray, decile: IntArray, expected: float | None = None, seconds: float = 0.0) -> Scores:
        """Return the scores of quantiles at TAUS, shape (n, 3)."""
        by_tau = list(zip(quantiles.T, TAUS, strict=True))
        return cls(
            cells=len(units),
            units=float(units.sum()),
            zeros=int((units == 0).sum()),
            covered=int(((units >= quantiles[:, 0]) & (units <= quantiles[:, -1])).sum()),
            pinball=np.array([pinball_loss(units, q, tau) for q, tau in by_tau]),
            brackets=np.array([bracket_counts(units, q, decile, 10) for q, _ in by_tau]),
            expected=expected,
            seconds=seconds,
        )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _ratio(parts: list[float | None], whole: float) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) / whole if known and whole > 0 else None


def summary(folds: list[Scores]) -> Figures:
    """Return the figures of one method over its folds."""
    cells = sum(fold.cells for fold in folds)
    counts = np.sum([fold.brackets for fold in folds], axis=0)
    expected = _ratio([fold.expected for fold in folds], sum(fold.units for fold in folds))
    figures: Figures = {"folds": len(folds), "cells": cells}
    for j, tau in enumerate(TAUS):
        figures[f"pinball_{100 * tau:.0f}"] = float(np.mean([fold.pinball[j] for fold in folds]))
    figures["rps"] = _mean([fold.rps for fold in folds])
    for tau, by_decile in zip(TAUS, counts, strict=True):
        name, whole = f"bracket_{100 * tau:.0f}", by_decile.sum(axis=0, keepdims=True)
        worst = bracket_violation_points(by_decile, tau)
        figures |= {
            f"{name}_low": float(whole[0, 1] / cells),
            f"{name}_high": float(whole[0, 2] / cells),
            f"{name}_violation_points": float(bracket_violation_points(whole, tau)[0]),
            f"{name}_worst_decile_points": float(worst.max()),
            f"{name}_worst_decile": int(worst.argmax()) + 1,
        }
    return figures | {
        "coverage_80": sum(fold.covered for fold in folds) / cells,
        "coverage_80_of_zero": sum(fold.zeros for fold in folds) / cells,
        "randomised_coverage_80": _ratio([fold.randomised for fold in folds], cells),
        "bias_frac": None if expected is None else expected - 1.0,
        "seconds": sum(fold.seconds for fold in folds) / len(folds),
    }
