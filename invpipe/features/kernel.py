"""Kernel of the features: one pass over the cells, SKU by SKU; seven arrays of the length of the history are all it allocates."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

#: Half-life of the exponentially weighted rate.
EWMA_HALF_LIFE_DAYS = 28.0

#: The year before: 52 whole weeks, so that weekdays match.
YEAR_DAYS = 364

#: Rolling windows, and the columns of their rate and of their share of sale days; -1 where there is none.
WINDOWS = (7, 14, 28, 56, 91, 182, 364)
RATE_COLUMN = (0, 1, 2, 3, 4, 5, -1)
FRAC_COLUMN = (-1, -1, 6, -1, 7, -1, 8)

#: A month, how many before the last one have a rate of their own, and the quarter that a season is held against.
MONTH_DAYS = 28
MONTHS = 6
QUARTER_DAYS = 91


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
def by_sku(sku: npt.NDArray[np.int64], n_sku: int) -> npt.NDArray[np.int64]:
    """Return the rows of the cells sorted by SKU, those of one SKU in their order."""
    end = np.zeros(n_sku + 1, dtype=np.int64)
    for s in sku:
        end[s + 1] += 1
    end = np.cumsum(end)
    out = np.empty(len(sku), dtype=np.int64)
    for i in range(len(sku)):
        out[end[sku[i]]] = i
        end[sku[i]] += 1
    return out


@njit(cache=True, nogil=True)
def _row_after(days: npt.NDArray[np.int32], lo: int, hi: int, out: npt.NDArray[np.int64]) -> None:
    """Fill out[d + 1] with the first of the rows lo:hi that lies after day d, for d from -1 on."""
    filled = 0
    for r in range(lo, hi):
        out[filled : days[r] + 1] = r
        filled = max(filled, days[r] + 1)
    out[filled:] = hi


@njit(cache=True, nogil=True)
def _orderable_days(span_from: npt.NDArray[np.int32], span_to: npt.NDArray[np.int32], lo: int, hi: int, out: npt.NDArray[np.int64]) -> None:
    """Fill out[d + 1] with the orderable days 0 .. d, for d from -1 on; spans are the rows lo:hi."""
    total, filled = 0, 0
    for r in range(lo, hi):
        out[filled : span_from[r] + 1] = total
        for d in range(span_from[r], span_to[r] + 1):
            total += 1
            out[d + 1] = total
        filled = span_to[r] + 2
    out[filled:] = total


@njit(cache=True, nogil=True)
def _ewma_exposure(
    span_from: npt.NDArray[np.int32],
    span_to: npt.NDArray[np.int32],
    ewma: npt.NDArray[np.float64],
    lo: int,
    k: int,
    day: int,
    decay: npt.NDArray[np.float64],
) -> float:
    """Return the decayed count of orderable days up to `day`; k is the last span that starts by then, below lo where there is none."""
    if k < lo:
        return 0.0
    if span_to[k] <= day:
        return float(ewma[k] * decay[day - span_to[k]])
    before = ewma[k - 1] * decay[day - span_to[k - 1]] if k > lo else 0.0
    return float(before + (1.0 - decay[day - span_from[k] + 1]) / (1.0 - decay[1]))


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
    catalogue: Any,
    calendar: npt.NDArray[np.float32],
    decay: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
) -> None:
    """Fill `out` (n, 40), columns in the order of FEATURES; cells a feature does not exist for keep their NaN.

    Cells are worked on SKU by SKU: its events are laid out by day once, then every window of every cell is a difference of two places.
    `decay` holds the powers 0 .. n_days of the daily decay of the weighted rate.
    """
    sales_ptr, sales_day, sales_cum, sales_square_cum, sales_ewma = sales
    span_ptr, span_from, span_to, span_ewma = spans
    views_ptr, views_day, views_cum = views
    offer_ptr, offer_day, offer_cost, offer_vendors = offers
    release_day, release_year, genre, fmt = catalogue
    n_days = len(decay) - 1
    sold = np.empty(n_days + 1, dtype=np.int64)  # by day + 1: rows of events up to the day, orderable days and units
    opened = np.empty(n_days + 1, dtype=np.int64)
    orderable = np.empty(n_days + 1, dtype=np.int64)
    viewed = np.empty(n_days + 1, dtype=np.int64)
    offered = np.empty(n_days + 1, dtype=np.int64)
    units = np.empty(n_days + 1)
    inverse = 1.0 / np.arange(n_days + 1)  # of a number of days; a rate over none does not exist
    inverse[0] = np.nan
    s = -1
    for i in by_sku(sku, len(sales_ptr) - 1):
        if sku[i] != s:
            s = sku[i]
            s_lo, o_lo, v_lo, f_lo = sales_ptr[s], span_ptr[s], views_ptr[s], offer_ptr[s]
            _row_after(sales_day, s_lo, sales_ptr[s + 1], sold)
            for k in range(n_days + 1):
                units[k] = sales_cum[sold[k]]
            _row_after(span_from, o_lo, span_ptr[s + 1], opened)
            _orderable_days(span_from, span_to, o_lo, span_ptr[s + 1], orderable)
            _row_after(views_day, v_lo, views_ptr[s + 1], viewed)
            _row_after(offer_day, f_lo, offer_ptr[s + 1], offered)
        t, row = origin[i], out[i]
        now = sold[t + 1]
        # demand: rate_7 .. rate_182 in columns 0-5, shares of sale days over 28, 91 and 364 days in 6-8
        for j in range(7):
            window = WINDOWS[j]
            past = max(t + 1 - window, 0)
            per_day = inverse[orderable[t + 1] - orderable[past]]
            if RATE_COLUMN[j] >= 0:
                row[RATE_COLUMN[j]] = (sales_cum[now] - units[past]) * per_day
            if FRAC_COLUMN[j] >= 0:
                row[FRAC_COLUMN[j]] = (now - sold[past]) * per_day
        exposure = _ewma_exposure(span_from, span_to, span_ewma, o_lo, opened[t + 1] - 1, t, decay)
        if exposure > 0:
            row[9] = sales_ewma[now - 1] * decay[t - sales_day[now - 1]] / exposure if now > s_lo else 0.0
        if now > s_lo:
            row[10] = t - sales_day[now - 1]
        a, b = t + first[i] - YEAR_DAYS, t + last[i] - YEAR_DAYS
        if a >= 0 and b <= t:
            row[11] = (units[b + 1] - units[a]) * inverse[orderable[b + 1] - orderable[a]]
        # views
        month, quarter = max(t - 27, 0), max(t - 90, 0)
        row[12] = views_cum[viewed[t + 1]] - views_cum[viewed[month]]
        seen = views_cum[viewed[t + 1]] - views_cum[viewed[quarter]]
        if seen > 0:
            row[13] = (sales_cum[now] - units[quarter]) / seen
        # supply
        row[14] = (orderable[t + 1] - orderable[month]) / min(28, t + 1)
        k = offered[t + 1] - 1
        if k >= f_lo:
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
        if now > s_lo:
            _fill_pattern(sales_day, sales_cum, sales_square_cum, s_lo, sold[max(t - 90, 0)], sold[max(t - 363, 0)], now, t, row[24:])
        else:
            row[24], row[25] = 0.0, 0.0
        _fill_season(units, orderable, inverse, t, row[4], row[11], row[31:])


@njit(cache=True, nogil=True)
def _fill_pattern(
    day: npt.NDArray[np.int32],
    units: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    first: int,
    quarter: int,
    year: int,
    now: int,
    origin: int,
    row: npt.NDArray[np.float32],
) -> None:
    """Fill the sale pattern from a SKU's sales first:now; those of the last 91 and 364 days begin at the rows `quarter` and `year`."""
    row[0] = units[now] - units[first]
    row[1] = now - first
    row[2] = origin - day[first]
    if now - first > 1:
        row[3] = (day[now - 1] - day[first]) / (now - first - 1)
    if now > quarter:
        row[4] = (units[now] - units[quarter]) / (now - quarter)
    if now > year:
        mean = (units[now] - units[year]) / (now - year)
        row[5] = mean
        if now - year > 1:
            row[6] = (squares[now] - squares[year]) / (now - year) / (mean * mean) - 1.0


@njit(cache=True, nogil=True)
def _fill_season(
    units: npt.NDArray[np.float64],
    orderable: npt.NDArray[np.int64],
    inverse: npt.NDArray[np.float64],
    origin: int,
    rate_quarter: float,
    rate_last_year: float,
    row: npt.NDArray[np.float32],
) -> None:
    """Fill months and season of a cell, given its rates of the last quarter and of last year's window.

    `units` and `orderable` are counts of the days before a day, `inverse` is that of :func:`fill_features`.
    """
    end = max(origin + 1 - MONTH_DAYS, 0)
    units_to_end, days_to_end = units[end], orderable[end]
    for j in range(MONTHS):
        end = max(end - MONTH_DAYS, 0)
        units_to_start, days_to_start = units[end], orderable[end]
        row[j] = (units_to_end - units_to_start) * inverse[days_to_end - days_to_start]
        units_to_end, days_to_end = units_to_start, days_to_start
    end = origin + 1 - YEAR_DAYS
    if end < MONTH_DAYS:  # too little is known of the year before
        return
    start = max(end - QUARTER_DAYS, 0)
    before = (units[end] - units[start]) * inverse[orderable[end] - orderable[start]]
    row[6] = before
    if before > 0:
        row[7] = rate_last_year / before
        row[8] = rate_quarter * row[7]
