"""Captions in, captions out: what stands between a captioner's drafts and a refiner's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..records import Caption, ImageInput, RefineRequest
from .base import Refiner
from .safety import CircuitBreaker, refine_safely


def refine_request(
    caption: Caption, image: ImageInput | None = None, metadata: Mapping[str, Any] | None = None
) -> RefineRequest | None:
    """What a refiner is asked about one caption.

    Args:
        caption (`Caption`): The draft with its candidates, and the captioner's confidence in each.
        image (`ImageInput`, *optional*): The picture, for refiners that look.
        metadata (`Mapping[str, Any]`, *optional*): What may be said of it.

    Returns:
        `RefineRequest` or `None`: `None` for what has no caption (`error`) or waits for a person (`review`).
    """
    if caption.error is not None or caption.review is not None:
        return None
    return RefineRequest(
        draft=caption.draft,
        # The first candidate is the draft, which a request names once.
        candidates=caption.candidates[1:],
        confidence=caption.confidence,
        candidate_confidences=caption.candidate_confidences[1:],
        image=image,
        metadata=metadata or {},
        image_id=caption.image_id,
    )


def refine_captions(
    refiner: Refiner,
    captions: Sequence[Caption],
    *,
    images: Sequence[ImageInput | None] | None = None,
    metadata: Sequence[Mapping[str, Any]] | None = None,
    breaker: CircuitBreaker | None = None,
    timeout: float | None = None,
) -> list[Caption]:
    """Captions with a refiner's answers in their place, where it gave good ones.

    What has no caption (`error`) or waits for a person (`review`) is not asked about.

    Args:
        refiner (`Refiner`): Who is asked.
        captions (`Sequence[Caption]`): n drafts.
        images (`Sequence`, *optional*): For each, its picture, for refiners that look.
        metadata (`Sequence[Mapping[str, Any]]`, *optional*): For each, what may be said of it.
        breaker, timeout: See [`refine_safely`].

    Returns:
        `list[Caption]`: n captions, in the same order.
    """
    pictures = [None] * len(captions) if images is None else images
    facts = [None] * len(captions) if metadata is None else metadata
    requests = map(refine_request, captions, pictures, facts)
    asked = {place: request for place, request in enumerate(requests) if request is not None}
    refined = list(captions)
    answers = refine_safely(refiner, list(asked.values()), breaker=breaker, timeout=timeout)
    for place, answer in zip(asked, answers, strict=True):
        refined[place] = replace(
            captions[place],
            text=answer.text,
            refined=answer.accepted,
            reason=None if answer.accepted and answer.answered else answer.reason,
            outcome=answer.outcome,
        )
    return refined
