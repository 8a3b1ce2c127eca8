"""Flickr8k and Flickr30k from files as distributed.

Captions: Kaggle's `captions.txt` (`image,caption`), the original `Flickr8k.token.txt` (`image#0<tab>caption`), or
Karpathy's `dataset_flickr8k.json`. Splits: the official lists (6000 / 1000 / 1000), or those in Karpathy's file.

M. Hodosh, P. Young, J. Hockenmaier: Framing Image Description as a Ranking Task, JAIR 47 (2013).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

from ...errors import ConfigurationError, DataError, SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from . import karpathy
from .files import find_file, find_image_folder, list_images, read_text_lines
from .grouping import Row, group_rows

CAPTION_FILES = (
    "captions.txt", "captions.csv", "Flickr8k.token.txt", "results_20130124.token", "Flickr8k.lemma.token.txt",
    "results.csv", "dataset_flickr8k.json", "dataset_flickr30k.json",
)  # fmt: skip
SUBFOLDERS = ("", "Flickr8k_text", "flickr8k_text", "Flickr_TextData", "text", "annotations", "captions")
IMAGE_FOLDERS = (
    "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset", "Flickr_Data/Images",
    "Flickr8k_Dataset/Flicker8k_Dataset", "flickr30k_images", "flickr30k-images", "Flicker8k_photos", "",
)  # fmt: skip
SPLIT_FILES = {
    "train": ("splits/train.txt", "Flickr_8k.trainImages.txt", "train.txt"),
    "validation": ("splits/dev.txt", "splits/val.txt", "splits/validation.txt", "Flickr_8k.devImages.txt", "dev.txt"),
    "test": ("splits/test.txt", "Flickr_8k.testImages.txt", "test.txt"),
}
TOKEN_LINE = re.compile(r"^(?P<image>[^\t]+?)#(?P<number>\d+)\t(?P<caption>.*)$")
DOUBLE_SUFFIX = re.compile(r"\.(jpe?g|png)\.\d+$", re.IGNORECASE)
"""`2258277193_586949ec62.jpg.1`: five rows of the original token file name a photo that was never published."""


def is_flickr(folder: Path) -> bool:
    """Whether a folder looks like Flickr8k or Flickr30k as distributed.

    `captions.csv` is also what people call a table of their own. It counts if it reads like Flickr's, and names photos
    of a folder where Flickr's are kept.
    """
    found = find_file(folder, CAPTION_FILES, SUBFOLDERS)
    if found is None or found.suffix != ".csv":
        return found is not None
    try:
        photos = list_images(find_image_folder(folder, IMAGE_FOLDERS))
        named = [image for _, image, _ in islice(_read_captions(found, Rejections()), 20)]
    except DataError:
        return False
    return any(image in photos for image in named)


def load(
    folder: Path,
    *,
    rejections: Rejections,
    name: str = "flickr8k",
    captions_file: str | None = None,
    image_dir: str | Path | None = None,
    split_lists: str | Path | None = None,
) -> list[CaptionRecord]:
    """Read Flickr8k or Flickr30k from a folder.

    Args:
        folder (`Path`): The folder that the archive was unpacked to.
        rejections (`Rejections`): Rows whose photo is not there, and broken rows, are noted here.
        name (`str`, defaults to `"flickr8k"`): The name of the source, kept in each record.
        captions_file (`str`, *optional*): Which captions to read, where there are several; found by default.
        image_dir (`str` or `Path`, *optional*): The folder of the photos; found by default.
        split_lists (`str` or `Path`, *optional*): The folder of the official lists; found by default.

    Raises:
        SourceNotFoundError: There is no file of captions, or no folder of photos.
        SourceFormatError: The file of captions is of none of the known forms.
    """
    captions = folder / captions_file if captions_file else find_file(folder, CAPTION_FILES, SUBFOLDERS)
    if captions is None or not captions.is_file():
        raise SourceNotFoundError(
            f"{folder} has no {captions_file or 'file of Flickr captions'}. "
            f"Expected one of {', '.join(CAPTION_FILES)}."
        )
    if captions.suffix == ".json":
        if split_lists is not None:
            raise ConfigurationError(
                f"{captions} has splits of its own: leave out split_lists=.", arguments=("split_lists",)
            )
        return karpathy.load(captions, rejections=rejections, name=name, image_dir=image_dir)
    photos = find_image_folder(folder, IMAGE_FOLDERS, image_dir)
    splits = read_official_splits(Path(split_lists) if split_lists else folder)
    if split_lists and not splits:
        raise SourceNotFoundError(_no_lists(split_lists))
    there = list_images(photos)

    def rows() -> Iterator[Row]:
        for where, image, caption in _read_captions(captions, rejections):
            if DOUBLE_SUFFIX.search(image) and image not in there:
                rejections.add("broken row", image, where, "names a photo that was never published")
            elif image not in there:
                rejections.add("missing image", image, where)
            else:
                yield Row(image, str(photos / image), (caption,), image, splits.get(image), where=where)

    return group_rows(rows(), name, rejections)


def read_official_splits(folder: Path) -> dict[str, str]:
    """The official lists: the split of each photo that is in one. Empty where there are no lists.

    Raises:
        SourceFormatError: A photo is in two lists.
    """
    splits: dict[str, str] = {}
    for split, names in SPLIT_FILES.items():
        path = find_file(folder, names, SUBFOLDERS)
        for line in read_text_lines(path) if path else ():
            image = line.strip()
            if image and splits.setdefault(image, split) != split:
                raise SourceFormatError(f"{path}: {image!r} is in the lists of {splits[image]} and of {split}.")
    return splits


def with_official_splits(records: Sequence[CaptionRecord], folder: Path, where: str) -> list[CaptionRecord]:
    """Records with the splits of the official lists, by the names of their photos; those in no list are in no split.

    Args:
        records (`Sequence[CaptionRecord]`): With file names as `image_id`.
        folder (`Path`): The folder of the lists.
        where (`str`): Where the records come from, for messages.

    Raises:
        SourceNotFoundError: There are no lists.
        SourceFormatError: Not one of the records is in a list.
    """
    splits = read_official_splits(folder)
    if not splits:
        raise SourceNotFoundError(_no_lists(folder))
    if not any(record.image_id in splits for record in records):
        raise SourceFormatError(
            f"Not one of the {len(records)} images of {where} is in the lists of {folder}; the first is called "
            f"{records[0].image_id!r}. Where rows carry no file names, the official split cannot be known."
        )
    return [replace(record, split=splits.get(record.image_id)) for record in records]


def _no_lists(folder: str | Path) -> str:
    official = [name for names in SPLIT_FILES.values() for name in names if name.startswith("Flickr_8k")]
    return f"{folder} holds no official lists: expected {', '.join(official)}, or splits/train.txt and so on."


def _read_captions(path: Path, rejections: Rejections) -> Iterator[tuple[str, str, str]]:
    """Where, image, caption. The form is told from the first line."""
    lines = read_text_lines(path)
    first = next((line for line in lines if line.strip()), "")
    if TOKEN_LINE.match(first):
        for number, line in enumerate(lines, 1):
            match = TOKEN_LINE.match(line)
            if match:
                yield f"{path.name}, line {number}", match["image"].strip(), match["caption"]
            elif line.strip():
                rejections.add(
                    "broken row", line.strip()[:80], f"{path.name}, line {number}", "not `image#0<tab>caption`"
                )
        return
    delimiter = "|" if "|" in first else ","  # Kaggle's Flickr30k separates by `| `
    header = [cell.strip().lower() for cell in first.split(delimiter)]
    image_at, caption_at = _header_places(header, path, first)
    for number, cells in enumerate(csv.reader(lines, delimiter=delimiter, quoting=_quoting(delimiter)), 1):
        if number == 1 or not any(cell.strip() for cell in cells):
            continue
        if len(cells) <= max(image_at, caption_at):
            rejections.add("broken row", delimiter.join(cells)[:80], f"{path.name}, line {number}", "too few columns")
            continue
        # An unquoted comma inside the caption, which is the last column, is the caption's.
        caption = delimiter.join(cells[caption_at:]) if caption_at == len(header) - 1 else cells[caption_at]
        yield f"{path.name}, line {number}", cells[image_at].strip(), caption


def _quoting(delimiter: str) -> Literal[0, 3]:
    return csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL


def _header_places(header: list[str], path: Path, first: str) -> tuple[int, int]:
    image = next(
        (i for i, cell in enumerate(header) if cell in ("image", "image_name", "file_name", "filename")), None
    )
    caption = next((i for i, cell in enumerate(header) if cell in ("caption", "comment", "text")), None)
    if image is None or caption is None:
        raise SourceFormatError(
            f"{path}, line 1: expected `image,caption` (Kaggle) or `image#0<tab>caption` (the original), "
            f"found {first[:80]!r}."
        )
    return image, caption
