"""A real Chromium, driven from outside. Tests that need it skip where it is missing, and say so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def browser(tmp_path):
    """`open_browser(phone=False)` gives a headless Chromium that downloads into `tmp_path / "downloads"`."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: no browser to drive")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("chromium and chromedriver are not installed: no browser to drive")
    os.environ["SE_AVOID_STATS"] = "true"
    opened = []

    def open_browser(phone: bool = False):
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.add_argument("--window-size=1200,1400")
        if phone:
            metrics = {"width": 390, "height": 844, "pixelRatio": 2.0, "touch": True}
            options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
        downloads = tmp_path / "downloads"
        downloads.mkdir(exist_ok=True)
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        page = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        opened.append(page)
        return page

    yield open_browser
    for page in opened:
        page.quit()


@pytest.fixture
def screenshots(tmp_path) -> Path:
    """Where screenshots go: the folder that `BLIP_REFINE_SCREENSHOTS` names, to be looked at, or a temporary one."""
    folder = Path(os.environ.get("BLIP_REFINE_SCREENSHOTS") or tmp_path / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
