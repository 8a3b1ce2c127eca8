"""What people marked in a review: how often each fault was found, and how far reviewers agree."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ConfigurationError, DataError
from ..metrics.agreement import agreement
from .error_analysis import wilson
from .human import RatingStudy
from .rater_reports import Answer, RaterReport, answer_table, rater_reports, read_answers, without_names
from .rating_questions import MARKS

ANY = "any"
"""Captions with at least one mark."""


@dataclass(frozen=True, slots=True)
class MarkRate:
    """How many captions of a system have a mark.

    Args:
        marked (`int`): Captions that at least half of their reviewers marked.
        captions (`int`): Captions reviewed.
        share (`float`): The one divided by the other.
        low, high (`float`): Ends of the 95 % interval of the share (Wilson, 1927).
    """

    marked: int
    captions: int
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class ReviewSummary:
    """What a review found.

    Args:
        images (`int`): Images with at least one review.
        reviews (`int`): Captions reviewed, over all reviewers.
        systems (`dict[str, dict[str, MarkRate]]`): System to mark to its rate; `"any"` counts captions with any mark.
        alpha (`dict[str, float | None]`): Mark to Krippendorff's alpha (nominal); `None` where it is undefined.
        alpha_undefined (`dict[str, str]`): Mark to the reason why its alpha is undefined.
        notes (`tuple[dict[str, Any], ...]`): Every note with its `image_id`, `system`, `caption`, `marks` and `rater`
            (a number). They are not part of `human.json`, which is published.
        raters (`tuple[RaterReport, ...]`): How each reviewer worked.
        excluded (`tuple[str, ...]`): Reviewers whose marks were left out.
    """

    images: int
    reviews: int
    systems: dict[str, dict[str, MarkRate]]
    alpha: dict[str, float | None]
    alpha_undefined: dict[str, str] = field(default_factory=dict)
    notes: tuple[dict[str, Any], ...] = ()
    raters: tuple[RaterReport, ...] = ()
    excluded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form of `review` in `human.json`: reviewers are numbered, and notes are counted."""
        value = asdict(self)
        value["notes"] = len(self.notes)
        value["raters"], value["excluded"] = without_names(self.raters, self.excluded)
        return value


def summarize_review(study: RatingStudy, *, exclude: Sequence[str] = ()) -> ReviewSummary:
    """Count the marks of a review.

    A caption has a mark if at least half of its reviewers set it; captions are what is counted, and what the
    intervals are over.

    Args:
        study (`RatingStudy`): A study of kind "review".
        exclude (`Sequence[str]`): Reviewers whose marks do not count.

    Raises:
        ConfigurationError: The study is of another kind.
        DataError: Nothing has been reviewed yet.
        MissingExtraError: `krippendorff` is not installed.
    """
    if study.kind != "review":
        raise ConfigurationError(f"{study.path} is a study of kind {study.kind}, not a review.")
    with study.connect() as database:
        answers = read_answers(database)
        reports = rater_reports(database, answers)
        noted = database.execute(
            "SELECT t.rater, i.image_id, n.system, i.captions, n.note FROM notes n "
            "JOIN tasks t USING (task) JOIN items i USING (item) ORDER BY n.task, n.system"
        ).fetchall()
    kept = [answer for answer in answers if answer.rater not in exclude]
    if not kept:
        raise DataError(f"{study.path} holds no reviews {'of others' if answers else 'yet'}.")
    agreements = {mark: agreement(answer_table(kept, mark), "nominal") for mark in MARKS}
    return ReviewSummary(
        images=len({answer.image for answer in kept}),
        reviews=len(kept),
        systems={system: _rates([answer for answer in kept if answer.system == system]) for system in study.systems},
        alpha={mark: one.alpha for mark, one in agreements.items()},
        alpha_undefined={mark: one.reason for mark, one in agreements.items() if one.reason},
        notes=_notes(noted, kept, [one.rater for one in reports]),
        raters=tuple(reports),
        excluded=tuple(rater for rater in exclude if any(answer.rater == rater for answer in answers)),
    )


def _rates(answers: Sequence[Answer]) -> dict[str, MarkRate]:
    """The rates of one system."""
    by_image: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_image[answer.image].append(answer)
    has = {
        mark: [2 * sum(one.scores[mark] for one in seen) >= len(seen) for seen in by_image.values()] for mark in MARKS
    }
    has[ANY] = [any(marks) for marks in zip(*has.values(), strict=True)]
    rates = {}
    for mark, marked in has.items():
        low, high = wilson(sum(marked), len(marked))
        rates[mark] = MarkRate(sum(marked), len(marked), sum(marked) / len(marked), low, high)
    return rates


def _notes(rows: Sequence[Any], kept: Sequence[Answer], raters: Sequence[str]) -> tuple[dict[str, Any], ...]:
    numbers = {rater: f"rater {place}" for place, rater in enumerate(raters, 1)}
    marks = {(one.rater, one.image, one.system): [name for name in MARKS if one.scores[name]] for one in kept}
    return tuple(
        {
            "image_id": image,
            "system": system,
            "caption": json.loads(captions)[system],
            "note": note,
            "marks": marks[rater, image, system],
            "rater": numbers[rater],
        }
        for rater, image, system, captions, note in rows
        if (rater, image, system) in marks
    )
