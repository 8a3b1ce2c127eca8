"""See what an augmentation does, before training on it."""

from __future__ import annotations

import os
import random
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageDraw

from ..errors import DataError
from ..jsonlines import atomic_write
from ..records import CaptionRecord
from .augment import Augmentation
from .contact_sheet import choose_records
from .images import load_image

_SIDE = 192
_TEXT = 44


def draw_preview(
    augmentation: Augmentation | None,
    records: Sequence[CaptionRecord],
    *,
    pictures: int = 6,
    versions: int = 4,
    seed: int = 0,
) -> Image.Image:
    """A picture with a row for each image: as it is on the left, then augmented, each with its first caption.

    Args:
        augmentation (`Augmentation`, *optional*): What to show; `None` shows that nothing is done.
        records (`Sequence[CaptionRecord]`): Where the pictures come from.
        pictures (`int`, defaults to 6): How many of them.
        versions (`int`, defaults to 4): How many augmented versions of each.
        seed (`int`, defaults to 0): Which pictures, and what is done to them.

    Raises:
        DataError: There are no records.
        ImageDecodeError: A picture cannot be decoded.
    """
    if not records:
        raise DataError("There is nothing to show a preview of.")
    chosen = choose_records(records, pictures, seed)
    if augmentation is not None:
        augmentation = replace(augmentation, rng=random.Random(seed))
    sheet = Image.new("RGB", ((versions + 1) * (_SIDE + 8), len(chosen) * (_SIDE + _TEXT + 8)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for row, record in enumerate(chosen):
        original = load_image(record.image)
        for column in range(versions + 1):
            picture, captions = original, tuple(record.captions)
            if column and augmentation is not None:
                picture, captions = augmentation(original, captions)
            left, top = column * (_SIDE + 8), row * (_SIDE + _TEXT + 8)
            # Square, as the model sees it.
            sheet.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (left, top))
            text = "\n".join(textwrap.wrap(captions[0] if captions else "", 32)[:3])
            draw.multiline_text((left, top + _SIDE + 2), _drawable(text), fill=(0, 0, 0), spacing=1)
    return sheet


def save_preview(
    augmentation: Augmentation | None, records: Sequence[CaptionRecord], path: str | os.PathLike, **options
) -> None:
    """Write `draw_preview` as a JPEG; see there for the arguments."""
    sheet = draw_preview(augmentation, records, **options)
    with atomic_write(path, "wb") as file:
        sheet.save(file, "JPEG", quality=88)


def _drawable(text: str) -> str:
    """Pillow's built-in font has Latin letters alone in some builds, and raises for others."""
    return text.encode("latin-1", "replace").decode("latin-1")
