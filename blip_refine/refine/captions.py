"""Captions in, captions out: what stands between a captioner's drafts and a refiner's answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..records import Caption, ImageInput, RefineRequest
from .base import Refiner
from .safety import CircuitBreaker, refine_safely


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
    places = [place for place, caption in enumerate(captions) if caption.error is None and caption.review is None]
    requests = [
        RefineRequest(
            draft=captions[place].draft,
            candidates=captions[place].candidates[1:],
            confidence=captions[place].confidence,
            candidate_confidences=captions[place].candidate_confidences[1:],
            image=None if images is None else images[place],
            metadata={} if metadata is None else metadata[place],
            image_id=captions[place].image_id,
        )
        for place in places
    ]
    refined = list(captions)
    answers = refine_safely(refiner, requests, breaker=breaker, timeout=timeout)
    for place, answer in zip(places, answers, strict=True):
        refined[place] = replace(
            captions[place],
            text=answer.text,
            refined=answer.accepted,
            reason=None if answer.accepted else answer.reason,
        )
    return refined
