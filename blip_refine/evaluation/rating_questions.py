"""What people are asked about a caption: to rate it from 1 to 5, or to mark what is wrong with it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError, DataError

CRITERIA = {
    "fluency": "Is it good English?",
    "relevance": "Does it fit the picture, with nothing made up?",
    "quality": "Would you use it?",
}
"""What is rated, from 1 (worst) to 5 (best), and how raters are asked."""

SCALE = (1, 2, 3, 4, 5)

MARKS = {
    "hallucination": "says what is not in the picture",
    "repetition": "says something twice",
    "omission": "leaves out what matters most",
}
"""What is marked in a review, and how reviewers are told."""

MAX_NOTE = 500
"""Letters of a note."""


class RatingQuestions:
    """Every caption is rated from 1 to 5 in each of `CRITERIA`."""

    kind = "rating"
    names = tuple(CRITERIA)

    @staticmethod
    def draw_check(rng: random.Random) -> Any:
        """What an attention check asks for."""
        return rng.choice(SCALE)

    @staticmethod
    def check_text(wanted: Any) -> str:
        """The line of an attention check."""
        return f"This line checks that captions are read. Please answer {wanted} to every question."

    @staticmethod
    def passed(answers: Mapping[str, int], wanted: Any) -> bool:
        """Whether an attention check was answered as it asked."""
        return all(score == wanted for score in answers.values())

    def check_answers(self, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, int]]:
        """The answers to the captions that were shown, as numbers.

        Raises:
            DataError: One is missing or out of range.
        """
        for place, answers in enumerate(scores, 1):
            for criterion in CRITERIA:
                if answers.get(criterion) not in SCALE:
                    raise DataError(f"Caption {place} has no answer from 1 to 5 for {criterion}.")
        return [{criterion: int(answers[criterion]) for criterion in CRITERIA} for answers in scores]


class ReviewQuestions:
    """Every caption is marked with those of `MARKS` that it has: 1, or 0 if it has not."""

    kind = "review"
    names = tuple(MARKS)

    @staticmethod
    def draw_check(rng: random.Random) -> Any:
        """What an attention check asks for."""
        return rng.choice(tuple(MARKS))

    @staticmethod
    def check_text(wanted: Any) -> str:
        """The line of an attention check."""
        return f"This line checks that captions are read. Please mark {wanted} and nothing else."

    @staticmethod
    def passed(answers: Mapping[str, int], wanted: Any) -> bool:
        """Whether an attention check was answered as it asked."""
        return answers == {name: int(name == wanted) for name in MARKS}

    def check_answers(self, scores: Sequence[Mapping[str, Any]]) -> list[dict[str, int]]:
        """The marks of the captions that were shown, as 0 and 1; a mark that is not named is not set.

        Raises:
            DataError: There is no such mark, or it is neither set nor not set.
        """
        for place, marks in enumerate(scores, 1):
            for name, value in marks.items():
                if name not in MARKS:
                    raise DataError(f"Caption {place} is marked with {name!r}; the marks are {', '.join(MARKS)}.")
                if value not in (0, 1):
                    raise DataError(f"The mark {name} of caption {place} is set or not, and not {value!r}.")
        return [{name: int(marks.get(name, 0)) for name in MARKS} for marks in scores]


Questions = RatingQuestions | ReviewQuestions

KINDS: dict[str, type[RatingQuestions] | type[ReviewQuestions]] = {
    questions.kind: questions for questions in (RatingQuestions, ReviewQuestions)
}


def questions_of(kind: str) -> Questions:
    """The questions of a kind of study.

    Args:
        kind (`str`): "rating" or "review".

    Raises:
        ConfigurationError: There is no such kind.
    """
    if kind not in KINDS:
        raise ConfigurationError(f"There is no study of kind {kind!r}; there are: {', '.join(KINDS)}.")
    return KINDS[kind]()


def clean_note(note: Any, place: int) -> str:
    """A note as one line of text.

    Args:
        note (`str`, *optional*): What was written.
        place (`int`): The how manieth caption it is about, for the error.

    Raises:
        DataError: It is too long.
    """
    text = " ".join(str(note or "").split())
    if len(text) > MAX_NOTE:
        raise DataError(f"The note on caption {place} has {len(text)} letters; at most {MAX_NOTE} are kept.")
    return text
