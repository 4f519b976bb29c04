"""The censoring benchmark runs, and what is promised of its figures holds on smaller worlds."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from invpipe_tests.benchmarks import censoring


def bias(world: censoring.World) -> dict[str, float]:
    """Bias per treatment, percent."""
    return {str(row["treatment"]): float(row["bias_pct"]) for row in censoring.biases(world)}


@pytest.mark.parametrize("stock_days", [20, 40])
def test_constant_rates_are_found_within_two_percent(stock_days: int) -> None:
    """Prevents a treatment that sees moving rates where there are none, or that takes sold-out days at face value."""
    found = bias(censoring.simulated_world(autocorrelated=False, stock_days=stock_days, n_skus=1000, n_days=500))
    assert abs(found["local rate (product)"]) <= 2.0
    assert found["naive"] < -2.0


@pytest.mark.parametrize("stock_days", [20, 40])
def test_moving_rates_are_missed_by_a_third_less_than_by_dropping_rows(stock_days: int) -> None:
    """Prevents the loss of the local rates, which are what is gained over a censored likelihood."""
    found = bias(censoring.simulated_world(autocorrelated=True, stock_days=stock_days, n_skus=1000, n_days=500))
    assert found["drop days that start out"] < -4.0
    assert abs(found["local rate (product)"]) < abs(found["drop days that start out"]) * 2 / 3
    assert abs(found["local rate (product)"]) < abs(found["right-censored NB"])


def test_embedded_shop_runs_without_hours() -> None:
    """Prevents figures for a treatment the embedded shop has no data for, and a benchmark that no longer runs."""
    world, _ = censoring.embedded(300)
    found = bias(world)
    assert "hours in stock as exposure" not in found
    assert abs(found["local rate (product)"]) < abs(found["drop days that start out"])


def test_fresh_goods_are_read(tmp_path: Path) -> None:
    """Prevents a benchmark that no longer reads the file it names."""
    g = np.random.default_rng(0)
    days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 3, 30), eager=True)
    rows = [(f"S{i}", d, float(g.poisson(20)) / 10, int(g.choice([0, 0, 0, 4, 16]))) for i in range(40) for d in days]
    path = tmp_path / "fresh.parquet"
    pl.DataFrame(rows, schema=["sku", "day", "sales", "out_of_stock_hours"], orient="row").write_parquet(path)
    world = censoring.fresh(path)
    assert world.demand.shape[1] == 45
    assert abs(bias(world)["local rate (product)"]) < abs(bias(world)["drop days that start out"])


def test_worlds_are_the_same_each_time() -> None:
    """Prevents figures that cannot be repeated."""
    first, second = (censoring.simulated_world(autocorrelated=True, stock_days=20, n_skus=50, n_days=60) for _ in range(2))
    assert (first.sales == second.sales).all()
    assert (first.views == second.views).all()
