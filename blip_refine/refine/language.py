"""What the refiners that prompt a language model share: template, style, guards that fit both, and cleaned answers."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..records import RefineRequest
from .answers import clean_answer
from .base import Proposal, Refiner
from .cache import answer_key
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
        return self.prompt.messages(request, self.style, feedback, has_image)

    def _proposal(self, raw: str, **facts: Any) -> Proposal:
        text, problem = clean_answer(raw, self.strict)
        return Proposal(text, raw=raw, reason=problem, prompt_id=self.prompt.prompt_id, **facts)
