"""What `blip-refine caption` writes beside the photos: sidecar texts, and copies that carry their caption."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ..data.alt_text import embed_alt_text
from ..errors import ImageDecodeError
from ..inputs import ImageSource
from ..jsonlines import atomic_write


class Copies:
    """Writes sidecars and copies.

    Args:
        sidecar (`bool`): Write `photo.txt` beside `photo.jpg`.
        folder (`Path`, *optional*): Where copies with embedded captions go.
        overwrite (`bool`): Replace files that are there; otherwise they are kept.
    """

    def __init__(self, *, sidecar: bool, folder: Path | None, overwrite: bool):
        self.sidecar, self.folder, self.overwrite = sidecar, folder, overwrite
        self.counts: Counter[str] = Counter()
        self._taken: dict[Path, str] = {}

    def write(self, source: ImageSource, caption: str) -> None:
        """Write what is wanted for one image. Without a caption there is nothing to write."""
        if not caption or not isinstance(source.image, (str, Path)):
            return
        photo = Path(source.image)
        if self.sidecar:
            target = self._place(photo.with_suffix(".txt"), photo.with_name(photo.name + ".txt"), source)
            if self._free(target):
                with atomic_write(target) as file:
                    file.write(caption + "\n")
                self.counts["sidecars"] += 1
        if self.folder is not None:
            flat = "_".join(part for part in photo.parts if part not in (photo.anchor, "..", "."))
            target = self._place(self.folder / photo.name, self.folder / flat, source)
            if self._free(target):
                try:
                    embed_alt_text(photo, target, caption)
                    self.counts["copies with alt text"] += 1
                except ImageDecodeError:
                    self.counts["images that cannot carry alt text"] += 1

    def _place(self, wanted: Path, other: Path, source: ImageSource) -> Path:
        """`wanted`, or `other` where another photo of this run has it (a.jpg and a.png, x/a.jpg and y/a.jpg)."""
        owner = self._taken.setdefault(wanted, source.image_id)
        return wanted if owner == source.image_id else other

    def _free(self, target: Path) -> bool:
        if self.overwrite or not os.path.lexists(target):
            return True
        self.counts["files kept that were there (--overwrite replaces them)"] += 1
        return False

    def summary(self) -> list[str]:
        """What was written, and what was not."""
        return [f"{count} {name}" for name, count in self.counts.items()]
