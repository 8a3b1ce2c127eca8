"""Decode any image that a user has: upright, in RGB, safely, and no larger than it is needed.

Nothing here imports torch. A picture stays compressed (a path, bytes, a member of an archive) until `load_image` is
called, which is in a worker process when a `DataLoader` has any.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageFile

from ..errors import ConfigurationError, ImageDecodeError
from ..records import ImageInput
from .image_files import (
    DECODE_ERRORS,
    MAX_BYTES,
    MAX_PIXELS,
    PackedImage,
    image_name,
    open_header,
    orientation,
    read_image_bytes,
    reason_of,
    upright_size,
)
from .pixels import to_rgb
from .tolerant import decode_tolerantly, strict_decoding

__all__ = [
    "CroppedImage",
    "MAX_BYTES",
    "MAX_PIXELS",
    "PackedImage",
    "image_name",
    "load_image",
    "open_header",
    "read_image_bytes",
    "upright_size",
]

REDUCTION_MARGIN = 2.0
"""A JPEG is decoded at 1/2, 1/4 or 1/8 only where what comes out is at least this many times the target size, so
that the last, careful resize still has pixels to average over. `docs/data.md` gives the largest difference."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How the EXIF orientations 2 to 8 are undone (EXIF 2.32, section 4.6.4 A)."""


class CroppedImage(PackedImage):
    """A part of a picture, as a picture of its own. For splits and overlap it counts as the whole.

    Args:
        image (`str`, `os.PathLike` or `bytes`): The whole picture.
        box (`tuple[int, int, int, int]`): Left, top, right, bottom, in pixels of the whole, upright picture; what lies
            outside of it is cut off.
    """

    __slots__ = ("image", "box")

    def __init__(self, image: str | os.PathLike | bytes, box: tuple[int, int, int, int]):
        self.image, self.box = image, box

    def read_bytes(self) -> bytes:
        """The file of the whole picture."""
        return read_image_bytes(self.image)

    def __fspath__(self) -> str:
        return f"{image_name(self.image)} {self.box}"

    def __reduce__(self) -> tuple:
        return (type(self), (self.image, self.box))

    def crop(self, whole: Image.Image) -> Image.Image:
        """Cut the part out of the decoded picture.

        Raises:
            ImageDecodeError: The box lies outside of the picture.
        """
        left, top, right, bottom = self.box
        box = (max(0, left), max(0, top), min(whole.width, right), min(whole.height, bottom))
        if box[0] >= box[2] or box[1] >= box[3]:
            raise ImageDecodeError(f"{os.fspath(self)} lies outside of its picture of {whole.width}x{whole.height}.")
        return whole.crop(box)


def load_image(
    image: ImageInput,
    *,
    target_size: int | tuple[int, int] | None = None,
    truncated: Literal["error", "recover"] = "error",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    background: Sequence[int] = (255, 255, 255),
) -> Image.Image:
    """Decode one image: upright by its EXIF orientation, first frame, transparency on white, RGB with 8 bits.

    Args:
        image (`str`, `os.PathLike`, `bytes`, `PackedImage` or `PIL.Image.Image`): The picture. A `PIL.Image.Image` is
            converted and turned upright; it is not changed, and not copied if there is nothing to do.
        target_size (`int` or `tuple[int, int]`, *optional*): Width and height (or one number for both) in pixels that
            the picture will be resized to *by the caller*. Large JPEGs are then decoded at 1/2, 1/4 or 1/8, never to
            less than `REDUCTION_MARGIN` times this size. By default the whole picture is decoded.
        truncated (`"error"` or `"recover"`, defaults to `"error"`): What to do with a file that ends too early.
            `"recover"` keeps the part that is there; the rest is black or grey.
        max_pixels (`int`, defaults to `178_956_970`): Images that claim more pixels are refused before decoding.
        max_bytes (`int`, defaults to 256 MiB): Larger files are refused before they are read.
        background (`Sequence[int]`, defaults to white): Red, green and blue (0 to 255) behind transparent pixels.

    Returns:
        `PIL.Image.Image`: In mode `"RGB"`.

    Raises:
        ImageDecodeError: The image is missing, broken, too large or of a format that is not decoded. The message
            names the image.
    """
    if truncated not in ("error", "recover"):
        raise ConfigurationError(f'truncated must be "error" or "recover", not {truncated!r}.')
    if isinstance(image, Image.Image):
        return _finish(image, orientation(image), image_name(image), background)
    if isinstance(image, CroppedImage):
        # The box is in pixels of the full picture, so it is not decoded at a reduced scale.
        whole = load_image(
            image.image, truncated=truncated, max_pixels=max_pixels, max_bytes=max_bytes, background=background
        )
        return image.crop(whole)
    name = image_name(image)
    data = read_image_bytes(image, max_bytes=max_bytes)
    try:
        opened = open_header(data, name, max_pixels=max_pixels)
        full_size = opened.size
        if target_size is not None:
            _reduce_jpeg(opened, target_size)
        try:
            with strict_decoding():
                opened.load()
        except DECODE_ERRORS:
            if truncated != "recover":
                raise
            opened = decode_tolerantly(data)
        # Not earlier: a PNG may keep its orientation behind the pixels, and Pillow would decode it to find out.
        turn = orientation(opened)
        return _finish(_aligned(opened, full_size), turn, name, background)
    except ImageDecodeError:
        raise
    except DECODE_ERRORS as error:
        hint = ' To keep what can be read of it, pass truncated="recover".' if "truncated" in str(error) else ""
        raise ImageDecodeError(f"{name} cannot be decoded: {reason_of(error)}.{hint}") from error


def _reduce_jpeg(opened: Image.Image, target_size: int | tuple[int, int]) -> None:
    """Ask the JPEG decoder for less; it gives what is nearest, and no less than it was asked for."""
    if not isinstance(opened, ImageFile.ImageFile) or opened.format not in ("JPEG", "MPO"):
        return
    width, height = (target_size, target_size) if isinstance(target_size, int) else target_size
    if orientation(opened) >= 5:
        width, height = height, width
    opened.draft(None, (round(width * REDUCTION_MARGIN), round(height * REDUCTION_MARGIN)))


def _aligned(opened: Image.Image, full_size: tuple[int, int]) -> Image.Image:
    """A reduced picture over exactly the area of the full one.

    461 rows at half scale are 230.5; the decoder makes 231, of which the last is half padding. Left there, it would
    shift every edge by a part of a pixel, which is the largest difference that reduction makes.
    """
    if opened.size == full_size:
        return opened
    scale = round(full_size[0] / opened.width)
    exact = (full_size[0] / scale, full_size[1] / scale)
    if exact == opened.size:
        return opened
    size = (round(exact[0]), round(exact[1]))
    return opened.resize(size, Image.Resampling.BICUBIC, box=(0, 0, *exact))


def _finish(image: Image.Image, turn: int, name: str, background: Sequence[int]) -> Image.Image:
    """RGB and upright. The orientation was read before: what is made from a picture has lost its EXIF block."""
    if 0 in image.size:
        raise ImageDecodeError(f"{name} has no pixels ({image.width}x{image.height}).")
    try:
        image = to_rgb(image, tuple(background))
        return image.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else image
    except DECODE_ERRORS as error:
        raise ImageDecodeError(f"{name} cannot be converted to RGB: {reason_of(error)}.") from error
