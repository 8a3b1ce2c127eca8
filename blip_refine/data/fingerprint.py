"""The fingerprint of a data set: one hash over content and splits, and its images' hashes to check against later."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import SourceFormatError, SourceNotFoundError
from ..jsonlines import atomic_write
from ..records import CaptionRecord
from .duplicates import ImageHash, hash_records

FORMAT = "blip_refine.fingerprint/1"
TRAINING_FINGERPRINT_FILE = "training_fingerprint.json"
"""What a checkpoint was trained on, in its folder."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a data set was, small enough to travel with a checkpoint.

    Args:
        value (`str`): The hash over all images, captions and splits, independent of their order.
        image_ids (`tuple[str, ...]`): The images' names.
        splits (`tuple[str | None, ...]`): The split of each image.
        hashes (`tuple[ImageHash, ...]`): What each image is recognised by.
    """

    value: str
    image_ids: tuple[str, ...]
    splits: tuple[str | None, ...]
    hashes: tuple[ImageHash, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    @classmethod
    def of(cls, records: Sequence[CaptionRecord], hashes: Sequence[ImageHash] | None = None) -> Fingerprint:
        """The fingerprint of records.

        Args:
            records (`Sequence[CaptionRecord]`): The data set, or the part of it that was trained on.
            hashes (`Sequence[ImageHash]`, *optional*): The images' hashes, where they are known already.

        Raises:
            ImageDecodeError: An image cannot be read.
        """
        hashes = hash_records(records) if hashes is None else hashes
        rows = sorted(
            json.dumps([hashed.content, record.split, sorted(record.captions)], ensure_ascii=False)
            for record, hashed in zip(records, hashes, strict=True)
        )
        digest = hashlib.sha256("\n".join(rows).encode("utf-8", "surrogatepass")).hexdigest()
        return cls(
            value=f"sha256:{digest}",
            image_ids=tuple(record.image_id for record in records),
            splits=tuple(record.split for record in records),
            hashes=tuple(hashes),
        )

    def joined(self, other: Fingerprint) -> Fingerprint:
        """The fingerprint of this and of what came before it: all the images that a model has seen."""
        value = hashlib.sha256(f"{self.value} {other.value}".encode()).hexdigest()
        return Fingerprint(
            f"sha256:{value}", self.image_ids + other.image_ids, self.splits + other.splits, self.hashes + other.hashes
        )

    def split_of_content(self) -> dict[str, str]:
        """Content hash to split: what `split_by_image(previous=...)` takes."""
        pairs = zip(self.hashes, self.splits, strict=True)
        return {hashed.content: split for hashed, split in pairs if split is not None}


def fingerprint_records(records: Sequence[CaptionRecord]) -> str:
    """One hash over the content of the images, their captions and their splits, independent of the records' order.

    Args:
        records (`Sequence[CaptionRecord]`): The data set.

    Returns:
        `str`: `"sha256:"` and 64 hex digits.

    Raises:
        ImageDecodeError: An image cannot be read.
    """
    hashes = hash_records(records, perceptual=False)
    return Fingerprint.of(records, hashes).value


def save_fingerprint(records: Sequence[CaptionRecord] | Fingerprint, path: str | os.PathLike) -> str:
    """Write a fingerprint as JSON, so that a later evaluation can be checked against it.

    Args:
        records (`Sequence[CaptionRecord]` or `Fingerprint`): What was trained on.
        path (`str` or `os.PathLike`): The file.

    Returns:
        `str`: The fingerprint's value.
    """
    fingerprint = records if isinstance(records, Fingerprint) else Fingerprint.of(records)
    rows = [
        [image_id, split, hashed.content, hashed.perceptual]
        for image_id, split, hashed in zip(fingerprint.image_ids, fingerprint.splits, fingerprint.hashes, strict=True)
    ]
    with atomic_write(path) as file:
        file.write(f'{{"format": {json.dumps(FORMAT)},\n "fingerprint": {json.dumps(fingerprint.value)},\n')
        file.write(' "columns": ["image_id", "split", "content", "perceptual"],\n "images": [\n')
        file.write(",\n".join(json.dumps(row) for row in rows))
        file.write("\n]}\n")
    return fingerprint.value


def training_fingerprint(*checkpoints: str | os.PathLike | None) -> Fingerprint | None:
    """What checkpoints say that they were trained on.

    Args:
        *checkpoints (`str` or `os.PathLike`, *optional*): Folders; a model and the adapter that lies over it. What is
            no folder, or says nothing, is passed over.

    Returns:
        `Fingerprint`, *optional*: Of all of them; `None` where none says anything.

    Raises:
        SourceFormatError: What is there is no fingerprint.
    """
    found: Fingerprint | None = None
    for folder in dict.fromkeys(str(checkpoint) for checkpoint in checkpoints if checkpoint):
        path = Path(folder) / TRAINING_FINGERPRINT_FILE
        if path.is_file():
            one = load_fingerprint(path)
            found = one if found is None else found.joined(one)
    return found


def load_fingerprint(path: str | os.PathLike) -> Fingerprint:
    """Read what `save_fingerprint` wrote.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It is no fingerprint.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        if content["format"] != FORMAT:
            raise SourceFormatError(f"{path}: a fingerprint of the form {content['format']!r}, expected {FORMAT!r}.")
        images = content["images"]
        return Fingerprint(
            value=content["fingerprint"],
            image_ids=tuple(row[0] for row in images),
            splits=tuple(row[1] for row in images),
            hashes=tuple(ImageHash(row[2], row[3]) for row in images),
        )
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"There is no fingerprint {str(path)!r}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
        raise SourceFormatError(
            f"{path} is no fingerprint of a data set ({type(error).__name__}: {error})."
        ) from error
