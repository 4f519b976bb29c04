"""What an operator starts: one partition, a backfill. The runs are the daemon's own, in processes of their own."""

from datetime import date, timedelta

import pytest

from invpipe.defs.partitions import VARIANTS
from invpipe_tests.pipeline.conftest import Home
from invpipe_tests.ui.browser import DIALOG, RUN_TIMEOUT_S, Browser
from invpipe_tests.ui.conftest import DAYS, WINDOW

FIELD = f"{DIALOG}//*[starts-with(text(), 'Select a partition')]"
LAUNCH = f"{DIALOG}//button[starts-with(., 'Launch') and not(@disabled)]"
#: Link of the message that says what was launched.
VIEW = "//*[self::a or self::button][.='View']"
#: What a run's page shows beside its number when the run has ended.
ENDS = ("Success", "Failure", "Canceled")
#: Backtests of the backfill; their order is that of the list in the dialog.
CHOSEN = VARIANTS[:4]


@pytest.fixture(scope="module")
def backfill_page(session_browser: Browser, home: Home) -> str:
    """A backfill of four backtests, started from the UI: the path of its page. The daemon takes it up while other tests run."""
    browser = session_browser
    browser.open("/assets/backtest")
    browser.click("//button[contains(., 'Materialize')]")
    for keys in (CHOSEN, (WINDOW.name,)):  # the dimensions in the order of their names; a filled one has no such text any more
        browser.click(FIELD)
        for key in keys:
            browser.click_role("menuitem", key)
        browser.escape()
    browser.see_text("4 partitions")
    browser.click(LAUNCH)
    browser.click(VIEW)
    return browser.until("the backfill's page", lambda: browser.path() if browser.path().startswith("/runs/b/") else "")


@pytest.mark.usefixtures("backfill_page")
def test_partition_is_materialised(browser: Browser, home: Home) -> None:
    """Prevents a day that an operator cannot extract by hand: dialog, queue, worker and storage work together, beside a backfill."""
    day = (date.fromisoformat(DAYS[-1]) + timedelta(days=1)).isoformat()
    assert home.store.record(("raw_sales_daily", day)) is None
    browser.open("/assets/raw_sales_daily")
    browser.click("//button[contains(., 'Materialize')]")
    browser.type_into(f"{DIALOG}//input[starts-with(@placeholder, 'ex:')]", day)
    browser.see_text("1 partition")
    browser.click(LAUNCH)
    browser.click(VIEW)
    ended = browser.until("an ended run", lambda: next((word for word in ENDS if browser.all(f"//*[text()='{word}']")), ""), RUN_TIMEOUT_S)
    assert ended == "Success"
    assert home.store.record(("raw_sales_daily", day)) is not None


def test_backfill_of_four_backtests_completes(browser: Browser, home: Home, backfill_page: str) -> None:
    """Prevents backtests that cannot be started from the UI, a backfill that never ends, and one that replays more than was asked for."""
    with browser.sized(1600, 560):
        browser.open(backfill_page)
        browser.see_text("Status\nSucceeded", RUN_TIMEOUT_S)
        browser.see_text("100% completed")
        browser.picture("backfill")
    made = {variant for variant in VARIANTS if home.store.record(("backtest", f"{variant}|{WINDOW.name}")) is not None}
    assert made == set(CHOSEN)
