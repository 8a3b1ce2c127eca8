"""Scores of captions, exact and without Java where Java is not needed. Nothing here imports torch or transformers.

The names below are imported when they are first used; `blip_refine.metrics.statistics` has what resampling needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_HOME_OF = {
    "ALL_METRICS": "families",
    "COCO_METRICS": "families",
    "CaptionMetrics": "caption_metrics",
    "CaptionScores": "score",
    "DocumentFrequencies": "cider",
    "ObjectVocabulary": "objects",
    "PreparedReferences": "references",
    "bleu_reports": "sacre",
    "caption_diversity": "diversity",
    "caption_set_diversity": "diversity",
    "corpus_sacrebleu": "sacre",
    "object_hallucination": "hallucination",
    "read_coco_captions": "coco_format",
    "read_coco_results": "coco_format",
    "reference_hallucination": "hallucination",
    "score_captions": "score",
    "score_systems": "score",
    "tokenize": "tokenizer",
    "write_coco_results": "coco_format",
}

__all__ = [*_HOME_OF]

if TYPE_CHECKING:
    from .caption_metrics import CaptionMetrics as CaptionMetrics
    from .cider import DocumentFrequencies as DocumentFrequencies
    from .coco_format import read_coco_captions as read_coco_captions
    from .coco_format import read_coco_results as read_coco_results
    from .coco_format import write_coco_results as write_coco_results
    from .diversity import caption_diversity as caption_diversity
    from .diversity import caption_set_diversity as caption_set_diversity
    from .families import ALL_METRICS as ALL_METRICS
    from .families import COCO_METRICS as COCO_METRICS
    from .hallucination import object_hallucination as object_hallucination
    from .hallucination import reference_hallucination as reference_hallucination
    from .objects import ObjectVocabulary as ObjectVocabulary
    from .references import PreparedReferences as PreparedReferences
    from .sacre import bleu_reports as bleu_reports
    from .sacre import corpus_sacrebleu as corpus_sacrebleu
    from .score import CaptionScores as CaptionScores
    from .score import score_captions as score_captions
    from .score import score_systems as score_systems
    from .tokenizer import tokenize as tokenize


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'blip_refine.metrics' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
