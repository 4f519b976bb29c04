"""Seconds until Dagster's pages are there when the instance remembers 2,000 days: the asset graph, the page of the order plan.

Run it with ``python -m invpipe_tests.benchmarks.ui_history``; it needs Chromium and chromedriver. A small shop is run once, for real
events. A second home whose calendar has as many days gets those of the order plan and of all it is made from reported again for every
day, through the instance's own interface: metadata, tags and sizes are real, nothing is computed. Then `invpipe ui` serves it and a
browser opens each page, once to warm up and some times measured. Printed are the medians of the seconds from the navigation to what an
operator looks for, and of each GraphQL query that the page has made, as the browser saw them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg

from invpipe.defs.build import build_definitions
from invpipe.defs.run import prepare_home, unsynced_event_log
from invpipe.settings import write_settings
from invpipe_tests.pipeline.conftest import Home, surroundings
from invpipe_tests.ui.browser import Browser, chromium
from invpipe_tests.ui.conftest import build_home, ui_of

#: A shop whose calendar is as long as wanted; its databases are never read.
TABLES = {name: {"sql": "SELECT 1"} for name in ("items", "vendors", "sales_daily", "stock_daily", "page_views_daily", "offers")}
#: Path of a page, and what must stand on it.
PAGES = {
    "graph": ("/asset-groups", ("//*[name()='foreignObject'][.//text()='allocation']",)),
    "plan": (
        "/assets/order_plan",
        ("//table//td//*[text()='order_units']", "//*[text()='price_of_capital']", "//*[text()='capital_price']"),
    ),
    "plan, plots": ("/assets/order_plan", ("//canvas",)),
    "plan, partitions": ("/assets/order_plan?view=partitions", ("//*[starts-with(text(), 'Materialized (')]",)),
}
#: The browser's own account of the GraphQL queries of the page: name, seconds, bytes.
QUERIES = """
return performance.getEntriesByType('resource').filter(entry => entry.name.includes('/graphql'))
    .map(entry => [new URL(entry.name).search.replace('?op=', ''), entry.duration / 1000, entry.decodedBodySize])
"""


def history(small: Home, home: Path, days: int) -> int:
    """Report the newest event of the order plan, and of all it is made from, for each of so many days in a new home; return how many."""
    first_day = datetime.now(UTC).date() - timedelta(days=days)
    write_settings(home, source="databases", shop={"first_day": first_day}, tables=TABLES)
    with surroundings(), dg.DagsterInstance.from_config(str(prepare_home(small.path))) as instance:
        events = newest_events(small, instance)
    keys = [(first_day + timedelta(days=k)).isoformat() for k in range(days)]
    again = [event._replace(partition=key) for event in events for key in (keys if event.partition else [None])]
    with surroundings(), unsynced_event_log(), dg.DagsterInstance.from_config(str(prepare_home(home))) as instance:
        for event in again:
            instance.report_runless_asset_event(event)
    return len(again)


def newest_events(home: Home, instance: dg.DagsterInstance) -> list[dg.AssetMaterialization]:
    """Return the newest materialisation of the order plan and of each asset it is made from."""
    graph = build_definitions(str(home.path)).resolve_asset_graph()
    keys = sorted(dg.AssetSelection.assets("order_plan").upstream().resolve(graph))
    newest = [instance.fetch_materializations(key, limit=1).records[0].asset_materialization for key in keys]
    return [event for event in newest if event is not None]


def measure(browser: Browser, page: str, repeats: int) -> dict[str, Any]:
    """Open a page once to warm up and then `repeats` times; return the median seconds until it shows what it has to, and of its queries."""
    path, wanted = PAGES[page]
    seconds: list[float] = []
    queries: dict[str, list[tuple[float, int]]] = {}
    for attempt in range(repeats + 1):
        browser.driver.get("about:blank")
        began = time.perf_counter()
        browser.open(path)
        if page.endswith("plots"):
            browser.click("//button[.='Plots']")
        for xpath in wanted:
            browser.see(xpath)
        if attempt:
            seconds.append(time.perf_counter() - began)
            settle(browser)
            for name, took, size in browser.driver.execute_script(QUERIES):
                queries.setdefault(name, []).append((took, size))
    slowest = {
        name: {"seconds": round(median(took for took, _ in runs), 3), "bytes": int(median(size for _, size in runs))}
        for name, runs in queries.items()
    }
    return {
        "seconds": round(median(seconds), 2),
        "all": [round(value, 2) for value in seconds],
        "queries": dict(sorted(slowest.items(), key=lambda item: -item[1]["seconds"])[:8]),
    }


def settle(browser: Browser) -> None:
    """Wait until the page has not asked for anything for a while."""
    seen: list[int] = []

    def quiet() -> bool:
        seen.append(len(browser.driver.execute_script(QUERIES)))
        return len(seen) > 4 and len(set(seen[-5:])) == 1

    browser.until("the end of its queries", quiet)


def run(days: int, repeats: int, say: Callable[[str], object] = print) -> dict[str, Any]:
    """Build both homes in a temporary directory and measure every page."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(directory)
        small, home = build_home(here / "small"), here / "home"
        began = time.perf_counter()
        reported = history(small, home, days)
        say(f"{reported:,} events of {days:,} days reported in {time.perf_counter() - began:.0f} s")
        with ui_of(home, here) as servers, chromium(servers.url, here, here / "chromedriver.log") as browser:
            return {page: measure(browser, page, repeats) for page in PAGES}


def main(argv: list[str] | None = None) -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    print(json.dumps(run(**vars(parser.parse_args(argv))), indent=2))


if __name__ == "__main__":
    main()
