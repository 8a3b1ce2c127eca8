"""`fetch_dataset`: the files of a published dataset, checked, unpacked, and where the sources look for them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, DataError, SourceFormatError
from ...jsonlines import read_json_object, write_json
from ...narrator import Narrator, Silent
from .catalog import MIRROR, OPEN_IMAGES, Part, Published, RemoteFile, published
from .images import download_named, karpathy_from_hub, open_images
from .resumable import FileLimits, Received, download_file, part_of
from .unpack import check_space, describe_bytes, unpack_zip

MANIFEST = "fetched.json"
ARCHIVES = ".downloads"
"""Where archives are kept until they are unpacked."""


@dataclass(slots=True)
class Fetched:
    """What became of a download.

    Args:
        folder (`Path`): Where the dataset is.
        parts (`list[str]`): The parts that are here.
        files (`dict[str, dict]`): URL to what is known of the file, as in the manifest.
        images (`int`): How many images of lists are here.
        failed (`dict[str, str]`): Image URL to reason, or reason to count: what could not be had.
    """

    folder: Path
    parts: list[str]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: int = 0
    failed: dict[str, Any] = field(default_factory=dict)


def needed_bytes(parts: Mapping[str, Part], done: Mapping[str, Any], archives: Path, keep: bool, share: float) -> int:
    """About how much more room a download needs at its fullest moment.

    Args:
        parts (`Mapping[str, Part]`): What is to be fetched.
        done (`Mapping[str, Any]`): Files that are here already, by URL.
        archives (`Path`): Where half-finished ones are.
        keep (`bool`): Whether archives stay after they are unpacked.
        share (`float`): How much of the images of lists is wanted, from 0 to 1.
    """
    room = peak = 0
    for part in parts.values():
        for file in part.files:
            if file.url in done:
                continue
            half = part_of(archives / file.name)
            there = half.stat().st_size if half.is_file() else 0
            archive = max(0, file.bytes - there)
            peak = max(peak, room + archive + file.unpacked)
            room += file.unpacked + (archive if keep or not file.members else 0)
        room += round(part.bytes_of_images * share)
    return max(peak, room)


def fetch_dataset(
    name: str,
    folder: str | os.PathLike,
    *,
    accept_license: bool,
    parts: Sequence[str] | None = None,
    images: int | None = None,
    keep_archives: bool = False,
    expected: Mapping[str, str] | None = None,
    mirror: str | None = None,
    limits: FileLimits | None = None,
    allow_private: bool = False,
    narrator: Narrator | None = None,
) -> Fetched:
    """Download a published dataset into a folder that `load_source(name, data_dir=folder)` reads.

    Stopped at any time, the same call goes on where it was. What is here, with size and SHA-256, is in `fetched.json`.

    Args:
        name (`str`): "coco", "flickr8k", "flickr30k", "nocaps", "conceptual-captions" or "spice".
        folder (`str` or `os.PathLike`): Where to.
        accept_license (`bool`): That you have read and agree to the licence (`published(name).licence`).
        parts (`Sequence[str]`, *optional*): Parts of it; see `published(name).parts`.
        images (`int`, *optional*): Only the first so many images of each list of images (nocaps, Conceptual Captions).
        keep_archives (`bool`, defaults to `False`): Keep the zip files, in `.downloads/`.
        expected (`Mapping[str, str]`, *optional*): URL to SHA-256, as another machine has received it.
        mirror (`str`, *optional*): Where `host/path` of the official addresses is found instead; by default what
            `BLIP_REFINE_MIRROR` names. It may be in a private network.
        limits (`FileLimits`, *optional*): What the download of a file may cost.
        allow_private (`bool`, defaults to `False`): Download the images of Conceptual Captions, whose addresses
            strangers wrote, from private addresses, too.
        narrator ([`Narrator`], *optional*): Who is told what goes on.

    Raises:
        ConfigurationError: An unknown name or part, an option that it does not take, or a licence not agreed to.
        DataError: A file cannot be had, is not what was published, or does not fit on the disk.
        HubError: The Hub cannot be reached.
    """
    from filelock import FileLock, Timeout

    one, narrator = published(name), narrator or Silent()
    chosen = one.choose(None if parts is None else list(parts), name)
    if images is not None and (images < 1 or not any(part.images for part in chosen.values())):
        what = "it must be at least 1" if images < 1 else f"{name} comes in whole archives: choose parts instead"
        raise ConfigurationError(f"A number of images cannot be {images}: {what}.")
    if not accept_license:
        raise ConfigurationError(f"The licence of {name} must be agreed to first. Read it: {one.terms}")
    folder, mirror = Path(folder), mirror or os.environ.get(MIRROR) or None
    folder.mkdir(parents=True, exist_ok=True)
    archives = folder / ARCHIVES
    archives.mkdir(exist_ok=True)
    try:
        with FileLock(archives / "lock", timeout=0):
            run = _Run(one, folder, archives, chosen, mirror, limits, expected or {}, keep_archives, narrator)
            run.files()
            run.rest(images, allow_private)
            return run.finish()
    except Timeout as error:
        raise DataError(f"Another process is fetching into {folder}. Wait for it, or name another folder.") from error
    finally:
        _tidy(archives)


class _Run:
    def __init__(
        self,
        one: Published,
        folder: Path,
        archives: Path,
        parts: dict[str, Part],
        mirror: str | None,
        limits: FileLimits | None,
        expected: Mapping[str, str],
        keep: bool,
        narrator: Narrator,
    ):
        self.one, self.folder, self.archives, self.parts, self.mirror = one, folder, archives, parts, mirror
        # A mirror is the user's own choice, and mostly in a private network.
        self.limits = limits or FileLimits(allow_private=mirror is not None)
        self.expected, self.keep, self.narrator = expected, keep, narrator
        self.manifest = read_manifest(folder)
        self.fetched = Fetched(folder, [], self.manifest["files"])

    def files(self) -> None:
        """Download and unpack what is not here yet."""
        done = {url: known for url, known in self.manifest["files"].items() if is_here(self.folder, known)}
        needed = needed_bytes(self.parts, done, self.archives, self.keep, 0.0)
        check_space(self.folder, needed, f"fetch {', '.join(self.parts)}")
        for part in self.parts.values():
            for file in part.files:
                if file.url in done:
                    self.narrator.note(f"{file.name} is here already.")
                    continue
                known = self._file(file)
                self.manifest["files"][file.url] = known
                self.manifest |= {"terms": self.one.terms, "licence_accepted": True}
                write_json(self.folder / MANIFEST, self.manifest)

    def _file(self, file: RemoteFile) -> dict[str, Any]:
        sha256 = self.expected.get(file.url)
        archive = (self.archives if file.members else self.folder) / file.name
        received = self._from_hub(file, archive) if file.hub else self._download(file, archive)
        if sha256 and sha256 != received.sha256:
            archive.unlink()
            raise DataError(
                f"{file.url} has the SHA-256 {received.sha256}, and the other machine received {sha256}: the file was "
                "changed. It was removed."
            )
        known: dict[str, Any] = {"bytes": received.bytes, "sha256": received.sha256, "md5": received.md5}
        known["checked"] = "published MD5" if file.md5 else "SHA-256 of the Hub" if file.hub else "size"
        if not file.members:
            known["unpacked"] = {file.name: 1}
            return known
        with self.narrator.progress(f"Unpacking {file.name}") as advance:
            try:
                written = unpack_zip(
                    archive, self.folder, patterns=file.members, flatten=file.flatten, progress=advance
                )
            except DataError:
                if not file.md5 and not _is_zip(archive):
                    archive.unlink(missing_ok=True)  # no checksum has told: the same command downloads it again
                raise
        known["checked"] += ", CRC of each file"
        folders = [path.parent.relative_to(self.folder).as_posix() for path in written]
        known["unpacked"] = {name: folders.count(name) for name in dict.fromkeys(folders)}
        if not self.keep:
            archive.unlink()
        return known

    def _download(self, file: RemoteFile, archive: Path) -> Received:
        url = file.address(self.mirror)
        self.narrator.note(f"{url} ({describe_bytes(file.bytes)})")
        with self.narrator.progress(file.name, file.bytes, in_bytes=True) as advance:
            return download_file(
                url, archive, limits=self.limits, md5=file.md5, progress=advance, note=self.narrator.note
            )

    def _from_hub(self, file: RemoteFile, archive: Path) -> Received:
        from ..sources.hub import download_from_hub
        from .resumable import checksums

        repo, _, revision = str(file.hub).partition("@")
        self.narrator.note(f"{file.url} ({describe_bytes(file.bytes)})")
        published_sha256 = download_from_hub(repo, file.name, revision, archive.parent)
        received = checksums(archive)
        if published_sha256 and published_sha256 != received.sha256:
            archive.unlink()
            raise DataError(
                f"{file.url} has the SHA-256 {received.sha256}, and the Hub states {published_sha256}. It was "
                "removed; try again."
            )
        return received

    def rest(self, images: int | None, allow_private: bool) -> None:
        """What comes after the files."""
        for name, part in self.parts.items():
            if part.images:
                share = min(1.0, images / part.images) if images else 1.0
                there = _stored(self.folder / name)
                room = max(0, round(part.bytes_of_images * share) - there)
                check_space(self.folder, room, f"download the images of {name}")
                path = self.folder / part.files[0].name
                if self.one.source == "nocaps":
                    self._open_images(path, name, images)
                else:
                    self._listed(path, name, images, allow_private)
        table = self.folder / "flickr_annotations_30k.csv"
        if self.one.source == "flickr30k" and table.is_file():
            karpathy_from_hub(table, self.folder / "dataset_flickr30k.json")

    def finish(self) -> Fetched:
        """Write down which parts are here, of this and earlier runs."""
        self.fetched.parts = sorted({*self.manifest.get("parts", ()), *self.parts})
        write_json(self.folder / MANIFEST, {**self.manifest, "parts": self.fetched.parts})
        return self.fetched

    def _open_images(self, path: Path, name: str, images: int | None) -> None:
        from ..sources.http_fetch import FetchLimits

        ids = open_images(path)[:images]
        base = RemoteFile(f"{OPEN_IMAGES}/{'validation' if name == 'val' else 'test'}", 0).address(self.mirror)
        rows = [(f"{base}/{one}.jpg", self.folder / name / f"{one}.jpg") for one in ids]
        limits = FetchLimits(timeout=self.limits.timeout, allow_private=self.limits.allow_private)
        with self.narrator.progress(f"Downloading images of {name}", len(rows)) as advance:
            failed = download_named(rows, limits=limits, progress=advance)
        self.fetched.images += len(rows) - len(failed)
        self.fetched.failed |= failed
        if rows and len(failed) == len(rows):
            url, reason = next(iter(failed.items()))
            raise DataError(
                f"Not one of the {len(rows)} images of {name} could be downloaded. The first: {url}: {reason}."
            )

    def _listed(self, path: Path, name: str, images: int | None, allow_private: bool) -> None:
        from ..sources.conceptual_captions import download, is_url_list
        from ..sources.http_fetch import FetchLimits

        if not is_url_list(path):
            raise SourceFormatError(f"{path} is not a list of captions and URLs.")
        total = images or self.parts[name].images
        with self.narrator.progress(f"Downloading images of {name}", total) as advance:
            report = download(
                path,
                self.folder / name,
                limit=images,
                limits=FetchLimits(allow_private=allow_private),
                progress=advance,
                retry_failed=True,
            )
        self.fetched.images += report.downloaded + report.resumed
        for reason, count in report.failures.items():
            self.fetched.failed[reason] = self.fetched.failed.get(reason, 0) + count


def read_manifest(folder: Path) -> dict[str, Any]:
    """`fetched.json` of a folder, or what it is before anything is there.

    Raises:
        SourceFormatError: It is not one.
    """
    value = read_json_object(folder / MANIFEST)
    files = value.setdefault("files", {})
    if not isinstance(files, dict) or not all(isinstance(known, dict) for known in files.values()):
        raise SourceFormatError(f"{folder / MANIFEST} is not a list of fetched files. Delete it to fetch anew.")
    return value


def read_expected(path: Path) -> dict[str, str]:
    """URL to SHA-256 of another machine's manifest.

    Raises:
        ConfigurationError: It is not one.
    """
    files = read_json_object(path).get("files") if path.is_file() else None
    if not isinstance(files, dict) or not files or not all("sha256" in known for known in files.values()):
        raise ConfigurationError(f"{path} is not the {MANIFEST} of another machine.")
    return {url: known["sha256"] for url, known in files.items()}


def is_here(folder: Path, known: Mapping[str, Any]) -> bool:
    """Whether what was unpacked of a file is still there: as many files in each folder as there were."""
    for name, count in known.get("unpacked", {}).items():
        path = folder / name
        if path.is_file():
            continue
        if not path.is_dir() or sum(entry.is_file() for entry in os.scandir(path)) < count:
            return False
    return bool(known.get("unpacked"))


def _is_zip(path: Path) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as opened:
            return opened.testzip() is None
    except Exception:
        return False


def _stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def _tidy(archives: Path) -> None:
    """Take away the folder of archives where nothing is left in it but its lock."""
    if {path.name for path in archives.iterdir()} <= {"lock", ".cache"}:
        import shutil

        shutil.rmtree(archives, ignore_errors=True)
