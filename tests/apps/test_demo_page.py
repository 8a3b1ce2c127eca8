"""The page in a real browser: a caption made, refined and downloaded; a batch; two models; a phone."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = pytest.mark.slow

WAIT = 120


@pytest.fixture(scope="module")
def address():
    from blip_refine.apps.captioners import Captioners
    from blip_refine.apps.demo import build_app, launch_app

    desk = Captioners(["starter"])
    desk.load("starter")
    page = build_app(title="Boats & <b>balls</b>", captioners=desk)
    yield launch_app(page, block=False)
    page.close()


def until(page, condition):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, WAIT, 0.1).until(condition)


def find(page, selector: str):
    return page.find_element("css selector", selector)


def value(page, selector: str) -> str:
    return find(page, f"{selector} textarea, {selector} input").get_attribute("value")


def click(page, selector: str) -> None:
    until(page, lambda _: find(page, selector).is_enabled())
    element = find(page, selector)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    page.execute_script("arguments[0].click()", element)


def open_page(page, address: str) -> None:
    page.get(address)
    until(page, lambda _: page.find_elements("css selector", "#caption-button"))


def upload(page, selector: str, *paths: str) -> None:
    until(page, lambda _: page.find_elements("css selector", f"{selector} input[type=file]"))
    find(page, f"{selector} input[type=file]").send_keys("\n".join(paths))


def wait_for_download(folder: Path, name: str) -> str:
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        found = [path for path in folder.glob(name) if path.stat().st_size]
        if found:
            return found[0].read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError(f"{name} was not downloaded; there is {list(folder.iterdir())}")


def requests_elsewhere(page) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if not url.startswith(("http://127.0.0.1", "data:", "blob:"))]


def picture_file(folder: Path) -> str:
    from blip_refine.data.sources.scenes import make_scene

    path = folder / "scene.png"
    make_scene("everyday", "test", 3, size=160).image.save(path)
    return str(path)


def test_caption_refine_download(address, browser, tmp_path, screenshots):
    page = browser()
    open_page(page, address)
    assert find(page, "h1").text == "Boats & <b>balls</b>", "the title is text"
    click(page, "#caption-button")
    until(page, lambda _: "There is no picture yet" in page.page_source)
    upload(page, "#picture", picture_file(tmp_path))
    until(page, lambda _: page.find_elements("css selector", "#picture img"))
    click(page, "#caption-button")
    caption = until(page, lambda _: value(page, "#caption"))
    assert caption[0].isupper() and caption.endswith(".")
    assert "log-probability" in value(page, "#confidence") and "refined" in value(page, "#confidence")
    assert "put in" in find(page, "#changes").text.lower()
    page.save_screenshot(str(screenshots / "app_desktop.png"))
    click(page, "#download")
    taken_home = json.loads(wait_for_download(tmp_path / "downloads", "caption*.json"))
    assert taken_home["caption"] == caption and taken_home["refined"] is True
    assert len(taken_home["candidates"]) > 1 and taken_home["model"] == "starter"
    assert requests_elsewhere(page) == []
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_batch_of_an_archive(address, browser, tmp_path, screenshots):
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(picture_file(tmp_path), "a/scene.png")
        file.writestr("b/<i>broken</i>.png", b"no picture")
    page = browser()
    open_page(page, address)
    page.execute_script(
        "[...document.querySelectorAll('button[role=tab]')].find(b => b.textContent == 'Many pictures').click()"
    )
    upload(page, "#files", str(archive))
    until(page, lambda _: "photos" in find(page, "#files").text)
    click(page, "#batch-button")
    until(page, lambda _: value(page, "#batch-summary") == "1 picture captioned, 1 could not be read")
    page.save_screenshot(str(screenshots / "app_batch.png"))
    click(page, "#batch-jsonl")
    lines = wait_for_download(tmp_path / "downloads", "captions*.jsonl").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["image_id"] for row in rows] == ["a/scene.png", "b/<i>broken</i>.png"]
    assert rows[0]["caption"] and rows[1]["error"]


def test_two_ways_side_by_side(address, browser, tmp_path, screenshots):
    page = browser()
    open_page(page, address)
    page.execute_script(
        "[...document.querySelectorAll('button[role=tab]')].find(b => b.textContent == 'Compare').click()"
    )
    upload(page, "#compare-picture", picture_file(tmp_path))
    until(page, lambda _: page.find_elements("css selector", "#compare-picture img"))
    click(page, "#compare-button")
    until(page, lambda _: value(page, "#left-caption") and value(page, "#right-caption"))
    left, right = find(page, "#left-caption").rect, find(page, "#right-caption").rect
    assert left["y"] == right["y"] and left["x"] + left["width"] <= right["x"], "side by side"
    assert value(page, "#left-draft") and "log-probability" in value(page, "#right-confidence")
    page.save_screenshot(str(screenshots / "app_compare.png"))


def test_on_a_phone(address, browser, tmp_path, screenshots):
    page = browser(phone=True)
    open_page(page, address)
    upload(page, "#picture", picture_file(tmp_path))
    until(page, lambda _: page.find_elements("css selector", "#picture img"))
    click(page, "#caption-button")
    until(page, lambda _: value(page, "#caption"))
    # A phone's browser widens the window to what hangs over the edge: it must still be the screen's.
    widths = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert widths == [390, 390], "nothing hangs over the right edge"
    parts = "#picture, #caption, #caption-button, #changes, #candidates, #download"
    edges = page.execute_script(
        f"return [...document.querySelectorAll('{parts}')]"
        ".map(e => { const box = e.getBoundingClientRect(); return [box.left, box.right] })"
    )
    assert len(edges) == 6 and all(0 <= left < right <= 390 for left, right in edges), edges
    assert find(page, "#caption-button").size["height"] >= 44, "a finger's width"
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 390, "height": 1900, "deviceScaleFactor": 1, "mobile": True})  # fmt: skip
    page.save_screenshot(str(screenshots / "app_phone.png"))


def test_a_password_is_asked_for(browser):
    import urllib.error
    import urllib.request

    from blip_refine.apps.captioners import Captioners
    from blip_refine.apps.demo import build_app, launch_app

    page = build_app(captioners=Captioners(["starter"]))
    url = launch_app(page, password="correct horse", block=False)
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{url}config", timeout=60)
        assert refused.value.code == 401
        for password, status in (("wrong", 400), ("correct horse", 200)):
            data = f"username=anyone&password={password.replace(' ', '+')}".encode()
            request = urllib.request.Request(f"{url}login", data)
            try:
                answered = urllib.request.urlopen(request, timeout=60).status
            except urllib.error.HTTPError as error:
                answered = error.code
            assert answered == status
    finally:
        page.close()
