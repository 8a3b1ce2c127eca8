"""Images behind URLs that a stranger may have written: bounded in time and size, and never from a private network.

A service that fetches what it is told to is a door into the network that it stands in. So a name is resolved once, its
addresses are checked, and the connection goes to the very address that was checked; each redirect goes through the
same. Proxies of the environment are not used, since behind one nothing could be checked.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import re
import socket
import ssl
import time
import urllib.parse
from dataclasses import dataclass

from . import __version__
from .data.http_bounds import DeadlineSocket, FetchError, ascii_url, read_body, remaining
from .data.image_files import as_text
from .data.images import PackedImage
from .errors import ImageDecodeError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HOST_END = re.compile(r"([/?#])")


@dataclass(frozen=True, slots=True)
class UrlLimits:
    """What a download may cost, and where it may go.

    Args:
        timeout (`float`, defaults to 20): Seconds for one image, redirects included, to the last byte.
        max_bytes (`int`, defaults to 32 MiB): Larger answers are given up on as soon as that is known.
        max_redirects (`int`, defaults to 5): How often a server may send us elsewhere.
        allow_private (`bool`, defaults to `False`): Whether addresses of private networks, of this machine and of
            cloud metadata services may be fetched from.
    """

    timeout: float = 20.0
    max_bytes: int = 32 * 2**20
    max_redirects: int = 5
    allow_private: bool = False


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
            ImageDecodeError: It cannot be had within the limits; the message says why.
        """
        return fetch(self.url, self.limits)

    def __fspath__(self) -> str:
        return without_password(self.url)


def fetch(url: str, limits: UrlLimits) -> bytes:
    """The bytes behind a URL.

    Args:
        url (`str`): `http://` or `https://`. A name and password in it (`https://name:password@host/`) are told to its
            own host alone, not to where that redirects, and are in no message.
        limits ([`UrlLimits`]): What it may cost.

    Raises:
        ImageDecodeError: It cannot be had within the limits.
    """
    deadline = time.monotonic() + limits.timeout
    current, name = url, as_text(without_password(url))[:200]
    try:
        credentials = _credentials(url)
        for _ in range(limits.max_redirects + 1):
            authorization = credentials.get(_origin(current))
            answer = _ask(current, limits, deadline, authorization)
            if isinstance(answer, bytes):
                return answer
            current = urllib.parse.urljoin(current, answer)
    except TimeoutError as error:
        raise _unfetched(name, f"no answer within {limits.timeout:g} s") from error
    except FetchError as error:
        raise _unfetched(name, error.detail) from error
    except (http.client.HTTPException, ValueError) as error:
        raise _unfetched(name, f"{type(error).__name__} {error}".rstrip()) from error
    except OSError as error:
        raise _unfetched(name, error.strerror or str(error)) from error
    raise _unfetched(name, f"more than {limits.max_redirects} redirects")


def _unfetched(name: str, reason: str) -> ImageDecodeError:
    return ImageDecodeError(as_text(f"{name} cannot be fetched: {reason}."))


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


def _credentials(url: str) -> dict[tuple[str, str], str]:
    """The `Authorization` header that a URL asks for (RFC 7617), under the origin that it is meant for."""
    if _is_misread(url):
        raise FetchError("bad URL", "its port is no number; a / in a password is written as %2F", transient=False)
    parts = urllib.parse.urlsplit(url.strip())
    if parts.username is None:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {_origin(url): "Basic " + base64.b64encode(pair.encode()).decode()}


def _ask(url: str, limits: UrlLimits, deadline: float, authorization: str | None) -> bytes | str:
    """One request: the bytes, or where a redirect points to."""
    parts = ascii_url(url)
    encrypted = parts.scheme == "https"
    host, port = str(parts.hostname), parts.port or (443 if encrypted else 80)
    headers = {
        "Host": parts.netloc,
        "User-Agent": f"blip_refine/{__version__}",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        **({} if authorization is None else {"Authorization": authorization}),
    }
    with _connect(host, port, encrypted, limits, deadline) as raw:
        connection = http.client.HTTPConnection(host, port)
        connection.sock = DeadlineSocket(raw, deadline)  # type: ignore[assignment]
        path = parts.path or "/"
        connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=headers)
        response = connection.getresponse()
        target = response.headers.get("Location")
        if response.status in _REDIRECTS and target:
            return target
        if response.status != 200:
            raise FetchError("refused", f"HTTP {response.status} {response.reason[:80]}".rstrip(), transient=False)
        return read_body(response, limits.max_bytes)


def _connect(host: str, port: int, encrypted: bool, limits: UrlLimits, deadline: float) -> socket.socket:
    """A connection to an address of the host that has been checked."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not limits.allow_private:
        for address in addresses:
            if not is_public(address):
                raise ImageDecodeError(
                    f"{host} is {address}, an address of a private network: nothing is fetched there."
                )
    raw = None
    for address in addresses:
        try:
            raw = socket.create_connection((address, port), timeout=remaining(deadline))
            break
        except OSError:
            if address == addresses[-1]:
                raise
    assert raw is not None  # getaddrinfo gives an address or raises
    if not encrypted:
        return raw
    try:
        return ssl.create_default_context().wrap_socket(raw, server_hostname=host)
    except BaseException:
        raw.close()
        raise


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, whichever notation hides it."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        for inner in (ip.ipv4_mapped, ip.sixtofour, ip.teredo[1] if ip.teredo else None):
            if inner is not None and not is_public(str(inner)):
                return False
        if int(ip) < 2**32:  # the loopback address, and the long retired ::a.b.c.d
            return False
        if ip in _NAT64 and not is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))):
            return False
    return ip.is_global and not ip.is_multicast


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Addresses that a gateway turns into the IPv4 address of their last 32 bits (RFC 6052)."""
