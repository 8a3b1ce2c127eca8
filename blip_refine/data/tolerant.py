"""Keep what is there of a file that ends too early, without loosening the check for any other file.

Pillow's switch for this, `ImageFile.LOAD_TRUNCATED_IMAGES`, is one for the whole process: while it is on, a broken
file in another thread would pass as sound. So strict decodes and a tolerant one exclude each other.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageFile

_END_OF_JPEG = b"\xff\xd9"


class _DecodingGate:
    """Any number of strict decodes at a time, or one tolerant decode alone, which goes first where both wait."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._strict = 0
        self._tolerant = 0  # at work or waiting

    @contextmanager
    def strict(self) -> Iterator[None]:
        with self._condition:
            # Without this, decodes that follow each other closely would keep a tolerant one waiting for ever.
            self._condition.wait_for(lambda: self._tolerant == 0)
            self._strict += 1
        try:
            yield
        finally:
            with self._condition:
                self._strict -= 1
                self._condition.notify_all()

    @contextmanager
    def tolerant(self) -> Iterator[None]:
        with self._condition:
            self._tolerant += 1
            try:
                self._condition.wait_for(lambda: self._strict == 0)
                before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = True
                try:
                    yield
                finally:
                    ImageFile.LOAD_TRUNCATED_IMAGES = before
            finally:
                self._tolerant -= 1
                self._condition.notify_all()


_gate = _DecodingGate()


def _new_gate() -> None:
    global _gate
    _gate = _DecodingGate()


# A worker that is forked while another thread decodes would inherit a count that nobody takes back.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_gate)


@contextmanager
def strict_decoding() -> Iterator[None]:
    """Decode inside this block so that a truncated file is an error, whatever other threads do."""
    with _gate.strict():
        yield


def decode_tolerantly(data: bytes) -> Image.Image:
    """Decode as much of an image file as there is; missing pixels are black, or grey in a JPEG.

    Args:
        data (`bytes`): The image file, ended too early.

    Returns:
        `PIL.Image.Image`: Loaded, in the file's own mode and size.

    Raises:
        OSError: Too little is left to decode anything, or the file is broken in another way.
    """
    opened = Image.open(io.BytesIO(data))
    if opened.format in ("JPEG", "MPO"):
        # With an end marker the decoder takes the rest as missing by itself, and no switch has to be touched.
        with strict_decoding():
            opened = Image.open(io.BytesIO(data + _END_OF_JPEG), formats=("JPEG",))
            opened.load()
            return opened
    with _gate.tolerant():
        opened.load()
        return opened
