"""Datasets as commands name them: one set of flags for every command that reads data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..caption_prompts import prompts_in
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..data.dataset import BlipCaptionDataset
    from ..data.source_options import SourceOptions
    from ..records import CaptionRecord

DataDir = Annotated[str | None, typer.Option(metavar="FOLDER", help="Where the dataset's files are.")]
ImageDir = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Where the photos are, if they are not beside the captions.")
]
DownloadDir = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Download the photos to this folder (coco from the Hub).")
]
SplitLists = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="Where the official split lists are (Flickr8k).")
]
ImageColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="Column of the image. Default: found by its name.")
]
CaptionColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of the captions, or several with commas. Default: found by its name."),
]
IdColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column of the image's name.")]
SplitColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column of the split.")]
PromptColumn = Annotated[str | None, typer.Option(metavar="NAME", help="Column of each image's prompt.")]
Ratios = Annotated[
    str | None,
    typer.Option(
        metavar="90/5/5",
        help="Split by image: 90/5/5 (train, validation, test) or train=80,test=20. Default: the source's own splits.",
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Any other option of the source, such as restval=drop. Repeatable."),
]


def source_options(context: typer.Context, given: Mapping[str, Any] | None = None) -> SourceOptions:
    """What the flags of a command say of its dataset.

    Args:
        context (`typer.Context`): Of the command, which has parameters named as the fields of [`SourceOptions`].
        given (`Mapping[str, Any]`, *optional*): Used instead of the command's parameters.
    """
    from ..data.source_options import SourceOptions

    return SourceOptions.parse(context.params if given is None else given)


def refuse_flags(context: typer.Context, names: Sequence[str], reason: str) -> None:
    """Refuse flags that have nothing to act on.

    Args:
        context (`typer.Context`): Of the command.
        names (`Sequence[str]`): Its parameters.
        reason (`str`): Why, as a sentence.
    """
    for name in names:
        # By name: typer has a copy of click's enumeration in some releases.
        source = context.get_parameter_source(name) if name in context.params else None
        if source is not None and source.name != "DEFAULT":
            raise ConfigurationError(f"{reason} Leave out {name}=.", arguments=(name,))


def tell_split(source: str, dataset: BlipCaptionDataset, asked: str | None) -> str:
    """Which split is scored, with a warning if it is not the one that scores are expected to be of.

    Args:
        source (`str`): The dataset's name.
        dataset ([`BlipCaptionDataset`]): What is scored.
        asked (`str`, *optional*): The split that was asked for.
    """
    from ..data.sources.grouping import split_name
    from .output import output

    split = split_name(asked) or dataset.records[0].split or "test"
    if asked is None and split == "validation":
        output.warning(
            f"{source} has no test split: the validation split is scored. A checkpoint chosen on it scores too well."
        )
    return split


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
