"""The grammar checker Harper as a repair: only rules that can be relied on in captions, and none that changes a word
that says something."""

from __future__ import annotations

from typing import Any

from ..errors import MissingExtraError

RELIABLE_RULES = (
    *("AnAnother", "AnotherAn", "TheAnother", "TheMy", "ThereIsAgreement", "IAmAgreement", "PronounVerbAgreement"),
    *("InflectedVerbAfterTo", "IsBeenAuxSequence", "DoubleModal", "ItsPossessive", "ThenThan", "ThereOwn"),
    *("EachOthersPossessive", "ElsePossessive", "ThesesThese", "WrongApostrophe", "SimplePastToPastParticiple"),
)
"""Harper's rules that were right wherever they spoke on four thousand captions, and do not do what `cleanup` does
better. Others see "a mass noun" in "one wearing a hat", or join "black shirt" into the "blackshirt" of history."""

KINDS = ("Agreement", "Grammar", "Miscellaneous", "Repetition", "Redundancy", "Punctuation", "BoundaryError")
"""Kinds of lint that `count` counts: faults of grammar, not of spelling, style or choice of words."""

_MOST_ROUNDS = 8


class GrammarChecker:
    """Finds and puts right faults of grammar in English captions.

    Raises:
        MissingExtraError: The package `harper-py` is not installed.
    """

    def __init__(self) -> None:
        try:
            from harper import Language, Linter
        except ImportError as error:
            raise MissingExtraError("harper-py", "grammar", "check the grammar of captions") from error
        self._all, self._reliable = Linter(), Linter()
        known = self._reliable.get_lint_config()
        self._reliable.set_lint_config({rule: rule in RELIABLE_RULES for rule in known})
        # Captions are no Markdown: "1. a dog" is not a list.
        self._options: dict[str, Any] = {"language": Language.PLAINTEXT}

    def count(self, text: str) -> int:
        """How many faults of grammar Harper sees in `text`, by all of its rules."""
        return sum(lint.lint_kind in KINDS for lint in self._all.lint(text, **self._options))

    def correct(self, text: str) -> str:
        """`text` with every fault put right that a reliable rule sees and knows exactly one remedy for."""
        for _ in range(_MOST_ROUNDS):
            sure = [lint for lint in self._reliable.lint(text, **self._options) if len(lint.suggestions) == 1]
            if not sure:
                break
            repaired = self._reliable.apply_suggestion(text, sure[0], sure[0].suggestions[0])
            if repaired == text:
                break
            text = repaired
        return text
