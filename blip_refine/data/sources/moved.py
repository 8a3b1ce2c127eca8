"""Images that a table names as another machine called them: `C:\\Photos\\1.JPG`, or just `1.jpg`."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from .files import walk_images


class MovedImages:
    """Looks for images under a folder by what table and folder agree on.

    A path fits a file if one of the two is the end of the other, part by part, whatever the case of their letters.
    Exactly one file must fit. Where only the file's own name agrees, no two files of the folder may share a name:
    otherwise a name does not say which picture is meant, and a wrong one would get the caption.

    Args:
        folder (`Path`): Where to look. It is read once, when the first image is missing.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.found: dict[str, str] = {}
        self._by_name: dict[str, list[tuple[str, ...]]] | None = None
        self._paths: dict[tuple[str, ...], list[Path]] = {}
        self._names_are_unique = True

    def find(self, named: str) -> Path | None:
        """The file that is meant, `None` where there is none or more than one.

        Args:
            named (`str`): The path as the table has it, with `/` or `\\`.
        """
        if self._by_name is None:
            self._by_name = {}
            for path in walk_images(self.folder) if self.folder.is_dir() else ():
                parts = _parts(path.relative_to(self.folder).as_posix())
                self._paths.setdefault(parts, []).append(path)
                self._by_name.setdefault(parts[-1], []).append(parts)
            self._names_are_unique = all(len(same) == 1 for same in self._by_name.values())
        wanted = _parts(named)
        if not wanted:
            return None
        fitting = [parts for parts in self._by_name.get(wanted[-1], ()) if _agree(wanted, parts)]
        if len(fitting) != 1 or len(self._paths[fitting[0]]) != 1:
            return None
        if min(len(wanted), len(fitting[0])) == 1 and not self._names_are_unique:
            return None
        path = self._paths[fitting[0]][0]
        self.found[named] = path.relative_to(self.folder).as_posix()
        return path

    def summary(self) -> str:
        """One sentence for the log; empty where nothing had moved."""
        if not self.found:
            return ""
        named, path = next(iter(self.found.items()))
        return (
            f"{len(self.found)} images are not under the path that is named, and were found in {self.folder} by the "
            f"end of it, for example {named!r} as {path!r}."
        )


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return tuple(part.casefold() for part in parts if part not in (".", "/"))


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]
