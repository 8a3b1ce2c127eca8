"""What became of the captions that a refiner was asked about: counted, put into words, and refused if nothing came."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import RefinerUnansweredError
from ..records import Caption, RefinedCaption
from .reasoning import CUT_OFF

BY_REASON = ("rejected", "kept", "unanswered")


@dataclass
class RefineCounts:
    """Counts of captions by what became of them.

    Args:
        changed (`int`): Refined, and other than the draft.
        unchanged (`int`): Accepted, and the same as the draft.
        rejected (`dict[str, int]`): Answers that a guard rejected, by reason. The draft stands.
        kept (`dict[str, int]`): Drafts that the refiner had a reason to leave alone, by reason.
        unanswered (`dict[str, int]`): Captions without an answer, by reason.
    """

    changed: int = 0
    unchanged: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    unanswered: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: str, reason: str | None) -> None:
        """Count one caption. `outcome` is one of [`OUTCOMES`]."""
        if outcome in BY_REASON:
            reasons = getattr(self, outcome)
            short = (_short if outcome == "rejected" else plain_reason)(reason or "no reason given")
            reasons[short] = reasons.get(short, 0) + 1
        else:
            setattr(self, outcome, getattr(self, outcome) + 1)

    @property
    def asked(self) -> int:
        """Captions that the refiner was asked about."""
        return self.changed + self.unchanged + sum(sum(getattr(self, name).values()) for name in BY_REASON)

    def table(self) -> list[tuple[str, int]]:
        """Rows for a person."""
        rows = [("changed", self.changed), ("accepted as they were", self.unchanged)]
        for name, title in (("rejected", "rejected"), ("kept", "draft kept"), ("unanswered", "no answer")):
            rows += [(f"{title}: {reason}", count) for reason, count in Counter(getattr(self, name)).most_common()]
        return rows

    def to_dict(self) -> dict[str, Any]:
        """The form of result files. Outcomes by reason that did not occur are left out."""
        row: dict[str, Any] = {"asked": self.asked, "changed": self.changed, "unchanged": self.unchanged}
        for name in BY_REASON:
            if getattr(self, name):
                row[name] = dict(Counter(getattr(self, name)).most_common())
        return row

    def require_answers(self, refiner: str, then: str = "") -> None:
        """Refuse a run in which the refiner said nothing.

        Args:
            refiner (`str`): Its name.
            then (`str`, defaults to `""`): What became of the rest of the run, as a sentence.

        Raises:
            RefinerUnansweredError: The refiner was asked, and answered nothing.
        """
        silent = sum(self.unanswered.values())
        # Drafts that were left alone do not make up for a server that is down.
        if silent and not (self.changed or self.unchanged or self.rejected):
            reason = max(self.unanswered, key=lambda one: self.unanswered[one])
            raise RefinerUnansweredError(
                f"{refiner} answered none of the {silent} captions ({reason}). {advice(reason)}"
                f"{'; ' if then else ''}{then}."
            )


def advice(reason: str) -> str:
    """What to do about a refiner that answers nothing, without a full stop."""
    if CUT_OFF in reason:
        return "Give it more room with --max-output-tokens (in Python `max_output_tokens`)"
    return "Check its model, server and key"


def count_outcomes(captions: Iterable[Caption | RefinedCaption]) -> RefineCounts:
    """Count captions by what a refiner made of them. Those that no refiner was asked about are left out."""
    counts = RefineCounts()
    for one in captions:
        if one.outcome is not None:
            counts.count(one.outcome, one.reason)
    return counts


def describe_counts(counts: Mapping[str, Any]) -> str:
    """The counts of a result file in one line: "10 captions: 6 changed, 1 unchanged, 3 unanswered (reason)"."""
    parts = [f"{counts.get('changed', 0)} changed", f"{counts.get('unchanged', 0)} unchanged"]
    for name in BY_REASON:
        reasons = counts.get(name) or {}
        if reasons:
            told = ", ".join(f"{reason}: {count}" if len(reasons) > 1 else reason for reason, count in reasons.items())
            parts.append(f"{sum(reasons.values())} {name} ({told})")
    return f"{counts.get('asked', 0)} captions: {', '.join(parts)}"


def measured_over(counts: Mapping[str, Any] | None) -> str | None:
    """What stands beside a system whose refiner did not always answer, such as "7 of 10 answered"; else `None`."""
    silent = sum(((counts or {}).get("unanswered") or {}).values())
    if not counts or not silent:
        return None
    return f"{counts['asked'] - silent} of {counts['asked']} answered"


def _short(reason: str) -> str:
    """A reason without its particulars, so that equal ones can be counted.

    "facts: it adds the noun 'mat', which ..." is "facts: it adds the noun", and "form: it is too long: 9 words, ..."
    is "form: it is too long".
    """
    bare = reason.partition(" '")[0].partition(" (")[0]
    return re.split(r":? -?\d", bare)[0].rstrip(":")[:80]


def plain_reason(reason: str) -> str:
    """A reason without the number of tries, so that equal ones can be counted."""
    return re.sub(r" \(\d+ tries\)", "", reason)[:300].rstrip(". ")
