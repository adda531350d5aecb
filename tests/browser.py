"""Chromium without a window, for tests of pages."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Nothing is looked up on the network, and nothing is kept from one test to the next.
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
REQUIRED = "LATENTWIRE_REQUIRE_BROWSER"


def require_browser() -> tuple[str, str]:
    """Chromium and its driver; the test is skipped without them, or fails where they must be."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    reason = "chromium and chromedriver are not installed (Debian: chromium chromium-driver)"
    (pytest.fail if os.environ.get(REQUIRED) == "1" else pytest.skip)(reason)


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A selenium driver whose page is `width` x `height` CSS pixels, with an empty profile."""
    browser, driver = require_browser()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        page = webdriver.Chrome(options=options, service=Service(driver))
        try:
            resize(page, width, height)
            yield page
        finally:
            page.quit()


def resize(page: Any, width: int, height: int) -> None:
    """Give the page a size below what a window can have, such as a telephone's."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )


def open_file(page: Any, path: Path) -> None:
    page.get(path.resolve().as_uri())
