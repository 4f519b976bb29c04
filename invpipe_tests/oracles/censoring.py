"""Censored demand from its definitions, one day at a time, in plain Python. Slow on purpose."""

from __future__ import annotations

import math

from invpipe_tests.oracles.forecast import pmf


def tail_mean(mean: float, size: float, units: int, terms: int = 5000) -> float:
    """E[D | D >= units], outcome by outcome."""
    tail = [(n, pmf(mean, size, n)) for n in range(units, units + terms)]
    return math.fsum(n * p for n, p in tail) / math.fsum(p for _, p in tail)


def rate(
    demand: dict[int, float], orderable: set[int], level: float, weight: float, half_life_days: float, strength: float, day: int
) -> float:
    """Rate of a SKU on a day: its level times the posterior mean of x, all orderable days weighted by their distance."""
    if math.isinf(strength):
        return level
    near = {s: weight * 0.5 ** (abs(day - s) / half_life_days) for s in orderable}
    wanted = math.fsum(near[s] * demand.get(s, 0.0) for s in orderable)
    seen = math.fsum(near[s] * level for s in orderable)
    return level * (strength + wanted) / (strength + seen)


def counted_gaps(orderable: set[int], n_days: int, max_gap_days: int) -> set[int]:
    """Days out of stock that count: after an orderable day, in a run of at most so many days that are not orderable."""
    out: set[int] = set()
    day = min(orderable, default=n_days)
    while day < n_days:
        end = day
        while end < n_days and end not in orderable:
            end += 1
        if end - day <= max_gap_days:
            out |= set(range(day, end))
        day = max(end, day + 1)
    return out
