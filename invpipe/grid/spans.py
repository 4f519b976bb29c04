"""Orderable days in a range, by prefix sums over a SKU's spans."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.history import HistoryArrays


@njit(cache=True, nogil=True)
def count_up_to(values: npt.NDArray[np.int32], lo: int, hi: int, day: int) -> int:
    """Return the first row in lo:hi whose value exceeds `day` (rows are sorted)."""
    while lo < hi:
        mid = (lo + hi) >> 1
        if values[mid] <= day:
            lo = mid + 1
        else:
            hi = mid
    return lo


@njit(cache=True, nogil=True)
def orderable_days_up_to(
    span_from: npt.NDArray[np.int32], span_to: npt.NDArray[np.int32], before: npt.NDArray[np.int64], lo: int, hi: int, day: int
) -> int:
    """Return the orderable days 0 .. day of the SKU whose spans are rows lo:hi; `before` as of :func:`days_before`."""
    k = count_up_to(span_from, lo, hi, day) - 1
    if k < lo:
        return 0
    return int(before[k] + min(day, span_to[k]) - span_from[k] + 1)


def days_before(arrays: HistoryArrays) -> npt.NDArray[np.int64]:
    """Return, per span, the orderable days of its SKU in earlier spans."""
    length = (arrays.span_to - arrays.span_from + 1).astype(np.int64)
    total = np.concatenate([[0], np.cumsum(length)])
    start = np.repeat(total[arrays.span_ptr[:-1]], np.diff(arrays.span_ptr))
    return np.asarray(total[:-1] - start)
