"""The benchmark `ui_history` at a size that says nothing about speed: it needs the home, the servers and the browser of this tier."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from invpipe_tests.benchmarks.ui_history import PAGES, history, measure
from invpipe_tests.pipeline.conftest import Home
from invpipe_tests.ui.browser import Browser


def test_history_is_that_of_every_day(home: Home, tmp_path: Path) -> None:
    """Prevents pages that are fast because the home remembers less than it says."""
    reported = history(home, tmp_path / "home", 3)
    with dg.DagsterInstance.from_config(str(tmp_path / "home" / "dagster")) as instance:
        counts = {key.to_user_string(): len(instance.get_materialized_partitions(key)) for key in instance.get_asset_keys()}
        (newest,) = instance.fetch_materializations(dg.AssetKey("order_plan"), limit=1).records
    assert newest.asset_materialization is not None
    assert {"first_lines", "value_per_capital", "capital_price"} <= set(newest.asset_materialization.metadata)
    assert {counts[name] for name in ("order_plan", "window_forecast", "raw_sales_daily")} == {3}
    assert reported == sum(number or 1 for number in counts.values())


#: The plots are those of the last 120 partitions, of which this home has none; `test_pages` opens plots by the same button.
SHOWN = [page for page in PAGES if page != "plan, plots"]


@pytest.mark.parametrize("page", SHOWN)
def test_pages_are_measured(browser: Browser, page: str) -> None:
    """Prevents a benchmark that waits for what no page shows any more."""
    found = measure(browser, page, 1)
    assert found["seconds"] > 0
    assert all(query["bytes"] > 0 for query in found["queries"].values())
    assert len(found["queries"]) > 3
