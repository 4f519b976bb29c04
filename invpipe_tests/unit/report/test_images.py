"""Charts, and charts as pictures."""

from __future__ import annotations

import base64
import re
import socket
import struct
import zlib
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from invpipe.report import charts, forecast_charts
from invpipe.report.images import PNG_BYTES, png_markdown, svg
from invpipe_tests.unit.report.examples import HOSTILE, ablation, class_scores, days, families, fan, plan_lines, sales, scores

LINES, SUMMARY = plan_lines()
CHARTS = {
    "folds": lambda: charts.fold_scores_chart(scores()),
    "bracket": lambda: charts.calibration_chart(scores()),
    "coverage": lambda: charts.coverage_chart(scores()),
    "curve": lambda: forecast_charts.bracket_curve_chart(class_scores()),
    "pit": lambda: forecast_charts.pit_chart(class_scores()),
    "deciles": lambda: forecast_charts.decile_chart(class_scores()),
    "classes": lambda: forecast_charts.class_fold_chart(class_scores()),
    "families": lambda: forecast_charts.family_chart(families()),
    "fan": lambda: forecast_charts.fan_chart(fan()),
    "difference": lambda: charts.ablation_chart(ablation()),
    "share": lambda: charts.bound_share_chart(ablation()),
    "days": lambda: charts.days_chart({"a": days(), "b": days()}),
    "vendors": lambda: charts.vendor_chart(LINES),
    "capital": lambda: charts.capital_chart(LINES, 0.2),
    "demand": lambda: charts.demand_chart(charts.weekly_units(sales())),
}


def texts(drawn: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_drawn_with_marks_and_without_links(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an empty picture, one that loads something, and one that differs from run to run."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a chart asks for an address"))
    drawn = svg(CHARTS[name](), f"label {HOSTILE}", name)
    assert drawn == svg(CHARTS[name](), f"label {HOSTILE}", name)
    assert "<script" not in drawn
    assert not re.findall(r'(?:href|src)="', drawn)
    assert len(texts(drawn)) > 3
    assert not [text for text in texts(drawn) if "NaN" in text or "undefined" in text]
    ids = re.findall(r'id="([^"]+)"', drawn)
    assert all(found.startswith(f"{name}-") for found in ids)
    assert set(re.findall(r"url\(#([^)]+)\)", drawn)) <= set(ids)


def test_png_is_an_image_within_its_size() -> None:
    """Prevents metadata that swells the run storage, and damage by packing it anew."""
    written = png_markdown(CHARTS["days"](), "days [of] a run")
    assert written.startswith("![days  of  a run](data:image/png;base64,")
    image = base64.b64decode(written.split(",", 1)[1].rstrip(")"))
    assert len(image) < PNG_BYTES
    width, height = struct.unpack(">II", image[16:24])
    assert width > 600  # readable: not the smallest scale
    at, kinds, pixels = 8, [], b""
    while at < len(image):
        (length,) = struct.unpack_from(">I", image, at)
        chunk = image[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", image, at + 8 + length) == (zlib.crc32(chunk),)
        kinds.append(chunk[:4])
        pixels += chunk[4:] if chunk[:4] == b"IDAT" else b""
        at += 12 + length
    assert kinds[0] == b"IHDR"
    assert kinds[-2:] == [b"IDAT", b"IEND"]
    assert len(zlib.decompress(pixels)) == height * (1 + 4 * width)


def test_long_runs_are_thinned_to_their_last_day() -> None:
    """Prevents pages of many megabytes, and lines that stop before the end."""
    long = charts.days_chart({"a": days(2000)}).to_dict()
    values = long["vconcat"][0]["data"]["values"]
    assert len(values) <= charts.MAX_POINTS
    assert values[-1] == {"day": "2022-06-24T00:00:00Z", "policy": "a", "profit": 19950.0}


def test_warm_up_is_not_in_the_profit_to_date() -> None:
    """Prevents a curve that ends elsewhere than the profit of the table."""
    values = charts.days_chart({"a": days(10, warm_up=4)}).to_dict()["vconcat"][0]["data"]["values"]
    assert [row["profit"] for row in values] == [0, 0, 0, 0, 10, 20, 30, 40, 50, 60]


def test_weeks_that_are_not_whole_are_left_out() -> None:
    """Prevents a drop at the end of the curve that only means that the week is not over."""
    weekly = charts.weekly_units(sales(70 + 3), sales(73).rename({"sales_units": "demand_units"}))
    assert weekly.group_by("series").agg(pl.len()).sort("series").rows() == [("true demand", 10), ("units sold", 10)]
    assert weekly["units"].unique().to_list() == [14]


def test_small_vendors_share_a_bar() -> None:
    """Prevents a chart of a hundred bars, and order value that is left out of it."""
    values = charts.vendor_chart(LINES, n=3).to_dict()["data"]["values"]
    assert len(values) == 4
    assert values[-1]["vendor"] == f"{LINES['vendor'].n_unique() - 3} others"
    assert sum(row["order_value"] for row in values) == pytest.approx(LINES["order_value"].sum())


def test_bracket_says_where_it_fails() -> None:
    """Prevents a chart in which a fold that misses .9 looks like one that holds it."""
    panel = charts.calibration_chart(scores()).to_dict()["vconcat"][0]
    assert [row["bracket"] for row in panel["layer"][0]["data"]["values"]] == ["misses .9", "holds .9", "holds .9"]
    assert panel["title"] == "window units: window law"


def titles(chart: Any) -> list[str]:
    return [panel["title"] for panel in chart.to_dict()["concat"]]


def test_classes_of_few_cells_have_no_panel() -> None:
    """Prevents a curve of three cells that looks as sure as one of thousands, and a small shop without any picture."""
    wanted = ["all SKUs: 1,606", "smooth: 400", "intermittent: 400", "lumpy: 400", "cold start: 400"]
    assert titles(forecast_charts.bracket_curve_chart(class_scores())) == wanted
    assert titles(forecast_charts.pit_chart(class_scores())) == wanted
    assert titles(forecast_charts.bracket_curve_chart(class_scores(cells=20))) == ["all SKUs: 166"]
    names = {row["group"] for row in forecast_charts.class_fold_chart(class_scores()).to_dict()["layer"][0]["data"]["values"]}
    assert names == {"all SKUs", "smooth", "intermittent", "lumpy", "cold start"}


def test_deciles_that_miss_say_by_how_much() -> None:
    """Prevents a decile outside its bracket that looks like one inside, and points of another quantile."""
    values = forecast_charts.decile_chart(class_scores()).to_dict()["layer"][0]["data"]["values"]
    assert [(row["volume_decile"], row["bracket"], round(row["violation_points"], 6)) for row in values if row["volume_decile"] != 2] == [
        (1, "misses 0.9", 10.0),
        (3, "holds 0.9", 0.0),
        (4, "holds 0.9", 0.0),
    ]


def test_fan_starts_where_the_sales_end() -> None:
    """Prevents a fan that starts at 0 beside sales that do not."""
    band, median, sold = forecast_charts.fan_chart(fan()).to_dict()["concat"][0]["layer"]
    assert sold["data"]["values"][-1]["units"] == 10
    assert band["data"]["values"][0] == {"day": "2017-01-02T00:00:00Z", "q10": 10.0, "q50": 10.0, "q90": 10.0}
    assert median["data"]["values"][-1]["q50"] == 38.0
