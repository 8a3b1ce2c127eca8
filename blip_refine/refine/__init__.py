"""Refiners: a draft caption becomes fluent and styled, and what a model makes up does not get through.

The names below are imported when they are first used: rules and consensus need neither torch nor transformers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

_HOME_OF = {
    "AnswerCache": "cache",
    "BartRefiner": "bart",
    "Chain": "chain",
    "CircuitBreaker": "safety",
    "ConsensusRefiner": "consensus",
    "FunctionRefiner": "chain",
    "Guards": "guards",
    "InstructRefiner": "instruct",
    "OpenAIRefiner": "openai",
    "PromptTemplate": "prompts",
    "Proposal": "base",
    "Refiner": "base",
    "RulesRefiner": "rules",
    "Style": "prompts",
    "as_refiner": "base",
    "available_refiners": "base",
    "load_refiner": "base",
    "refine_safely": "safety",
}

__all__ = [*_HOME_OF]

if TYPE_CHECKING:
    from .bart import BartRefiner as BartRefiner
    from .base import Proposal as Proposal
    from .base import Refiner as Refiner
    from .base import as_refiner as as_refiner
    from .base import available_refiners as available_refiners
    from .base import load_refiner as load_refiner
    from .cache import AnswerCache as AnswerCache
    from .chain import Chain as Chain
    from .chain import FunctionRefiner as FunctionRefiner
    from .consensus import ConsensusRefiner as ConsensusRefiner
    from .guards import Guards as Guards
    from .instruct import InstructRefiner as InstructRefiner
    from .openai import OpenAIRefiner as OpenAIRefiner
    from .prompts import PromptTemplate as PromptTemplate
    from .prompts import Style as Style
    from .rules import RulesRefiner as RulesRefiner
    from .safety import CircuitBreaker as CircuitBreaker
    from .safety import refine_safely as refine_safely


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module 'blip_refine.refine' has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
