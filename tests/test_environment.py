"""The two lists of versions, and the script that makes an environment of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


def read_pins(name: str) -> list[Requirement]:
    lines = (SCRIPTS / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def requirements() -> list[Requirement]:
    """All that pyproject.toml asks for, extras included."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lists = re.findall(
        r"(?ms)^(?:dependencies|\w+) = \[\n?(.*?)\]$",
        text[text.index("\ndependencies") : text.index("\n[project.scripts]")],
    )
    return [Requirement(found) for part in lists for found in re.findall(r'"([^"]+)"', part)]


def on(python: str, platform: str = "linux") -> dict[str, str]:
    systems = {"linux": ("Linux", "posix"), "darwin": ("Darwin", "posix"), "win32": ("Windows", "nt")}
    system, os_name = systems[platform]
    return {
        "python_version": python, "python_full_version": f"{python}.4", "sys_platform": platform, "os_name": os_name,
        "platform_system": system, "platform_machine": "arm64" if platform == "darwin" else "x86_64",
        "platform_python_implementation": "CPython", "implementation_name": "cpython", "extra": "",
    }  # fmt: skip


def test_pyproject_is_read_whole():
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    assert [str(one) for one in requirements()] == [str(Requirement(one)) for one in named]


@pytest.mark.parametrize("name", ["lock.txt", "oldest.txt"])
def test_every_line_is_one_version_and_names_no_machine(name):
    text = (SCRIPTS / name).read_text(encoding="utf-8")
    assert not re.search(r"://|[/\\@]|--|file:", text), "no address, path or option"
    for pin in read_pins(name):
        (clause,) = pin.specifier
        assert clause.operator == "==" and "*" not in clause.version and not Version(clause.version).local, pin
        assert pin.url is None and not pin.extras


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_pins_each_requirement_once_for_every_python(python, platform):
    pinned: dict[str, Version] = {}
    for pin in read_pins("lock.txt"):
        if pin.marker is None or pin.marker.evaluate(on(python, platform)):
            assert canonicalize_name(pin.name) not in pinned, f"{pin.name} is pinned twice"
            pinned[canonicalize_name(pin.name)] = Version(next(iter(pin.specifier)).version)
    for wanted in requirements():
        assert canonicalize_name(wanted.name) in pinned, f"run `make lock`: {wanted.name} is not pinned"
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, f"run `make lock`: {wanted}"
    assert pinned["torch"] == Version("2.13.0")
    assert {"tokenizers", "hatchling", "editables"} <= set(pinned), "what the direct ones need, and what builds this"


def test_the_oldest_versions_are_the_lower_bounds():
    oldest = {
        canonicalize_name(pin.name): Version(next(iter(pin.specifier)).version) for pin in read_pins("oldest.txt")
    }
    for wanted in requirements():
        (lower,) = [Version(clause.version) for clause in wanted.specifier if clause.operator == ">="]
        assert oldest[canonicalize_name(wanted.name)] == lower, f"run `make lock`, or raise the bound of {wanted}"


def make_environment(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BLIP_REFINE", "PIP"))}
    environment = {**environment, "PIP_NO_INDEX": "1", "BLIP_REFINE_VENV": str(folder / "venv"), **variables}
    command = ["sh", str(folder / "scripts" / "environment.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def clone(tmp_path):
    """The files that scripts/environment.sh reads."""
    (tmp_path / "scripts").mkdir()
    for name in ("pyproject.toml", "scripts/environment.sh", "scripts/lock.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@posix
@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["develop"], {}, 'takes no argument, or "dev"; not "develop"'),
        ([], {"BLIP_REFINE_UNLOCKED": "yes"}, 'not "yes"'),
        ([], {"PYTHON": "/nowhere/python"}, "PYTHON names /nowhere/python, which is not a Python 3.10 to 3.14"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(clone, arguments, variables, said):
    ran = make_environment(clone, *arguments, **variables)
    assert ran.returncode == 2 and said in ran.stderr and ran.stderr.count("\n") == 1
    assert not (clone / "venv").exists()


@posix
def test_a_missing_lock_is_told(clone):
    (clone / "scripts" / "lock.txt").unlink()
    ran = make_environment(clone)
    assert (
        ran.returncode == 2 and "scripts/lock.txt is missing" in ran.stderr and "BLIP_REFINE_UNLOCKED=1" in ran.stderr
    )


@posix
def test_a_folder_that_holds_another_python_is_told(clone):
    (clone / "venv" / "bin").mkdir(parents=True)
    (clone / "venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    (clone / "venv" / "bin" / "python").chmod(0o755)
    ran = make_environment(clone)
    assert ran.returncode == 2 and "Remove it: rm -r" in ran.stderr


FAKE_PYTHON = """#!/bin/sh
# Stands for the Python of an environment: notes what pip is asked for.
case "$*" in *"pip install"*) echo "$PIP_CONSTRAINT|$*" >> "$NOTES" ;; esac
exit "${PIP_STATUS:-0}"
"""


@posix
def test_each_kind_of_versions_is_installed_once_and_replaces_the_other(clone):
    (clone / "venv" / "bin").mkdir(parents=True)
    (clone / "venv" / "bin" / "python").write_text(FAKE_PYTHON)
    (clone / "venv" / "bin" / "python").chmod(0o755)
    notes = clone / "notes"

    def installed(*arguments: str, **variables: str) -> list[str]:
        notes.write_text("")
        ran = make_environment(clone, *arguments, NOTES=str(notes), **variables)
        assert ran.returncode == 0, ran.stderr
        return notes.read_text().splitlines()

    torch, package = installed()
    assert torch.startswith("scripts/lock.txt|") and torch.endswith(" torch") and package.endswith("-e .")
    assert installed() == []
    assert installed("dev")[1].endswith("quant,co2]") and installed("dev") == [] == installed()
    torch, package = installed("dev", BLIP_REFINE_UNLOCKED="1")
    assert torch.startswith("|") and "--upgrade --upgrade-strategy eager" in torch
    assert installed("dev", BLIP_REFINE_UNLOCKED="1") == []
    assert installed(BLIP_REFINE_UNLOCKED="1") == [], "what the tests need holds what the demo needs"
    assert len(installed()) == 2, "the environment holds the newest, not the lock"
    with (clone / "scripts" / "lock.txt").open("a") as file:
        file.write("more==1.0\n")
    assert len(installed()) == 2, "another lock"


@posix
def test_a_failed_installation_is_told_and_tried_again(clone):
    ran = make_environment(clone, PYTHON=sys.executable)
    assert ran.returncode == 2 and "The lock versions of blip_refine could not be installed" in ran.stderr
    assert not (clone / "venv" / ".installed").exists()


def test_the_versions_of_an_environment_are_printed_for_scripts():
    command = [sys.executable, str(SCRIPTS / "versions.py")]
    found = json.loads(subprocess.run([*command, "--json", "here"], capture_output=True, text=True, check=True).stdout)
    assert found["environment"] == "here" and found["python"] == ".".join(map(str, sys.version_info[:3]))
    # A CUDA build from the package index says "+cu130" in torch.__version__ alone.
    torch_version = importlib.metadata.version("torch")
    assert found["packages"]["torch"] == torch_version
    assert {canonicalize_name(name) for name in found["packages"]} <= {
        canonicalize_name(wanted.name) for wanted in requirements()
    }
    line = subprocess.run([*command, "here"], capture_output=True, text=True, check=True).stdout
    assert line.startswith("here python==3.") and f" torch=={torch_version} " in line and line.count("\n") == 1
