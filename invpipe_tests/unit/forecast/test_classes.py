"""Scores by class: classes from their definitions, sums that pool to the scores of all cells."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invpipe.errors import ForecastError
from invpipe.forecast import CountLaw, DemandForecaster, Fold, score_fold
from invpipe.forecast.classes import (
    CLASS_SCHEMA,
    DEMAND_CLASSES,
    PERCENTS,
    PIT_BINS,
    _sums,
    calibration,
    demand_classes,
    pit_histogram,
    pool,
    score_classes,
    volume_deciles,
    whole_slab,
)
from invpipe.forecast.metrics import bracket, pinball_loss, randomised_coverage, ranked_probability_score
from invpipe.history import ShopHistory
from invpipe.sources.tables import ShopTables
from invpipe_tests.oracles.features import Shop
from invpipe_tests.unit.history.worlds import day, poisoned, random_shop
from invpipe_tests.unit.history.worlds import history as history_of


@pytest.fixture
def fold(history: ShopHistory, cutoff: date) -> Fold:
    """The last 28 days."""
    return Fold(3, cutoff, cutoff + timedelta(days=1), history.last_day)


@pytest.fixture
def sums(history: ShopHistory, fold: Fold, forecaster: DemandForecaster, shop: ShopTables) -> pl.DataFrame:
    """Sums of the fold against the true demand."""
    return score_classes(forecaster, history, fold, shop.demand_daily)


def class_by_definition(shop: Shop, sku: str) -> str:
    units = list(shop.sold[sku].values())
    if not units:
        return "cold start"
    interval, mean = len(shop.open[sku]) / len(units), sum(units) / len(units)
    squared_variation = sum((n - mean) ** 2 for n in units) / len(units) / mean**2
    if interval < 1.32:
        return "smooth" if squared_variation < 0.49 else "erratic"
    return "intermittent" if squared_variation < 0.49 else "lumpy"


def test_demand_classes_by_hand() -> None:
    """Prevents cut-offs on the wrong side, calendar days in the interval, and a SKU without a sale in a class of those that sell."""
    frames = random_shop(1, n_sku=5, n_days=60)
    units = {"S00": [1] * 60, "S01": [1, 9] * 30, "S02": [2] * 10, "S03": [1] * 9 + [9]}
    sold = pl.concat(
        pl.DataFrame({"sku": sku, "day": [day(k) for k in range(len(n))], "sales_units": n, "revenue": 1.0}) for sku, n in units.items()
    )
    spans = pl.DataFrame({"sku": [f"S{i:02d}" for i in range(5)], "from_day": day(0), "to_day": day(59)})
    found = demand_classes(history_of(frames, sales_daily=sold, orderable_daily=spans))
    assert [DEMAND_CLASSES[k] for k in found] == ["smooth", "erratic", "intermittent", "lumpy", "cold start"]
    short = spans.with_columns(to_day=pl.when(pl.col("sku") == "S02").then(day(12)).otherwise("to_day"))  # 13 days, 10 with a sale
    assert DEMAND_CLASSES[demand_classes(history_of(frames, sales_daily=sold, orderable_daily=short))[2]] == "smooth"


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000))
def test_demand_classes_equal_the_definition(seed: int) -> None:
    """Prevents a fast way to the interval or the variation that differs from the definition."""
    history = history_of(random_shop(seed, n_sku=12))
    shop = Shop(history)
    assert [DEMAND_CLASSES[k] for k in demand_classes(history)] == [class_by_definition(shop, sku) for sku in history.skus]


def test_volume_deciles_count_recent_units_per_orderable_day(history: ShopHistory) -> None:
    """Prevents deciles by calendar days, by all of the past, or from 0."""
    shop, rows = Shop(history), np.arange(0, 300, 2)
    decile = volume_deciles(history, rows)
    recent = range(history.n_days - 91, history.n_days)
    skus = [history.skus[row] for row in rows]
    rate = np.array([sum(shop.sold[s].get(d, 0) for d in recent) / max(len(shop.open[s] & set(recent)), 1) for s in skus])
    assert np.bincount(decile).tolist() == [0] + [15] * 10
    for k in range(1, 10):
        assert rate[decile == k].max() <= rate[decile == k + 1].min()


def test_classes_do_not_read_past_the_cutoff() -> None:
    """Prevents classes of the outcome, by which every good forecast looks wrong."""
    frames = random_shop(2, n_sku=12)
    clean, noisy = (history_of(tables).until(day(40)) for tables in (frames, poisoned(frames, day(40), 3)))
    rows = np.arange(12)
    assert demand_classes(clean).tolist() == demand_classes(noisy).tolist()
    assert volume_deciles(clean, rows).tolist() == volume_deciles(noisy, rows).tolist()


def test_pooled_sums_are_the_scores_of_the_fold(
    sums: pl.DataFrame, history: ShopHistory, shop: ShopTables, fold: Fold, forecaster: DemandForecaster
) -> None:
    """Prevents cells that are lost or counted twice on the way through classes, and figures of another window than the slab's."""
    assert dict(sums.schema) == CLASS_SCHEMA
    assert set(sums["window_days"]) == {7, 14, 28}
    keys = ["fold", "window_days", "demand_class", "volume_decile", "method"]
    assert sums.select(keys).n_unique() == len(sums)
    pooled = pool(whole_slab(sums))
    scores = score_fold(forecaster, history, fold, shop.demand_daily).filter(target="window").filter(pl.col("rps").is_not_null())
    assert pooled["method"].to_list() == scores["method"].to_list()
    assert pooled["cells"].to_list() == scores["cells"].to_list()
    same = ["pinball_10", "pinball_50", "pinball_90", "pinball_90_vs_zero", "rps", "bracket_90_low", "bracket_90_high", "mean_units"]
    same += ["randomised_coverage_80", "bracket_90_violation_points"]
    for name in same:
        np.testing.assert_allclose(pooled[name].to_numpy(), scores[name].to_numpy(), rtol=1e-9, err_msg=name)
    bias = (scores["mean_forecast_units"] / scores["mean_units"] - 1.0).to_numpy()
    np.testing.assert_allclose(pooled["bias_frac"].to_numpy(), bias, rtol=1e-9)


def test_cold_skus_are_a_class_without_a_decile(sums: pl.DataFrame, history: ShopHistory, fold: Fold) -> None:
    """Prevents SKUs without a sale from filling the lowest decile, and from getting lost."""
    cold = sums.filter(demand_class="cold start", method="zero", window_days=28)
    sold = history.until(fold.cutoff).sales_daily["sku"].n_unique()
    assert cold["cells"].sum() == len(history.skus) - sold > 0
    assert cold["volume_decile"].null_count() == len(cold)
    by_decile = pool(whole_slab(sums).filter(method="zero"), "volume_decile")
    assert by_decile["volume_decile"].to_list() == list(range(1, 11))
    assert by_decile["cells"].sum() == sold
    assert by_decile["cells"].max() - by_decile["cells"].min() <= 1


def test_windows_without_truth_count_orderable_days(history: ShopHistory, fold: Fold, forecaster: DemandForecaster) -> None:
    """Prevents censored sales that are held against the law of the whole window."""
    seen = score_classes(forecaster, history, fold, window_days=(5, 90))
    assert set(seen["window_days"]) == {5, 28}
    pooled, scores = pool(whole_slab(seen)), score_fold(forecaster, history, fold).filter(target="window", method="window law")
    assert pooled["rps"][0] == pytest.approx(scores["rps"].item(), rel=1e-9)
    assert set(seen["scored_on"]) == {"orderable days"}


CELLS = st.lists(st.tuples(st.floats(0.01, 20), st.integers(0, 30), st.integers(0, 4), st.integers(1, 10)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=40)
@given(CELLS)
def test_sums_add_up_to_the_metrics(cells: list[tuple[float, int, int, int]]) -> None:
    """Prevents a group's cells under another group's name, and counts that do not pool to the metrics of all cells."""
    mean, units, demand_class, decile = (np.array(column) for column in zip(*cells, strict=True))
    law, units = CountLaw(mean, np.full(len(mean), 2.0)), units.astype(float)
    decile = np.where(demand_class == 4, 0, decile)
    parts = _sums(law, units, demand_class, decile)
    assert parts["cells"].sum() == len(cells)
    assert parts["rps"].sum() == pytest.approx(len(cells) * ranked_probability_score(law, units))
    for percent in (10, 50, 90):
        quantile = law.quantile(percent / 100)
        low, high, _ = bracket(units, quantile, percent / 100)
        assert parts[f"below_{percent}"].sum() == round(low * len(cells))
        assert parts[f"at_most_{percent}"].sum() == round(high * len(cells))
        assert parts[f"pinball_{percent}"].sum() == pytest.approx(len(cells) * pinball_loss(units, quantile, percent / 100))
    for row in parts.iter_rows(named=True):
        chosen = (demand_class == DEMAND_CLASSES.index(row["demand_class"])) & (decile == (row["volume_decile"] or 0))
        assert (row["cells"], row["units"]) == (chosen.sum(), units[chosen].sum())
    inside = sum(parts[f"pit_{k:02d}"].sum() for k in range(2, PIT_BINS - 2))
    assert inside == round(randomised_coverage(law, units) * len(cells))


def test_calibration_and_histogram_pool_every_cell(sums: pl.DataFrame) -> None:
    """Prevents curves of some of the cells, and a histogram that does not integrate to 1."""
    curve = calibration(whole_slab(sums), "demand_class").filter(method="window law")
    assert curve["tau"].n_unique() == len(PERCENTS)
    assert curve.filter(tau=0.9)["cells"].sum() == whole_slab(sums).filter(method="window law")["cells"].sum()
    assert (curve["low"] <= curve["high"]).all()
    nine = pool(whole_slab(sums), "demand_class").filter(method="window law")
    assert curve.filter(tau=0.9)["violation_points"].to_list() == nine["bracket_90_violation_points"].to_list()
    histogram = pit_histogram(sums, "window_days").group_by("window_days", "method").agg((pl.col("density") / PIT_BINS).sum())
    np.testing.assert_allclose(histogram["density"].to_numpy(), 1.0)


def test_true_laws_hold_every_bracket() -> None:
    """Prevents a bracket or a PIT that calls a calibrated law uncalibrated."""
    g = np.random.default_rng(4)
    mean = g.gamma(0.7, 3.0, 20_000)
    units = g.poisson(mean).astype(float)
    parts = _sums(CountLaw(mean, np.full(20_000, np.inf)), units, np.zeros(20_000, dtype=np.int64), np.ones(20_000, dtype=np.int64))
    keys = {"fold": 0, "cutoff": day(0), "scored_on": "true demand", "window_days": 28, "method": "truth"}
    frame = parts.with_columns(**{name: pl.lit(value) for name, value in keys.items()})
    assert calibration(frame)["violation_points"].max() < 0.6
    assert pool(frame)["randomised_coverage_80"].item() == pytest.approx(0.8, abs=0.01)
    assert pit_histogram(frame)["density"].is_between(0.9, 1.1).all()


def test_scores_by_class_refuse_what_they_cannot_tell(
    sums: pl.DataFrame, history: ShopHistory, fold: Fold, forecaster: DemandForecaster
) -> None:
    """Prevents scores on days a forecaster was trained on, and groups by columns that are no key."""
    late = forecaster.as_of(history, fold.cutoff + timedelta(days=3))
    with pytest.raises(ForecastError, match=rf"the forecaster knows days up to {late.cutoff}, fold 3 has cutoff {fold.cutoff}; fit it"):
        score_classes(late, history, fold)
    with pytest.raises(ForecastError, match="cannot pool by 'units'; choose from fold, cutoff, scored_on, window_days, demand_class"):
        pool(sums, "units")
    with pytest.raises(ForecastError, match="sums of scores lack 1 of 57 columns, first 'rps'; give what score_classes returned"):
        pool(sums.drop("rps"))
