"""What decode workers do: an image read, skipped or decoded, and brought to the size that the model takes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .data.duplicates import content_hash
from .data.images import MAX_PIXELS, PackedImage, load_image, read_image_bytes
from .data.preprocess import ImagePreprocessor
from .errors import ImageDecodeError
from .inputs import ImageSource
from .records import ImageInput


@dataclass(frozen=True, slots=True)
class PreparedImage:
    """What a decode worker made of an image.

    Args:
        pixels (`np.ndarray` or `PIL.Image.Image`, *optional*): The picture at the size that the model takes.
        digest (`str`, *optional*): Hash of its content, where it was asked for.
        error (`ImageDecodeError`, *optional*): Why there are no pixels.
        skipped (`bool`): Whether there are none because nothing is to be done.
        prompt (`str`, defaults to `""`): What its caption is to begin with.
    """

    pixels: np.ndarray | Image.Image | None = None
    digest: str | None = None
    error: ImageDecodeError | None = None
    skipped: bool = False
    prompt: str = ""


def prepare_image(
    source: ImageSource,
    preprocess: ImagePreprocessor | None,
    *,
    exact: bool = True,
    skip: Callable[[ImageSource, str], bool] | None = None,
    max_pixels: int = MAX_PIXELS,
    own_prompt: str | None = None,
) -> PreparedImage:
    """Read and decode one image.

    Args:
        source ([`ImageSource`]): The image.
        preprocess ([`ImagePreprocessor`], *optional*): How the model takes it; without one it keeps its size.
        exact (`bool`, defaults to `True`): Decode large JPEGs whole.
        skip (`Callable`, *optional*): Called with the source and the hash of its content; where it says `True` nothing
            is decoded.
        max_pixels (`int`, defaults to `178_956_970`): Images that claim more pixels are not decoded.
        own_prompt (`str`, *optional*): A prompt of this image alone, for the hash: with another prompt an image has
            another caption.
    """
    if source.error is not None or source.image is None:
        return PreparedImage(error=ImageDecodeError(source.error or f"{source.image_id} is no image."))
    image, digest = source.image, None
    try:
        if skip is not None:
            image, digest = _read_once(source.image, source.image_id)
            if own_prompt is not None:
                digest += "-" + hashlib.sha256(own_prompt.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            if skip(source, digest):
                return PreparedImage(digest=digest, skipped=True)
        target = None if exact or preprocess is None else preprocess.size
        picture = load_image(image, target_size=target, max_pixels=max_pixels)
        if preprocess is None:
            return PreparedImage(picture, digest)
        if picture.size != preprocess.size:
            picture = picture.resize(preprocess.size, preprocess.resample)
        return PreparedImage(np.asarray(picture), digest)
    except ImageDecodeError as error:
        return PreparedImage(digest=digest, error=error)


def _read_once(image: ImageInput, image_id: str) -> tuple[ImageInput, str]:
    """The image with its file in memory, still called by its name in a message, and the hash of its content."""
    if isinstance(image, Image.Image):
        return image, content_hash(image)
    data = read_image_bytes(image)
    name = image_id if isinstance(image, bytes) else os.fspath(image)
    return _NamedBytes(name, data), hashlib.sha256(data).hexdigest()[:32]


class _NamedBytes(PackedImage):
    """An image file that has been read, under its name."""

    __slots__ = ("data", "name")

    def __init__(self, name: str, data: bytes):
        self.name, self.data = name, data

    def read_bytes(self) -> bytes:
        return self.data

    def __fspath__(self) -> str:
        return self.name
