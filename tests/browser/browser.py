"""A real Chromium, driven the way a person would: it waits for what it looks for, and never sleeps."""

import os
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
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE_SECONDS = 120
"""How long a slow machine may take for one thing to show up."""

# React replaces elements between one look and the next
_PASSING = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="needs chromium and chromedriver; on Debian: apt-get install chromium chromium-driver",
)

Found = TypeVar("Found")


class Browser:
    """One window; CSS selectors name what is on the page."""

    def __init__(self, driver: webdriver.Chrome, screenshots: Path) -> None:
        self.driver = driver
        self.screenshots = screenshots

    def open(self, address: str) -> None:
        # an address that differs after the # alone would not load the page again
        self.driver.get("about:blank")
        self.driver.get(address)

    def until(self, what: str, look: Callable[[], Found]) -> Found:
        """Waits until ``look`` finds something; else fails with a screenshot of what there was."""
        waiting = WebDriverWait(self.driver, PATIENCE_SECONDS, ignored_exceptions=_PASSING)
        try:
            return waiting.until(lambda _: look())
        except BaseException as error:
            self.shoot("failed")
            raise AssertionError(f"{what}: not on {self.driver.current_url}\n{self.text()}") from error

    def find(self, selector: str, text: str = "") -> WebElement:
        """Returns the first element that is seen, with ``text`` as all of its text where given."""

        def look() -> WebElement | None:
            found = self.driver.find_elements(By.CSS_SELECTOR, selector)
            return next((e for e in found if e.is_displayed() and text in ("", e.text.strip())), None)

        return self.until(f"{selector} {text}", look)

    def click(self, selector: str, text: str = "") -> None:
        def press() -> bool:
            self.find(selector, text).click()
            return True

        self.until(f"{selector} {text} to click", press)

    def shows(self, *texts: str) -> None:
        """Waits until all of the texts are to be read on the page."""
        self.until(f"{texts}", lambda: all(text in self.text() for text in texts))

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def shoot(self, name: str) -> None:
        self.driver.save_screenshot(self.screenshots / f"{name}.png")


@contextmanager
def chromium(screenshots: Path, profile: Path) -> Iterator[Browser]:
    """Starts a browser that reaches this machine alone."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        "--headless=new",
        "--window-size=1600,1100",
        "--lang=en-US",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-dev-shm-usage",  # containers have little of it
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # which root cannot have
    screenshots.mkdir(parents=True, exist_ok=True)
    # the path keeps Selenium from looking for a driver to download
    window = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(window, screenshots)
    finally:
        window.quit()
