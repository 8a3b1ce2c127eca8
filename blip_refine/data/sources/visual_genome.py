"""Visual Genome: `region_descriptions.json`, with regions as captions of the whole image or as pictures of their own.

R. Krishna et al.: Visual Genome: Connecting Language and Vision Using Crowdsourced Dense Image Annotations, IJCV 2017.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..images import CroppedImage
from ..rejections import Rejections
from .files import find_file
from .json_list import iterate_json_list

REGION_FILES = ("region_descriptions.json",)
IMAGE_DATA_FILES = ("image_data.json",)
IMAGE_FOLDERS = ("VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2", "images", "images2", "")


def is_visual_genome(folder: Path) -> bool:
    """Whether a folder looks like Visual Genome as distributed."""
    return find_file(folder, REGION_FILES) is not None


def load(
    folder: Path,
    *,
    rejections: Rejections,
    name: str = "visual_genome",
    image_dir: str | Path | None = None,
    regions: Literal["captions", "crops"] = "captions",
    max_regions: int | None = None,
    min_region_side: int = 32,
) -> list[CaptionRecord]:
    """Read Visual Genome from a folder.

    Args:
        folder (`Path`): The folder with `region_descriptions.json`, `VG_100K/`, `VG_100K_2/` and, if it is there,
            `image_data.json` (whose COCO and Flickr numbers and sizes are kept as metadata).
        rejections (`Rejections`): Images that are not there, and regions that are too small, are noted here.
        name (`str`, defaults to `"visual_genome"`): The name of the source.
        image_dir (`str` or `Path`, *optional*): The folder that holds `VG_100K/` and so on; `folder` by default.
        regions (`"captions"` or `"crops"`, defaults to `"captions"`): Whether an image gets the phrases of all its
            regions as captions, or each region is a picture of its own. All crops of a photo count as one image for
            splits and overlap.
        max_regions (`int`, *optional*): Only the largest so many regions of each image.
        min_region_side (`int`, defaults to 32): Smaller regions (in pixels, shorter side) make no crop.

    Raises:
        SourceNotFoundError: There are no region descriptions, or not one of the photos.
        SourceFormatError: The JSON is not Visual Genome's.
    """
    if regions not in ("captions", "crops"):
        raise ConfigurationError(f'regions must be "captions" or "crops", not {regions!r}.')
    path = find_file(folder, REGION_FILES)
    if path is None:
        raise SourceNotFoundError(f"{folder} has no region_descriptions.json.")
    photos = _find_photos(Path(image_dir) if image_dir else folder)
    image_data = _read_image_data(folder)
    records: list[CaptionRecord] = []
    images = 0
    for number, entry in enumerate(iterate_json_list(path)):
        images += 1
        image_id, found = _check(entry, path, number)
        photo = photos.get(image_id)
        if photo is None:
            rejections.add("missing image", f"{image_id}.jpg", path.name)
            continue
        found = sorted(found, key=lambda region: -region["width"] * region["height"])[:max_regions]
        metadata = image_data.get(image_id, {})
        if regions == "captions":
            phrases = tuple(region["phrase"] for region in found)
            records.append(CaptionRecord(photo, phrases, image_id, None, name, metadata=metadata))
        else:
            records += _crops(found, photo, image_id, name, metadata, min_region_side, rejections)
    if images and not records:
        raise SourceNotFoundError(
            f"Not one of the {images} photos of {path} is there. Name their folder: image_dir=...",
            arguments=("image_dir",),
        )
    return records


def _crops(
    found: list[dict[str, Any]],
    photo: str,
    image_id: str,
    name: str,
    metadata: Mapping[str, Any],
    min_side: int,
    rejections: Rejections,
) -> Iterator[CaptionRecord]:
    for region in found:
        region_id = f"{image_id}-{region['region_id']}"
        x, y, width, height = (region[key] for key in ("x", "y", "width", "height"))
        if min(width, height) < min_side:
            rejections.add("small region", region_id, detail=f"{width}x{height}")
            continue
        crop = CroppedImage(photo, (x, y, x + width, y + height))
        yield CaptionRecord(crop, (region["phrase"],), region_id, None, name, metadata={**metadata, "image": image_id})


def _find_photos(folder: Path) -> dict[str, str]:
    """The path of each photo, by its number."""
    photos: dict[str, str] = {}
    for sub in reversed(IMAGE_FOLDERS):
        if (folder / sub).is_dir():
            photos |= {path.stem: str(path) for path in (folder / sub).glob("*.jpg")}
    return photos


def _read_image_data(folder: Path) -> dict[str, dict[str, Any]]:
    path = find_file(folder, IMAGE_DATA_FILES)
    if path is None:
        return {}
    keys = ("coco_id", "flickr_id", "url")
    return {
        str(entry["image_id"]): {key: entry[key] for key in keys if entry.get(key) is not None}
        for entry in iterate_json_list(path)
        if isinstance(entry, dict) and "image_id" in entry
    }


def _check(entry: Any, path: Path, number: int) -> tuple[str, list[dict[str, Any]]]:
    if isinstance(entry, dict) and isinstance(entry.get("regions"), list):
        found = entry["regions"]
        # The number stands in the image or, in the first releases, only in its regions.
        image_id = entry.get("id", entry.get("image_id", found[0].get("image_id") if found else None))
        needed = {"phrase", "x", "y", "width", "height", "region_id"}
        if image_id is not None and all(isinstance(region, dict) and needed <= region.keys() for region in found):
            return str(image_id), found
    raise SourceFormatError(
        f'{path}, image {number}: expected {{"id": ..., "regions": [{{"region_id", "phrase", "x", "y", "width", '
        '"height"}]}, as in region_descriptions.json of Visual Genome 1.0 to 1.4.'
    )
