"""What the pages share: files for visitors that do not stay, and what is shown of a caption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="gradio is not installed")

from blip_refine.apps.demo import describe_confidence, list_candidates
from blip_refine.apps.gradio_page import VisitorFiles
from blip_refine.records import Caption


def test_a_visitors_files_go_after_their_time():
    files = VisitorFiles(keep=60)
    first = files.new_folder()
    (first / "caption.json").write_text("{}")
    second = files.new_folder()
    assert first != second and first.parent == second.parent == files.root
    os.utime(first, (0, 0))
    third = files.new_folder()
    assert not first.exists() and second.is_dir() and third.is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not asked to end there, it is ended")
def test_nothing_stays_when_the_program_is_asked_to_end(tmp_path):
    code = (
        "from blip_refine.apps.captioners import Captioners\n"
        "from blip_refine.apps.demo import build_app, launch_app\n"
        "from blip_refine.apps.gradio_page import end_in_order\n"
        "end_in_order()\n"
        "page = build_app(captioners=Captioners(['starter']))\n"
        "launch_app(page, block=False)\n"
        "folder = page.visitor_files.new_folder()\n"
        "(folder / 'captions.jsonl').write_text('{}')\n"
        "assert len(list(page.visitor_files.root.glob('*.png'))) == 5\n"
        "print(page.visitor_files.root, flush=True)\n"
        "page.block_thread()\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path), "GRADIO_ANALYTICS_ENABLED": "False"}
    program = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    root = Path(program.stdout.readline().strip())
    assert root.parent == tmp_path and root.is_dir()
    program.terminate()
    program.communicate(timeout=120)
    assert program.returncode == 128 + signal.SIGTERM
    assert not root.exists() and [path.name for path in tmp_path.glob("blip-refine-*")] == []


def test_every_candidate_says_how_sure_it_is():
    caption = Caption("A dog.", "a dog", ("a dog", "a cat"), -0.5, candidate_confidences=(-0.5, -2.0))
    assert list_candidates(caption) == [[1, "a dog", "-0.50 (61 %)"], [2, "a cat", "-2.00 (14 %)"]]
    assert describe_confidence(caption).startswith("log-probability a token -0.50 (61 %)")
    unknown = Caption("a dog", "a dog", ("a dog", "a cat"))
    assert list_candidates(unknown) == [[1, "a dog", ""], [2, "a cat", ""]]
