"""A headless Chromium that reads Dagster's pages as an operator does: by text and role, waiting for what shall appear."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from invpipe.report.images import packed

T = TypeVar("T")

#: A page, a dialog; a run that the daemon starts in a process of its own, on a busy machine.
PAGE_TIMEOUT_S, RUN_TIMEOUT_S = 60.0, 300.0
#: Pages are drawn anew while they load: what went away, is covered or not there yet is looked for again.
PASSING = (StaleElementReferenceException, ElementClickInterceptedException, ElementNotInteractableException)
DIALOG = "//*[@role='dialog']"
#: Pixels of a picture per pixel of the page: 1,600 wide become 1,200.
PICTURE_SCALE = 0.75
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # as root, Chromium refuses to run with its sandbox
    "--disable-dev-shm-usage",  # /dev/shm is small in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--lang=en-US",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # tests stay on this machine
    "--window-size=1600,1000",
)


class Browser:
    """Pages of one Dagster UI.

    Parameters
    ----------
    driver
        The browser.
    url
        Of the UI.
    shots
        Directory of the pictures for the README.
    """

    def __init__(self, driver: webdriver.Chrome, url: str, shots: Path) -> None:
        self.driver, self.url, self.shots = driver, url, shots

    def open(self, path: str) -> None:
        """Load a page of the UI."""
        self.driver.get(self.url + path)

    def until(self, what: str, ready: Callable[[], T], timeout_s: float = PAGE_TIMEOUT_S) -> T:
        """Return the first true value of `ready()`; `what` is said when none comes."""
        wait = WebDriverWait(self.driver, timeout_s, poll_frequency=0.2, ignored_exceptions=PASSING)
        try:
            return wait.until(lambda _: ready())
        except TimeoutException as error:
            msg = f"{self.driver.current_url} did not show {what} within {timeout_s:.0f} s; it shows:\n{self.text()}"
            raise AssertionError(msg) from error

    def all(self, xpath: str) -> list[WebElement]:
        """Return what is visible and matches now."""
        return [found for found in self.driver.find_elements(By.XPATH, xpath) if found.is_displayed()]

    def see(self, xpath: str, timeout_s: float = PAGE_TIMEOUT_S) -> WebElement:
        """Wait until something visible matches and return the first of it."""
        return self.until(xpath, lambda: next(iter(self.all(xpath)), None), timeout_s)

    def see_text(self, text: str, timeout_s: float = PAGE_TIMEOUT_S) -> None:
        """Wait until the page shows the text."""
        self.until(f"the text {text!r}", lambda: text in self.text(), timeout_s)

    def click(self, xpath: str) -> None:
        """Wait until something visible matches and can be clicked, and click it."""

        def clicked() -> bool:
            found = [element for element in self.all(xpath) if element.is_enabled()]
            if found:
                found[0].click()
            return bool(found)

        self.until(f"{xpath} to click on", clicked)

    def click_role(self, role: str, text: str) -> None:
        """Click what has this role and this visible text."""

        def clicked() -> bool:
            found = [element for element in self.all(f"//*[@role='{role}']") if element.text.strip() == text]
            if found:
                found[0].click()
            return bool(found)

        self.until(f"{role} {text!r} to click on", clicked)

    def type_into(self, xpath: str, text: str) -> None:
        """Type a text and Enter."""
        self.see(xpath).send_keys(text + Keys.ENTER)

    def escape(self) -> None:
        """Press Escape: close the menu that is open."""
        self.driver.switch_to.active_element.send_keys(Keys.ESCAPE)

    def text(self) -> str:
        """Return the visible text of the page."""
        return self.driver.find_element(By.TAG_NAME, "body").text

    def path(self) -> str:
        """Return the path of the page, without the UI's address."""
        return self.driver.current_url.removeprefix(self.url)

    def hosts(self) -> set[str]:
        """Return the hosts that the page has asked for something."""
        return set(self.driver.execute_script("return performance.getEntriesByType('resource').map(entry => new URL(entry.name).host)"))

    def shoot(self, path: Path) -> Path:
        """Write a screenshot of what the browser shows."""
        path.write_bytes(self.driver.get_screenshot_as_png())
        return path

    @contextmanager
    def sized(self, width: int, height: int, scale: float = PICTURE_SCALE, *, mobile: bool = False) -> Iterator[None]:
        """Give the page another size, in its own pixels, of which a picture has `scale` as many along each side.

        A mobile page follows its viewport tag, and its scroll bars take no room.
        """
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

    def picture(self, name: str) -> Path:
        """Write a picture for the README once nothing on the page turns, loads or moves any more; the page keeps the size it has."""
        script = "return document.querySelectorAll('[class*=Spinner], [class*=spinner], [aria-busy=true]').length"
        self.until("a page without spinners", lambda: self.driver.execute_script(script) == 0)
        before = b""

        def still() -> bytes:
            nonlocal before
            now = self.driver.get_screenshot_as_png()
            same, before = now == before, now
            return now if same else b""

        path = self.shots / f"{name}.png"
        path.write_bytes(packed(self.until("a page that stands still", still)))
        return path


def program(name: str) -> str:
    """Return the path of a program; a missing one is an error, because a skipped browser test looks like a passed one."""
    found = shutil.which(name)
    if found is None:
        msg = f"{name} is missing: install it (Debian: apt-get install chromium chromium-driver), the browser tests cannot run without it"
        raise FileNotFoundError(msg)
    return found


@contextmanager
def chromium(url: str, shots: Path, log: Path) -> Iterator[Browser]:
    """Start the machine's Chromium with the machine's driver - Selenium downloads neither - and end both."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in ARGUMENTS:
        options.add_argument(argument)
    service = Service(executable_path=program("chromedriver"), log_output=str(log))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SE_OFFLINE", "true")
        driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_page_load_timeout(PAGE_TIMEOUT_S)
        yield Browser(driver, url, shots)
    finally:
        driver.quit()
