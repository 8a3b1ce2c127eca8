"""COCO captions: the annotation JSON as distributed, and Karpathy's split of it.

X. Chen et al.: Microsoft COCO Captions: Data Collection and Evaluation Server, arXiv:1504.00325.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from . import karpathy
from .files import find_file, list_images
from .grouping import Row, group_rows

KARPATHY_FILES = ("dataset_coco.json",)
METADATA = ("license", "coco_url", "flickr_url", "domain", "open_images_id")
ANNOTATION_FILES = (
    "captions_train2014.json", "captions_val2014.json", "captions_train2017.json", "captions_val2017.json",
)  # fmt: skip
SUBFOLDERS = ("", "annotations", "karpathy", "caption_datasets")
IMAGES_ALONE = {"image_info_test2014.json": "test2014", "nocaps_test_image_info.json": "test"}
"""Files that list images without captions, for an evaluation server, and what their split is called."""
SUBSETS = {**IMAGES_ALONE, "nocaps_val_4500_captions.json": "val"}


def is_coco(folder: Path) -> bool:
    """Whether a folder looks like COCO as distributed."""
    return find_file(folder, KARPATHY_FILES + ANNOTATION_FILES, SUBFOLDERS) is not None


def load(
    folder: Path,
    *,
    rejections: Rejections,
    name: str = "coco",
    image_dir: str | Path | None = None,
    restval: Literal["train", "drop", "keep"] = "train",
    form: Literal["karpathy", "annotations", "test2014"] | None = None,
) -> list[CaptionRecord]:
    """Read COCO from a folder.

    Args:
        folder (`Path`): The folder with `train2014/`, `val2014/` and so on, and the JSON files in it or in
            `annotations/`.
        rejections (`Rejections`): Images that are not there are noted here.
        name (`str`, defaults to `"coco"`): The name of the source, kept in each record.
        image_dir (`str` or `Path`, *optional*): The folder that holds `train2014/` and so on; `folder` by default.
        restval (`"train"`, `"drop"` or `"keep"`, defaults to `"train"`): See `karpathy.load`.
        form (`"karpathy"`, `"annotations"` or `"test2014"`, *optional*): Which to read where several are there;
            Karpathy's by default, since published captioning scores are on its test split. "test2014" is the test
            split of COCO's evaluation server, whose images have no captions.

    Raises:
        SourceNotFoundError: There are no captions, or not one of the photos.
        SourceFormatError: A JSON file is not what its name says.
    """
    if form == "test2014":
        listed = find_file(folder, ("image_info_test2014.json",), SUBFOLDERS)
        if listed is None:
            raise SourceNotFoundError(f"{folder} has no image_info_test2014.json: blip-refine fetch coco gets it.")
        return load_annotations([listed], rejections=rejections, name=name, image_dir=Path(image_dir or folder))
    karpathy_file = find_file(folder, KARPATHY_FILES, SUBFOLDERS) if form != "annotations" else None
    if karpathy_file:
        return karpathy.load(
            karpathy_file, rejections=rejections, name=name, image_dir=image_dir or folder, restval=restval
        )
    paths = [path for file in ANNOTATION_FILES if (path := find_file(folder, (file,), SUBFOLDERS))]
    if not paths or form == "karpathy":
        wanted = KARPATHY_FILES if form == "karpathy" else KARPATHY_FILES + ANNOTATION_FILES
        raise SourceNotFoundError(f"{folder} has no COCO captions. Expected one of {', '.join(wanted)}.")
    if restval != "train":
        raise ConfigurationError(
            f"{paths[0].name} has no restval, which is of {', '.join(KARPATHY_FILES)}: leave out restval=.",
            arguments=("restval",),
        )
    return load_annotations(paths, rejections=rejections, name=name, image_dir=Path(image_dir or folder))


def load_annotations(
    paths: Sequence[Path], *, rejections: Rejections, name: str = "coco", image_dir: Path | None = None
) -> list[CaptionRecord]:
    """Read COCO's own annotation files, and NoCaps', which have their form. Images of `train*` are "train", those of
    `val*` are "validation".

    Args:
        paths (`Sequence[Path]`): The JSON files.
        rejections (`Rejections`): Images that are not there, and captions of images that are not listed, go here.
        name (`str`, defaults to `"coco"`): The name of the source.
        image_dir (`Path`, *optional*): The folder that holds `val2017/` and so on, or the photos themselves; the
            file's own folder, or the one above `annotations/`, by default.

    Raises:
        SourceFormatError: A file is not COCO's.
        SourceNotFoundError: Not one of the photos is there.
    """
    named = 0

    def rows() -> Iterator[Row]:
        nonlocal named
        for path in paths:
            content = _read(path)
            captions: dict[Any, list[str]] = {}
            for annotation in content["annotations"]:
                captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
            subset = SUBSETS.get(path.name) or path.stem.removeprefix("captions_")  # "val2017"
            folders = _image_folders(image_dir, path, subset)
            for image in content["images"]:
                named += 1
                photo = next(
                    (folder / image["file_name"] for folder, there in folders if image["file_name"] in there), None
                )
                texts = tuple(captions.pop(image["id"], ()))
                if photo is None:
                    rejections.add("missing image", image["file_name"], path.name)
                    continue
                metadata = {key: image[key] for key in METADATA if key in image}
                yield Row(
                    str(image["id"]), str(photo), texts, str(image["id"]), _split_of(subset), metadata, path.name
                )
            for image_id, left_over in captions.items():
                for text in left_over:
                    rejections.add("caption of an unlisted image", text, path.name, f"image_id {image_id}")

    records = group_rows(rows(), name, rejections)
    if named and not records:
        raise SourceNotFoundError(
            f"Not one of the {named} photos that {paths[0]} names was found. Name their folder: image_dir=...",
            arguments=("image_dir",),
        )
    return records


def _image_folders(image_dir: Path | None, path: Path, subset: str) -> list[tuple[Path, frozenset[str]]]:
    roots = [image_dir] if image_dir else [path.parent, path.parent.parent]
    folders = [root / sub for root in roots for sub in (subset, f"images/{subset}", "images", "")]
    return [(folder, list_images(folder)) for folder in folders if folder.is_dir()]


def _split_of(subset: str) -> str | None:
    subset = subset.removeprefix("nocaps_")  # nocaps_val_4500_captions.json
    names = {"train": "train", "val": "validation", "test": "test"}
    return next((split for start, split in names.items() if subset.startswith(start)), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise SourceNotFoundError(f"There is no file {str(path)!r}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error
    if path.name in IMAGES_ALONE and isinstance(content, dict):
        content = {"annotations": [], **content}
    if not is_annotations(content):
        raise SourceFormatError(
            f'{path} is not a COCO caption file: expected {{"images": [{{"id", "file_name"}}], '
            '"annotations": [{"image_id", "caption"}]}.'
        )
    return content


def is_annotations(content: Any) -> bool:
    """Whether parsed JSON has the form of COCO's caption annotations."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("images"), list)
        and isinstance(content.get("annotations"), list)
        and all(isinstance(image, dict) and "id" in image and "file_name" in image for image in content["images"])
        and all(
            isinstance(entry, dict) and "image_id" in entry and isinstance(entry.get("caption"), str)
            for entry in content["annotations"]
        )
    )
