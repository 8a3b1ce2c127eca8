"""The one HTTP client for images and files behind URLs: bounded in time and size, and never into a private network.

Fetching URLs that a stranger wrote exposes the host's network (SSRF). So a name is resolved once, its addresses are
checked, and the connection goes to the very address that was checked; each redirect goes through the same.
"""

from __future__ import annotations

import base64
import email.utils
import ipaddress
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import BlipRefineError

if TYPE_CHECKING:
    import httpcore2

    from .http_network import GuardedNetwork

USER_AGENT = f"blip_refine/{__version__}"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_STATUS_REASONS = {401: "forbidden", 403: "forbidden", 404: "not found", 410: "not found", 429: "too many requests"}
_HOST_END = re.compile(r"([/?#])")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses that a gateway turns into the IPv4 address of their last 32 bits (RFC 6052)."""


@dataclass(frozen=True, slots=True)
class UrlLimits:
    """What a download may cost, and where it may go.

    Args:
        timeout (`float`, defaults to 20): Seconds for one image, from connecting to the last byte, redirects included.
        max_bytes (`int`, defaults to 32 MiB): Larger answers are given up on as soon as that is known.
        max_redirects (`int`, defaults to 5): How many redirects are followed.
        allow_private (`bool`, defaults to `False`): Whether to fetch from private networks, this machine and cloud
            metadata services.
        use_proxies (`bool`, defaults to `False`): Whether to use the proxies of the environment (`HTTPS_PROXY`,
            `HTTP_PROXY`, `NO_PROXY`). A proxy resolves names itself, so only the name is checked before: leave this
            off for URLs that strangers write.
    """

    timeout: float = 20.0
    max_bytes: int = 32 * 2**20
    max_redirects: int = 5
    allow_private: bool = False
    use_proxies: bool = False


class FetchError(Exception):
    """One image could not be fetched. It never leaves the library: it becomes a row of a log, or an
    `ImageDecodeError`.

    Args:
        reason (`str`): One of few ("not found", "timeout", "too large", "not an image", ...).
        detail (`str`): What exactly happened.
        transient (`bool`): Whether to try again may help.
        retry_after (`float`, *optional*): Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, detail: str, transient: bool, retry_after: float | None = None):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.transient, self.retry_after = reason, detail, transient, retry_after


def get(url: str, limits: UrlLimits, *, user_agent: str = USER_AGENT) -> bytes:
    """The bytes behind a URL.

    Args:
        url (`str`): `http://` or `https://`; nothing else is opened, also after a redirect. A name and password in it
            (`https://name:password@host/`) are told to its own host alone, not to where that redirects, and are in no
            message.
        limits ([`UrlLimits`]): What it may cost. The system's resolver has a timeout of its own.
        user_agent (`str`, *optional*): The `User-Agent` header.

    Raises:
        FetchError: It cannot be fetched within the limits.
        ConfigurationError: The environment names a proxy of a kind that cannot be used.
    """
    from .http_network import GuardedNetwork

    network = GuardedNetwork(time.monotonic() + limits.timeout, limits.allow_private)
    headers = {"User-Agent": user_agent, "Accept": "image/*", "Accept-Encoding": "identity"}
    with open_url(url, limits, network, headers=headers) as response:
        return _read(response, limits.max_bytes)


@contextmanager
def open_url(
    url: str, limits: UrlLimits, network: GuardedNetwork, *, headers: Mapping[str, str]
) -> Iterator[httpcore2.Response]:
    """The answer behind a URL, redirects followed, of whatever status; its body is read inside of the `with` block.

    Args:
        url (`str`): See [`get`].
        limits ([`UrlLimits`]): Redirects, proxies and `timeout` (for the message alone: the network has the deadline).
        network ([`GuardedNetwork`]): What connects, with the deadline.
        headers (`Mapping[str, str]`): Sent with every request; `Host` and the URL's own credentials are added.

    Raises:
        FetchError: It cannot be fetched, or the block's reading of it failed.
        ConfigurationError: The environment names a proxy of a kind that cannot be used.
    """
    import httpcore2

    current = url
    try:
        credentials = _credentials(url)
        for hop in range(limits.max_redirects + 1):
            parts = _target(current, is_redirect=hop > 0)
            asked = {"Host": parts.netloc, **headers, **credentials.get(_origin(current), {})}
            proxy = _proxy_of(parts) if limits.use_proxies else None
            with network.pool(proxy, parts) as pool, pool.stream("GET", parts.geturl(), headers=asked) as response:
                location = _location(response)
                if location is None:
                    yield response
                    return
            current = urllib.parse.urljoin(current, location)
    except BlipRefineError:
        raise  # some are a ValueError or an OSError, too
    except (TimeoutError, httpcore2.TimeoutException) as error:
        raise FetchError("timeout", f"no answer within {limits.timeout:g} s", transient=True) from error
    except (httpcore2.LocalProtocolError, ValueError) as error:
        raise FetchError("bad URL", str(error)[:300], transient=False) from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.ProxyError, OSError) as error:
        # A name that does not resolve is gone for good more often than not, but so is it while the network is down.
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FetchError("connection failed", detail[:300], transient=True) from error
    raise FetchError("refused", f"more than {limits.max_redirects} redirects", transient=False)


def headers_of(response: httpcore2.Response) -> dict[str, bytes]:
    """The headers of an answer by their names in lower case."""
    return {name.decode("latin-1").lower(): value for name, value in response.headers}


def _location(response: httpcore2.Response) -> str | None:
    """Where a redirect points to; `None` for any other answer."""
    location = headers_of(response).get("location")
    if response.status not in _REDIRECTS or not location:
        return None
    try:
        return location.decode()
    except UnicodeDecodeError:
        return location.decode("latin-1")


def _read(response: httpcore2.Response, max_bytes: int) -> bytes:
    """The body of an answer."""
    import httpcore2

    headers = headers_of(response)
    if response.status != 200:
        raise refused(response)
    stated = headers.get("content-length", b"")
    length = int(stated) if stated.isdigit() else None
    if length is not None and length > max_bytes:
        raise FetchError("too large", f"it has {length} bytes, {max_bytes} are allowed", transient=False)
    chunks: list[bytes] = []
    received = 0
    try:
        for chunk in response.iter_stream():
            chunks.append(chunk)
            received += len(chunk)
            if received > max_bytes:
                raise FetchError(
                    "too large", f"it has more than the {max_bytes} bytes that are allowed", transient=False
                )
    except httpcore2.RemoteProtocolError as error:
        whole = "" if length is None else f" of {length}"
        raise FetchError("cut short", f"the answer ended after {received}{whole} bytes", transient=True) from error
    if not received:
        raise FetchError("empty answer", "the answer is empty", transient=False)
    return b"".join(chunks)


def refused(response: httpcore2.Response) -> FetchError:
    """The error that an answer with a status other than success stands for."""
    status, headers = response.status, headers_of(response)
    phrase = response.extensions.get("reason_phrase", b"").decode("latin-1")[:80]
    transient = status in _TRANSIENT_STATUS
    reason = "server error" if status >= 500 else _STATUS_REASONS.get(status, "refused")
    wait = _retry_after(headers.get("retry-after", b"").decode("latin-1")) if transient else None
    return FetchError(reason, f"HTTP {status} {phrase}".rstrip(), transient, wait)


def _retry_after(value: str) -> float | None:
    """Seconds to wait, from either form of the header (RFC 9110, section 10.2.3)."""
    if value.strip().isdigit():
        return float(value)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None  # neither of the two forms: as if the server had not said when
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


def _proxy_of(parts: urllib.parse.SplitResult) -> str | None:
    """The proxy that the environment names for a URL."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _target(url: str, is_redirect: bool) -> urllib.parse.SplitResult:
    try:
        return ascii_url(url)
    except FetchError as error:
        if not is_redirect:
            raise
        # The list holds a good URL: it is the server that sends us to a bad one.
        raise FetchError("refused", error.detail, transient=False) from error


def ascii_url(url: str) -> urllib.parse.SplitResult:
    """A URL as people type it (with spaces and accents), as a server takes it; without fragment and password.

    Raises:
        FetchError: It is not an `http:` or `https:` URL with a host.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = parts.port
        if parts.scheme not in ("http", "https") or not parts.hostname:
            shown = without_password(url)[:100]
            raise FetchError("bad URL", f"only http and https URLs are fetched, not {shown}", transient=False)
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    except ValueError as error:
        raise FetchError("bad URL", f"{error}"[:300], transient=False) from error
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    safe = "%/:=&?~+!$,;'@()*[]"
    path, query = (urllib.parse.quote(part, safe=safe) for part in (parts.path or "/", parts.query))
    return urllib.parse.SplitResult(parts.scheme, netloc, path, query, "")


def without_password(url: str) -> str:
    """A URL as it can be shown: without what stands before the `@` of its host."""
    scheme, slashes, rest = url.partition("://")
    end = _HOST_END.search(rest)
    host, path = (rest[: end.start()], rest[end.start() :]) if end and not _is_misread(url) else (rest, "")
    return f"{scheme}{slashes}{host.rpartition('@')[2]}{path}"


def _is_misread(url: str) -> bool:
    """Whether a `/`, `?` or `#` in a password makes its first part look like a port."""
    try:
        urllib.parse.urlsplit(url.strip()).port  # noqa: B018 (it is parsed when it is asked for)
    except ValueError:
        return "@" in url
    return False


def _origin(url: str) -> tuple[str, str]:
    parts = ascii_url(url)
    return parts.scheme, parts.netloc


def _credentials(url: str) -> dict[tuple[str, str], dict[str, str]]:
    """The `Authorization` header that a URL asks for (RFC 7617), under the origin that it is meant for."""
    if _is_misread(url):
        raise FetchError("bad URL", "its port is no number; a / in a password is written as %2F", transient=False)
    parts = urllib.parse.urlsplit(url.strip())
    if parts.username is None:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {_origin(url): {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}}


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whichever notation hides it."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        for inner in _inner_addresses(ip):
            if not is_public(str(inner)):
                return False
        if int(ip) < 2**32:  # the loopback address, and the long retired ::a.b.c.d
            return False
    return ip.is_global and not ip.is_multicast


def _inner_addresses(ip: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that packets to an IPv6 address may end at."""
    for inner in (ip.ipv4_mapped, ip.sixtofour, ip.teredo[1] if ip.teredo else None):
        if inner is not None:
            yield inner
    if ip in _NAT64:
        yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
