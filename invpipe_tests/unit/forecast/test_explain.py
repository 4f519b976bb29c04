"""Drivers of forecasts: contributions that add up to the boosters' rate, families that add up to all, and the fan."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from invpipe.errors import ForecastError
from invpipe.features import FAMILIES
from invpipe.forecast import DemandForecaster
from invpipe.forecast.explain import (
    DRIVER_SCHEMA,
    QUESTION,
    contributions,
    drivers,
    family_importance,
    family_of,
    fan_rows,
    forecast_fan,
    top_rows,
)
from invpipe.forecast.law import WindowDemand
from invpipe.forecast.window import window_inputs
from invpipe.history import ShopHistory

WINDOW = (1, 28)


def test_contributions_add_up_to_what_the_boosters_say(forecaster: DemandForecaster) -> None:
    """Prevents contributions of another window, model or SKU than the forecast's, for SKUs that sold and for those that never did."""
    rows = np.arange(len(forecaster.store.history.skus))[::-1]
    found = contributions(forecaster, WINDOW, rows)
    ones = np.ones(len(rows), dtype=np.int64)
    matrix = window_inputs(forecaster.store, rows, (forecaster.store.history.n_days - 1) * ones, ones, 28 * ones)
    never = np.isnan(matrix[:, found.inputs.index("days_since_sale")])
    assert 0 < never.sum() < len(rows)
    for model, chosen in ((forecaster.window.sold, ~never), (forecaster.window.unsold or forecaster.window.sold, never)):
        raw = np.mean([booster.predict(matrix[chosen], raw_score=True) for booster in model.boosters], axis=0)
        np.testing.assert_allclose(found.log_rate[chosen], raw + model.log_base_rate, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(found.values, matrix)


def test_contributions_are_shapley_values_of_a_lone_feature(forecaster: DemandForecaster) -> None:
    """Prevents credit for inputs that no tree looks at."""
    found = contributions(forecaster, WINDOW, np.arange(50))
    used = sum(booster.feature_importance("split") for model in [forecaster.window.sold] for booster in model.boosters)
    sold = ~np.isnan(found.values[:, found.inputs.index("days_since_sale")])
    assert (used == 0).any()
    assert (found.log_contribution[sold][:, used == 0] == 0).all()


def test_drivers_name_the_largest_contributions(forecaster: DemandForecaster) -> None:
    """Prevents drivers of another SKU, small ones before large ones, and factors that do not multiply to the rate."""
    rows = np.array([7, 3, 250])
    every = drivers(forecaster, WINDOW, rows, n=1000)
    assert dict(every.schema) == DRIVER_SCHEMA
    skus = [forecaster.store.history.skus[row] for row in rows]
    assert every["sku"].unique(maintain_order=True).to_list() == skus
    product = every.group_by("sku", maintain_order=True).agg(
        made=pl.col("base_rate").first() * pl.col("factor").product(), rate=pl.col("rate").first(), n=pl.col("feature").n_unique()
    )
    np.testing.assert_allclose(product["made"].to_numpy(), product["rate"].to_numpy(), rtol=1e-9)
    assert set(product["n"]) == {len(contributions(forecaster, WINDOW, rows).inputs)}
    top = drivers(forecaster, WINDOW, rows, n=3)
    assert top["rank"].to_list() == [1, 2, 3] * 3
    assert top.rows() == every.filter(pl.col("rank") <= 3).rows()
    sizes = every.with_columns(size=pl.col("log_contribution").abs())
    assert sizes.filter(pl.col("size").diff().over("sku") > 0).is_empty()
    demand = forecaster.window_demand([WINDOW])
    assert top["mean_units"].gather_every(3).to_list() == demand.mean[rows, 0].tolist()
    with pytest.raises(ForecastError, match="0 drivers per SKU asked for; ask for at least 1"):
        drivers(forecaster, WINDOW, rows, n=0)


def test_families_cover_every_input(forecaster: DemandForecaster) -> None:
    """Prevents a new feature that belongs nowhere, and families whose shares of the gain do not add up."""
    table = family_importance(forecaster, WINDOW, np.arange(0, 300, 3))
    assert set(table["family"]) == {*FAMILIES, QUESTION}
    assert table["gain_frac"].sum() == pytest.approx(1.0)
    assert table["mean_log_contribution"].is_sorted(descending=True)
    found = contributions(forecaster, WINDOW, np.arange(0, 300, 3))
    mine = [j for j, name in enumerate(found.inputs) if family_of(name) == "demand"]
    moved = np.abs(found.log_contribution[:, mine].sum(axis=1)).mean()
    assert table.filter(family="demand")["mean_log_contribution"].item() == pytest.approx(moved)


def laws(mean: list[float], forecaster: DemandForecaster) -> WindowDemand:
    n = len(mean)
    column = np.array(mean)[:, None]
    return WindowDemand(tuple(f"S{i:03d}" for i in range(n)), forecaster.cutoff, ((1, 7),), column, np.full((n, 1), 2.0))


def test_top_rows_are_those_with_the_highest_demand(forecaster: DemandForecaster) -> None:
    """Prevents drivers of SKUs nobody asks for, and an order that depends on the sort."""
    assert top_rows(laws([1.0, 5.0, 5.0, 0.0], forecaster), 3).tolist() == [1, 2, 0]


@pytest.mark.parametrize("n_sku", [1, 4, 10, 11, 30, 500])
def test_fan_shows_skus_of_all_sizes(n_sku: int, forecaster: DemandForecaster) -> None:
    """Prevents a fan of ten bestsellers, one SKU twice, and a crash in a shop of few SKUs."""
    demand = laws(list(np.linspace(0.0, 50.0, n_sku)), forecaster)
    rows = fan_rows(demand, 10)
    assert len(set(rows.tolist())) == len(rows) == min(10, n_sku)
    assert rows[0] == n_sku - 1
    assert (np.diff(demand.mean[rows, 0]) < 0).all()
    if n_sku == 500:
        assert demand.mean[rows[-1], 0] < 1.2


def test_fan_holds_past_sales_and_the_quantiles_of_windows(history: ShopHistory, forecaster: DemandForecaster) -> None:
    """Prevents sales after the cutoff in the picture of what was known, days that are off by one, and another SKU's quantiles."""
    demand, rows = forecaster.window_demand([(1, 7), (1, 28)]), np.array([5, 2])
    fan = forecast_fan(demand, history, rows, past_days=30)
    skus = [history.skus[row] for row in rows]
    assert fan["sku"].unique(maintain_order=True).to_list() == skus
    past, ahead = fan.drop_nulls("sales_units"), fan.drop_nulls("q50")
    assert set(past["day"]) == {forecaster.cutoff - timedelta(days=k) for k in range(30)}
    assert set(ahead["day"]) == {forecaster.cutoff + timedelta(days=k) for k in (0, 7, 28)}
    known = history.sales_daily.filter(pl.col("day").is_between(forecaster.cutoff - timedelta(days=29), forecaster.cutoff))
    for sku, row in zip(skus, rows, strict=True):
        assert past.filter(sku=sku)["sales_units"].sum() == known.filter(sku=sku)["sales_units"].sum()
        assert ahead.filter(sku=sku)["q90"].to_list() == [0.0, *demand.quantile(0.9)[row]]
        assert ahead.filter(sku=sku)["mean_units"].to_list() == [0.0, *demand.mean[row]]
    late = forecaster.window_demand([(1, 7), (8, 28)])
    with pytest.raises(ForecastError, match=r"1 of 2 windows do not start on day 1, first \(8, 28\); a fan needs windows \(1, k\)"):
        forecast_fan(late, history, rows)
