r"""Lost demand: what was wanted on days on which the shop sold out or was out of stock.

Stock-outs are not independent of demand. Two things are lost with them:

- a day that *sells out* shows only that demand was at least what was sold; taken at face value, with the exposure of a whole day, it
  lowers the rate even where rates are constant;
- days *out of stock* follow days of high demand; where rates are autocorrelated they are days of high demand themselves, and leaving
  them out keeps the slow ones.

Model: demand of SKU i on day t is negative binomial with mean :math:`\mu_i x_{it}` and a size by class of :math:`\mu`. The relative
rate x is estimated from the SKU's orderable days on both sides, each weighted by its distance:

.. math:: x_t = \frac{\kappa + \sum_s \delta^{|t-s|} w y_s}{\kappa + \sum_s \delta^{|t-s|} w \mu}

with s over orderable days, y the demand, w = mean / variance of a day's demand, :math:`\delta` a decay and :math:`\kappa` the weight of
x = 1: the mean of a gamma posterior with forgetting. Of a sold-out day y is :math:`E[D \mid D \ge sold]` under the current rate; sizes,
levels and rates are found by a few rounds of expectation and maximisation. Decay and :math:`\kappa` are the pair, of a small grid that
contains the constant rate, that best predicts each orderable day from the others (leave-one-out quasi-likelihood). A day out of stock
is given the rate :math:`\mu_i x_{it}`.

Everything read lies at or before the last day of the history: labels of a fold do not reach past its cutoff.

Limits: what keeps a SKU from being orderable must depend on its demand through what was sold (a base stock that runs out does; a shop that
delists what it expects to fail does not). Gaps longer than MAX_GAP_DAYS, and the days before the first span, are not stock-outs but
unknown: they are left out, as are all gaps of a SKU that never sold.

Source: censored likelihood by EM, Dempster, Laird & Rubin (1977), Journal of the Royal Statistical Society B 39(1); ignorable selection,
Rubin (1976), Biometrika 63(3); gamma posterior with forgetting, West & Harrison (1997), *Bayesian Forecasting and Dynamic Models*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit
from scipy import optimize, special

from invpipe.errors import ForecastError
from invpipe.forecast.law import CountLaw
from invpipe.forecast.params import ForecastParams
from invpipe.grid import window_labels
from invpipe.history import HistoryArrays, ShopHistory

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

#: Gaps between orderable days up to this length are stock-outs; the days of longer ones count nowhere.
MAX_GAP_DAYS = 60

#: Half-lives, days, and weights of x = 1, units of information, tried beside the constant rate.
HALF_LIFE_DAYS = (7.0, 14.0, 28.0, 56.0)
STRENGTHS = (1.0, 3.0, 10.0)

#: Rounds of expectation and maximisation, classes of the level with a size of their own, and bounds of the logarithm of that size.
ROUNDS = 5
SIZE_CLASSES = 8
LOG_SIZE_BOUNDS = (-4.0, 6.0)

#: At most about so many orderable days choose the size of a class, and so many SKU-days the pace of the rates.
MAX_SIZE_CELLS = 20_000
MAX_PACE_CELLS = 3_000_000

#: Least level, units per day; below it the chance of selling out is no longer a number.
MIN_LEVEL = 1e-6
MIN_TAIL = 1e-200


@dataclass(frozen=True)
class Pace:
    """How rates move: days until an observation's weight halves, and the weight of the SKU's level; inf is a constant rate."""

    half_life_days: float
    strength: float


CONSTANT = Pace(1.0, np.inf)


@dataclass(frozen=True)
class CompletedLabels:
    """Labels per window, shape (n,).

    Parameters
    ----------
    units
        Units sold on the orderable days.
    lost_units
        Expected units wanted beyond these, on sold-out days and days out of stock.
    days
        Days that count: orderable, or out of stock in a gap of at most MAX_GAP_DAYS of a SKU that has sold.
    """

    units: FloatArray
    lost_units: FloatArray
    days: IndexArray


def tail_mean(mean: FloatArray, size: FloatArray, units: FloatArray) -> FloatArray:
    """Return E[D | D >= units] of negative binomial demand, units; shape (n,) each.

    E[D; D >= s] = mean * P(D' >= s - 1), where D' has the size r + 1 and the mean mean * (r + 1) / r (the size-biased law).
    """
    tail = CountLaw(mean, size).survival(units)
    biased = CountLaw(mean * (1.0 + 1.0 / size), size + 1.0).survival(units - 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = mean * biased / tail
    return np.where(tail > MIN_TAIL, np.maximum(expected, units), units)


def fit_censored_size(mean: FloatArray, units: FloatArray, sold_out: BoolArray, weight: FloatArray) -> float:
    """Return the size r of the negative binomial likeliest for weighted days with given means; sold-out ones say D >= units."""
    m, y, w = mean[~sold_out], units[~sold_out], weight[~sold_out]
    censored, least, times = mean[sold_out], units[sold_out], weight[sold_out]

    def loss(log_size: float) -> float:
        r = np.exp(log_size)
        density = special.gammaln(y + r) - special.gammaln(r) + y * np.log(m / (m + r)) - r * np.log1p(m / r)
        tail = CountLaw(censored, np.full(len(censored), r)).survival(least)
        return -float((w * density).sum() + (times * np.log(np.maximum(tail, MIN_TAIL))).sum())

    return float(np.exp(optimize.minimize_scalar(loss, bounds=LOG_SIZE_BOUNDS, method="bounded").x))


def sold_out_days(history: ShopHistory) -> BoolArray:
    """Return, per row of `history.arrays.sales`, whether the day sold all there was.

    Where stock is known that is opening stock <= units sold. Elsewhere it is a sale on the last day of a span after which the SKU was not
    orderable: a shelf refilled the next morning is missed.
    """
    arrays = history.arrays
    sales = arrays.sales
    sku = _sku_of_sales(arrays)
    span_sku = np.repeat(np.arange(arrays.n_skus), np.diff(arrays.span_ptr))
    ends = span_sku * arrays.n_days + arrays.span_to
    at_end = np.isin(sku * arrays.n_days + sales.day, ends[arrays.span_to < arrays.n_days - 1])
    if history.stock_daily is None:
        return np.asarray(at_end)
    index = pl.DataFrame({"sku": list(history.skus)}, schema={"sku": pl.String}).with_row_index("i")
    epoch = pl.lit(history.first_day)
    stock = history.stock_daily.join(index, on="sku").select(
        pl.col("i").cast(pl.Int64), ((pl.col("day") - epoch).dt.total_days()).cast(pl.Int64).alias("day"), "on_hand_units"
    )
    rows = pl.DataFrame({"i": sku, "day": sales.day.astype(np.int64)})
    on_hand = rows.join_asof(stock.sort("i", "day"), on="day", by="i", strategy="backward", check_sortedness=False)["on_hand_units"]
    known = on_hand.is_not_null().to_numpy()
    return np.asarray(np.where(known, on_hand.fill_null(0).to_numpy() <= sales.value, at_end))


def _sku_of_sales(arrays: HistoryArrays) -> IndexArray:
    return np.repeat(np.arange(arrays.n_skus), np.diff(arrays.sales.ptr))


def orderable_days(arrays: HistoryArrays) -> IndexArray:
    """Return the number of orderable days per SKU, shape (n_sku,)."""
    total = np.concatenate([[0], np.cumsum(arrays.span_to - arrays.span_from + 1)]).astype(np.int64)
    return np.asarray(np.diff(total[arrays.span_ptr]))


def check_windows(arrays: HistoryArrays, origin: IndexArray, first: IndexArray, last: IndexArray) -> None:
    """Refuse windows that start before the first day or end after the last one of the history."""
    bad = (origin + first < 0) | (origin + last >= arrays.n_days)
    if bad.any():
        k = int(np.flatnonzero(bad)[0])
        msg = (
            f"{int(bad.sum())} of {len(bad)} windows reach beyond the days of the history, 0 .. {arrays.n_days - 1}, "
            f"first origin {int(origin[k])} with window ({int(first[k])}, {int(last[k])}); use other origins"
        )
        raise ForecastError(msg)


@njit(cache=True, nogil=True)
def _mark_days(first: int, last: int, span_from: Int32Array, span_to: Int32Array, max_gap: int, kind: npt.NDArray[np.int8]) -> None:
    """Fill kind: 1 orderable, 0 out of stock for at most max_gap days, -1 unknown; the SKU's spans are rows first:last."""
    n_days = len(kind)
    kind[:] = -1
    for k in range(first, last):
        kind[span_from[k] : span_to[k] + 1] = 1
        after = span_from[k + 1] if k + 1 < last else n_days
        if after - span_to[k] - 1 <= max_gap:
            kind[span_to[k] + 1 : after] = 0


@njit(cache=True, nogil=True)
def _fill_rate(
    day: Int32Array,
    units: FloatArray,
    first: int,
    last: int,
    kind: npt.NDArray[np.int8],
    level: float,
    weight: float,
    decay: float,
    strength: float,
    rate: FloatArray,
    info: FloatArray,
) -> None:
    """Fill a SKU's rate and info, units per day and its information: the posterior mean of the rate and the denominator of x per day."""
    n_days = len(rate)
    if np.isinf(strength):
        rate[:] = level
        info[:] = strength
        return
    wanted, seen = 0.0, 0.0
    k = first
    for t in range(n_days):
        wanted *= decay
        seen *= decay
        if kind[t] == 1:
            seen += weight * level
        if k < last and day[k] == t:
            wanted += weight * units[k]
            k += 1
        rate[t] = wanted
        info[t] = seen
    wanted, seen = 0.0, 0.0
    k = last - 1
    for t in range(n_days - 1, -1, -1):
        wanted *= decay
        seen *= decay
        info[t] += seen + strength
        rate[t] = level * (rate[t] + wanted + strength) / info[t]
        if kind[t] == 1:
            seen += weight * level
        if k >= first and day[k] == t:
            wanted += weight * units[k]
            k -= 1


@njit(cache=True, nogil=True)
def _rates_at_sales(
    skus: IndexArray,
    sales: tuple[IndexArray, Int32Array, FloatArray],
    spans: tuple[IndexArray, Int32Array, Int32Array],
    level: FloatArray,
    weight: FloatArray,
    pace: tuple[float, float],
    n_days: int,
    rate_at_sale: FloatArray,
    exposure: FloatArray,
    score: FloatArray,
) -> None:
    """Fill the rate on each sale's day and, per SKU, the sum of x over orderable days and the leave-one-out quasi-likelihood."""
    ptr, day, units = sales
    span_ptr, span_from, span_to = spans
    decay, strength = 0.5 ** (1.0 / pace[0]), pace[1]
    rate, info, kind = np.empty(n_days), np.empty(n_days), np.empty(n_days, dtype=np.int8)
    for s in skus:
        _mark_days(span_ptr[s], span_ptr[s + 1], span_from, span_to, 0, kind)
        _fill_rate(day, units, ptr[s], ptr[s + 1], kind, level[s], weight[s], decay, strength, rate, info)
        k = ptr[s]
        for t in range(n_days):
            if kind[t] != 1:
                continue
            exposure[s] += rate[t] / level[s]
            wanted = 0.0
            if k < ptr[s + 1] and day[k] == t:
                wanted = units[k]
                rate_at_sale[k] = rate[t]
                k += 1
            others = rate[t]
            if not np.isinf(strength):
                own = weight[s] * level[s]
                others = (rate[t] * info[t] - own * wanted) / (info[t] - own)
            others = max(others, 1e-6 * level[s])
            score[s] += weight[s] * (wanted * np.log(others / level[s]) - others)


@njit(cache=True, nogil=True)
def _fill_labels(
    order: IndexArray,
    ends: IndexArray,
    start: IndexArray,
    end: IndexArray,
    sales: tuple[IndexArray, Int32Array, FloatArray, FloatArray],
    spans: tuple[IndexArray, Int32Array, Int32Array],
    level: FloatArray,
    weight: FloatArray,
    pace: tuple[float, float],
    n_days: int,
    units: FloatArray,
    lost: FloatArray,
    days: IndexArray,
) -> None:
    """Fill the labels of windows start .. end (day indices); windows of SKU s are order[ends[s]:ends[s + 1]]."""
    ptr, day, sold, completed = sales
    span_ptr, span_from, span_to = spans
    decay, strength = 0.5 ** (1.0 / pace[0]), pace[1]
    rate, info, kind = np.empty(n_days), np.empty(n_days), np.empty(n_days, dtype=np.int8)
    sold_to, lost_to, days_to = np.zeros(n_days + 1), np.zeros(n_days + 1), np.zeros(n_days + 1, dtype=np.int64)
    for s in range(len(level)):
        if ends[s] == ends[s + 1]:
            continue
        _mark_days(span_ptr[s], span_ptr[s + 1], span_from, span_to, MAX_GAP_DAYS if level[s] > 0.0 else 0, kind)
        _fill_rate(day, completed, ptr[s], ptr[s + 1], kind, level[s], weight[s], decay, strength, rate, info)
        k = ptr[s]
        for t in range(n_days):
            sold_to[t + 1], lost_to[t + 1], days_to[t + 1] = sold_to[t], lost_to[t], days_to[t] + (kind[t] >= 0)
            if kind[t] == 0:
                lost_to[t + 1] += rate[t]
            if k < ptr[s + 1] and day[k] == t:
                sold_to[t + 1] += sold[k]
                lost_to[t + 1] += completed[k] - sold[k]
                k += 1
        for i in order[ends[s] : ends[s + 1]]:
            units[i] = sold_to[end[i] + 1] - sold_to[start[i]]
            lost[i] = lost_to[end[i] + 1] - lost_to[start[i]]
            days[i] = days_to[end[i] + 1] - days_to[start[i]]


@dataclass(frozen=True)
class LostDemand:
    """Fitted levels and rates of a shop; build it with :meth:`fit`.

    Parameters
    ----------
    arrays
        Events it was fitted on.
    completed
        Expected demand of the days with a sale, units, in the order of `arrays.sales`.
    level, size
        Units per day, and size of the daily negative binomial, per SKU; a SKU that sold nothing has level 0.
    pace
        How the rates move.
    """

    arrays: HistoryArrays
    completed: FloatArray
    level: FloatArray
    size: FloatArray
    pace: Pace

    @classmethod
    def fit(cls, arrays: HistoryArrays, sold_out: BoolArray, *, pace: Pace | None = None) -> LostDemand:
        """Fit levels, sizes and rates.

        Parameters
        ----------
        arrays
            Events of the shop, cut at the cutoff.
        sold_out
            Whether the day sold all there was, one flag per row of `arrays.sales`; see :func:`sold_out_days`.
        pace
            How the rates move; None chooses it.

        Raises
        ------
        ForecastError
            Where flags and sales do not match, or nothing was sold.
        """
        if sold_out.shape != arrays.sales.value.shape:
            msg = f"sold_out has shape {sold_out.shape}, sales have {len(arrays.sales.value)} rows; give one flag per row of arrays.sales"
            raise ForecastError(msg)
        sold = np.bincount(_sku_of_sales(arrays), arrays.sales.value, minlength=arrays.n_skus)
        if not sold.any():
            msg = f"no units sold in {arrays.n_days} days; the lost demand of a shop needs at least one sale"
            raise ForecastError(msg)
        days = orderable_days(arrays)
        level = sold / np.maximum(days, 1)
        fitted = cls(arrays, arrays.sales.value, level, np.full(len(level), np.inf), pace or CONSTANT)
        for k in range(ROUNDS):
            fitted = fitted._round(sold_out, days)
            if pace is None and k == 1:
                fitted = replace(fitted, pace=fitted._best_pace())
        return fitted

    def labels(self, sku: IndexArray, origin: IndexArray, first: IndexArray, last: IndexArray) -> CompletedLabels:
        """Return the label of each window; arguments as of :func:`invpipe.grid.window_labels`."""
        check_windows(self.arrays, origin, first, last)
        units, lost = np.full(len(sku), np.nan), np.full(len(sku), np.nan)
        days = np.full(len(sku), -1, dtype=np.int64)
        order = np.argsort(sku, kind="stable")
        ends = np.searchsorted(sku[order], np.arange(self.arrays.n_skus + 1))
        sales = self.arrays.sales
        _fill_labels(
            order,
            ends,
            origin + first,
            origin + last,
            (sales.ptr, sales.day, sales.value, self.completed),
            self._spans,
            self.level,
            self._weight,
            (self.pace.half_life_days, self.pace.strength),
            self.arrays.n_days,
            units,
            lost,
            days,
        )
        return CompletedLabels(units, lost, days)

    def draw(self, labels: CompletedLabels, sku: IndexArray, seed: int) -> FloatArray:
        """Return sold units plus a draw of the lost ones per window, integers: what a dispersion may be fitted to, shape (n,).

        The draw is negative binomial with the mean `lost_units` and the variance of the days' law and of the gamma posterior of x.
        """
        rng = np.random.default_rng(seed)
        spread = np.full(len(sku), 1.0 / self.pace.strength)
        excess = self.level[sku] / self.size[sku]
        np.add(spread, excess / np.maximum(labels.lost_units, MIN_LEVEL), out=spread)
        mean = labels.lost_units.copy()
        varied = spread > MIN_LEVEL
        mean[varied] = rng.gamma(1.0 / spread[varied], mean[varied] * spread[varied])
        return np.asarray(labels.units + rng.poisson(mean))

    @property
    def _spans(self) -> tuple[IndexArray, Int32Array, Int32Array]:
        return self.arrays.span_ptr, self.arrays.span_from, self.arrays.span_to

    @property
    def _weight(self) -> FloatArray:
        return 1.0 / (1.0 + self.level / self.size)

    def _rates(self, skus: IndexArray, pace: Pace) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the rate on each sale's day, and per SKU the sum of x over orderable days and the leave-one-out score."""
        sales = self.arrays.sales
        rate, exposure, score = np.full(len(sales.day), np.nan), np.zeros(len(self.level)), np.zeros(len(self.level))
        _rates_at_sales(
            skus,
            (sales.ptr, sales.day, self.completed),
            self._spans,
            self.level,
            self._weight,
            (pace.half_life_days, pace.strength),
            self.arrays.n_days,
            rate,
            exposure,
            score,
        )
        return rate, exposure, score

    def _round(self, sold_out: BoolArray, days: IndexArray) -> LostDemand:
        """Return the next round: sizes, demand of sold-out days and levels under the present rates."""
        sales, n = self.arrays.sales, self.arrays.n_skus
        sku = _sku_of_sales(self.arrays)
        rate, exposure, _ = self._rates(np.flatnonzero(self.level > 0), self.pace)
        size = self._sizes(sku, rate, sold_out, exposure, days)
        completed = sales.value.copy()
        completed[sold_out] = tail_mean(rate[sold_out], size[sku[sold_out]], completed[sold_out])
        level = np.bincount(sku, completed, minlength=n) / np.where(exposure > 0, exposure, 1.0)
        return replace(self, completed=completed, level=level, size=size)

    def _sizes(self, sku: IndexArray, rate: FloatArray, sold_out: BoolArray, exposure: FloatArray, days: IndexArray) -> FloatArray:
        """Return the size per SKU, one per class of the level; days without a sale enter with their mean rate."""
        n, sales = len(self.level), self.arrays.sales
        zero_days = days - np.diff(sales.ptr)
        rest = self.level * exposure - np.bincount(sku, rate, minlength=n)
        zero_rate = np.maximum(rest / np.maximum(zero_days, 1), MIN_LEVEL)
        size = np.full(n, np.inf)
        live = np.flatnonzero(self.level > 0)
        for members in np.array_split(live[np.argsort(self.level[live], kind="stable")], SIZE_CLASSES):
            if not len(members):
                continue
            n_sales = int(np.diff(sales.ptr)[members].sum())
            some = np.zeros(n, dtype=bool)
            some[members[:: max(1, n_sales // MAX_SIZE_CELLS)]] = True
            row, quiet = some[sku], some & (zero_days > 0)
            size[members] = fit_censored_size(
                np.concatenate([rate[row], zero_rate[quiet]]),
                np.concatenate([sales.value[row], np.zeros(int(quiet.sum()))]),
                np.concatenate([sold_out[row], np.zeros(int(quiet.sum()), dtype=bool)]),
                np.concatenate([np.ones(int(row.sum())), zero_days[quiet].astype(np.float64)]),
            )
        return size

    def _best_pace(self) -> Pace:
        """Return the pace of the grid that best predicts each orderable day from the others, on evenly spaced SKUs."""
        skus = np.flatnonzero(self.level > 0)
        skus = skus[:: max(1, len(skus) * self.arrays.n_days // MAX_PACE_CELLS)]
        paces = [CONSTANT, *(Pace(days, strength) for days in HALF_LIFE_DAYS for strength in STRENGTHS)]
        return max(paces, key=lambda pace: float(self._rates(skus, pace)[2].sum()))


@dataclass(frozen=True)
class TrainingLabels:
    """Labels of training windows, shape (n,): units (expected where some were lost), the same as whole numbers, and days that count."""

    units: FloatArray
    whole_units: FloatArray
    exposure: FloatArray


def training_labels(
    history: ShopHistory, sku: IndexArray, origin: IndexArray, window_days: IndexArray, params: ForecastParams
) -> TrainingLabels:
    """Return the labels of windows that start on the day after their origin; arguments as of :func:`invpipe.grid.window_labels`.

    What was lost is added where `params.censoring` asks for it, the shop had a stock-out and sold anything in the windows; a law's
    dispersion must not be fitted to expectations, which vary too little, hence the whole numbers, in which what was lost is drawn.
    """
    arrays, ones = history.arrays, np.ones(len(sku), dtype=np.int64)
    sold = window_labels(arrays, sku, origin, ones, window_days)
    plain = TrainingLabels(sold.units, sold.units, sold.orderable_days.astype(np.float64))
    if params.censoring == "orderable" or not sold.units.any():
        return plain
    sold_out = sold_out_days(history)
    if not loses_demand(arrays, sold_out):
        return plain
    lost = LostDemand.fit(arrays, sold_out)
    labels = lost.labels(sku, origin, ones, window_days)
    return TrainingLabels(labels.units + labels.lost_units, lost.draw(labels, sku, params.seed), labels.days.astype(np.float64))


def loses_demand(arrays: HistoryArrays, sold_out: BoolArray) -> bool:
    """Return whether a SKU sold out or was out of stock after its first orderable day: only then do the labels of the two ways differ.

    `sold_out` is of :func:`sold_out_days`.
    """
    return bool(sold_out.any()) or _has_gaps(arrays)


def _has_gaps(arrays: HistoryArrays) -> bool:
    """Return whether a SKU was out of stock after its first orderable day."""
    opened = np.diff(arrays.span_ptr) > 0
    since = arrays.n_days - arrays.span_from[arrays.span_ptr[:-1][opened]].astype(np.int64)
    return bool((orderable_days(arrays)[opened] < since).any())
