"""A run of tests ends, whatever a test does, and says which test it was. Each run here is pytest's own, of a copy of
this project's configuration."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path):
    """A folder with this project's configuration and tests of one's own: `project(name=text, ...)`."""

    def make(timeouts: tuple[float, float] | None = None, **tests: str) -> Path:
        folder = tmp_path / "project"
        (folder / "tests").mkdir(parents=True)
        configuration = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        if timeouts:
            for name, seconds in zip(("timeout", "faulthandler_timeout"), timeouts, strict=True):
                configuration, count = re.subn(rf"(?m)^{name} = \d+$", f"{name} = {seconds}", configuration)
                assert count == 1
        (folder / "tests" / "__init__.py").touch()
        (folder / "pyproject.toml").write_text(configuration, encoding="utf-8")
        shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests" / "conftest.py")
        for name, text in tests.items():
            (folder / "tests" / f"test_{name}.py").write_text(text)
        return folder

    return make


def run_tests(folder: Path, seconds: float = 60) -> tuple[int, str]:
    """The exit code of `pytest` as scripts/test.sh calls it, and what it printed."""
    script = (ROOT / "scripts" / "test.sh").read_text()
    options = re.search(r"-m pytest (.*?) \"\$@\"", script).group(1).split()
    began = time.monotonic()
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=folder, capture_output=True, text=True, timeout=seconds
    )
    assert time.monotonic() - began < seconds
    return ran.returncode, ran.stdout + ran.stderr


HANGS = "import time\n\ndef test_that_hangs():\n    time.sleep(3600)\n"


def test_a_process_that_dies_ends_the_run_while_another_test_hangs(project):
    killed = (
        "import os, signal, subprocess, sys, pathlib\n\n"
        "def test_that_dies():\n"
        "    left = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'])\n"
        "    pathlib.Path(os.environ['LEFT']).write_text(str(left.pid))\n"
        "    os.kill(os.getpid(), getattr(signal, 'SIGKILL', signal.SIGTERM))\n"
    )
    folder = project(hangs=HANGS, killed=killed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEFT", str(folder / "left"))
        code, printed = run_tests(folder)
    assert code == 1, printed
    assert "The process that ran tests/test_killed.py::test_that_dies died" in printed
    left = int((folder / "left").read_text())
    assert not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE


def test_a_hanging_test_fails_by_name_and_the_others_run(project):
    folder = project(timeouts=(3, 20), hangs=HANGS, other="def test_other():\n    pass\n")
    code, printed = run_tests(folder)
    assert code == 1 and "1 failed, 1 passed" in printed, printed
    assert "FAILED tests/test_hangs.py::test_that_hangs" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="there every timeout ends the process")
def test_a_test_that_no_signal_reaches_ends_the_run(project):
    hangs = (
        "import signal, time\n\n"
        "def test_that_waits_in_c():\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        "    time.sleep(3600)\n"
    )
    code, printed = run_tests(project(timeouts=(2, 4), waits=hangs, other="def test_other():\n    pass\n"))
    assert code == 1, printed
    assert "The process that ran tests/test_waits.py::test_that_waits_in_c died" in printed
    assert "Timeout (0:00:04)!" in printed, "the stack of every thread"


def test_a_process_that_dies_before_its_first_test_ends_the_run(project):
    dies = "import os\n\nif 'PYTEST_XDIST_WORKER' in os.environ:\n    os._exit(3)\n"
    code, printed = run_tests(project(dies=dies, other="def test_other():\n    pass\n"))
    assert code == 1 and "worker restarting disabled" in printed, printed


def test_a_deprecated_call_fails_the_test(project):
    warns = (
        "import logging, warnings\n\n"
        "def test_warned():\n    warnings.warn('old', FutureWarning)\n\n"
        "def test_logged():\n    logging.getLogger('transformers.models').warning('`old` is deprecated')\n\n"
        "def test_another():\n    warnings.warn('unlike', UserWarning)\n"
    )
    code, printed = run_tests(project(warns=warns))
    assert code == 1 and "FAILED tests/test_warns.py::test_warned" in printed, printed
    assert "ERROR tests/test_warns.py::test_logged" in printed and "1 failed, 2 passed" in printed
