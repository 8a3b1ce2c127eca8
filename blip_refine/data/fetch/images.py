"""What is left to do once the files are here: images that come one by one, and captions in a form that is read."""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ...errors import SourceFormatError
from ...jsonlines import atomic_write, write_json
from ..http import FetchError
from ..sources.http_fetch import FetchLimits, fetch_image

OPEN_IMAGES_ID = re.compile(r"[0-9a-f]{16}\Z")


def open_images(path: Path) -> list[str]:
    """The ids of the Open Images photos that a nocaps file lists.

    Raises:
        SourceFormatError: It is not such a file.
    """
    try:
        images = json.loads(path.read_bytes())["images"]
        ids = [image["open_images_id"] for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceFormatError(f"{path} is not a nocaps file: no list `images` with `open_images_id`.") from error
    wrong = next((name for name in ids if not isinstance(name, str) or not OPEN_IMAGES_ID.match(name)), None)
    if wrong is not None:
        # The id becomes a file name.
        raise SourceFormatError(f"{path}: {wrong!r:.60} is not the id of an Open Images photo.")
    return ids


def download_named(
    rows: Iterable[tuple[str, Path]],
    *,
    limits: FetchLimits,
    concurrency: int = 16,
    retries: int = 3,
    progress: Callable[[int], object] | None = None,
) -> dict[str, str]:
    """Download images under given names; those that are there are left as they are.

    Args:
        rows (`Iterable[tuple[str, Path]]`): URL and file of each image.
        limits (`FetchLimits`): What one may cost.
        concurrency (`int`, defaults to 16): Images at a time.
        retries (`int`, defaults to 3): Further tries after a failure that may pass.
        progress (`Callable`, *optional*): Called with 1 for each row.

    Returns:
        `dict[str, str]`: URL to reason, for each image that could not be had.
    """

    def one(row: tuple[str, Path]) -> tuple[str, str | None]:
        url, path = row
        if path.is_file():
            return url, None
        for attempt in range(retries + 1):
            try:
                data = fetch_image(url, limits)
            except FetchError as error:
                if not error.transient or attempt == retries:
                    return url, str(error)
                time.sleep(min(error.retry_after or 0.5 * 2**attempt, 30.0))
                continue
            with atomic_write(path, "wb") as file:
                file.write(data)
            return url, None
        raise AssertionError("the last try returns")

    failed: dict[str, str] = {}
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="download")
    try:
        for url, reason in pool.map(one, rows):
            if reason is not None:
                failed[url] = reason
            if progress is not None:
                progress(1)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return failed


def karpathy_from_hub(table: Path, target: Path) -> int:
    """Write the table of `nlphuji/flickr30k` in the form of Karpathy's `dataset_flickr30k.json`.

    Args:
        table (`Path`): A CSV file with the columns `raw` (a JSON list of sentences), `split` and `filename`.
        target (`Path`): Where to.

    Returns:
        `int`: How many images it lists.

    Raises:
        SourceFormatError: It is another file.
    """
    images = list(_rows(table))
    if not images:
        raise SourceFormatError(f"{table} lists no image.")
    write_json(target, {"dataset": "flickr30k", "images": images})
    return len(images)


def _rows(table: Path) -> Iterator[dict[str, Any]]:
    with table.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), 2):
            try:
                sentences = json.loads(row["raw"])
                if not isinstance(sentences, list) or not all(isinstance(text, str) for text in sentences):
                    raise ValueError("`raw` is no list of sentences")
                yield {
                    "filename": row["filename"],
                    "split": row["split"],
                    "sentences": [{"raw": text} for text in sentences],
                }
            except (KeyError, ValueError, TypeError) as error:
                raise SourceFormatError(
                    f"{table}, line {number}: expected the columns raw, split and filename of nlphuji/flickr30k "
                    f"({error})."
                ) from error
