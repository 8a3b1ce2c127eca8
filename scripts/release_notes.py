"""Print a release's part of CHANGELOG.md; refuse a tag that does not fit the version and the changelog.

python scripts/release_notes.py v0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def release_notes(tag: str, root: Path = ROOT) -> str:
    """The notes of the release that `tag` names.

    Args:
        tag (`str`): Such as "v0.1.0".
        root (`Path`): The repository.

    Raises:
        SystemExit: The tag is not the version, or the changelog has no part for it or something unreleased.
    """
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    if len(versions) != 1:
        raise SystemExit("pyproject.toml does not have one line `version = ...`.")
    if tag != f"v{versions[0]}":
        raise SystemExit(f"The tag {tag!r} is not v{versions[0]}, the version in pyproject.toml.")
    own = re.search(r'^__version__ = "(.+)"$', (root / "blip_refine/__init__.py").read_text(encoding="utf-8"), re.M)
    if not own or own[1] != versions[0]:
        raise SystemExit(
            f"__version__ in blip_refine/__init__.py is not {versions[0]}, the version in pyproject.toml."
        )
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    parts = re.split(r"^## ", text.partition("\n[Unreleased]:")[0], flags=re.MULTILINE)
    heads = {part.partition("\n")[0].strip(): part.partition("\n")[2].strip() for part in parts[1:]}
    if heads.get("[Unreleased]") != "":
        raise SystemExit("CHANGELOG.md needs an empty [Unreleased]: move its lines under the heading of the release.")
    for head, notes in heads.items():
        if re.fullmatch(rf"\[{re.escape(versions[0])}\] - \d{{4}}-\d{{2}}-\d{{2}}", head) and notes:
            return notes
    raise SystemExit(f"CHANGELOG.md has no part headed [{versions[0]}] - YYYY-MM-DD.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python scripts/release_notes.py TAG")
    print(release_notes(sys.argv[1]))
