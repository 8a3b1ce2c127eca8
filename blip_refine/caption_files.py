"""Captions on their way into a file, so that nothing is lost and nothing is done twice.

Rows are appended to a JSON Lines file, a batch at a time and each batch in one write, under a lock. A run that is
killed loses the batch that it was working on; should the machine die in the middle of a write, the next run cuts the
broken end off. CSV and Parquet cannot be appended to: there, rows are kept in a JSON Lines file beside the output,
and the output is made of it, whole, when the run ends.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .errors import ConfigurationError, SourceFormatError
from .jsonlines import atomic_write, dump_row, read_jsonl

FORMATS = (".jsonl", ".csv", ".parquet")
COLUMNS = (
    *("image_id", "caption", "draft", "candidates", "confidence", "refined", "reason", "error", "review"),
    *("image_gain", "candidate_confidences", "image", "content", "settings"),
)
"""What CSV and Parquet files hold, in this order."""


def settings_key(settings: Mapping[str, Any]) -> str:
    """A short name for all that can change a caption besides the image."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class CaptionFile:
    """A file that captions are written to, and that knows what it holds already.

    Args:
        path (`str` or `os.PathLike`): Ends in `.jsonl`, `.csv` or `.parquet`.
        settings (`Mapping[str, Any]`): How captions are made (`CaptionPipeline.settings()`, and what comes after).
        existing (`"resume"`, `"append"` or `"overwrite"`, defaults to `"resume"`): What to do with rows that are
            there: go on where they end (they must have been made with the same settings), keep them whatever they
            are, or begin anew.

    Raises:
        ConfigurationError: The file is of an unknown kind, is being written by another process, or holds rows of
            other settings.
        SourceFormatError: The file is broken elsewhere than at its end.
    """

    def __init__(self, path: str | os.PathLike, settings: Mapping[str, Any], existing: str = "resume"):
        self.path, self.settings = Path(path), settings_key(settings)
        if self.path.suffix.lower() not in FORMATS:
            raise ConfigurationError(
                f"{self.path}: captions are written as {', '.join(FORMATS)}, by the name's ending."
            )
        if existing not in ("resume", "append", "overwrite"):
            raise ConfigurationError(f"`existing` is 'resume', 'append' or 'overwrite', not {existing!r}.")
        self._direct = self.path.suffix.lower() == ".jsonl"
        self._journal = self.path if self._direct else self.path.with_name(f".{self.path.name}.rows.jsonl")
        self._resumes = existing == "resume"
        self._written: set[str] = set()
        self._replaced = False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_dir():
            raise ConfigurationError(f"{self.path} is a folder; give the file that the captions are to be in.")
        self._file = self._journal.open("ab", buffering=0)
        try:
            _lock(self._file, self.path)
            self._prepare(existing)
        except BaseException:
            self._file.close()
            raise

    def _prepare(self, existing: str) -> None:
        """Bring the journal to where rows can be added, and learn what it holds."""
        self._known: set[tuple[str, str]] = set()
        self._ids: set[str] = set()
        self.held = 0
        if existing == "overwrite":
            self._file.truncate(0)
            return
        _cut_broken_end(self._journal)
        if not self._direct and os.path.getsize(self._journal) == 0 and self.path.exists():
            self._append(_read_table(self.path))
        for row in read_jsonl(self._journal):
            self.held += 1
            image_id = str(row.get("image_id", ""))
            self._ids.add(image_id)
            if row.get("error"):
                continue  # what failed is tried again
            if row.get("settings") == self.settings:
                self._known.add((image_id, str(row.get("content"))))
            elif self._resumes:
                made = (
                    "with other settings (model, decoding, refiner, ...)" if "settings" in row else "by something else"
                )
                raise ConfigurationError(
                    f"{self.path} holds captions that were made {made}. Give another --output, or --append to keep "
                    "them beside the new ones, or --overwrite to begin anew."
                )

    def is_done(self, image_id: str, content: str) -> bool:
        """Whether this image has a caption that was made from this content with these settings."""
        return (image_id, content) in self._known

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows: in one write, which the system has when this returns."""
        complete = [{**row, "settings": self.settings} for row in rows]
        for row in complete:
            self._written.add(str(row["image_id"]))
        self._append(complete)

    def _append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        data = memoryview("".join(map(dump_row, rows)).encode())
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Bring the file into its final form. Rows of this run take the place of older ones of the same image."""
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
            stale = self._ids & self._written if self._resumes else set()
            if self._direct:
                if stale:
                    with atomic_write(self.path) as file:
                        file.writelines(map(dump_row, self._current_rows(stale)))
            else:
                _write_table(self.path, self._current_rows(stale))
                self._journal.unlink()
        finally:
            self._file.close()

    def _current_rows(self, stale: set[str]) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(read_jsonl(self._journal)):
            if number >= self.held or str(row.get("image_id")) not in stale:
                yield row

    def __enter__(self) -> CaptionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_captions(path: str | os.PathLike) -> Iterator[dict[str, Any]]:
    """The rows of a finished file of captions, JSON Lines, CSV or Parquet, each as it was written."""
    path = Path(path)
    return read_jsonl(path) if path.suffix.lower() == ".jsonl" else _read_table(path)


def _lock(file: IO[bytes], path: Path) -> None:
    """Two runs that append to one file would caption everything twice."""
    try:
        import fcntl
    except ImportError:  # Windows, where the other run would have to be noticed by its user
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"Another process is writing to {path}: wait for it, or give another --output."
        ) from error


def _cut_broken_end(path: Path) -> None:
    """Remove what a machine that died in the middle of a write left behind the last whole line."""
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)


def _read_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a finished CSV or Parquet file, as they were in JSON."""
    if path.suffix.lower() == ".csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                yield {name: value for name, value in map(_from_cell, row.items()) if value is not None}
        return
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    _check_columns(path, table.column_names)
    for row in table.to_pylist():
        yield {name: value for name, value in row.items() if value is not None}


def _check_columns(path: Path, names: Iterable[str]) -> None:
    foreign = sorted(set(names) - set(COLUMNS))
    if foreign:
        raise ConfigurationError(
            f"{path} has a column {foreign[0]!r} that would be lost: something else made it. Give another --output."
        )


def _from_cell(cell: tuple[str, str]) -> tuple[str, Any]:
    name, text = cell
    if name in ("caption", "draft"):
        return name, text
    if text == "":
        return name, None
    if name in ("candidates", "candidate_confidences", "confidence", "refined", "image_gain"):
        try:
            return name, json.loads(text)
        except json.JSONDecodeError as error:
            raise SourceFormatError(f"The column {name!r} of the CSV file holds {text[:40]!r}.") from error
    return name, text


def _write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    if path.suffix.lower() == ".csv":
        with atomic_write(path) as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for row in rows:
                writer.writerow({name: _to_cell(row.get(name)) for name in COLUMNS})
        return
    import pyarrow as pa
    import pyarrow.parquet as parquet

    types = {"confidence": pa.float64(), "image_gain": pa.float64(), "refined": pa.bool_()}
    types["candidates"] = pa.list_(pa.string())
    types["candidate_confidences"] = pa.list_(pa.float64())
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    with atomic_write(path, "wb") as file, parquet.ParquetWriter(file, schema) as writer:
        batch: list[Mapping[str, Any]] = []
        for row in rows:
            batch.append({name: row.get(name) for name in COLUMNS})
            if len(batch) == 4096:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))


def _to_cell(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
