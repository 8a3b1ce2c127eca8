"""Captions on their way into a file, so that nothing is lost and nothing is done twice.

Rows are appended to a JSON Lines file, a batch at a time and each batch in one write, under a lock. A run that is
killed loses the batch that it was working on; should the machine die in the middle of a write, the next run cuts the
broken end off. CSV and Parquet cannot be appended to: there, rows are kept in a JSON Lines file beside the output,
and the output is made of it, whole, when the run ends.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from filelock import FileLock, Timeout

from .caption_tables import read_table, write_table
from .errors import ConfigurationError, DataError, SourceNotFoundError
from .jsonlines import atomic_write, dump_row, read_jsonl, write_jsonl

FORMATS = (".jsonl", ".csv", ".parquet")


def settings_key(settings: Mapping[str, Any]) -> str:
    """A short name for all that can change a caption besides the image."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class CaptionFile:
    """A file that captions are written to, and that knows what it holds already.

    Args:
        path (`str` or `os.PathLike`): Ends in `.jsonl`, `.csv` or `.parquet`. Where it is a link, the file that it
            leads to is written.
        settings (`Mapping[str, Any]`): How captions are made (`CaptionPipeline.settings()`, and what comes after).
        existing (`"resume"`, `"append"` or `"overwrite"`, defaults to `"resume"`): What to do with rows that are
            there: go on where they end (they must have been made with the same settings), keep them whatever they
            are, or begin anew.
        remember (`bool`, defaults to `False`): Keep the captions of the rows that are there in memory, for
            `caption_of`.

    Raises:
        ConfigurationError: The file is of an unknown kind, cannot be written, is being written by another process, or
            holds rows of other settings.
        SourceFormatError: The file is broken elsewhere than at its end.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        settings: Mapping[str, Any],
        existing: str = "resume",
        *,
        remember: bool = False,
    ):
        check_output(path)
        if existing not in ("resume", "append", "overwrite"):
            raise ConfigurationError(f"`existing` is 'resume', 'append' or 'overwrite', not {existing!r}.")
        self.path, self.settings = Path(path), settings_key(settings)
        self._place, self._journal = _places(path)
        self._direct = self._place == self._journal
        self._resumes = existing == "resume"
        self._captions: dict[bytes, str] | None = {} if remember else None
        # Hashes, since there may be millions: the rows of this run, all rows, and those that need not be made again.
        self._written: set[bytes] = set()
        self._ids: set[bytes] = set()
        self._known: set[bytes] = set()
        self._known_ids: set[bytes] = set()
        self.held = 0
        self._lock = _locked(self._place, self.path)
        try:
            self._file = _open_journal(self._journal, self.path)
            self._prepare(existing)
        except BaseException:
            self._release()
            raise

    def _prepare(self, existing: str) -> None:
        """Bring the journal to where rows can be added, and learn what it holds."""
        for left in self._place.parent.glob(f".{glob.escape(self._place.name)}.*.part"):
            left.unlink(missing_ok=True)  # of a run that was killed while it made the file; this one holds the lock
        if existing == "overwrite":
            self._file.truncate(0)
            return
        if not self._direct and os.path.getsize(self._journal) == 0 and self._place.exists():
            # Whole or not at all: half of the rows of a table would later be taken for all of them. Closed first,
            # since Windows replaces no open file.
            self._file.close()
            try:
                write_jsonl(self._journal, read_table(self._place))
            except OSError as error:
                raise cannot_write(self._journal, error) from error
            self._file = _open_journal(self._journal, self.path)
        end = _end_of_whole_rows(self._journal)
        for row in _rows_until(self._journal, end):
            self.held += 1
            self._learn(row)
        # Not before: nothing of a file that is not ours is changed.
        if end < os.path.getsize(self._journal):
            self._file.truncate(end)
        elif end > 0 and not _ends_in_newline(self._journal):
            self._file.write(b"\n")

    def _learn(self, row: Mapping[str, Any]) -> None:
        image_id = str(row.get("image_id", ""))
        name = _digest(image_id)
        self._ids.add(name)
        if row.get("error"):
            return  # what failed is tried again
        if self._captions is not None:
            self._captions[name] = str(row.get("caption") or "")
        if row.get("settings") == self.settings:
            self._known.add(_digest(image_id, str(row.get("content"))))
            self._known_ids.add(name)
        elif self._resumes:
            made = "with other settings (model, decoding, refiner, ...)" if "settings" in row else "by something else"
            raise ConfigurationError(
                f"{self.path} holds captions that were made {made}. Give another --output, or --append to keep "
                "them beside the new ones, or --overwrite to begin anew."
            )

    def is_done(self, image_id: str, content: str) -> bool:
        """Whether this image has a caption that was made from this content with these settings."""
        return _digest(image_id, content) in self._known

    def has(self, image_id: str) -> bool:
        """Whether an image of this name has a caption that was made with these settings, whatever it is of."""
        return _digest(image_id) in self._known_ids

    def caption_of(self, image_id: str) -> str | None:
        """The caption that the file held for an image when it was opened, where captions are remembered."""
        return None if self._captions is None else self._captions.get(_digest(image_id))

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows: in one write, which the system has when this returns.

        Raises:
            DataError: They cannot be written, all of them. The rows before are kept, and no part of a row is.
        """
        complete = [{**row, "settings": self.settings} for row in rows]
        data = memoryview("".join(map(dump_row, complete)).encode("utf-8", "replace"))
        state = os.fstat(self._file.fileno())
        if state.st_nlink == 0:  # what is written to a file without a name is gone when it is closed
            raise DataError(f"{self._journal} was removed while captions were written to it: begin again.")
        before = state.st_size
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self._file.truncate(before)
            raise cannot_write(self.path, error) from error
        self._written.update(_digest(str(row["image_id"])) for row in complete)

    def close(self) -> None:
        """Bring the file into its final form. Rows of this run take the place of older ones of the same image.

        Raises:
            DataError: There is no room for it. The rows are kept, and the next run goes on from them.
        """
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
            self._file.close()  # Windows replaces and removes no open file
            stale = self._ids & self._written if self._resumes else set()
            if self._direct:
                if stale:
                    with atomic_write(self._place) as file:
                        file.writelines(map(dump_row, self._current_rows(stale)))
            else:
                write_table(self._place, self._current_rows(stale))
                self._journal.unlink()
        except OSError as error:
            kept = "" if self._direct else f" (in {self._journal})"
            raise cannot_write(self.path, error, kept) from error
        finally:
            self._release()

    def _release(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        _unlock(self._lock)

    def _current_rows(self, stale: set[bytes]) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_jsonl(self._journal)):
            if number >= self.held or _digest(str(row.get("image_id"))) not in stale:
                yield row

    def __enter__(self) -> CaptionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except DataError:
            if error is None:
                raise
            # What went wrong first is what is told; the rows are kept in either case.


def check_output(path: str | os.PathLike) -> None:
    """Refuse a place where captions cannot be written, before any work is done for it. Makes its folder if need be.

    Raises:
        ConfigurationError: It is of an unknown kind, a folder, or in a folder that cannot be made or written to.
    """
    place, journal = _places(path)
    if place.suffix.lower() not in FORMATS:
        raise ConfigurationError(f"{path}: captions are written as {', '.join(FORMATS)}, by the name's ending.")
    check_writable(path)
    check_writable(journal)


def check_writable(path: str | os.PathLike) -> None:
    """Refuse a file that cannot be written. Makes its folder if need be.

    Raises:
        ConfigurationError: It is a folder, or may not be written, or its folder may not.
    """
    place = Path(os.path.realpath(path))
    if place.is_dir():
        raise ConfigurationError(f"{path} is a folder; give the file that is to be written.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Files are written beside their place and renamed, which asks for the folder.
        if not os.access(place.parent, os.W_OK | os.X_OK) or (place.exists() and not os.access(place, os.W_OK)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(path, error) from error


def has_captions(path: str | os.PathLike) -> bool:
    """Whether there is a file for `read_captions` to read."""
    return any(place.is_file() for place in _places(path))


def _places(path: str | os.PathLike) -> tuple[Path, Path]:
    """The file behind a path, and the file that rows are added to: the same for JSON Lines."""
    place = Path(os.path.realpath(path))
    return place, place if place.suffix.lower() == ".jsonl" else place.with_name(f".{place.name}.rows.jsonl")


def _unwritable(path: str | os.PathLike, error: OSError) -> ConfigurationError:
    """Before any work is done."""
    return ConfigurationError(f"{path} cannot be written: {error.strerror or error}. Give another place.")


def cannot_write(path: Path, error: OSError, kept: str = "") -> DataError:
    """What to raise where a run cannot go on, and can be taken up again.

    Args:
        path (`Path`): What was to be written.
        error (`OSError`): Why it cannot be.
        kept (`str`, defaults to `""`): Where the captions are kept, if not in the output.
    """
    return DataError(
        f"{path} cannot be written: {error.strerror or error}. What was captioned before is kept{kept}; the same "
        "command goes on from there."
    )


def _digest(*names: str) -> bytes:
    return hashlib.blake2b("\0".join(names).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read_captions(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The rows of a file of captions, JSON Lines, CSV or Parquet, each as it was written.

    Where a run was killed before it could make the table, these are the rows that it left; what a machine that died
    left behind the last whole row is not among them.
    """
    place, journal = _places(path)
    if journal.is_file() and (place == journal or os.path.getsize(journal) > 0):
        return _rows_until(journal, _end_of_whole_rows(journal))
    if not place.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    return read_table(place)


def _open_journal(journal: Path, path: Path) -> IO[bytes]:
    try:
        return journal.open("ab", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _locked(place: Path, path: Path) -> FileLock:
    """A lock on the file at `place`: two runs that append to one file would caption everything twice."""
    # Not on the file itself: Windows lets nobody read or replace a file that is locked.
    lock = FileLock(place.with_name(f".{place.name}.lock"), thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigurationError(
            f"Another process is writing to {path}: wait for it, or give another --output."
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    return lock


def _unlock(lock: FileLock) -> None:
    """Release a lock and remove its file."""
    # Removed before it is released: afterwards it may be another run's. Windows refuses to remove an open file;
    # there, the release removes it.
    with suppress(OSError):
        os.unlink(lock.lock_file)
    lock.release()


def _end_of_whole_rows(path: Path) -> int:
    """Where the last whole row ends, in bytes. A machine that dies in the middle of a write leaves a part behind."""
    with path.open("rb") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.seek(end)
        try:
            # An editor may have left out the last line end.
            return size if end == size or isinstance(json.loads(file.read()), dict) else end
        except ValueError:
            return end


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _rows_until(path: Path, end: int) -> Iterator[dict[str, Any]]:
    """The rows of a JSON Lines file before a place in it."""
    position = whole = 0
    with path.open("rb") as file:
        for line in file:
            position += len(line)
            if position > end:
                break
            whole += bool(line.strip())
    yield from islice(read_jsonl(path), whole)
