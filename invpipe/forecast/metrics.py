r"""Metrics of count forecasts.

Pinball loss :math:`\rho_\tau(y, q) = \tau (y - q)^+ + (1 - \tau)(q - y)^+`. A quantile of a count is calibrated when
:math:`P(y < q) \le \tau \le P(y \le q)` (the bracket): counts have atoms, so plain coverage cannot hit its nominal value.

Where the whole law is known, the randomised probability integral transform :math:`u = P(D < y) + v P(D = y)`,
:math:`v \sim U(0, 1)`, is uniform for a calibrated law (Czado, Gneiting, Held 2009), and the share of :math:`u` in [.1, .9] is the
*randomised coverage* of the 80 % interval. The ranked probability score is
:math:`\sum_{k \ge 0} (P(D \le k) - 1[y \le k])^2` (Epstein 1969).

>>> float(pinball_loss(np.array([0.0, 4.0]), np.array([2.0, 2.0]), 0.9))
1.0
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64]


class Law(Protocol):
    """What a score needs of count laws, one per row."""

    def survival(self, units: npt.NDArray[np.generic]) -> FloatArray:
        """Return P(D >= units) per row."""

    def ranked_probability_scores(self, units: FloatArray) -> FloatArray:
        """Return the ranked probability score of the units seen per row, units."""


def pinball_loss(units: FloatArray, quantile: Numbers, tau: float) -> float:
    """Return the mean pinball loss of a quantile forecast, units."""
    return float(np.mean(pinball_losses(units, quantile, tau)))


def pinball_losses(units: FloatArray, quantile: Numbers, tau: float) -> FloatArray:
    """Return the pinball loss of a quantile forecast per cell, units."""
    gap = np.asarray(units, dtype=np.float64) - np.asarray(quantile, dtype=np.float64)
    return np.asarray(np.maximum(tau * gap, (tau - 1.0) * gap))


def bracket(units: FloatArray, quantile: Numbers, tau: float) -> tuple[float, float, float]:
    """Return P(y < q), P(y <= q), and by how many percentage points tau lies outside of them (0 = calibrated)."""
    below, at_most = float(np.mean(units < quantile)), float(np.mean(units <= quantile))
    return below, at_most, 100.0 * max(below - tau, tau - at_most, 0.0)


def bracket_counts(units: FloatArray, quantile: Numbers, group: IntArray, n_groups: int) -> FloatArray:
    """Return per group of cells the numbers of cells, of y < q and of y <= q, shape (n_groups, 3); counts add over folds, shares do not."""
    columns = (np.ones(len(units)), units < quantile, units <= quantile)
    return np.column_stack([np.bincount(group, weights=column, minlength=n_groups) for column in columns])


def bracket_violation_points(counts: FloatArray, tau: float) -> FloatArray:
    """Return by how many percentage points tau lies outside the bracket, per row of :func:`bracket_counts`; 0 where there is no cell."""
    cells = np.maximum(counts[:, 0], 1.0)
    outside = np.maximum(np.maximum(counts[:, 1] / cells - tau, tau - counts[:, 2] / cells), 0.0)
    return np.asarray(np.where(counts[:, 0] > 0, 100.0 * outside, 0.0))


def deciles(*volumes: FloatArray) -> IntArray:
    """Return the decile of each row, 0 (least) to 9, by the first volume, ties by the next, then by position; sizes differ by 1 at most."""
    order = np.lexsort(volumes[::-1])
    decile = np.empty(len(order), dtype=np.int64)
    decile[order] = np.arange(len(order)) * 10 // max(len(order), 1)
    return decile


def randomised_pit(law: Law, units: FloatArray, seed: int = 0) -> FloatArray:
    """Return the randomised probability integral transform per cell, uniform on (0, 1) for a calibrated law."""
    draw = np.random.default_rng(seed).random(len(units))
    at_least, above = law.survival(units), law.survival(units + 1)
    return np.asarray(1.0 - at_least + draw * (at_least - above))


def randomised_coverage(law: Law, units: FloatArray, level: float = 0.8, seed: int = 0) -> float:
    """Return the share of cells whose randomised PIT lies in the central interval of the given level."""
    pit = randomised_pit(law, units, seed)
    tail = (1.0 - level) / 2.0
    return float(np.mean((pit >= tail) & (pit <= 1.0 - tail)))


def ranked_probability_score(law: Law, units: FloatArray) -> float:
    """Return the mean ranked probability score, units."""
    return float(law.ranked_probability_scores(units).mean())
