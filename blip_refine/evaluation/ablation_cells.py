"""One cell of an ablation: what a refiner made of the drafts, kept on the disk when it is done."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import BlipRefineError
from ..jsonlines import write_json
from ..records import Caption, CaptionRecord, RefinedCaption, RefineRequest
from ..refine.base import Refiner, kinds_of
from ..refine.cache import AnswerCache
from ..refine.captions import refine_request
from ..refine.counts import count_outcomes
from ..refine.prompts import load_template
from ..refine.safety import CircuitBreaker, refine_safely
from .ablation_drafts import Drafts, file_name

NO_REFINER = "none"

SERVER_DECODING = "server"
"""The name of the only way of decoding of a captioner behind a server: its own."""
KEPT_FACTS = ("seconds", "tokens", "cost", "changed", "refinement")
MODEL_REFINERS = ("bart", "instruct", "openai")
"""Refiners that ask a model: their answers are worth keeping, and prompts and guards are theirs."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of captioning.

    Args:
        decoding (`str`): A decoding preset.
        refiner (`str`): A refiner's name, or "none".
        prompt (`str`, *optional*): A prompt template, for refiners that have one.
        guards (`str`, *optional*): Names of guards ("form,facts"), or "none"; for refiners that ask a model.
    """

    decoding: str
    refiner: str = NO_REFINER
    prompt: str | None = None
    guards: str | None = None

    @property
    def name(self) -> str:
        """What the cell is called in tables: its parts that are not the default."""
        parts = [self.decoding]
        if self.refiner != NO_REFINER:
            parts.append(self.refiner)
        if self.prompt is not None:
            parts.append(f"prompt={self.prompt}")
        if self.guards is not None:
            parts.append(f"guards={self.guards}")
        return " | ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As the beginning of an entry of `ablation.json`."""
        return {
            "name": self.name,
            "decoding": self.decoding,
            "refiner": self.refiner,
            "prompt": self.prompt,
            "guards": self.guards,
        }


def asks_model(refiner: str) -> bool:
    """Whether any refiner of a chain asks a model."""
    return any(kind in MODEL_REFINERS for kind in kinds_of(refiner))


def has_prompt(refiner: str) -> bool:
    """Whether any refiner of a chain has a prompt that can be chosen."""
    return any(kind in ("instruct", "openai") for kind in kinds_of(refiner))


def unused_choices(refiners: Sequence[str], prompts: Sequence[str], guards: Sequence[str]) -> str | None:
    """What of a grid can act on none of its refiners: "prompts", "guards" or `None`."""
    if prompts and not any(has_prompt(one) for one in refiners):
        return "prompts"
    if guards and not any(asks_model(one) for one in refiners):
        return "guards"
    return None


@dataclass(frozen=True)
class MadeCell:
    """The captions of a cell; seconds, tokens and cost an image; the share of drafts that were changed; and what
    became of the drafts ([`RefineCounts`]), empty without a refiner."""

    captions: dict[str, Caption]
    seconds: float
    tokens: float
    cost: float | None
    changed: float
    refinement: dict[str, Any] = field(default_factory=dict)


class Ledger(AnswerCache):
    """A cache that adds up what the answers of one cell cost, whoever paid for them: a cell's price is what it would
    cost alone, not what was left to pay after the cells before it."""

    def __init__(self, shared: AnswerCache):
        self.shared, self.path = shared, shared.path
        self.seen: dict[str, Any] = {}

    def get(self, keys: Sequence[str]) -> list[Any]:
        found = self.shared.get(keys)
        self.seen.update({key: answer for key, answer in zip(keys, found, strict=True) if answer is not None})
        return found

    def put(self, key: str, proposal: Any) -> None:
        self.shared.put(key, proposal)
        self.seen[key] = proposal

    def notes(self, prefix: str) -> dict[str, str]:
        return self.shared.notes(prefix)

    def note(self, name: str, value: str | None) -> None:
        self.shared.note(name, value)

    def __len__(self) -> int:
        return len(self.shared)

    def close(self) -> None:
        """The shared cache stays open for the next cell."""


@dataclass(frozen=True)
class CellRefiner:
    """The refiner of a cell, and the ledger of its answers."""

    refiner: Refiner
    ledger: Ledger


def build_refiner(
    cell: Cell, cache: AnswerCache, options: Mapping[str, Any], make_refiner: Callable[..., Refiner]
) -> CellRefiner | None:
    """The refiner of a cell, before anything is asked; `None` if the cell has none.

    Args:
        cell (`Cell`): Which.
        cache (`AnswerCache`): The answers of all cells.
        options (`Mapping[str, Any]`): Those of this refiner.
        make_refiner (`Callable`): Builds a refiner from its name and options.

    Raises:
        ConfigurationError: There is no such refiner, or it does not know an option.
    """
    if cell.refiner == NO_REFINER:
        return None
    ledger, asked = Ledger(cache), dict(options)
    if asks_model(cell.refiner):
        asked["cache"] = ledger
        if cell.prompt is not None:
            asked["prompt"] = cell.prompt
        if cell.guards is not None:
            asked["guards"] = cell.guards
    return CellRefiner(make_refiner(cell.refiner, **asked), ledger)


def make_cell(
    cell: Cell,
    built: CellRefiner | None,
    drafts: Drafts,
    records: Sequence[CaptionRecord],
    folder: Path,
    batch_size: int,
    options: Mapping[str, Any],
) -> MadeCell:
    """The captions of one cell: from the disk where they are there, refined and then kept otherwise.

    Raises:
        RefinerUnansweredError: The refiner answered nothing at all.
    """
    if built is None:
        return MadeCell(drafts.captions, drafts.seconds, drafts.tokens, drafts.cost, 0.0)
    refiner, ledger = built.refiner, built.ledger
    # What the pipeline asks its refiner, so that what is measured here is what runs there.
    requests = [
        request
        for record in records
        if (request := refine_request(drafts.captions[record.image_id], record.image, record.facts))
    ]
    path = folder / "cells" / f"{file_name(cell.name)}.json"
    made_of = _made_of(cell, requests, batch_size, options)
    value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if value.get("made_of") == made_of:
        facts = {name: value[name] for name in KEPT_FACTS}
        return MadeCell(_with_texts(drafts, value["captions"]), **facts)
    for one in getattr(refiner, "refiners", [refiner]):
        # Loading a model does not count in the seconds per image. If it fails, each answer says why.
        with suppress(BlipRefineError):
            getattr(one, "load", lambda: None)()
    results: list[RefinedCaption] = []
    breaker, fresh_before = CircuitBreaker(), len(ledger)
    began = time.perf_counter()
    for start in range(0, len(requests), batch_size):
        results += refine_safely(refiner, requests[start : start + batch_size], breaker=breaker)
    elapsed = time.perf_counter() - began
    counts = count_outcomes(results)
    counts.require_answers(refiner.name)
    captions = {request.image_id: result.text for request, result in zip(requests, results, strict=True)}
    answers = list(ledger.seen.values())
    known = [answer.latency for answer in answers if answer.latency is not None]
    # Where answers came from the cache, the clock says nothing: what they took when they were asked does.
    from_cache = bool(answers) and len(ledger) - fresh_before < len(answers)
    seconds = sum(known) if from_cache and len(known) == len(answers) else elapsed
    costs = [answer.cost for answer in answers]
    paid = None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs)
    number = max(len(records), 1)
    made = MadeCell(
        captions=_with_texts(drafts, captions),
        seconds=drafts.seconds + seconds / number,
        tokens=drafts.tokens + sum(answer.tokens for answer in answers) / number,
        cost=None if paid is None or drafts.cost is None else drafts.cost + paid / number,
        changed=sum(text != drafts.captions[image_id].text for image_id, text in captions.items()) / number,
        refinement=counts.to_dict(),
    )
    if not counts.unanswered:  # A cell with holes is no cell: the next call asks again for what is missing.
        facts = {name: getattr(made, name) for name in KEPT_FACTS}
        write_json(path, {"name": cell.name, "made_of": made_of, "captions": captions, **facts})
    return made


def _made_of(cell: Cell, requests: Sequence[RefineRequest], batch_size: int, options: Mapping[str, Any]) -> str:
    """A name for all that a kept cell depends on: what its refiner was asked, with which prompt text and options."""
    asked = [
        (one.draft, one.candidates, one.confidence, one.candidate_confidences, dict(one.metadata)) for one in requests
    ]
    prompt = None if cell.prompt is None else load_template(cell.prompt).prompt_id
    # Consensus learns from the rest of a batch which words are common.
    content = [__version__, KEPT_FACTS, asked, prompt, batch_size, dict(options)]
    return hashlib.sha256(json.dumps(content, default=str, sort_keys=True).encode()).hexdigest()


def _with_texts(drafts: Drafts, captions: Mapping[str, str]) -> dict[str, Caption]:
    return {
        image_id: replace(draft, text=captions.get(image_id, draft.text))
        for image_id, draft in drafts.captions.items()
    }
