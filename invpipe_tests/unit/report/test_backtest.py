"""The page of a backtest: its tables and lines say what the replays say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from invpipe.arena import BacktestResult
from invpipe.report import Report, render_report
from invpipe.report.backtest_tables import KPI_COLUMNS, kpi_table, sku_table, vendor_orders
from invpipe.report.charts import Chart, capital_curve_chart, days_chart
from invpipe_tests.unit.report import examples

Results = tuple[BacktestResult, ...]


@pytest.fixture(scope="module")
def results() -> Results:
    found = examples.backtest()
    assert len({result.summary["profit"] for result in found}) == 3  # the seeds differ
    return found


def drawn(chart: Chart, column: str) -> list[Any]:
    """Values of a column in the data that a chart of stacked panels carries."""
    panels = [part for panel in chart.to_dict()["vconcat"] for part in panel.get("layer", [panel])]
    return [row[column] for panel in panels for row in panel["data"]["values"] if column in row]


def test_spread_is_that_of_the_seeds(results: Results) -> None:
    """Prevents a mean without its spread, or one over other figures than those of the replays."""
    table = kpi_table(results)
    assert table["over_the_seeds"].to_list() == ["mean", "standard deviation", "least", "most"]
    for name, title in KPI_COLUMNS.items():
        values = [result.summary[name] for result in results]
        wanted = [np.mean(values), np.std(values, ddof=1), min(values), max(values)]
        assert table[title].to_list() == pytest.approx(wanted), name


def test_one_seed_has_no_deviation(results: Results) -> None:
    """Prevents a spread of zero, which would look like certainty."""
    assert kpi_table(results[:1]).row(1)[1:] == (None,) * len(KPI_COLUMNS)
    assert "under 1 lead-time seed," in render_report(Report("one", backtest=results[:1]))


def test_profit_of_the_skus_adds_up_to_the_profit(results: Results) -> None:
    """Prevents winners and losers by another profit than the headline's."""
    skus = sku_table(results)
    assert len(skus) == 30
    assert skus["profit"].sum() == pytest.approx(np.mean([result.summary["profit"] for result in results]))
    assert skus["profit"].is_sorted(descending=True)
    lost = np.mean([result.summary["demand_units"] - result.summary["sales_units"] for result in results])
    assert skus["lost_units"].sum() == pytest.approx(lost)


def test_orders_of_the_warm_up_do_not_count(results: Results) -> None:
    """Prevents spend by vendor that is more than what the figures say was ordered."""
    counted = np.mean([result.summary["order_value"] for result in results])
    everything = np.mean([(result.orders["order_units"] * result.orders["unit_cost"]).sum() for result in results])
    assert vendor_orders(results)["order_value"].sum() == pytest.approx(counted)
    assert everything > counted


def test_lines_end_at_the_figures(results: Results) -> None:
    """Prevents curves that count the warm-up, or end elsewhere than the table says."""
    result = results[0]
    chart = days_chart({"seed 0": result.days}, "profit", "ordered", "fill_rate")
    for column, wanted in (("profit", "profit_ending_at_cost"), ("ordered", "order_value"), ("fill_rate", "fill_rate")):
        assert drawn(chart, column)[-1] == pytest.approx(result.summary[wanted]), column
    assert drawn(chart, "profit")[:5] == [0.0] * 5
    assert drawn(chart, "fill_rate")[:5] == [None] * 5  # nobody was counted yet


def test_page_shows_winners_losers_and_parameters(results: Results) -> None:
    """Prevents a page without what the replay was run with, and one that calls a SKU without a loss a loser."""
    page = render_report(Report("backtest", backtest=results))
    losers = sku_table(results).filter(pl.col("profit") < 0)
    assert 0 < len(losers) < 10
    assert f"SKUs that lost most, {len(losers)} of 30" in page
    for name in ("capital limit", "review period days", "liquidation frac"):
        assert f"<dt>{name}</dt>" in page
    winners = tuple(replace(result, sku_totals=result.sku_totals.filter(~pl.col("sku").is_in(losers["sku"]))) for result in results)
    assert "SKUs that lost most" not in render_report(Report("winners", backtest=winners))


def test_curve_marks_the_capital_of_the_day() -> None:
    """Prevents a what-if curve on which nobody finds today."""
    curve = pl.DataFrame({"capital": [1.0, 2.0], "expected_value": [3.0, 4.0], "capital_price": [0.5, 0.0]})
    chart = capital_curve_chart(curve, 1.5)
    assert drawn(chart, "expected_value") == [3.0, 4.0]
    assert drawn(chart, "capital_price") == [0.5, 0.0]
    assert str(chart.to_dict()).count("'datum': 1.5") == 2
