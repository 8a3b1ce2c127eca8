"""One cell of an ablation: drafts, and what a refiner made of them, both kept on the disk as they are made."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ConfigurationError, RefinerError
from ..jsonlines import read_jsonl, write_json, write_jsonl
from ..records import Caption, CaptionRecord, RefinedCaption, RefineRequest
from ..refine.base import Refiner, kinds_of
from ..refine.cache import AnswerCache
from ..refine.captions import refine_request
from ..refine.prompts import load_template
from .evaluator import Captioner, captions_of

NO_REFINER = "none"
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


def asks_model(refiner: str) -> bool:
    """Whether any refiner of a chain asks a model."""
    return any(kind in MODEL_REFINERS for kind in kinds_of(refiner))


def has_prompt(refiner: str) -> bool:
    """Whether any refiner of a chain has a prompt that can be chosen."""
    return any(kind in ("instruct", "openai") for kind in kinds_of(refiner))


@dataclass(frozen=True)
class Drafts:
    """The drafts of one way of decoding, and per image the seconds, tokens and US dollars that they took."""

    captions: dict[str, Caption]
    seconds: float

    @property
    def tokens(self) -> float:
        """Tokens that the captioner read and wrote per image; 0 if it does not count them."""
        return sum(one.tokens or 0 for one in self.captions.values()) / max(len(self.captions), 1)

    @property
    def cost(self) -> float | None:
        """US dollars per image: 0 for a captioner that runs here, `None` if a server's prices are not known."""
        # A server counts tokens and gives no confidence; what runs here gives one.
        if any(one.tokens and one.cost is None and one.confidence is None for one in self.captions.values()):
            return None
        return math.fsum(one.cost or 0.0 for one in self.captions.values()) / max(len(self.captions), 1)


@dataclass(frozen=True)
class MadeCell:
    """The captions of a cell; seconds, tokens and cost an image; the share of drafts that were changed; how many
    questions to a model were not answered, so that the draft stands."""

    captions: dict[str, Caption]
    seconds: float
    tokens: float
    cost: float | None
    changed: float
    unanswered: int = 0


class Ledger(AnswerCache):
    """A cache that adds up what the answers of one cell cost, whoever paid for them: a cell's price is what it would
    cost alone, not what was left to pay after the cells before it. And what was asked for without an answer."""

    def __init__(self, shared: AnswerCache):
        self.shared, self.path = shared, shared.path
        self.asked: set[str] = set()
        self.seen: dict[str, Any] = {}

    @property
    def unanswered(self) -> int:
        """How many different questions got no answer: a refiner puts every answer into its cache, and no failure."""
        return len(self.asked - self.seen.keys())

    def get(self, keys: Sequence[str]) -> list[Any]:
        self.asked.update(keys)
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


def claim_folder(folder: Path, records: Sequence[CaptionRecord], captioner: str) -> None:
    """Say what a folder's drafts are of, or make sure that they are of the same.

    Raises:
        ConfigurationError: The folder holds drafts of other images or another captioner.
    """
    content: list[Any] = [captioner, [(record.image_id, list(record.captions)) for record in records]]
    if any(record.prompt for record in records):
        content.append([record.prompt for record in records])
    fingerprint = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    path = folder / "drafts" / "of.json"
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8"))["sha256"] != fingerprint:
            raise ConfigurationError(
                f"{folder} holds an ablation over other images or of another captioner: name another folder."
            )
    else:
        write_json(path, {"sha256": fingerprint, "images": len(records), "captioner": captioner})


def make_drafts(
    captioners: Mapping[str, Captioner] | Callable[[str], Captioner],
    decoding: str,
    records: Sequence[CaptionRecord],
    folder: Path,
    batch_size: int,
) -> Drafts:
    """The drafts of one preset: those on the disk, and the rest in parts, each kept when it is done."""
    parts = folder / "drafts" / _file_name(decoding)
    held: dict[str, Caption] = {}
    spent: list[float] = []
    for path in sorted(parts.glob("*.jsonl")):
        for row in read_jsonl(path):
            # Drafts of a time when the confidence in each candidate was not kept are made anew, as a refiner chooses
            # differently with them; and so is what could not be captioned.
            if "candidate_confidences" in row and row["error"] is None:
                held[row["image_id"]] = Caption.from_dict(row)
                spent.append(row["seconds"])
    captioner = None
    # A part is a few batches: little is lost at an interruption, and there are not as many files as images.
    size = 8 * batch_size
    missing = [record for record in records if record.image_id not in held]
    for start in range(0, len(missing), size):
        part = missing[start : start + size]
        if captioner is None:
            captioner = captioners(decoding) if callable(captioners) else captioners[decoding]
        began = time.perf_counter()
        # Refiners are asked here what they are asked in the pipeline, prompt included; scoring cuts it off.
        made = captions_of(captioner, part, batch_size=batch_size, prompts=True)
        seconds = (time.perf_counter() - began) / len(part)
        spent += [seconds] * len(part)
        named = {image_id: replace(caption, image_id=image_id) for image_id, caption in made.items()}
        held.update(named)
        rows = [{**caption.to_dict(), "seconds": seconds} for caption in named.values()]
        names = (parts / f"{number:08d}.jsonl" for number in count(len(held)))
        write_jsonl(next(path for path in names if not path.exists()), rows)
    return Drafts(
        {record.image_id: held[record.image_id] for record in records}, math.fsum(spent) / max(len(records), 1)
    )


def make_cell(
    cell: Cell,
    drafts: Drafts,
    records: Sequence[CaptionRecord],
    folder: Path,
    cache: AnswerCache,
    batch_size: int,
    options: Mapping[str, Any],
    make_refiner: Callable[..., Refiner],
) -> MadeCell:
    """The captions of one cell: from the disk where they are there, refined and then kept otherwise.

    Raises:
        RefinerError: The refiner's model answered nothing at all.
    """
    if cell.refiner == NO_REFINER:
        return MadeCell(drafts.captions, drafts.seconds, drafts.tokens, drafts.cost, 0.0)
    # What the pipeline asks its refiner, so that what is measured here is what runs there.
    requests = [
        request for record in records if (request := refine_request(drafts.captions[record.image_id], record.image))
    ]
    path = folder / "cells" / f"{_file_name(cell.name)}.json"
    made_of = _made_of(cell, requests, batch_size, options)
    value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if value.get("made_of") == made_of:
        return MadeCell(
            _with_texts(drafts, value["captions"]), value["seconds"], value["tokens"], value["cost"], value["changed"]
        )
    asked: dict[str, Any] = dict(options)
    ledger = Ledger(cache)
    if asks_model(cell.refiner):
        asked["cache"] = ledger
        if cell.prompt is not None:
            asked["prompt"] = cell.prompt
        if cell.guards is not None:
            asked["guards"] = cell.guards
    results: list[RefinedCaption] = []
    began = time.perf_counter()
    refiner = make_refiner(cell.refiner, **asked)
    fresh_before = len(cache)
    for start in range(0, len(requests), batch_size):
        results += refiner.refine(requests[start : start + batch_size])
    elapsed = time.perf_counter() - began
    captions = {request.image_id: result.text for request, result in zip(requests, results, strict=True)}
    answers = list(ledger.seen.values())
    if ledger.unanswered and not answers:
        reason, _ = Counter(result.reason for result in results).most_common(1)[0]
        raise RefinerError(
            f"The refiner of {cell.name!r} answered none of {ledger.unanswered} questions ({reason}). What was done "
            "before is kept: the same call goes on from there."
        )
    known = [answer.latency for answer in answers if answer.latency is not None]
    # Where answers came from the cache, the clock says nothing: what they took when they were asked does.
    from_cache = bool(answers) and len(cache) - fresh_before < len(answers)
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
        unanswered=ledger.unanswered,
    )
    if not made.unanswered:  # A cell with holes is no cell: the next call asks again for what is missing.
        facts = {name: getattr(made, name) for name in ("seconds", "tokens", "cost", "changed")}
        write_json(path, {"name": cell.name, "made_of": made_of, "captions": captions, **facts})
    return made


def _made_of(cell: Cell, requests: Sequence[RefineRequest], batch_size: int, options: Mapping[str, Any]) -> str:
    """A name for all that a kept cell depends on: what its refiner was asked, with which prompt text and options."""
    asked = [(one.draft, one.candidates, one.confidence, one.candidate_confidences) for one in requests]
    prompt = None if cell.prompt is None else load_template(cell.prompt).prompt_id
    # Consensus learns from the rest of a batch which words are common.
    content = [__version__, asked, prompt, batch_size, dict(options)]
    return hashlib.sha256(json.dumps(content, default=str, sort_keys=True).encode()).hexdigest()


def _with_texts(drafts: Drafts, captions: Mapping[str, str]) -> dict[str, Caption]:
    return {
        image_id: replace(draft, text=captions.get(image_id, draft.text))
        for image_id, draft in drafts.captions.items()
    }


def _file_name(name: str) -> str:
    """A name that any file system takes, and no two cells share."""
    plain = "".join(char if char.isalnum() else "-" for char in name)[:60]
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
