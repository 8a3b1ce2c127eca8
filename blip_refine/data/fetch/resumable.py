"""Download one large file: resumable over a broken connection, a killed process and another day.

What has arrived is in `NAME.part`, and what it belongs to (address, entity tag, size) in `NAME.part.json`. A later run
asks for the rest with `Range` and `If-Range` (RFC 9110, section 13.1.5), so that a file that changed meanwhile comes
whole instead of being glued to the old half.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError
from ...jsonlines import write_json
from ..http import USER_AGENT, FetchError, UrlLimits, headers_of, open_url, refused
from ..http_network import GuardedNetwork

if TYPE_CHECKING:
    import httpcore2

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)$")
_BLOCK = 2**20


@dataclass(frozen=True, slots=True)
class FileLimits(UrlLimits):
    """What the download of a file may cost.

    Args:
        timeout (`float`, defaults to 60): Seconds without a byte after which a connection is given up.
        max_bytes (`int`, defaults to 64 GiB): Larger files are given up on.
        use_proxies (`bool`, defaults to `True`): Whether to use the proxies of the environment.
        max_redirects, allow_private: See [`UrlLimits`].
        retries (`int`, defaults to 5): Tries in a row that bring nothing new before the download is given up.
        max_wait (`float`, defaults to 60): The longest pause before a try, in seconds.
    """

    timeout: float = 60.0
    max_bytes: int = 64 * 2**30
    use_proxies: bool = True
    retries: int = 5
    max_wait: float = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """A file that has arrived whole.

    Args:
        path (`Path`): Where it is.
        bytes (`int`): Its size.
        sha256 (`str`): Its SHA-256, in hexadecimal.
        md5 (`str`): Its MD5, in hexadecimal.
        resumed (`bool`): Whether part of it came from an earlier run or connection.
    """

    path: Path
    bytes: int
    sha256: str
    md5: str
    resumed: bool = False


def part_of(path: Path) -> Path:
    """Where the incomplete file is kept."""
    return path.with_name(path.name + ".part")


def _state_of(path: Path) -> Path:
    return path.with_name(path.name + ".part.json")


def download_file(
    url: str,
    path: Path,
    *,
    limits: FileLimits | None = None,
    md5: str | None = None,
    sha256: str | None = None,
    progress: Callable[[int], object] | None = None,
    note: Callable[[str], object] | None = None,
) -> Received:
    """Download a file to `path`, going on where an earlier run stopped.

    Args:
        url (`str`): `http://` or `https://`.
        path (`Path`): Where the file is to be. It appears there only when it is whole and its checksum is right.
        limits (`FileLimits`, *optional*): See there.
        md5, sha256 (`str`, *optional*): The published checksum, in hexadecimal.
        progress (`Callable`, *optional*): Called with the number of bytes that were added, which is negative where
            what had arrived is thrown away.
        note (`Callable`, *optional*): Called with a sentence where something is tried again.

    Returns:
        `Received`: With both checksums of what arrived.

    Raises:
        DataError: It cannot be downloaded, or has another checksum than was published.
    """
    limits, progress, note = limits or FileLimits(), progress or _ignore, note or _ignore
    if path.is_file():
        received = checksums(path)
        if not (wrong := _wrong(received, md5, sha256)):
            progress(received.bytes)
            return received
        note(f"{path} is not the published file ({wrong}); it is downloaded again.")
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    part, state = part_of(path), _state_of(path)
    for attempt in (1, 2):
        resumed = _fill(url, path, limits, progress, note)
        received = checksums(part)
        wrong = _wrong(received, md5, sha256)
        if not wrong:
            os.replace(part, path)
            state.unlink(missing_ok=True)
            return Received(path, received.bytes, received.sha256, received.md5, resumed)
        part.unlink()
        state.unlink(missing_ok=True)
        progress(-received.bytes)
        # A half that does not fit the other is put right by one whole download; a whole file that is wrong is not.
        if attempt == 2 or not resumed:
            break
        note(f"{path.name} was put together from several downloads and is wrong ({wrong}); it is downloaded anew.")
    raise DataError(
        f"{url} gave a file with the wrong checksum: {wrong}. It was removed. Either the file was changed on its way, "
        "or its publisher has replaced it; try again, or from another network."
    )


def _ignore(*_: Any) -> None:
    pass


def _fill(url: str, path: Path, limits: FileLimits, progress: Callable, note: Callable) -> bool:
    """Bring `path.part` to its full size. Gives whether its beginning came from an earlier answer."""
    part, state = part_of(path), _state_of(path)
    known = _read_state(state, url)
    if known is None:
        part.unlink(missing_ok=True)  # it is not known what it is a part of
    held = _size(part)
    progress(held)
    if known and held and held == known.get("size"):
        return True
    failures = 0
    while True:
        before = held
        try:
            return _once(url, part, state, limits, progress) > 0
        except FetchError as error:
            held = _size(part)
            failures = 0 if held > before else failures + 1
            pause = error.retry_after if error.retry_after is not None else 2.0 ** min(failures, 6) / 2
            if not error.transient or failures > limits.retries or pause > limits.max_wait:
                kept = " What has arrived is kept: the same command goes on from there." if held else ""
                raise DataError(f"{url} cannot be downloaded: {error}.{kept}") from error
            note(f"{path.name}: {error}. Trying again in {pause:g} s.")
            time.sleep(pause)


def _once(url: str, part: Path, state: Path, limits: FileLimits, progress: Callable) -> int:
    """One request, and what it brings, written down. Gives at which byte its answer began.

    Raises:
        FetchError: The file is not whole yet.
    """
    known, held = _read_state(state, url) or {}, _size(part)
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "identity"}
    if held and known.get("validator"):
        headers |= {"Range": f"bytes={held}-", "If-Range": known["validator"]}
    network = GuardedNetwork(time.monotonic() + limits.timeout, limits.allow_private)
    with open_url(url, limits, network, headers=headers) as response:
        start, size = _answer(response, held, known.get("validator"))
        if size is not None and size > limits.max_bytes:
            raise FetchError("too large", f"it has {size} bytes, {limits.max_bytes} are allowed", transient=False)
        if start == 0:
            with _writing(part):
                part.write_bytes(b"")  # before the state: an old half must never be taken for the new file's
                found = {"url": url, "size": size, "validator": _validator(response)}
                write_json(state, {name: value for name, value in found.items() if value is not None})
            progress(-held)
        elif start < 0:
            progress(-held)
            part.unlink()
            raise FetchError("refused", "the server does not give the rest of the file", transient=True)
        held = start
        with _writing(part), part.open("ab") as file:
            for chunk in _chunks(response, network, limits, size):
                file.write(chunk)
                held += len(chunk)
                progress(len(chunk))
                if held > limits.max_bytes:
                    raise FetchError("too large", f"more than {limits.max_bytes} bytes", transient=False)
    return start


def _answer(response: httpcore2.Response, held: int, validator: str | None) -> tuple[int, int | None]:
    """At which byte an answer begins (-1: nowhere that is of use), and how large the whole file is.

    Raises:
        FetchError: It is not an answer with the file.
    """
    headers = headers_of(response)
    if response.status == 200:
        stated = headers.get("content-length", b"")
        return 0, int(stated) if stated.isdigit() else None
    if response.status == 206 and held:
        match = _RANGE.match(headers.get("content-range", b"").decode("latin-1").strip())
        # Some servers pass over `If-Range`, and send the rest of a file that has changed.
        if match and int(match[1]) == held and match[3] != "*" and _validator(response) in (None, validator):
            return held, int(match[3])
        return -1, None
    if response.status == 416 and held:
        return -1, None
    raise refused(response)


def _chunks(
    response: httpcore2.Response, network: GuardedNetwork, limits: FileLimits, size: int | None
) -> Iterator[bytes]:
    import httpcore2

    try:
        network.postpone(limits.timeout)
        for chunk in response.iter_stream():
            yield chunk
            network.postpone(limits.timeout)
    except httpcore2.RemoteProtocolError as error:
        whole = "" if size is None else f" of {size} bytes"
        raise FetchError("cut short", f"the connection ended before the file{whole} did", transient=True) from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what the disk refuses into a sentence; inside of `open_url` it would pass for the network's fault."""
    try:
        yield
    except (TimeoutError, ConnectionError):
        raise
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. What has arrived is kept: the same command goes on "
            "from there."
        ) from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _validator(response: httpcore2.Response) -> str | None:
    """What tells this version of the file from another: a strong entity tag, or else its date."""
    headers = headers_of(response)
    tag = headers.get("etag", b"").decode("latin-1").strip()
    if tag.startswith('"'):
        return tag
    # A weak tag may stay while bytes change, and is not allowed here.
    return headers.get("last-modified", b"").decode("latin-1").strip() or None


def _read_state(state: Path, url: str) -> dict[str, Any] | None:
    try:
        value = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) and value.get("url") == url else None


def checksums(path: Path) -> Received:
    """Size and checksums of a file."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            size += len(block)
            sha256.update(block)
            md5.update(block)
    return Received(path, size, sha256.hexdigest(), md5.hexdigest())


def _wrong(received: Received, md5: str | None, sha256: str | None) -> str:
    """In what a file differs from the published one; empty where in nothing."""
    for name, wanted, found in (("SHA-256", sha256, received.sha256), ("MD5", md5, received.md5)):
        if wanted and wanted.lower() != found:
            return f"{name} {found}, expected {wanted.lower()}"
    return ""
