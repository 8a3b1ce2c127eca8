"""Raters in a real browser by keyboard alone, a server that is killed, and twenty raters at once."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blip_refine.errors import BlipRefineError, ConfigurationError
from blip_refine.evaluation.human import CRITERIA, RatingStudy
from blip_refine.evaluation.human_summary import summarize
from blip_refine.evaluation.rating_questions import MARKS
from blip_refine.evaluation.review_summary import summarize_review

from ..report.run_folder import make_run

pytest.importorskip("gradio", reason="gradio is not installed")

WAIT = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(run: Path, port: int, *options: str) -> subprocess.Popen:
    """The real command in a process of its own, ready to answer."""
    command = [sys.executable, "-c", "from blip_refine.cli.main import main; main()", "rate", str(run)]
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    server = subprocess.Popen([*command, "--port", str(port), *options], env=environment, stdout=subprocess.PIPE)
    until = time.monotonic() + WAIT
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended by itself"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.2)
    server.kill()
    raise AssertionError("the server did not come up")


def saved(run: Path) -> int:
    with sqlite3.connect(run / "ratings.sqlite") as database:
        return database.execute("SELECT COUNT(*) FROM tasks WHERE done IS NOT NULL").fetchone()[0]


class KeyboardRater:
    """Somebody without a mouse."""

    def __init__(self, page):
        self.page = page
        self.given: list[tuple[tuple[str, ...], tuple[int, ...]]] = []

    def press(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.page).send_keys(*keys).perform()

    def run(self, script: str):
        return self.page.execute_script(f"return {script}")

    def until(self, script: str, what: str):
        end = time.monotonic() + WAIT
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"never: {what}"
            time.sleep(0.05)
        return value

    def task(self) -> str | None:
        return self.run("document.querySelector('[data-task]')?.dataset.task ?? null")

    def captions(self) -> tuple[str, ...]:
        return tuple(self.run("Array.from(document.querySelectorAll('.caption q')).map((line) => line.textContent)"))

    def rate_one(self, scores) -> None:
        """Answer every question of the picture shown, and send."""
        before = self.task()
        captions = self.captions()
        check = re.search(r"Please answer (\d)", captions[0])
        questions = self.run("document.querySelectorAll('.question').length")
        answers = tuple(int(check[1]) if check else next(scores) for _ in range(questions))
        for count, answer in enumerate(answers, 1):
            self.press(str(answer))
            self.until(
                f"document.querySelectorAll('.question input:checked').length >= {count}", f"answer {count} is taken"
            )
        if not check:
            self.given.append((captions, answers))
        from selenium.webdriver.common.keys import Keys

        self.press(Keys.ENTER)
        self.until(
            f"(document.querySelector('[data-task]')?.dataset.task ?? 'end') !== '{before}'", "the next picture"
        )
        # Svelte empties the old answers a moment after the new heading is there.
        self.until("document.querySelectorAll('.question input:checked').length === 0", "fresh questions")


@pytest.mark.slow
@pytest.mark.posix
def test_ten_pictures_by_keyboard_with_the_server_killed_between(tmp_path, browser, screenshots):
    from selenium.webdriver.common.keys import Keys

    run, port = make_run(tmp_path / "run", images=12), free_port()
    options = ("--images", "10", "--per-image", "1", "--check-every", "6", "--systems", "before,refined")
    page = browser()
    server = start_server(run, port, *options)
    scores = iter([5, 4, 3, 2, 1] * 100)
    try:
        page.get(f"http://127.0.0.1:{port}/")
        rater = KeyboardRater(page)
        rater.until("document.querySelector('#name input, #name textarea')", "the door")
        rater.until("document.activeElement.matches('#name input, #name textarea')", "the cursor is in the field")
        rater.press("ann", Keys.ENTER)
        rater.until("document.querySelector('[data-task]')", "the first picture")
        page.save_screenshot(str(screenshots / "rate.png"))
        while len(rater.given) < 5:
            rater.rate_one(scores)
        # Half an answer to the sixth, then the power goes.
        rater.press("4")
        left = rater.captions()
        done = saved(run)
        server.send_signal(signal.SIGKILL)
        server.wait(30)
        assert saved(run) == done, "what was sent was on the disk"
        server = start_server(run, port, *options)
        page.get(f"http://127.0.0.1:{port}/?rater=ann")
        rater.until("document.querySelector('[data-task]')", "the picture that was left")
        assert rater.captions() == left, "the same picture in the same order"
        while len(rater.given) < 10:
            rater.rate_one(scores)
        rater.until("document.body.textContent.includes('All done')", "the end")
        page.save_screenshot(str(screenshots / "rate_done.png"))
    finally:
        server.kill()
        server.wait(30)
    severe = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in severe if "127.0.0.1" not in entry["message"]], severe
    expected = Counter(
        (caption, answers[slot * 3 : slot * 3 + 3])
        for captions, answers in rater.given
        for slot, caption in enumerate(captions)
    )
    study = RatingStudy(run / "ratings.sqlite")
    kept: Counter = Counter()
    with study.connect() as database:
        query = (
            "SELECT t.task, i.captions, r.system, r.criterion, r.score FROM ratings r "
            "JOIN tasks t USING (task) JOIN items i USING (item)"
        )
        rows: dict = {}
        for row in database.execute(query):
            caption = json.loads(row["captions"])[row["system"]]
            rows.setdefault((row["task"], caption), {})[row["criterion"]] = row["score"]
    kept = Counter((caption, tuple(held[one] for one in CRITERIA)) for (_, caption), held in rows.items())
    assert kept == expected, "every key that was pressed is kept, for the caption it was meant for"
    assert summarize(study).raters[0].passed == summarize(study).raters[0].checks >= 1


@pytest.mark.slow
@pytest.mark.posix
def test_a_review_by_keyboard_with_the_server_killed_between(tmp_path, browser, screenshots):
    """Marks and notes by keys alone; the mouse once. What was pressed is what is kept."""
    from selenium.webdriver.common.keys import Keys

    run, port = make_run(tmp_path / "run", images=8), free_port()
    options = ("--review", "5", "--per-image", "1", "--check-every", "0", "--systems", "before,refined")
    page = browser()
    server = start_server(run, port, *options)
    study = run / "review.sqlite"
    given = {}

    def kept() -> int:
        with sqlite3.connect(study) as database:
            return database.execute("SELECT COUNT(*) FROM tasks WHERE done IS NOT NULL").fetchone()[0]

    def checked() -> list[list[str]]:
        boxes = (
            "Array.from(slot.querySelectorAll('.marks input')).filter((box) => box.checked).map((box) => box.value)"
        )
        return reviewer.run(f"{slots}.map((slot) => {boxes})")

    slots = "Array.from(document.querySelectorAll('.slot')).filter((slot) => slot.offsetParent !== null)"
    try:
        page.get(f"http://127.0.0.1:{port}/?rater=ann")
        reviewer = KeyboardRater(page)
        reviewer.until("document.querySelector('[data-task]')", "the first picture")
        assert page.title == "Review captions"
        for number in range(5):
            if number == 3:
                # A mark is set, and the power goes before it is sent.
                reviewer.press("1")
                reviewer.until(f"{slots}[0].querySelectorAll('.marks input:checked').length === 1", "a mark")
                left = reviewer.captions()
                server.send_signal(signal.SIGKILL)
                server.wait(30)
                assert kept() == 3, "what was sent is on the disk"
                server = start_server(run, port, *options)
                page.get(f"http://127.0.0.1:{port}/?rater=ann")
                reviewer.until("document.querySelector('[data-task]')", "the picture that was left")
                assert reviewer.captions() == left and checked() == [[]] * len(left), "the same, without marks"
            captions, task = reviewer.captions(), reviewer.task()
            for slot in range(len(captions)):
                reviewer.until(f"{slots}[{slot}].classList.contains('current')", f"caption {slot} is the current one")
                marks, note = [("1", "3"), (), ("2",)][(number + slot) % 3], ""
                for count, key in enumerate(marks, 1):
                    reviewer.press(key)
                    reviewer.until(
                        f"{slots}[{slot}].querySelectorAll('.marks input:checked').length === {count}", f"mark {key}"
                    )
                if number == 1:
                    note = f"no 1st boat: {slot}"  # the digits in it are no marks
                    reviewer.press("n")
                    reviewer.until("document.activeElement.closest('.note')", "the cursor is in the note")
                    reviewer.press(note, Keys.ENTER)
                    reviewer.until("!document.activeElement.closest('.note')", "the cursor has left the note")
                given[int(task), captions[slot]] = ({list(MARKS)[int(key) - 1] for key in marks}, note)
                if slot == 0 and number == 2:
                    # Undone, one caption on and back, and set again; then by mouse.
                    for key in [*marks, Keys.ENTER, Keys.BACKSPACE]:
                        reviewer.press(key)
                    reviewer.until(f"{slots}[0].classList.contains('current')", "back")
                    assert checked()[0] == []
                    page.find_elements("css selector", ".marks input")[1].click()
                    reviewer.until(f"{slots}[0].querySelectorAll('.marks input:checked').length === 1", "by mouse")
                    given[int(task), captions[0]] = ({"repetition"}, note)
                if number == 1 and slot == len(captions) - 1:
                    page.save_screenshot(str(screenshots / "review.png"))
                assert reviewer.task() == task, "nothing is sent before the last caption"
                reviewer.press(Keys.ENTER)
            reviewer.until(
                f"(document.querySelector('[data-task]')?.dataset.task ?? 'end') !== '{task}'", "the next picture"
            )
            reviewer.until("document.querySelectorAll('.marks input:checked').length === 0", "no marks yet")
        reviewer.until("document.body.textContent.includes('All done')", "the end")
    finally:
        server.kill()
        server.wait(30)
    severe = [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [entry for entry in severe if "127.0.0.1" not in entry["message"]], severe
    found = {}
    with sqlite3.connect(study) as database:
        notes = {(task, system): note for task, system, note in database.execute("SELECT * FROM notes")}
        query = (
            "SELECT t.task, i.captions, r.system, r.criterion, r.score FROM ratings r "
            "JOIN tasks t USING (task) JOIN items i USING (item)"
        )
        for task, captions, system, mark, score in database.execute(query):
            marks, _ = found.setdefault((task, json.loads(captions)[system]), (set(), notes.get((task, system), "")))
            marks |= {mark} if score else set()
    assert found == given and sum(bool(note) for _, note in given.values()) >= 1
    assert summarize_review(RatingStudy(study)).images == 5


@pytest.mark.slow
def test_twenty_raters_at_once_through_the_page(tmp_path):
    from gradio_client import Client

    run, port = make_run(tmp_path / "run", images=40), free_port()
    server = start_server(run, port, "--images", "40", "--per-image", "3", "--check-every", "0")

    def work(number: int) -> int:
        client = Client(f"http://127.0.0.1:{port}/", verbose=False)
        answer = client.predict(f"rater {number}", api_name="/sign_in")
        for _ in range(4):
            ticket = answer[1] if isinstance(answer[1], str) else answer[1]["value"]
            answer = client.predict(ticket, *[3] * 9, None, api_name="/submit")
        return number

    try:
        with ThreadPoolExecutor(20) as pool:
            assert sorted(pool.map(work, range(20))) == list(range(20))
    finally:
        server.kill()
        server.wait(30)
    with sqlite3.connect(run / "ratings.sqlite") as database:
        done = "SELECT COUNT(*) FROM tasks WHERE done IS NOT NULL GROUP BY "
        assert [row[0] for row in database.execute(done + "rater")] == [4] * 20
        # 80 tasks over 40 pictures: two each, but where the last free one had been seen by its rater already.
        per_picture = [row[0] for row in database.execute(done + "item")]
        assert len(per_picture) == 40 and max(per_picture) - min(per_picture) <= 2
        assert sum(per_picture) == 80


def test_the_desk_lets_in_by_token_alone(tmp_path):
    from blip_refine.apps.rate import RatingDesk, build_rating_app

    rows = [{"image_id": "1", "systems": {"a": "a <script>alert(1)</script> cat", "b": "a dog"}}]
    study = RatingStudy.create(tmp_path / "ratings.sqlite", rows)
    token = study.add_rater("ann")
    desk = RatingDesk(study, tokens=True, preference=True)
    assert desk.rater(f" {token} ") == "ann"
    with pytest.raises(ConfigurationError, match="not known"):
        desk.rater("ann")
    task = study.next_task("ann")
    assert desk.read_ticket(desk.ticket(task, token)) == (task.task, token)
    for ticket in ("", None, "[1]", "{}"):
        with pytest.raises(ConfigurationError, match="out of date"):
            desk.read_ticket(ticket)
    assert "<script>" not in desk.line(0, task.captions[0]) + desk.line(1, task.captions[1])
    with pytest.raises(ConfigurationError, match="which caption is best"):
        desk.save(task.task, "ann", [3] * 6, None)
    with pytest.raises(BlipRefineError, match="Caption 2 has no answer"):
        desk.save(task.task, "ann", [3] * 5 + [None], "A")
    with pytest.raises(BlipRefineError, match="not given to 'bob'"):
        desk.save(task.task, "bob", [3] * 6, "A")
    desk.save(task.task, "ann", [3] * 6, "A")
    assert study.next_task("ann") is None and "All done" in desk.heading("ann", None)
    assert build_rating_app(study, tokens=True).blocks


def test_the_desk_of_a_review(tmp_path):
    from blip_refine.apps.rate import RatingDesk, build_rating_app

    rows = [{"image_id": "1", "systems": {"a": "a cat", "b": "a dog"}}]
    study = RatingStudy.create(tmp_path / "review.sqlite", rows, kind="review", check_every=0)
    study.sign_in("ann")
    desk = RatingDesk(study, tokens=False, preference=False)
    task = study.next_task("ann")
    assert "nothing is wrong" in desk.heading("ann", task)
    with pytest.raises(BlipRefineError, match="note on caption 1 has 600 letters"):
        desk.save(task.task, "ann", [[], "x" * 600, [], ""], None)
    # What the browser sends for boxes and a note of each caption.
    desk.save(task.task, "ann", [["omission"], "no tail", None, None], None)
    found = summarize_review(study)
    assert [note["note"] for note in found.notes] == ["no tail"] and found.reviews == 2
    assert "you reviewed 1 pictures" in desk.heading("ann", None)
    assert build_rating_app(study).blocks
    with pytest.raises(ConfigurationError, match="leave out preference"):
        build_rating_app(study, preference=True)
