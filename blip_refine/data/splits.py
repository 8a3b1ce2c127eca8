"""Splits that cannot leak: by image, by content, the same every time, and stable when data is added.

There are no rows here to split by. An image falls on one side by a hash of its content and the seed, so adding images
moves none of those that were there; all copies of a picture, exact or near, fall on the side of their group.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..errors import ConfigurationError, DataError
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

logger = logging.getLogger(__name__)

_Group = tuple[str, list[int]]
"""The key that a group of copies is drawn by, and the places of its records."""

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
        with its `split` set. If a split came out empty, as happens with few images, each gets one image per ten
        (at least one, and no more than ten or its share); a warning gives the sizes.

    Raises:
        ConfigurationError: Ratios that are none.
        DataError: Fewer different pictures than splits.
        ImageDecodeError: An image cannot be read.
    """
    shares = _normalised(DEFAULT_RATIOS if ratios is None else ratios)
    if hashes is None:
        hashes = hash_records(records, perceptual=near_duplicates)
    result: dict[str, list[CaptionRecord]] = {name: [] for name in shares}
    assigned: list[str] = [""] * len(records)
    drawn: list[_Group] = []
    for group in group_duplicates(hashes):
        split = _earlier_split([hashes[place].content for place in group], previous or {}, shares)
        if split is None:
            # The smallest hash stands for the group, so that the order of the records has no say.
            key = min(hashes[place].content for place in group)
            split = _draw(key, seed, shares)
            drawn.append((key, group))
        for place in group:
            assigned[place] = split
    if records:
        tenth = len(records) // 10
        few = {
            name: max(1, min(tenth, max(10, round(share * len(records)))))
            for name, share in shares.items()
            if share > 0
        }
        _fill_the_empty(assigned, drawn, few, shares, seed)
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


def _fill_the_empty(
    assigned: list[str], drawn: Sequence[_Group], few: Mapping[str, int], shares: Mapping[str, float], seed: int
) -> None:
    """Where a draw left a split without an image, move groups of copies until each has enough.

    They come from the split that is furthest above its share.

    Which ones hangs on their hashes alone. What an earlier split has placed is not moved: it may have been trained on.

    Args:
        assigned (`list[str]`): The split of each record; changed in place.
        drawn (`Sequence[tuple[str, list[int]]]`): Key and places of each group that was drawn.
        few (`Mapping[str, int]`): How many images each split needs.
        shares (`Mapping[str, float]`): The share of each split.
        seed (`int`): Of the splits.
    """
    if all(name in assigned for name in few):
        return
    for needy, enough in few.items():
        while assigned.count(needy) < enough:
            groups = {name: [one for one in drawn if assigned[one[1][0]] == name] for name in few if name != needy}
            # The last group of a split stays where it is.
            able = [
                name
                for name, held in groups.items()
                if len(held) > 1 or (held and assigned.count(name) > sum(len(places) for _, places in held))
            ]
            # Nobody gives what it needs itself, unless to one that would stay empty.
            givers = [name for name in able if assigned.count(name) > few[name]]
            if not givers and needy not in assigned:
                givers = able
            if not givers:
                break
            giver = max(givers, key=lambda name: (assigned.count(name) - shares[name] * len(assigned), name))
            _, moved = min(groups[giver], key=lambda one: hashlib.sha256(f"{seed} {needy} {one[0]}".encode()).digest())
            for place in moved:
                assigned[place] = needy
    sizes = ", ".join(f"{assigned.count(name)} {name}" for name in few)
    lacking = [name for name in few if name not in assigned]
    if lacking and sum(len(places) for _, places in drawn) < len(assigned):
        logger.warning("%s is empty: the images that could be in it are in a split already.", " and ".join(lacking))
        return
    if lacking:
        count = f"{len(assigned)} image{'s' if len(assigned) > 1 else ''}"
        raise DataError(
            f"{count} cannot be split into {', '.join(few)}: each needs a picture of its own, and copies stay "
            f"together ({sizes}). Add images, or ask for fewer splits: ratios={{'train': 1}}.",
            arguments=("ratios",),
        )
    logger.warning(
        "With %s images the shares asked for leave a split empty, so images were moved: %s.", len(assigned), sizes
    )


def _earlier_split(contents: Sequence[str], previous: Mapping[str, str], shares: Mapping[str, float]) -> str | None:
    earlier = {previous[content] for content in contents if previous.get(content) in shares}
    if len(earlier) > 1 and "train" in earlier:
        return "train"
    return min(earlier) if earlier else None
