"""Charts, and charts as pictures."""

from __future__ import annotations

import base64
import re
import socket
import struct
import zlib
from xml.etree import ElementTree

import polars as pl
import pytest

from invpipe.report import charts
from invpipe.report.images import PNG_BYTES, png_markdown, svg
from invpipe_tests.unit.report.examples import HOSTILE, ablation, days, plan_lines, sales, scores

LINES, SUMMARY = plan_lines()
CHARTS = {
    "folds": lambda: charts.fold_scores_chart(scores()),
    "bracket": lambda: charts.calibration_chart(scores()),
    "coverage": lambda: charts.coverage_chart(scores()),
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
