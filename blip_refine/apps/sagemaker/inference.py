"""SageMaker's inference handlers: `model_fn`, `input_fn`, `predict_fn`, `output_fn`.

A request is the bytes of a picture (`image/*`, `application/x-image`), JSON (`{"image": "<base64>"}` or
`{"url": "https://..."}`), or JSON Lines with one such object a line. The answer is JSON, or JSON Lines for JSON Lines.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import DataError, SourceFormatError
from ...jsonlines import dump_row
from ...records import Caption, CaptionRecord

if TYPE_CHECKING:
    from ...pipeline import CaptionPipeline

JSON, JSON_LINES = "application/json", "application/jsonlines"
PICTURES = ("image/", "application/x-image", "application/octet-stream")
MAX_ROWS = 256
"""At most so many pictures in one request."""


@dataclass(frozen=True, slots=True)
class CaptionRequest:
    """A request, read.

    Args:
        images (`tuple`): Pictures: bytes, something that fetches itself when it is decoded, or the error of a line
            that is none.
        image_ids (`tuple[str, ...]`): Their names, which come back with the captions.
        many (`bool`): Whether it was JSON Lines, so that the answer is, too.
    """

    images: tuple[Any, ...]
    image_ids: tuple[str, ...]
    many: bool


def model_fn(model_dir: str) -> CaptionPipeline:
    """Load the captioner from the folder that `model.tar.gz` was unpacked into.

    A job with `merge` leaves the adapter and, in `merged`, the whole model; that one is served, since it needs no base
    from elsewhere.

    `BLIP_REFINE_REFINER` and `BLIP_REFINE_DECODING` name a refiner and a decoding preset, and `BLIP_REFINE_PROMPT` is
    what captions begin with. By default the prompt and decoding that are saved with the model are used.

    Raises:
        RefinerError, ModelError: The refiner does not answer, or a model cannot be loaded.
    """
    from ...pipeline import CaptionPipeline
    from ...refine.base import load_refiner
    from ...refine.safety import require_working

    name = os.environ.get("BLIP_REFINE_REFINER")
    refiner = load_refiner(name) if name else None
    require_working(refiner)
    merged = Path(model_dir) / "merged"
    return CaptionPipeline.from_pretrained(
        merged if (merged / "config.json").is_file() else model_dir,
        refiner=refiner,
        decoding=os.environ.get("BLIP_REFINE_DECODING") or None,
        prompt=os.environ.get("BLIP_REFINE_PROMPT"),
    )


def input_fn(body: bytes | str, content_type: str) -> CaptionRequest:
    """Read a request.

    Raises:
        SourceFormatError: The type is not known, or the body is not what its type says.
        DataError: There are more pictures than one request may hold.
    """
    data = body.encode() if isinstance(body, str) else body
    kind = content_type.split(";")[0].strip().lower()
    if kind.startswith(PICTURES):
        if not data:
            raise SourceFormatError("The request is empty; send the bytes of a picture.")
        return CaptionRequest((data,), ("0",), False)
    if kind == JSON:
        return CaptionRequest((_picture(_parse(data, "The request")),), ("0",), False)
    if kind == JSON_LINES:
        lines = [line for line in data.split(b"\n") if line.strip()]
        if not lines:
            raise SourceFormatError("The request is empty; send one JSON object a line.")
        if len(lines) > MAX_ROWS:
            raise DataError(f"At most {MAX_ROWS} pictures are captioned in one request; there are {len(lines)}.")
        read = [_line(line, number) for number, line in enumerate(lines)]
        return CaptionRequest(tuple(image for image, _ in read), tuple(name for _, name in read), True)
    raise SourceFormatError(f"{content_type!r} is not taken; send image/*, {JSON} or {JSON_LINES}.")


def predict_fn(request: CaptionRequest, captioner: CaptionPipeline) -> tuple[CaptionRequest, list[Caption]]:
    """Caption the pictures of a request, in order. Among many, one that cannot be read has its `error`.

    Raises:
        DataError: The only picture cannot be read.
    """
    named = list(zip(request.images, request.image_ids, strict=True))
    records = [CaptionRecord(image, (), name) for image, name in named if not isinstance(image, SourceFormatError)]
    captioned = iter(captioner.stream(records) if records else ())
    captions = [
        Caption("", "", image_id=name, error=str(image)) if isinstance(image, SourceFormatError) else next(captioned)
        for image, name in named
    ]
    if not request.many and captions[0].error is not None:
        raise DataError(captions[0].error)
    return request, captions


def output_fn(prediction: tuple[CaptionRequest, Sequence[Caption]], accept: str = JSON) -> tuple[bytes, str]:
    """Write the answer: JSON for one picture, JSON Lines for JSON Lines."""
    request, captions = prediction
    rows = [caption.to_dict() for caption in captions]
    if request.many:
        return "".join(dump_row(row) for row in rows).encode(), JSON_LINES
    return json.dumps(rows[0], ensure_ascii=False).encode(), JSON


def _line(line: bytes, number: int) -> tuple[Any, str]:
    """The picture of one line, or what is wrong with it; and its name. One bad line costs the others nothing."""
    name = str(number)
    try:
        row = _parse(line, f"Line {number + 1}")
        name = str(row.get("image_id", number))
        return _picture(row), name
    except SourceFormatError as error:
        return error, name


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{where} is not JSON ({error}).") from error
    if not isinstance(row, dict) or not isinstance(row.get("image", row.get("url")), str):
        raise SourceFormatError(f'{where} is not of the form {{"image": "<base64>"}} or {{"url": "https://..."}}.')
    return row


def _picture(row: dict[str, Any]) -> Any:
    if "image" in row:
        try:
            return base64.b64decode(row["image"].split(",", 1)[-1], validate=True)
        except (binascii.Error, ValueError) as error:
            raise SourceFormatError(f"'image' is not base64 ({error}).") from error
    from ...url_images import UrlImage, UrlLimits

    if not row["url"].lower().startswith(("http://", "https://")):
        raise SourceFormatError("'url' begins with http:// or https://.")
    return UrlImage(row["url"], UrlLimits())
