"""Captions in files: the COCO results and annotation formats, and this project's JSON Lines.

COCO's results file is a JSON list of `{"image_id": 391895, "caption": "..."}`; its annotation file has `images` and
`annotations` (Chen et al. 2015, "Microsoft COCO Captions"). Image ids are strings everywhere in this library; they are
written as numbers where all of them are, as COCO's own tools want them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..caption_prompts import without_prompt
from ..errors import SourceFormatError, SourceNotFoundError
from ..jsonlines import read_jsonl, write_json
from .validation import check_duplicates


def _read_json(path: str | os.PathLike) -> Any:
    path = Path(path)
    if not path.is_file():
        raise SourceNotFoundError(f"There is no file {str(path)!r}.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise SourceFormatError(f"{path}: not UTF-8 text ({error.reason}).") from error
    except json.JSONDecodeError as error:
        raise SourceFormatError(f"{path}: not JSON ({error.msg}, line {error.lineno}).") from error


def _id(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise SourceFormatError(f"{where}: `image_id` must be a string or a whole number, found {value!r}.")
    return str(value)


def read_coco_results(path: str | os.PathLike) -> dict[str, str]:
    """Read a COCO results file.

    Returns:
        `dict[str, str]`: Image id to caption, in the order of the file.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It is no list of `image_id` and `caption`.
        MetricError: An image is captioned twice.
    """
    return _predictions(_rows(_read_json(path), path), path)


def _rows(value: Any, path: str | os.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(value, list):
        raise SourceFormatError(
            f'{os.fspath(path)}: a COCO results file is a list such as [{{"image_id": 1, "caption": "..."}}]; '
            f"found a {type(value).__name__}."
        )
    for number, row in enumerate(value, 1):
        where = f"{os.fspath(path)}, entry {number}"
        if not isinstance(row, dict):
            raise SourceFormatError(f"{where}: expected an object with `image_id` and `caption`, found {row!r:.60}.")
        yield where, row


def _predictions(rows: Iterator[tuple[str, dict[str, Any]]], path: str | os.PathLike) -> dict[str, str]:
    found: list[tuple[str, str]] = []
    for where, row in rows:
        if not isinstance(row.get("caption"), str) or "image_id" not in row:
            raise SourceFormatError(
                f"{where}: a prediction has an `image_id` and a `caption` that is text; found the keys "
                f"{', '.join(map(repr, row))}."
            )
        prompt = row.get("prompt")
        text = without_prompt(row["caption"], prompt) if isinstance(prompt, str) else row["caption"]
        found.append((_id(row["image_id"], where), text))
    check_duplicates(f"predictions of {os.fspath(path)}", (image_id for image_id, _ in found))
    return dict(found)


def write_coco_results(path: str | os.PathLike, predictions: Mapping[str, str]) -> None:
    """Write predictions as a COCO results file, whole or not at all.

    Args:
        path (`str` or `os.PathLike`): Where to.
        predictions (`Mapping[str, str]`): Image id to caption. Ids are written as numbers if all of them are numbers
            in their shortest form, and as strings otherwise.
    """
    numbers = all(str(image_id).isdecimal() and str(int(image_id)) == str(image_id) for image_id in predictions)
    write_json(
        path,
        [
            {"image_id": int(image_id) if numbers else str(image_id), "caption": caption}
            for image_id, caption in predictions.items()
        ],
    )


def read_coco_captions(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read the references of a COCO annotation file (`captions_val2017.json`).

    Returns:
        `dict[str, list[str]]`: Image id to captions; images without a caption are left out.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: It is no COCO caption annotation file.
    """
    return _coco_captions(_read_json(path), path)


def _coco_captions(value: Any, path: str | os.PathLike) -> dict[str, list[str]]:
    if not isinstance(value, dict) or not isinstance(value.get("annotations"), list):
        raise SourceFormatError(f"{os.fspath(path)}: a COCO annotation file is an object with a list `annotations`.")
    references: dict[str, list[str]] = {}
    for number, row in enumerate(value["annotations"], 1):
        where = f"{os.fspath(path)}, annotation {number}"
        if not isinstance(row, dict) or not isinstance(row.get("caption"), str) or "image_id" not in row:
            raise SourceFormatError(f"{where}: expected `image_id` and a `caption` that is text, found {row!r:.80}.")
        references.setdefault(_id(row["image_id"], where), []).append(row["caption"])
    return references


def read_predictions(path: str | os.PathLike) -> dict[str, str]:
    """Read predictions from a COCO results file (`.json`) or JSON Lines of `image_id` and `caption`.

    A `prompt` that a row names is cut off its caption.
    """
    if Path(path).suffix == ".json":
        return read_coco_results(path)
    return _predictions(_lines(path), path)


def read_references(path: str | os.PathLike) -> dict[str, list[str]]:
    """Read references from a COCO annotation file (`.json`) or JSON Lines of `image_id` and `captions`.

    Rows with `references` in place of `captions` are read as well: `predictions.jsonl` of a run folder holds both.

    Raises:
        SourceNotFoundError: There is no such file.
        SourceFormatError: A row has no list of captions.
        MetricError: An image comes twice.
    """
    if Path(path).suffix == ".json":
        return read_coco_captions(path)
    found: list[tuple[str, list[str]]] = []
    for where, row in _lines(path):
        captions = row.get("captions", row.get("references"))
        if "image_id" not in row or not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
            raise SourceFormatError(
                f"{where}: a reference row has an `image_id` and `captions`, a list of strings; found the keys "
                f"{', '.join(map(repr, row))}."
            )
        found.append((_id(row["image_id"], where), captions))
    check_duplicates(f"references of {os.fspath(path)}", (image_id for image_id, _ in found))
    return dict(found)


def _lines(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in enumerate(read_jsonl(path), 1):
        yield f"{os.fspath(path)}, row {number}", row
