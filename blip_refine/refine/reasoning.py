"""Models that think before they answer: how they are told from others, and how much room they get."""

from __future__ import annotations

import re

from ..errors import ConfigurationError
from .answers import THOUGHT

ANSWER_TOKENS = 200
"""Longest answer of a model that does not think, in tokens: several times the longest caption."""

THOUGHT_TOKENS = 8192
"""Longest answer of a server's model that thinks, thoughts included. Providers count thoughts as output."""

LOCAL_THOUGHT_TOKENS = 2048
"""Room for the thoughts of a local model, besides its answer."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

CUT_OFF = "cut off"
"""What the reason of every answer begins with that ended before it was complete."""

_OPENAI = re.compile(r"(?:^|[/:])(?:o[1-9](?=$|[-.:])|gpt-(?:[5-9]|\d\d)(?!\d)(?!\S*-chat))", re.IGNORECASE)
_OTHERS = re.compile(r"deepseek-r\d|\bqwq\b|gpt-oss|magistral|thinking|reason(?:er|ing)", re.IGNORECASE)


def is_openai_reasoning(model: str) -> bool:
    """Whether a name is that of an OpenAI model that reasons (o1, o3, o4-mini, gpt-5, ...): these refuse `max_tokens`
    and `temperature`."""
    return _OPENAI.search(model) is not None


def is_reasoning(model: str) -> bool:
    """Whether a model is known by its name to think before it answers."""
    return is_openai_reasoning(model) or _OTHERS.search(model) is not None


def without_thought(text: str) -> str:
    """An answer without what stands between `<think>` and `</think>`; an unclosed thought goes to the end."""
    return THOUGHT.sub("", text).strip()


def describe_cut_off(limit: int, thinking: bool) -> str:
    """The reason of an answer that was cut off."""
    when = " while the model was still reasoning" if thinking else ""
    return f"{CUT_OFF}{when} (limit {limit} tokens)"


def check_effort(effort: str | None) -> None:
    """Refuse a reasoning effort that no model has.

    Raises:
        ConfigurationError: It is none of [`EFFORTS`].
    """
    if effort is not None and effort not in EFFORTS:
        raise ConfigurationError(f"`reasoning_effort` must be one of {', '.join(EFFORTS)}, not {effort!r}.")


def check_max_output_tokens(limit: int | None) -> None:
    """Refuse a limit that leaves no room.

    Raises:
        ConfigurationError: It is not a positive whole number.
    """
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise ConfigurationError(f"`max_output_tokens` must be a whole number of at least 1, not {limit!r}.")


def check_temperature(temperature: object) -> float | None:
    """A temperature as a number; `None` stays.

    Raises:
        ConfigurationError: It is neither `None` nor a number from 0 to 2.
    """
    if temperature is None:
        return None
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature <= 2:
        raise ConfigurationError(f"A refiner's `temperature` must be a number from 0 to 2, not {temperature!r}.")
    return float(temperature)
