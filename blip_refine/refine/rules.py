"""The refiner that needs no model: it repairs what decoders do to captions, and never says anything new."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..records import RefinedCaption, RefineRequest
from . import cleanup
from .base import Proposal, Refiner
from .prompts import Style

if TYPE_CHECKING:
    from .guards import Guards

CASINGS = ("sentence", "lower", "keep")
MOST_ROUNDS = 6
WITHOUT_STOP = ("catalogue", "e-commerce")
"""Audiences whose captions are labels, not sentences."""


class RulesRefiner(Refiner):
    """Repairs a caption: repeated words and phrases, articles, spacing, dangling ends, decoder artefacts, casing.

    Args:
        style (`str` or `Style`, *optional*): Captions for a catalogue or a shop end without a full stop; the rest of a
            style is nothing that rules can follow.
        casing (`str`, defaults to `"sentence"`): `"sentence"` (capital at the start), `"lower"` or `"keep"`.
        final_stop (`bool` or `"style"`, *optional*, defaults to `"style"`): Whether the caption ends with a full stop;
            `None` leaves that as it is, `"style"` does what is usual where the caption is to stand.
        grammar (`bool`, defaults to `False`): Also put right what the grammar checker Harper finds and is sure of
            (extra `grammar`). English only.
        guards (`Guards`, `str` or `bool`, *optional*): As in [`Refiner`]; none by default: rules make nothing up.
    """

    name = "rules"
    asks_again = False

    def __init__(
        self,
        *,
        style: str | Style | None = None,
        casing: str = "sentence",
        final_stop: bool | str | None = "style",
        grammar: bool = False,
        guards: Guards | str | bool | None = None,
    ):
        super().__init__(guards=guards)
        if casing not in CASINGS:
            raise ConfigurationError(f"`casing` must be one of {', '.join(CASINGS)}, not {casing!r}.")
        if final_stop not in (True, False, None, "style"):
            raise ConfigurationError(f"`final_stop` must be True, False, None or 'style', not {final_stop!r}.")
        audience = Style.parse(style).audience
        self.final_stop = audience not in WITHOUT_STOP if final_stop == "style" else final_stop
        self.casing, self.grammar = casing, grammar
        self._correct: Callable[[str], str] | None = None
        if grammar:
            from .grammar import GrammarChecker

            self._correct = GrammarChecker().correct

    def settings(self) -> dict[str, Any]:
        return {"casing": self.casing, "final_stop": self.final_stop, "grammar": self.grammar}

    def clean(self, text: str) -> tuple[str, list[str]]:
        """`text` repaired, and the names of the repairs that changed it."""
        steps: list[tuple[str, Callable[[str], str]]] = [
            ("characters", cleanup.clean_characters),
            ("spacing", cleanup.fix_spacing),
            ("artefacts", cleanup.drop_artefacts),
            ("repetition", lambda caption: cleanup.drop_repeated_sentences(cleanup.collapse_repeats(caption))),
            ("dangling end", cleanup.cut_dangling_end),
            ("articles", cleanup.fix_articles),
        ]
        if self._correct is not None:
            steps.append(("grammar", self._correct))
        steps += [
            ("casing", lambda caption: cleanup.set_casing(caption, self.casing)),
            (
                "final stop",
                lambda caption: cleanup.set_final_stop(
                    caption, bool(self.final_stop) if self.final_stop is not None else None
                ),
            ),
        ]
        changed: list[str] = []
        if not any(char.isalnum() for char in text):
            return text, changed
        # One repair can lay bare what another is for: until nothing changes any more.
        for _ in range(MOST_ROUNDS):
            before = text
            for name, step in steps:
                repaired = step(text)
                if repaired != text and repaired.strip():
                    changed.append(name)
                    text = repaired
            if text == before:
                break
        return text, list(dict.fromkeys(changed))

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        proposals = []
        for request in requests:
            started = time.perf_counter()
            text, changed = self.clean(request.draft)
            latency = time.perf_counter() - started
            reason = "repaired: " + ", ".join(changed) if changed else None
            proposals.append(Proposal(text, raw=text, reason=reason, latency=latency))
        return proposals

    def hand_on(self, request: RefineRequest, result: RefinedCaption) -> RefineRequest:
        """The candidates are repaired, too: a later choice among them must not bring a fault back."""
        candidates = tuple(self.clean(candidate)[0] for candidate in request.candidates)
        return replace(request, draft=result.text, candidates=candidates)
