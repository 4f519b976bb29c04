"""The static page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest

from invpipe.errors import InvpipeError
from invpipe.report import Report, render_report, write_report
from invpipe_tests.unit.report.examples import ablation, days, quarantine, report, scores

VOID = {"meta", "br", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Tags in order, with a check that they nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(report())


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found


def test_page_nests_and_needs_nothing_but_itself(page: str) -> None:
    """Prevents a page that breaks without a network, or runs a script."""
    tags = outline(page).tags
    names = {name for name, _ in tags}
    assert not names & {"script", "link", "img", "iframe", "object", "base"}
    assert [attrs["href"] for _, attrs in tags if "href" in attrs] == [
        *("#shop", "#orders", "#changes", "#model", "#explanation", "#forecast", "#calibration", "#arena", "#backtest", "#quarantine"),
        "#notes",
    ]
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", page)


def test_hostile_texts_stay_texts(page: str) -> None:
    """Prevents a product title from running as code in the reader's browser."""
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_page_can_be_read_without_seeing_it(page: str) -> None:
    """Prevents pictures without text, tables without caption, ids used twice, and headings that skip a level."""
    tags = outline(page).tags
    assert all(attrs.get("aria-label") and attrs.get("role") == "img" for name, attrs in tags if name == "svg")
    count = [name for name, _ in tags].count
    assert count("svg") == count("figure") == count("figcaption") == 18
    assert count("table") == count("caption") == 13
    ids = [attrs["id"] for _, attrs in tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert [name for name, _ in tags if re.fullmatch(r"h\d", name)] == ["h1", *["h2"] * 9, "h3", "h2", "h2"]


def test_simulated_tables_are_named(page: str) -> None:
    """Prevents figures on simulated data from passing as real ones."""
    assert '<strong class="simulated">Simulated</strong> tables: offers, vendors.' in page
    assert "Simulated" not in render_report(Report("real shop"))


def test_same_report_same_bytes(page: str) -> None:
    """Prevents a page that changes with the run's time or the order of drawing."""
    assert render_report(report()) == page


def test_sections_without_content_are_left_out() -> None:
    """Prevents empty headings where only part of the chain has run, and an error where nothing is ordered."""
    assert "<h2>" not in render_report(Report("bare"))
    part = render_report(Report("part", fold_scores=scores(), ablation=ablation(), days={"a": days()}))
    assert re.findall(r"<h2>(.*?)</h2>", part) == ["Forecast", "Replay of policies"]
    assert "clairvoyant bound of" not in part
    whole = report()
    empty = render_report(Report("none", order_lines=whole.order_lines.clear(), changes=whole.changes.clear(), weekly=whole.weekly.clear()))
    assert "Nothing is ordered." in empty
    assert "Every line is as in the plan before, or there is no plan before." in empty
    assert "<svg" not in empty
    clean = render_report(
        Report("clean", quarantine=quarantine().with_columns(failed_rows=pl.lit(0)), serving={**whole.serving, "held_back": ""})
    )
    assert "Every row of the 2 tables keeps its contract." in clean
    assert "The last good model goes on" not in clean


def test_write_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """Prevents half a page, a good page lost to a bad one, and litter beside it."""
    path = write_report(tmp_path / "new" / "report.html", Report("first"))
    assert "<h1>first</h1>" in path.read_text(encoding="utf-8")
    with pytest.raises(InvpipeError, match="fold scores lack"):
        write_report(path, Report("second", fold_scores=scores().drop("rps")))
    assert "<h1>first</h1>" in path.read_text(encoding="utf-8")
    assert [found.name for found in path.parent.iterdir()] == ["report.html"]
