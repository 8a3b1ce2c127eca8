"""Which images are the same picture: exactly (a hash of the content) or nearly (a perceptual hash).

The perceptual hash is `imagehash`'s: which low frequencies of a discrete cosine transform lie above their median
(C. Zauner: Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), with 16 x 16 = 256 bits; and a
coarse look at the colours beside it, since the transform is of grey values alone, and says nothing of a plain wall.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from ..errors import ImageDecodeError
from ..records import CaptionRecord, ImageInput
from .hamming import COLOR_GRID, HASH_SIZE, NearIndex, near_pairs
from .images import CroppedImage, load_image, read_image_bytes

DECODED_SIDE = 64
"""Pixels that the transform looks at, in a row and in a column; large JPEGs are decoded no larger than this needs."""


@dataclass(frozen=True, slots=True)
class ImageHash:
    """What an image is recognised by.

    Args:
        content (`str`): The first 32 hex digits of the SHA-256 of the file (or, for a decoded picture, its pixels).
        perceptual (`str`, *optional*): 64 hex digits of the perceptual hash and 96 of the colour grid; `None` where
            the image cannot be decoded.
    """

    content: str
    perceptual: str | None = None


def content_hash(image: ImageInput) -> str:
    """Hash of an image's bytes as they are stored; the same file under another name has the same.

    Raises:
        ImageDecodeError: The image cannot be read.
    """
    if isinstance(image, Image.Image):
        return hashlib.sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()[:32]
    return hashlib.sha256(read_image_bytes(image)).hexdigest()[:32]


def perceptual_hash(image: ImageInput) -> str:
    """Hash of what an image looks like; close for the same photo re-encoded, resized or slightly brightened.

    Raises:
        ImageDecodeError: The image cannot be decoded.
    """
    return hash_picture(load_image(image, target_size=DECODED_SIDE, truncated="recover"))


def hash_picture(picture: Image.Image) -> str:
    """`perceptual_hash` of a picture that `load_image(..., target_size=DECODED_SIDE)` has decoded."""
    import imagehash

    bits = imagehash.phash(picture, hash_size=HASH_SIZE, highfreq_factor=4).hash
    grid = picture.resize((COLOR_GRID, COLOR_GRID), Image.Resampling.BOX)
    return np.packbits(np.asarray(bits).reshape(-1)).tobytes().hex() + grid.tobytes().hex()


def hash_image(image: ImageInput, *, perceptual: bool = True) -> ImageHash:
    """Both hashes of an image; files are hashed once in the life of a process, unless they change.

    Args:
        image (`str`, `os.PathLike`, `bytes`, `PackedImage` or `PIL.Image.Image`): The image.
        perceptual (`bool`, defaults to `True`): Whether to compute the perceptual hash, which needs decoding.

    Raises:
        ImageDecodeError: The image cannot be read.
    """
    if isinstance(image, CroppedImage):
        return hash_image(image.image, perceptual=perceptual)  # parts of a picture share its fate in every split
    if isinstance(image, (str, os.PathLike)) and os.path.exists(image):
        status = os.stat(image)
        return _hash_file(os.path.abspath(image), status.st_size, status.st_mtime_ns, perceptual)
    return _hash(image, perceptual)


def hash_images(
    images: Sequence[ImageInput],
    *,
    perceptual: bool = True,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[ImageHash]:
    """Hash many images in threads (decoding and hashing leave Python's lock).

    Args:
        images (`Sequence`): The images.
        perceptual (`bool`, defaults to `True`): See `hash_image`.
        workers (`int`, *optional*): Threads; the number of processor cores by default.
        progress (`Callable[[int], object]`, *optional*): Called with 1 after each image.

    Raises:
        ImageDecodeError: An image cannot be read.
    """

    def one(image: ImageInput) -> ImageHash:
        hashed = hash_image(image, perceptual=perceptual)
        if progress is not None:
            progress(1)
        return hashed

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        return list(pool.map(one, images))


@lru_cache(maxsize=1_000_000)
def _hash_file(path: str, size: int, modified: int, perceptual: bool) -> ImageHash:
    return _hash(path, perceptual)


def _hash(image: ImageInput, perceptual: bool) -> ImageHash:
    if isinstance(image, Image.Image):
        return ImageHash(content_hash(image), perceptual_hash(image) if perceptual else None)
    data = read_image_bytes(image)
    content = hashlib.sha256(data).hexdigest()[:32]
    if not perceptual:
        return ImageHash(content)
    try:
        return ImageHash(content, perceptual_hash(data))
    except ImageDecodeError:
        # An image that cannot be decoded cannot be looked at; it is still known by its bytes, and whoever trains on
        # it meets the error itself.
        return ImageHash(content)


class KnownImages:
    """A collection of images, to ask of one picture at a time whether it is a copy of one of them.

    Args:
        hashes (`Sequence[ImageHash]`): Of the collection.
    """

    def __init__(self, hashes: Sequence[ImageHash]):
        self._contents = {hashed.content for hashed in hashes}
        self._near = NearIndex([hashed.perceptual for hashed in hashes])

    def __contains__(self, hashed: ImageHash) -> bool:
        return hashed.content in self._contents or self._near.has_near(hashed.perceptual)


def find_duplicate_pairs(
    first: Sequence[ImageHash], second: Sequence[ImageHash] | None = None
) -> list[tuple[int, int]]:
    """Pairs of images that are the same picture.

    Args:
        first (`Sequence[ImageHash]`): One collection of images.
        second (`Sequence[ImageHash]`, *optional*): Another; by default pairs within the first are looked for.

    Returns:
        `list[tuple[int, int]]`: Places in `first` and in `second`. Within one collection the smaller place comes
        first, and of more than two equal files only enough pairs are named to join them all.
    """
    within = second is None
    others = first if second is None else second
    pairs = set(_exact_pairs(first, others, within))
    pairs.update(near_pairs([h.perceptual for h in first], None if within else [h.perceptual for h in others]))
    return sorted(pairs)


def group_duplicates(hashes: Sequence[ImageHash]) -> list[list[int]]:
    """Images sorted into groups of the same picture; most groups hold one.

    Args:
        hashes (`Sequence[ImageHash]`): The images.

    Returns:
        `list[list[int]]`: Places in `hashes`, each in exactly one group, in order of first appearance.
    """
    parent = list(range(len(hashes)))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for one, other in find_duplicate_pairs(hashes):
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    groups: dict[int, list[int]] = {}
    for place in range(len(hashes)):
        groups.setdefault(root(place), []).append(place)
    return list(groups.values())


def _exact_pairs(first: Sequence[ImageHash], second: Sequence[ImageHash], within: bool) -> Iterator[tuple[int, int]]:
    places: dict[str, list[int]] = {}
    for place, hashed in enumerate(first):
        places.setdefault(hashed.content, []).append(place)
    if within:
        # A chain joins the group; every pair of a picture that is there a thousand times would be half a million.
        for same in places.values():
            yield from zip(same, same[1:], strict=False)
        return
    for other, hashed in enumerate(second):
        for place in places.get(hashed.content, ()):
            yield place, other


def hash_records(records: Sequence[CaptionRecord], **options) -> list[ImageHash]:
    """`hash_images` of the records' images."""
    return hash_images([record.image for record in records], **options)
