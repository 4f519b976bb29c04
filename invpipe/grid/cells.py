"""Orderable cells: the full grid as a frame, and a weighted sample of it for training.

A cell (SKU, day) counts where the SKU was orderable; its label is the units sold, 0 where there was no sale. Cells outside the spans are
censored and dropped, never filled in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.errors import ForecastError
from invpipe.history import HistoryArrays, ShopHistory

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cells:
    """Sampled orderable cells, shape (n,): SKU index, day index, units sold, and how many cells of the grid each stands for."""

    sku: IntArray
    day: IntArray
    units: FloatArray
    weight: FloatArray


def training_grid(history: ShopHistory) -> pl.DataFrame:
    """Return every orderable cell, key (sku, day), column sales_units (0 where nothing was sold)."""
    cells = history.orderable_daily.select("sku", pl.date_ranges("from_day", "to_day").alias("day")).explode("day", empty_as_null=False)
    sold = history.sales_daily.select("sku", "day", "sales_units")
    return cells.join(sold, on=["sku", "day"], how="left", maintain_order="left").with_columns(pl.col("sales_units").fill_null(0))


def sample_cells(arrays: HistoryArrays, *, first_day: int, max_sale_cells: int, max_zero_cells: int, seed: int) -> Cells:
    """Return a sample of the cells with a sale and one of those without, weighted so that they stand for the grid.

    A cell without a sale is drawn with a probability proportional to the SKU's share of days with a sale (half a day added), and weighs
    the inverse: a quantile of daily demand is decided by the empty days of SKUs that sell, not by those of the many that never do. On
    Complete Journey uniform draws of as many cells gave a median worse than 0.

    Parameters
    ----------
    arrays
        Events of the shop, cut at the cutoff.
    first_day
        Day index from which cells are taken.
    max_sale_cells
        So many cells with a sale at most; all of them where there are fewer.
    max_zero_cells
        About so many cells without a sale at most; all of them where there are fewer.
    seed
        Seed of the sample.

    Raises
    ------
    ForecastError
        Where no orderable cell lies on or after first_day.
    """
    n_days = arrays.n_days
    sales = arrays.sales
    sale_sku = np.repeat(np.arange(arrays.n_skus), np.diff(sales.ptr))
    keep = sales.day >= first_day
    sale_sku, sale_day, units = sale_sku[keep], sales.day[keep].astype(np.int64), sales.value[keep]
    span_sku = np.repeat(np.arange(arrays.n_skus), np.diff(arrays.span_ptr))
    start = np.maximum(arrays.span_from, first_day).astype(np.int64)
    length = arrays.span_to.astype(np.int64) - start + 1
    span_sku, start, length = span_sku[length > 0], start[length > 0], length[length > 0]
    n_cells = int(length.sum())
    if n_cells == 0:
        msg = f"no orderable cell on or after day index {first_day} of {n_days}; choose a later cutoff or check orderable_daily"
        raise ForecastError(msg)
    n_zero = n_cells - len(sale_sku)
    if n_zero <= max_zero_cells:
        span, within, weight = np.repeat(np.arange(len(length)), length), _count_up(length), np.ones(n_cells)
    else:
        sold = np.bincount(sale_sku, minlength=arrays.n_skus)
        share = (sold + 0.5) / (np.bincount(span_sku, weights=length, minlength=arrays.n_skus) + 1.0)
        n_draws = int(max_zero_cells / (1.0 - share[sale_sku].sum() / (share[span_sku] * length).sum()))
        span, within, weight = _draw(share[span_sku], length, n_draws, np.random.default_rng(seed))
    zero_sku, zero_day = span_sku[span], start[span] + within
    zero = ~np.isin(zero_sku * n_days + zero_day, sale_sku * n_days + sale_day)
    zero_sku, zero_day, weight = zero_sku[zero], zero_day[zero], weight[zero]
    n_sales = len(sale_sku)
    if n_sales > max_sale_cells:
        chosen = np.sort(np.random.default_rng(seed).choice(n_sales, size=max_sale_cells, replace=False))
        sale_sku, sale_day, units = sale_sku[chosen], sale_day[chosen], units[chosen]
    return Cells(
        sku=np.concatenate([sale_sku, zero_sku]),
        day=np.concatenate([sale_day, zero_day]),
        units=np.concatenate([units, np.zeros(len(zero_sku))]),
        weight=np.concatenate([np.full(len(sale_sku), n_sales / max(len(sale_sku), 1)), weight]),
    )


def _count_up(length: IntArray) -> IntArray:
    """Return 0 .. length - 1 of each span, one span after the other."""
    end = np.cumsum(length)
    return np.asarray(np.arange(int(end[-1])) - np.repeat(end - length, length))


def _draw(share: FloatArray, length: IntArray, n_draws: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, FloatArray]:
    """Draw cells of spans with replacement, by each span's share; return span, place within it and weight of each distinct one."""
    end = np.cumsum(share * length)
    place = rng.random(n_draws) * end[-1]
    span = np.minimum(np.searchsorted(end, place, side="right"), len(end) - 1)
    within = np.clip((place - (end[span] - share[span] * length[span])) / share[span], 0, length[span] - 1).astype(np.int64)
    cell, count = np.unique(span * (int(length.max()) + 1) + within, return_counts=True)
    span, within = np.divmod(cell, int(length.max()) + 1)
    return span, within, count * (end[-1] / (n_draws * share[span]))
