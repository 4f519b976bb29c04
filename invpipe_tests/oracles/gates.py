"""Population stability index, cell by cell from its definition."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


def stability_index(reference: Sequence[float], now: Sequence[float]) -> float:
    """Sum of (q - p) ln(q / p) over the bins between the deciles of the reference and that of missing values, half a cell added to each."""
    known = sorted(value for value in reference if not math.isnan(value))
    edges = sorted({_quantile(known, k / 10) for k in range(1, 10)}) if known else []

    def bin_of(value: float) -> int:
        return -1 if math.isnan(value) else sum(value > edge for edge in edges)

    def shares(values: Sequence[float]) -> list[float]:
        counts = Counter(bin_of(value) for value in values)
        cells = [counts[k] + 0.5 for k in range(-1, len(edges) + 1)]
        return [cell / sum(cells) for cell in cells]

    return sum((q - p) * math.log(q / p) for p, q in zip(shares(reference), shares(now), strict=True))


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Linear between order statistics, written as numpy writes it, so that ties stay ties."""
    position = level * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    weight, gap = position - low, ordered[high] - ordered[low]
    return ordered[high] - gap * (1 - weight) if weight >= 0.5 else ordered[low] + gap * weight
