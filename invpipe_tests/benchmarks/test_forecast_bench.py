"""The forecast benchmark runs, at sizes that say nothing about a forecast, and asks every method the same honest question."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from invpipe import bench
from invpipe.bench import forecast as bench_forecast_module
from invpipe.bench import yardsticks
from invpipe.bench.forecast import METHODS, PEERS, forecast_tables, peers, score_yardstick
from invpipe.bench.forecast_folds import Fold, Quantiles, summary
from invpipe.bench.yardsticks import Yardstick
from invpipe.errors import ForecastError, SourceError
from invpipe.forecast import ForecastParams
from invpipe.forecast.baselines import ewma_rate, rate_laws
from invpipe.forecast.law import CountLaw
from invpipe.forecast.metrics import pinball_loss, ranked_probability_score
from invpipe.history import ShopHistory
from invpipe.sources.shop import SyntheticShopParams, synthetic_shop
from invpipe_tests.benchmarks import forecast_peers
from invpipe_tests.unit.history.worlds import poisoned

QUICK = ForecastParams(rounds=5, daily_rounds=5, origins=3, window_days=(14,))
DAYS = 14


def tables() -> dict[str, pl.DataFrame]:
    """Tables of a small shop with stock-outs."""
    return synthetic_shop(SyntheticShopParams(n_skus=80, n_days=200, first_day=date(2017, 1, 1), seed=3)).as_history_kwargs()


def small(frames: dict[str, pl.DataFrame]) -> Yardstick:
    """Two folds of that shop."""
    cutoffs = tuple(date(2017, 1, 1) + timedelta(days=day) for day in (150, 180))
    return Yardstick("small", ShopHistory.from_frames(**frames), DAYS, cutoffs)


def online_file(path: Path) -> Path:
    """A file like Online Retail's, of 460 days."""
    rng = np.random.default_rng(0)
    rows = [
        (f"{sku}", date(2010, 1, 1) + timedelta(days=day), int(rng.integers(1, 5)), 2.5) for sku in range(6) for day in range(sku, 460, 2)
    ]
    frame = pl.DataFrame(rows, schema={"sku": pl.String, "day": pl.Date, "orders": pl.Int32, "unit_price": pl.Float32}, orient="row")
    frame.write_parquet(path)
    return path


def fresh_file(path: Path) -> Path:
    """A file like FreshRetailNet's, of 90 days: SKU A is out of stock on every third day."""
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(90)]
    parts = [
        pl.DataFrame({"sku": sku, "day": days, "sales": 0.3 * k, "out_of_stock_hours": hours, "category": k})
        for k, (sku, hours) in enumerate({"A": [0, 0, 5] * 30, "B": [0] * 90}.items(), 1)
    ]
    pl.concat(parts).write_parquet(path)
    return path


def test_every_method_is_scored_on_the_same_cells() -> None:
    """Prevents a benchmark that no longer runs when somebody wants a figure, a peer left out, and methods compared on different cells."""
    found, lacking = peers()
    assert {*found, *lacking} == set(PEERS) == set(forecast_peers.METHODS)
    rows = list(score_yardstick(small(tables()), METHODS | found, QUICK))
    window, daily = ([row for row in rows if row["target"] == target] for target in ("window", "daily"))
    assert {row["method"] for row in window} == {*METHODS, *found} - {"daily quantile boosters"}
    assert {"window law", "zero", "EWMA + Poisson", "daily quantile boosters"} < {row["method"] for row in daily}
    for part in (window, daily):
        assert len({(row["folds"], row["cells"], row["coverage_80_of_zero"]) for row in part}) == 1
    assert all(np.isfinite([row["pinball_10"], row["pinball_50"], row["pinball_90"]]).all() for row in rows)
    quantiles_alone = {row["method"] for row in window if row["rps"] is None}
    assert quantiles_alone == {"sum of daily quantiles", "LightGBM + conformal"} & {*METHODS, *found}
    assert all((row["rps"] is None) == (row["randomised_coverage_80"] is None) for row in window)
    text = forecast_tables(rows)
    assert "small, window: 2 folds" in text
    assert all(name in text for name in found)


def test_no_method_reads_past_the_cutoff() -> None:
    """Prevents a rival, or the window law, that wins by knowing the days it is scored on."""
    frames = tables()
    cutoff = date(2017, 1, 1) + timedelta(days=150)
    answers: list[dict[str, list[bytes]]] = []
    units = []
    for shop in (frames, poisoned(frames, cutoff, 1)):
        yardstick = small(shop)
        fold = Fold.of(yardstick, cutoff, QUICK)
        units.append(fold.units.sum())
        # which days turn out orderable is part of the question, and the same in both
        question = replace(fold.question, orderable=np.ones_like(fold.question.orderable))
        said: dict[str, list[bytes]] = {}
        for name, method in (METHODS | peers()[0]).items():
            if method.window:
                answer = method.window(question)
                quantiles = [answer.values] if isinstance(answer, Quantiles) else [answer.mean, answer.quantile(0.9)]
                said[name] = [np.ascontiguousarray(part).tobytes() for part in quantiles]
            if method.daily:
                said.setdefault(name, []).append(np.ascontiguousarray(method.daily(question)).tobytes())
        answers.append(said)
    assert units[0] != units[1]
    assert answers[0] == answers[1]


def test_scores_are_the_metrics_of_the_seen_units() -> None:
    """Prevents days that were not orderable from counting, and a law that expects sales on them."""
    yardstick = small(tables())
    cutoff, history = yardstick.cutoffs[0], yardstick.history
    fold = Fold.of(yardstick, cutoff, QUICK)
    spans = {
        sku: [(row["from_day"], row["to_day"]) for row in group.to_dicts()] for (sku,), group in history.orderable_daily.group_by("sku")
    }
    sold = {(sku, day): units for sku, day, units in history.sales_daily.select("sku", "day", "sales_units").rows()}
    units, exposure = [], []
    for sku in history.skus:
        window = [cutoff + timedelta(days=k) for k in range(1, DAYS + 1)]
        seen = [day for day in window if any(a <= day <= b for a, b in spans.get(sku, []))]
        exposure.append(len(seen))
        units.append(float(sum(sold.get((sku, day), 0) for day in seen)))
    known = {sku for sku, day in sold if day <= cutoff}
    rows = [i for i, sku in enumerate(history.skus) if exposure[i] and sku in known]
    assert fold.rows.tolist() == rows
    y = np.array(units)[rows]
    law = METHODS["EWMA + Poisson"].window(fold.question)
    rate = rate_laws(history, cutoff, [(1, 1)], ewma_rate, overdispersed=False).mean[:, 0]
    np.testing.assert_allclose(law.mean, rate * exposure, rtol=1e-12)
    got = summary([fold.window_scores(law, 1.0)])
    expected = CountLaw(law.mean[rows], law.size[rows])
    assert got["pinball_90"] == pytest.approx(pinball_loss(y, expected.quantile(0.9), 0.9))
    assert got["rps"] == pytest.approx(ranked_probability_score(expected, y))
    assert got["bias_frac"] == pytest.approx(expected.mean.sum() / y.sum() - 1)
    assert got["bracket_50_low"] == pytest.approx(np.mean(y < expected.quantile(0.5)))
    assert got["coverage_80_of_zero"] == pytest.approx(np.mean(y == 0))


def test_worst_decile_is_pooled_over_folds() -> None:
    """Prevents one fold's noise from being reported as a decile's bracket, and a decile counted from another end."""
    yardstick = small(tables())
    folds = [Fold.of(yardstick, cutoff, QUICK) for cutoff in yardstick.cutoffs]
    zero = [fold.window_scores(METHODS["zero"].window(fold.question), 0.0) for fold in folds]
    y = np.concatenate([fold.units[fold.rows].sum(axis=1) for fold in folds])
    decile = np.concatenate([fold.decile for fold in folds])
    outside = [100 * max(0.9 - np.mean(y[decile == k] == 0), 0) for k in range(10)]
    got = summary(zero)
    assert got["bracket_90_worst_decile_points"] == pytest.approx(max(outside))
    assert got["bracket_90_worst_decile"] == int(np.argmax(outside)) + 1
    assert got["bracket_90_violation_points"] == pytest.approx(100 * (0.9 - np.mean(y == 0)))


def test_window_series_by_hand() -> None:
    """Prevents mlforecast from learning windows that reach past the cutoff, or stock-outs as days without demand."""
    assert [forecast_peers.step_days(days) for days in (7, 28, 60, 61)] == [7, 7, 6, 1]
    first = date(2024, 1, 1)
    days = [first + timedelta(days=k) for k in range(9)]
    items = pl.DataFrame({"sku": ["A"], "list_price": [1.0]})
    sales = pl.DataFrame({"sku": "A", "day": days, "sales_units": list(range(1, 10)), "revenue": 0.0}).cast({"sales_units": pl.Int32})
    flags = pl.DataFrame({"sku": "A", "day": days, "orderable": [True] * 4 + [False, True, False, False, True]})
    history = ShopHistory.from_frames(items=yardsticks._items(items), sales_daily=sales, orderable_daily=yardsticks.spans_from_days(flags))
    # windows of 2 days that end on days 2, 4, 6, 8 (from 0): 2+3; 4 and out; 6 and out; 9 and out, each per orderable day times 2
    np.testing.assert_allclose(forecast_peers.window_series(history, 2, 2), [[5.0, 8.0, 12.0, 18.0]])


def test_shops_of_the_files(tmp_path: Path) -> None:
    """Prevents stock-outs that count as orderable, units off by the data's scale, and folds that leave the data."""
    fresh = {yardstick.name: yardstick for yardstick in yardsticks.fresh_retail(fresh_file(tmp_path / "fresh.parquet"))}
    week, fortnight = fresh["FreshRetailNet 7 d"], fresh["FreshRetailNet 14 d"]
    assert (len(week.cutoffs), len(fortnight.cutoffs)) == (6, 3)
    assert {yardstick.cutoffs[-1] + timedelta(days=yardstick.window_days) for yardstick in fresh.values()} == {week.history.last_day}
    fold = Fold.of(week, week.cutoffs[-1], QUICK)
    assert fold.question.exposure.tolist() == [4, 7]
    assert fold.units.sum(axis=1).tolist() == [12.0, 42.0]
    online = yardsticks.online_retail(online_file(tmp_path / "online.parquet"))
    assert [(yardstick.window_days, len(yardstick.cutoffs), yardstick.sold_within_days) for yardstick in online] == [
        (28, 10, 365),
        (60, 10, 365),
    ]
    assert (online[0].cutoffs[1] - online[0].cutoffs[0]).days == 30
    with pytest.raises(
        SourceError, match="online.parquet is no parquet file with the columns sku, day, sales, out_of_stock_hours, category"
    ):
        yardsticks.fresh_retail(tmp_path / "online.parquet")


def test_small_draws_skus_and_keeps_the_last_folds() -> None:
    """Prevents a small run on other folds than the table's, or on other SKUs each time."""
    yardstick = small(tables())
    less = yardstick.small(20, 1, seed=1)
    assert (len(less.history.skus), less.cutoffs) == (20, yardstick.cutoffs[-1:])
    assert (less.history.first_day, less.history.last_day) == (yardstick.history.first_day, yardstick.history.last_day)
    assert less.history.skus == yardstick.small(20, 1, seed=1).history.skus != yardstick.small(20, 1, seed=2).history.skus
    assert yardstick.small(80, 9) == yardstick
    nobody = replace(yardstick, sold_within_days=0)
    with pytest.raises(ForecastError, match="small: none of 80 SKUs sold up to 2017-05-31 and is orderable in the 14 days after; ask"):
        Fold.of(nobody, nobody.cutoffs[0], QUICK)


def test_command_runs_without_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents `invpipe bench forecast` from failing where only the package is installed, and peers left out in silence."""
    monkeypatch.setattr(bench_forecast_module.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(bench_forecast_module, "complete_journey", lambda: small(tables()))
    monkeypatch.setattr(bench_forecast_module, "ForecastParams", lambda seed: QUICK.model_copy(update={"seed": seed}))
    files = ["--fresh-retail", str(fresh_file(tmp_path / "fresh.parquet"))]
    assert bench.main(["forecast", "--skus", "40", "--folds", "1", "--json", *files]) == 0
    rows = json.loads(capsys.readouterr().out)["benchmarks"]["forecast"]
    assert {row["method"]: row["lacking"] for row in rows if "lacking" in row} == dict.fromkeys(PEERS, "needs invpipe_tests")
    assert {row["yardstick"] for row in rows if "lacking" not in row} == {"small", "FreshRetailNet 7 d", "FreshRetailNet 14 d"}
    assert bench.main(["forecast", "--skus", "40", "--folds", "1"]) == 0
    out = capsys.readouterr()
    assert "not run: prototype needs invpipe_tests" in out.out
    assert "window law" in out.err


def test_peer_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents one missing library from hiding the peers that need none."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "statsforecast" else found(name))
    methods, lacking = peers()
    assert "prototype" in methods
    assert {lacking[name] for name in PEERS if name.startswith(("TSB", "Croston"))} == {"needs statsforecast"}
