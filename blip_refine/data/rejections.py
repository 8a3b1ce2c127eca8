"""What was left out, and why: so that nothing is dropped silently.

Sources and cleaning write into a `Rejections`; whoever called them reads it, or a summary goes to the log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Rejection:
    """One thing that was left out.

    Args:
        reason (`str`): Why, as one of a small number of reasons ("missing image").
        item (`str`): What: an image's name, or the caption itself.
        where (`str`, *optional*): The file and line, or the image that a caption belongs to.
        detail (`str`, *optional*): What exactly was wrong with this one.
    """

    reason: str
    item: str
    where: str | None = None
    detail: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As one row of `rejected.jsonl`; what is not known is left out."""
        row = {"reason": self.reason, "item": self.item, "where": self.where, "detail": self.detail}
        return {key: value for key, value in row.items() if value is not None}


@dataclass(slots=True)
class Rejections:
    """Everything that was left out, in order.

    Args:
        items (`list[Rejection]`, *optional*): Earlier rejections to go on from.
    """

    items: list[Rejection] = field(default_factory=list)

    def add(self, reason: str, item: str, where: str | None = None, detail: str | None = None) -> None:
        """Note one rejection. See `Rejection` for the arguments."""
        self.items.append(Rejection(reason, item, where, detail))

    @property
    def counts(self) -> dict[str, int]:
        """How many there are for each reason, most frequent first."""
        counts: dict[str, int] = {}
        for item in self.items:
            counts[item.reason] = counts.get(item.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda pair: -pair[1]))

    def of(self, reason: str) -> list[Rejection]:
        """Those with this reason."""
        return [item for item in self.items if item.reason == reason]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Rejection]:
        return iter(self.items)

    def summary(self, examples: int = 3) -> str:
        """One line a reason: how many, and the first few.

        Args:
            examples (`int`, defaults to 3): How many to name for each reason.
        """
        lines = []
        for reason, count in self.counts.items():
            named = ", ".join(repr(item.item[:80]) for item in self.of(reason)[:examples])
            more = f" and {count - examples} more" if count > examples else ""
            lines.append(f"{reason}: {count} ({named}{more})")
        return "\n".join(lines)

    def log(self, logger: logging.Logger, what: str) -> None:
        """Write the summary as a warning, if there is anything to say.

        Args:
            logger (`logging.Logger`): Where to.
            what (`str`): What was being read or cleaned ("flickr8k").
        """
        if self.items:
            logger.warning("%s: left out %d of what was there.\n%s", what, len(self), self.summary())
