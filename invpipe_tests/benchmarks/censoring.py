"""Censoring: how far treatments of lost sales miss the mean demand, where the true demand is known.

Run it with ``python -m invpipe_tests.benchmarks.censoring``: simulated worlds (constant and autocorrelated rates; lost sales under a
base stock of 20 and 40 days, lead time 14) and the embedded shop. ``--fresh FILE`` adds real daily demand of fresh goods (FreshRetailNet;
columns sku, day, sales, out_of_stock_hours; not part of the project); ``--forecaster`` fits the window model on labels of each kind.

Bias: sum over SKUs of the estimated mean rate over that of the demand, less 1; also for each tenth of the SKUs by demand.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from unittest import mock

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from invpipe.forecast import DemandForecaster, ForecastParams, window
from invpipe.forecast.censoring import CONSTANT, LostDemand, sold_out_days
from invpipe.forecast.metrics import pinball_loss
from invpipe.grid import WindowLabels, window_labels
from invpipe.history import Events, HistoryArrays, ShopHistory
from invpipe.sources.embedded import EmbeddedParams, embedded_shop

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

LEAD_TIME_DAYS = 14
WARM_UP_DAYS = 200
#: Rates over SKUs: log mean and sd; daily demand is negative binomial of this size.
LOG_RATE = (-2.5, 1.0)
DAILY_SIZE = 0.5
#: Autocorrelation per day and standard deviation of the log rates of the second kind of world.
AUTOCORRELATED = (0.97, 0.7)
#: Page views per unit wanted, and per day without any.
VIEWS_PER_UNIT, BACKGROUND_VIEWS = 15.0, 0.3
#: Share of days on which the vendor can deliver, independent of the shop's stock.
VENDOR_DAYS_FRAC = 0.93


@dataclass(frozen=True)
class World:
    """Demand, sales, opening stock, share of the day in stock, and page views, shape (SKU, day)."""

    name: str
    demand: IntArray
    sales: IntArray
    opening: IntArray
    in_stock_frac: FloatArray
    views: IntArray

    @property
    def orderable(self) -> BoolArray:
        """Days that start in stock."""
        return np.asarray(self.opening > 0)

    @property
    def sold_out(self) -> BoolArray:
        """Days that start in stock and sell all of it."""
        return np.asarray(self.orderable & (self.sales == self.opening))


@njit(cache=True)
def _replay(
    rng: np.random.Generator, rate: FloatArray, phi: float, sd: float, stock_days: float, n_days: int
) -> tuple[IntArray, IntArray, IntArray, FloatArray, IntArray]:
    """Replay lost sales under a base stock: what a day sells is ordered at its end and arrives LEAD_TIME_DAYS later."""
    shape = (len(rate), n_days)
    demand, sales, opening, frac, views = (
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.zeros(shape, np.int64),
        np.ones(shape),
        np.zeros(shape, np.int64),
    )
    for i in range(len(rate)):
        on_hand = max(1, math.ceil(rate[i] * stock_days))
        arriving = np.zeros(LEAD_TIME_DAYS, np.int64)
        z = rng.normal()
        for t in range(-WARM_UP_DAYS, n_days):
            z = phi * z + math.sqrt(1 - phi * phi) * rng.normal()
            slot = (t + WARM_UP_DAYS) % LEAD_TIME_DAYS
            on_hand += arriving[slot]
            wanted = rng.poisson(rate[i] * math.exp(sd * z - sd * sd / 2) * rng.gamma(DAILY_SIZE, 1 / DAILY_SIZE))
            sold = min(wanted, on_hand)
            if t >= 0:
                demand[i, t], sales[i, t], opening[i, t] = wanted, sold, on_hand
                views[i, t] = rng.poisson(VIEWS_PER_UNIT * wanted + BACKGROUND_VIEWS)
                if on_hand == 0:
                    frac[i, t] = 0.0
                elif wanted >= on_hand:  # when the last unit goes, of `wanted` uniform times
                    frac[i, t] = rng.beta(on_hand, wanted - on_hand + 1)
            on_hand -= sold
            arriving[slot] = sold
    return demand, sales, opening, frac, views


def simulated_world(*, autocorrelated: bool, stock_days: int, n_skus: int = 4000, n_days: int = 700, seed: int = 0) -> World:
    """Return a seeded world of lognormal rates."""
    rng = np.random.default_rng(seed)
    rate = rng.lognormal(*LOG_RATE, n_skus)
    phi, sd = AUTOCORRELATED if autocorrelated else (0.0, 0.0)
    name = f"{'AR(1)' if autocorrelated else 'constant'} rates, S = {stock_days} days"
    return World(name, *_replay(rng, rate, phi, sd, float(stock_days), n_days))


def dense(history: ShopHistory, frame: pl.DataFrame, column: str) -> FloatArray:
    """Spread a table keyed (sku, day) over SKU x day, NaN where it has no row."""
    out = np.full((len(history.skus), history.n_days), np.nan)
    row = history.items["sku"].search_sorted(frame["sku"]).to_numpy()
    out[row, (frame["day"] - history.first_day).dt.total_days().to_numpy()] = frame[column].to_numpy()
    return out


def embedded(n_skus: int | None = 2000) -> tuple[World, ShopHistory]:
    """Return the embedded shop as a world and as a history; how long a day was in stock is not known there."""
    tables = embedded_shop(EmbeddedParams(n_skus=n_skus))
    history = ShopHistory.from_frames(
        items=tables.items,
        sales_daily=tables.sales_daily,
        orderable_daily=tables.orderable_daily,
        vendors=tables.vendors,
        offers=tables.offers,
        stock_daily=tables.stock_daily,
        page_views_daily=tables.page_views_daily,
    )
    counts = [
        np.nan_to_num(dense(history, frame, column)).astype(np.int64)
        for frame, column in (
            (tables.demand_daily, "demand_units"),
            (tables.sales_daily, "sales_units"),
            (tables.page_views_daily, "views"),
        )
    ]
    stock = pl.DataFrame(dense(history, tables.stock_daily, "on_hand_units").T).fill_nan(None).fill_null(strategy="forward")
    opening = stock.to_numpy().T.astype(np.int64)
    return World("embedded shop", counts[0], counts[1], opening, np.full(opening.shape, np.nan), counts[2]), history


def fresh(path: Path, seed: int = 0) -> World:
    """Return real daily demand of fresh goods behind a simulated shelf.

    Truth are the SKUs' days without an hour out of stock, put one behind the other, in tenths of a unit. Each morning the shelf holds a
    level drawn around the SKU's mean demand; its scale is chosen so that as many days sell out as really did, and what is left at night is
    thrown away. A day out of stock from the start is drawn at the real share, after days that sold out twice as likely.
    """
    real = pl.read_parquet(path).sort("sku", "day")
    full = real.filter(pl.col("out_of_stock_hours") == 0).with_columns(units=(pl.col("sales") * 10).round().cast(pl.Int64))
    days = 45
    kept = full.filter(pl.len().over("sku") >= days).with_columns(k=pl.int_range(pl.len()).over("sku")).filter(pl.col("k") < days)
    demand = kept["units"].to_numpy().reshape(-1, days)
    sold_out_frac = float((real["out_of_stock_hours"] > 0).mean())  # type: ignore[arg-type]
    closed_frac = float((real["out_of_stock_hours"] >= 15).mean())  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    draw = rng.lognormal(0.0, 0.4, demand.shape) * np.maximum(demand.mean(axis=1, keepdims=True), 0.1)
    with np.errstate(divide="ignore"):
        scale = np.quantile(demand / draw, 1 - sold_out_frac)
    opening = np.maximum(np.ceil(scale * draw), 1).astype(np.int64)
    after = np.pad(demand >= opening, ((0, 0), (1, 0)))[:, :-1]
    opening[rng.random(demand.shape) < closed_frac * (1 + after) / (1 + after.mean())] = 0
    sales = np.minimum(demand, opening)
    frac = np.where(demand >= opening, opening / np.maximum(demand, 1), 1.0)
    return World("fresh goods, real demand", demand, sales, opening, frac, np.zeros_like(demand))


def arrays_of(world: World) -> tuple[HistoryArrays, BoolArray]:
    """Return the world's events as the product sees them, and whether each sale emptied the shelf."""
    orderable, n = world.orderable, len(world.sales)
    sku, day = np.nonzero(orderable & (world.sales > 0))
    edge = np.diff(np.pad(orderable.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    span_sku, start = np.nonzero(edge == 1)
    end = np.nonzero(edge == -1)[1] - 1

    def pointers(index: IntArray) -> IntArray:
        return np.concatenate([[0], np.cumsum(np.bincount(index, minlength=n))]).astype(np.int64)

    none = Events(np.zeros(n + 1, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0))
    arrays = HistoryArrays(
        n_days=world.sales.shape[1],
        sales=Events(pointers(sku), day.astype(np.int32), world.sales[sku, day].astype(np.float64)),
        views=none,
        span_ptr=pointers(span_sku),
        span_from=start.astype(np.int32),
        span_to=end.astype(np.int32),
        offer_cost=none,
        offer_vendors=none,
        release_day=np.full(n, np.nan),
    )
    return arrays, world.sold_out[sku, day]


def _ratio(units: FloatArray, exposure: FloatArray) -> FloatArray:
    total = exposure.sum(axis=1)
    return np.asarray(np.where(total > 0, units.sum(axis=1) / np.where(total > 0, total, 1.0), 0.0))


def _expected_on_sold_out_days(world: World, fitted: LostDemand) -> FloatArray:
    """Return sales with E[D | D >= sold] on days that sold out."""
    out = np.zeros(world.sales.shape)
    sku = np.repeat(np.arange(len(out)), np.diff(fitted.arrays.sales.ptr))
    out[sku, fitted.arrays.sales.day] = fitted.completed
    return out


def local_rate(world: World) -> FloatArray:
    """Return the mean of sold and lost demand: the product's treatment."""
    fitted = LostDemand.fit(*arrays_of(world))
    n, n_days = world.sales.shape
    labels = fitted.labels(np.arange(n), np.full(n, -1), np.ones(n, dtype=np.int64), np.full(n, n_days))
    return np.asarray((labels.units + labels.lost_units) / np.maximum(labels.days, 1))


def views_when_out(world: World) -> FloatArray:
    """Return demand with days out of stock filled in as page views times the SKU's units per view."""
    units = _expected_on_sold_out_days(world, LostDemand.fit(*arrays_of(world)))
    per_view = _ratio(units, world.views * world.orderable)
    return np.asarray(np.where(world.orderable, units, per_view[:, None] * world.views).mean(axis=1))


def vendor_flag(world: World) -> FloatArray:
    """Return the mean of the days the vendor could deliver, whatever was on the shelf."""
    flag = np.random.default_rng(1).random(world.sales.shape) < VENDOR_DAYS_FRAC
    return _ratio(world.sales * flag, flag)


TREATMENTS: dict[str, Callable[[World], FloatArray]] = {
    "naive": lambda w: w.sales.mean(axis=1),
    "vendor flag only": vendor_flag,
    "drop days that start out": lambda w: _ratio(w.sales, w.orderable),
    "the same, sold-out day counts half": lambda w: _ratio(w.sales, w.orderable - 0.5 * w.sold_out),
    "drop days with any hour out": lambda w: _ratio(w.sales * ~w.sold_out, w.orderable & ~w.sold_out),
    "hours in stock as exposure": lambda w: _ratio(w.sales, w.in_stock_frac),
    "right-censored NB": lambda w: LostDemand.fit(*arrays_of(w), pace=CONSTANT).level,
    "local rate (product)": local_rate,
    "local rate, views when out": views_when_out,
}


def biases(world: World) -> Iterator[dict[str, float | str]]:
    """Yield one row per treatment: bias in percent, in all, of the least and the most biased tenth of SKUs, and of the top tenth."""
    truth = world.demand.mean(axis=1)
    tenths = np.array_split(np.argsort(truth, kind="stable"), 10)
    for name, treatment in TREATMENTS.items():
        if ("views" in name and not world.views.any()) or ("hours in" in name and np.isnan(world.in_stock_frac).any()):
            continue
        rate = treatment(world)
        by_tenth = [100 * (rate[rows].sum() / truth[rows].sum() - 1) for rows in tenths if truth[rows].sum() > 0]
        row = {"world": world.name, "treatment": name, "bias_pct": 100 * (rate.sum() / truth.sum() - 1)}
        yield row | {f"d{k}": value for k, value in enumerate(by_tenth, 11 - len(by_tenth))}


def forecasts(cutoffs: tuple[int, ...] = (205, 265, 304), n_skus: int | None = 2000) -> Iterator[dict[str, float | str]]:
    """Yield one row per cutoff and kind of label: bias of the forecast of true demand in 60 days, and its pinball losses.

    *true demand* labels show what a model with these features misses without any censoring of its labels.
    """
    world, history = embedded(n_skus)
    total = np.pad(world.demand.cumsum(axis=1), ((0, 0), (1, 0))).astype(np.float64)

    def labels(kind: str, known: ShopHistory) -> Callable[..., WindowLabels]:
        def true(_: HistoryArrays, sku: IntArray, origin: IntArray, first: IntArray, last: IntArray) -> WindowLabels:
            return WindowLabels(total[sku, origin + last + 1] - total[sku, origin + first], last - first + 1)

        def completed(_: HistoryArrays, sku: IntArray, origin: IntArray, first: IntArray, last: IntArray) -> WindowLabels:
            fitted = LostDemand.fit(known.arrays, sold_out_days(known))
            found = fitted.labels(sku, origin, first, last)
            return WindowLabels(fitted.draw(found, sku, seed=0), found.days)

        return {"orderable days": window_labels, "completed": completed, "true demand": true}[kind]

    for cutoff in cutoffs:
        day = history.first_day + timedelta(days=cutoff)
        units = total[:, cutoff + 61] - total[:, cutoff + 1]
        for kind in ("orderable days", "completed", "true demand"):
            with mock.patch.object(window, "window_labels", labels(kind, history.until(day))):
                forecaster = DemandForecaster.fit(history, day, ForecastParams(daily_taus=()))
            law = forecaster.window_demand([(1, 60)]).law(0)
            losses = {f"pinball_{round(100 * tau)}": pinball_loss(units, law.quantile(tau), tau) for tau in (0.5, 0.9)}
            yield {"cutoff": str(day), "labels": kind, "bias_pct": 100 * (law.mean.sum() / units.sum() - 1), **losses}


def main(argv: list[str] | None = None) -> None:
    """Print the biases of every treatment, in percent; d1 .. d10 are tenths of the SKUs by demand, the last the best sellers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", type=Path)
    parser.add_argument("--forecaster", action="store_true")
    parser.add_argument("--skus", type=int, default=2000, help="SKUs of the embedded shop; 0 takes all")
    args = parser.parse_args(argv)
    pl.Config.set_tbl_cols(20).set_tbl_rows(200).set_tbl_width_chars(220).set_float_precision(1).set_tbl_hide_dataframe_shape(True)
    pl.Config.set_fmt_str_lengths(60)
    worlds = [simulated_world(autocorrelated=kind, stock_days=days) for kind in (True, False) for days in (20, 40)]
    worlds.append(embedded(args.skus or None)[0])
    if args.fresh:
        worlds.append(fresh(args.fresh))
    for world in worlds:
        print(f"{world.name}: {100 * (1 - world.sales.sum() / world.demand.sum()):.1f} % of demand lost")
        print(pl.DataFrame(list(biases(world))).drop("world"))
    if args.forecaster:
        pl.Config.set_float_precision(3)
        print(pl.DataFrame(list(forecasts(n_skus=args.skus or None))))


if __name__ == "__main__":
    main()
