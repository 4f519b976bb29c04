r"""The shop's total in a window as last year says it, against which the sum of all SKUs' forecasts is held.

A booster sees every SKU, but only as many Christmases as the history has: where the level of the whole shop moves with the year, it
learns few periods by heart, and the sum of its forecasts errs by more than any of the SKUs' own noise. What the shop sold is known to
repeat: with U(a, b) the units sold on days a to b, T the last day, L the days of the window and k the days, at most GROWTH_DAYS, that
have a day of the year before,

.. math:: S = U(\text{window} - 364) \, \frac{U(T - k + 1, T)}{U(T - k - 363, T - 364)}

is the seasonal total with the growth since. All means of the window are multiplied by :math:`(S / M)^{L / (L + 28)}`, where M is what they
add up to: the two totals are averaged, on the scale of logarithms, the seasonal one with more weight in long windows, in which the noise
of last year's days averages out. The step is bounded, and there is none until four weeks have a day of the year before.

Measured on Online Retail (two years), ten origins, all window lengths in one model: the logarithm of the total of 28 days errs by .09
instead of .14 (root of the mean square), that of 60 days by .09 instead of .16, and the pinball loss at .5 falls by 3 %.

Source: seasonal naive forecast, Hyndman & Athanasopoulos (2021), *Forecasting: Principles and Practice*; equal weights of two forecasts,
Clemen (1989), International Journal of Forecasting 5(4).
"""

from __future__ import annotations

import numpy as np

from invpipe.features.kernel import YEAR_DAYS
from invpipe.history import HistoryArrays

#: At most so many days tell the growth since last year, and at least so many have to.
GROWTH_DAYS = 182
MIN_GROWTH_DAYS = 28

#: Days of a window in which the season has half the weight.
HALF_WEIGHT_DAYS = 28

#: The seasonal total is taken as at most so many times the forecasts' sum, and at least as its inverse.
MAX_RATIO = 1.5


def seasonal_total(arrays: HistoryArrays, first: int, last: int) -> float | None:
    """Return the units the whole shop sells in the window `first` to `last` days after the history's end if it moves as a year before.

    None where the year before is not known well enough: fewer than MIN_GROWTH_DAYS days have one, the window's is not over or began before
    the history, or nothing was sold in it or in what the growth is taken from.
    """
    end = arrays.n_days  # the first day not known
    start_last_year, end_last_year = end - 1 + first - YEAR_DAYS, end + last - YEAR_DAYS
    growth_days = min(GROWTH_DAYS, end - YEAR_DAYS)
    if growth_days < MIN_GROWTH_DAYS or start_last_year < 0 or end_last_year > end:
        return None
    by_day = np.bincount(arrays.sales.day, weights=arrays.sales.value, minlength=end)
    window = by_day[start_last_year:end_last_year].sum()
    before = by_day[end - YEAR_DAYS - growth_days : end - YEAR_DAYS].sum()
    now = by_day[end - growth_days : end].sum()
    return float(window * now / before) if min(window, now, before) > 0 else None


def season_step(arrays: HistoryArrays, first: int, last: int, expected_units: float) -> float:
    """Return the factor for the means of all SKUs in a window, 1 where the season is not known.

    Parameters
    ----------
    arrays
        The shop up to its last known day.
    first, last
        The window, counted from that day.
    expected_units
        What the means add up to, in units that would be sold.
    """
    seasonal = seasonal_total(arrays, first, last)
    if seasonal is None or expected_units <= 0:
        return 1.0
    days = last - first + 1
    ratio = min(max(seasonal / expected_units, 1 / MAX_RATIO), MAX_RATIO)
    return float(ratio ** (days / (days + HALF_WEIGHT_DAYS)))
