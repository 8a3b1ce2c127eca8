"""Imports run one way, and what must be light is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "blip_refine"

FLOORS = {
    "records": 0,
    "jsonlines": 0,
    "errors": 0,
    "installation": 0,
    "narrator": 0,
    "caption_prompts": 0,
    "metrics": 1,
    "data": 2,
    "models": 2,
    "hub": 3,
    "refine": 3,
    "pipeline": 4,
    "caption_stream": 4,
    "captioners": 4,
    "inputs": 4,
    "streaming": 4,
    "url_images": 4,
    "review": 4,
    "caption_files": 4,
    "caption_tables": 4,
    "prepared": 4,
    "evaluation": 5,
    "training": 6,
    "report": 7,
    "apps": 8,
    "finetune": 8,
    "demo": 8,
    "cli": 9,
    "__main__": 9,
}
"""The floors of docs/architecture.md. A module imports from its own floor or lower ones."""

TYPES_ONLY_FROM = {"records", "errors"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def area(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports_of(path: Path) -> list[tuple[int, str, bool]]:
    """(line, area of the package, at module level?) of each import of our own."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["blip_refine", *path.relative_to(PACKAGE).parts[:-1]]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{name}.{alias.name}" for alias in node.names] if name == "blip_refine" else [name]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("blip_refine."):
                found.append((node.lineno, name.split(".")[1], node.col_offset == 0))
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_down_the_floors(path):
    home = area(path)
    if home == "__init__":
        return
    assert home in FLOORS, f"{home} has no floor: say where it lives, here and in docs/architecture.md"
    for line, used, _ in imports_of(path):
        if used in ("__version__", "__init__"):
            continue
        assert used in FLOORS, f"{path}:{line} imports {used}, which has no floor"
        assert FLOORS[used] <= FLOORS[home], f"{path}:{line}: {home} imports {used}, which lives above it"


def test_no_cycles_between_modules():
    def dotted(path: Path) -> str:
        return ".".join(("blip_refine", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")

    known = {dotted(path): path for path in modules()}
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                target = ".".join([*base, *([node.module] if node.module else [])])
                for alias in node.names:
                    for candidate in (f"{target}.{alias.name}", target):
                        if candidate in known and candidate != name:
                            graph[name].add(candidate)
                            break
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for used in sorted(graph[name]):
                visit(used, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


LIGHT = [
    "import blip_refine",
    "import blip_refine.cli.main; blip_refine.cli.main.build_app()",
    "import blip_refine.metrics.score",
    "from blip_refine.refine import base, rules, consensus, prompts, guards, cache",
    "import blip_refine.evaluation.significance, blip_refine.evaluation.human",
    "import blip_refine.report.report",
    "import blip_refine.hub.card",
    "import blip_refine.data.sources, blip_refine.data.splits, blip_refine.data.leakage",
]


@pytest.mark.parametrize("statement", LIGHT)
def test_light_modules_import_neither_torch_nor_transformers(statement):
    heavy = {"torch", "transformers", "datasets", "tensorflow"} & loaded_by(statement)
    assert not heavy


def test_public_names_are_importable_and_listed():
    import blip_refine

    for name in blip_refine.__all__:
        assert getattr(blip_refine, name) is not None, name
    assert set(blip_refine.__all__) <= set(dir(blip_refine))
    with pytest.raises(AttributeError, match="no_such_name"):
        blip_refine.no_such_name  # noqa: B018


def test_names_for_type_checkers_mirror_the_lazy_ones():
    import blip_refine

    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    mirrored = {alias.name: node.module for node in block.body for alias in node.names}
    assert mirrored == blip_refine._HOME_OF
