"""Fetch one image by its URL: bounded in time and size, with a reason for each failure."""

from __future__ import annotations

import email.utils
import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ... import __version__
from ...errors import ImageDecodeError
from ..http_bounds import DeadlineSocket, FetchError, ascii_url, read_body, remaining
from ..images import load_image

USER_AGENT = f"blip_refine/{__version__} (dataset download)"
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_REASONS = {401: "forbidden", 403: "forbidden", 404: "not found", 410: "not found", 429: "too many requests"}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How long and how much.

    Args:
        timeout (`float`, defaults to 20): Seconds for one image, from connecting to the last byte.
        max_bytes (`int`, defaults to 20 MiB): Larger images are given up on as soon as that is known.
        max_pixels (`int`, defaults to 90 million): Images that claim more pixels are refused.
        user_agent (`str`): How to name oneself to servers; put a way to reach you into it for large downloads.
    """

    timeout: float = 20.0
    max_bytes: int = 20 * 2**20
    max_pixels: int = 90_000_000
    user_agent: str = USER_AGENT


def fetch_image(url: str, limits: FetchLimits) -> bytes:
    """The bytes of an image, of which it is known that they can be decoded.

    Args:
        url (`str`): `http://` or `https://`; nothing else is opened, also after a redirect.
        limits (`FetchLimits`): See there.

    Raises:
        FetchError: There is no such image, or not within the limits.
    """
    data = _fetch(url, limits)
    try:
        # What a server says about type and length is not believed: what counts is that it decodes to its last row.
        load_image(data, max_pixels=limits.max_pixels)
    except ImageDecodeError as error:
        raise FetchError("not an image", str(error)[:300], transient=False) from error
    return data


def _fetch(url: str, limits: FetchLimits) -> bytes:
    headers = {"User-Agent": limits.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
    deadline = time.monotonic() + limits.timeout
    try:
        request = urllib.request.Request(ascii_url(url).geturl(), headers=headers)
        with _opener(deadline).open(request, timeout=limits.timeout) as response:
            return read_body(response, limits.max_bytes)
    except urllib.error.HTTPError as error:
        with error:
            transient = error.code in _TRANSIENT_STATUS
            reason = "server error" if error.code >= 500 else _STATUS_REASONS.get(error.code, "refused")
            wait = _retry_after(error.headers.get("Retry-After")) if transient else None
            raise FetchError(reason, f"HTTP {error.code} {error.reason}"[:300], transient, wait) from error
    except TimeoutError as error:
        raise FetchError("timeout", f"no answer within {limits.timeout:g} s", transient=True) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise FetchError("timeout", f"no answer within {limits.timeout:g} s", transient=True) from error
        # A name that does not resolve is gone for good more often than not, but so is it while the network is down.
        bad = isinstance(error.reason, str)
        raise FetchError("bad URL" if bad else "connection failed", str(error.reason)[:300], not bad) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise FetchError("bad URL", str(error)[:300], transient=False) from error
    except (http.client.HTTPException, ConnectionError, OSError) as error:
        raise FetchError("connection failed", f"{type(error).__name__}: {error}"[:300], transient=True) from error


class _Connection(http.client.HTTPConnection):
    """A connection of which everything, redirects and headers included, ends at one deadline."""

    deadline: float

    def connect(self) -> None:
        self.timeout = remaining(self.deadline)
        super().connect()
        self.sock: Any = DeadlineSocket(self.sock, self.deadline)


class _EncryptedConnection(http.client.HTTPSConnection):
    deadline: float

    def connect(self) -> None:
        self.timeout = remaining(self.deadline)
        super().connect()
        self.sock: Any = DeadlineSocket(self.sock, self.deadline)


class _Handler(urllib.request.HTTPHandler):
    def __init__(self, deadline: float):
        super().__init__()
        self.deadline = deadline

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection(_Connection), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(self._connection(_EncryptedConnection), request)

    https_request = urllib.request.HTTPHandler.http_request

    def _connection(self, kind: type) -> Any:
        return type(kind.__name__, (kind,), {"deadline": self.deadline})


def _opener(deadline: float) -> urllib.request.OpenerDirector:
    """Without the handlers for `file:`, `ftp:` and `data:` that `urlopen` has: a caption file is not to be trusted."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        _Handler(deadline),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None  # neither of the two forms: as if the server had not said when
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())
