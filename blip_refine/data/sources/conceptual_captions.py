"""Conceptual Captions (CC3M, CC12M): a list of captions and URLs, and what was downloaded of it.

P. Sharma et al.: Conceptual Captions: A Cleaned, Hypernymed, Image Alt-text Dataset For Automatic Image Captioning,
ACL 2018; S. Changpinyo et al.: Conceptual 12M, CVPR 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from .download import LOG_FILE, DownloadReport, download_images, read_log
from .grouping import Row, group_rows

PARTS = ("train", "validation")
"""Folders of the official lists, each a download of its own."""
_SCHEMES = ("http://", "https://")


def is_url_list(path: Path) -> bool:
    """Whether a file is a tab-separated list of captions and URLs without a header, in either order."""
    if path.suffix.lower() != ".tsv" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        cells = file.readline().rstrip("\r\n").split("\t")
    return len(cells) >= 2 and _url_column(cells) is not None


def is_download(folder: Path) -> bool:
    """Whether a folder, or a folder `train` or `validation` in it, holds what `download` left."""
    return any((place / LOG_FILE).is_file() for place in (folder, *(folder / part for part in PARTS)))


def read_url_list(path: Path, rejections: Rejections | None = None) -> Iterator[tuple[str, str]]:
    """URL and caption of each row: CC3M's `caption<tab>url`, with or without labels, or CC12M's `url<tab>caption`.

    Args:
        path (`Path`): The list.
        rejections (`Rejections`, *optional*): Rows without a URL are noted here.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It is not UTF-8.
    """
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    number = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                cells = line.rstrip("\r\n").split("\t")
                column = _url_column(cells) if len(cells) >= 2 else None
                if column is None:
                    if line.strip() and rejections is not None:
                        rejections.add("no URL", line.strip()[:80], f"{path.name}, line {number}")
                    continue
                yield cells[column].strip(), cells[1 - column]
    except UnicodeDecodeError as error:
        raise SourceFormatError(f"{path}, after line {number}: not UTF-8 text ({error.reason}).") from error


def download(path: str | Path, output: str | Path, *, limit: int | None = None, **options: Any) -> DownloadReport:
    """Download the images of a list; stopped at any time, it goes on where it was when it is called again.

    Args:
        path (`str` or `Path`): The list, for example `Train_GCC-training.tsv`.
        output (`str` or `Path`): The folder; `load_source(output)` reads it, also while it is incomplete.
        limit (`int`, *optional*): Only the first so many rows.
        **options: See `download_images`: `concurrency`, `per_host`, `retries`, `limits`, ...

    Returns:
        `DownloadReport`: Counts, with the failures by reason; each failure is a row of `downloads.jsonl`.
    """
    rows = read_url_list(Path(path))
    if limit is not None:
        rows = (row for _, row in zip(range(limit), rows, strict=False))
    return download_images(rows, output, **options)


def load(folder: Path, *, rejections: Rejections, name: str = "conceptual_captions") -> list[CaptionRecord]:
    """Read what `download` left. Images that are the same under several URLs are one record with all captions.

    Args:
        folder (`Path`): The folder of the download; those in its folders `train` and `validation` are these splits.
        rejections (`Rejections`): Rows whose image could not be had are noted here, with the reason.
        name (`str`, defaults to `"conceptual_captions"`): The name of the source.

    Raises:
        SourceNotFoundError: The folder holds no download.
    """
    if not is_download(folder):
        raise SourceNotFoundError(
            f"{folder} holds no download. For the official lists: blip-refine fetch conceptual-captions --output "
            f"{folder}; for one of your own: blip-refine prepare list.tsv --download --output {folder}"
        )

    def rows() -> Iterator[Row]:
        for split, place in ((None, folder), *((part, folder / part) for part in PARTS)):
            for row in read_log(place):
                if "failed" in row:
                    rejections.add(f"download failed: {row['failed']}", row["url"], LOG_FILE, row.get("detail"))
                elif not (place / row["file"]).is_file():
                    rejections.add("missing image", row["file"], LOG_FILE)
                else:
                    stem, metadata = PurePosixPath(row["file"]).stem, {"url": row["url"]}
                    yield Row(stem, str(place / row["file"]), (row["caption"],), stem[:16], split, metadata)

    return group_rows(rows(), name, rejections)


def _url_column(cells: list[str]) -> int | None:
    return next((column for column in (1, 0) if cells[column].strip().startswith(_SCHEMES)), None)
