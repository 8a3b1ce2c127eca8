"""Unpack the zip of a dataset: only what was asked for, never outside of its folder, never more than fits."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ...errors import DataError

MAX_MEMBERS = 1_000_000
MAX_RATIO = 60
"""Photos do not shrink in a zip, and the JSON of a dataset to a tenth. A zip bomb claims a thousandfold."""
_SMALL = 64 * 2**20
_PASSED_OVER = re.compile(r"(^|/)(__MACOSX|\.DS_Store|\._[^/]*)(/|$)")
_BLOCK = 2**20


def unpack_zip(
    archive: Path,
    folder: Path,
    *,
    patterns: Iterable[str] = ("*",),
    flatten: bool = False,
    progress: Callable[[int], object] | None = None,
) -> list[Path]:
    """Unpack a zip; interrupted, it goes on with the files that are missing.

    Args:
        archive (`Path`): The zip.
        folder (`Path`): Where to.
        patterns (`Iterable[str]`): Which members, with `*` for any text (`"annotations/captions_*.json"`).
        flatten (`bool`, defaults to `False`): Leave out the folders of the zip.
        progress (`Callable`, *optional*): Called with 1 for each file.

    Returns:
        `list[Path]`: The files, each of which has the size and the CRC that the zip states.

    Raises:
        DataError: It is not a whole zip, a member would land outside of the folder, it unpacks to far more than its
            own size, it has none of the members, or the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = _check(archive, opened.infolist())
            chosen = [info for info in members if any(fnmatch.fnmatchcase(info.filename, each) for each in patterns)]
            if not chosen:
                raise DataError(f"{archive} holds nothing that is called {' or '.join(patterns)}: it is another file.")
            needed = sum(info.file_size for info in chosen)
            _check_size(archive, needed)
            check_space(folder, needed, f"unpack {archive.name}")
            written = []
            for info in chosen:
                target = folder / (info.filename.rpartition("/")[2] if flatten else info.filename)
                if not _is_whole(target, info):
                    _extract(opened, info, target)
                written.append(target)
                if progress is not None:
                    progress(1)
            return written
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive} is not a whole zip file: {str(error) or type(error).__name__}.") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be unpacked into {folder}: {error.strerror or error}.") from error


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """Refuse what does not fit on the disk.

    Args:
        folder (`Path`): Where it would go; it need not exist yet.
        needed (`int`): Bytes.
        purpose (`str`): What for, as the end of the sentence "... are needed to ...".

    Raises:
        DataError: Less is free.
    """
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DataError(
            f"{describe_bytes(needed)} are needed to {purpose}, and the disk of {folder} has {describe_bytes(free)} "
            "free. Make room, or name another folder."
        )


def describe_bytes(count: float) -> str:
    """1536 as "1.5 KiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("the last unit is returned")


def _check(archive: Path, members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The files of a zip, all of whose names are safe. One that is not condemns the whole."""
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{archive} has {len(members)} members, more than {MAX_MEMBERS}: nothing was unpacked.")
    files = []
    for info in members:
        name = info.filename
        parts = name.rstrip("/").split("/")
        # A colon is a drive or a stream on Windows; a device's name cannot be a file there, and is no name of a photo.
        unsafe = name.startswith("/") or any(part in ("", ".", "..") or set(part) & set("\\:\0") for part in parts)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if unsafe or kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "leads out of its folder" if unsafe else "is a link or a device"
            raise DataError(f"{archive}: the member {name[:100]!r} {what}. Nothing was unpacked.")
        if info.flag_bits & 1:
            raise DataError(f"{archive}: the member {name[:100]!r} is encrypted. Nothing was unpacked.")
        if not info.is_dir() and not _PASSED_OVER.search(name):
            files.append(info)
    return files


def _check_size(archive: Path, needed: int) -> None:
    allowed = max(_SMALL, MAX_RATIO * archive.stat().st_size)
    if needed > allowed:
        raise DataError(
            f"{archive} of {describe_bytes(archive.stat().st_size)} would unpack to {describe_bytes(needed)}: no "
            "dataset is packed so tightly. Nothing was unpacked."
        )


def _is_whole(target: Path, info: zipfile.ZipInfo) -> bool:
    if not target.is_file() or target.stat().st_size != info.file_size:
        return False
    crc = 0
    with target.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc == info.CRC


def _extract(opened: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> None:
    """One member, under its name only when it is whole. `zipfile` reads no more than the stated size, and checks the
    CRC at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part: Any = target.with_name(target.name + ".part")
    try:
        with opened.open(info) as source, part.open("wb") as file:
            shutil.copyfileobj(source, file, _BLOCK)
        if part.stat().st_size != info.file_size:
            raise zipfile.BadZipFile(f"{info.filename} ends early")
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
