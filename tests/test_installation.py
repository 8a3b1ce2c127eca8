"""What says how to install this package says what works: it is not on the package index."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from blip_refine.errors import MissingExtraError
from blip_refine.installation import REPOSITORY, install_command

ROOT = Path(__file__).resolve().parent.parent
HERE = "tests/test_installation.py"


def from_the_index(text: str) -> Iterator[str]:
    """Commands that would ask the package index for this package."""
    text = re.sub(r"(pip install)\n[ #]*", r"\1 ", text)  # within a paragraph
    for line in text.splitlines():
        command = re.search(r"""pip["',\s]+install\b(.*)""", line)
        if not command:
            continue
        for name in re.finditer(r"""(?<![\w/.-])blip[_-]refine(\[[\w,]*\])?(?![\w./-])([^\n]*)""", command[1]):
            if not name[2].startswith(f" @ git+{REPOSITORY}"):
                yield line.strip()
                break
    if re.search(r"pypi\.org/p(roject)?/blip", text):
        yield "a page of the package index"


@pytest.mark.parametrize(
    "text",
    [
        "pip install blip_refine",
        "pip install 'blip_refine[metrics]'",
        "`pip install\n'blip_refine[quant]'`",
        '[sys.executable, "-m", "pip", "install", "-q", "blip_refine"]',
        "pip install -U blip-refine",
        "pip install 'blip_refine[metrics] @ git+https://example.com/other'",
        "[blip_refine](https://pypi.org/project/blip_refine/)",
    ],
)
def test_the_check_finds_what_it_is_for(text):
    assert list(from_the_index(text))


def test_the_check_lets_pass_what_works():
    wheel = "pip install ./blip_refine-0.1.0-py3-none-any.whl"
    commands = (install_command(), install_command("metrics"), "pip install '.[dev]'", wheel)
    for text in (*commands, "pip install torch\nblip_refine"):
        assert not list(from_the_index(text)), text


def test_nothing_tells_people_to_install_from_the_index():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs to the repository is not known")
    found, read = {}, 0
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if name == HERE or not path.is_file() or path.suffix in (".png", ".jpg", ".gz", ".safetensors"):
            continue
        read += 1
        faults = list(from_the_index(path.read_text(encoding="utf-8")))
        if faults:
            found[name] = faults
    assert not found and read > 200


def test_the_repository_is_that_of_the_metadata():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^\[project\.urls\]\n(?:.+\n)*?Repository = "(.*)"$', text, re.MULTILINE)[1] == REPOSITORY


@pytest.mark.parametrize("extra", [None, "metrics", "apps"])
def test_the_command_is_one_for_any_shell(extra):
    command = install_command(extra)
    pip, install, argument = shlex.split(command)
    requirement = Requirement(argument)
    assert (pip, install, requirement.name) == ("pip", "install", "blip_refine")
    assert requirement.url == f"git+{REPOSITORY}" and requirement.extras == ({extra} if extra else set())
    # cmd.exe knows double quotes alone; within them POSIX shells and PowerShell expand $ and `, and cmd.exe %.
    assert "'" not in command and not set("$`%!") & set(command)


def test_extras_that_are_named_exist():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = set(re.findall(r"^(\w+) = \[", text.split("[project.optional-dependencies]")[1].split("\n[")[0], re.M))
    named = set()
    for path in [*(ROOT / "blip_refine").rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        source = path.read_text(encoding="utf-8")
        named |= set(re.findall(r'MissingExtraError\(\s*"[^"]*", "(\w+)"', source))
        named |= set(re.findall(r"\bextra `(\w+)`", source))
        for group in re.findall(r"blip_refine\[([\w,]+)\] @", source):
            named |= set(group.split(","))
    assert {"metrics", "apps", "openai", "quant"} <= named <= extras


def test_the_error_quotes_it():
    said = str(MissingExtraError("gradio", "apps", "serve the page"))
    assert said == f"`gradio` is needed to serve the page: {install_command('apps')}"
