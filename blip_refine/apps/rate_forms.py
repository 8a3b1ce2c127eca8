"""What stands under each caption of the rating page: questions from 1 to 5, or marks and a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.rating_questions import CRITERIA, MARKS, MAX_NOTE, SCALE

NAMES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class RatingForm:
    """A scale from 1 to 5 for each of `CRITERIA`."""

    title = "Rate captions"
    intro = "You will see pictures with captions. Say how good each caption is."
    done = "rated"
    width = len(CRITERIA)
    keys = "Keys: <kbd>1</kbd>–<kbd>5</kbd> answer, <kbd>Backspace</kbd> goes back, <kbd>Enter</kbd> sends."
    hint = "1 is worst, 5 is best."
    without_picture = "The picture cannot be shown. Rate fluency, and give 3 elsewhere."

    @staticmethod
    def components(gr: Any, slot: int) -> list[Any]:
        """The components under one caption."""
        return [
            gr.Radio(
                list(SCALE),
                label=f"{NAMES[slot]}: {question}",
                elem_classes=["question", f"ask-{criterion}"],
            )
            for criterion, question in CRITERIA.items()
        ]

    @staticmethod
    def fresh(gr: Any, visible: bool) -> list[Any]:
        """Their updates for a new picture."""
        return [gr.update(value=None, visible=visible) for _ in CRITERIA]

    @staticmethod
    def read(given: Sequence[Any]) -> tuple[Mapping[str, Any], str]:
        """The answers to one caption, and the note on it."""
        return dict(zip(CRITERIA, given, strict=True)), ""


class ReviewForm:
    """A box for each of `MARKS`, and a note."""

    title = "Review captions"
    intro = "You will see pictures with captions. Mark what is wrong with each caption; a good one has no mark."
    done = "reviewed"
    width = 2
    keys = (
        "Keys: <kbd>1</kbd>–<kbd>3</kbd> mark, <kbd>N</kbd> writes a note, <kbd>Backspace</kbd> goes back, "
        "<kbd>Enter</kbd> goes on."
    )
    hint = "No mark: nothing is wrong."
    without_picture = "The picture cannot be shown. Mark repetition alone."

    @staticmethod
    def components(gr: Any, slot: int) -> list[Any]:
        """The components under one caption."""
        choices = [(f"{number} {mark}: {meaning}", mark) for number, (mark, meaning) in enumerate(MARKS.items(), 1)]
        return [
            gr.CheckboxGroup(choices, label=f"{NAMES[slot]}: what is wrong?", elem_classes=["marks"]),
            gr.Textbox(label=f"Note on {NAMES[slot]}", lines=1, max_length=MAX_NOTE, elem_classes=["note"]),
        ]

    @staticmethod
    def fresh(gr: Any, visible: bool) -> list[Any]:
        """Their updates for a new picture."""
        return [gr.update(value=[], visible=visible), gr.update(value="", visible=visible)]

    @staticmethod
    def read(given: Sequence[Any]) -> tuple[Mapping[str, Any], str]:
        """The marks of one caption, and the note on it."""
        marks, note = given
        return dict.fromkeys(marks or (), 1), str(note or "")


Form = RatingForm | ReviewForm
FORMS: dict[str, type[RatingForm] | type[ReviewForm]] = {"rating": RatingForm, "review": ReviewForm}
