"""The workflows are valid, and what they run exists here."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
INSTALLED = {"python", "blip-refine", "ruff", "mypy"}
"""Programs of an environment of this project."""


def load(path: Path) -> dict:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    # YAML 1.1 reads the key `on` as true.
    workflow["on"] = workflow.pop(True)
    return workflow


def steps(workflow: dict) -> Iterator[tuple[dict, dict]]:
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            yield job, step


def missing(command: str) -> list[str]:
    """What a command names and this repository does not have."""
    found = []
    for word in re.findall(r"[\w./-]+", command):
        if re.match(r"(scripts|tests|benchmarks|examples|docs)/", word) and not (ROOT / word).exists():
            found.append(word)
        program = re.fullmatch(r"(?:\.venv|wheel)?/?(?:bin|Scripts)/([\w-]+)", word)
        if program and program[1] not in INSTALLED:
            found.append(word)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for targets in re.findall(r"^\s*make ([\w ]+)$", command, re.MULTILINE):
        found += [f"make {target}" for target in targets.split() if not re.search(rf"^{target}:", makefile, re.M)]
    from blip_refine.cli.main import COMMANDS

    return found + [
        f"blip-refine {name}" for name in re.findall(r"blip-refine ([\w-]+)", command) if name not in COMMANDS
    ]


def test_the_check_finds_what_is_missing():
    assert missing("sh scripts/nothing.sh") == ["scripts/nothing.sh"]
    assert missing(".venv/bin/flake8 .") == [".venv/bin/flake8"] and missing("make everything") == ["make everything"]
    assert missing("bin/blip-refine fly") == ["blip-refine fly"]
    assert not missing(
        "sh scripts/test.sh tests/models && .venv/bin/python x.py\nmake quality\nbin/blip-refine doctor"
    )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_runs_exists(path):
    commands = [step["run"] for _, step in steps(load(path)) if "run" in step]
    assert commands
    for command in commands:
        assert not missing(command), command
        plain = re.sub(r"\$\{\{.*?\}\}", "x", command)
        assert subprocess.run(["sh", "-n", "-c", plain], capture_output=True).returncode == 0, command


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_well_formed_and_keeps_no_secret(path):
    workflow = load(path)
    assert set(workflow) <= {"name", "on", "permissions", "concurrency", "env", "defaults", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}
    assert "secrets." not in path.read_text(encoding="utf-8")
    for name, job in workflow["jobs"].items():
        assert re.fullmatch(r"[\w-]+", name) and "runs-on" in job and job["steps"]
        needed = job.get("needs", [])
        assert {needed} if isinstance(needed, str) else set(needed) <= set(workflow["jobs"])
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert set(step) <= {"name", "run", "uses", "with", "env", "if", "shell"}
            assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w./-]+@[\w./]+", step["uses"])


def test_every_system_runs_the_oldest_and_the_newest_python():
    workflow = load(ROOT / ".github" / "workflows" / "tests.yml")
    supported = re.findall(r"Python :: (3\.\d+)", PROJECT)
    matrix = workflow["jobs"]["lock"]["strategy"]["matrix"]
    assert matrix["python"] == [supported[0], supported[-1]] == ["3.10", "3.14"], "as text: 3.10 is a number, too"
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert workflow["defaults"]["run"]["shell"] == "bash", "the scripts are those of a POSIX shell"


def test_the_main_branch_of_transformers_is_tried_every_week():
    workflow = load(ROOT / ".github" / "workflows" / "tests.yml")
    (when,) = workflow["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", when["cron"])
    jobs = {name: job for name, job in workflow["jobs"].items() if "== 'schedule'" in job.get("if", "")}
    commands = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    assert list(jobs) == ["transformers-main"]
    assert "git+https://github.com/huggingface/transformers" in commands and "pytest" in commands


def test_only_the_publishing_job_may_ask_for_an_identity():
    workflow = load(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow["on"] == {"push": {"tags": ["v*"]}}
    asking = {name for name, job in workflow["jobs"].items() if "id-token" in job.get("permissions", {})}
    assert asking == {"publish"} and workflow["jobs"]["publish"]["needs"] == "build"
    # The job that holds the identity runs no code of the repository.
    assert all("run" not in step for step in workflow["jobs"]["publish"]["steps"])


@pytest.fixture
def clone(tmp_path) -> Path:
    for name in ("pyproject.toml", "CHANGELOG.md", "blip_refine/__init__.py", "scripts/release_notes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    path = tmp_path / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8")
    # The lines of the next release are released.
    path.write_text(re.sub(r"(## \[Unreleased\]\n)[\s\S]*?(?=\n## )", r"\1", text), encoding="utf-8")
    return tmp_path


def notes(clone: Path, tag: str) -> tuple[int, str, str]:
    from sys import executable

    command = [executable, "scripts/release_notes.py", tag]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True, encoding="utf-8")
    return done.returncode, done.stdout, done.stderr


def test_a_release_is_of_one_version_everywhere(clone):
    version = re.search(r'^version = "(.+)"', PROJECT, re.MULTILINE)[1]
    code, text, error = notes(clone, f"v{version}")
    assert code == 0, error
    assert text.startswith("### ") and "## [" not in text.replace("### ", "") and "[Unreleased]:" not in text
    code, _, error = notes(clone, "v9.9.9")
    assert code == 1 and "is not v" in error
    own = clone / "blip_refine" / "__init__.py"
    own.write_text(own.read_text(encoding="utf-8").replace(f'"{version}"', '"0.0.1"'), encoding="utf-8")
    assert "__version__" in notes(clone, f"v{version}")[2]


def test_what_is_unreleased_is_not_forgotten(clone):
    version = re.search(r'^version = "(.+)"', PROJECT, re.MULTILINE)[1]
    path = clone / "CHANGELOG.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("## [Unreleased]\n", "## [Unreleased]\n\n### Added\n- New.\n", 1), encoding="utf-8")
    assert "needs an empty [Unreleased]" in notes(clone, f"v{version}")[2]
    path.write_text(text.replace(f"## [{version}] - ", f"## [{version}] "), encoding="utf-8")
    assert "has no part headed" in notes(clone, f"v{version}")[2]
