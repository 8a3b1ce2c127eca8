"""A. Karpathy's `dataset_coco.json`, `dataset_flickr8k.json` and `dataset_flickr30k.json`, with their splits.

A. Karpathy, L. Fei-Fei: Deep Visual-Semantic Alignments for Generating Image Descriptions, CVPR 2015.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from .files import list_images
from .grouping import Row, group_rows

IMAGE_FOLDERS = (
    "images",
    "Images",
    "Flicker8k_Dataset",
    "Flickr8k_Dataset",
    "flickr30k_images",
    "flickr30k-images",
    "",
)


def load(
    path: Path,
    *,
    rejections: Rejections,
    name: str = "coco",
    image_dir: str | Path | None = None,
    restval: Literal["train", "drop", "keep"] = "train",
) -> list[CaptionRecord]:
    """Read one of Karpathy's files.

    Args:
        path (`Path`): The JSON file.
        rejections (`Rejections`): Images that are not there are noted here.
        name (`str`, defaults to `"coco"`): The name of the source, kept in each record.
        image_dir (`str` or `Path`, *optional*): The folder that holds the photos, or COCO's folders `train2014` and
            `val2014`; found beside the file by default.
        restval (`"train"`, `"drop"` or `"keep"`, defaults to `"train"`): What to do with the 30,504 images of COCO's
            "restval", which is val2014 without Karpathy's validation and test. Published models train on them.

    Raises:
        SourceFormatError: The file is not one of Karpathy's.
        SourceNotFoundError: The file is missing, or not one of its photos is found.
    """
    check_restval(restval)
    return records_of_images(
        read_images(path),
        where=path.name,
        folder=Path(image_dir) if image_dir else path.parent,
        name=name,
        restval=restval,
        rejections=rejections,
    )


def records_of_images(
    images: Sequence[Mapping[str, Any]],
    *,
    where: str,
    folder: Path,
    name: str,
    restval: Literal["train", "drop", "keep"],
    rejections: Rejections,
) -> list[CaptionRecord]:
    """Records of a Karpathy file's list of images, wherever it came from; see `load` for the arguments.

    Raises:
        SourceNotFoundError: There are images, and not one of them is in `folder`.
    """
    listings: dict[Path, frozenset[str]] = {}

    def exists(photo: Path) -> bool:
        if photo.parent not in listings:
            listings[photo.parent] = list_images(photo.parent) if photo.parent.is_dir() else frozenset()
        return photo.name in listings[photo.parent]

    def rows() -> Iterator[Row]:
        for number, image in enumerate(images):
            place = f"{where}, image {number}"
            split = image.get("split")
            if split == "restval" and restval == "drop":
                rejections.add("restval", image["filename"], place)
                continue
            if split == "restval" and restval == "train":
                split = "train"
            places = [Path(image.get("filepath") or "", image["filename"])]
            places += [Path(sub, image["filename"]) for sub in IMAGE_FOLDERS]
            photo = next((folder / path for path in places if exists(folder / path)), None)
            if photo is None:
                rejections.add("missing image", image["filename"], place)
                continue
            captions = tuple(_raw(sentence) for sentence in image["sentences"])
            metadata = {str(key): image[key] for key in ("cocoid", "imgid") if key in image}
            yield Row(image["filename"], str(photo), captions, image_id(image), split, metadata, place)

    records = group_rows(rows(), name, rejections)
    if images and not records and not rejections.of("restval"):
        raise SourceNotFoundError(
            f"Not one of the {len(images)} photos that {where} names is under {folder}, for example "
            f"{images[0]['filename']!r}. Name their folder: image_dir=...",
            arguments=("image_dir",),
        )
    return records


def check_restval(restval: str) -> None:
    """Refuse a misspelt choice before anything is read."""
    if restval not in ("train", "drop", "keep"):
        raise ConfigurationError(f'restval must be "train", "drop" or "keep", not {restval!r}.')


def _raw(sentence: Any) -> str:
    """The sentence as it was written: in an object in Karpathy's file, bare in the Hub's table."""
    return sentence["raw"] if isinstance(sentence, Mapping) else sentence


def image_id(image: Mapping[str, Any]) -> str:
    """COCO's number where there is one, so that scores match the official tools; the file name otherwise."""
    return str(image["cocoid"]) if "cocoid" in image else image["filename"]


def read_images(path: Path) -> list[dict[str, Any]]:
    """The list under "images", checked.

    Raises:
        SourceFormatError: The file is not one of Karpathy's.
        SourceNotFoundError: There is no such file.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"There is no file {str(path)!r}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error
    images = content.get("images") if isinstance(content, dict) else None
    if not isinstance(images, list) or not all(
        isinstance(image, dict)
        and isinstance(image.get("filename"), str)
        and isinstance(image.get("sentences"), list)
        and all(isinstance(sentence, dict) and isinstance(sentence.get("raw"), str) for sentence in image["sentences"])
        for image in images
    ):
        raise SourceFormatError(
            f'{path} is not a Karpathy file: expected {{"images": [{{"filename": ..., "split": ..., '
            '"sentences": [{"raw": ...}]}]}.'
        )
    return images
