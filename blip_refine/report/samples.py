"""Annotated sample images: a picture with its captions below it, as a file for slides and papers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..evaluation.evaluator import spread
from ..jsonlines import atomic_write
from .gallery import gain_of
from .results import Example, RunResults

WIDTH, MARGIN = 480, 16
LETTERS = 46
"""Letters of a line: what fits the width at this size."""


def write_samples(run: RunResults, folder: Path, number: int = 8) -> list[Path]:
    """Write some pictures with what each system and one person said of them.

    Args:
        run (`RunResults`): What the run folder says.
        folder (`Path`): Where `sample_01.png` and so on go.
        number (`int`, defaults to 8): How many: those that gained and lost most, and others at equal distances.

    Returns:
        `list[Path]`: What was written; a picture that cannot be read is left out.
    """
    shown = [example for example in run.examples if example.image is not None]
    chosen = spread([gain_of(example, run.headline_metric) for example in shown], number)
    written: list[Path] = []
    for place in chosen:
        sheet = annotate(shown[place])
        if sheet is not None:
            path = folder / f"sample_{len(written) + 1:02d}.png"
            with atomic_write(path, "wb") as file:
                sheet.save(file, "PNG")
            written.append(path)
    return written


def annotate(example: Example) -> Image.Image | None:
    """A picture with its captions below; `None` where it cannot be read."""
    assert example.image is not None
    try:
        with Image.open(example.image) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    side = WIDTH - 2 * MARGIN
    picture = ImageOps.contain(picture, (side, side))
    lines = _lines(example)
    font, bold = _font("DejaVuSans.ttf", 16), _font("DejaVuSans-Bold.ttf", 13)
    height = MARGIN + picture.height + 10 + sum(20 if heading else 23 for heading, _ in lines) + MARGIN
    sheet = Image.new("RGB", (WIDTH, height), "white")
    sheet.paste(picture, ((WIDTH - picture.width) // 2, MARGIN))
    pen, y = ImageDraw.Draw(sheet), MARGIN + picture.height + 10
    for heading, text in lines:
        pen.text((MARGIN, y), text, fill="#64748b" if heading else "#16181d", font=bold if heading else font)
        y += 20 if heading else 23
    return sheet


def _lines(example: Example) -> Sequence[tuple[bool, str]]:
    """Headings and lines of text, as `(is a heading, text)`."""
    found: list[tuple[bool, str]] = []
    people = {"a person": example.references[0]} if example.references else {}
    for name, caption in {**example.systems, **people}.items():
        found.append((True, textwrap.shorten(name, LETTERS, placeholder="...") or "system"))
        found += [(False, line) for line in textwrap.wrap(caption, LETTERS)[:4] or ["(empty)"]]
    return found


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font with letters of many scripts, which matplotlib brings along."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)
