"""Trainings in processes of their own, several at once where they do not wait for each other."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
RUN = Path(__file__).with_name("small_run.py")
DIVIDED = Path(__file__).with_name("divided_run.py")


def start(*command: object) -> subprocess.Popen:
    """A command with this package on its path; its output is kept for [`finish`]."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([str(part) for part in command], env=environment, **pipes)


def finish(process: subprocess.Popen, seconds: float = 200) -> str:
    """What a process has said. One that failed, or does not end, fails the test with it."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # The launcher's own processes, too: they hold the other end of its output.
        for one in (*psutil.Process(process.pid).children(recursive=True), process):
            one.kill()
        said, _ = process.communicate(timeout=30)
        raise AssertionError(f"It did not end in {seconds} s:\n{said[-3000:]}") from None
    assert process.returncode == 0, f"It ended with {process.returncode}:\n{said[-3000:]}"
    return said


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]
