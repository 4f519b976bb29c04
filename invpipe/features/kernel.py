"""Kernel of the features: one pass over the cells, logarithmic searches in each SKU's events, nothing allocated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from invpipe.grid.spans import count_up_to, orderable_days_up_to

#: Half-life of the exponentially weighted rate.
EWMA_HALF_LIFE_DAYS = 28.0

#: The year before: 52 whole weeks, so that weekdays match.
YEAR_DAYS = 364


@njit(cache=True, nogil=True)
def ewma_at_sales(
    ptr: npt.NDArray[np.int64], day: npt.NDArray[np.int32], units: npt.NDArray[np.float64], half_life_days: float
) -> npt.NDArray[np.float64]:
    """Return, at each sale, the decayed sum of the SKU's sales up to and including it, units."""
    decay = 0.5 ** (1.0 / half_life_days)
    out = np.empty(len(day))
    for s in range(len(ptr) - 1):
        level = 0.0
        for k in range(ptr[s], ptr[s + 1]):
            if k > ptr[s]:
                level *= decay ** (day[k] - day[k - 1])
            level += units[k]
            out[k] = level
    return out


@njit(cache=True, nogil=True)
def ewma_at_spans(
    ptr: npt.NDArray[np.int64], span_from: npt.NDArray[np.int32], span_to: npt.NDArray[np.int32], half_life_days: float
) -> npt.NDArray[np.float64]:
    """Return, at the end of each span, the decayed count of the SKU's orderable days up to it."""
    decay = 0.5 ** (1.0 / half_life_days)
    out = np.empty(len(span_to))
    for s in range(len(ptr) - 1):
        level = 0.0
        for k in range(ptr[s], ptr[s + 1]):
            if k > ptr[s]:
                level *= decay ** (span_to[k] - span_to[k - 1])
            level += (1.0 - decay ** (span_to[k] - span_from[k] + 1)) / (1.0 - decay)
            out[k] = level
    return out


@njit(cache=True, nogil=True)
def _ewma_exposure(
    span_from: npt.NDArray[np.int32],
    span_to: npt.NDArray[np.int32],
    ewma: npt.NDArray[np.float64],
    lo: int,
    hi: int,
    day: int,
    decay: float,
) -> float:
    """Return the decayed count of orderable days up to `day`."""
    k = count_up_to(span_from, lo, hi, day) - 1
    if k < lo:
        return 0.0
    if span_to[k] <= day:
        return float(ewma[k] * decay ** (day - span_to[k]))
    before = ewma[k - 1] * decay ** (day - span_to[k - 1]) if k > lo else 0.0
    return float(before + (1.0 - decay ** (day - span_from[k] + 1)) / (1.0 - decay))


@njit(cache=True, nogil=True)
def fill_features(
    sku: npt.NDArray[np.int64],
    origin: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    sales: Any,
    spans: Any,
    views: Any,
    offers: Any,
    release_day: npt.NDArray[np.float64],
    release_year: npt.NDArray[np.float32],
    genre: npt.NDArray[np.float32],
    fmt: npt.NDArray[np.float32],
    calendar: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> None:
    """Fill `out` (n, 24), columns in the order of FEATURES; cells a feature does not exist for keep their NaN."""
    sales_ptr, sales_day, sales_cum, sales_ewma = sales
    span_ptr, span_from, span_to, before, span_ewma = spans
    views_ptr, views_day, views_cum = views
    offer_ptr, offer_day, offer_cost, offer_vendors = offers
    decay = 0.5 ** (1.0 / EWMA_HALF_LIFE_DAYS)
    rate_days = (7, 14, 28, 56, 91, 182)
    frac_days = (28, 91, 364)
    for i in range(len(sku)):
        s, t = sku[i], origin[i]
        row = out[i]
        s_lo, s_hi = sales_ptr[s], sales_ptr[s + 1]
        now = count_up_to(sales_day, s_lo, s_hi, t)
        o_lo, o_hi = span_ptr[s], span_ptr[s + 1]
        open_now = orderable_days_up_to(span_from, span_to, before, o_lo, o_hi, t)
        # demand
        for j in range(6):
            then = count_up_to(sales_day, s_lo, now, t - rate_days[j])
            days = open_now - orderable_days_up_to(span_from, span_to, before, o_lo, o_hi, t - rate_days[j])
            if days > 0:
                row[j] = (sales_cum[now] - sales_cum[then]) / days
        for j in range(3):
            then = count_up_to(sales_day, s_lo, now, t - frac_days[j])
            days = open_now - orderable_days_up_to(span_from, span_to, before, o_lo, o_hi, t - frac_days[j])
            if days > 0:
                row[6 + j] = (now - then) / days
        exposure = _ewma_exposure(span_from, span_to, span_ewma, o_lo, o_hi, t, decay)
        if exposure > 0:
            row[9] = sales_ewma[now - 1] * decay ** (t - sales_day[now - 1]) / exposure if now > s_lo else 0.0
        if now > s_lo:
            row[10] = t - sales_day[now - 1]
        a, b = t + first[i] - YEAR_DAYS, t + last[i] - YEAR_DAYS
        if a >= 0 and b <= t:
            days = orderable_days_up_to(span_from, span_to, before, o_lo, o_hi, b) - orderable_days_up_to(
                span_from, span_to, before, o_lo, o_hi, a - 1
            )
            if days > 0:
                row[11] = (sales_cum[count_up_to(sales_day, s_lo, now, b)] - sales_cum[count_up_to(sales_day, s_lo, now, a - 1)]) / days
        # views
        v_lo, v_hi = views_ptr[s], views_ptr[s + 1]
        v_now = count_up_to(views_day, v_lo, v_hi, t)
        row[12] = views_cum[v_now] - views_cum[count_up_to(views_day, v_lo, v_now, t - 28)]
        seen = views_cum[v_now] - views_cum[count_up_to(views_day, v_lo, v_now, t - 91)]
        if seen > 0:
            row[13] = (sales_cum[now] - sales_cum[count_up_to(sales_day, s_lo, now, t - 91)]) / seen
        # supply
        row[14] = (open_now - orderable_days_up_to(span_from, span_to, before, o_lo, o_hi, t - 28)) / min(28, t + 1)
        k = count_up_to(offer_day, offer_ptr[s], offer_ptr[s + 1], t) - 1
        if k >= offer_ptr[s]:
            row[15] = offer_vendors[k]
            row[16] = offer_cost[k]
        # calendar of the target's first day, catalogue of the item
        target = t + first[i]
        row[17] = calendar[target, 0]
        row[18] = calendar[target, 1]
        row[19] = calendar[target, 2]
        if not np.isnan(release_day[s]):
            row[20] = release_year[s]
            row[21] = t - release_day[s]
        elif now > s_lo:
            row[21] = t - sales_day[s_lo]
        row[22] = genre[s]
        row[23] = fmt[s]
