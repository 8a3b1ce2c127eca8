"""The records that travel through the library: one image with its captions, and one caption on its way out.

All are frozen: a stage makes a new record (`dataclasses.replace`) and never changes one that another stage holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from PIL import Image

OUTCOMES = ("changed", "unchanged", "rejected", "kept", "unanswered")
"""What may become of a draft: another caption, the same caption, an answer that a guard rejected, a draft that the
refiner had a reason to leave alone, or no answer at all."""

ImageInput = Union[str, os.PathLike, bytes, "Image.Image"]
"""What a record may hold as its image: a path, the bytes of an image file, or a picture already decoded."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One kind of thing that is truly in a picture.

    Args:
        name (`str`): The thing, as a singular noun ("boat").
        color (`str`, *optional*): Its colour, if it has one that a caption would name.
        size (`str`, *optional*): "big" or "small", if it is unusual.
        count (`int`, defaults to 1): How many of it there are.
    """

    name: str
    color: str | None = None
    size: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class CaptionRecord:
    """One image and all its captions. The unit of every split: an image is in training or in evaluation, never both.

    Args:
        image (`str`, `os.PathLike`, `bytes` or `PIL.Image.Image`): The picture, decoded as late as possible.
        captions (`tuple[str, ...]`): Its n reference captions; empty for an image that is only to be captioned.
        image_id (`str`): Its name, unique within a dataset.
        split (`str`, *optional*): "train", "validation" or "test", where the source has an official split.
        source (`str`, *optional*): Where it comes from ("flickr8k", "scenes:everyday", a file name).
        objects (`tuple[SceneObject, ...]`, *optional*): What is truly in the picture, where that is known; `None`
            where it is not. An empty tuple says that the picture is known to hold nothing nameable.
        metadata (`Mapping[str, Any]`, *optional*): Anything else the source knows. Training reads it only where a
            prompt template names a column of it.
        prompt (`str`, *optional*): What the captions of this image begin with, where it has a prompt of its own. It
            is not part of `captions`.
    """

    image: ImageInput
    captions: tuple[str, ...]
    image_id: str
    split: str | None = None
    source: str | None = None
    objects: tuple[SceneObject, ...] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    prompt: str | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What a refiner may be told: `metadata`, or nothing if the true `objects` are known.

        The metadata are then part of the truth, and a refiner that is told the answer would be measured too well.
        """
        return self.metadata if self.objects is None else {}


@dataclass(frozen=True, slots=True)
class Caption:
    """The caption of one image, as `CaptionPipeline` returns it.

    Args:
        text (`str`): The caption to use: the refined one where refinement was accepted, the draft otherwise.
            Empty where `error` or `review` is set.
        draft (`str`): What the captioner itself said.
        candidates (`tuple[str, ...]`): All sequences the captioner returned for the image, best first; `draft` is
            the first of them.
        confidence (`float`, *optional*): Mean natural log-probability of the draft's tokens, at most 0; `None` where
            it was not computed.
        refined (`bool`): Whether `text` is a refiner's accepted answer.
        reason (`str`, *optional*): Why the draft was kept, where a refiner was asked and `refined` is `False`.
        image_id (`str`): The name of the image: its path, its id, or its place in the input.
        error (`str`, *optional*): Why there is no caption (the image could not be read, ...).
        review (`str`, *optional*): Why the caption is not to be published before a person has looked at it: the
            captioner was too unsure, or it says a blocked word. `text` is then empty and `draft` holds what was said.
        image_gain (`float`, *optional*): `log p(draft | image) - log p(draft | no image)` in nats, where it was asked
            for: how much the image, and not habit, explains the draft.
        candidate_confidences (`tuple[float, ...]`): For each of `candidates`, what `confidence` is for the draft;
            empty where it was not computed.
        prompt (`str`, *optional*): The prompt that `draft` begins with, as it stands there. Scoring cuts it off.
        outcome (`str`, *optional*): What became of the draft, one of [`OUTCOMES`]; `None` if no refiner was asked.
        tokens (`int`, *optional*): Tokens that the captioner read and wrote for the draft, if they were counted.
        cost (`float`, *optional*): Price of the draft in US dollars, if it is known.
    """

    text: str
    draft: str
    candidates: tuple[str, ...] = ()
    confidence: float | None = None
    refined: bool = False
    reason: str | None = None
    image_id: str = ""
    error: str | None = None
    review: str | None = None
    image_gain: float | None = None
    candidate_confidences: tuple[float, ...] = ()
    prompt: str | None = None
    outcome: str | None = None
    tokens: int | None = None
    cost: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The record as one row of `predictions.jsonl`: `text` under the name `caption`, as the file format has it."""
        row = asdict(self)
        for name in ("prompt", "outcome", "tokens", "cost"):
            if row[name] is None:
                del row[name]
        return {"image_id": row.pop("image_id"), "caption": row.pop("text"), **row}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Caption:
        """The caption of a row that `to_dict` made; what else the row holds is left aside."""
        names = {field.name for field in fields(cls)}
        known = {name: value for name, value in row.items() if name in names and value is not None}
        for name in ("candidates", "candidate_confidences"):
            if name in known:
                known[name] = tuple(known[name])
        return cls(**{"draft": "", **known, "text": str(row.get("caption") or "")})


@dataclass(frozen=True, slots=True)
class RefineRequest:
    """What a refiner is given about one image.

    Args:
        draft (`str`): The caption to improve.
        candidates (`tuple[str, ...]`): Other captions of the same image, best first; may be empty.
        confidence (`float`, *optional*): Mean token log-probability of the draft.
        image (`str`, `os.PathLike`, `bytes` or `PIL.Image.Image`, *optional*): The picture, for refiners that look.
        metadata (`Mapping[str, Any]`, *optional*): Facts about the picture that may be used (place, date, product).
        image_id (`str`): The name of the image.
        candidate_confidences (`tuple[float, ...]`): Mean token log-probability of each of `candidates`; empty where
            they were not computed.
    """

    draft: str
    candidates: tuple[str, ...] = ()
    confidence: float | None = None
    image: ImageInput | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    image_id: str = ""
    candidate_confidences: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class RefinedCaption:
    """What a refiner answers for one image.

    Args:
        text (`str`): The caption to use: the refiner's where it was accepted, the draft otherwise.
        draft (`str`): The caption that the refiner was given.
        accepted (`bool`): Whether `text` is the refiner's answer. An answer equal to the draft is accepted.
        reason (`str`, *optional*): Why the answer was not accepted, or what was changed.
        raw (`str`, *optional*): The model's answer before cleaning and guards.
        refiner (`str`): The refiner's name, with its model.
        prompt_id (`str`, *optional*): Name and hash of the prompt template.
        tokens (`int`, defaults to 0): Tokens read and written by the model for this caption; 0 where the answer was
            known already.
        cost (`float`, *optional*): In US dollars; `None` where it is unknown.
        latency (`float`, *optional*): Seconds; `None` where it was not measured.
        image_id (`str`): The name of the image.
        cached (`bool`, defaults to `False`): Whether the answer was known already, so that nothing was paid now.
        attempts (`int`, defaults to 1): How often the model was asked.
        answered (`bool`, defaults to `True`): `False` where the refiner, or one refiner of a chain, failed to answer:
            its server or model was out of reach, or its budget spent.
    """

    text: str
    draft: str
    accepted: bool
    reason: str | None = None
    raw: str | None = None
    refiner: str = ""
    prompt_id: str | None = None
    tokens: int = 0
    cost: float | None = None
    latency: float | None = None
    image_id: str = ""
    cached: bool = False
    attempts: int = 1
    answered: bool = True

    @property
    def outcome(self) -> str:
        """What became of the draft: one of [`OUTCOMES`]."""
        if not self.answered:
            return "unanswered"
        if self.accepted:
            return "unchanged" if self.text == self.draft else "changed"
        return "kept" if self.raw is None else "rejected"

    def to_dict(self) -> dict[str, Any]:
        """The record as one JSON row, with `text` under the name `caption`."""
        row = asdict(self)
        del row["answered"]
        row["outcome"] = self.outcome
        return {"image_id": row.pop("image_id"), "caption": row.pop("text"), **row}
