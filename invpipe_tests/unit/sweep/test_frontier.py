"""The frontier of capital and penalty, and how it is drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from invpipe.allocation import AllocationParams
from invpipe.arena import AllocationPolicy, EwmaForecast, run_backtest
from invpipe.errors import ArenaError
from invpipe.report.images import svg
from invpipe.report.sweep_charts import frontier_chart, frontier_table, sweep_chart
from invpipe.sweep import lambda_frontier, run_sweep
from invpipe.sweep.frontier import efficient_points
from invpipe_tests.unit.sweep.worlds import PARAMS, marginal, small_tape

LIMITS, PENALTIES = (150.0, 300.0, 600.0), (0.1, 1.0)


@pytest.fixture(scope="module")
def frontier(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    return lambda_frontier(
        small_tape(), EwmaForecast(), PARAMS, (0, 1), tmp_path_factory.mktemp("frontier"),
        capital_limits=LIMITS, stockout_penalty_fracs=PENALTIES, threads=2,
    )  # fmt: skip


def test_frontier_is_what_its_policies_earn(frontier: pl.DataFrame) -> None:
    """Prevents a penalty or a limit that does not reach the policy it names."""
    assert frontier.select("stockout_penalty_frac", "capital_limit").rows() == [(p, k) for p in (None, *PENALTIES) for k in LIMITS]
    for row in frontier.iter_rows(named=True):
        penalty, params = row["stockout_penalty_frac"], replace(PARAMS, capital_limit=row["capital_limit"])
        policy = marginal()
        if penalty is not None:
            policy = AllocationPolicy("lp", EwmaForecast(), "lp", params=AllocationParams(stockout_penalty_frac=penalty))
        profit = [run_backtest(small_tape(), policy, params, seed).summary["profit"] for seed in (0, 1)]
        assert row["profit"] == np.mean(profit)
    assert frontier["profit"].n_unique() > 3


def test_realised_price_is_profit_per_capital_from_one_limit_to_the_next(frontier: pl.DataFrame) -> None:
    """Prevents a slope that is taken across two policies, or to the wrong side."""
    for (_, *_), part in frontier.group_by("stockout_penalty_frac", maintain_order=True):
        slope = np.diff(part["profit"].to_numpy()) / np.diff(LIMITS)
        assert part["realised_capital_price"].to_list() == [None, *slope.tolist()]


def test_efficient_points_are_beaten_by_none() -> None:
    """Prevents a frontier that shows a point another one beats in profit and capital."""
    profit, capital = [1.0, 2.0, 2.0, 1.5, 3.0, 3.0], [1.0, 2.0, 3.0, 4.0, 9.0, 9.0]
    assert efficient_points(profit, capital).tolist() == [True, True, False, False, True, True]


@pytest.mark.parametrize(
    ("limits", "penalties", "message"),
    [
        ([], [1.0], r"capital_limits are \[\]; give at least one value, in rising order, none twice"),
        ([2.0, 1.0], [1.0], r"capital_limits are \[2.0, 1.0\]; give"),
        ([1.0], [0.5, 0.5], r"stockout_penalty_fracs are \[0.5, 0.5\]; give"),
    ],
)
def test_values_that_do_not_rise_are_refused(tmp_path: Path, limits: list[float], penalties: list[float], message: str) -> None:
    """Prevents a slope over a step of no or negative width."""
    with pytest.raises(ArenaError, match=message):
        lambda_frontier(
            small_tape(), EwmaForecast(), PARAMS, (0,), tmp_path, capital_limits=limits, stockout_penalty_fracs=penalties
        )  # fmt: skip


def test_pictures_are_drawn(frontier: pl.DataFrame, tmp_path: Path) -> None:
    """Prevents charts that name columns the tables do not have, or are not valid Vega."""
    trials = run_sweep(small_tape(), marginal, {"leftover_value_frac": [0.2, 0.9]}, PARAMS, [0], tmp_path)
    for chart in (frontier_chart(frontier), sweep_chart(trials), sweep_chart(trials.with_columns(state=pl.lit("complete")))):
        assert "<svg" in svg(chart, "a sweep", "sweep")
    text = str(frontier_chart(frontier).to_dict())
    assert all(name in text for name in ("marginal", "LP, λ = 0.1", "LP, λ = 1.0"))
    assert frontier_table(frontier)["efficient"].to_list() == ["yes" if e else "" for e in frontier["efficient"]]
