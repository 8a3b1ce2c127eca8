"""The arguments with which stock `transformers` decodes as a run did, for the snippets of its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .facts import is_number

BEAMS = {"num_beams": 5, "max_new_tokens": 30, "length_penalty": 1.0, "early_stopping": True}
SAMPLING = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
"""The defaults of `DecodingOptions`, which importing would load torch. `run.json` names what differs from them, and
stock `transformers` has others."""

COMMON = {"min_new_tokens": 0, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
LACKING = ("bad_words", "num_beam_groups", "diversity_penalty", "num_return_sequences")
"""What stock `generate` does not have under this name, or answers with several captions."""


@dataclass(frozen=True)
class StockDecoding:
    """How stock `generate` is called.

    Args:
        arguments (`Mapping[str, int | float | bool]`): Keyword arguments.
        prompt (`str`): The prompt as a Python literal, empty without one.
        lacking (`str`): The options of the run that stock `generate` lacks, as Markdown.
        sampled (`bool`): Whether tokens are drawn.
    """

    arguments: Mapping[str, int | float | bool]
    prompt: str
    lacking: str
    sampled: bool

    @property
    def as_dict(self) -> str:
        """The arguments as a Python dictionary."""
        return "{" + ", ".join(f'"{name}": {value!r}' for name, value in self.arguments.items()) + "}"

    @property
    def as_arguments(self) -> str:
        """The arguments as they stand in a call."""
        return ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())


def stock_decoding(decoding: Mapping[str, Any] | None) -> StockDecoding:
    """Translate the `decoding` of a `run.json`.

    Args:
        decoding (`Mapping[str, Any]`, *optional*): Fields of `DecodingOptions`. What is missing has its default.
    """
    given = {name: value for name, value in (decoding or {}).items() if is_number(value) or isinstance(value, bool)}
    sampled, beams = bool(given.get("do_sample")), given.get("num_beams", 5)
    arguments: dict[str, Any] = {name: given.get(name, default) for name, default in BEAMS.items()}
    if beams == 1:
        # Stock `generate` warns of options of beam search without beams.
        del arguments["length_penalty"], arguments["early_stopping"]
    if sampled:
        arguments |= {name: given.get(name, default) for name, default in SAMPLING.items()}
    arguments |= {name: given[name] for name, default in COMMON.items() if given.get(name, default) != default}
    lacking = [f"`{name}`" for name in LACKING if (decoding or {}).get(name) not in (None, (), [], 0, 0.0, 1)]
    prompt = str((decoding or {}).get("prompt") or "")
    literal = json.dumps(prompt).replace("`", "\\u0060") if prompt else ""  # no backquote ends the block of code
    return StockDecoding(arguments, literal, " and ".join(lacking), sampled)
