"""Fine-tune BLIP on your own images, refine the captions with a language model, prove that it helped, publish.

The names below are imported when they are first used, so that `import blip_refine` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME_OF = {
    "BartRefiner": "refine.bart",
    "BlipCaptionDataset": "data.dataset",
    "BlipRefineError": "errors",
    "Caption": "records",
    "CaptionCollator": "data.collator",
    "CaptionPipeline": "pipeline",
    "CaptionRecord": "records",
    "CaptionTrainer": "training.trainer",
    "CaptionTrainingArguments": "training.arguments",
    "InstructRefiner": "refine.instruct",
    "OpenAIRefiner": "refine.openai",
    "RefineRequest": "records",
    "RefinedCaption": "records",
    "Refiner": "refine.base",
    "compare_systems": "evaluation.compare",
    "load_captioner": "models.captioner",
    "load_refiner": "refine.base",
    "push_captioner": "hub.push",
    "score_captions": "metrics.score",
}

__all__ = ["__version__", *_HOME_OF]

if TYPE_CHECKING:
    from .data.collator import CaptionCollator as CaptionCollator
    from .data.dataset import BlipCaptionDataset as BlipCaptionDataset
    from .errors import BlipRefineError as BlipRefineError
    from .evaluation.compare import compare_systems as compare_systems
    from .hub.push import push_captioner as push_captioner
    from .metrics.score import score_captions as score_captions
    from .models.captioner import load_captioner as load_captioner
    from .pipeline import CaptionPipeline as CaptionPipeline
    from .records import Caption as Caption
    from .records import CaptionRecord as CaptionRecord
    from .records import RefinedCaption as RefinedCaption
    from .records import RefineRequest as RefineRequest
    from .refine.bart import BartRefiner as BartRefiner
    from .refine.base import Refiner as Refiner
    from .refine.base import load_refiner as load_refiner
    from .refine.instruct import InstructRefiner as InstructRefiner
    from .refine.openai import OpenAIRefiner as OpenAIRefiner
    from .training.arguments import CaptionTrainingArguments as CaptionTrainingArguments
    from .training.trainer import CaptionTrainer as CaptionTrainer


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'blip_refine' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
