"""The image files of a folder, or those that fit a pattern, in an order that does not change."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import ImageDecodeError, SourceNotFoundError

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .heic .heif .j2k .jfif .jp2 .jpe .jpeg .jpg .png .ppm .pgm .tga .tif .tiff .webp".split()
)
"""What a file in a folder is called to be taken for an image. A file that is named itself may be called anything."""


class UnsearchableFolder(ImageDecodeError):
    """A folder whose entries cannot be listed.

    Args:
        folder (`str`): Its path.
        reason (`str`): What the system says.
    """

    def __init__(self, folder: str, reason: str):
        self.folder = folder
        super().__init__(f"The folder {folder!r} cannot be searched: {reason}.")


def files_in(folder: str) -> Iterator[str | UnsearchableFolder]:
    """The image files in a folder and below it. Hidden ones are left out, and links to folders are not followed.

    Args:
        folder (`str`): Where to look.

    Yields:
        `str` or `UnsearchableFolder`: A path; or, for a folder that cannot be searched, why.

    Raises:
        SourceNotFoundError: There is no image.
    """
    found = False
    for _, entries in _walk(folder):
        if isinstance(entries, UnsearchableFolder):
            found = True
            yield entries
            continue
        for entry in entries:
            if _is_image_name(entry.name) and _is_file(entry):
                found = True
                yield entry.path
    if not found:
        raise SourceNotFoundError(f"There is no image in the folder {folder!r} or below it.")


def files_like(pattern: str) -> Iterator[str | UnsearchableFolder]:
    """The files that fit a pattern as `glob` reads it, each once; `**` does not go through links to folders.

    Args:
        pattern (`str`): Such as `photos/**/*.jpg`. Without a suffix it means the images.

    Yields:
        `str` or `UnsearchableFolder`: See `files_in`.

    Raises:
        SourceNotFoundError: No file fits.
    """
    # "photos/*" means the photos; "photos/*.dat" means just these files, whatever they are called.
    any_name = bool(Path(pattern).suffix)
    matches: set[str] = set()
    failures: list[UnsearchableFolder] = []
    for match in _matches(pattern):
        if isinstance(match, UnsearchableFolder):
            failures.append(match)
        elif os.path.isfile(match) and (any_name or _is_image_name(match)):
            matches.add(match)
    if not matches and not failures:
        raise SourceNotFoundError(f"No file fits the pattern {pattern!r}.")
    yield from failures
    yield from sorted(matches)


def _matches(pattern: str) -> Iterator[str | UnsearchableFolder]:
    """`glob.iglob(pattern, recursive=True)`, which goes round and round where a link leads back."""
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    start, found, rest = f"/{pattern}".partition("/**/")
    if not found:
        yield from glob.iglob(pattern)
        return
    start = start[1:] or ("/" if pattern.startswith("/") else "")
    for base in glob.iglob(start) if glob.has_magic(start) else (start,):
        for folder, entries in _walk(base or "."):
            if isinstance(entries, UnsearchableFolder):
                yield entries
                continue
            inside = folder if base else folder.removeprefix(".").removeprefix("/")
            yield from _matches(os.path.join(glob.escape(inside), rest.lstrip("/")))


def _walk(top: str) -> Iterator[tuple[str, list[os.DirEntry[str]] | UnsearchableFolder]]:
    """Each folder with its sorted entries: the folder itself first, then those below it, by name."""
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted((one for one in listing if not one.name.startswith(".")), key=lambda one: one.name)
        except (NotADirectoryError, FileNotFoundError):
            continue  # what a pattern is tried on; or a folder that was removed meanwhile
        except OSError as error:
            yield folder, UnsearchableFolder(folder, error.strerror or str(error))
            continue
        yield folder, entries
        waiting += [one.path for one in reversed(entries) if one.is_dir(follow_symlinks=False)]


def _is_image_name(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _is_file(entry: os.DirEntry[str]) -> bool:
    """A file, or a link that leads to one or nowhere: no folder, and no pipe, which would never end."""
    if entry.is_symlink():
        return entry.is_file() or not os.path.exists(entry.path)
    return entry.is_file(follow_symlinks=False)
