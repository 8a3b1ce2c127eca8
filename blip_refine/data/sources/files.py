"""Looking for files in the places where data sets keep them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import SourceFormatError, SourceNotFoundError

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .avif .bmp .gif .tif .tiff .jp2 .heic .heif .ppm .tga .ico .mpo".split()
)


def is_image_name(name: str) -> bool:
    """Whether a file name ends like an image's."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def find_file(folder: Path, names: Sequence[str], subfolders: Sequence[str] = ("",)) -> Path | None:
    """The first of `names` that is in `folder` or one of its `subfolders`; names come before subfolders."""
    candidates = (folder / subfolder / name for name in names for subfolder in subfolders)
    return next((path for path in candidates if path.is_file()), None)


def find_image_folder(folder: Path, names: Sequence[str], given: str | os.PathLike | None = None) -> Path:
    """The first of `names` under `folder` that holds an image.

    Args:
        folder (`Path`): The folder of the data set.
        names (`Sequence[str]`): Where the photos are kept, likeliest first.
        given (`str` or `os.PathLike`, *optional*): The user's own answer, which is not second-guessed.

    Raises:
        SourceNotFoundError: There is none.
    """
    if given is not None:
        path = Path(given) if Path(given).is_absolute() or Path(given).is_dir() else folder / given
        if not path.is_dir():
            raise SourceNotFoundError(f"There is no folder {str(given)!r} of images.")
        return path
    for name in names:
        path = folder / name
        if path.is_dir() and any(is_image_name(entry.name) for entry in os.scandir(path)):
            return path
    looked = ", ".join(repr(name) for name in names if name)
    raise SourceNotFoundError(
        f"{folder} has no folder of images; looked for {looked}. Name it: image_dir=...", arguments=("image_dir",)
    )


def list_images(folder: Path) -> frozenset[str]:
    """The names of all files in a folder: one look at the folder, not one for each caption."""
    return frozenset(entry.name for entry in os.scandir(folder) if entry.is_file())


def walk_images(folder: Path) -> list[Path]:
    """All images under a folder, in order of their path; hidden files and folders are passed over."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(names) if is_image_name(name) and not name.startswith(".")]
    return found


def read_text_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends. Only line feeds end a line: a caption may hold U+2028.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It is not UTF-8.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"There is no file {str(path)!r}.") from error
    except UnicodeDecodeError as error:
        raise SourceFormatError(
            f"{path} is not UTF-8 text (byte {error.start}: {error.reason}). Save it as UTF-8."
        ) from error
    return [line.removesuffix("\r") for line in text.split("\n")]


def relative_id(path: Path, folder: Path) -> str:
    """The name of an image in a folder: its path in that folder, with `/` on every system."""
    return path.relative_to(folder).as_posix()


def first_lines(lines: Iterable[str], count: int) -> list[str]:
    """The first few lines that are not blank."""
    kept: list[str] = []
    for line in lines:
        if line.strip():
            kept.append(line)
        if len(kept) == count:
            break
    return kept
