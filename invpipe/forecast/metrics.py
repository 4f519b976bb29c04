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

import numpy as np
import numpy.typing as npt

from invpipe.forecast.law import CountLaw

FloatArray = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64] | npt.NDArray[np.int64]

#: Terms of the ranked probability score are summed while P(D > k) exceeds this or k < y.
RPS_TOLERANCE = 1e-6


def pinball_loss(units: FloatArray, quantile: Numbers, tau: float) -> float:
    """Return the mean pinball loss of a quantile forecast, units."""
    gap = np.asarray(units, dtype=np.float64) - np.asarray(quantile, dtype=np.float64)
    return float(np.mean(np.maximum(tau * gap, (tau - 1.0) * gap)))


def bracket(units: FloatArray, quantile: Numbers, tau: float) -> tuple[float, float, float]:
    """Return P(y < q), P(y <= q), and by how many percentage points tau lies outside of them (0 = calibrated)."""
    below, at_most = float(np.mean(units < quantile)), float(np.mean(units <= quantile))
    return below, at_most, 100.0 * max(below - tau, tau - at_most, 0.0)


def randomised_pit(law: CountLaw, units: FloatArray, seed: int = 0) -> FloatArray:
    """Return the randomised probability integral transform per cell, uniform on (0, 1) for a calibrated law."""
    draw = np.random.default_rng(seed).random(len(units))
    at_least, above = law.survival(units), law.survival(units + 1)
    return np.asarray(1.0 - at_least + draw * (at_least - above))


def randomised_coverage(law: CountLaw, units: FloatArray, level: float = 0.8, seed: int = 0) -> float:
    """Return the share of cells whose randomised PIT lies in the central interval of the given level."""
    pit = randomised_pit(law, units, seed)
    tail = (1.0 - level) / 2.0
    return float(np.mean((pit >= tail) & (pit <= 1.0 - tail)))


def ranked_probability_score(law: CountLaw, units: FloatArray) -> float:
    """Return the mean ranked probability score, units."""
    total = np.zeros(len(units))
    live = np.arange(len(units))
    k = 0
    while len(live):
        above = law.take(live).survival(np.full(len(live), k + 1))
        total[live] += (1.0 - above - (units[live] <= k)) ** 2
        live = live[(above > RPS_TOLERANCE) | (units[live] > k)]
        k += 1
    return float(total.mean())
