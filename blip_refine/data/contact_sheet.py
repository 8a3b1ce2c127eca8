"""Many pictures on one sheet, to see at a glance what a data set holds."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..records import CaptionRecord
from .images import load_image


def choose_records(records: Sequence[CaptionRecord], count: int, seed: int = 0) -> list[CaptionRecord]:
    """Some records, in their order; the same for the same seed."""
    places = sorted(random.Random(seed).sample(range(len(records)), min(count, len(records))))
    return [records[place] for place in places]


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 8, side: int = 128, gap: int = 4) -> Image.Image:
    """Pictures in rows, numbered from 1, each whole and as large as its cell allows.

    Args:
        pictures (`Sequence[PIL.Image.Image]`): In mode `"RGB"`.
        columns (`int`, defaults to 8): Pictures in a row.
        side (`int`, defaults to 128): Width and height of a cell in pixels.
        gap (`int`, defaults to 4): Pixels between cells.

    Returns:
        `PIL.Image.Image`: In mode `"RGB"`.
    """
    rows = max(1, -(-len(pictures) // columns))
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + gap) + gap), (238, 238, 238))
    draw = ImageDraw.Draw(sheet)
    for number, picture in enumerate(pictures):
        small = picture.copy()
        small.thumbnail((side, side))
        left, top = gap + number % columns * (side + gap), gap + number // columns * (side + gap)
        sheet.paste(small, (left + (side - small.width) // 2, top + (side - small.height) // 2))
        label = str(number + 1)
        draw.rectangle((left, top, left + 7 * len(label) + 3, top + 12), fill=(255, 255, 255))
        draw.text((left + 2, top), label, fill=(0, 0, 0))
    return sheet


def sheet_of_records(records: Sequence[CaptionRecord], columns: int = 8, side: int = 128) -> Image.Image:
    """The contact sheet of records whose images can be decoded.

    Raises:
        ImageDecodeError: An image cannot be decoded.
    """
    return contact_sheet([load_image(record.image, target_size=side) for record in records], columns, side)
