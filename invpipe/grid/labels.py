"""Labels of window demand: units sold on the orderable days of a window, and how many those were.

For SKU i and origin T the window (a, b) covers days T+a .. T+b. A label never reaches past the last day of the history it is taken
from: an origin whose window does is refused, which is the purge of a walk-forward fold (the label of a training origin ends at or
before the cutoff).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.errors import ForecastError
from invpipe.grid.spans import count_up_to, days_before, orderable_days_up_to
from invpipe.history import HistoryArrays


@dataclass(frozen=True)
class WindowLabels:
    """Labels per cell, shape (n,): units sold on orderable days of the window, and the number of those days."""

    units: npt.NDArray[np.float64]
    orderable_days: npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _label(
    sku: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    sales_ptr: npt.NDArray[np.int64],
    sales_day: npt.NDArray[np.int32],
    sales_cum: npt.NDArray[np.float64],
    span_ptr: npt.NDArray[np.int64],
    span_from: npt.NDArray[np.int32],
    span_to: npt.NDArray[np.int32],
    before: npt.NDArray[np.int64],
    units: npt.NDArray[np.float64],
    days: npt.NDArray[np.int64],
) -> None:
    for i in range(len(sku)):
        s = sku[i]
        a = count_up_to(sales_day, sales_ptr[s], sales_ptr[s + 1], start[i] - 1)
        b = count_up_to(sales_day, sales_ptr[s], sales_ptr[s + 1], end[i])
        units[i] = sales_cum[b] - sales_cum[a]
        lo, hi = span_ptr[s], span_ptr[s + 1]
        days[i] = orderable_days_up_to(span_from, span_to, before, lo, hi, end[i]) - orderable_days_up_to(
            span_from, span_to, before, lo, hi, start[i] - 1
        )


def window_labels(
    arrays: HistoryArrays,
    sku: npt.NDArray[np.int64],
    origin: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
) -> WindowLabels:
    """Return the label of each cell.

    Parameters
    ----------
    arrays
        Events of the shop, cut at the cutoff.
    sku, origin
        SKU index and day index of the origin, shape (n,).
    first, last
        First and last day of the window counted from the origin, shape (n,).

    Raises
    ------
    ForecastError
        Where a window ends after the last day of the history: its label would need the future.
    """
    late = origin + last >= arrays.n_days
    if late.any():
        k = int(np.flatnonzero(late)[0])
        msg = (
            f"{int(late.sum())} of {len(late)} windows end after the last day of the history (day index {arrays.n_days - 1}), "
            f"first origin {int(origin[k])} with window ({int(first[k])}, {int(last[k])}); use earlier origins"
        )
        raise ForecastError(msg)
    units = np.full(len(sku), np.nan)
    days = np.full(len(sku), -1, dtype=np.int64)
    sales = arrays.sales
    _label(
        sku,
        origin + first,
        origin + last,
        sales.ptr,
        sales.day,
        sales.cumulative,
        arrays.span_ptr,
        arrays.span_from,
        arrays.span_to,
        days_before(arrays),
        units,
        days,
    )
    return WindowLabels(units, days)
