"""Tables for people."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest

from invpipe.errors import InvpipeError
from invpipe.forecast.classes import pool, whole_slab
from invpipe.report.tables import (
    ablation_table,
    against_baselines,
    cells,
    class_table,
    drivers_table,
    fiscal_years,
    fold_table,
    html_table,
    markdown,
    order_lines_table,
    text,
)
from invpipe_tests.unit.report.examples import HOSTILE, ablation, class_scores, drivers, plan_lines, scores


def test_fold_table_is_the_mean_over_folds() -> None:
    """Prevents a headline that is one fold's figure, and rows that swap targets or methods."""
    table = fold_table(scores())
    assert table.select("target", "method", "folds").rows() == [
        ("window", "window law", 3),
        ("window", "zero", 3),
        ("daily", "quantile boosters", 3),
        ("daily", "zero", 3),
    ]
    assert table["90_vs_zero"][0] == pytest.approx(0.6)


def test_undefined_folds_do_not_spoil_the_mean() -> None:
    """Prevents a fold without sales from turning the mean into NaN, and absent scores from reading as 0."""
    table = fold_table(scores())
    assert table["90_vs_zero"][2] == pytest.approx(0.9)
    assert table["rps"].to_list() == [pytest.approx(0.3), None, None, None]


def test_fold_table_names_the_missing_column() -> None:
    """Prevents an error deep in Polars that does not say which table is wrong."""
    with pytest.raises(InvpipeError, match="fold scores lack 1 of 12 columns, first 'rps'; found fold, "):
        fold_table(scores().drop("rps"))


def test_ablation_table_puts_the_best_policy_first() -> None:
    """Prevents a table whose order depends on the order of the runs, and cents that suggest precision."""
    table = ablation_table(ablation())
    assert table["policy"].to_list() == [HOSTILE, "ewma_greedy", "order_nothing"]
    assert table["profit"].to_list() == [1501, 1000, -250]
    assert table["of_bound"].to_list() == [0.75, 0.5, None]
    assert table["fill_rate"][0] == 0.812
    assert table.select("difference", "from", "to").row(0) == (501, 401, 601)


def test_order_lines_keep_their_order_and_reason() -> None:
    """Prevents lines without the sentence that justifies them."""
    lines, _ = plan_lines()
    table = order_lines_table(lines, 3)
    assert table["sku"].to_list() == lines["sku"].head(3).to_list()
    assert table.columns[-1] == "reason"
    assert "title" in table.columns
    assert "title" not in order_lines_table(lines.drop("title"), 3).columns
    with pytest.raises(InvpipeError, match="-1 order lines asked for; ask for 0 or more"):
        order_lines_table(lines, -1)


def test_numbers_keep_the_digits_that_matter() -> None:
    """Prevents 0.0 for a loss of .012 and seven digits for money."""
    frame = pl.DataFrame(
        {
            "count": [1234567, None],
            "share": [0.01234, float("nan")],
            "price": [12.345, -0.5],
            "money": [123456.7, float("inf")],
            "flag": [True, None],
        }
    )
    assert cells(frame) == [["1,234,567", "0.012", "12.35", "123,457", "True"], ["–", "–", "-0.50", "∞", "–"]]


def test_markdown_survives_hostile_texts() -> None:
    """Prevents a title with a pipe or a tag from breaking the table or the page that shows it."""
    written = markdown(pl.DataFrame({"a_name": [HOSTILE + "\nnext"], "n": [1]}))
    lines = written.splitlines()
    assert lines[:2] == ["| a name | n |", "| --- | ---: |"]
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == 3
    assert "<script>" not in written


def test_html_table_is_escaped_and_has_scopes() -> None:
    """Prevents injected markup, and tables a screen reader cannot follow."""
    written = html_table(pl.DataFrame({"name": [HOSTILE], "n": [1]}), HOSTILE)
    assert "<script>" not in written
    assert written.count("&lt;script&gt;") == 2
    assert '<th scope="col" class="number">n</th>' in written
    assert '<th scope="row">' in written


def test_text_aligns_and_wraps_reasons_below() -> None:
    """Prevents order lines that no terminal can show."""
    frame = pl.DataFrame({"sku": ["A", "LONG"], "order_units": [5, 1200], "reason": ["why " * 20, "short"]})
    assert text(frame, width=60).splitlines() == [
        "      order",
        "sku   units",
        "----  -----",
        "A         5",
        "    why why why why why why why why why why why why why why",
        "    why why why why why why",
        "LONG  1,200",
        "    short",
    ]


@pytest.mark.parametrize("write", [markdown, text, lambda frame: html_table(frame, "none")])
def test_empty_frames_give_their_headings(write) -> None:
    """Prevents a run without orders from ending in an error."""
    assert "order" in write(pl.DataFrame(schema={"order": pl.Int64, "why": pl.String}))


def test_fiscal_years_start_where_the_shop_says() -> None:
    """Prevents sums over calendar years under the name of fiscal ones."""
    days = [date(2023, 6, 30), date(2023, 7, 1), date(2024, 6, 30), date(2024, 6, 30), date(2024, 7, 1)]
    sales = pl.DataFrame({"sku": list("aaaba"), "day": days, "sales_units": [1, 2, 3, 4, 5], "revenue": [1.0, 2.0, 3.0, 4.0, 5.0]})
    assert fiscal_years(sales, "07-01").rows() == [
        (date(2022, 7, 1), 1, 1, 1.0),
        (date(2023, 7, 1), 2, 9, 9.0),
        (date(2024, 7, 1), 1, 5, 5.0),
    ]


def test_class_table_judges_the_law_by_the_best_baseline() -> None:
    """Prevents a law that is compared with itself, with the worst baseline, or with one of another class."""
    pooled = pool(whole_slab(class_scores()), "demand_class")
    better = pooled.filter(method="zero").with_columns(
        method=pl.lit("other"), rps=pl.when(pl.col("demand_class") == "lumpy").then(0.5).otherwise(3.0)
    )
    judged = against_baselines(pl.concat([pooled, better]))
    assert judged.select(pl.col("demand_class").cast(pl.String), "best_baseline", pl.col("rps_vs_best").round(9)).rows() == [
        ("smooth", "zero", 0.8),
        ("erratic", "zero", 0.8),
        ("intermittent", "zero", 0.8),
        ("lumpy", "other", 1.6),
        ("cold start", "zero", 0.8),
    ]
    table = class_table(pooled)
    assert table.columns[:3] == ["demand_class", "cells", "mean_units"]
    assert len(table) == 5
    whole = class_table(pool(whole_slab(class_scores())))
    assert whole.select("cells", "best_baseline").rows() == [(1606, "zero")]
    with pytest.raises(InvpipeError, match="pooled scores lack 1 of 13 columns, first 'bias_frac'"):
        class_table(pooled.drop("bias_frac"))


def test_drivers_table_says_feature_value_and_factor() -> None:
    """Prevents drivers of one SKU under another, and a missing value that reads as 0."""
    table = drivers_table(drivers(), 5)
    assert table["drivers"].to_list() == ["rate 28 0.25 ×2.00, views 28 1,234 ×1.50", "rate 28 missing ×0.50, age days 12 ×0.90"]
    assert table["sku"].to_list() == ["A", HOSTILE]
    assert drivers_table(drivers(), 1)["sku"].to_list() == ["A"]
