"""Splits of a source: its own, or those that are made by image because it has none."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import ConfigurationError, SplitNotFoundError
from ...records import CaptionRecord

logger = logging.getLogger("blip_refine.data.sources.registry")


def take_split(
    records: Sequence[CaptionRecord], wanted: str | None, name: str, ratios: Mapping[str, float] | None, seed: int
) -> list[CaptionRecord]:
    """The records of one split, or all with their splits made.

    Args:
        records (`Sequence[CaptionRecord]`): Of one source.
        wanted (`str`, *optional*): The split.
        name (`str`): What to call the source in messages.
        ratios (`Mapping[str, float]`, *optional*): Make splits of these sizes, even if the source has its own.
        seed (`int`): Random seed for splits that are made.

    Raises:
        SplitNotFoundError, ConfigurationError: The source has no such split, and none is made.
        DataError: Too few images for the splits to make.
    """
    if wanted is not None and ratios is None and has_own_splits(records):
        return of_split(records, wanted, name)
    check_made(wanted, ratios, name)
    parts = all_splits(records, name, ratios, seed)
    if wanted is not None:
        return parts[wanted]
    split_of = {record.image_id: part for part, chosen in parts.items() for record in chosen}
    return [replace(record, split=split_of[record.image_id]) for record in records]


def all_splits(
    records: Sequence[CaptionRecord], name: str, ratios: Mapping[str, float] | None = None, seed: int = 0
) -> dict[str, list[CaptionRecord]]:
    """The records of each split: the source's own, or those that are made. See [`take_split`]."""
    from ..splits import split_by_image

    if ratios is None and has_own_splits(records):
        own: dict[str, list[CaptionRecord]] = {}
        for record in records:
            if record.split is not None:
                own.setdefault(record.split, []).append(record)
        return own
    if ratios is None and any(record.split is not None for record in records):
        logger.warning(
            "%s has a split 'train' and no other, so its images are split by image: 90 / 5 / 5 percent, by default.",
            name,
        )
        records = [record for record in records if record.split is not None]
    elif ratios is None and name.startswith("flickr"):
        logger.warning(
            "%s: the official split is not known here, so one is made by image; scores on it do not compare with "
            "published ones. The folder of the official lists is named with split_lists=... (--split-lists); on the "
            "Hub, 'jxie/flickr8k' has them.",
            name,
        )
    return split_by_image(records, ratios, seed)


def has_own_splits(records: Sequence[CaptionRecord]) -> bool:
    """Whether there is anything to evaluate on: what is all called "train" has not been split yet."""
    return bool({record.split for record in records} - {None, "train"})


def check_made(wanted: str | None, ratios: Mapping[str, float] | None, name: str) -> None:
    """Refuse a split that would not be made."""
    from ..splits import DEFAULT_RATIOS

    made = ratios or DEFAULT_RATIOS
    if wanted is not None and wanted not in made:
        raise ConfigurationError(
            f"{name} has no split {wanted!r}: its images are split into {', '.join(made)}. Ask for one of these "
            "with split=..., or for other splits with ratios=...",
            arguments=("split", "ratios"),
        )


def of_split(records: Sequence[CaptionRecord], wanted: str, name: str) -> list[CaptionRecord]:
    """The records of one of the source's own splits."""
    own = sorted({record.split for record in records if record.split is not None})
    if wanted not in own:
        raise SplitNotFoundError(
            f"{name} has no split {wanted!r}; it has {', '.join(map(repr, own))}. Read one of these, or make splits "
            "of it by image: ratios={'train': 0.9, 'validation': 0.05, 'test': 0.05}.",
            arguments=("ratios",),
        )
    return [record for record in records if record.split == wanted]
