"""`blip-refine app` as people type it: it says where the page is, serves it, and ends with Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request

import pytest

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
        with urllib.request.urlopen(url) as answer:
            assert answer.status == 200 and b"gradio" in answer.read().lower()
        page.send_signal(signal.SIGINT)
        assert page.wait(30) in (0, 130)
    finally:
        page.kill()
        page.wait()
        page.stdout.close()


def test_bad_input_is_one_sentence():
    for words, said in (
        (["nowhere/at/all"], "There is no folder"),
        (["--password-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is not set"),
    ):
        ran = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
        assert ran.returncode == 2 and said in ran.stderr and "Traceback" not in ran.stderr, ran.stderr
