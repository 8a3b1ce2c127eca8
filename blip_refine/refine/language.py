"""What the refiners that prompt a language model share: template, style, guards that fit both, and cleaned answers."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..records import RefineRequest
from .answers import clean_answer
from .base import Proposal, Refiner
from .cache import answer_key
from .chain import Chain
from .prompts import PromptTemplate, Style, load_template

if TYPE_CHECKING:
    from .cache import AnswerCache
    from .guards import Guards


class PromptedRefiner(Refiner):
    """A refiner that asks a chat model with a prompt template.

    Args:
        model (`str`): The model's name.
        prompt (`str`, `os.PathLike` or `PromptTemplate`): A template, its name, or the path of the user's own.
        variables (`Mapping[str, Any]`, *optional*): Values for the template's own variables.
        style (`str` or `Style`, *optional*): How to write, such as `"formal,max_words=12,alt-text,fr"`.
        instruction (`str`, *optional*): A free instruction, at most 1,000 characters. Guards hold as before.
        guards (`Guards`, `str` or `bool`, defaults to `True`): What an answer must pass; fitted to the style's
            language and length.
        strict (`bool`, defaults to `False`): Reject answers with a preamble, quotes or notes, rather than strip them.
        cache, retries: As in [`Refiner`].
    """

    def __init__(
        self,
        model: str,
        *,
        prompt: str | os.PathLike | PromptTemplate,
        variables: Mapping[str, Any] | None = None,
        style: str | Style | None = None,
        instruction: str | None = None,
        guards: Guards | str | bool | None = True,
        strict: bool = False,
        cache: AnswerCache | str | os.PathLike | None = None,
        retries: int = 1,
    ):
        super().__init__(guards=guards, cache=cache, retries=retries)
        self.model, self.strict = model, strict
        self.style = Style.parse(style)
        if isinstance(prompt, PromptTemplate):
            self.prompt = replace(prompt, variables={**prompt.variables, **(variables or {})})
        else:
            self.prompt = load_template(prompt, variables)
        if instruction is not None:
            self.prompt.check_instruction(instruction)
        self.instruction = instruction
        if self.guards is not None:
            self.guards = self.guards.in_language(self.style.language, self.style.max_words)

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "prompt": self.prompt.content(),
            "instructions": self.style.instructions(),
            "language": self.style.language,
            "strict": self.strict,
        }

    def key(self, request: RefineRequest, feedback: str | None = None) -> str:
        # The messages are all that the model is told: what they leave out cannot change the answer.
        seen = request.image if self.looks_at_image else None
        told = RefineRequest(draft=json.dumps(self._messages(request, feedback, seen is not None)), image=seen)
        return answer_key(self.name, self.settings(), told)

    def _messages(self, request: RefineRequest, feedback: str | None, has_image: bool = False) -> list[dict[str, str]]:
        return self.prompt.messages(request, self.style, feedback, has_image, self.instruction)

    def _proposal(self, raw: str, **facts: Any) -> Proposal:
        text, problem = clean_answer(raw, self.strict)
        return Proposal(text, raw=raw, reason=problem, prompt_id=self.prompt.prompt_id, **facts)

    def _cut_off(self, raw: str, reason: str, **facts: Any) -> Proposal:
        """An answer that ended before it was complete."""
        return Proposal(None, raw=raw, reason=reason, prompt_id=self.prompt.prompt_id, cut_off=True, **facts)


def instructed(refiner: Refiner, instruction: str) -> Refiner:
    """A refiner with another free instruction, over the same loaded models, caches and budgets.

    Args:
        refiner (`Refiner`): One that asks a chat model, or a chain with such a one.
        instruction (`str`): What the copy is told.

    Raises:
        ConfigurationError: No chat model is asked, or the instruction cannot act (see
            [`PromptTemplate.check_instruction`]).
    """
    if isinstance(refiner, Chain):
        if not any(isinstance(one, PromptedRefiner) for one in refiner.refiners):
            raise _not_instructed(refiner)
        return Chain(
            [instructed(one, instruction) if isinstance(one, PromptedRefiner) else one for one in refiner.refiners]
        )
    if not isinstance(refiner, PromptedRefiner):
        raise _not_instructed(refiner)
    refiner.prompt.check_instruction(instruction)
    other = copy.copy(refiner)
    other.instruction = instruction
    return other


def _not_instructed(refiner: Refiner) -> ConfigurationError:
    return ConfigurationError(f"The refiner {refiner.name!r} asks no language model: an instruction cannot act.")
