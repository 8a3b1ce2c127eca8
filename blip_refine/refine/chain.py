"""Refiners made of others: several in a row, and a plain function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..records import RefinedCaption, RefineRequest
from .base import Proposal, Refiner, as_request

if TYPE_CHECKING:
    from .guards import Scorer


class Chain(Refiner):
    """Refiners in a row: each works on the caption that the one before made.

    Where one keeps its draft, the next still gets its turn; the whole is accepted if any of them was.

    Args:
        refiners (`Sequence[Refiner]`): At least one.
        on_stage (`Callable[[Refiner, list[RefinedCaption]], None]`, *optional*): Called after each refiner with what
            it made of its requests: the joined results do not say which of them failed.
    """

    def __init__(
        self,
        refiners: Sequence[Refiner],
        on_stage: Callable[[Refiner, list[RefinedCaption]], None] | None = None,
    ):
        super().__init__()
        self.on_stage = on_stage
        if not refiners:
            raise ConfigurationError("A chain needs at least one refiner.")
        # A chain of chains is one chain: `a >> b >> c` is read like `a > b > c`.
        self.refiners: list[Refiner] = []
        for refiner in refiners:
            self.refiners += refiner.refiners if isinstance(refiner, Chain) else [refiner]
        self.name = " > ".join(refiner.name for refiner in self.refiners)
        self.needs_candidates = max(refiner.needs_candidates for refiner in self.refiners)

    def use_captioner(self, likelihood: Scorer) -> None:
        for refiner in self.refiners:
            refiner.use_captioner(likelihood)

    def check(self) -> None:
        for refiner in self.refiners:
            refiner.check()

    def settings(self) -> dict[str, Any]:
        return {str(place): [one.name, dict(one.settings())] for place, one in enumerate(self.refiners)}

    def refine(self, requests: Sequence[RefineRequest | str]) -> list[RefinedCaption]:
        asked = [as_request(request) for request in requests]
        current, total = list(asked), [None] * len(asked)  # type: list[RefineRequest], list[RefinedCaption | None]
        for refiner in self.refiners:
            results = refiner.refine(current)
            if self.on_stage is not None:
                self.on_stage(refiner, results)
            total = [self._join(before, result) for before, result in zip(total, results, strict=True)]
            current = [refiner.hand_on(request, result) for request, result in zip(current, results, strict=True)]
        return [
            replace(result, draft=request.draft, refiner=self.name)
            for request, result in zip(asked, total, strict=True)
            if result is not None
        ]

    @staticmethod
    def _join(before: RefinedCaption | None, now: RefinedCaption) -> RefinedCaption:
        now = replace(now, reason=f"{now.refiner}: {now.reason}" if now.reason else None)
        if before is None:
            return now
        reasons = [reason for reason in (before.reason, now.reason) if reason]
        costs = [cost for cost in (before.cost, now.cost) if cost is not None]
        times = [latency for latency in (before.latency, now.latency) if latency is not None]
        return replace(
            now,
            accepted=before.accepted or now.accepted,
            reason="; ".join(reasons) or None,
            raw=now.raw if now.raw is not None else before.raw,
            prompt_id=now.prompt_id or before.prompt_id,
            tokens=before.tokens + now.tokens,
            cost=sum(costs) if costs else None,
            latency=sum(times) if times else None,
            attempts=max(before.attempts, now.attempts),
            cached=before.cached and now.cached,
            answered=before.answered and now.answered,
        )

    def close(self) -> None:
        for refiner in self.refiners:
            refiner.close()


class FunctionRefiner(Refiner):
    """A function as a refiner.

    Args:
        function (`Callable[[RefineRequest], str | None]`): From a request to its caption; `None` keeps the draft.
        name (`str`, *optional*): Defaults to the function's name.
        **options: `guards`, `cache`, `retries`, as in [`Refiner`]. Without a `name` of its own that tells one version
            of the function from another, do not give it a cache: a function's text is not part of the key.
    """

    asks_again = False

    def __init__(self, function: Callable[[RefineRequest], str | None], name: str | None = None, **options: Any):
        super().__init__(**options)
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        answers = [self.function(request) for request in requests]
        for answer in answers:
            if answer is not None and not isinstance(answer, str):
                raise ConfigurationError(
                    f"The refiner function {self.name!r} returned a {type(answer).__name__}, not a caption or None."
                )
        silent = Proposal(None, reason="no caption was given", keeps_draft=True)
        return [Proposal(answer, raw=answer) if answer else silent for answer in answers]
