"""What an operator sees: the graph, the order plan, a failed check."""

from typing import cast

import dagster as dg
import pytest

from invpipe.defs.build import build_definitions
from invpipe.defs.columns import description_of
from invpipe_tests.pipeline.conftest import Home
from invpipe_tests.ui.browser import DIALOG, Browser, program
from invpipe_tests.ui.conftest import DAYS, Servers

#: Titles of metadata that hold a table or a picture; the page shows them after a click.
SHOW = "//*[text()='[Show Markdown]']"


@pytest.fixture(scope="module")
def specs(home: Home) -> list[dg.AssetSpec]:
    """Specs of all assets of the home."""
    return list(build_definitions(str(home.path)).resolve_all_asset_specs())


def test_graph_shows_every_group(browser: Browser, specs: list[dg.AssetSpec]) -> None:
    """Prevents a room whose assets no operator finds, and a graph that the browser cannot draw."""
    groups = {cast(str, spec.group_name) for spec in specs}
    with browser.sized(1600, 600):
        browser.open("/asset-groups")
        for group in sorted(groups):
            browser.see(f"//*[name()='foreignObject'][.//text()='{group}']")
        browser.picture("graph")


def test_group_opens_to_its_assets(browser: Browser, specs: list[dg.AssetSpec]) -> None:
    """Prevents assets that are loaded but not drawn."""
    browser.open("/locations/invpipe.definitions/asset-groups/allocation/lineage")
    for spec in specs:
        if spec.group_name == "allocation":
            browser.see(f"//*[name()='foreignObject'][.//text()='{spec.key.to_user_string()}']")


def test_page_asks_nobody_else(browser: Browser, servers: Servers) -> None:
    """Prevents telemetry, advertisements and fonts of other hosts: the UI works, and tells nothing, in a closed network."""
    browser.open("/asset-groups")
    browser.see("//*[name()='foreignObject'][.//text()='allocation']")
    assert browser.hosts() == {servers.url.removeprefix("http://")}


def test_order_plan_has_its_tables_and_plots(browser: Browser, home: Home, specs: list[dg.AssetSpec]) -> None:
    """Prevents an order plan of which the page shows a path only: description, columns, key figures, first lines, picture, curves."""
    plan = home.frame("order_plan", DAYS[-1])
    description = next(spec.description for spec in specs if spec.key.to_user_string() == "order_plan")
    assert description
    with browser.sized(1600, 1100):
        browser.open("/assets/order_plan")
        browser.see_text(description)
        browser.see_text(DAYS[-1])
        for column in plan.columns:
            meaning = description_of("order_plan", column)
            assert meaning
            browser.see(f"//table//tr[td//*[text()='{column}']]//*[text()={quoted(meaning)}]")
        browser.picture("order-plan")

    first_columns, pictures = [], 0
    for number in range(len(browser.until("metadata with tables and pictures", lambda: browser.all(SHOW)))):
        browser.click(f"({SHOW})[{number + 1}]")
        browser.see(f"{DIALOG}//*[self::table or self::img]")
        if browser.all(f"{DIALOG}//table"):
            first_columns.append([cell.text for cell in browser.all(f"{DIALOG}//tbody//td[1]")])
        else:
            browser.until("a picture with its pixels", lambda: drawn(browser))
            pictures += 1
        browser.click(f"{DIALOG}//button[.='Close']")
        browser.until("no dialog", lambda: not browser.all(DIALOG))
    assert plan["sku"].to_list()[:15] in first_columns
    assert pictures >= 1

    with browser.sized(1600, 820):
        browser.click("//button[.='Plots']")
        browser.click("//button[.='Events']")
        browser.until("plots", lambda: len(browser.all("//canvas")) > 4)
        browser.driver.execute_script("arguments[0].scrollIntoView()", browser.see("//*[text()='Metadata']"))
        browser.picture("order-plan-figures")


def quoted(text: str) -> str:
    """Return a text as XPath writes it."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def drawn(browser: Browser) -> bool:
    """Say whether the dialog's picture was decoded and is larger than an icon."""
    sizes = "const image = document.querySelector('[role=dialog] img'); return Math.min(image.naturalWidth, image.naturalHeight)"
    return bool(browser.driver.execute_script(sizes) > 100)


def test_failed_check_is_visible(browser: Browser, home: Home) -> None:
    """Prevents a bad delivery that nobody sees: the page of the check says that it failed, how many rows, which, and why."""
    counts = home.frame("quarantine_counts").filter(home.frame("quarantine_counts")["failed_rows"] > 0)
    row = counts.row(0, named=True)
    with browser.sized(1600, 585):
        browser.open("/assets/quarantine_counts?view=checks")
        browser.see_text("quarantine_within_threshold")
        browser.see_text("Evaluation result\nFailed")
        browser.see_text(f"{row['failed_rows']} of {row['total_rows']} rows of sales_daily break")
        browser.see_text("unknown-")
        browser.picture("failed-check")
    browser.open("/assets/quarantine_counts")
    browser.see_text("Latest check results")


def test_missing_browser_is_an_error() -> None:
    """Prevents browser tests that are skipped, and look passed, where no browser is installed."""
    with pytest.raises(FileNotFoundError, match="no-such-browser is missing: install it .Debian: apt-get install chromium"):
        program("no-such-browser")
