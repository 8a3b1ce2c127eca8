"""Answers kept between runs, in one SQLite file, so that a stopped run goes on without paying twice.

An answer is committed the moment it arrives. Several processes may share a file: SQLite's write-ahead log lets them
read while one writes, and a writer waits for another.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, ImageDecodeError, SourceFormatError
from ..records import ImageInput, RefineRequest

if TYPE_CHECKING:
    from .base import Proposal

SCHEMA_VERSION = 1


def answer_key(name: str, settings: Mapping[str, Any], request: RefineRequest, feedback: str | None = None) -> str:
    """The name of an answer: SHA-256 over everything that can change it. The image's name is not among that.

    Args:
        name (`str`): The refiner, with its model.
        settings (`Mapping[str, Any]`): Its prompt text and options.
        request (`RefineRequest`): Draft, candidates, confidences, metadata and the image's content count.
        feedback (`str`, *optional*): Why the last answer was rejected.
    """
    parts: dict[str, Any] = {
        "name": name,
        "settings": settings,
        "draft": request.draft,
        "candidates": request.candidates,
        "confidence": request.confidence,
        "metadata": request.metadata,
        "image": image_digest(request.image),
        "feedback": feedback,
    }
    if request.candidate_confidences:  # Only then, so that answers paid for before there were any are still found.
        parts["candidate_confidences"] = request.candidate_confidences
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def image_digest(image: ImageInput | None) -> str | None:
    """A name for what a picture shows: the hash of its file or of its pixels. A file that is not there is its path."""
    if image is None:
        return None
    if isinstance(image, bytes):
        return hashlib.sha256(image).hexdigest()
    if not isinstance(image, (str, os.PathLike)) and hasattr(image, "tobytes"):
        digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
        digest.update(image.tobytes())
        return digest.hexdigest()
    from ..data.images import image_name, read_image_bytes

    try:
        return hashlib.sha256(read_image_bytes(image)).hexdigest()
    except ImageDecodeError:
        return image_name(image)


class AnswerCache:
    """Proposals by key, in an SQLite file.

    Args:
        path (`str` or `os.PathLike`): The file; it and its folder are made if need be. The folder must be on a local
            disk: SQLite's locks do not hold on network file systems.
        wait (`float`, defaults to 60): Seconds to wait for another process that is writing.

    Raises:
        SourceFormatError: `path` is a file of another kind.
    """

    def __init__(self, path: str | os.PathLike, wait: float = 60.0):
        self.path = Path(path)
        self.wait = wait
        self._lock = threading.Lock()
        if self.path.is_dir():
            raise ConfigurationError(f"The cache {str(self.path)!r} is a folder; give the name of a file.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(self.path, timeout=wait, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise SourceFormatError(
                f"{self.path} cannot be used as a cache of answers ({error}). Give another file, or delete this one."
            ) from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode=WAL")
        # With the log, NORMAL survives the death of the process; only a power cut can lose the last answers.
        self._connection.execute("PRAGMA synchronous=NORMAL")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError(f"it was written by another version, {version}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, proposal TEXT NOT NULL, written REAL NOT NULL)"
            " WITHOUT ROWID"
        )
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
        )
        self._connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def get(self, keys: Sequence[str]) -> list[Proposal | None]:
        """What is known for `keys`, in their order; `None` where nothing is."""
        from .base import Proposal

        found: dict[str, Proposal] = {}
        with self._lock:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                rows = self._connection.execute(f"SELECT key, proposal FROM answers WHERE key IN ({marks})", part)
                found.update({key: Proposal(**json.loads(text)) for key, text in rows})
        return [found.get(key) for key in keys]

    def put(self, key: str, proposal: Proposal) -> None:
        """Keep an answer. The first one that was kept under a key stays."""
        fields = {name: value for name, value in asdict(proposal).items() if name != "cached"}
        row = (key, json.dumps(fields, ensure_ascii=False), time.time())
        with self._lock:
            self._connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", row)

    def notes(self, prefix: str) -> dict[str, str]:
        """Short texts kept besides the answers (the jobs that were sent), by name."""
        with self._lock:
            rows = self._connection.execute("SELECT name, value FROM notes").fetchall()
        return {name: value for name, value in rows if name.startswith(prefix)}

    def note(self, name: str, value: str | None) -> None:
        """Keep `value` under `name`; `None` forgets it."""
        with self._lock:
            if value is None:
                self._connection.execute("DELETE FROM notes WHERE name = ?", (name,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?)", (name, value))

    def __len__(self) -> int:
        with self._lock:
            return self._connection.execute("SELECT count(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
