"""Find what the package uses of other libraries' private code, and compare it with docs/private_code.yaml.

python scripts/private_code.py     # print undeclared uses and stale entries; exit with 1 if there are any
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "docs" / "private_code.yaml"

PRIVATE_MODULES = re.compile(
    r"^(?!blip_refine\b)(\w+\.)*_\w+(\.\w+)*$"  # any part of the path begins with an underscore
    r"|^transformers\.models\.\w+\.\w+"  # their public names are those of `transformers` itself
    r"|^uvicorn\.protocols\b|^starlette\._|^gradio\.(routes|blocks)\b|^torch\.distributed\.fsdp\._"
)
DOCUMENTED = {"_exit", "_asdict", "_replace", "_fields", "_make", "_field_defaults"}
"""Names with an underscore that the Python documentation describes."""

PRIVATE_NAME = re.compile(r"^_(?!_)[A-Za-z]\w*$")


@dataclass(frozen=True, order=True)
class Use:
    """One use of private code.

    Args:
        file (`str`): Relative to the repository.
        name (`str`): The private name, or the private module with what is imported from it.
        line (`int`): Where in the file; 0 for an override that was found by importing the package.
    """

    file: str
    name: str
    line: int = 0


def own_names(trees: Mapping[str, ast.AST]) -> set[str]:
    """The names with an underscore that the package itself defines."""
    found: set[str] = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                # What is stored on another object is that object's: only our own instances define names.
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    found.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
    return found


def uses_in(file: str, tree: ast.AST, own: set[str]) -> Iterator[Use]:
    """The private code that one module uses, by its source."""

    def private(name: object) -> bool:
        return isinstance(name, str) and bool(PRIVATE_NAME.match(name)) and name not in own | DOCUMENTED

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if private(node.attr):
                yield Use(file, node.attr, node.lineno)
            elif node.attr == "__bases__" or (node.attr == "__class__" and isinstance(node.ctx, ast.Store)):
                yield Use(file, node.attr, node.lineno)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("getattr", "hasattr", "setattr", "delattr") and len(node.args) > 1:
                name = node.args[1]
                if isinstance(name, ast.Constant) and private(name.value):
                    yield Use(file, name.value, node.lineno)
            if called.endswith("fromkeys"):
                keys = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
                yield from (Use(file, key, node.lineno) for key in keys if private(key))
            yield from (Use(file, word.arg, node.lineno) for word in node.keywords if private(word.arg))
        elif isinstance(node, ast.Dict):
            for key in node.keys:
                if isinstance(key, ast.Constant) and private(key.value):
                    yield Use(file, key.value, node.lineno)
        elif isinstance(node, ast.Import):
            yield from (Use(file, one.name, node.lineno) for one in node.names if PRIVATE_MODULES.match(one.name))
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module and node.module != "__future__":
            if node.module.split(".")[0] == "blip_refine":
                continue
            for one in node.names:
                full = f"{node.module}.{one.name}"
                if PRIVATE_MODULES.match(node.module) or PRIVATE_NAME.match(one.name) or PRIVATE_MODULES.match(full):
                    yield Use(file, full, node.lineno)


def overrides(own: set[str]) -> Iterator[Use]:
    """Private methods and attributes of other libraries' classes that classes of the package override.

    Args:
        own (`set[str]`): The names that the sources define. What a library keeps on our classes is not ours.
    """
    import blip_refine

    for module in pkgutil.walk_packages(blip_refine.__path__, "blip_refine."):
        if module.name == "blip_refine.__main__":
            continue
        for kind in vars(importlib.import_module(module.name)).values():
            if not inspect.isclass(kind) or kind.__module__ != module.name:
                continue
            for position, base in enumerate(kind.__mro__):
                if base.__module__.split(".")[0] != "blip_refine":
                    continue
                for name in vars(base):
                    if PRIVATE_NAME.match(name) and name in own:
                        owners = [
                            other
                            for other in kind.__mro__[position + 1 :]
                            if name in vars(other) and other.__module__.split(".")[0] != "blip_refine"
                        ]
                        if owners and owners[0].__module__.split(".")[0] not in sys.stdlib_module_names:
                            path = Path(inspect.getfile(base)).resolve().relative_to(ROOT)
                            yield Use(path.as_posix(), f"{owners[0].__name__}.{name}")


def find_uses(sources: Mapping[str, str] | None = None) -> list[Use]:
    """All uses, by the sources of the package and, for the package itself, by importing it.

    Args:
        sources (`Mapping[str, str]`, *optional*): File name to source; by default the package, imported as well.
    """
    files = sources
    if files is None:
        paths = sorted((ROOT / "blip_refine").rglob("*.py"))
        files = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    trees = {name: ast.parse(text) for name, text in files.items()}
    own = own_names(trees)
    found = {use for name, tree in trees.items() for use in uses_in(name, tree, own)}
    return sorted(found | (set(overrides(own)) if sources is None else set()))


def read_list(path: Path = LIST) -> list[dict[str, Any]]:
    """The declared uses: each with `library`, `names`, `files`, `why` and `guard`."""
    import yaml

    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


def compare(uses: list[Use], declared: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Uses that are not declared, and declarations of what is used no longer, as sentences."""
    pairs = {(file, name) for entry in declared for file in entry["files"] for name in entry["names"]}
    used = {(use.file, use.name) for use in uses}
    undeclared = [f"{use.file}:{use.line}: {use.name} is private" for use in uses if (use.file, use.name) not in pairs]
    # An entry may name several files and names; each has to be used with at least one of the other.
    stale = []
    for entry in declared:
        own = {(file, name) for file in entry["files"] for name in entry["names"]} & used
        stale += [f"{name} is declared and used no longer" for name in set(entry["names"]) - {name for _, name in own}]
        stale += [
            f"{file} is declared for {', '.join(entry['names'])} and uses none"
            for file in set(entry["files"]) - {file for file, _ in own}
        ]
    return undeclared, sorted(stale)


if __name__ == "__main__":
    undeclared, stale = compare(find_uses(), read_list())
    for line in undeclared + stale:
        print(line)
    if undeclared or stale:
        sys.exit(f"Change docs/private_code.yaml: {len(undeclared)} uses to declare, {len(stale)} entries to remove.")
