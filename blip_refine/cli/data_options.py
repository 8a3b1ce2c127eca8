"""Datasets as commands name them: a source, where its files are, and how much of each split is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..caption_prompts import prompts_in
from ..errors import ConfigurationError, DataError, SplitNotFoundError

if TYPE_CHECKING:
    from ..data.dataset import BlipCaptionDataset
    from ..records import CaptionRecord


def load_split(
    source: str,
    split: str,
    *,
    data_dir: str | None,
    limit: int | None,
    required: bool = True,
    columns: dict[str, Any] | None = None,
) -> BlipCaptionDataset | None:
    """One split of a dataset, as a command was told to read it.

    Args:
        source (`str`): See [`load_source`].
        split (`str`): "train", "validation" or "test".
        data_dir (`str`, *optional*): Where its files are.
        limit (`int`, *optional*): Only the first so many images.
        required (`bool`, defaults to `True`): Refuse a split that is empty or not there; else it is `None`.
        columns (`dict`, *optional*): Further options of the source.
    """
    from ..data.dataset import BlipCaptionDataset
    from ..data.sources import load_source

    if limit is not None and limit < 1:
        raise ConfigurationError(f"The number of images must be at least 1, not {limit}.")
    try:
        records = load_source(source, split=split, data_dir=data_dir, **(columns or {}))[:limit]
    except SplitNotFoundError:
        if required:
            raise
        return None
    if not records:
        if required:
            raise DataError(f"{source} has no images in its {split} split.")
        return None
    return BlipCaptionDataset(records)


def describe_prompts(records: Sequence[CaptionRecord]) -> str | None:
    """A line on images that bring prompts of their own; `None` where none does."""
    count = prompts_in(records)
    if not count:
        return None
    first = next(record.prompt for record in records if record.prompt)
    return f"  prompts     {count} of {len(records)} images have their own (column 'prompt'), such as {first!r}"


def describe_split(name: str, dataset: BlipCaptionDataset | None) -> str:
    """ "train       6000 images, 30000 captions"."""
    if dataset is None:
        return f"  {name:<11} none"
    captions = sum(len(record.captions) for record in dataset.records)
    return f"  {name:<11} {len(dataset)} images, {captions} captions"
