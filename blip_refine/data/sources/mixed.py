"""Several sources as one, in given shares."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...errors import ConfigurationError
from ...records import CaptionRecord
from ..rejections import Rejections


def split_together(
    parts: Mapping[str, Sequence[CaptionRecord]],
    ratios: Mapping[str, float] | None,
    seed: int,
    rejections: Rejections,
) -> dict[str, list[CaptionRecord]]:
    """Splits for the sources that have none, with copies of a picture on one side across all sources.

    Args:
        parts (`Mapping[str, Sequence[CaptionRecord]]`): The records of each source, by its name.
        ratios (`Mapping[str, float]`, *optional*): Sizes of the splits to make.
        seed (`int`): Of the splits to make.
        rejections (`Rejections`): Pictures that two sources have in different splits are noted here and left out of
            one, see `keep_on_one_side`.

    Returns:
        `dict[str, list[CaptionRecord]]`: The records of each source, those of sources without splits with one.
    """
    from ..duplicates import hash_records
    from ..splits import keep_on_one_side, split_the_unsplit

    # Two sources may be called the same: while they lie together, they are told apart by their names here.
    together = [replace(record, source=name) for name, records in parts.items() for record in records]
    called = {(name, record.image_id): record.source for name, records in parts.items() for record in records}
    hashes = hash_records(together)
    together, _ = keep_on_one_side(split_the_unsplit(together, ratios, seed, hashes=hashes), hashes, rejections)
    result: dict[str, list[CaptionRecord]] = {name: [] for name in parts}
    for record in together:
        name = str(record.source)
        result[name].append(replace(record, source=called[name, record.image_id]))
    return result


def mix_records(
    parts: Mapping[str, Sequence[CaptionRecord]],
    weights: Mapping[str, float] | None = None,
    *,
    seed: int = 0,
) -> list[CaptionRecord]:
    """One list of records from several sources.

    No image is repeated: the result is the largest in which the sources have the wanted shares. An `image_id` gets its
    source's name before it (`"coco/397133"`), so that names of different sources cannot clash.

    Args:
        parts (`Mapping[str, Sequence[CaptionRecord]]`): The records of each source, by its name.
        weights (`Mapping[str, float]`, *optional*): The share of each source among the images of the result, relative
            to each other; by default everything is taken.
        seed (`int`, defaults to 0): Which images are taken where not all are, and in what order.

    Returns:
        `list[CaptionRecord]`: Shuffled.

    Raises:
        ConfigurationError: Weights for other sources than there are, or not positive.
    """
    if weights is not None:
        if set(weights) != set(parts):
            raise ConfigurationError(f"Weights are given for {sorted(weights)}, the sources are {sorted(parts)}.")
        if any(not 0 < weight < float("inf") for weight in weights.values()):
            raise ConfigurationError(f"Weights are positive numbers, not {dict(weights)}.")
    rng = random.Random(seed)
    taken: list[CaptionRecord] = []
    # What limits the mixture is the source that has least for its share.
    scale = min(len(parts[name]) / weights[name] for name in parts) if weights and parts else 0.0
    for name, records in parts.items():
        count = len(records) if weights is None else min(len(records), round(scale * weights[name]))
        chosen = list(records) if count == len(records) else rng.sample(list(records), count)
        taken += [replace(record, image_id=f"{name}/{record.image_id}") for record in chosen]
    rng.shuffle(taken)
    return taken
