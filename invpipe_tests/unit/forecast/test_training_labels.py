"""Labels of training windows: the source document's, and with the lost demand."""

from datetime import timedelta
from typing import Literal

import numpy as np
import polars as pl
import pytest

from invpipe.forecast import ForecastParams
from invpipe.forecast.censoring import TrainingLabels, training_labels
from invpipe.grid import window_labels
from invpipe.history import ShopHistory
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop


def labels_of(history: ShopHistory, censoring: Literal["completed", "orderable"] | None = None) -> TrainingLabels:
    """Return the labels of the last 28 days, without `censoring` those of the default parameters."""
    n = len(history.skus)
    origin, days = np.full(n, history.n_days - 29), np.full(n, 28)
    params = ForecastParams(censoring=censoring) if censoring else ForecastParams()
    return training_labels(history, np.arange(n), origin, days, params)


def test_lost_demand_is_added_to_the_training_labels(history: ShopHistory) -> None:
    """Prevents labels that forget the lost demand: "orderable" is what was sold, "completed" is more."""
    orderable, completed = labels_of(history, "orderable"), labels_of(history, "completed")
    n = len(history.skus)
    sold = window_labels(history.arrays, np.arange(n), np.full(n, history.n_days - 29), np.ones(n, dtype=np.int64), np.full(n, 28))
    np.testing.assert_array_equal(orderable.units, sold.units)
    np.testing.assert_array_equal(orderable.exposure, sold.orderable_days)
    assert (completed.units >= orderable.units).all()
    assert completed.units.sum() > 1.01 * orderable.units.sum()
    assert (completed.exposure >= orderable.exposure).all()
    assert (completed.whole_units == np.rint(completed.whole_units)).all()
    assert completed.whole_units.sum() == pytest.approx(completed.units.sum(), rel=0.1)


def test_lost_demand_counts_unless_asked_otherwise(history: ShopHistory) -> None:
    """Prevents a forecaster that falls back to the source document's labels: those of the default parameters hold the lost demand."""
    assert labels_of(history).units.sum() > 1.01 * labels_of(history, "orderable").units.sum()


def test_a_shop_without_stock_outs_loses_nothing() -> None:
    """Prevents seconds spent on, and units added to, a shop that was always in stock."""
    shop = synthetic_shop(SyntheticShopParams(n_skus=20, n_days=60, zero_frac=0.8, launch_frac=0.0, seed=3))
    sales = shop.demand_daily.select("sku", "day", pl.col("demand_units").alias("sales_units"), revenue=pl.lit(0.0))
    first, last = SyntheticShopParams().first_day, SyntheticShopParams().first_day + timedelta(days=59)
    spans = shop.items.select("sku", from_day=pl.lit(first), to_day=pl.lit(last))
    history = ShopHistory.from_frames(items=shop.items, sales_daily=sales, orderable_daily=spans)
    orderable, completed = labels_of(history, "orderable"), labels_of(history, "completed")
    np.testing.assert_array_equal(orderable.units, completed.units)
    np.testing.assert_array_equal(completed.whole_units, completed.units)
