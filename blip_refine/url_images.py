"""Images behind URLs, fetched in the worker that decodes them. `data/http.py` bounds and guards the download."""

from __future__ import annotations

from .data.http import FetchError, UrlLimits, get, is_public, without_password
from .data.image_files import as_text
from .data.images import PackedImage
from .errors import ImageDecodeError

__all__ = ["UrlImage", "UrlLimits", "fetch", "is_public", "without_password"]


class UrlImage(PackedImage):
    """An image that is fetched when it is decoded, in a worker.

    Args:
        url (`str`): `http://` or `https://`.
        limits ([`UrlLimits`]): What it may cost.
    """

    __slots__ = ("limits", "url")

    def __init__(self, url: str, limits: UrlLimits):
        self.url, self.limits = url, limits

    def read_bytes(self) -> bytes:
        """Fetch it.

        Raises:
            ImageDecodeError: It cannot be fetched within the limits; the message says why.
        """
        return fetch(self.url, self.limits)

    def __fspath__(self) -> str:
        return without_password(self.url)


def fetch(url: str, limits: UrlLimits) -> bytes:
    """The bytes behind a URL. See [`blip_refine.data.http.get`].

    Args:
        url (`str`): `http://` or `https://`.
        limits ([`UrlLimits`]): What it may cost.

    Raises:
        ImageDecodeError: It cannot be fetched within the limits.
    """
    try:
        return get(url, limits)
    except FetchError as error:
        name = as_text(without_password(url))[:200]
        raise ImageDecodeError(as_text(f"{name} cannot be fetched: {error.detail}.")) from error
