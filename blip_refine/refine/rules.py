"""The refiner that needs no model: it repairs what decoders do to captions, and never says anything new."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..errors import ConfigurationError
from ..records import RefinedCaption, RefineRequest
from . import cleanup
from .base import Proposal, Refiner

CASINGS = ("sentence", "lower", "keep")


class RulesRefiner(Refiner):
    """Repairs a caption: repeated words and phrases, articles, spacing, dangling ends, decoder artefacts, casing.

    Args:
        casing (`str`, defaults to `"sentence"`): `"sentence"` (capital at the start), `"lower"` or `"keep"`.
        final_stop (`bool`, *optional*, defaults to `True`): Whether the caption ends with a full stop; `None` leaves
            that as it is.
        grammar (`bool`, defaults to `False`): Also put right what the grammar checker Harper finds and is sure of
            (`pip install 'blip_refine[grammar]'`). English only.
        **options: `guards`, `cache`, `retries`, as in [`Refiner`].
    """

    name = "rules"
    asks_again = False

    def __init__(
        self, *, casing: str = "sentence", final_stop: bool | None = True, grammar: bool = False, **options: Any
    ):
        super().__init__(**options)
        if casing not in CASINGS:
            raise ConfigurationError(f"`casing` must be one of {', '.join(CASINGS)}, not {casing!r}.")
        self.casing, self.final_stop, self.grammar = casing, final_stop, grammar
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
            ("final stop", lambda caption: cleanup.set_final_stop(caption, self.final_stop)),
        ]
        changed: list[str] = []
        for name, step in steps:
            repaired = step(text)
            if repaired != text and repaired.strip():
                changed.append(name)
                text = repaired
        return text, changed

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
