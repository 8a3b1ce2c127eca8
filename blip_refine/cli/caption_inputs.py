"""The images that a command line names: folders, patterns, URLs and lists, or one machine's share of them."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.image_files import as_text
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
        paths (`Sequence[str]`): Images, folders, patterns, URLs; `-` stands for a list on standard input.
        limits ([`UrlLimits`]): What a download may cost.
        leave_out (`Path`, *optional*): A folder whose files are results of this command, and no images to caption.
    """

    def __init__(self, paths: Sequence[str], *, limits: UrlLimits, leave_out: Path | None = None):
        self.paths, self.limits, self.leave_out = list(paths), limits, leave_out
        self.ended = False
        self._listening = False
        self.roots = [root for root in map(_root_of, self.paths) if root is not None]
        self.listed = "-" in self.paths

    def __iter__(self) -> Iterator[ImageSource]:
        """The images, in the order in which they were named."""
        hidden = None if self.leave_out is None else os.path.join(os.path.realpath(self.leave_out), "")
        for source in expand_images(self._names(), limits=self.limits):
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

    def _names(self) -> Iterator[str]:
        for path in self.paths:
            if path == "-":
                yield from self._lines()
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
