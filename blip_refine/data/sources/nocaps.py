"""nocaps: novel object captioning, for evaluation alone.

H. Agrawal et al.: nocaps: novel object captioning at scale, ICCV 2019.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from .coco import load_annotations
from .files import find_file

FILES = {"val": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}
SUBFOLDERS = ("", "annotations")


def is_nocaps(folder: Path) -> bool:
    """Whether a folder looks like nocaps as distributed."""
    return find_file(folder, tuple(FILES.values()), SUBFOLDERS) is not None


def load(
    folder: Path, *, rejections: Rejections, name: str = "nocaps", image_dir: str | Path | None = None
) -> list[CaptionRecord]:
    """Read nocaps from a folder: "validation" with its ten captions per image, "test" without captions.

    Args:
        folder (`Path`): The folder with the JSON files, and the photos in `val/` and `test/`.
        rejections (`Rejections`): Images that are not there are noted here.
        name (`str`, defaults to `"nocaps"`): The name of the source.
        image_dir (`str` or `Path`, *optional*): The folder that holds `val/` and `test/`; `folder` by default.

    Returns:
        `list[CaptionRecord]`: With the number of the image as `image_id`, and its domain in the metadata.

    Raises:
        SourceNotFoundError: There is no such file, or not one of the photos.
    """
    records: list[CaptionRecord] = []
    for subset, file in FILES.items():
        path, photos = find_file(folder, (file,), SUBFOLDERS), Path(image_dir or folder)
        if path is not None and (photos / subset).is_dir():
            # Each by itself: an image of the one may have the number of another image of the other.
            records += load_annotations([path], rejections=rejections, name=name, image_dir=photos)
    if not records:
        raise SourceNotFoundError(
            f"{folder} has no {' or '.join(FILES.values())} with its photos in {' or '.join(FILES)}/. To download "
            f"them: blip-refine fetch nocaps --output {folder}"
        )
    return records
