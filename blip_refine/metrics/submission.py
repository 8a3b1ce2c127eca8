"""Result files for the evaluation servers of COCO and nocaps.

Both take a JSON list of `{"image_id": 391895, "caption": "..."}` with every image of a split once. COCO's server wants
a zip of `captions_val2014_NAME_results.json` and `captions_test2014_NAME_results.json`; nocaps' (EvalAI) takes any
name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import ConfigurationError, MetricError
from ..jsonlines import write_json

SERVER_SPLITS = {"val2014": 40504, "test2014": 40775}
"""How many images COCO's server scores, by the split in the name of the file."""
NOCAPS_SPLITS = {"val": 4500, "test": 10600}
_NAME = re.compile(r"captions_(?P<split>val2014|test2014)_(?P<system>[^_]+)_results\.json")
_FILE_OF_COCO = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(\d{12})\.jpg")


def submission_ids(path: Path, image_ids: Sequence[str], source: str | None = None) -> dict[str, int]:
    """Check that a submission can be made of these images, before they are captioned.

    Args:
        path (`Path`): The file to write.
        image_ids (`Sequence[str]`): The images of the split: numbers, or COCO's file names.
        source (`str`, *optional*): The dataset ("coco", "nocaps"), whose official sizes are known.

    Returns:
        `dict[str, int]`: Image id to the number that the server knows.

    Raises:
        ConfigurationError: The name is not one that the server takes, an image has no number, two have the same, or
            the split does not have as many images as the server scores.
    """
    if path.suffix != ".json":
        raise ConfigurationError(f"A submission is a .json file, not {path.name!r}.")
    named = _NAME.fullmatch(path.name)
    if path.name.startswith("captions_") and named is None:
        raise ConfigurationError(
            f"COCO's server does not take the name {path.name!r}. It takes captions_val2014_NAME_results.json and "
            "captions_test2014_NAME_results.json, where NAME has no underscore."
        )
    numbers: dict[str, int] = {}
    owners: dict[int, str] = {}
    for image_id in image_ids:
        match = _FILE_OF_COCO.fullmatch(image_id)
        digits = match[1] if match else image_id
        if not (digits.isascii() and digits.isdigit()):
            raise ConfigurationError(
                f"The image {image_id!r} has no number. The servers of COCO and nocaps know images by the numbers of "
                "their own annotation files: evaluate --dataset coco or nocaps."
            )
        numbers[image_id] = int(digits)
        owner = owners.setdefault(int(digits), image_id)
        if owner != image_id:
            raise ConfigurationError(f"The images {owner!r} and {image_id!r} are both number {int(digits)}.")
    if named is not None:
        split, wanted = named["split"], SERVER_SPLITS[named["split"]]
        if len(numbers) != wanted:
            form = "form=annotations and split=validation" if split == "val2014" else "form=test2014"
            raise ConfigurationError(
                f"{path.name} must have all {wanted} images of {split}, and there are {len(numbers)}. The whole split "
                f"is read with {form}; images that could not be read are in the log."
            )
    elif source == "nocaps" and len(numbers) not in NOCAPS_SPLITS.values():
        raise ConfigurationError(
            f"nocaps' server scores all {NOCAPS_SPLITS['val']} images of val or all {NOCAPS_SPLITS['test']} of test, "
            f"and there are {len(numbers)}. `blip-refine fetch nocaps` downloads those that are missing."
        )
    return numbers


def write_submission(path: Path, numbers: Mapping[str, int], captions: Mapping[str, str]) -> None:
    """Write a submission, whole or not at all.

    Args:
        path (`Path`): Where to.
        numbers (`Mapping[str, int]`): What [`submission_ids`] gave.
        captions (`Mapping[str, str]`): Image id to caption, one for each of `numbers`.

    Raises:
        MetricError: An image has no caption, or there is a caption of another image.
    """
    missing = [image_id for image_id in numbers if image_id not in captions]
    unknown = [image_id for image_id in captions if image_id not in numbers]
    if missing or unknown:
        what = f"no caption for {len(missing)} of {len(numbers)} images" if missing else "captions of other images"
        raise MetricError(f"{path} was not written: {what}, for example {(missing or unknown)[0]!r}.")
    write_json(path, [{"image_id": number, "caption": captions[image_id]} for image_id, number in numbers.items()])
