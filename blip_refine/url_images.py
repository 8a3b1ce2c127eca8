"""Images behind URLs that a stranger may have written: bounded in time and size, and never from a private network.

A service that fetches what it is told to is a door into the network that it stands in. So a name is resolved once, its
addresses are checked, and the connection goes to the very address that was checked; each redirect goes through the
same. Proxies of the environment are not used, since behind one nothing could be checked.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import time
import urllib.parse
from dataclasses import dataclass

from . import __version__
from .data.images import PackedImage
from .errors import ImageDecodeError

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 65536


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
        return self.url


def fetch(url: str, limits: UrlLimits) -> bytes:
    """The bytes behind a URL.

    Args:
        url (`str`): `http://` or `https://`.
        limits ([`UrlLimits`]): What it may cost.

    Raises:
        ImageDecodeError: It cannot be had within the limits.
    """
    deadline = time.monotonic() + limits.timeout
    current = url
    try:
        for _ in range(limits.max_redirects + 1):
            answer = _ask(url, current, limits, deadline)
            if isinstance(answer, bytes):
                return answer
            current = urllib.parse.urljoin(current, answer)
    except TimeoutError as error:
        raise ImageDecodeError(f"{url} cannot be fetched: no answer within {limits.timeout:g} s.") from error
    except (http.client.HTTPException, ValueError) as error:
        raise ImageDecodeError(f"{url} cannot be fetched: {type(error).__name__} {error}".rstrip() + ".") from error
    except OSError as error:
        raise ImageDecodeError(f"{url} cannot be fetched: {error.strerror or error}.") from error
    raise ImageDecodeError(f"{url} cannot be fetched: more than {limits.max_redirects} redirects.")


def _ask(url: str, current: str, limits: UrlLimits, deadline: float) -> bytes | str:
    """One request: the bytes, or where a redirect points to."""
    parts = urllib.parse.urlsplit(current)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ImageDecodeError(f"{current[:200]} cannot be fetched: only http and https URLs are.")
    host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    shown = f"[{host}]" if ":" in host else host
    path = urllib.parse.quote(parts.path or "/", safe="%/:=&~+!$,;'@()*[]")
    query = urllib.parse.quote(parts.query, safe="%/:=&?~+!$,;'@()*[]")
    headers = {
        "Host": f"{shown}:{parts.port}" if parts.port else shown,
        "User-Agent": f"blip_refine/{__version__}",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    with _connect(host, port, parts.scheme == "https", limits, deadline) as raw:
        connection = http.client.HTTPConnection(host, port)
        connection.sock = _DeadlineSocket(raw, deadline)
        connection.request("GET", f"{path}?{query}" if query else path, headers=headers)
        response = connection.getresponse()
        target = response.headers.get("Location")
        if response.status in _REDIRECTS and target:
            return target
        if response.status != 200:
            raise ImageDecodeError(f"{url} cannot be fetched: HTTP {response.status} {response.reason[:80]}.")
        return _read(response, url, limits)


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
            raw = socket.create_connection((address, port), timeout=_remaining(deadline))
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


class _DeadlineSocket:
    """What `http.client` needs of a socket, with one deadline for everything: a server that drips a byte now and then
    never runs into the timeout of a single read."""

    def __init__(self, raw: socket.socket, deadline: float):
        self.raw, self.deadline = raw, deadline

    def sendall(self, data: bytes) -> None:
        self.raw.settimeout(_remaining(self.deadline))
        self.raw.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self))

    def close(self) -> None:
        """The socket is closed by who opened it: `http.client` closes it before the answer is read."""


class _DeadlineReader(io.RawIOBase):
    def __init__(self, owner: _DeadlineSocket):
        self.owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        self.owner.raw.settimeout(_remaining(self.owner.deadline))
        return self.owner.raw.recv_into(buffer)


def _read(response: http.client.HTTPResponse, url: str, limits: UrlLimits) -> bytes:
    stated = response.headers.get("Content-Length", "")
    if stated.isdigit() and int(stated) > limits.max_bytes:
        raise ImageDecodeError(f"{url} has {stated} bytes; {limits.max_bytes} are allowed.")
    chunks: list[bytes] = []
    received = 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        received += len(chunk)
        if received > limits.max_bytes:
            raise ImageDecodeError(f"{url} has more than the {limits.max_bytes} bytes that are allowed.")
    if stated.isdigit() and received < int(stated):
        raise ImageDecodeError(f"{url} cannot be fetched: the answer ended after {received} of {stated} bytes.")
    return b"".join(chunks)


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


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
