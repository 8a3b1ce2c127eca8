"""Predictions whose ids are paths, for references whose ids are names of files.

`blip-refine caption photos/` calls an image by its path, as it must: two folders may both have a `1.jpg`. A table of
references mostly calls it `1.jpg`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import TypeVar

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


def match_file_names(predictions: Mapping[str, Value], references: Collection[str]) -> dict[str, Value]:
    """Predictions under the ids that the references have, where only the folders before them differ.

    Nothing is changed where an id is in both already, and where two images share a name: which one is meant would be
    a guess. What has no match keeps its id.

    Args:
        predictions (`Mapping[str, Value]`): By image id.
        references (`Collection[str]`): The ids of the references.
    """
    unchanged = dict(predictions)
    if not unchanged or not references or not unchanged.keys().isdisjoint(references):
        return unchanged
    for ours, theirs in ((_name, _name), (_stem, _name), (_name, _stem)):
        wanted = {theirs(image_id): image_id for image_id in references}
        had = {ours(image_id) for image_id in unchanged}
        if len(wanted) < len(references) or len(had) < len(unchanged) or had.isdisjoint(wanted):
            continue
        matched = {wanted.get(ours(image_id), image_id): value for image_id, value in unchanged.items()}
        one = next(image_id for image_id in unchanged if ours(image_id) in wanted)
        logger.warning(
            "No image id is in both predictions and references; they were matched by the names of the files, for "
            "example %r with %r.",
            one,
            wanted[ours(one)],
        )
        return matched
    return unchanged


def _name(image_id: str) -> str:
    return image_id.replace("\\", "/").rpartition("/")[2]


def _stem(image_id: str) -> str:
    return PurePosixPath(_name(image_id)).stem
