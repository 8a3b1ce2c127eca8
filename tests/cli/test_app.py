"""`blip-refine app` as people type it: it says where the page is, serves it, and ends with Ctrl-C."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from blip_refine.cli.main import main
from blip_refine.data.sources.scenes import make_scene

from ..refine.server import FakeModel, serving

pytest.importorskip("gradio", reason="gradio is not installed")
COMMAND = [sys.executable, "-c", "from blip_refine.cli.main import main; main()", "app"]
LONGEST = 900
"""Seconds for a whole test. The page takes 20 s alone, and minutes on a processor that others use."""


@pytest.fixture
def started():
    """Starts the command, and ends it whatever happens. Nothing is timed but the whole test, so that a machine that is
    busy with something else is only slow."""
    running: list[subprocess.Popen] = []

    def start(*words: str) -> subprocess.Popen:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen([*COMMAND, *words], env=environment, stdout=subprocess.PIPE, text=True)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def said(process: subprocess.Popen, beginning: str) -> str:
    """The line of its output that begins so."""
    line = next((line for line in process.stdout if line.startswith(beginning)), None)
    assert line is not None, f"it ended with {process.wait()} before it said {beginning!r}"
    return line


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_it_serves_until_ctrl_c(started):
    page = started("starter")
    url = said(page, "Page: ").split()[1]
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url, timeout=LONGEST) as answer:
        assert answer.status == 200 and b"gradio" in answer.read().lower()
    page.send_signal(signal.SIGINT)
    assert page.wait() in (0, 130)


@pytest.mark.slow
@pytest.mark.timeout(LONGEST)
def test_the_endpoint_for_programs(started):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    endpoint = started("starter", "--api", "--port", str(port), "--refiner", "rules")
    said(endpoint, "Endpoint: ")
    while True:  # it listens soon after it has said where
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=LONGEST) as answer:
                assert answer.status == 200
            break
        except urllib.error.URLError:
            assert endpoint.poll() is None, "the endpoint did not come up"
            time.sleep(0.1)
    picture = io.BytesIO()
    make_scene("everyday", "test", 3, size=96).image.save(picture, "PNG")
    body = json.dumps({"image": base64.b64encode(picture.getvalue()).decode()}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/caption", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=LONGEST) as answer:
        caption = json.loads(answer.read())
    assert caption["caption"].endswith(".") and caption["refined"] is True
    endpoint.send_signal(signal.SIGINT)
    assert endpoint.wait() in (0, 130, -signal.SIGINT)


@pytest.mark.parametrize("mode", ["page", "--api"])
@pytest.mark.parametrize("dead", ["server", "bart"])
def test_a_refiner_that_cannot_work_ends_the_start(capsys, monkeypatch, mode, dead):
    def loaded(*words, **options):
        raise AssertionError("the captioner was loaded for nothing")

    monkeypatch.setattr("blip_refine.models.captioner.load_captioner", loaded)
    with serving(FakeModel(lambda call: "unauthorized")) as model:
        refiner = f"openai:m,base_url={model.url},max_retries=0" if dead == "server" else "bart:nowhere/at/all"
        with pytest.raises(SystemExit) as stopped:
            main(["app", "starter", "--refiner", refiner, *([mode] if mode == "--api" else [])])
        assert len(model.calls) == (dead == "server")
    captured = capsys.readouterr()
    assert stopped.value.code == 2 and captured.err.count("Error: ") == 1 and "Traceback" not in captured.err
    assert ("Incorrect API key" if dead == "server" else "cannot be loaded") in captured.err
    assert "Page: " not in captured.out and "Endpoint: " not in captured.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere/at/all"], "There is no folder"),
        (["--api", "--compare", "starter"], "With --api there is one model"),
        (["--password-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_bad_input_is_one_sentence(capsys, words, told):
    with pytest.raises(SystemExit) as stopped:
        main(["app", *words])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and told in error and "Traceback" not in error
