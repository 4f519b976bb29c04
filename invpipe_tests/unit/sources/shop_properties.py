"""What must hold in the tables of any simulated shop; shared by the tests of the embedded and of the synthetic shop."""

import numpy as np
import numpy.typing as npt
import polars as pl

from invpipe.sources.tables import DAY_TABLE_KEYS, ShopTables

IntArray = npt.NDArray[np.int64]


def dense(shop: ShopTables, frame: pl.DataFrame, column: str) -> IntArray:
    """Spread a daily table to shape (SKU, day), 0 where it has no row."""
    n_days = (shop.last_day - shop.first_day).days + 1
    out = np.zeros((shop.items.height, n_days), dtype=np.int64)
    row = shop.items["sku"].search_sorted(frame["sku"]).to_numpy()
    out[row, (frame["day"] - shop.first_day).dt.total_days().to_numpy()] = frame[column].to_numpy()
    return out


def dense_stock(shop: ShopTables) -> IntArray:
    """Opening stock of every (SKU, day), carried forward from the rows of change."""
    seen = dense(shop, shop.stock_daily.with_columns(seen=pl.lit(1)), "seen").astype(bool)
    assert seen[:, 0].all(), "every SKU has a stock row on the first day"
    last_seen = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), 0), axis=1)
    return np.take_along_axis(dense(shop, shop.stock_daily, "on_hand_units"), last_seen, axis=1)


def assert_tables_agree(shop: ShopTables) -> None:
    """Check order, stock conservation, censoring and orderable spans from the definitions."""
    for name, key in DAY_TABLE_KEYS.items():
        keys = getattr(shop, name).select(key)
        assert keys.equals(keys.unique().sort(key)), f"{name} is sorted by a unique key"
    demand = dense(shop, shop.demand_daily, "demand_units")
    sales = dense(shop, shop.sales_daily, "sales_units")
    stock = dense_stock(shop)
    np.testing.assert_array_equal(sales, np.minimum(demand, stock))
    arrivals = stock[:, 1:] - (stock[:, :-1] - sales[:, :-1])
    assert arrivals.min() >= 0, "stock never vanishes but by sales"
    changes = np.count_nonzero(np.diff(stock, axis=1)) + stock.shape[0]
    assert shop.stock_daily.height == changes, "stock rows are stored by change"
    orderable = np.zeros_like(stock)
    row = shop.items["sku"].search_sorted(shop.orderable_daily["sku"]).to_numpy()
    first = (shop.orderable_daily["from_day"] - shop.first_day).dt.total_days().to_numpy()
    last = (shop.orderable_daily["to_day"] - shop.first_day).dt.total_days().to_numpy()
    for s, a, b in zip(row, first, last, strict=True):
        orderable[s, a : b + 1] += 1
        assert a == 0 or stock[s, a - 1] == 0, "a span is maximal"
    np.testing.assert_array_equal(orderable, (stock > 0).astype(np.int64))


def lost_frac(shop: ShopTables) -> float:
    """Share of the demanded units that were not sold."""
    return 1.0 - float(shop.sales_daily["sales_units"].sum()) / float(shop.demand_daily["demand_units"].sum())


def lead_correlations(shop: ShopTables) -> tuple[float, float]:
    """Correlation of a day's views with demand of the next and of the past five days, deviations from each SKU's mean."""
    demand = dense(shop, shop.demand_daily, "demand_units").astype(np.float64)
    views = dense(shop, shop.page_views_daily, "views").astype(np.float64)
    total = np.concatenate([np.zeros((demand.shape[0], 1)), np.cumsum(demand, axis=1)], axis=1)
    days = np.arange(5, demand.shape[1] - 5)
    future, past = total[:, days + 6] - total[:, days + 1], total[:, days] - total[:, days - 5]

    def correlation(x: npt.NDArray[np.float64]) -> float:
        x, v = x - x.mean(axis=1, keepdims=True), views[:, days] - views[:, days].mean(axis=1, keepdims=True)
        return float((x * v).sum() / np.sqrt((x**2).sum() * (v**2).sum()))

    return correlation(future), correlation(past)
