"""Write docs/compatibility.md from the version records of tested environments and docs/private_code.yaml.

python scripts/compatibility.py RECORD.json ...   # keep these records in docs/tested_versions.json and write the page
python scripts/compatibility.py                   # write the page from what is kept
python scripts/compatibility.py --check           # exit with 1 if the page is not what would be written

A record is what `scripts/versions.py --json NAME` prints in an environment whose tests have passed. It replaces the
record of the same environment, Python and system.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, RECORDS = ROOT / "docs" / "compatibility.md", ROOT / "docs" / "tested_versions.json"
sys.path.insert(0, str(Path(__file__).resolve().parent))

from private_code import read_list  # noqa: E402

INTRODUCTION = """\
# Compatibility

Written by `python scripts/compatibility.py` from the records of tested environments (`docs/tested_versions.json`) and
from the list of private code (`docs/private_code.yaml`). The bounds in `pyproject.toml` say what may be
installed; this page says what was tested.
"""
SYSTEMS = {"linux": "Linux", "macos": "macOS", "darwin": "macOS", "windows": "Windows"}


def read_record(path: Path) -> dict[str, Any]:
    """One record, checked.

    Raises:
        SystemExit: The file is not what `scripts/versions.py --json` prints.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        name, python, packages = record["environment"], record["python"], record["packages"]
        system = system_name(record["platform"])
        if not all(isinstance(one, str) for one in (name, python, *packages, *packages.values())) or not packages:
            raise ValueError("names and versions are not text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(
            f"{path} is not a record of scripts/versions.py --json ({type(error).__name__}: {error})."
        ) from error
    return {"environment": name, "python": python, "system": system, "packages": dict(packages)}


def system_name(platform: str) -> str:
    """The system of `platform.platform()`, without the machine's kernel."""
    system = platform.split("-")[0]
    return SYSTEMS.get(system.lower(), system)


def merge(kept: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Records by environment, Python (its minor version) and system; the last of each counts."""

    def key(record: Mapping[str, Any]) -> tuple[str, tuple[int, ...], str]:
        minor = tuple(int(part) for part in record["python"].split(".")[:2])
        return record["environment"], minor, record["system"]

    return [dict(record) for _, record in sorted({key(one): one for one in (*kept, *new)}.items())]


def render(records: list[dict[str, Any]], declared: list[dict[str, Any]]) -> str:
    """The page."""
    parts = [INTRODUCTION, "## What was tested\n"]
    if records:
        heads = [f"{one['environment']}, Python {one['python']}, {one['system']}" for one in records]
        names = sorted({name for one in records for name in one["packages"]}, key=str.lower)
        rows = [[name, *(one["packages"].get(name, "not installed") for one in records)] for name in names]
        parts.append(table(["package", *heads], rows))
    else:
        parts.append("Nothing has been recorded yet.\n")
    parts.append("## Private code that remains\n")
    if declared:
        parts.append(
            "Other libraries may change these without notice. The test named beside each fails first.\n\n"
            + table(
                ["library", "what", "where", "why", "contract test"],
                [
                    [
                        entry["library"],
                        ", ".join(f"`{name}`" for name in entry["names"]),
                        ", ".join(f"`{file}`" for file in entry["files"]),
                        entry["why"],
                        f"`{entry['guard']}`",
                    ]
                    for entry in declared
                ],
            )
        )
    else:
        parts.append("None.\n")
    parts.append(
        "`python scripts/private_code.py` finds every use in the sources and compares it with the list. A use that\n"
        "is not declared fails `tests/test_compatibility.py`.\n"
    )
    return "\n".join(parts)


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def main(arguments: list[str]) -> None:
    check = arguments == ["--check"]
    if any(one.startswith("-") for one in arguments) and not check:
        sys.exit("Usage: python scripts/compatibility.py [--check | RECORD.json ...]")
    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.is_file() else []
    if not check and arguments:
        records = merge(records, [read_record(Path(one)) for one in arguments])
        RECORDS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8", newline="\n")
    text = render(records, read_list())
    if check:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PAGE.relative_to(ROOT)} is not what would be written. Run: python scripts/compatibility.py")
        return
    PAGE.write_text(text, encoding="utf-8", newline="\n")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
