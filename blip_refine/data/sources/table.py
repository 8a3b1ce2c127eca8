"""Tables of one's own: CSV, TSV, JSON Lines, a JSON list, Parquet. One row an image, or one row a caption."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceFormatError, SourceNotFoundError
from ...jsonlines import read_jsonl
from ...records import CaptionRecord, ImageInput
from ..rejections import Rejections
from .columns import FOUND_BY_NAME, ColumnOptions, Columns
from .files import relative_id
from .grouping import Row, group_rows
from .moved import MovedImages

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


def load(
    path: Path,
    *,
    rejections: Rejections,
    name: str | None = None,
    image_dir: str | Path | None = None,
    columns: ColumnOptions = FOUND_BY_NAME,
) -> list[CaptionRecord]:
    """Read a table of images and captions.

    Args:
        path (`Path`): A `.csv`, `.tsv`, `.jsonl`, `.json` (a list of objects) or `.parquet` file.
        rejections (`Rejections`): Rows without an image, or whose image is not there, are noted here.
        name (`str`, *optional*): The name of the source; the file's name by default.
        image_dir (`str` or `Path`, *optional*): What relative paths are relative to; the table's folder by default.
        columns (`ColumnOptions`, *optional*): What was said of its columns.

    Raises:
        SourceNotFoundError: There is no such file, or not one of its images is there.
        SourceFormatError: The file cannot be read, or its columns are not what was said or can be guessed.
    """
    rows, names = read_rows(path)
    found = columns.find(names, str(path))
    return records_of_rows(
        rows, found, Path(image_dir) if image_dir else path.parent, name or path.name, path.name, rejections
    )


def records_of_rows(
    rows: Iterable[tuple[int, Mapping[str, Any]]],
    columns: Columns,
    folder: Path,
    name: str,
    where: str,
    rejections: Rejections,
) -> list[CaptionRecord]:
    """Records from the rows of a table, grouped by image.

    Args:
        rows (`Iterable[tuple[int, Mapping]]`): Line or row number, and the row.
        columns (`Columns`): Which column is what.
        folder (`Path`): What relative paths are relative to.
        name (`str`): The name of the source.
        where (`str`): The table, for messages.
        rejections (`Rejections`): See `load`.

    Raises:
        SourceNotFoundError: There are rows, and not one of their images is there.
    """
    missing: list[str] = []
    kept = 0
    # Five rows name the same image: its path is put together, and looked for, once.
    places: dict[str, tuple[ImageInput, str, str, bool]] = {}
    moved = MovedImages(folder)

    def grouped() -> Iterator[Row]:
        nonlocal kept
        for number, row in rows:
            place = f"{where}, row {number}"
            value = row.get(columns.image)
            if value is None or value == "":
                rejections.add("no image named", str(dict(row))[:80], place)
                continue
            found = places.get(value) if isinstance(value, str) else None
            if found is None:
                found = _image_of(value, folder, place)
                if isinstance(value, str):
                    there = None if found[3] else moved.find(value)
                    if there is not None:
                        found = str(there), str(there), relative_id(there, folder), True
                    places[value] = found
            image, key, image_name, is_there = found
            if not is_there:
                rejections.add("missing image", image_name, place)
                missing.append(image_name)
                continue
            kept += 1
            given = row.get(columns.image_id) if columns.image_id else None
            yield Row(
                key,
                image,
                captions_of(row, columns, place, rejections),
                str(given) if given not in (None, "") else image_name,
                _text_or_none(row.get(columns.split)) if columns.split else None,
                metadata_of(row, columns),
                place,
                prompt_of(row, columns),
            )

    records = group_rows(grouped(), name, rejections)
    if moved.found:
        logger.warning("%s: %s", where, moved.summary())
    if missing and not kept:
        raise SourceNotFoundError(
            f"Not one of the {len(missing)} images that {where} names is under {folder}, for example {missing[0]!r}. "
            "Paths are relative to the table; name another folder: image_dir=...",
            arguments=("image_dir",),
        )
    return records


def captions_of(row: Mapping[str, Any], columns: Columns, where: str, rejections: Rejections) -> tuple[str, ...]:
    """The captions of one row: texts and lists of texts, from all caption columns. Empty cells are passed over."""
    captions: list[str] = []
    for column in columns.captions:
        value = row.get(column)
        for entry in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(entry, Mapping):  # Karpathy's {"raw": ...}, COCO's {"caption": ...}
                entry = next((entry[key] for key in ("raw", "caption", "text") if key in entry), None)
            if isinstance(entry, str):
                captions.append(entry)
            elif entry is not None:
                rejections.add("caption is not text", str(entry)[:80], where, f"a {type(entry).__name__}")
    return tuple(captions)


def prompt_of(row: Mapping[str, Any], columns: Columns) -> str | None:
    """The prompt of a row, as it stands there; `None` for an empty cell."""
    value = row.get(columns.prompt) if columns.prompt else None
    return value if isinstance(value, str) and value.strip() else None


def read_rows(path: Path) -> tuple[Iterator[tuple[int, dict[str, Any]]], list[str]]:
    """The numbered rows of a table, and the names of its columns.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It cannot be read as what its name says it is, or is empty.
    """
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        rows = _read_csv(path, "\t" if suffix == ".tsv" else None)
    elif suffix in (".jsonl", ".ndjson"):
        rows = list(enumerate(read_jsonl(path), 1))
    elif suffix == ".json":
        rows = _read_json_list(path)
    elif suffix == ".parquet":
        return _read_parquet(path)
    else:
        raise SourceFormatError(f"{path}: a table is one of {', '.join(TABLE_SUFFIXES)}.")
    if not rows:
        raise SourceFormatError(f"{path} has no rows.")
    names = dict.fromkeys(name for _, row in rows for name in row)
    return iter(rows), list(names)


def _read_csv(path: Path, delimiter: str | None) -> list[tuple[int, dict[str, Any]]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceFormatError(
            f"{path} is not UTF-8 text (byte {error.start}: {error.reason}). Save it as UTF-8."
        ) from error
    if delimiter is None:
        header = text.split("\n", 1)[0]
        delimiter = max((",", ";", "\t", "|"), key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        header_cells = [cell.strip() for cell in next(reader, [])]
        rows: list[tuple[int, dict[str, Any]]] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header_cells):
                raise SourceFormatError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells under {len(header_cells)} column names. "
                    f"A text that holds {delimiter!r} must stand in double quotes."
                )
            rows.append((reader.line_num, dict(zip(header_cells, cells, strict=True))))
    except csv.Error as error:
        raise SourceFormatError(f"{path}, line {reader.line_num}: {error}.") from error
    return rows


def _read_json_list(path: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise SourceFormatError(
            f"{path}: expected a list of objects, one an image or one a caption, such as "
            '[{"image": "1.jpg", "captions": ["a dog"]}].'
        )
    return list(enumerate(content, 1))


def _read_parquet(path: Path) -> tuple[Iterator[tuple[int, dict[str, Any]]], list[str]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowInvalid as error:
        raise SourceFormatError(f"{path} is not a Parquet file ({error}).") from error

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield number, row

    return rows(), list(file.schema_arrow.names)


def _image_of(value: Any, folder: Path, where: str) -> tuple[ImageInput, str, str, bool]:
    """The image, what makes it the same image in another row, a name for it, and whether it is there."""
    if isinstance(value, Mapping):  # how `datasets` and Parquet files of the Hub keep an image
        if value.get("bytes"):
            data = bytes(value["bytes"])
            digest = hashlib.sha256(data).hexdigest()
            return data, digest, PurePosixPath(str(value.get("path") or "")).name or digest[:16], True
        value = value.get("path")
    if isinstance(value, (bytes, bytearray)):
        digest = hashlib.sha256(value).hexdigest()
        return bytes(value), digest, digest[:16], True
    if not isinstance(value, str):
        raise SourceFormatError(f"{where}: an image is a path or the bytes of a file, not a {type(value).__name__}.")
    if value.startswith(("http://", "https://")):
        raise SourceFormatError(
            f"{where}: the image is the URL {value[:80]!r}. Download the images first: "
            "blip_refine.data.sources.conceptual_captions.download does it, politely and resumably."
        )
    path = folder / value.replace("\\", "/") if "\\" in value and "/" not in value else folder / value
    return str(path), str(path), PurePosixPath(value.replace("\\", "/")).as_posix(), path.is_file()


def metadata_of(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The texts and numbers of a row that have no meaning of their own here, by column."""
    return {
        key: value
        for key, value in row.items()
        if key not in columns.used and isinstance(value, (str, int, float, bool))
    }


def _text_or_none(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None
