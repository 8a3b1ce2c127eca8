"""Every example runs offline with `--smoke`, as a program of its own."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parent.parent / "examples").glob("*.py"))
NOT_RUN = {"sagemaker_launch.py", "smoke_data.py"}
"""The one starts a job on another machine, the other is what the smoke runs share."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [path for path in EXAMPLES if path.name not in NOT_RUN], ids=lambda path: path.name
)
def test_example_runs_with_smoke(example, tmp_path):
    arguments = ["--output", str(tmp_path / "out")] if "--output" in example.read_text(encoding="utf-8") else []
    run = subprocess.run(
        [sys.executable, str(example), "--smoke", *arguments],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.strip()


def test_the_table_of_examples_shows_every_one_with_flags_that_it_has():
    root = EXAMPLES[0].parent.parent
    page = (root / "docs" / "examples.md").read_text(encoding="utf-8")
    shown = [shlex.split(command) for command in re.findall(r"`python (examples/[^`]+)`", page)]
    assert [command[0] for command in shown] == [f"examples/{path.name}" for path in EXAMPLES if path.name[0] == "0"]
    for name, *words in shown:
        code = (root / name).read_text(encoding="utf-8")
        missing = [word for word in words if word.startswith("--") and f'add_argument("{word}"' not in code]
        assert not missing, f"{name} has no {missing}"
