"""A folder of one's own photos: with a metadata file (the Hub's imagefolder form), a table, or `.txt` files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from ...errors import ConfigurationError, SourceFormatError
from ...records import CaptionRecord
from ..rejections import Rejections
from . import table
from .columns import FOUND_BY_NAME, ColumnOptions
from .files import read_text_lines, relative_id, walk_images
from .grouping import SPLIT_NAMES, Row, group_rows

METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
TABLE_FILES = (
    "records.jsonl", "captions.csv", "captions.tsv", "captions.jsonl", "captions.json", "captions.parquet",
    "train.csv", "train.jsonl",
)  # fmt: skip


def load(
    folder: Path,
    *,
    rejections: Rejections,
    name: str | None = None,
    image_dir: str | Path | None = None,
    columns: ColumnOptions = FOUND_BY_NAME,
) -> list[CaptionRecord]:
    """Read a folder of images.

    Looked for in this order: `metadata.jsonl`, `.csv` or `.parquet` in the folder or its subfolders, with a column
    `file_name`; a table (`captions.csv`, `captions.jsonl`, ...; or the only one there is); a `.txt` file beside each
    image, a caption on each line. Subfolders called `train`, `validation` (`val`, `dev`) and `test` are the splits.

    Args:
        folder (`Path`): The folder.
        rejections (`Rejections`): Images without captions, and rows without images, are noted here.
        name (`str`, *optional*): The name of the source; the folder's by default.
        image_dir (`str` or `Path`, *optional*): What the paths in a table are relative to.
        columns (`ColumnOptions`, *optional*): What was said of the columns of a table.

    Raises:
        SourceFormatError: There are no images, or none with a caption.
    """
    name = name or folder.resolve().name
    metadata = sorted(path for file in METADATA_FILES for path in folder.rglob(file))
    if metadata:
        return _load_metadata(folder, metadata, name, image_dir, columns, rejections)
    single = _single_table(folder)
    if single:
        return table.load(single, rejections=rejections, name=name, image_dir=image_dir, columns=columns)
    of_tables = {"image_dir": image_dir, **{one.name: getattr(columns, one.name) for one in fields(columns)}}
    idle = [option for option, value in of_tables.items() if value is not None and option != "require_captions"]
    if idle:
        raise ConfigurationError(
            f"{folder} holds no table of captions, so {idle[0]}= has nothing to say: leave it out, or name the table.",
            arguments=idle,
        )
    return _load_sidecars(folder, name, columns.require_captions, rejections)


def _load_metadata(
    folder: Path,
    paths: Sequence[Path],
    name: str,
    image_dir: str | Path | None,
    columns: ColumnOptions,
    rejections: Rejections,
) -> list[CaptionRecord]:
    records: list[CaptionRecord] = []
    for path in paths:
        split = _split_of_path(path, folder)
        for record in table.load(path, rejections=rejections, name=name, image_dir=image_dir, columns=columns):
            image_id = record.image_id
            if isinstance(record.image, str) and not columns.id_column and path.parent != folder:
                image_id = relative_id(path.parent / image_id, folder)
            records.append(replace(record, image_id=image_id, split=record.split or split))
    named = {str(record.image) for record in records}
    for image in walk_images(folder):
        if str(image) not in named:
            rejections.add("image without caption", relative_id(image, folder))
    return records


def _load_sidecars(folder: Path, name: str, require_captions: bool, rejections: Rejections) -> list[CaptionRecord]:
    images = walk_images(folder)
    if not images:
        raise SourceFormatError(f"{folder} holds no images and no table of captions.")

    def rows() -> Iterator[Row]:
        for image in images:
            image_id = relative_id(image, folder)
            sidecar = next(
                (path for path in (image.with_suffix(".txt"), Path(f"{image}.txt")) if path.is_file()), None
            )
            captions = tuple(line for line in read_text_lines(sidecar) if line.strip()) if sidecar else ()
            if not captions and require_captions:
                rejections.add("image without caption", image_id)
                continue
            yield Row(str(image), str(image), captions, image_id, _split_of_path(image, folder), where=image_id)

    records = group_rows(rows(), name, rejections)
    if not records:
        example = images[0]
        raise SourceFormatError(
            f"{folder} holds {len(images)} images and not one caption. Put them into metadata.csv "
            f"(file_name,caption), or beside each image ({example.with_suffix('.txt').name} for {example.name})."
        )
    return records


def _single_table(folder: Path) -> Path | None:
    for file in TABLE_FILES:
        if (folder / file).is_file():
            return folder / file
    tables = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in table.TABLE_SUFFIXES and path.suffix != ".json" and not path.name.startswith(".")
    )
    if len(tables) > 1:
        raise SourceFormatError(
            f"{folder} holds several tables ({', '.join(path.name for path in tables)}). "
            "Name the one to read instead of the folder."
        )
    return tables[0] if tables else None


def _split_of_path(path: Path, folder: Path) -> str | None:
    parts = path.relative_to(folder).parts
    return SPLIT_NAMES.get(parts[0].lower()) if len(parts) > 1 else None
