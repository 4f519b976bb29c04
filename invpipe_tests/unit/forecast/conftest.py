"""Two simulated shops, made once: a censored one like a real shop, and one whose demand is sold in full, so that its rates are known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from invpipe.forecast import DemandForecaster, ForecastParams
from invpipe.history import ShopHistory
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop, true_rates
from invpipe.sources.tables import ShopTables

#: Quick to train; threads=1 because two threads on a busy machine wait for each other.
FEW_ROUNDS = {"rounds": 15, "learning_rate": 0.2, "daily_rounds": 15, "daily_learning_rate": 0.2}
QUICK = ForecastParams(threads=1, window_days=(7, 28), origins=6, max_zero_cells=3000, daily_horizon_days=28, **FEW_ROUNDS)
WINDOW_DAYS = 28
FIRST = date(2023, 1, 2)


def open_shop(units: npt.NDArray[np.int64], genres: npt.NDArray[np.int64] | None = None) -> ShopHistory:
    """Return a shop that sold so many units from FIRST on, shape (n_sku, n_days), and was open every day.

    `genres` are the SKUs' genres as numbers, shape (n_sku,); without them they have none.
    """
    names, last = np.array([f"s{i:04d}" for i in range(len(units))]), FIRST + timedelta(days=units.shape[1] - 1)
    sku, day = np.nonzero(units)
    genre = [None] * len(units) if genres is None else [f"g{k}" for k in genres]
    items = pl.DataFrame({"sku": names, "genre": genre}, schema_overrides={"genre": pl.String}).with_columns(
        *(pl.lit(None, pl.String).alias(name) for name in ("title", "brand", "format")),
        release_date=pl.lit(None, pl.Date),
        list_price=pl.lit(1.0),
    )
    days = pl.date_range(FIRST, last, eager=True).gather(day)
    sales = pl.DataFrame({"sku": names[sku], "day": days, "sales_units": units[sku, day].astype(np.int32), "revenue": np.zeros(len(sku))})
    spans = pl.DataFrame({"sku": names}).with_columns(from_day=pl.lit(FIRST), to_day=pl.lit(last))
    return ShopHistory.from_frames(items=items, sales_daily=sales, orderable_daily=spans)


@pytest.fixture(scope="session")
def quick() -> ForecastParams:
    """Parameters that train in a fraction of a second."""
    return QUICK


@pytest.fixture(scope="session")
def shop() -> ShopTables:
    """300 SKUs over 250 days, 90 % zero cells, censored by simulated stock-outs."""
    return synthetic_shop(SyntheticShopParams(n_skus=300, n_days=250, zero_frac=0.9, launch_frac=0.02, seed=1))


@pytest.fixture(scope="session")
def history(shop: ShopTables) -> ShopHistory:
    """History of the censored shop."""
    return ShopHistory.from_frames(**shop.as_history_kwargs())


@pytest.fixture(scope="session")
def cutoff(history: ShopHistory) -> date:
    """The day before the last 28."""
    return history.last_day - timedelta(days=WINDOW_DAYS)


@pytest.fixture(scope="session")
def forecaster(history: ShopHistory, cutoff: date) -> DemandForecaster:
    """Forecaster of the censored shop."""
    return DemandForecaster.fit(history, cutoff, QUICK)


@dataclass(frozen=True)
class KnownShop:
    """A shop that sells all of its demand, and what it wanted in the last 28 days: the true expectation and the draw, per SKU."""

    history: ShopHistory
    cutoff: date
    expected_units: npt.NDArray[np.float64]
    demand_units: npt.NDArray[np.float64]


@pytest.fixture(scope="session", params=[0, 1])
def known_shop(request: pytest.FixtureRequest) -> KnownShop:
    """1,000 SKUs over 230 days with a season, never censored."""
    params = SyntheticShopParams(n_skus=1000, n_days=230, zero_frac=0.95, launch_frac=0.0, seed=request.param)
    tables = synthetic_shop(params)
    sales = tables.demand_daily.select("sku", "day", pl.col("demand_units").alias("sales_units"), revenue=pl.lit(0.0))
    spans = tables.items.select("sku", from_day=pl.lit(params.first_day), to_day=pl.lit(params.last_day))
    cutoff = params.last_day - timedelta(days=WINDOW_DAYS)

    def per_sku(frame: pl.DataFrame, column: str) -> npt.NDArray[np.float64]:
        sums = frame.filter(pl.col("day") > cutoff).group_by("sku").agg(pl.col(column).sum())
        joined = tables.items.select("sku").join(sums, on="sku", how="left", maintain_order="left")[column]
        return joined.fill_null(0).cast(pl.Float64).to_numpy()

    return KnownShop(
        ShopHistory.from_frames(items=tables.items, sales_daily=sales, orderable_daily=spans),
        cutoff,
        per_sku(true_rates(params), "rate_units_per_day"),
        per_sku(tables.demand_daily, "demand_units"),
    )
