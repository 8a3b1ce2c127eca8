"""What a server that speaks the OpenAI protocol said, read without trust in its shape."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from .answers import THOUGHT


class BrokenAnswer(Exception):
    """An answer that is no answer; worth another try."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a server said, as far as it could be read."""

    text: str
    refusal: str | None = None
    finish: str | None = None
    read: int | None = None
    written: int | None = None
    thoughts: str = ""
    thought_tokens: int = 0

    @property
    def thought(self) -> bool:
        """Whether the model reasoned before it answered."""
        return self.thought_tokens > 0 or bool(self.thoughts) or THOUGHT.search(self.text) is not None


def said_by(response: Any) -> Said:
    """A chat completion, an object or parsed JSON, read without trust in its shape.

    Raises:
        BrokenAnswer: It has no message.
    """
    choices = _field(response, "choices")
    if not isinstance(choices, list) or not choices:
        raise BrokenAnswer("the server's answer has no message")
    message = _field(choices[0], "message")
    content, refusal = _field(message, "content"), _field(message, "refusal")
    if message is None or (content is not None and not isinstance(content, str)):
        raise BrokenAnswer("the server's answer has no message of text")
    usage = _field(response, "usage")
    return Said(
        content or "",
        refusal if isinstance(refusal, str) else None,
        _finish(choices[0]),
        *_usage(usage),
        _thoughts(message),
        _thought_tokens(usage),
    )


async def said_in_stream(stream: Any) -> Said:
    import openai

    text, refusal, thoughts, finish, usage = "", "", "", None, None
    try:
        async for chunk in stream:
            usage = _field(chunk, "usage") or usage
            for choice in _field(chunk, "choices") or ():
                delta = _field(choice, "delta")
                content, refused = _field(delta, "content"), _field(delta, "refusal")
                text += content if isinstance(content, str) else ""
                refusal += refused if isinstance(refused, str) else ""
                thoughts += _thoughts(delta)
                finish = _finish(choice) or finish
    except (openai.APIError, asyncio.CancelledError):
        raise
    except Exception as error:
        # What breaks while a stream is read is the transport's own error, of a package that is not ours to know.
        raise BrokenAnswer(f"the stream broke off ({type(error).__name__})") from None
    if finish is None:
        raise BrokenAnswer("the stream ended before the answer did")
    return Said(text, refusal, finish, *_usage(usage), thoughts, _thought_tokens(usage))


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def _finish(choice: Any) -> str | None:
    finish = _field(choice, "finish_reason")
    return finish if isinstance(finish, str) else None


def _thoughts(message: Any) -> str:
    """What a model thought, where the server shows it beside the answer."""
    shown = _field(message, "reasoning_content") or _field(message, "reasoning")
    return shown if isinstance(shown, str) else ""


def _usage(usage: Any) -> tuple[int | None, int | None]:
    """Tokens read and written, where the server counts them and the counts can be."""
    counts = []
    for name in ("prompt_tokens", "completion_tokens"):
        value = _field(usage, name)
        counts.append(value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None)
    return counts[0], counts[1]


def _thought_tokens(usage: Any) -> int:
    value = _field(_field(usage, "completion_tokens_details"), "reasoning_tokens")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
