"""`blip-refine prepare`: sources cleaned, split, fingerprinted and described, in one folder."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .data_options import (
    CaptionColumn,
    DataDir,
    DownloadDir,
    IdColumn,
    ImageColumn,
    ImageDir,
    Option,
    PromptColumn,
    Ratios,
    SplitColumn,
    SplitLists,
    source_options,
)
from .output import output

if TYPE_CHECKING:
    from ..data.rejections import Rejections
    from ..records import CaptionRecord


def prepare(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="A name (flickr8k, coco), a folder, a file of captions, or a Hub id."
        ),
    ],
    output_dir: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    data_dir: DataDir = None,
    image_dir: ImageDir = None,
    download_dir: DownloadDir = None,
    split_lists: SplitLists = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    id_column: IdColumn = None,
    split_column: SplitColumn = None,
    prompt_column: PromptColumn = None,
    ratios: Ratios = None,
    option: Option = None,
    seed: Annotated[int, typer.Option(help="Of the splits.")] = 0,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="With several sources, the share of each among the images, in their order."),
    ] = None,
    captions_per_image: Annotated[int | None, typer.Option(help="Keep the first so many of each image.")] = None,
    min_words: Annotated[int, typer.Option(help="Leave out captions with fewer words.")] = 2,
    max_words: Annotated[int, typer.Option(help="Leave out captions with more words.")] = 60,
    language: Annotated[
        str | None,
        typer.Option(help="Leave out captions that are surely in another language (en, de, ...)."),
    ] = None,
    min_side: Annotated[int, typer.Option(help="Leave out images with a shorter side, in pixels.")] = 32,
    max_aspect_ratio: Annotated[float, typer.Option(help="Leave out images that are more oblong.")] = 5.0,
    copy_images: Annotated[bool, typer.Option("--copy-images", help="Copy the images into the folder.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="The source is a list of captions and URLs: download the images.")
    ] = False,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Download from private addresses, too.")
    ] = False,
    preview_augment: Annotated[
        str | None,
        typer.Option(help="Also draw what an augmentation (light, standard) does to some pictures and captions."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Threads. Default: one a processor core.")] = None,
) -> None:
    """Clean captions and images, split by image without leaks, and describe what is there.

    Example: blip-refine prepare photos/ --output data
    """
    from ..data.augment import load_augmentation
    from ..data.cleaning import CleaningRules
    from ..data.prepare import PAGE_FILE, REJECTED_FILE, prepare_dataset
    from ..data.rejections import Rejections

    rules = CleaningRules(
        min_words=min_words,
        max_words=max_words,
        language=language,
        min_side=min_side,
        max_aspect_ratio=max_aspect_ratio,
    )
    told = source_options(context)
    # The splits are made below, of what is left when everything is clean.
    options = replace(told, ratios=None).arguments
    augmentation = load_augmentation(preview_augment)
    rejections = Rejections()
    if download:
        sources = [_download(sources, output_dir, allow_private)]
    records = _load(sources, weight, captions_per_image, options, rejections, seed)
    name = " + ".join(Path(source).name or source for source in sources)
    with output.progress(f"Looking at {len(records)} images", len(records)) as advance:
        prepared = prepare_dataset(
            records,
            output_dir,
            name=name,
            rules=rules,
            ratios=told.ratios,
            seed=seed,
            copy_images=copy_images,
            workers=workers,
            rejections=rejections,
            progress=advance,
        )
    preview = output_dir / "augmentation.jpg"
    if preview_augment is not None:
        from ..data.augment_preview import save_preview

        save_preview(augmentation, prepared.records, preview, seed=seed)
    splits = prepared.statistics["splits"]
    output.table(
        ["split", "images", "captions"],
        [[split, f"{part['images']:,}", f"{part['captions']:,}"] for split, part in splits.items()],
    )
    if prepared.rejections.counts:
        output.table(["left out", "how many"], list(prepared.rejections.counts.items()))
        output.line(f"Each with its reason: {output_dir / REJECTED_FILE}")
    output.line(f"Fingerprint: {prepared.fingerprint}")
    output.line(f"Look at it: {output_dir / PAGE_FILE}" + (f" and {preview}" if preview_augment is not None else ""))
    output.result({"output": str(output_dir), **prepared.statistics})
    if "train" in splits:
        # The starter, which is train's default, has seen drawings alone.
        drawn = all(source.startswith("scenes:") for source in sources)
        model = "" if drawn else "--model Salesforce/blip-image-captioning-base --lora --learning-rate 1e-4 "
        output.next_command(f"blip-refine train {model}--dataset {shlex.quote(str(output_dir))} --output run")
    else:
        output.note("Nothing here is to be trained on: --ratios 90/5/5 makes other splits than the source's own.")


def _load(
    sources: list[str],
    weights: list[float] | None,
    captions_per_image: int | None,
    options: dict[str, Any],
    rejections: Rejections,
    seed: int,
) -> list[CaptionRecord]:
    from ..data.sources import load_source
    from ..data.sources.mixed import mix_records
    from ..errors import ConfigurationError

    if weights and len(weights) != len(sources):
        raise ConfigurationError(f"{len(sources)} sources and {len(weights)} weights: give --weight once a source.")
    parts = {
        source: load_source(
            source,
            captions_per_image=captions_per_image,
            rejections=rejections,
            **options,
        )
        for source in sources
    }
    if len(sources) == 1:
        return parts[sources[0]]
    if len(parts) != len(sources):
        raise ConfigurationError("A source is named twice.")
    called = [name for part in parts.values() for name in {record.source for record in part}]
    if len(set(called)) < len(called):
        # Two folders of the same name, of which one may have splits and the other none.
        parts = {name: [replace(record, source=name) for record in part] for name, part in parts.items()}
    return mix_records(parts, dict(zip(sources, weights, strict=True)) if weights else None, seed=seed)


def _download(sources: list[str], folder: Path, allow_private: bool) -> str:
    from ..data.sources.conceptual_captions import download
    from ..data.sources.http_fetch import FetchLimits
    from ..errors import ConfigurationError

    if len(sources) != 1:
        raise ConfigurationError("--download takes one list of captions and URLs.")
    target = folder / "download"
    with output.progress(f"Downloading the images of {sources[0]}") as advance:
        report = download(sources[0], target, limits=FetchLimits(allow_private=allow_private), progress=advance)
    output.note(
        f"{report.downloaded} images downloaded ({report.bytes / 2**20:.1f} MiB), {report.resumed} rows done before, "
        f"{report.failed} failed."
    )
    for reason, count in report.failures.items():
        output.note(f"  {reason}: {count}")
    return str(target)
