"""Data sets of the `datasets` library with their images as files, not as pictures.

`datasets` decodes images while it is iterated over: one broken image would end the iteration, and all of the decoding
would be done in one thread.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ImageDecodeError
from .images import PackedImage


class DatasetFile(PackedImage):
    """An image that a streamed data set names by an address of its own (`zip://a.jpg::hf://...`).

    Args:
        path (`str`): The address.
    """

    __slots__ = ("path",)

    def __init__(self, path: str):
        self.path = path

    def read_bytes(self) -> bytes:
        """Fetch it, in the way in which the data set would.

        Raises:
            ImageDecodeError: It cannot be had.
        """
        import fsspec

        try:
            with fsspec.open(self.path, "rb") as file:
                return file.read()
        except (OSError, ValueError, KeyError) as error:
            raise ImageDecodeError(f"{self.path!r} cannot be read: {error}.") from error

    def __fspath__(self) -> str:
        return self.path


def is_dataset(images: Any) -> bool:
    """Whether an object is a `Dataset` or `IterableDataset` of the `datasets` library, splits or a column of one."""
    library = sys.modules.get("datasets")  # whoever has such an object has imported it
    names = ("Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict", "Column", "IterableColumn")
    return isinstance(images, tuple(getattr(library, name) for name in names if hasattr(library, name)))


def rows_undecoded(images: Any) -> Iterator[Any]:
    """The rows of a data set, or the values of its column, with images as `{"bytes": ..., "path": ...}`.

    Args:
        images (`datasets.Dataset`, `datasets.IterableDataset`, or a column of one): With images, or without. Rows
            that a transform of the user makes (`set_transform`) are left as it makes them.
    """
    column = getattr(images, "column_name", None)
    if column is None:
        for row in _undecoded(images):
            yield {name: _addressed(value) for name, value in row.items()} if isinstance(row, Mapping) else row
        return
    source = images.source
    for value in (_undecoded(source) if hasattr(source, "cast_column") else source)[column]:
        yield _addressed(value)


def _undecoded(dataset: Any) -> Any:
    import datasets

    features = getattr(dataset, "features", None)
    transformed = isinstance(dataset, datasets.Dataset) and dataset.format["type"] == "custom"
    if not isinstance(features, Mapping) or transformed:
        return dataset
    names = [name for name, feature in features.items() if isinstance(feature, datasets.Image) and feature.decode]
    if names and hasattr(dataset, "with_format"):
        dataset = dataset.with_format(None)
    for name in names:
        dataset = dataset.cast_column(name, replace(features[name], decode=False))
    return dataset


def _addressed(value: Any) -> Any:
    if not isinstance(value, Mapping) or set(value) != {"bytes", "path"} or value["bytes"] is not None:
        return value
    path = value["path"]
    remote = path is not None and ("::" in path or "://" in path) and not os.path.exists(path)
    return DatasetFile(path) if remote else value
