"""A JSON list that is too large to be parsed at once (Visual Genome's 5.4 million regions take 5 GB as objects)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import SourceFormatError

_CHUNK = 2**20


def iterate_json_list(path: Path, chunk: int = _CHUNK) -> Iterator[Any]:
    """The elements of a JSON list, one after the other.

    Args:
        path (`Path`): A UTF-8 file that holds one JSON list of objects.
        chunk (`int`, defaults to 1 MiB): How much to read at a time, in characters.

    Raises:
        SourceFormatError: It is not a JSON list, or ends too early.
    """
    decoder = json.JSONDecoder()
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(chunk).lstrip()
        if not text.startswith("["):
            raise SourceFormatError(f"{path}: expected a JSON list, found {text[:40]!r}.")
        place, ended = 1, False
        while True:
            while place < len(text) and text[place] in " \t\r\n,":
                place += 1
            if place < len(text) and text[place] == "]":
                return
            try:
                element, end = decoder.raw_decode(text, place)
                # An element that ends where the text ends may go on in the next chunk: 12 may be 123.
                if end == len(text) and not ended:
                    raise json.JSONDecodeError("more to come", text, end)
            except json.JSONDecodeError as error:
                if ended:
                    raise SourceFormatError(f"{path} ends too early or is broken ({error.msg}).") from error
                more = file.read(chunk)
                ended = not more
                text, place = text[place:] + more, 0
                continue
            yield element
            place = end
