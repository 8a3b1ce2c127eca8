"""Scores of captions, exact and without Java where Java is not needed. Nothing here imports torch or transformers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_HOME_OF = {
    "COCO_METRICS": "score",
    "CaptionScores": "score",
    "corpus_sacrebleu": "sacre",
    "score_captions": "score",
    "tokenize": "tokenizer",
}

__all__ = [*_HOME_OF]

if TYPE_CHECKING:
    from .sacre import corpus_sacrebleu as corpus_sacrebleu
    from .score import COCO_METRICS as COCO_METRICS
    from .score import CaptionScores as CaptionScores
    from .score import score_captions as score_captions
    from .tokenizer import tokenize as tokenize


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'blip_refine.metrics' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
