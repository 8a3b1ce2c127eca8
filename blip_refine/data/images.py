"""Decode any image that a user has: upright, in RGB, safely, and no larger than it is needed.

Nothing here imports torch. A picture stays compressed (a path, bytes, a member of an archive) until `load_image` is
called, which is in a worker process when a `DataLoader` has any.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

from ..errors import ConfigurationError, ImageDecodeError
from ..records import ImageInput
from .pixels import to_rgb
from .tolerant import decode_tolerantly, strict_decoding

MAX_PIXELS = 178_956_970
"""The most pixels an image may claim to have: the size at which Pillow itself calls a file a decompression bomb."""

MAX_BYTES = 256 * 2**20
"""The most bytes an image file may have."""

REDUCTION_MARGIN = 2.0
"""A JPEG is decoded at 1/2, 1/4 or 1/8 only where what comes out is at least this many times the target size, so
that the last, careful resize still has pixels to average over. `docs/data.md` gives the largest difference."""

# Formats whose plugin runs another program, draws through the operating system, or cannot decode by itself.
_REFUSED_FORMATS = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS"})

# What Pillow's plugins raise on broken files. A bug of ours would be a NameError, an AttributeError or the like.
_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zlib.error,
    ImageCms.PyCMSError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_ORIENTATION_TAG = 0x0112
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


class PackedImage(os.PathLike):
    """A compressed image that is not a file of its own: a member of an archive, a row of a table.

    Sources that hold many images in one file make records of these, so that a list of records stays small and is
    cheap to send to a worker. `os.fspath` names the place for people; only `read_bytes` gives the image.
    """

    __slots__ = ()

    def read_bytes(self) -> bytes:
        """The bytes of the image file."""
        raise NotImplementedError

    def __fspath__(self) -> str:
        raise NotImplementedError


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
        return _finish(image, image_name(image), background)
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
        if target_size is not None:
            _reduce_jpeg(opened, target_size)
        try:
            with strict_decoding():
                opened.load()
        except _DECODE_ERRORS:
            if truncated != "recover":
                raise
            opened = decode_tolerantly(data)
        return _finish(opened, name, background)
    except ImageDecodeError:
        raise
    except _DECODE_ERRORS as error:
        hint = ' To keep what can be read of it, pass truncated="recover".' if "truncated" in str(error) else ""
        raise ImageDecodeError(f"{name} cannot be decoded: {_reason(error)}.{hint}") from error


def image_name(image: ImageInput) -> str:
    """What to call an image in a message: its path, or what it is."""
    if isinstance(image, (str, os.PathLike)):
        return repr(os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"An image of {len(image)} bytes"
    if isinstance(image, Image.Image):
        filename = getattr(image, "filename", "")
        return repr(str(filename)) if filename else f"A {image.mode} image of {image.width}x{image.height}"
    raise ImageDecodeError(
        f"An image is a path, bytes or a PIL.Image.Image, not a {type(image).__name__}. "
        "Turn arrays and tensors into a picture with PIL.Image.fromarray first."
    )


def read_image_bytes(image: ImageInput, *, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of an image file that is not decoded yet.

    Args:
        image (`str`, `os.PathLike`, `bytes` or `PackedImage`): The image.
        max_bytes (`int`, defaults to 256 MiB): Larger files are refused.

    Raises:
        ImageDecodeError: The file is missing, unreadable, empty or too large.
    """
    name = image_name(image)
    if isinstance(image, Image.Image):
        raise ImageDecodeError(f"{name} is decoded already and has no file bytes.")
    try:
        if isinstance(image, (bytes, bytearray, memoryview)):
            data = bytes(image)
        elif isinstance(image, PackedImage):
            data = image.read_bytes()
        else:
            with open(image, "rb") as file:
                # Asked of the open file: between a look at the path and the reading, another file may take its place.
                size = os.fstat(file.fileno()).st_size
                if size > max_bytes:
                    raise ImageDecodeError(
                        f"{name} has {size} bytes, more than the {max_bytes} that max_bytes allows."
                    )
                data = file.read(max_bytes + 1)
    except OSError as error:
        raise ImageDecodeError(f"{name} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:  # a path with a null character
        raise ImageDecodeError(f"{name} is not a path: {error}.") from error
    if len(data) > max_bytes:
        raise ImageDecodeError(f"{name} has more than the {max_bytes} bytes that max_bytes allows.")
    if not data:
        raise ImageDecodeError(f"{name} is empty.")
    return data


def open_header(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image far enough to know its format and size; its pixels are not decoded.

    Args:
        data (`bytes`): The image file.
        name (`str`): What to call it in a message.
        max_pixels (`int`, defaults to `178_956_970`): Images that claim more pixels are refused.

    Raises:
        ImageDecodeError: It is no image, or too large.
    """
    try:
        opened = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise ImageDecodeError(f"{name} is not an image that can be decoded ({_guess(data)}).") from error
    except _DECODE_ERRORS as error:
        raise ImageDecodeError(f"{name} cannot be decoded: {_reason(error)}.") from error
    pixels = opened.width * opened.height
    if pixels > max_pixels:
        raise ImageDecodeError(
            f"{name} claims {opened.width}x{opened.height} pixels, more than the {max_pixels} that max_pixels allows."
        )
    return opened


def upright_size(opened: Image.Image) -> tuple[int, int]:
    """Width and height in pixels as a person sees the picture, read from the header alone."""
    width, height = opened.size
    return (height, width) if _orientation(opened) >= 5 else (width, height)


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _REFUSED_FORMATS)


def _reduce_jpeg(opened: Image.Image, target_size: int | tuple[int, int]) -> None:
    if not isinstance(opened, ImageFile.ImageFile) or opened.format not in ("JPEG", "MPO"):
        return
    width, height = (target_size, target_size) if isinstance(target_size, int) else target_size
    if _orientation(opened) >= 5:
        width, height = height, width
    opened.draft(None, (round(width * REDUCTION_MARGIN), round(height * REDUCTION_MARGIN)))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, ZeroDivisionError, OSError):
        # Cameras and editors write broken EXIF blocks into sound pictures. Such a block says nothing about which way
        # is up, so the picture is taken as it is stored, as every viewer does.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _finish(image: Image.Image, name: str, background: Sequence[int]) -> Image.Image:
    """Upright and RGB. The orientation is read before the conversion, which drops the EXIF block."""
    if 0 in image.size:
        raise ImageDecodeError(f"{name} has no pixels ({image.width}x{image.height}).")
    try:
        orientation = _orientation(image)
        image = to_rgb(image, tuple(background))
        return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
    except _DECODE_ERRORS as error:
        raise ImageDecodeError(f"{name} cannot be converted to RGB: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}".strip()


def _guess(data: bytes) -> str:
    """What a file that no plugin takes looks like, as a hint."""
    start = data[:64].lstrip().lower()
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return "it is HEIC: `pip install pillow-heif`, then `pillow_heif.register_heif_opener()`"
    if start.startswith((b"<!doctype html", b"<html")):
        return "it is a web page: the download failed"
    if start.startswith((b"<svg", b"<?xml")):
        return "it is SVG or XML, which is drawn and not decoded: convert it to PNG"
    if start.startswith((b"%!ps", b"%pdf")):
        return "it is PostScript or PDF: convert it to PNG"
    if start.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer: `git lfs pull` fetches the image"
    return "its content is of no known image format, or its header is broken"
