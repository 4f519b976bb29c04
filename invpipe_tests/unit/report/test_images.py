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
import vl_convert

from invpipe.allocation import capital_curve
from invpipe.report import charts, forecast_charts, images
from invpipe.report.images import PNG_BYTES, indexed, packed, png_markdown, svg
from invpipe_tests.unit.report.examples import (
    HOSTILE,
    ablation,
    backtest,
    class_scores,
    days,
    families,
    fan,
    plan_lines,
    plan_problem,
    sales,
    scores,
)

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
    "replay": lambda: charts.days_chart({"seed 0": backtest(1)[0].days}, "profit", "stock", "ordered", "fill_rate"),
    "vendors": lambda: charts.vendor_chart(LINES),
    "capital": lambda: charts.capital_chart(LINES, 0.2),
    "what-if": lambda: charts.capital_curve_chart(capital_curve(plan_problem(), [50.0, 150.0]), 150.0),
    "demand": lambda: charts.demand_chart(charts.weekly_units(sales())),
}


def texts(drawn: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314 - our own


@pytest.mark.parametrize("name", CHARTS)
def test_chart_is_drawn_with_marks_and_without_links(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an empty picture, one that loads something, and one that differs from run to run."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: pytest.fail("a chart asks for an address"))
    CHARTS[name]().to_dict()  # is held against Vega-Lite's schema
    drawn = svg(CHARTS[name](), f"label {HOSTILE}", name)
    assert drawn == svg(CHARTS[name](), f"label {HOSTILE}", name)
    assert "<script" not in drawn
    assert not re.findall(r'(?:href|src)="', drawn)
    width = re.match(r'<svg [^>]*width="([\d.]+)"', drawn)
    assert width is not None
    assert float(width[1]) <= charts.PHONE_WIDTH  # so that no phone shrinks it
    assert len(texts(drawn)) > 3
    assert not [text for text in texts(drawn) if "NaN" in text or "undefined" in text]
    ids = re.findall(r'id="([^"]+)"', drawn)
    assert all(found.startswith(f"{name}-") for found in ids)
    assert set(re.findall(r"url\(#([^)]+)\)", drawn)) <= set(ids)


def chunks(image: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(image):
        (length,) = struct.unpack_from(">I", image, at)
        chunk = image[at + 4 : at + 8 + length]
        assert struct.unpack_from(">I", image, at + 8 + length) == (zlib.crc32(chunk),)
        found.append((chunk[:4], chunk[4:]))
        at += 12 + length
    return found


def pixels(image: bytes) -> list[tuple[int, ...]]:
    """Return red, green and blue of each pixel by the definition of PNG, for the filters None and Sub."""
    parts = dict(chunks(image))
    width, height, _, kind = struct.unpack(">IIBB", parts[b"IHDR"][:10])
    data, palette, found = zlib.decompress(parts[b"IDAT"]), parts.get(b"PLTE", b""), []
    size = {3: 1, 6: 4}[kind]
    assert len(data) == height * (1 + size * width)
    for top in range(0, len(data), 1 + size * width):
        left = (0,) * size
        for at in range(top + 1, top + 1 + size * width, size):
            here = tuple(data[at : at + size])
            left = tuple((a + b) % 256 for a, b in zip(here, left, strict=True)) if data[top] else here
            found.append(left[:3] if kind == 6 else tuple(palette[3 * left[0] : 3 * left[0] + 3]))
    return found


def rgba(width: int, values: bytes, line_filter: int = 1) -> bytes:
    """Return a PNG as the converter writes it: lines of 4 bytes per pixel, each less that of the pixel to the left."""
    lines = [values[k : k + 4 * width] for k in range(0, len(values), 4 * width)]
    data = b"".join(bytes([line_filter, *line[:4], *((b - a) % 256 for a, b in zip(line, line[4:], strict=False))]) for line in lines)
    header = struct.pack(">IIBBBBB", width, len(lines), 8, 6, 0, 0, 0)
    return images._png((b"IHDR", header), (b"IDAT", zlib.compress(data)))


def test_png_is_an_image_within_its_size() -> None:
    """Prevents metadata that swell the run storage and the pages of the UI, and damage by packing it anew."""
    written = png_markdown(CHARTS["days"](), "days [of] a run")
    assert written == png_markdown(CHARTS["days"](), "days [of] a run")
    assert written.startswith("![days  of  a run](data:image/png;base64,")
    image = base64.b64decode(written.split(",", 1)[1].rstrip(")"))
    assert len(image) < PNG_BYTES
    width, height = struct.unpack(">II", image[16:24])
    assert width > 450  # readable: the largest scale, letters of 18 pixels
    assert [kind for kind, _ in chunks(image)] == [b"IHDR", b"PLTE", b"IDAT", b"IEND"]
    assert len(pixels(image)) == width * height


@pytest.mark.parametrize("name", ["fan", "share"])
def test_palette_keeps_every_pixel(name: str) -> None:
    """Prevents a picture that is small because a series has lost its colour, and a converter whose pictures fit no palette any more."""
    drawn = vl_convert.vegalite_to_png(CHARTS[name]().to_dict(), config=images._config("#1b1f24", "white"), allowed_base_urls=[])
    small = indexed(drawn)
    assert len(small) < len(packed(drawn)) / 1.5
    assert pixels(small) == pixels(drawn)


def test_many_colours_are_rounded_to_a_palette() -> None:
    """Prevents an index that does not fit its byte, white that turns grey, and a colour far from what was drawn."""
    shades = [(red, green, blue, 255) for red in range(0, 256, 15) for green in range(0, 256, 15) for blue in range(0, 256, 15)]
    drawn = rgba(len(shades) // 18, bytes(value for shade in shades for value in shade))
    small = indexed(drawn)
    before, after = pixels(drawn), pixels(small)
    assert len(set(before)) == 18**3 == 5832
    assert len(set(after)) == 6**3
    assert max(abs(a - b) for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True)) <= 25
    assert (after[0], after[-1]) == ((0, 0, 0), (255, 255, 255))


def test_lines_of_another_filter_are_left_alone() -> None:
    """Prevents a garbled picture with a converter that writes its lines in another way."""
    drawn = rgba(3, bytes(range(12, 48)), line_filter=4)
    assert indexed(drawn) == packed(drawn)
    assert dict(chunks(packed(drawn)))[b"IHDR"] == dict(chunks(drawn))[b"IHDR"]


def test_long_runs_are_thinned_to_their_last_day() -> None:
    """Prevents pages of many megabytes, and lines that stop before the end."""
    long = charts.days_chart({"a": days(2000)}).to_dict()
    values = long["vconcat"][0]["data"]["values"]
    assert len(values) <= charts.MAX_POINTS
    assert values[-1] == {"day": "2022-06-24T00:00:00Z", "line": "a", "profit": 19950.0}


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
    return [panel["title"]["text"] for panel in chart.to_dict()["concat"]]


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
