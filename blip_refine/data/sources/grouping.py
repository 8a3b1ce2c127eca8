"""From rows (one image, one or several captions) to records (one image, all its captions).

Every source ends here, which is what makes a split by caption row impossible: after this there are no rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import SourceFormatError
from ...records import CaptionRecord, ImageInput
from ..rejections import Rejections

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "restval": "restval",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What data sets call their splits, and what this library calls them. "restval" is COCO's; its source decides."""


def split_name(name: str | None) -> str | None:
    """The library's name of a split ("dev" and "val" are "validation"); an unknown name stays as it is."""
    if name is None or not str(name).strip():
        return None
    return SPLIT_NAMES.get(str(name).strip().lower(), str(name).strip())


@dataclass(slots=True)
class Row:
    """One row of a source.

    Args:
        key (`str`): What makes two rows the same image: its path, or the hash of its bytes.
        image (`str`, `os.PathLike`, `bytes` or `PIL.Image.Image`): The picture.
        captions (`tuple[str, ...]`): What the row says about it.
        image_id (`str`): Its name.
        split (`str`, *optional*): Its split, under any usual name.
        metadata (`Mapping[str, Any]`): What else the row holds.
        where (`str`): Where the row stands, for messages.
        prompt (`str`, *optional*): What the image's captions begin with.
    """

    key: str
    image: ImageInput
    captions: tuple[str, ...]
    image_id: str
    split: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    prompt: str | None = None


def group_rows(rows: Iterable[Row], source: str, rejections: Rejections) -> list[CaptionRecord]:
    """One record an image, in order of first appearance, with the captions of all its rows in their order.

    Args:
        rows (`Iterable[Row]`): In any order.
        source (`str`): The name of the source, kept in each record.
        rejections (`Rejections`): Rows that say an image's split otherwise than its first row are noted here.

    Raises:
        SourceFormatError: Two different images have the same name, or the rows of one image have different prompts.
    """
    firsts: dict[str, Row] = {}
    captions: dict[str, list[str]] = {}
    owner_of_id: dict[str, str] = {}
    for row in rows:
        first = firsts.get(row.key)
        if first is None:
            owner = owner_of_id.setdefault(row.image_id, row.key)
            if owner != row.key:
                raise SourceFormatError(
                    f"{source}: two different images are both called {row.image_id!r} "
                    f"({firsts[owner].where} and {row.where}). Names must be unique: name another column, "
                    "id_column=...",
                    arguments=("id_column",),
                )
            firsts[row.key] = first = row
            captions[row.key] = []
        elif split_name(row.split) != split_name(first.split):
            # The same image in two splits is the leak that this library exists to prevent: the first split keeps it.
            rejections.add("image in two splits", row.image_id, row.where, f"{row.split}, first seen in {first.split}")
        _check_prompt(first, row)
        captions[row.key].extend(row.captions)
    return [
        CaptionRecord(
            image=row.image,
            captions=tuple(captions[key]),
            image_id=row.image_id,
            split=split_name(row.split),
            source=source,
            metadata=dict(row.metadata),
            prompt=row.prompt,
        )
        for key, row in firsts.items()
    ]


def _check_prompt(first: Row, row: Row) -> None:
    if row.prompt != first.prompt:
        raise SourceFormatError(
            f"{row.where}: the image {row.image_id!r} has the prompt {row.prompt!r}, and in {first.where} "
            f"{first.prompt!r}. An image has one prompt for all its captions."
        )


def group_adjacent_rows(rows: Iterable[Row], source: str) -> Iterator[CaptionRecord]:
    """The streaming form: rows of an image are taken together where they follow each other.

    Args:
        rows (`Iterable[Row]`): With the rows of one image next to each other, as all published caption sets have them.
        source (`str`): The name of the source, kept in each record.
    """
    first: Row | None = None
    captions: list[str] = []

    def record(row: Row) -> CaptionRecord:
        return CaptionRecord(
            row.image,
            tuple(captions),
            row.image_id,
            split_name(row.split),
            source,
            metadata=dict(row.metadata),
            prompt=row.prompt,
        )

    for row in rows:
        if first is not None and row.key != first.key:
            yield record(first)
            first, captions = None, []
        if first is None:
            first = row
        _check_prompt(first, row)
        captions.extend(row.captions)
    if first is not None:
        yield record(first)
