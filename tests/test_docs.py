"""What the documentation shows exists: every command, every flag, every import, every linked file."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from blip_refine.cli.main import COMMANDS, GLOBAL_FLAGS, build_app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "MODEL_CARD.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "benchmarks" / "README.md",
    ]
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[list[str]]:
    found = []
    for block in [*blocks(page, "bash"), *blocks(page, "sh"), *blocks(page, "console")]:
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("blip-refine "):
                found.append(shlex.split(line, comments=True)[1:])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_commands_and_flags_exist(page):
    from dataclasses import fields

    from blip_refine.training.arguments import CaptionTrainingArguments

    group = typer.main.get_command(build_app())
    for words in commands_of(page):
        name = words[0]
        if name.startswith("-"):
            continue
        assert name in COMMANDS, f"{page.name} shows `blip-refine {name}`, which there is not"
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        known |= {option for parameter in group.commands[name].params for option in parameter.secondary_opts}
        known |= set(GLOBAL_FLAGS) | {"--help", "-h"}
        if name == "train":
            known |= {f"--{field.name.replace('_', '-')}" for field in fields(CaptionTrainingArguments)}
        for word in words[1:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, f"{page.name}: `blip-refine {name}` has no {word}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_shown_python_parses_and_its_imports_exist(page):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("blip_refine"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}"), (
                        f"{page.name}: {node.module} has no {alias.name}"
                    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_the_readme_snippets_run(tmp_path, monkeypatch):
    """As a newcomer would paste them, one after the other, with two pictures at hand."""
    from blip_refine.data.sources.scenes import SPLIT_SIZES, load_scenes

    for record, name in zip(load_scenes("everyday", "test", count=3), ("photo.jpg", "a.jpg", "b.jpg"), strict=True):
        record.image.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    # The same code on fewer scenes: a test need not wait for four epochs of 400.
    monkeypatch.setattr("blip_refine.data.sources.scenes.SPLIT_SIZES", dict.fromkeys(SPLIT_SIZES, 4))
    space: dict = {}
    snippets = blocks(ROOT / "README.md", "python")
    assert len(snippets) >= 2
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), space)
    assert space["trainer"].state.global_step > 0
