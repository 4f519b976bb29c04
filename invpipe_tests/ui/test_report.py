"""The report on a phone and on paper, as the browser lays it out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from invpipe.defs.report.pages import PAGES
from invpipe.report import write_report
from invpipe_tests.pipeline.conftest import Home
from invpipe_tests.ui.browser import Browser
from invpipe_tests.ui.conftest import PAGES_URL, PLANNED, WINDOW
from invpipe_tests.unit.report import examples

#: A common phone, and what the margins leave of a sheet of A4, in points of the page.
PHONE, PAPER = (390, 844), (703, 1032)
SMALLEST_TEXT = 12.0

#: What the reader would have to look for: the page's own overflow, what sticks out of the screen and of each table's box.
LAYOUT = """
const wide = document.documentElement.clientWidth;
const name = element => element.tagName + ': ' + element.textContent.trim().slice(0, 40);
const boxed = element => getComputedStyle(element.closest('.scroll') ?? element).overflowX === 'auto';
const sticksOut = element => { const box = element.getBoundingClientRect(); return box.left < -0.5 || box.right > wide + 0.5 };
const hidden = element => element.ownerSVGElement && (element.tagName !== 'text' || element.getAttribute('opacity') === '0');
const seen = element => !(element.closest('table') && boxed(element)) && !hidden(element);
const texts = [...document.querySelectorAll('body *')].filter(element => [...element.childNodes].some(
    node => node.nodeType === Node.TEXT_NODE && node.textContent.trim()) && !element.closest('style'));
const size = element => {
    const drawing = element.ownerSVGElement, scale = drawing ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
    return parseFloat(getComputedStyle(element).fontSize) * scale;
};
return {
    overflow: document.documentElement.scrollWidth - wide,
    sticking: [...document.querySelectorAll('main *')].filter(seen).filter(sticksOut).map(name),
    captions: [...document.querySelectorAll('caption > span')].filter(sticksOut).map(name),
    small: texts.filter(element => size(element) < arguments[0] - 0.05).map(element => name(element) + ' ' + size(element)),
    plots: document.querySelectorAll('figure > svg').length,
    tables: document.querySelectorAll('table').length,
    ground: getComputedStyle(document.body).backgroundColor,
    ink: getComputedStyle(document.body).color,
};
"""


@pytest.fixture(scope="module")
def pages(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of the last planned day, that of a backtest made beside the home, and one with every section and awkward names, as files."""
    folder = tmp_path_factory.mktemp("reports")
    beside = Home(folder / "home")
    shutil.copytree(home.path / "artifacts", beside.path / "artifacts")
    shutil.copy(home.path / "invpipe.toml", beside.path)
    with dg.DagsterInstance.ephemeral() as instance:
        beside.materialise(instance, "backtests", f"ss|{WINDOW.name}")
    return {
        "day": home.path / PAGES / f"{PLANNED[-1]}.html",
        "backtest": beside.path / PAGES / WINDOW.name / "ss.html",
        "awkward": write_report(folder / "awkward.html", examples.report()),
    }


@contextmanager
def laid_out(browser: Browser, page: Path, size: tuple[int, int], media: str, scheme: str = "light") -> Iterator[dict[str, Any]]:
    """Open a page of a size for a screen or for paper, of a reader who likes light or dark; give what its layout is like."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    with browser.sized(*size, scale=1.0, mobile=True):
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
        try:
            browser.driver.get(page.as_uri())
            yield browser.driver.execute_script(LAYOUT, SMALLEST_TEXT)
        finally:
            browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("name", ["day", "backtest", "awkward"])
def test_report_is_readable_on_a_phone(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Prevents a page that a phone moves sideways, plots that it shows in part, and letters too small to read."""
    with laid_out(browser, pages[name], PHONE, "screen") as found:
        assert (found["overflow"], found["sticking"], found["captions"], found["small"]) == (0, [], [], [])
        assert (found["plots"], found["tables"]) == {"day": (6, 3), "backtest": (2, 3), "awkward": (18, 13)}[name]


def test_picture_of_the_report_on_a_phone(browser: Browser, pages: dict[str, Path]) -> None:
    """Prevents a README that shows another page than the one that is written."""
    with laid_out(browser, pages["day"], PHONE, "screen"):
        browser.driver.execute_script("document.querySelector('#explanation').scrollIntoView()")
        browser.picture("report-phone")


@pytest.mark.parametrize("name", ["day", "backtest", "awkward"])
def test_report_is_printed_whole(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Prevents columns that the edge of the paper cuts off, and a sheet of black ink for a reader who likes dark pages."""
    with laid_out(browser, pages[name], PAPER, "print", "dark") as found:
        assert (found["overflow"], found["sticking"]) == (0, [])
        assert (found["ground"], found["ink"]) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")


def test_screen_keeps_the_readers_dark(browser: Browser, pages: dict[str, Path]) -> None:
    """Prevents a test of the paper's white ground that passes because nothing was ever dark."""
    with laid_out(browser, pages["day"], PHONE, "screen", "dark") as found:
        assert found["ground"] == "rgb(21, 24, 28)"


def test_page_is_linked_from_its_asset(browser: Browser, home: Home) -> None:
    """Prevents a page that an operator has to look for on the machine: the asset names its place and links to where the proxy shows it."""
    browser.open("/assets/day_report")
    browser.see_text(str((home.path / PAGES / f"{PLANNED[-1]}.html").resolve()))
    browser.see(f"//a[@href='{PAGES_URL}/{PLANNED[-1]}.html']")
