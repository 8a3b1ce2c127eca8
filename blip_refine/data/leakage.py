"""Whether an evaluation holds images that were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigurationError, ImageDecodeError, LeakageError
from ..records import CaptionRecord
from .duplicates import content_hash, find_duplicate_pairs, hash_records
from .fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Overlap:
    """One picture that is on both sides.

    Args:
        train_id (`str`): Its name in the training set.
        evaluation_id (`str`): Its name in the evaluation set.
        kind (`"exact"` or `"near"`): The same bytes, or the same picture re-encoded, resized or slightly changed.
    """

    train_id: str
    evaluation_id: str
    kind: Literal["exact", "near"]


def find_overlap(
    train: Sequence[CaptionRecord] | Fingerprint,
    evaluation: Sequence[CaptionRecord] | Fingerprint,
    *,
    near_duplicates: bool = True,
) -> list[Overlap]:
    """Pictures of an evaluation set that are in a training set.

    Args:
        train (`Sequence[CaptionRecord]` or `Fingerprint`): What was, or will be, trained on: all of it, whatever
            the records' own `split` says.
        evaluation (`Sequence[CaptionRecord]` or `Fingerprint`): What is to be evaluated on.
        near_duplicates (`bool`, defaults to `True`): Whether to look for changed copies too.

    Returns:
        `list[Overlap]`: In order of the evaluation set, at most one for each of its images; empty where all is well.

    Raises:
        ImageDecodeError: An image cannot be read.
    """
    train_ids, train_hashes = _ids_and_hashes(train, near_duplicates)
    evaluation_ids, evaluation_hashes = _ids_and_hashes(evaluation, near_duplicates)
    found: dict[int, Overlap] = {}
    for place, other in find_duplicate_pairs(train_hashes, evaluation_hashes):
        exact = train_hashes[place].content == evaluation_hashes[other].content
        if other not in found or (exact and found[other].kind == "near"):
            found[other] = Overlap(train_ids[place], evaluation_ids[other], "exact" if exact else "near")
    return [found[other] for other in sorted(found)]


def ensure_no_overlap(
    train: Sequence[CaptionRecord] | Fingerprint,
    evaluation: Sequence[CaptionRecord] | Fingerprint,
    *,
    near_duplicates: bool = True,
    allow_overlap: bool = False,
) -> list[Overlap]:
    """Refuse an evaluation on images that were trained on.

    Args:
        train, evaluation, near_duplicates: See `find_overlap`.
        allow_overlap (`bool`, defaults to `False`): Return the overlap instead of raising, so that the caller can
            mark every number as contaminated.

    Returns:
        `list[Overlap]`: Empty, unless `allow_overlap` is set.

    Raises:
        LeakageError: There is an overlap; the message counts it and names examples.
    """
    overlap = find_overlap(train, evaluation, near_duplicates=near_duplicates)
    if overlap and not allow_overlap:
        named = "; ".join(
            f"{item.evaluation_id!r} is {item.train_id!r}" + (" re-encoded or resized" if item.kind == "near" else "")
            for item in overlap[:3]
        )
        raise LeakageError(
            f"{len(overlap)} of {len(evaluation)} evaluation images are in the training set: {named}. "
            "Scores on them measure memory. Split by image (blip_refine.data.splits.split_by_image) or leave them "
            "out; allow_overlap=True goes on and marks every number as contaminated."
        )
    return overlap


def images_seen(train: Sequence[CaptionRecord] | None, before: Fingerprint | None = None) -> Fingerprint | None:
    """All the images that a model has been trained on.

    Args:
        train (`Sequence[CaptionRecord]`, *optional*): What it is trained on now. What cannot be read is passed over:
            it is not trained on either.
        before (`Fingerprint`, *optional*): What its checkpoint was trained on, see `training_fingerprint`.

    Raises:
        ConfigurationError: The images of a stream that can only be read from its start.
    """
    if train is None:
        return before
    _check_records(train)
    try:
        now = Fingerprint.of(train)
    except ImageDecodeError:
        now = Fingerprint.of([record for record in train if _can_be_read(record)])
    return now if before is None else now.joined(before)


def _can_be_read(record: CaptionRecord) -> bool:
    try:
        content_hash(getattr(record.image, "image", record.image))
    except ImageDecodeError:
        return False
    return True


def _check_records(data: object) -> None:
    if callable(data):  # `ShardedCaptionStream.records`
        raise ConfigurationError(
            "The images of a stream that can only be read from its start cannot be compared with those of an "
            "evaluation beforehand. Leave those out before training: stream.without(evaluation.records)."
        )


def _ids_and_hashes(data: Sequence[CaptionRecord] | Fingerprint, near_duplicates: bool):
    if isinstance(data, Fingerprint):
        return data.image_ids, data.hashes
    _check_records(data)
    return [record.image_id for record in data], hash_records(data, perceptual=near_duplicates)
