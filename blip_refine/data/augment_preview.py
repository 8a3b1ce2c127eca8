"""See what an augmentation does, before training on it."""

from __future__ import annotations

import os
import random
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image, ImageDraw, ImageFont

from ..errors import DataError
from ..jsonlines import atomic_write
from ..records import CaptionRecord
from .augment import Augmentation
from .contact_sheet import choose_records
from .images import load_image

_SIDE, _GAP, _TEXT, _HEADER = 192, 8, 46, 20


def draw_preview(
    augmentation: Augmentation | None,
    records: Sequence[CaptionRecord],
    *,
    pictures: int = 6,
    versions: int = 4,
    seed: int = 0,
) -> Image.Image:
    """A picture with a row for each image: as it is on the left, then augmented, each with its first caption, in red
    where it was changed.

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
    size = ((versions + 1) * (_SIDE + _GAP), _HEADER + len(chosen) * (_SIDE + _TEXT + _GAP))
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=12)
    draw.text((0, 2), "as it is", fill=(0, 0, 0), font=font)
    draw.text((_SIDE + _GAP, 2), "augmented" if augmentation else "no augmentation", fill=(0, 0, 0), font=font)
    for row, record in enumerate(chosen):
        original = load_image(record.image)
        for column in range(versions + 1):
            picture, captions = original, tuple(record.captions)
            if column and augmentation is not None:
                picture, captions = augmentation(original, captions)
            left, top = column * (_SIDE + _GAP), _HEADER + row * (_SIDE + _TEXT + _GAP)
            # Square, as the model sees it.
            sheet.paste(picture.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (left, top))
            text = "\n".join(textwrap.wrap(captions[0] if captions else "", 31)[:3])
            # What an augmentation has changed in a caption is to be seen at once.
            color = (180, 0, 0) if captions[:1] != record.captions[:1] else (0, 0, 0)
            draw.multiline_text((left, top + _SIDE + 2), _drawable(text), fill=color, spacing=1, font=font)
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
