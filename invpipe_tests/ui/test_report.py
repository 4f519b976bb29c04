"""The report on a phone and on paper, as the browser lays it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from invpipe.history import ShopHistory
from invpipe.report import Report, render_report
from invpipe.report.charts import weekly_units
from invpipe_tests.pipeline.conftest import Home
from invpipe_tests.ui.browser import Browser
from invpipe_tests.ui.conftest import PLANNED
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


def day_page(home: Home) -> Report:
    """Return the report of the home's last planned day."""
    day = PLANNED[-1]
    history = ShopHistory.open(home.content("shop_history"))
    return Report(
        title=f"Order plan of {day}",
        shop={"SKUs": len(history.skus), "days": f"{history.first_day} to {history.last_day}"},
        simulated=("vendors", "offers"),
        weekly=weekly_units(history.sales_daily, home.frame("true_demand")),
        families=home.frame("feature_families", day),
        drivers=home.frame("forecast_drivers", day),
        fan=home.frame("forecast_fan", day),
        order_lines=home.frame("order_plan", day),
        order_summary=home.frame("order_plan_summary", day).row(0, named=True),
    )


def backtest_page() -> Report:
    """Return a report with every section, of policies and SKUs with awkward names."""
    return examples.report()


@pytest.fixture(scope="module")
def pages(home: Home, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The two pages as files."""
    folder, made = tmp_path_factory.mktemp("reports"), {"day": day_page(home), "backtest": backtest_page()}
    for name, page in made.items():
        (folder / f"{name}.html").write_text(render_report(page), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in made}


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


@pytest.mark.parametrize("name", ["day", "backtest"])
def test_report_is_readable_on_a_phone(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Prevents a page that a phone moves sideways, plots that it shows in part, and letters too small to read."""
    with laid_out(browser, pages[name], PHONE, "screen") as found:
        assert (found["overflow"], found["sticking"], found["captions"], found["small"]) == (0, [], [], [])
        assert (found["plots"], found["tables"]) == {"day": (5, 2), "backtest": (15, 8)}[name]


def test_picture_of_the_report_on_a_phone(browser: Browser, pages: dict[str, Path]) -> None:
    """Prevents a README that shows another page than the one that is written."""
    with laid_out(browser, pages["day"], PHONE, "screen"):
        browser.driver.execute_script("document.querySelector('#explanation').scrollIntoView()")
        browser.picture("report-phone")


@pytest.mark.parametrize("name", ["day", "backtest"])
def test_report_is_printed_whole(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """Prevents columns that the edge of the paper cuts off, and a sheet of black ink for a reader who likes dark pages."""
    with laid_out(browser, pages[name], PAPER, "print", "dark") as found:
        assert (found["overflow"], found["sticking"]) == (0, [])
        assert (found["ground"], found["ink"]) == ("rgb(255, 255, 255)", "rgb(0, 0, 0)")


def test_screen_keeps_the_readers_dark(browser: Browser, pages: dict[str, Path]) -> None:
    """Prevents a test of the paper's white ground that passes because nothing was ever dark."""
    with laid_out(browser, pages["day"], PHONE, "screen", "dark") as found:
        assert found["ground"] == "rgb(21, 24, 28)"
