"""What `blip-refine caption` writes beside the photos: sidecar texts, and copies that carry their caption."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from pathlib import Path

from ..caption_files import cannot_write
from ..data.alt_text import embed_alt_text
from ..errors import ConfigurationError, DataError, ImageDecodeError
from ..inputs import ImageSource
from ..jsonlines import atomic_write
from .caption_inputs import CommandInputs, local_path

KEPT = "files kept that were there (--overwrite replaces them)"


class Copies:
    """Writes sidecars and copies. May be called from several threads.

    Args:
        inputs ([`CommandInputs`]): The images of the run. Copies lie in the same folders below `folder` as the images
            do in what was named.
        sidecar (`bool`): Write `photo.txt` beside `photo.jpg`.
        folder (`Path`, *optional*): Where copies with embedded captions go.
        overwrite (`bool`): Replace files that are there; otherwise those that an earlier run did not write are kept.

    Raises:
        ConfigurationError: The copies would lie where the images do, or cannot be written.
    """

    def __init__(self, inputs: CommandInputs, *, sidecar: bool, folder: Path | None, overwrite: bool):
        self.inputs, self.sidecar, self.folder, self.overwrite = inputs, sidecar, folder, overwrite
        self.wanted = sidecar or folder is not None
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self._owners: dict[Path, Path] = {}
        self._lock = threading.Lock()
        places = [*inputs.roots, *(os.path.dirname(path) for path in inputs.paths if os.path.isfile(path))]
        if folder is not None and os.path.realpath(folder) in map(os.path.realpath, places):
            raise ConfigurationError(
                f"--embed-metadata writes copies, and {folder} holds the images: name another folder."
            )

    def claim(self, source: ImageSource) -> None:
        """Give an image the places of its files. Called for all images in their order, also for those that another run
        or machine captions, so that each has the same places every time."""
        photo = local_path(source)
        if photo is None or not self.wanted:
            return
        if self.sidecar:
            self._owners.setdefault(photo.with_suffix(".txt"), photo)
        if self.folder is not None:
            self._owners.setdefault(self._copy_of(source, photo), photo)

    def _copy_of(self, source: ImageSource, photo: Path) -> Path:
        assert self.folder is not None
        return self.folder / (self.inputs.name_within(source) or photo.name)

    def _place(self, wanted: Path, other: Path, photo: Path) -> Path:
        """`wanted`, or `other` where another photo has it (a.jpg and a.png) or where it is the photo."""
        return wanted if self._owners.get(wanted, photo) == photo and wanted != photo else other

    def write(self, source: ImageSource, caption: str, previous: str | None, *, fresh: bool = True) -> None:
        """Write what is wanted for one image. Without a caption there is nothing to write.

        Args:
            source ([`ImageSource`]): The image.
            caption (`str`): What is said of it now.
            previous (`str`, *optional*): What an earlier run said of it, and wrote.
            fresh (`bool`, defaults to `True`): Whether this run captioned it; otherwise only what is missing is made.
        """
        photo = local_path(source)
        if not caption or not self.wanted:
            return
        if photo is None:
            self._count("images without a folder for a file beside them")
            return
        if self.sidecar:
            target = self._place(photo.with_suffix(".txt"), photo.with_name(photo.name + ".txt"), photo)
            self._write_sidecar(target, caption, previous)
        if self.folder is not None:
            flat = "_".join(part for part in photo.parts if part not in (photo.anchor, "..", "."))
            target = self._place(self._copy_of(source, photo), self.folder / flat, photo)
            self._write_copy(photo, target, caption, previous is not None, fresh)

    def _write_sidecar(self, target: Path, caption: str, previous: str | None) -> None:
        try:
            if os.path.lexists(target) and not self.overwrite:
                held = target.read_text(encoding="utf-8", errors="replace") if target.is_file() else None
                if held == caption + "\n":
                    return
                if previous is None or held != previous + "\n":
                    self._count(KEPT)
                    return
            with atomic_write(target) as file:
                file.write(caption + "\n")
            self._count("sidecars")
        except OSError as error:
            self._failed("sidecars", target, error)

    def _write_copy(self, photo: Path, target: Path, caption: str, is_ours: bool, fresh: bool) -> None:
        try:
            if os.path.lexists(target):
                if os.path.exists(target) and os.path.samefile(photo, target):
                    self._count("copies that would have replaced their photo")
                    return
                if not self.overwrite and not fresh:
                    return
                if not self.overwrite and not is_ours:
                    self._count(KEPT)
                    return
            embed_alt_text(photo, target, caption)
            self._count("copies with alt text")
        except ImageDecodeError:
            self._count("images that cannot carry alt text")
        except OSError as error:
            self._failed("copies", target, error)

    def _failed(self, what: str, target: Path, error: OSError) -> None:
        """One folder that may not be written to must not end the run; a full disk has to."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise cannot_write(target, error) from error
        with self._lock:
            self.failures[f"{what} that could not be written: {error.strerror or error}"] += 1

    def _count(self, name: str) -> None:
        with self._lock:
            self.counts[name] += 1

    def summary(self) -> list[str]:
        """What was written, and what was not."""
        return [f"{count} {name}" for name, count in [*self.counts.items(), *self.failures.items()]]

    def check(self) -> None:
        """Called at the end of a run.

        Raises:
            DataError: Nothing that was wanted could be written.
        """
        if self.failures and not self.counts:
            name, count = self.failures.most_common(1)[0]
            raise DataError(f"None of the files beside the images could be written ({count} {name}).")
