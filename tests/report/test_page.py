"""The report in a real browser, opened from the disk: no error, no request, everything works."""

from __future__ import annotations

import json

import pytest

from blip_refine.report.report import write_report

from .run_folder import read_rows, write_rows

pytestmark = pytest.mark.slow

EVIL = '<script>window.stolen = true</script><img src="https://example.com/x" onerror="window.stolen = true"> dog'


def shown(page) -> list[str]:
    return page.execute_script(
        "return Array.from(document.querySelectorAll('.card')).filter((card) => !card.hidden)"
        ".map((card) => card.querySelector('.id').textContent)"
    )


def choose(page, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", name)).select_by_value(value)


def test_report_from_the_disk(run, browser, screenshots):
    rows = read_rows(run)
    rows[3]["systems"]["refined"] = rows[3]["caption"] = EVIL
    rows[3]["references"] = [EVIL, EVIL]
    write_rows(run, rows)
    page = browser()
    page.get(write_report(run, plots=False).as_uri())
    assert page.get_log("browser") == [], "no error and no warning, whatever a caption holds"
    assert page.execute_script("return window.stolen") is None
    asked = [
        message["params"]["request"]["url"]
        for entry in page.get_log("performance")
        if (message := json.loads(entry["message"])["message"])["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    # Search finds words of captions and references, and names of images; several words narrow it down.
    assert len(shown(page)) == len(rows)
    search = page.find_element("id", "search")
    search.send_keys("onerror")
    assert shown(page) == [rows[3]["image_id"]]
    assert page.find_element("id", "shown").text == "1 picture"
    search.clear()
    search.send_keys("007.png")
    assert shown(page) == ["007.png"]
    search.clear()
    search.send_keys("no such word")
    assert shown(page) == [] and page.find_element("id", "nothing").is_displayed()
    search.clear()
    search.send_keys(" ")
    assert len(shown(page)) == len(rows)
    # Sorting: what gained most, and least sure, first.
    gains = {row["image_id"]: row["scores"]["refined"]["CIDEr"] - row["scores"]["before"]["CIDEr"] for row in rows}
    choose(page, "sort", "gain-down")
    order = shown(page)
    assert [gains[one] for one in order] == sorted(gains.values(), reverse=True)
    choose(page, "sort", "gain-up")
    assert [gains[one] for one in shown(page)] == sorted(gains.values())
    choose(page, "sort", "confidence-up")
    sure = {row["image_id"]: row["confidence"] for row in rows}
    assert [sure[one] for one in shown(page)] == sorted(sure.values())
    choose(page, "sort", "number")
    assert shown(page) == [row["image_id"] for row in rows]
    # Faults.
    choose(page, "fault", "wrong colour")
    wrong = shown(page)
    assert 0 < len(wrong) < len(rows)
    choose(page, "fault", "")
    # Light and dark.
    light = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    page.find_element("id", "theme").click()
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert light != dark and sum(map(int, dark[4:-1].split(","))) < 150
    page.save_screenshot(str(screenshots / "report_dark.png"))
    assert page.get_log("browser") == []


def test_report_by_keyboard_on_a_phone_and_without_script(run, browser, screenshots):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page = browser(phone=True)
    page.get(write_report(run, plots=False).as_uri())
    wide = page.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], "nothing hangs over the edge"
    page.save_screenshot(str(screenshots / "report_phone.png"))
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.text == "Skip to the results"
    # Everything that can be used has a name, pictures have a text, and tables can be scrolled by keyboard.
    nameless = page.execute_script(
        "return Array.from(document.querySelectorAll('a, button, input, select, summary, svg[role=img], img'))"
        ".filter((one) => !(one.textContent.trim() || one.ariaLabel || one.alt || one.labels?.length))"
        ".map((one) => one.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    levels = page.execute_script(
        "return Array.from(document.querySelectorAll('h1, h2, h3')).map((one) => Number(one.tagName[1]))"
    )
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    contrast = page.execute_script(CONTRAST)
    assert contrast == [], "text stands out from what is behind it (WCAG 2.2, 1.4.3)"
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert page.execute_script(CONTRAST) == []
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    page.refresh()
    cards = page.find_elements("css selector", ".card")
    assert len(cards) == 24 and cards[0].is_displayed()


CONTRAST = r"""
const light = (text) => {
  const [r, g, b] = text.match(/[\d.]+/g).map(Number).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let one = element; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (color && !color.startsWith("rgba(0, 0, 0, 0")) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = new Set();
for (const element of document.querySelectorAll("body *")) {
  if (element.closest("svg") || element.offsetParent === null || element.matches(".skip, .id")) continue;
  if (!Array.from(element.childNodes).some((node) => node.nodeType === 3 && node.data.trim())) continue;
  const [one, two] = [light(getComputedStyle(element).color), light(behind(element))];
  const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  if (ratio < 4.5) found.add(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
}
return Array.from(found);
"""


def test_every_table_is_copied_as_latex_from_the_disk(run, browser):
    rows = json.loads((run / "coco_metrics.json").read_text())
    name = r"100%_mine & [co]"
    rows["systems"][name] = rows["systems"].pop("refined")
    rows["systems"][name]["diversity"] = {"distinct_1": 0.5, "vocabulary": 12, "unavailable": {"mBLEU_4": "one each"}}
    rows.pop("comparisons", None)
    (run / "coco_metrics.json").write_text(json.dumps(rows))
    page = browser()
    page.get(write_report(run, plots=False).as_uri())
    tables, buttons = page.find_elements("css selector", "table"), page.find_elements("css selector", "button.copy")
    assert len(tables) == len(buttons) > 2
    page.execute_script(
        "Object.defineProperty(navigator, 'clipboard',"
        " {value: {writeText: async (text) => { window.copied = text; }}})"
    )
    for button in buttons:
        page.execute_script("window.copied = null; arguments[0].click()", button)
        copied = page.execute_async_script("const done = arguments[0]; setTimeout(() => done(window.copied), 50)")
        assert copied.startswith("% needs \\usepackage{booktabs}\n\\begin{tabular}{l") and "\\toprule" in copied
        lines = [line for line in copied.splitlines() if line.endswith(r" \\")]
        cells = copied.split("{l")[1].split("}")[0].count("r") + 1
        assert {line.replace(r"\&", "").count("&") + 1 for line in lines} == {cells}
        if button is buttons[0]:
            assert r"100\%\_mine \& {[}co]" in copied and r"\textbf{" in copied and r"{\scriptsize " in copied
    assert page.find_elements("css selector", ".copy-line [role=status]")[0].text == "Copied."
    # Without permission the old way is taken, and where that fails too it is said.
    page.execute_script(
        "navigator.clipboard.writeText = async () => { throw new Error('not allowed'); };"
        "document.execCommand = () => { window.copied = document.activeElement.value; return true; };"
        "window.copied = null; arguments[0].click()",
        buttons[0],
    )
    old = page.execute_async_script("const done = arguments[0]; setTimeout(() => done(window.copied), 50)")
    assert old.startswith("% needs")
    page.execute_script("document.execCommand = () => false; arguments[0].click()", buttons[0])
    page.execute_async_script("const done = arguments[0]; setTimeout(done, 50)")
    assert "does not allow copying" in page.find_elements("css selector", ".copy-line [role=status]")[0].text
    assert page.get_log("browser") == []
