"""Look at every image once: can it be decoded, how large is it, what is it recognised by."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from ..errors import ImageDecodeError
from ..records import CaptionRecord, ImageInput
from .cleaning import CleaningRules
from .duplicates import DECODED_SIDE, ImageHash, content_hash, hash_picture
from .images import CroppedImage, load_image, open_header, read_image_bytes, upright_size
from .rejections import Rejections


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image after a look at it.

    Args:
        width (`int`): In pixels, upright.
        height (`int`): In pixels, upright.
        format (`str`): "JPEG", "PNG", ...; "picture" where it was decoded already.
        hash (`ImageHash`): What it is recognised by.
    """

    width: int
    height: int
    format: str
    hash: ImageHash


def inspect_image(image: ImageInput) -> ImageFacts:
    """Decode an image to its last row and note what it is.

    Args:
        image (`str`, `os.PathLike`, `bytes`, `PackedImage` or `PIL.Image.Image`): The image.

    Raises:
        ImageDecodeError: It cannot be decoded.
    """
    if isinstance(image, Image.Image):
        picture = load_image(image)
        return ImageFacts(
            picture.width,
            picture.height,
            image.format or "picture",
            ImageHash(content_hash(image), hash_picture(picture)),
        )
    if isinstance(image, CroppedImage):
        whole = inspect_image(image.image)
        part = load_image(image)
        return ImageFacts(part.width, part.height, whole.format, whole.hash)
    data = read_image_bytes(image)
    name = repr(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else f"An image of {len(data)} bytes"
    opened = open_header(data, name)
    try:
        picture = load_image(data, target_size=DECODED_SIDE)
    except ImageDecodeError as error:
        raise ImageDecodeError(str(error).replace(f"An image of {len(data)} bytes", name, 1)) from error
    # Only JPEGs are decoded at a reduced scale; their size and orientation stand in the header.
    width, height = upright_size(opened) if opened.format in ("JPEG", "MPO") else picture.size
    content = hashlib.sha256(data).hexdigest()[:32]
    return ImageFacts(width, height, opened.format or "unknown", ImageHash(content, hash_picture(picture)))


def image_fault(facts: ImageFacts, rules: CleaningRules) -> str | None:
    """Why an image cannot be used, or `None` where it can.

    Args:
        facts (`ImageFacts`): What it is.
        rules (`CleaningRules`): What it has to be.

    Returns:
        `str`, *optional*: `"tiny image"` or `"extreme ratio"`.
    """
    short, long = sorted((facts.width, facts.height))
    if short < rules.min_side:
        return "tiny image"
    return "extreme ratio" if long > rules.max_aspect_ratio * short else None


def inspect_images(
    records: Sequence[CaptionRecord],
    rules: CleaningRules | None = None,
    rejections: Rejections | None = None,
    *,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[list[CaptionRecord], list[ImageFacts]]:
    """Records whose images can be used, and what those images are. One broken image costs itself and no other.

    Args:
        records (`Sequence[CaptionRecord]`): The records.
        rules (`CleaningRules`, *optional*): What images have to be.
        rejections (`Rejections`, *optional*): What is left out is noted here: "unreadable image" with the reason,
            "tiny image", "extreme ratio".
        workers (`int`, *optional*): Threads; the number of processor cores by default.
        progress (`Callable[[int], object]`, *optional*): Called with 1 after each image.

    Returns:
        `tuple[list[CaptionRecord], list[ImageFacts]]`: Both in the order of `records`, and equally long.
    """
    rules = rules or CleaningRules()

    def look(record: CaptionRecord) -> ImageFacts | ImageDecodeError:
        try:
            return inspect_image(record.image)
        except ImageDecodeError as error:
            return error
        finally:
            if progress is not None:
                progress(1)

    kept: list[CaptionRecord] = []
    facts: list[ImageFacts] = []
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for record, seen in zip(records, pool.map(look, records), strict=True):
            unreadable = isinstance(seen, ImageDecodeError)
            reason = "unreadable image" if unreadable else image_fault(seen, rules)  # type: ignore[arg-type]
            if reason is None:
                kept.append(record)
                facts.append(seen)  # type: ignore[arg-type]
            elif rejections is not None:
                detail = str(seen) if unreadable else f"{seen.width}x{seen.height}"  # type: ignore[union-attr]
                rejections.add(reason, record.image_id, record.source, detail)
    return kept, facts
