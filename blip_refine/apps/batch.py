"""Many pictures at once: from uploaded files, folders or zip archives to JSON Lines and CSV."""

from __future__ import annotations

import csv
import io
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import DataError
from ..jsonlines import atomic_write, write_jsonl
from ..records import Caption, CaptionRecord

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"}
COLUMNS = ("image_id", "caption", "draft", "refined", "confidence", "reason", "error")
BROKEN_ARCHIVE = (
    *(zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, UnicodeDecodeError),
    *(zlib.error, lzma.LZMAError),
)
"""What `zipfile` raises for archives that are broken, encrypted or packed in an unknown way: it lets the errors of the
decompressors through."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much a visitor may send at once.

    Args:
        pictures (`int`, defaults to 500): At most so many pictures.
        picture_bytes (`int`, defaults to 32 MiB): The largest single picture, unpacked.
        total_bytes (`int`, defaults to 1 GiB): All pictures of an archive together, unpacked.
    """

    pictures: int = 500
    picture_bytes: int = 32 * 2**20
    total_bytes: int = 2**30


def read_uploads(paths: Iterable[str | os.PathLike], limits: BatchLimits | None = None) -> Iterator[CaptionRecord]:
    """The pictures in uploaded files and archives, one after the other; archives are never unpacked to disk.

    Args:
        paths (`Iterable[str]`): Files: pictures, or zip archives of pictures in any folders.
        limits (`BatchLimits`, *optional*): How much is taken.

    Raises:
        DataError: An archive is broken or encrypted, or there is more than the limits allow.
    """
    limits = limits or BatchLimits()
    count = 0
    for path in map(Path, paths):
        found = _read_zip(path, limits) if path.suffix.lower() == ".zip" else _read_picture(path, limits)
        for record in found:
            count += 1
            if count > limits.pictures:
                raise DataError(f"At most {limits.pictures} pictures are captioned at once; send fewer, or in parts.")
            yield record


def count_pictures(paths: Sequence[str | os.PathLike]) -> int:
    """How many pictures uploaded files and archives hold, for a progress bar."""
    count = 0
    for path in map(Path, paths):
        if path.suffix.lower() != ".zip":
            count += path.suffix.lower() in SUFFIXES
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                count += sum(map(_is_picture, archive.namelist()))
        except BROKEN_ARCHIVE as error:
            raise DataError(f"{path.name} is no zip archive that can be read ({error}).") from error
    return count


def _is_picture(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any((part.startswith(".") and part != "..") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _read_picture(path: Path, limits: BatchLimits) -> Iterator[CaptionRecord]:
    if not _is_picture(path.name):
        return
    if path.stat().st_size > limits.picture_bytes:
        raise DataError(f"{path.name} is larger than {limits.picture_bytes // 2**20} MiB.")
    yield CaptionRecord(path, (), path.name)


def _read_zip(path: Path, limits: BatchLimits) -> Iterator[CaptionRecord]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if _is_picture(entry.filename) and not entry.is_dir()]
            if sum(entry.file_size for entry in entries) > limits.total_bytes:
                raise DataError(f"{path.name} holds more than {limits.total_bytes // 2**20} MiB of pictures.")
            for entry in entries:
                with archive.open(entry) as file:
                    # What an archive says of its sizes is not believed.
                    data = file.read(limits.picture_bytes + 1)
                if len(data) > limits.picture_bytes:
                    raise DataError(f"{entry.filename} is larger than {limits.picture_bytes // 2**20} MiB.")
                yield CaptionRecord(data, (), entry.filename)
    except BROKEN_ARCHIVE as error:
        raise DataError(f"{path.name} is no zip archive that can be read ({error}).") from error


def write_captions(captions: Sequence[Caption], folder: str | os.PathLike) -> tuple[Path, Path]:
    """Write captions as `captions.jsonl` and `captions.csv`.

    In the CSV, a text that a spreadsheet would take for a formula is put behind an apostrophe.

    Args:
        captions (`Sequence[Caption]`): One a picture.
        folder (`str` or `os.PathLike`): Where the files go.
    """
    folder = Path(folder)
    rows = [caption.to_dict() for caption in captions]
    write_jsonl(folder / "captions.jsonl", rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row.get(name)) for name in COLUMNS} for row in rows)
    with atomic_write(folder / "captions.csv") as file:
        file.write(text.getvalue())
    return folder / "captions.jsonl", folder / "captions.csv"


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value
