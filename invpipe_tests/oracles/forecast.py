"""Laws, scores and folds from their definitions, one number at a time, in plain Python. Slow on purpose."""

from __future__ import annotations

import math
from datetime import date, timedelta
from itertools import count


def pmf(mean: float, size: float, n: int) -> float:
    """P(D = n) of the negative binomial with this mean and size; size inf is Poisson."""
    if mean == 0:
        return float(n == 0)
    if math.isinf(size):
        return math.exp(-mean + n * math.log(mean) - math.lgamma(n + 1))
    log_choose = math.lgamma(n + size) - math.lgamma(size) - math.lgamma(n + 1)
    return math.exp(log_choose + size * math.log(size / (size + mean)) + n * math.log(mean / (size + mean)))


def cdf(mean: float, size: float, n: int) -> float:
    """P(D <= n)."""
    return math.fsum(pmf(mean, size, k) for k in range(n + 1))


def expected_sales(mean: float, size: float, stock: int) -> float:
    """E[min(D, stock)], outcome by outcome."""
    below = math.fsum(k * pmf(mean, size, k) for k in range(stock))
    return below + stock * (1 - math.fsum(pmf(mean, size, k) for k in range(stock)))


def ranked_probability_score(mean: float, size: float, units: int, terms: int = 2000) -> float:
    """Sum over k of (P(D <= k) - 1[units <= k])^2, with so many terms that nothing is left."""
    total, at_most = 0.0, 0.0
    for k in range(terms):
        at_most += pmf(mean, size, k)
        total += (at_most - (units <= k)) ** 2
    return total


def pinball(units: float, quantile: float, tau: float) -> float:
    """The pinball loss of one cell."""
    return tau * (units - quantile) if units >= quantile else (1 - tau) * (quantile - units)


def folds(first_day: date, last_day: date, horizon_days: int, step_days: int, min_train_days: int) -> list[tuple[date, date, date]]:
    """(Cutoff, first and last test day) of all folds there is room for, oldest first: walk back until training is too short."""
    found = []
    for k in count():
        test_last = last_day - timedelta(days=k * step_days)
        cutoff = test_last - timedelta(days=horizon_days)
        if (cutoff - first_day).days + 1 < min_train_days:
            return found[::-1]
        found.append((cutoff, cutoff + timedelta(days=1), test_last))
    raise AssertionError
