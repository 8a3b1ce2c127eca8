"""Captions in files: rows become requests, and results become rows again, with all else that the rows hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, DataError, SourceFormatError
from ..jsonlines import read_jsonl, write_jsonl
from ..records import RefinedCaption, RefineRequest
from .counts import RefineCounts


def read_requests(
    path: str | os.PathLike, image_folder: str | os.PathLike | None = None, output: str | os.PathLike | None = None
) -> tuple[list[dict[str, Any]], list[RefineRequest]]:
    """The rows of a file of captions, and a request for each.

    Args:
        path (`str` or `os.PathLike`): JSON Lines with `image_id` and `caption`; used where there: `candidates` (a
            list), `confidence`, `candidate_confidences` (a list), `image` (a path), `metadata` (an object).
        image_folder (`str` or `os.PathLike`, *optional*): What `image` is relative to; by default the file's folder.
        output (`str` or `os.PathLike`, *optional*): Where results will go: refused if it is `path`.

    Raises:
        SourceFormatError: A row lacks a key, or a value is of the wrong kind; the row is named.
        DataError: There is no row.
    """
    path = Path(path)
    if output is not None and Path(output).resolve() == path.resolve():
        raise ConfigurationError(f"The refined captions would replace the drafts in {path}; give another --output.")
    folder = Path(image_folder) if image_folder is not None else path.parent
    rows, requests, seen = [], [], set()
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"{path}, row {number}"
        draft, image_id = row.get("caption"), row.get("image_id")
        if not isinstance(draft, str):
            raise SourceFormatError(f"{where}: `caption` must be there, as text; found {_kind(row, 'caption')}.")
        if image_id is None:
            raise SourceFormatError(f"{where}: `image_id` must be there.")
        if image_id in seen:
            raise SourceFormatError(f"{where}: the image {image_id!r} has a row already.")
        seen.add(image_id)
        candidates, metadata = row.get("candidates") or [], row.get("metadata") or {}
        if not isinstance(candidates, list) or not all(isinstance(text, str) for text in candidates):
            raise SourceFormatError(f"{where}: `candidates` must be a list of texts.")
        if not isinstance(metadata, Mapping):
            raise SourceFormatError(f"{where}: `metadata` must be an object.")
        # The pipeline writes the draft as the first of the candidates; a request names it once.
        repeated = candidates[:1] == [draft]
        others = candidates[1:] if repeated else candidates
        confidences = row.get("candidate_confidences") or []
        if not isinstance(confidences, list) or not all(isinstance(value, (int, float)) for value in confidences):
            raise SourceFormatError(f"{where}: `candidate_confidences` must be a list of numbers.")
        rows.append(row)
        requests.append(
            RefineRequest(
                draft=draft,
                candidates=tuple(others),
                confidence=row.get("confidence"),
                image=folder / str(row["image"]) if row.get("image") else None,
                metadata=metadata,
                image_id=str(image_id),
                candidate_confidences=tuple(confidences[1:] if repeated else confidences),
            )
        )
    if not rows:
        raise DataError(f"{path} holds no caption.")
    return rows, requests


def _kind(row: Mapping[str, Any], key: str) -> str:
    return type(row[key]).__name__ if key in row else "nothing"


@dataclass
class RefineSummary(RefineCounts):
    """What became of the captions of a run: the counts, and what they took.

    Args:
        cached (`int`): Answers that were known already.
        tokens (`int`): Tokens used now.
        cost (`float`, *optional*): US dollars spent now.
    """

    cached: int = 0
    tokens: int = 0
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For `--json`. What was not measured is left out."""
        row = {**super().to_dict(), "cached": self.cached, "tokens": self.tokens}
        return row if self.cost is None else {**row, "cost": self.cost}


def summarise(results: Sequence[RefinedCaption]) -> RefineSummary:
    """Count what became of the captions."""
    costs = [one.cost for one in results if one.cost is not None]
    summary = RefineSummary(
        cached=sum(one.cached for one in results),
        tokens=sum(one.tokens for one in results),
        cost=sum(costs) if costs else None,
    )
    for one in results:
        summary.count(one.outcome, one.reason)
    return summary


def write_refined(
    path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], results: Sequence[RefinedCaption]
) -> RefineSummary:
    """Write each row with its result over it. Fields of the row that a result does not have stay as they are.

    Args:
        path (`str` or `os.PathLike`): The file to write, whole or not at all.
        rows (`Sequence[Mapping]`): n rows as they were read.
        results (`Sequence[RefinedCaption]`): n results.
    """

    def merged():
        for row, result in zip(rows, results, strict=True):
            found = {key: value for key, value in result.to_dict().items() if value is not None}
            stale = {"reason", "raw", "refined"}
            kept = {key: value for key, value in row.items() if key not in stale}
            yield {**kept, **found, "image_id": row["image_id"]}

    write_jsonl(path, merged())
    return summarise(results)
