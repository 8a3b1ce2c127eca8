"""Fetch one image of a list of URLs: what arrives must decode."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ImageDecodeError
from ..http import USER_AGENT, FetchError, UrlLimits, get
from ..images import load_image


@dataclass(frozen=True, slots=True)
class FetchLimits(UrlLimits):
    """What the download of one image of a list may cost, and where it may go.

    Args:
        timeout, allow_private: See [`UrlLimits`].
        max_bytes (`int`, defaults to 20 MiB): Larger images are given up on as soon as that is known.
        max_redirects (`int`, defaults to 10): How many redirects are followed.
        use_proxies (`bool`, defaults to `True`): Whether to use the proxies of the environment; see [`UrlLimits`].
        max_pixels (`int`, defaults to 90 million): Images that claim more pixels are refused.
        user_agent (`str`): How to name oneself to servers; put a way to reach you into it for large downloads.
    """

    max_bytes: int = 20 * 2**20
    max_redirects: int = 10
    use_proxies: bool = True
    max_pixels: int = 90_000_000
    user_agent: str = f"{USER_AGENT} (dataset download)"


def fetch_image(url: str, limits: FetchLimits) -> bytes:
    """The bytes of an image, of which it is known that they can be decoded.

    Args:
        url (`str`): `http://` or `https://`; nothing else is opened, also after a redirect.
        limits (`FetchLimits`): See there.

    Raises:
        FetchError: There is no such image, or not within the limits.
    """
    data = get(url, limits, user_agent=limits.user_agent)
    try:
        # What a server says about type and length is not believed: what counts is that it decodes to its last row.
        load_image(data, max_pixels=limits.max_pixels)
    except ImageDecodeError as error:
        raise FetchError("not an image", str(error)[:300], transient=False) from error
    return data
