"""Image files before they are decoded: their bytes, their header, and why they cannot be used."""

from __future__ import annotations

import io
import os
import struct
import zlib

from PIL import Image, ImageCms, UnidentifiedImageError

from ..errors import ImageDecodeError
from ..records import ImageInput

MAX_PIXELS = 178_956_970
"""The most pixels an image may claim to have: the size at which Pillow itself calls a file a decompression bomb."""

MAX_BYTES = 256 * 2**20
"""The most bytes an image file may have."""

# Formats whose plugin runs another program, draws through the operating system, or cannot decode by itself.
_REFUSED_FORMATS = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FITS"})

# What Pillow's plugins raise on broken files. A bug of ours would be a NameError, an AttributeError or the like.
DECODE_ERRORS = (
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


def as_text(name: str) -> str:
    """A name as text that can be encoded: Python keeps bytes of a path that are not UTF-8 as halves of surrogates."""
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        pass
    try:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "backslashreplace").decode()


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
    except DECODE_ERRORS as error:
        raise ImageDecodeError(f"{name} cannot be decoded: {reason_of(error)}.") from error
    pixels = opened.width * opened.height
    if pixels > max_pixels:
        raise ImageDecodeError(
            f"{name} claims {opened.width}x{opened.height} pixels, more than the {max_pixels} that max_pixels allows."
        )
    return opened


def upright_size(opened: Image.Image) -> tuple[int, int]:
    """Width and height in pixels as a person sees the picture. From the header alone for a JPEG; a PNG is decoded."""
    width, height = opened.size
    return (height, width) if orientation(opened) >= 5 else (width, height)


def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _REFUSED_FORMATS)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 where there is none or none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error, ZeroDivisionError, OSError):
        # Cameras and editors write broken EXIF blocks into sound pictures. Such a block says nothing about which way
        # is up, so the picture is taken as it is stored, as every viewer does.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def reason_of(error: BaseException) -> str:
    """What an error of Pillow says, as the end of a sentence."""
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
