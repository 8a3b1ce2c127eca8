"""The gallery of the report: which pictures are shown, and what stands beside each."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from ..evaluation.evaluator import spread
from ..evaluation.faults import Fault
from .results import Example, RunResults
from .words import Word, mark_caption, mark_reference, words_of

THUMBNAIL = 320
"""The longest side, in pixels, of a picture inside the report: sharp at the size at which it is shown."""


@dataclass(frozen=True, slots=True)
class Line:
    """One system's caption of a picture, with its marks and its score."""

    system: str
    words: list[Word]
    text: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """One picture of the gallery.

    Args:
        number (`int`): Its place in the predictions, from 0.
        image_id (`str`): Its name.
        picture (`str`, *optional*): The picture as a data URI.
        width (`int`): Of the picture inside the report, in pixels.
        height (`int`): The same.
        alt (`str`): Alternative text: the caption that the run would publish.
        lines (`list[Line]`): What each system said.
        references (`list[list[Word]]`): What people wrote.
        gain (`float`, *optional*): Score of the last system minus score of the first.
        confidence (`float`, *optional*): Mean log-probability of the draft's tokens.
        length (`int`): Words of the last system's caption.
        faults (`list[Fault]`): What the error analysis found in it.
    """

    number: int
    image_id: str
    picture: str | None
    width: int
    height: int
    alt: str
    lines: list[Line]
    references: list[list[Word]]
    gain: float | None
    confidence: float | None
    length: int
    faults: list[Fault]


def build_cards(
    run: RunResults, metric: str | None, limit: int, faults: Mapping[str, Sequence[Fault]] | None = None
) -> list[Card]:
    """The cards of a run, in the order of its predictions.

    Args:
        run (`RunResults`): What the run folder says.
        metric (`str`, *optional*): The metric of the scores beside the captions.
        limit (`int`): At most so many. Where there are more, those that gained and lost most are shown and the rest is
            taken at equal distances, so that the gallery stays typical.
        faults (`Mapping[str, Sequence[Fault]]`, *optional*): Image id to the faults of the last system's caption.
    """
    pictured = [number for number, example in enumerate(run.examples) if example.image is not None]
    # Where only some pictures were kept beside the results, it is those that are worth showing.
    shown = pictured or list(range(len(run.examples)))
    places = spread([gain_of(run.examples[number], metric) for number in shown], limit)
    return [_card(shown[place], run.examples[shown[place]], metric, faults or {}) for place in places]


def gain_of(example: Example, metric: str | None) -> float | None:
    """Score of the last system minus score of the first; `None` where either is unknown."""
    names = list(example.systems)
    if metric is None or len(names) < 2:
        return None
    first, last = (example.scores.get(name, {}).get(metric) for name in (names[0], names[-1]))
    return None if first is None or last is None else last - first


def _card(number: int, example: Example, metric: str | None, faults: Mapping[str, Sequence[Fault]]) -> Card:
    lines: list[Line] = []
    for name, caption in example.systems.items():
        previous = lines[-1].text if lines else None
        score = example.scores.get(name, {}).get(metric) if metric else None
        lines.append(Line(name, mark_caption(caption, previous, example.references), caption, score))
    # What the faults and the gain are about, too; a refiner's caption is the last where there is one.
    final = lines[-1].text if lines else example.caption
    picture, width, height = picture_uri(example.image) if example.image else (None, 0, 0)
    return Card(
        number=number,
        image_id=example.image_id,
        picture=picture,
        width=width,
        height=height,
        alt=example.caption or f"Picture {example.image_id}, without a caption",
        lines=lines,
        references=[mark_reference(text, final, example.references) for text in example.references],
        gain=gain_of(example, metric),
        confidence=example.confidence,
        length=len(words_of(final)),
        faults=list(faults.get(example.image_id, ())),
    )


def picture_uri(path: Path, longest: int = THUMBNAIL) -> tuple[str | None, int, int]:
    """A picture as a data URI, made smaller where it is larger than it will be shown.

    Args:
        path (`Path`): An image file.
        longest (`int`, defaults to 320): The longest side that is wanted, in pixels.

    Returns:
        `tuple`: The URI, its width and its height in pixels; `(None, 0, 0)` for a file that is no readable image: a
        broken picture does not cost the report.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            picture.thumbnail((longest, longest))
            picture = picture.convert("RGBA" if "A" in picture.getbands() else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, 0, 0
    buffer = io.BytesIO()
    # Small pictures stay exact; large ones would make the page heavy, and nobody sees the difference.
    if max(picture.size) <= 128 or picture.mode == "RGBA":
        kind = "png"
        picture.save(buffer, "PNG", optimize=True)
    else:
        kind = "jpeg"
        picture.save(buffer, "JPEG", quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", *picture.size
