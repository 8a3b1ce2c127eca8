"""Splits that cannot leak: by image, by content, the same every time, and stable when data is added.

There are no rows here to split by. An image falls on one side by a hash of its content and the seed, so adding images
moves none of those that were there; all copies of a picture, exact or near, fall on the side of their group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import ConfigurationError
from ..records import CaptionRecord
from .duplicates import ImageHash, group_duplicates, hash_records
from .fingerprint import Fingerprint, fingerprint_records, load_fingerprint, save_fingerprint
from .leakage import Overlap, ensure_no_overlap, find_overlap
from .rejections import Rejections

__all__ = [
    "DEFAULT_RATIOS",
    "Fingerprint",
    "Overlap",
    "ensure_no_overlap",
    "find_overlap",
    "keep_on_one_side",
    "fingerprint_records",
    "load_fingerprint",
    "save_fingerprint",
    "split_by_image",
    "split_the_unsplit",
]

DEFAULT_RATIOS: Mapping[str, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}

_PRECEDENCE = {"train": 0, "validation": 2, "test": 3}
"""Which split keeps a picture that is in several; other names come between train and validation."""


def split_by_image(
    records: Sequence[CaptionRecord],
    ratios: Mapping[str, float] | None = None,
    seed: int = 0,
    *,
    near_duplicates: bool = True,
    previous: Mapping[str, str] | None = None,
    hashes: Sequence[ImageHash] | None = None,
) -> dict[str, list[CaptionRecord]]:
    """Split records so that no picture is on two sides.

    Args:
        records (`Sequence[CaptionRecord]`): From one source or several.
        ratios (`Mapping[str, float]`, *optional*): Name and share of each split; shares are normalised to sum to 1.
            90 / 5 / 5 percent for train, validation and test by default.
        seed (`int`, defaults to 0): Another seed gives another split.
        near_duplicates (`bool`, defaults to `True`): Whether re-encoded and resized copies are kept together too,
            which needs every image to be decoded once.
        previous (`Mapping[str, str]`, *optional*): Content hash to split of an earlier split that is to be kept. A
            group that was on two sides goes to "train": what was trained on is never evaluated.
        hashes (`Sequence[ImageHash]`, *optional*): The images' hashes, where they are known already.

    Returns:
        `dict[str, list[CaptionRecord]]`: A list for each name in `ratios`, in the order of `records`, each record
        with its `split` set. A split may be empty when there are few images.

    Raises:
        ConfigurationError: Ratios that are none.
        ImageDecodeError: An image cannot be read.
    """
    shares = _normalised(DEFAULT_RATIOS if ratios is None else ratios)
    if hashes is None:
        hashes = hash_records(records, perceptual=near_duplicates)
    result: dict[str, list[CaptionRecord]] = {name: [] for name in shares}
    assigned: list[str] = [""] * len(records)
    for group in group_duplicates(hashes):
        split = _earlier_split([hashes[place].content for place in group], previous or {}, shares)
        if split is None:
            # The smallest hash stands for the group, so that the order of the records has no say.
            split = _draw(min(hashes[place].content for place in group), seed, shares)
        for place in group:
            assigned[place] = split
    for record, split in zip(records, assigned, strict=True):
        result[split].append(replace(record, split=split))
    return result


def split_the_unsplit(
    records: Sequence[CaptionRecord],
    ratios: Mapping[str, float] | None = None,
    seed: int = 0,
    *,
    hashes: Sequence[ImageHash],
    previous: Mapping[str, str] | None = None,
) -> list[CaptionRecord]:
    """Splits for the sources that have none, beside sources that have.

    A picture of which a source with splits has a copy falls on the side of that copy. Images that a source with
    splits has left out of all of them stay left out.

    Args:
        records (`Sequence[CaptionRecord]`): Of several sources, told apart by their `source`.
        ratios, seed, previous: See `split_by_image`.
        hashes (`Sequence[ImageHash]`): Of the records' images.

    Returns:
        `list[CaptionRecord]`: In the same order.
    """
    with_splits = {record.source for record in records if record.split is not None}
    if all(record.source in with_splits for record in records):
        return list(records)
    official = {
        hashed.content: record.split
        for record, hashed in zip(records, hashes, strict=True)
        if record.split is not None
    }
    shares = {**dict.fromkeys(official.values(), 0.0), **(DEFAULT_RATIOS if ratios is None else ratios)}
    parts = split_by_image(records, shares, seed, previous={**(previous or {}), **official}, hashes=hashes)
    made = {(record.source, record.image_id): split for split, chosen in parts.items() for record in chosen}
    return [
        record if record.source in with_splits else replace(record, split=made[record.source, record.image_id])
        for record in records
    ]


def keep_on_one_side(
    records: Sequence[CaptionRecord],
    hashes: Sequence[ImageHash],
    rejections: Rejections,
) -> tuple[list[CaptionRecord], list[ImageHash]]:
    """Records that have splits already (official ones, or those of several sources), without pictures on two sides.

    A picture that is in several splits stays in the one that is evaluated, so that scores stay comparable with those
    of others; its copies in the other splits are left out. Copies within one split stay.

    Args:
        records (`Sequence[CaptionRecord]`): With their `split` set; those without one are passed through.
        hashes (`Sequence[ImageHash]`): Of their images.
        rejections (`Rejections`): What is left out is noted here.

    Returns:
        `tuple[list[CaptionRecord], list[ImageHash]]`: The records that stay, and their hashes.
    """
    dropped: set[int] = set()
    for group in group_duplicates(hashes):
        splits = {records[place].split for place in group} - {None}
        if len(splits) < 2:
            continue
        keeper = max((split for split in splits if split), key=lambda split: (_PRECEDENCE.get(split, 1), split))
        kept = next(records[place] for place in group if records[place].split == keeper)
        for place in group:
            if records[place].split not in (keeper, None):
                dropped.add(place)
                rejections.add(
                    "duplicate across splits",
                    records[place].image_id,
                    records[place].source,
                    f"in {records[place].split}, the same picture as {kept.image_id} in {keeper}",
                )
    stay = [place for place in range(len(records)) if place not in dropped]
    return [records[place] for place in stay], [hashes[place] for place in stay]


def _normalised(ratios: Mapping[str, float]) -> dict[str, float]:
    total = sum(ratios.values())
    if not ratios or min(ratios.values()) < 0 or not 0 < total < float("inf"):
        raise ConfigurationError(
            f"Split ratios are shares such as train=0.9, validation=0.05, test=0.05; got {ratios}."
        )
    return {name: share / total for name, share in ratios.items()}


def _draw(key: str, seed: int, shares: Mapping[str, float]) -> str:
    """The split whose stretch of 0 to 1 holds the hash of `key` and `seed`."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    names = [name for name, share in shares.items() if share > 0]
    for name in names:
        position -= shares[name]
        if position < 0:
            return name
    return names[-1]


def _earlier_split(contents: Sequence[str], previous: Mapping[str, str], shares: Mapping[str, float]) -> str | None:
    earlier = {previous[content] for content in contents if previous.get(content) in shares}
    if len(earlier) > 1 and "train" in earlier:
        return "train"
    return min(earlier) if earlier else None
