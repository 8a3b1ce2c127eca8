"""Whatever a user has in the way of images, as one lazy stream of named `ImageSource`s.

Nothing is decoded and nothing is downloaded here: that happens in the workers of `streaming`. What cannot be an image
becomes a source with an `error`, so that there is one result for each input.
"""

from __future__ import annotations

import base64
import binascii
import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .data.images import PackedImage
from .errors import ImageDecodeError, SourceNotFoundError
from .records import CaptionRecord, ImageInput
from .url_images import UrlImage, UrlLimits

IMAGE_SUFFIXES = frozenset(
    ".avif .bmp .dib .gif .heic .heif .j2k .jfif .jp2 .jpe .jpeg .jpg .png .ppm .pgm .tga .tif .tiff .webp".split()
)
"""What a file in a folder is called to be taken for an image. A file that is named itself may be called anything."""

MAX_BASE64 = 350 * 2**20
"""Longer base64 texts are refused: they are more than the largest image file that is decoded."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s_-]{64,}={0,2}\s*\Z")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One image on its way in.

    Args:
        image_id (`str`): Its path or URL, its id in a dataset, or its place in the input.
        image (`ImageInput`, *optional*): The picture, not decoded yet where it need not be.
        metadata (`Mapping[str, Any]`): What a dataset knows of it; handed to refiners.
        error (`str`, *optional*): Why it cannot be an image.
    """

    image_id: str
    image: ImageInput | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


def is_one_image(images: Any) -> bool:
    """Whether `images` stands for one image (and the answer is one caption), or for many."""
    if isinstance(images, (str, os.PathLike)) and not isinstance(images, PackedImage):
        return not _is_many(os.fspath(images))
    if isinstance(images, (bytes, bytearray, memoryview, Image.Image, CaptionRecord, PackedImage, Mapping)):
        return True
    # Arrays and tensors: (height, width) or with channels is one picture, with another dimension a batch.
    return hasattr(images, "ndim") and hasattr(images, "dtype") and images.ndim <= 3


def expand_images(
    images: Any, *, image_column: str | None = None, limits: UrlLimits | None = None
) -> Iterator[ImageSource]:
    """Name every image of an input, lazily.

    Args:
        images: A path, a folder (searched through), a glob pattern, an `http(s)` URL, a data URI or base64 text, the
            bytes of a file, a `PIL.Image.Image`, a `numpy` array or `torch` tensor (one picture or a batch), a
            [`CaptionRecord`], a row of a dataset; or any iterable of these, a `datasets.Dataset` or a column of one
            among them, as long as it likes.
        image_column (`str`, *optional*): The column of a dataset that holds the images. By default "image", else the
            first one of an image type.
        limits ([`UrlLimits`], *optional*): What a download may cost.

    Raises:
        SourceNotFoundError: A folder without images, a pattern that fits no file, or a dataset without such a column.
    """
    limits = limits or UrlLimits()
    if _is_iterable_of_images(images):
        column = image_column or _image_column(images)
        stream: Iterable[Any] = chain.from_iterable(_unfold_one(item) for item in images)
    else:
        column, stream = image_column, _unfold(images)
    for place, item in enumerate(stream):
        try:
            yield _name(item, place, column, limits)
        except (ImageDecodeError, SourceNotFoundError) as error:
            yield ImageSource(str(place), error=str(error))


def _is_iterable_of_images(images: Any) -> bool:
    if is_one_image(images) or isinstance(images, (str, os.PathLike)):
        return False
    if not isinstance(images, Iterable):
        raise ImageDecodeError(
            f"A {type(images).__name__} is no image: give a path, a URL, bytes, a picture, an array, or several."
        )
    return True


def _is_many(text: str) -> bool:
    """Whether a path is a folder or a pattern."""
    if _SCHEME.match(text) or text.startswith("data:") or len(text) > 4096:
        return False
    return os.path.isdir(text) or (glob.has_magic(text) and not os.path.exists(text))


def _unfold(item: Any) -> Iterable[Any]:
    """Folders, patterns and batches of arrays as the images that they hold."""
    if isinstance(item, (str, os.PathLike)) and not isinstance(item, PackedImage):
        text = os.fspath(item)
        if not _is_many(text):
            return (item,)
        return _files_in(text) if os.path.isdir(text) else _files_like(text)
    if hasattr(item, "ndim") and hasattr(item, "dtype") and item.ndim == 4:
        return item
    return (item,)


def _unfold_one(item: Any) -> Iterator[Any]:
    """One of several inputs: where it holds nothing, that is its result, and no reason to stop."""
    try:
        yield from _unfold(item)
    except SourceNotFoundError as error:
        yield ImageSource(os.fspath(item), error=str(error))


def _files_in(folder: str) -> Iterator[str]:
    found = False
    for where, folders, names in os.walk(folder):
        # In place, so that os.walk goes through them in this order and leaves hidden ones out.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                found = True
                yield os.path.join(where, name)
    if not found:
        raise SourceNotFoundError(f"There is no image in the folder {folder!r} or below it.")


def _files_like(pattern: str) -> Iterator[str]:
    matches = sorted(path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path))
    # "photos/*" means the photos; "photos/*.dat" means just these files, whatever they are called.
    if not Path(pattern).suffix:
        matches = [path for path in matches if Path(path).suffix.lower() in IMAGE_SUFFIXES]
    if not matches:
        raise SourceNotFoundError(f"No file fits the pattern {pattern!r}.")
    yield from matches


def _image_column(dataset: Any) -> str | None:
    """The column of a `datasets` dataset that holds images; `None` where `dataset` is none."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping):
        return None
    if "image" in features:
        return "image"
    for name, feature in features.items():
        if type(feature).__name__ == "Image":
            return name
    raise SourceNotFoundError(
        f"The dataset has no column of images (columns: {', '.join(features)}). Name it with image_column=..."
    )


def _name(item: Any, place: int, column: str | None, limits: UrlLimits) -> ImageSource:
    if isinstance(item, CaptionRecord):
        return ImageSource(item.image_id, item.image, item.metadata)
    if isinstance(item, ImageSource):
        return item
    if isinstance(item, Mapping):
        return _name_row(item, place, column, limits)
    if isinstance(item, str):
        return _name_text(item, place, limits)
    if isinstance(item, os.PathLike):
        return ImageSource(Path(item).as_posix() if isinstance(item, Path) else os.fspath(item), item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return ImageSource(str(place), bytes(item))
    if isinstance(item, Image.Image):
        return ImageSource(str(place), item)
    if hasattr(item, "ndim") and hasattr(item, "dtype"):
        return ImageSource(str(place), picture_of(item))
    raise ImageDecodeError(f"Input {place} is a {type(item).__name__}, which is no image.")


def _name_row(row: Mapping[str, Any], place: int, column: str | None, limits: UrlLimits) -> ImageSource:
    """A row of a dataset, or an image as `datasets` keeps it undecoded: `{"bytes": ..., "path": ...}`."""
    if set(row) == {"bytes", "path"}:
        image = row["bytes"] if row["bytes"] is not None else row["path"]
        if image is None:
            raise ImageDecodeError(f"Input {place} holds neither bytes nor a path.")
        source = _name(image, place, None, limits)
        return ImageSource(str(row["path"] or source.image_id), source.image)
    column = column or "image"
    if row.get(column) is None:
        raise ImageDecodeError(f"Input {place} has no image under {column!r} (it has: {', '.join(map(str, row))}).")
    source = _name(row[column], place, None, limits)
    metadata = {key: value for key, value in row.items() if key not in (column, "image_id")}
    return ImageSource(str(row.get("image_id", source.image_id)), source.image, metadata)


def _name_text(text: str, place: int, limits: UrlLimits) -> ImageSource:
    if text[:5].lower() == "data:":
        return ImageSource(str(place), _from_data_uri(text, place))
    if text[:7].lower() == "http://" or text[:8].lower() == "https://":
        return ImageSource(text, UrlImage(text, limits))
    if scheme := _SCHEME.match(text):
        return ImageSource(text[:200], error=f"{text[:100]!r}: only http and https are fetched, not {scheme.group()}")
    if len(text) >= 64 and _BASE64.match(text) and not (len(text) < 4096 and os.path.exists(text)):
        return ImageSource(str(place), _from_base64(text, place))
    return ImageSource(text.replace(os.sep, "/"), text)


def _from_data_uri(text: str, place: int) -> bytes:
    header, comma, body = text.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise ImageDecodeError(
            f"Input {place} is a data URI without base64: it must begin like data:image/png;base64,"
        )
    return _from_base64(body, place)


def _from_base64(text: str, place: int) -> bytes:
    if len(text) > MAX_BASE64:
        raise ImageDecodeError(f"Input {place} is a base64 text of {len(text)} characters; {MAX_BASE64} are allowed.")
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except binascii.Error as error:
        raise ImageDecodeError(f"Input {place} is not base64: {error}.") from error


def picture_of(array: Any) -> Image.Image:
    """The picture in an array or tensor.

    Args:
        array (`np.ndarray` or `torch.Tensor`): Of shape `(height, width)`, `(height, width, channels)` or
            `(channels, height, width)` with 1, 3 or 4 channels; whole numbers from 0 to 255, or floats from 0 to 1.

    Raises:
        ImageDecodeError: It is no such array. Normalized `pixel_values` are not.
    """
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        # numpy has no bfloat16.
        array = (array.float() if array.is_floating_point() else array).numpy()
    array = np.asarray(array)
    shape = array.shape
    if array.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in shape:
        raise ImageDecodeError(f"An array of shape {shape} is no picture: it takes (height, width, 3) or the like.")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise ImageDecodeError(
                f"An array of floats from {low:.3g} to {high:.3g} is no picture: floats go from 0 to 1 and whole "
                "numbers from 0 to 255. Give the picture as it was before it was normalized."
            )
        array = np.round(array.clip(0, 1) * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.integer) or array.min() < 0 or array.max() > 255:
            raise ImageDecodeError(f"An array of {array.dtype} is no picture: whole numbers go from 0 to 255.")
        array = array.astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))
