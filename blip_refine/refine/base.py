"""What a refiner is: requests in, refined captions out, in the same order, with nothing lost.

`Refiner.refine` does what all refiners share: equal requests are asked once, answers are looked up in a cache, guards
check each answer, a rejected answer is asked for once more with the reason, and then the draft stands. An
implementation only writes `propose`.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, RefinerError
from ..records import RefinedCaption, RefineRequest

if TYPE_CHECKING:
    from .cache import AnswerCache
    from .guards import Guards, Scorer

logger = logging.getLogger(__name__)

ENTRY_POINTS = "blip_refine.refiners"
"""The group of entry points under which an installed package registers refiners of its own."""

_BUILT_IN = {
    "rules": ("rules", "RulesRefiner"),
    "consensus": ("consensus", "ConsensusRefiner"),
    "bart": ("bart", "BartRefiner"),
    "instruct": ("instruct", "InstructRefiner"),
    "openai": ("openai", "OpenAIRefiner"),
}


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a model said to one request, before any guard has looked at it.

    Args:
        text (`str`, *optional*): The proposed caption; `None` where there is none, and `reason` says why.
        raw (`str`, *optional*): The model's answer as it came.
        reason (`str`, *optional*): Why there is no text, or what was changed.
        prompt_id (`str`, *optional*): Name and hash of the prompt template.
        tokens (`int`, defaults to 0): Tokens read and written by the model.
        cost (`float`, *optional*): In US dollars.
        latency (`float`, *optional*): Seconds.
        cached (`bool`, defaults to `False`): Whether it was answered from the cache.
        keeps_draft (`bool`, defaults to `False`): The refiner leaves the draft alone for a good reason. Without a
            `raw` answer and without this, the request counts as unanswered.
        cut_off (`bool`, defaults to `False`): `raw` ended before it was complete: unanswered, never kept or used.
    """

    text: str | None
    raw: str | None = None
    reason: str | None = None
    prompt_id: str | None = None
    tokens: int = 0
    cost: float | None = None
    latency: float | None = None
    cached: bool = False
    keeps_draft: bool = False
    cut_off: bool = False

    @property
    def is_answer(self) -> bool:
        """Whether the model has answered, well or badly. A failure is asked for again by the next run."""
        return self.raw is not None and not self.cut_off


class Refiner:
    """Improves captions. Subclass it and write `propose`, or override `refine` altogether.

    Args:
        guards (`Guards`, `str` or `bool`, *optional*): What an answer must pass: guards, their names ("form,facts"),
            or `True` for the default ones. `None` lets every answer through.
        cache (`AnswerCache`, `str` or `os.PathLike`, *optional*): Where answers are kept between runs, or the path
            of its file.
        retries (`int`, defaults to 1): How often a rejected answer is asked for again, with the reason.
    """

    name: str = "refiner"
    """What is written into each record; with its model, where there is one ("openai:gpt-4o-mini")."""

    looks_at_image: bool = False
    """Whether it sees the picture. If so, the picture is part of the cache key, and what the refiner says is checked
    against the picture and not against the words of the draft ([`Guards.check`])."""

    asks_again: bool = True
    """Whether a second answer can differ from the first. If not, a rejected answer is not asked for again."""

    needs_candidates: int = 1
    """Captions per image, the draft included, that it needs in order to do anything. Whoever runs it provides them."""

    def __init__(
        self,
        *,
        guards: Guards | str | bool | None = None,
        cache: AnswerCache | str | os.PathLike | None = None,
        retries: int = 1,
    ):
        if retries < 0:
            raise ConfigurationError(f"`retries` counts how often to ask again, and cannot be {retries}.")
        self.guards = None if guards is None else _as_guards(guards)
        self.cache = None if cache is None else _as_cache(cache)
        self.retries = retries

    _likelihood: Scorer | None = None
    _has_warned: bool = False

    def use_captioner(self, likelihood: Scorer) -> None:
        """Hand in the captioner that is at hand, for guards that look at the picture.

        `CaptionPipeline` hands in its own.

        Args:
            likelihood (`Callable`): What [`grounding.captioner_likelihood`] makes of a captioner.
        """
        self._likelihood = likelihood

    def _warn_of_unchecked_sight(self, requests: Sequence[RefineRequest]) -> None:
        seen = self.looks_at_image and any(request.image is not None for request in requests)
        if self._has_warned or not seen or self.guards is None:
            return
        if self.guards.lets_sight_pass(self._likelihood):
            self._has_warned = True
            logger.warning(
                "%s sees each image, and no captioner is at hand to check what it says it sees: words that the draft "
                "lacks are accepted unchecked. Give a captioner (--grounding), a matching model (--matching), or hold "
                "it to the words of the draft (--guards form,facts,polarity).",
                self.name,
            )

    on_answer: Callable[[int], object] | None = None
    """Called with a number of requests as they are answered, for a progress bar."""

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> Sequence[Proposal]:
        """Answer `requests`, in their order.

        Args:
            requests (`Sequence[RefineRequest]`): n requests, all different.
            feedback (`Sequence[str | None]`): For each, why its last answer was rejected; `None` the first time.

        Returns:
            `Sequence[Proposal]`: n proposals, in the same order.
        """
        raise NotImplementedError(f"{type(self).__name__} has neither `propose` nor `refine`.")

    def propose_each(
        self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]
    ) -> Iterator[tuple[int, Proposal]]:
        """Answers as they arrive, each with the place of its request. An answer is kept as soon as it is yielded.

        Override it where answers arrive one after the other; by default it yields what `propose` returns.
        """
        proposals = self.propose(requests, feedback)
        if len(proposals) != len(requests):
            raise RefinerError(
                f"The refiner {self.name!r} gave {len(proposals)} answers to {len(requests)} requests; "
                "`propose` must return one for each, in the same order."
            )
        yield from enumerate(proposals)

    def check(self) -> None:
        """Find out now what would fail later: load the model, ask the server one question. Does nothing by default.

        Raises:
            ModelError: The model cannot be loaded.
            RefinerUnansweredError: The server does not answer.
        """

    def settings(self) -> Mapping[str, Any]:
        """All that can change an answer besides the request (model, prompt, decoding): part of the cache key."""
        return {}

    def refine(self, requests: Sequence[RefineRequest | str]) -> list[RefinedCaption]:
        """Refine captions.

        Args:
            requests (`Sequence[RefineRequest]`): n requests. A bare string is taken as a draft.

        Returns:
            `list[RefinedCaption]`: n results, the k-th for the k-th request. Where the answer was rejected or there
            was none, `text` is the draft, `accepted` is `False` and `reason` says why.

        Raises:
            RefinerError: The refiner failed for all requests at once. `refine_safely` turns that into drafts, too.
        """
        asked = [as_request(request) for request in requests]
        self._warn_of_unchecked_sight(asked)
        results: list[RefinedCaption | None] = [None] * len(asked)
        waiting: list[tuple[int, str | None]] = []
        for place, request in enumerate(asked):
            if request.draft.strip() or any(candidate.strip() for candidate in request.candidates):
                waiting.append((place, None))
            else:
                nothing = Proposal(None, keeps_draft=True)
                results[place] = self._result(request, nothing, "the draft is empty", 0)
        attempts = 1 + (self.retries if self.asks_again else 0)
        spent: dict[int, Proposal] = {}
        for attempt in range(1, attempts + 1):
            rejected: list[tuple[int, str | None]] = []
            proposals = self._ask([asked[place] for place, _ in waiting], [feedback for _, feedback in waiting])
            for (place, _), proposal in zip(waiting, proposals, strict=True):
                proposal = _add_up(spent.get(place), proposal)
                problem = self._problem(asked[place], proposal)
                if problem is not None and proposal.is_answer and attempt < attempts:
                    spent[place] = proposal
                    rejected.append((place, problem))
                else:
                    results[place] = self._result(asked[place], proposal, problem, attempt)
            waiting = rejected
        return [result for result in results if result is not None]

    def _ask(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        """From the cache where it is known; otherwise from the model, and then into the cache. Equal ones once."""
        keys = [self.key(request, reason) for request, reason in zip(requests, feedback, strict=True)]
        first: dict[str, int] = {}
        for place, key in enumerate(keys):
            first.setdefault(key, place)
        answers: dict[str, Proposal] = {}
        if self.cache is not None:
            found = zip(first, self.cache.get(list(first)), strict=True)
            answers = {key: _free(proposal) for key, proposal in found if proposal is not None}
        missing = [place for key, place in first.items() if key not in answers]
        if self.on_answer is not None:
            self.on_answer(len(requests) - len(missing))
        if missing:
            proposals = self.propose_each([requests[k] for k in missing], [feedback[k] for k in missing])
            for index, proposal in proposals:
                key = keys[missing[index]]
                answers[key] = proposal
                if self.on_answer is not None:
                    self.on_answer(1)
                # A failure is not an answer: the next run asks again.
                if self.cache is not None and proposal.is_answer:
                    self.cache.put(key, proposal)
        silent = Proposal(None, reason="the refiner gave no answer")
        # Duplicates share an answer; what it cost is counted once.
        return [
            answer if first[key] == place else _free(answer)
            for place, key in enumerate(keys)
            for answer in (answers.get(key, silent),)
        ]

    def _problem(self, request: RefineRequest, proposal: Proposal) -> str | None:
        if proposal.text is None or not proposal.text.strip() or proposal.cut_off:
            return proposal.reason or "the answer is empty"
        if self.guards is None:
            return None
        return self.guards.check(request, proposal.text, seen=self.looks_at_image, likelihood=self._likelihood)

    def _result(
        self, request: RefineRequest, proposal: Proposal, problem: str | None, attempts: int
    ) -> RefinedCaption:
        accepted = problem is None
        return RefinedCaption(
            text=proposal.text if accepted and proposal.text is not None else request.draft,
            draft=request.draft,
            accepted=accepted,
            reason=proposal.reason if accepted else problem,
            raw=proposal.raw,
            refiner=self.name,
            prompt_id=proposal.prompt_id,
            tokens=proposal.tokens,
            cost=proposal.cost,
            latency=proposal.latency,
            image_id=request.image_id,
            cached=proposal.cached,
            attempts=attempts,
            answered=accepted or proposal.is_answer or proposal.keeps_draft,
        )

    def key(self, request: RefineRequest, feedback: str | None = None) -> str:
        """The name of an answer: equal for two requests exactly if nothing that can change the answer differs."""
        from .cache import answer_key

        seen = request if self.looks_at_image else replace(request, image=None)
        return answer_key(self.name, self.settings(), seen, feedback)

    def hand_on(self, request: RefineRequest, result: RefinedCaption) -> RefineRequest:
        """The request that the next refiner of a chain is given after this one answered `result`."""
        return replace(request, draft=result.text)

    def close(self) -> None:
        """Let go of files and connections."""
        if self.cache is not None:
            self.cache.close()

    def __rshift__(self, following: RefinerLike) -> Refiner:
        """`rules >> consensus`: the second refiner works on what the first one made."""
        from .chain import Chain

        return Chain([self, as_refiner(following)])

    def __enter__(self):
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


RefinerLike = Refiner | str | Callable[[RefineRequest], str | None]
"""What may stand for a refiner: one, its name ("rules>consensus"), or a function from a request to a caption."""


def _as_guards(guards: Guards | str | bool) -> Guards | None:
    from .guards import as_guards

    return as_guards(guards)


def _as_cache(cache: AnswerCache | str | os.PathLike) -> AnswerCache:
    from .cache import AnswerCache

    return cache if isinstance(cache, AnswerCache) else AnswerCache(cache)


def _free(proposal: Proposal) -> Proposal:
    """An answer that was there already: nothing is paid for it now."""
    return replace(proposal, tokens=0, cost=None if proposal.cost is None else 0.0, latency=None, cached=True)


def _add_up(before: Proposal | None, now: Proposal) -> Proposal:
    """`now`, with what an earlier try cost."""
    if before is None:
        return now
    costs = [cost for cost in (before.cost, now.cost) if cost is not None]
    times = [latency for latency in (before.latency, now.latency) if latency is not None]
    return replace(
        now,
        tokens=before.tokens + now.tokens,
        cost=sum(costs) if costs else None,
        latency=sum(times) if times else None,
        cached=before.cached and now.cached,
    )


def as_request(request: RefineRequest | str) -> RefineRequest:
    """`request` itself, or a request with that draft."""
    if isinstance(request, str):
        return RefineRequest(draft=request)
    if isinstance(request, RefineRequest):
        return request
    raise ConfigurationError(f"A refiner is asked with `RefineRequest` or `str`, not with a {type(request).__name__}.")


def as_refiner(refiner: RefinerLike) -> Refiner:
    """A refiner from a refiner, a name, or a function `RefineRequest -> str` (`None` keeps the draft)."""
    if isinstance(refiner, Refiner):
        return refiner
    if isinstance(refiner, str):
        return load_refiner(refiner)
    if callable(refiner):
        from .chain import FunctionRefiner

        return FunctionRefiner(refiner)
    raise ConfigurationError(
        f"A {type(refiner).__name__} is not a refiner: give a Refiner, its name, or a function of a RefineRequest."
    )


def load_refiner(name: str, **options: Any) -> Refiner:
    """Build a refiner from its name.

    Args:
        name (`str`): `"rules"`, `"consensus"`, `"bart"`, `"bart:<model>"`, `"instruct:<model or .gguf file>"`,
            `"openai:<model>"`, one that an installed package registers under the entry points
            `blip_refine.refiners`, or several of them joined by `>`, each working on what the one before made.
            Options may follow a name: `"bart:<model>,mode=single"`, `"openai:<model>,send_image=true"`.
        **options: Passed to the refiner. In a chain, each goes to every refiner that knows it. Besides its own, a
            refiner with guards has `grounding` and `matching`: the models of the guards that look at the image.

    Raises:
        ConfigurationError: There is no such refiner, or none of them knows an option.

    Example:

    ```python
    load_refiner("rules>openai:gpt-4o-mini", max_cost=2.0).refine([RefineRequest("a dog dog on a a beach")])
    ```
    """
    from .options import LOOKING_GUARDS, add_looking_guards

    parts = parts_of(name)
    built: list[Refiner] = []
    looking: list[dict[str, str]] = []
    known_to_any: set[str] = set()
    for part in parts:
        kind, model, written = split_name(part)
        constructor = find_refiner(kind)
        known = option_names(constructor)
        for key in written:
            if known is not None and key not in known:
                raise ConfigurationError(f"The refiner {kind!r} has no option {key!r}.")
        taken = {key: value for key, value in options.items() if known is None or key in known}
        known_to_any |= set(taken)
        taken.update(written)
        if model:
            if known is not None and "model" not in known:
                raise ConfigurationError(f"The refiner {kind!r} has no model; write {kind!r} instead of {part!r}.")
            taken["model"] = model
        looking.append({key: taken.pop(key) for key in LOOKING_GUARDS if key in taken})
        built.append(constructor(**taken))
    unknown = sorted(set(options) - known_to_any)
    if unknown:
        raise ConfigurationError(f"The refiner {name!r} has no option {unknown[0]!r}.")
    for refiner, models in zip(built, looking, strict=True):  # last, as this loads models
        if models:
            add_looking_guards(refiner, models)
    if len(built) == 1:
        return built[0]
    from .chain import Chain

    return Chain(built)


def parts_of(name: str) -> list[str]:
    """The refiners of a chain, by name.

    Raises:
        ConfigurationError: One has no name.
    """
    parts = [part.strip() for part in name.split(">")]
    if not all(parts):
        raise ConfigurationError(f"The refiner {name!r} has an empty part; write it like 'rules>consensus'.")
    return parts


def split_name(part: str) -> tuple[str, str, dict[str, Any]]:
    """The parts of a refiner's name: `"bart:x,mode=single"` is `("bart", "x", {"mode": "single"})`."""
    segments, written = part.strip().split(","), {}
    # From the end: a folder's name may have a comma.
    while len(segments) > 1 and "=" in segments[-1] and segments[-1].partition("=")[0].strip().isidentifier():
        key, _, value = segments.pop().partition("=")
        try:
            written[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            written[key.strip()] = value.strip()
    kind, _, model = ",".join(segments).partition(":")
    return kind.strip(), model.strip(), written


def kinds_of(name: str) -> list[str]:
    """The kind of each refiner of a chain: `"rules>openai:x"` is `["rules", "openai"]`."""
    return [split_name(part)[0] for part in name.split(">")]


def available_refiners() -> list[str]:
    """The names of all refiners that `load_refiner` knows here."""
    return sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))})


def find_refiner(kind: str) -> Callable[..., Refiner]:
    """What builds refiners of a kind.

    Raises:
        ConfigurationError: There is no such kind.
    """
    if kind in _BUILT_IN:
        module, attribute = _BUILT_IN[kind]
        return getattr(import_module(f".{module}", __package__), attribute)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == kind:
            return point.load()
    names = ", ".join(available_refiners())
    raise ConfigurationError(f"There is no refiner {kind!r}; there are: {names}.")


def option_names(constructor: Callable[..., Refiner]) -> set[str] | None:
    """The options that [`load_refiner`] takes for what `constructor` builds; `None` if it takes any."""
    parameters: Iterable[inspect.Parameter] = inspect.signature(constructor).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    names = {parameter.name for parameter in parameters}
    return names | {"grounding", "matching"} if "guards" in names else names
