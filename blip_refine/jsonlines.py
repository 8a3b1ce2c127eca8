"""JSON Lines files: the form in which captions, predictions and references are kept.

A row is one JSON object on one line, in UTF-8. Files are written beside their place and then renamed, so that a reader
never sees half a file, whenever the writer dies.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .errors import SourceFormatError, SourceNotFoundError


@contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that appears under `path` whole, or not at all.

    Args:
        path (`str` or `os.PathLike`): Where the file is to be. Its folder is made if need be.
        mode (`str`, defaults to `"w"`): `"w"` for UTF-8 text with `\\n` line ends, `"wb"` for bytes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text_options: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, mode, **text_options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; a result is to be shared like any other file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all. NaN is refused: no reader of JSON has to know it."""
    with atomic_write(path) as file:
        json.dump(value, file, ensure_ascii=False, indent=2, allow_nan=False)
        file.write("\n")


def read_json_object(path: str | os.PathLike) -> dict[str, Any]:
    """The JSON object in a file; empty where there is no file.

    Raises:
        SourceFormatError: The file is not a JSON object.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise SourceFormatError(f"{path} holds a {type(value).__name__}; a JSON object was expected.")
    return value


def write_jsonl(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write `rows`, one JSON object a line, whole or not at all. Returns how many there were."""
    count = 0
    with atomic_write(path) as file:
        for row in rows:
            file.write(dump_row(row))
            count += 1
    return count


def dump_row(row: Mapping[str, Any]) -> str:
    """One row with its line end. U+2028 and its like are escaped: some readers take them for line ends."""
    text = json.dumps(dict(row), ensure_ascii=False, allow_nan=False)
    for separator in ("\u2028", "\u2029", "\x85"):
        text = text.replace(separator, f"\\u{ord(separator):04x}")
    return text + "\n"


def read_jsonl(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """Read rows one after the other. Blank lines are passed over.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: A line is not a JSON object; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise SourceFormatError(
                        f"{path}, line {number}: expected a JSON object such as "
                        f'{{"image_id": "1.jpg", "caption": "..."}}, found a {type(row).__name__}.'
                    )
                yield row
        except json.JSONDecodeError as error:
            raise SourceFormatError(
                f"{path}, line {number}: not JSON ({error.msg} at character {error.pos + 1}). "
                "A JSON Lines file holds one JSON object on each line."
            ) from error
        except UnicodeDecodeError as error:
            raise SourceFormatError(f"{path}, after line {number}: not UTF-8 text ({error.reason}).") from error
