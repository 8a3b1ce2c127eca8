"""Captions in CSV and Parquet: whole tables, read back as the rows that they were made of."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from .errors import ConfigurationError, SourceFormatError
from .jsonlines import atomic_write

COLUMNS = (
    *("image_id", "caption", "draft", "candidates", "confidence", "refined", "reason", "error", "review"),
    *("image_gain", "candidate_confidences", "prompt", "image", "content", "settings"),
)
"""What CSV and Parquet files hold, in this order."""


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a finished CSV or Parquet file, as they were in JSON."""
    if path.suffix.lower() == ".csv":
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                _check_columns(path, reader.fieldnames or ())
                for row in reader:
                    if None in row or None in row.values():
                        raise SourceFormatError(
                            f"{path}, line {reader.line_num}: there are {'more' if None in row else 'fewer'} cells "
                            "than columns."
                        )
                    yield {name: value for name, value in map(_from_cell, row.items()) if value is not None}
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceFormatError(f"{path} is no CSV file that can be read ({error}).") from error
        return
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as table:
            _check_columns(path, table.schema_arrow.names)
            for batch in table.iter_batches(4096):
                for row in batch.to_pylist():
                    yield {name: value for name, value in row.items() if value is not None}
    except pa.ArrowException as error:
        raise SourceFormatError(f"{path} is no Parquet file that can be read ({error}).") from error


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


class _UnixLines:
    """Takes lines that end in `\\r\\n` and ends them in `\\n`. Given `\\n` itself, writers before Python 3.13 do not
    quote a cell that holds `\\r`, which ends the line for whoever reads it."""

    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, line: str) -> int:
        return self._file.write(line.removesuffix("\r\n") + "\n")


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    if path.suffix.lower() == ".csv":
        with atomic_write(path) as file:
            writer = csv.DictWriter(_UnixLines(file), COLUMNS, extrasaction="ignore", lineterminator="\r\n")
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
