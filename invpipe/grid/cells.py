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


@dataclass(frozen=True)
class Cells:
    """Sampled orderable cells, shape (n,): SKU index, day index, units sold, and how many cells of the grid each stands for."""

    sku: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    units: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]


def training_grid(history: ShopHistory) -> pl.DataFrame:
    """Return every orderable cell, key (sku, day), column sales_units (0 where nothing was sold)."""
    cells = history.orderable_daily.select("sku", pl.date_ranges("from_day", "to_day").alias("day")).explode("day", empty_as_null=False)
    sold = history.sales_daily.select("sku", "day", "sales_units")
    return cells.join(sold, on=["sku", "day"], how="left", maintain_order="left").with_columns(pl.col("sales_units").fill_null(0))


def sample_cells(arrays: HistoryArrays, *, first_day: int, max_zero_cells: int, seed: int) -> Cells:
    """Return all cells with a sale and a uniform sample of those without, weighted so that the sample stands for the grid.

    Parameters
    ----------
    arrays
        Events of the shop, cut at the cutoff.
    first_day
        Day index from which cells are taken.
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
    length = np.maximum(arrays.span_to.astype(np.int64) - start + 1, 0)
    end = np.cumsum(length)
    n_cells = int(end[-1]) if len(end) else 0
    if n_cells == 0:
        msg = f"no orderable cell on or after day index {first_day} of {n_days}; choose a later cutoff or check orderable_daily"
        raise ForecastError(msg)
    rng = np.random.default_rng(seed)
    n_zero = n_cells - len(sale_sku)
    if n_zero <= max_zero_cells:
        position = np.arange(n_cells)
    else:  # draw enough positions that about max_zero_cells without a sale are left
        wanted = min(n_cells, int(np.ceil(max_zero_cells * n_cells / n_zero)))
        position = np.sort(rng.choice(n_cells, size=wanted, replace=False, shuffle=False))
    span = np.searchsorted(end, position, side="right")
    zero_sku = span_sku[span]
    zero_day = start[span] + position - (end[span] - length[span])
    zero = ~np.isin(zero_sku * n_days + zero_day, sale_sku * n_days + sale_day)
    zero_sku, zero_day = zero_sku[zero], zero_day[zero]
    return Cells(
        sku=np.concatenate([sale_sku, zero_sku]),
        day=np.concatenate([sale_day, zero_day]),
        units=np.concatenate([units, np.zeros(len(zero_sku))]),
        weight=np.concatenate([np.ones(len(sale_sku)), np.full(len(zero_sku), n_zero / max(len(zero_sku), 1))]),
    )
