"""Whatever a user has in the way of images, as one lazy stream of named `ImageSource`s.

Nothing is decoded and nothing is downloaded here: that happens in the workers of `streaming`. What cannot be an image
becomes a source with an `error`, so that there is one result for each input.
"""

from __future__ import annotations

import base64
import glob
import os
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image, ImageFile

from .data.arrays import picture_of
from .data.image_files import as_text
from .data.image_search import UnsearchableFolder, files_in, files_like
from .data.images import PackedImage, load_image
from .data.undecoded import is_dataset, rows_undecoded
from .errors import ConfigurationError, ImageDecodeError, SourceNotFoundError
from .records import CaptionRecord, ImageInput
from .url_images import UrlImage, UrlLimits, without_password

MAX_BASE64 = 350 * 2**20
"""Longer base64 texts are refused: they are more than the largest image file that is decoded."""

_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s_-]{64,}={0,2}\s*\Z")


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One image on its way in.

    Args:
        image_id (`str`): Its path or URL, its id in a dataset, or its place in the input. Bytes of a path that are no
            text are written as `\\xff`, so that the name can be written to any file.
        image (`ImageInput`, *optional*): The picture, not decoded yet where it need not be.
        metadata (`Mapping[str, Any]`): What a dataset knows of it, for prompt templates.
        facts (`Mapping[str, Any]`, *optional*): What refiners are told; `metadata` by default.
        error (`str`, *optional*): Why it cannot be an image.
        prompt (`str`, *optional*): What its caption begins with, where it has a prompt of its own.
    """

    image_id: str
    image: ImageInput | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    prompt: str | None = None
    facts: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.facts is None:
            object.__setattr__(self, "facts", self.metadata)
        if not self.image_id.isascii():
            object.__setattr__(self, "image_id", as_text(self.image_id))


def is_one_image(images: Any) -> bool:
    """Whether `images` stands for one image (and the answer is one caption), or for many."""
    if isinstance(images, (str, os.PathLike)) and not isinstance(images, PackedImage):
        return not _is_many(os.fspath(images))
    if isinstance(images, (bytes, bytearray, memoryview, Image.Image, CaptionRecord, PackedImage, Mapping)):
        return True
    if hasattr(images, "read"):
        return True
    # Arrays and tensors: (height, width) or with channels is one picture, with another dimension a batch.
    return _is_array(images) and images.ndim <= 3 and not _is_list_in_an_array(images)


def _is_array(images: Any) -> bool:
    return hasattr(images, "ndim") and hasattr(images, "dtype")


def _is_list_in_an_array(images: Any) -> bool:
    """Paths, bytes or pictures in a column of `pandas`, or in a `numpy` array of them."""
    return _is_array(images) and images.ndim == 1 and getattr(images.dtype, "kind", "") in "OUST"


def expand_images(
    images: Any, *, image_column: str | None = None, limits: UrlLimits | None = None
) -> Iterator[ImageSource]:
    """Name every image of an input, lazily.

    Args:
        images: A path, a folder (searched through), a glob pattern, an `http(s)` URL, a data URI or base64 text, the
            bytes of a file, an open file, a `PIL.Image.Image`, a `numpy` array or `torch` tensor (one picture or a
            batch), a [`CaptionRecord`], a row of a dataset; or any iterable of these, a `datasets.Dataset`, a column
            of one or of a `pandas.DataFrame` among them, as long as it likes. A generator may change or close a
            picture, an array or a file when it is asked for the next one. A record or row with a `prompt` has its
            caption begin with it.
        image_column (`str`, *optional*): The column of a dataset that holds the images. By default "image", else the
            first one of an image type.
        limits ([`UrlLimits`], *optional*): What a download may cost.

    Raises:
        SourceNotFoundError: A folder without images, a pattern that fits no file, or a dataset without such a column.
    """
    limits = limits or UrlLimits()
    if _is_iterable_of_images(images):
        column = image_column or _image_column(images)
        items = rows_undecoded(images) if is_dataset(images) else images
        stream: Iterable[Any] = chain.from_iterable(_unfold_one(item) for item in items)
    else:
        column, stream = image_column, _unfold(images)
    for place, item in enumerate(stream):
        try:
            yield _name(item, place, column, limits)
        except (ImageDecodeError, SourceNotFoundError) as error:
            yield ImageSource(str(place), error=str(error))


def with_prompts(sources: Iterable[ImageSource], prompts: Iterable[str]) -> Iterator[ImageSource]:
    """Images with a prompt each, in order.

    Raises:
        ConfigurationError: There are fewer prompts than images, or more.
    """
    following = iter(prompts)
    for place, source in enumerate(sources):
        prompt = next(following, None)
        if prompt is None:
            raise ConfigurationError(f"There are only {place} prompts for more images: give one per image.")
        yield replace(source, prompt=prompt)
    if next(following, None) is not None:
        raise ConfigurationError("There are more prompts than images: give one per image.")


def _is_iterable_of_images(images: Any) -> bool:
    if is_one_image(images) or isinstance(images, (str, os.PathLike)):
        return False
    if hasattr(images, "iterrows"):
        raise ImageDecodeError(
            f"A {type(images).__name__} is a table: give its column of images, such as table['path'], or its rows, "
            "table.to_dict('records'), with image_column=."
        )
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
        return files_in(text) if os.path.isdir(text) else files_like(text)
    if _is_array(item) and item.ndim == 4:
        return item
    return (item,)


def _unfold_one(item: Any) -> Iterator[Any]:
    """One of several inputs: where it holds nothing, that is its result, and no reason to stop."""
    try:
        yield from _unfold(item)
    except SourceNotFoundError as error:
        yield ImageSource(os.fspath(item), error=str(error))


def _image_column(dataset: Any) -> str | None:
    """The column of a `datasets` dataset that holds images; `None` where `dataset` is none."""
    features = getattr(dataset, "features", None)
    if not isinstance(features, Mapping):
        return None
    if "image" in features:
        return "image"
    import datasets

    for name, feature in features.items():
        if isinstance(feature, datasets.Image):
            return name
    raise SourceNotFoundError(
        f"The dataset has no column of images (columns: {', '.join(features)}). Name it with image_column=..."
    )


def _name(item: Any, place: int, column: str | None, limits: UrlLimits) -> ImageSource:
    if isinstance(item, CaptionRecord):
        return ImageSource(item.image_id, item.image, item.metadata, prompt=item.prompt, facts=item.facts)
    if isinstance(item, ImageSource):
        return item
    if isinstance(item, UnsearchableFolder):
        return ImageSource(item.folder, error=str(item))
    if isinstance(item, Mapping):
        return _name_row(item, place, column, limits)
    if isinstance(item, str):
        return _name_text(item, place, limits)
    if isinstance(item, os.PathLike):
        return ImageSource(Path(item).as_posix() if isinstance(item, Path) else os.fspath(item), item)
    if isinstance(item, (bytes, bytearray, memoryview)):
        return ImageSource(str(place), bytes(item))
    if isinstance(item, Image.Image):
        return ImageSource(str(place), _still(item))
    if _is_array(item):
        return ImageSource(str(place), picture_of(item))
    if hasattr(item, "read"):
        return ImageSource(str(place), _read(item, place))
    raise ImageDecodeError(f"Input {place} is a {type(item).__name__}, which is no image.")


def _still(picture: Image.Image) -> Image.Image:
    """A picture that stays as it is now. It is decoded in a worker, later: by then a generator may have closed its
    file, gone on to the next frame of an animation, or drawn over it."""
    try:
        still = load_image(picture) if isinstance(picture, ImageFile.ImageFile) else picture
        return picture.copy() if still is picture else still
    except (ValueError, AssertionError, AttributeError) as error:  # of a closed file, by format and release of Pillow
        raise ImageDecodeError(f"A picture has been closed before it could be decoded: {error}.") from error


def _read(file: Any, place: int) -> bytes:
    """What an open file holds from where it stands."""
    try:
        data = file.read()
    except (OSError, ValueError) as error:
        raise ImageDecodeError(f"Input {place}, an open file, cannot be read: {error}.") from error
    if not isinstance(data, (bytes, bytearray)):
        raise ImageDecodeError(f"Input {place} is a file of text: open it with mode 'rb'.")
    return bytes(data)


def _name_row(row: Mapping[str, Any], place: int, column: str | None, limits: UrlLimits) -> ImageSource:
    """A row of a dataset, or an image as `datasets` keeps it undecoded: `{"bytes": ..., "path": ...}`."""
    if _is_packed(row):
        image = row["bytes"] if row["bytes"] is not None else row["path"]
        if image is None:
            raise ImageDecodeError(f"Input {place} holds neither bytes nor a path.")
        source = _name(image, place, None, limits)
        return ImageSource(str(row["path"] or source.image_id), source.image)
    column = column or "image"
    if row.get(column) is None:
        raise ImageDecodeError(f"Input {place} has no image under {column!r} (it has: {', '.join(map(str, row))}).")
    source = _name(row[column], place, None, limits)
    given = row.get("prompt")
    prompt = given if isinstance(given, str) and given.strip() else None
    used = (column, "image_id", "prompt") if isinstance(given, str) else (column, "image_id")
    others = {key: value for key, value in row.items() if key not in used}
    metadata = {key: value for key, value in others.items() if not _is_packed(value)}
    return ImageSource(str(row.get("image_id", source.image_id)), source.image, metadata, prompt=prompt)


def _is_packed(value: Any) -> bool:
    """Whether this is an image as `datasets` keeps it undecoded."""
    return isinstance(value, Mapping) and set(value) == {"bytes", "path"}


def _name_text(text: str, place: int, limits: UrlLimits) -> ImageSource:
    if text[:5].lower() == "data:":
        return ImageSource(str(place), bytes_of_text(text, f"Input {place}"))
    if text[:7].lower() == "http://" or text[:8].lower() == "https://":
        return ImageSource(without_password(text), UrlImage(text, limits))
    if scheme := _SCHEME.match(text):
        return ImageSource(text[:200], error=f"{text[:100]!r}: only http and https are fetched, not {scheme.group()}")
    if len(text) >= 64 and _BASE64.match(text) and not (len(text) < 4096 and os.path.exists(text)):
        return ImageSource(str(place), bytes_of_text(text, f"Input {place}"))
    return ImageSource(text.replace(os.sep, "/"), text)


def bytes_of_text(text: str, name: str) -> bytes:
    """The bytes behind a base64 text or a data URI with one.

    Args:
        text (`str`): In the usual alphabet or the one for URLs, padded or not, broken into lines or not.
        name (`str`): What to call it in a message.

    Raises:
        ImageDecodeError: It is neither, or too long.
    """
    if text[:5].lower() == "data:":
        header, comma, text = text.partition(",")
        if not comma or not header.strip().lower().endswith(";base64"):
            raise ImageDecodeError(f"{name} is a data URI without base64: it must begin like data:image/png;base64,")
        text = urllib.parse.unquote(text)
    if len(text) > MAX_BASE64:
        raise ImageDecodeError(f"{name} is a base64 text of {len(text)} characters; {MAX_BASE64} are allowed.")
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:  # also where there are letters of other alphabets
        raise ImageDecodeError(f"{name} is not base64: {error}.") from error
