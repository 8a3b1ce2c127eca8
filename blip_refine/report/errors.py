"""What the page shows of the error analysis: a row a kind of fault, with its rates and with pictures."""

from __future__ import annotations

from dataclasses import dataclass

from ..evaluation.evaluator import spread
from ..evaluation.faults import FAULTS, Fault
from .gallery import picture_uri
from .measure import Findings
from .results import Example
from .words import Word, pieces, words_of

SHOWN = 6
"""Pictures shown for each kind of fault."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Share of captions with a fault, with the ends of its 95 % interval."""

    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class FaultExample:
    """One faulty caption.

    Args:
        image_id (`str`): The image.
        picture (`str`, *optional*): It as a data URI.
        alt (`str`): Alternative text.
        words (`list[Word]`): The caption, with the word that the fault hangs on marked.
        detail (`str`): What is wrong, as the end of "the caption ...".
    """

    image_id: str
    picture: str | None
    alt: str
    words: list[Word]
    detail: str


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One kind of fault.

    Args:
        kind (`str`): Its name.
        meaning (`str`): What it is, as the end of "the caption ...".
        rates (`dict[str, Rate]`): System to its rate.
        people (`Rate`, *optional*): The references' own rate, judged by each other.
        fixed (`int`, *optional*): Images that had it under the first system and no longer under the last.
        new (`int`, *optional*): Images that have it under the last system and had not under the first.
        images (`int`): How many images have it under the last system.
        examples (`list[FaultExample]`): Some of them, of the last system.
    """

    kind: str
    meaning: str
    rates: dict[str, Rate]
    people: Rate | None
    fixed: int | None
    new: int | None
    images: int
    examples: list[FaultExample]


def fault_rows(findings: Findings) -> list[FaultRow]:
    """A row for each kind of fault that could be judged, in the order of `FAULTS`."""
    if not findings.errors:
        return []
    names = list(findings.errors)
    first, last = findings.errors[names[0]], findings.errors[names[-1]]
    by_id = {example.image_id: example for example in findings.run.examples}
    rows = []
    for kind, meaning in FAULTS.items():
        rates = {name: Rate(*found.rates[kind]) for name, found in findings.errors.items() if kind in found.rates}
        if not rates:
            continue
        before, after = set(first.having(kind)), last.having(kind)
        people = findings.people
        shown = [image_id for image_id in after if by_id[image_id].image is not None] or after
        rows.append(
            FaultRow(
                kind=kind,
                meaning=meaning,
                rates=rates,
                people=Rate(*people.rates[kind]) if people and kind in people.rates and kind != "generic" else None,
                fixed=len(before - set(after)) if len(names) > 1 else None,
                new=len(set(after) - before) if len(names) > 1 else None,
                images=len(after),
                examples=[
                    _example(by_id[shown[place]], next(f for f in last.faults[shown[place]] if f.kind == kind))
                    for place in spread([None] * len(shown), SHOWN)
                ],
            )
        )
    return rows


def _example(example: Example, fault: Fault) -> FaultExample:
    return FaultExample(
        image_id=example.image_id,
        picture=picture_uri(example.image, 200)[0] if example.image else None,
        alt=example.caption or f"Picture {example.image_id}, without a caption",
        words=mark_word(example.caption, fault.word),
        detail=fault.detail,
    )


def mark_word(caption: str, phrase: str) -> list[Word]:
    """The caption with every word of a phrase marked as unsupported."""
    marked = set(words_of(phrase))
    return [Word(text, unsupported=is_word and text.lower() in marked) for text, is_word in pieces(caption)]
