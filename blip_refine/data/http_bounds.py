"""What both ways of fetching an image have in common: one deadline for all of a request, a bound on its size, and URLs
as people type them."""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.parse

_CHUNK = 65536


class FetchError(Exception):
    """One image could not be had. It never leaves the library: it becomes a row of a log, or an `ImageDecodeError`.

    Args:
        reason (`str`): One of few ("not found", "timeout", "too large", "not an image", ...).
        detail (`str`): What exactly happened.
        transient (`bool`): Whether to try again may help.
        retry_after (`float`, *optional*): Seconds that the server asked to wait.
    """

    def __init__(self, reason: str, detail: str, transient: bool, retry_after: float | None = None):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail, self.transient, self.retry_after = reason, detail, transient, retry_after


def remaining(deadline: float) -> float:
    """Seconds until a deadline of `time.monotonic`.

    Raises:
        TimeoutError: It has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


class DeadlineSocket:
    """What `http.client` needs of a socket, with one deadline for everything: a server that drips a byte now and then,
    of its headers or of the image, never runs into the timeout of a single read.

    Args:
        raw (`socket.socket`): Connected, encrypted or not.
        deadline (`float`): By the clock of `time.monotonic`, in seconds.
    """

    def __init__(self, raw: socket.socket, deadline: float):
        self.raw, self.deadline = raw, deadline

    def sendall(self, data: bytes) -> None:
        self.raw.settimeout(remaining(self.deadline))
        self.raw.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self))

    def close(self) -> None:
        """As a socket does it: what was made of it can still be read."""
        self.raw.close()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, owner: DeadlineSocket):
        self.owner, self.file = owner, owner.raw.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int | None:
        self.owner.raw.settimeout(remaining(self.owner.deadline))
        return self.file.readinto(buffer)  # type: ignore[attr-defined]

    def close(self) -> None:
        self.file.close()
        super().close()


def read_body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The body of an answer.

    Args:
        response (`http.client.HTTPResponse`): Read from a `DeadlineSocket`.
        max_bytes (`int`): More is given up on as soon as that is known.

    Raises:
        FetchError: It is too large, ends too early, or is empty.
        TimeoutError: The deadline has passed.
    """
    stated = response.headers.get("Content-Length", "")
    length = int(stated) if stated.isdigit() else None
    if length is not None and length > max_bytes:
        raise FetchError("too large", f"it has {length} bytes, {max_bytes} are allowed", transient=False)
    chunks: list[bytes] = []
    received = 0
    while chunk := response.read1(_CHUNK):
        chunks.append(chunk)
        received += len(chunk)
        if received > max_bytes:
            raise FetchError("too large", f"it has more than the {max_bytes} bytes that are allowed", transient=False)
    if length is not None and received < length:
        raise FetchError("cut short", f"the answer ended after {received} of {length} bytes", transient=True)
    if not received:
        raise FetchError("empty answer", "the answer is empty", transient=False)
    return b"".join(chunks)


def ascii_url(url: str) -> urllib.parse.SplitResult:
    """A URL as people type it (with spaces and accents), as a server takes it; without its fragment.

    Raises:
        FetchError: It is not an `http:` or `https:` URL with a host.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip())
        port = parts.port
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise FetchError("bad URL", f"only http and https URLs are fetched, not {url[:100]}", transient=False)
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
    except ValueError as error:
        raise FetchError("bad URL", f"{error}"[:300], transient=False) from error
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    safe = "%/:=&?~+!$,;'@()*[]"
    path, query = (urllib.parse.quote(part, safe=safe) for part in (parts.path, parts.query))
    return urllib.parse.SplitResult(parts.scheme, netloc, path, query, "")
