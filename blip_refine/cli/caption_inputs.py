"""The images that a command line names: folders, patterns, URLs and lists, or one machine's share of them."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.image_files import as_text
from ..data.sources.columns import ColumnOptions
from ..data.sources.table import TABLE_SUFFIXES, metadata_of, prompt_of, read_rows
from ..errors import ConfigurationError
from ..inputs import ImageSource, expand_images
from ..url_images import UrlLimits


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several shares of the images, which belong to no other.

    Args:
        number (`int`): Which share, from 1.
        count (`int`): How many there are.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The share that `3/16` names.

        Raises:
            ConfigurationError: There is no such share.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigurationError(
                f"--shard is 1/16, 2/16, ... 16/16 for the first to the last of 16, not {text!r}."
            )
        return cls(int(found[1]), int(found[2]))

    def holds(self, name: str) -> bool:
        """Whether an image belongs to this share. That hangs on its name alone: a share keeps its images when others
        are added, and on every machine."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.number - 1

    def path(self, path: Path) -> Path:
        """The file of this share: `captions-03-of-16.jsonl` for `captions.jsonl`."""
        width = len(str(self.count))
        return path.with_name(f"{path.stem}-{self.number:0{width}}-of-{self.count}{path.suffix}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


class CommandInputs:
    """What the arguments of the command stand for.

    Args:
        paths (`Sequence[str]`): Images, folders, patterns, URLs, tables with a column of images (`.csv`, `.tsv`,
            `.jsonl`, `.json`, `.parquet`); `-` stands for a list on standard input.
        limits ([`UrlLimits`]): What a download may cost.
        leave_out (`Path`, *optional*): A folder whose files are results of this command, and no images to caption.
    """

    def __init__(self, paths: Sequence[str], *, limits: UrlLimits, leave_out: Path | None = None):
        self.paths, self.limits, self.leave_out = list(paths), limits, leave_out
        self.ended = False
        self._listening = False
        self.roots = [root for root in map(_root_of, self.paths) if root is not None]
        self.listed = "-" in self.paths
        self.tables = [path for path in self.paths if is_table(path)]

    def __iter__(self) -> Iterator[ImageSource]:
        """The images, in the order in which they were named."""
        hidden = None if self.leave_out is None else os.path.join(os.path.realpath(self.leave_out), "")
        for source in expand_images(self._named(), limits=self.limits):
            if self.ended:
                return
            place = local_path(source)
            if hidden is not None and place is not None and os.path.realpath(place).startswith(hidden):
                continue
            yield source

    def end(self) -> None:
        """Name no more images. May be called by the handler of a signal, which also ends waiting for a line."""
        self.ended = True
        if self._listening:
            raise _EndOfInput

    def _named(self) -> Iterator[str | ImageSource]:
        for path in self.paths:
            if path == "-":
                yield from self._lines()
            elif path in self.tables:
                yield from rows_as_images(Path(path), self.limits)
            else:
                yield path

    def _lines(self) -> Iterator[str]:
        if hasattr(sys.stdin, "reconfigure"):  # names of files need not be UTF-8
            sys.stdin.reconfigure(errors="surrogateescape")
        while (line := self._next_line()) is not None:
            name = line.rstrip("\r\n")
            if name.strip():
                yield name if os.path.lexists(name) else name.strip()

    def _next_line(self) -> str | None:
        try:
            self._listening = True
            return None if self.ended else next(sys.stdin, None)
        except _EndOfInput:
            return None
        finally:
            self._listening = False

    def name_within(self, source: ImageSource) -> str | None:
        """An image's path within the folder, or the fixed part of the pattern, that it was found by; `None` where it
        was named itself."""
        place = local_path(source)
        if place is None:
            return None
        for root in self.roots:
            inside = os.path.relpath(place, root)
            if inside != os.curdir and inside.split(os.sep)[0] != os.pardir:
                return inside.replace(os.sep, "/")
        return None

    def share_name(self, source: ImageSource) -> str:
        """What a share hangs on: the same on every machine, wherever it has the folder."""
        return as_text(self.name_within(source) or source.image_id)


def is_table(path: str) -> bool:
    """Whether a path is a file with rows, and no image."""
    return Path(path).suffix.lower() in TABLE_SUFFIXES and os.path.isfile(path)


def rows_as_images(path: Path, limits: UrlLimits) -> Iterator[ImageSource]:
    """The images that a table names, with their prompts and whatever else its rows say of them.

    An image of several rows (one per caption) comes once, with its first row. Captions are left aside: they are what a
    captioner is to find.

    Args:
        path (`Path`): The table. Paths in it are relative to its folder.
        limits ([`UrlLimits`]): What a download may cost.

    Raises:
        SourceFormatError: It cannot be read, or has no column of images.
    """
    rows, names = read_rows(path)
    columns = ColumnOptions(require_captions=False).find(names, str(path))
    seen: set[str] = set()
    for number, row in rows:
        value = row.get(columns.image)
        if isinstance(value, str) and value:
            if value in seen:
                continue
            seen.add(value)
            web = value.lower().startswith(("http://", "https://"))
            image: Any = value if web else path.parent / value.replace("\\", "/")
        else:
            image, value = value, f"{path.name}:{number}"
        try:
            (source,) = expand_images([{"image": image}], limits=limits)
        except ValueError:  # a folder
            source = ImageSource(value, error=f"{value} is no image, but a folder.")
        named = row.get(columns.image_id) if columns.image_id else None
        yield replace(
            source,
            image_id=str(named) if named not in (None, "") else value,
            metadata=metadata_of(row, columns),
            prompt=prompt_of(row, columns),
        )


class _EndOfInput(BaseException):
    """Raised in the midst of waiting for a line of standard input. No concern of anyone but `CommandInputs`."""


def local_path(source: ImageSource) -> Path | None:
    """The file that an image lies in, if it is one."""
    image = source.image
    return Path(image) if isinstance(image, (str, Path)) else None


def _root_of(path: str) -> str | None:
    """The folder that is searched through, or the part of a pattern before its first wildcard."""
    if os.path.isdir(path):
        return path
    if "://" in path or path == "-" or not glob.has_magic(path) or os.path.exists(path):
        return None
    fixed = []
    for part in path.split(os.sep):
        if glob.has_magic(part):
            break
        fixed.append(part)
    return os.sep.join(fixed) or (os.sep if path.startswith(os.sep) else os.curdir)
