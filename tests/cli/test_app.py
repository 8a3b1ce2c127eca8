"""`blip-refine app` as people type it: it says where the page is, serves it, and ends with Ctrl-C."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from blip_refine.cli.main import main
from blip_refine.data.sources.scenes import make_scene

pytest.importorskip("gradio", reason="gradio is not installed")
COMMAND = [sys.executable, "-c", "from blip_refine.cli.main import main; main()", "app"]


@pytest.mark.slow
def test_it_serves_until_ctrl_c():
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    page = subprocess.Popen([*COMMAND, "starter"], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        line = next(line for line in page.stdout if line.startswith("Page: "))
        url = line.split()[1]
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200 and b"gradio" in answer.read().lower()
        page.send_signal(signal.SIGINT)
        assert page.wait(30) in (0, 130)
    finally:
        page.kill()
        page.wait(30)
        page.stdout.close()


@pytest.mark.slow
def test_the_endpoint_for_programs():
    import json
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    words = ["starter", "--api", "--port", str(port), "--refiner", "rules"]
    endpoint = subprocess.Popen([*COMMAND, *words], env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert next(line for line in endpoint.stdout if line.startswith("Endpoint: "))
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60) as answer:
                    assert answer.status == 200
                break
            except urllib.error.URLError:
                assert time.monotonic() < end, "the endpoint did not come up"
                time.sleep(0.1)
        picture = io.BytesIO()
        make_scene("everyday", "test", 3, size=96).image.save(picture, "PNG")
        body = json.dumps({"image": base64.b64encode(picture.getvalue()).decode()}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/caption", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            caption = json.loads(answer.read())
        assert caption["caption"].endswith(".") and caption["refined"] is True
        endpoint.send_signal(signal.SIGINT)
        assert endpoint.wait(30) in (0, 130, -signal.SIGINT)
    finally:
        endpoint.kill()
        endpoint.wait(30)
        endpoint.stdout.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere/at/all"], "There is no folder"),
        (["--api", "--compare", "starter"], "With --api there is one model"),
        (["--password-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_bad_input_is_one_sentence(capsys, words, said):
    with pytest.raises(SystemExit) as stopped:
        main(["app", *words])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and "Traceback" not in error
