"""A `datasets.Dataset`, `DatasetDict` or `IterableDataset` that is already in the user's hands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceFormatError
from ...records import CaptionRecord, ImageInput
from ..images import PackedImage
from ..rejections import Rejections
from .columns import FOUND_BY_NAME, ColumnOptions, Columns
from .grouping import Row, group_adjacent_rows, group_rows
from .table import captions_of, prompt_of


class DatasetImage(PackedImage):
    """The image of one row of a `datasets.Dataset`, read from its Arrow table when it is needed.

    Args:
        dataset (`datasets.Dataset`): With the image column alone, not decoded.
        row (`int`): Which row.
        column (`str`): The image column.
        name (`str`): What to call the image.
    """

    __slots__ = ("dataset", "row", "column", "name")

    def __init__(self, dataset: Any, row: int, column: str, name: str):
        self.dataset, self.row, self.column, self.name = dataset, row, column, name

    def read_bytes(self) -> bytes:
        return _bytes_of(self.dataset[self.row][self.column], self.name)

    def __fspath__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple:
        return (type(self), (self.dataset, self.row, self.column, self.name))


def is_iterable(dataset: Any) -> bool:
    """Whether a data set of the `datasets` library can only be read from its start."""
    from datasets import IterableDataset, IterableDatasetDict

    return isinstance(dataset, (IterableDataset, IterableDatasetDict))


def load(
    dataset: Any,
    *,
    rejections: Rejections,
    name: str = "dataset",
    split: str | None = None,
    columns: ColumnOptions = FOUND_BY_NAME,
) -> list[CaptionRecord]:
    """Records from a data set in memory; rows of one image (the same bytes or the same path) become one record.

    Args:
        dataset (`datasets.Dataset`, `datasets.DatasetDict` or their iterable forms): The data.
        rejections (`Rejections`): Rows without an image are noted here.
        name (`str`, defaults to `"dataset"`): The name of the source.
        split (`str`, *optional*): The split that a single `Dataset` is; taken from it by default where it knows.
        columns (`ColumnOptions`, *optional*): What was said of its columns.

    Raises:
        SourceFormatError: The columns are not what was said or can be guessed.
    """
    if isinstance(dataset, Mapping):
        parts: list[tuple[str | None, Any]] = [(str(key), part) for key, part in dataset.items()]
    else:
        parts = [(split or _own_split(dataset), dataset)]

    def rows() -> Iterator[Row]:
        for part_split, part in parts:
            found = columns.find(_names(part), f"The data set {name!r}")
            yield from _rows_of(part, found, part_split, name, rejections)

    return group_rows(rows(), name, rejections)


def stream(
    dataset: Any,
    *,
    rejections: Rejections,
    name: str = "dataset",
    split: str | None = None,
    columns: ColumnOptions = FOUND_BY_NAME,
) -> Iterator[CaptionRecord]:
    """Records from an iterable data set, one after the other; see `load` for the arguments.

    Nothing is kept, so only rows of an image that follow each other are taken together.
    """
    found = columns.find(_names(dataset), f"The data set {name!r}")
    yield from group_adjacent_rows(_rows_of(dataset, found, split, name, rejections), name)


def _own_split(dataset: Any) -> str | None:
    """A `Dataset` that was loaded as a part of "train" says so; one that was made from a dict says nothing."""
    split = str(getattr(dataset, "split", None) or "")
    return split.split("[")[0] or None


def _names(dataset: Any) -> list[str]:
    names = dataset.column_names
    if names is None:  # an IterableDataset that has not looked at its first row
        first = next(iter(dataset), None)
        if first is None:
            raise SourceFormatError("The data set is empty.")
        names = list(first)
    return list(names)


def _rows_of(part: Any, columns: Columns, split: str | None, name: str, rejections: Rejections) -> Iterator[Row]:
    part = _undecoded(part, columns.image)
    images = None if is_iterable(part) else part.select_columns([columns.image])
    for number, row in enumerate(_rows_one_by_one(part)):
        where = f"{name}, row {number}"
        value = row.get(columns.image)
        if value is None or (isinstance(value, Mapping) and not value.get("bytes") and not value.get("path")):
            rejections.add("no image", str(row.get(columns.image_id or columns.image)), where)
            continue
        image, key, image_name = _image_of(value, where)
        if images is not None and isinstance(image, bytes):
            image = DatasetImage(images, number, columns.image, f"{name}/{image_name}")
        given = row.get(columns.image_id) if columns.image_id else None
        metadata = {k: v for k, v in row.items() if k not in columns.used and isinstance(v, (str, int, float, bool))}
        own_split = row.get(columns.split) if columns.split else None
        yield Row(
            key,
            image,
            captions_of(row, columns, where, rejections),
            str(given) if given not in (None, "") else image_name,
            own_split or split,
            metadata,
            where,
            prompt_of(row, columns),
        )


def _rows_one_by_one(part: Any) -> Iterator[dict[str, Any]]:
    if not is_iterable(part):
        yield from part
        return
    # Plain iteration would divide the rows among the workers of a DataLoader a second time.
    for batch in part.iter(batch_size=16):
        names = list(batch)
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(names, values, strict=True))


def _undecoded(part: Any, column: str) -> Any:
    """The data set with its images as compressed bytes, where its column is an `Image`."""
    features = getattr(part, "features", None)
    if features is not None and type(features.get(column)).__name__ == "Image":
        from datasets import Image

        return part.cast_column(column, Image(decode=False))
    return part


def _image_of(value: Any, where: str) -> tuple[ImageInput, str, str]:
    """The image, what makes two rows the same image, and a name for it."""
    if isinstance(value, Mapping):
        path = value.get("path")
        if not value.get("bytes"):
            return str(path), str(path), Path(str(path)).name
        data = bytes(value["bytes"])
        digest = hashlib.sha256(data).hexdigest()
        return data, digest, PurePosixPath(str(path)).name if path else digest[:16]
    if isinstance(value, (bytes, bytearray)):
        digest = hashlib.sha256(value).hexdigest()
        return bytes(value), digest, digest[:16]
    if isinstance(value, str):
        return value, value, Path(value).name
    if hasattr(value, "tobytes") and hasattr(value, "mode"):  # a decoded PIL image
        digest = hashlib.sha256(f"{value.mode}{value.size}".encode() + value.tobytes()).hexdigest()
        return value, digest, digest[:16]
    raise SourceFormatError(f"{where}: an image is a path, bytes or a picture, not a {type(value).__name__}.")


def _bytes_of(value: Any, name: str) -> bytes:
    if isinstance(value, Mapping):
        return bytes(value["bytes"]) if value.get("bytes") else Path(value["path"]).read_bytes()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise SourceFormatError(f"{name}: the row no longer holds the bytes of an image.")
