"""One call of a server that speaks the OpenAI protocol: tried again where that helps, fitted to what the server knows.

Servers differ: some know no `response_format`, some want `max_completion_tokens`, some no `temperature`. What a server
refuses is left out from then on. No answer is taken on trust: counts may be wrong, fields may be missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import RefinerUnansweredError
from .budget import Budget
from .openai_answers import BrokenAnswer, Said, said_by, said_in_stream
from .reasoning import ANSWER_TOKENS, THOUGHT_TOKENS, describe_cut_off, without_thought
from .secrets import ApiKey

ANSWER_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "caption",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"caption": {"type": "string", "description": "The caption, and nothing else."}},
            "required": ["caption"],
            "additionalProperties": False,
        },
    },
}
FORMATS: tuple[Mapping[str, Any] | None, ...] = (ANSWER_SCHEMA, {"type": "json_object"}, None)
"""How an answer is asked for, best first; a server that refuses one is asked in the next way."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the text, or why there is none; tokens read and written; whether the server is to blame; whether
    the answer ended before it was complete."""

    text: str | None
    problem: str | None = None
    read: int = 0
    written: int = 0
    seconds: float = 0.0
    failed: bool = False
    cut_off: bool = False


@dataclass
class Dialect:
    """How a server wants to be asked, as far as it is known; what is found out is kept from batch to batch.

    Args:
        format (`int`): Which of [`FORMATS`] it knows.
        length_name (`str`): What it calls the limit of an answer.
        temperature (`bool`): Whether it takes a temperature.
        stream_usage (`bool`): Whether it counts the tokens of a stream.
        thinks (`bool`): Whether the model reasons before it answers, and gets room for that.
    """

    format: int = 0
    length_name: str = "max_tokens"
    temperature: bool = True
    stream_usage: bool = True
    thinks: bool = False


@dataclass
class Caller:
    """Makes calls, many at a time.

    Args:
        client (`openai.AsyncOpenAI`): With its own retries switched off.
        model (`str`): The model's name.
        key (`ApiKey`): For taking it out of whatever the server says.
        budget (`Budget`): Shared by all calls.
        timeout (`float`): Seconds for one call, however slowly its answer drips.
        max_retries (`int`): How often a failed call is repeated.
        max_wait (`float`): The longest pause before a repetition, seconds. A server that asks for more is given up.
        dialect (`Dialect`): How the server wants to be asked; changed by what it says.
        max_output_tokens (`int`, *optional*): The longest answer, thoughts included. By default 200 tokens, and 8,192
            for a model that thinks.
        temperature (`float`, *optional*): `None` leaves it to the server.
        insists (`bool`): Whether the temperature was asked for, so that a server that refuses it is not asked without.
        reasoning_effort (`str`, *optional*): How long the model may think ("low", "high", ...).
        structured (`bool`): Ask for JSON.
        stream (`bool`): Receive the answer piece by piece.
        give_up_after (`int`): Calls that failed for good in a row, after which no other is begun.
    """

    client: Any
    model: str
    key: ApiKey
    budget: Budget
    timeout: float = 60.0
    max_retries: int = 5
    max_wait: float = 60.0
    dialect: Dialect = field(default_factory=Dialect)
    max_output_tokens: int | None = None
    temperature: float | None = 0.0
    insists: bool = False
    reasoning_effort: str | None = None
    structured: bool = True
    stream: bool = False
    give_up_after: int = 10
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._failed_in_a_row = 0
        self._not_before = 0.0
        self._fatal: str | None = None

    @property
    def limit(self) -> int:
        """The longest answer, in tokens."""
        return self.max_output_tokens or (THOUGHT_TOKENS if self.dialect.thinks else ANSWER_TOKENS)

    def body(self, messages: list[dict[str, Any]], limit: int | None = None) -> dict[str, Any]:
        """The request's JSON."""
        dialect = self.dialect
        body: dict[str, Any] = {"model": self.model, "messages": messages, dialect.length_name: limit or self.limit}
        if self.temperature is not None and dialect.temperature:
            body["temperature"] = self.temperature
        if self.reasoning_effort is not None:
            body["reasoning_effort"] = self.reasoning_effort
        answer_format = FORMATS[dialect.format] if self.structured else None
        if answer_format is not None:
            body["response_format"] = answer_format
        if self.stream:
            body["stream"] = True
            if dialect.stream_usage:
                body["stream_options"] = {"include_usage": True}
        return {**body, **self.extra}

    async def ask(self, messages: list[dict[str, Any]], name: str) -> Answer:
        """One answer. Never raises for a failure of one call.

        Args:
            messages (`list[dict[str, Any]]`): The chat.
            name (`str`): The answer's key, sent as `Idempotency-Key`: a server that heeds it charges a repetition
                once.

        Raises:
            RefinerUnansweredError: No call of this run can succeed (the key is wrong, the model does not exist).
        """
        limit = self.limit
        answer = await self._ask_within(limit, messages, name)
        if answer.cut_off and self.limit > limit:
            # It, or another call in the meantime, has shown that this model thinks: it gets room for that.
            limit = self.limit
            again = await self._ask_within(limit, messages, f"{name}-{limit}")
            return replace(again, read=answer.read + again.read, written=answer.written + again.written)
        return answer

    async def _ask_within(self, limit: int, messages: list[dict[str, Any]], name: str) -> Answer:
        read = _estimate(messages)
        if self._fatal is not None:
            raise RefinerUnansweredError(self._fatal)
        if self._failed_in_a_row >= self.give_up_after:
            return Answer(None, f"the server failed {self._failed_in_a_row} times in a row; no more calls were made")
        while (problem := self.budget.reserve(read, limit)) is not None:
            if not self.budget.under_way:
                return Answer(None, problem)
            # What calls under way have set aside is the worst case: most of it comes back.
            await asyncio.sleep(0.02)
        try:
            answer = await self._ask_until_answered(messages, name, limit)
        finally:
            self.budget.release(read, limit)
        self._failed_in_a_row = self._failed_in_a_row + 1 if answer.failed else 0
        return answer

    async def _ask_until_answered(self, messages: list[dict[str, Any]], name: str, limit: int) -> Answer:
        import openai

        problem, attempt = "no answer", 0
        while attempt <= self.max_retries:
            await self._pause()
            body = self.body(messages, limit)
            try:
                return await asyncio.wait_for(self._once(body, name, limit), self.timeout)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if self._adapt(error, body):
                    continue
                return Answer(None, self._said(error))
            except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
                self._fatal = f"The server refused: {self._said(error)}"
                raise RefinerUnansweredError(self._fatal) from None
            except openai.RateLimitError as error:
                problem = self._said(error)
                if getattr(error, "code", None) == "insufficient_quota":
                    self._fatal = f"The account has no quota left: {problem}"
                    raise RefinerUnansweredError(self._fatal) from None
                wait = self._wait(error, attempt)
                if wait > self.max_wait:
                    return Answer(None, f"{problem}; it asks to wait {wait:.0f} s", failed=True)
                # All calls wait: the limit is the account's, not this call's.
                self._not_before = max(self._not_before, time.monotonic() + wait)
            except (openai.APITimeoutError, asyncio.TimeoutError, TimeoutError):
                problem = f"the server did not answer within {self.timeout:g} s"
                await asyncio.sleep(self._backoff(attempt))
            except (openai.APIError, BrokenAnswer, ValueError) as error:
                # ValueError: a body that is not JSON, or JSON cut off.
                problem = self._said(error)
                wait = self._wait(error, attempt)
                if wait > self.max_wait or not _worth_repeating(error):
                    return Answer(None, problem, failed=True)
                await asyncio.sleep(wait)
            attempt += 1
        return Answer(None, f"{problem} ({attempt} tries)", failed=True)

    async def _once(self, body: dict[str, Any], name: str, limit: int) -> Answer:
        started = time.perf_counter()
        headers = {"Idempotency-Key": name}
        if self.stream:
            stream = await self.client.chat.completions.create(**body, extra_headers=headers)
            said = await said_in_stream(stream)
        else:
            # The client's plain `post`: what is sent and what comes back are checked here, and building and reading
            # typed objects took a third of the time of a call.
            response = await self.client.post(
                "/chat/completions", cast_to=object, body=body, options={"headers": headers}
            )
            said = said_by(response)
        return self.answer(said, time.perf_counter() - started, limit)

    def answer(self, said: Said, seconds: float = 0.0, limit: int | None = None) -> Answer:
        """What the server said as an answer: counted, without the key, and with what is wrong with it."""
        text = self.key.redact(said.text)
        # A server that does not count, or counts nonsense, is charged by an estimate.
        written = len((text + said.thoughts).encode()) // 3 + 1 if said.written is None else said.written
        read = 0 if said.read is None else said.read
        self.budget.spend(read, written)
        self.dialect.thinks = self.dialect.thinks or said.thought
        # A server may call an answer complete that its thoughts have left no room for.
        lost_in_thought = said.thought and not without_thought(text)
        problem, cut_off = None, False
        if said.refusal:
            problem = "the model refused"
        elif said.finish == "content_filter":
            problem = "the server's content filter withheld the answer"
        elif said.finish == "length" or lost_in_thought:
            problem, cut_off = describe_cut_off(limit or self.limit, lost_in_thought), True
        elif not text.strip():
            problem = "the answer is empty"
        return Answer(text, problem, read, written, seconds, cut_off=cut_off)

    async def _pause(self) -> None:
        while (wait := self._not_before - time.monotonic()) > 0:
            # A little apart, so that all of them do not come back in the same instant.
            await asyncio.sleep(wait + random.uniform(0, 0.05))

    def _adapt(self, error: Exception, body: Mapping[str, Any]) -> bool:
        """Leave out what the server says it does not know. Returns whether there was something to leave out."""
        said, dialect = str(error).lower(), self.dialect
        if "max_completion_tokens" in said and "max_tokens" in body:
            dialect.length_name = "max_completion_tokens"
            return True
        if "temperature" in said and "temperature" in body and not self.insists:
            dialect.temperature = False
            return True
        if "stream_options" in said and "stream_options" in body:
            dialect.stream_usage = False
            return True
        if "response_format" in body and any(word in said for word in ("response_format", "json", "schema")):
            # Another call may have found that out in the meantime: then this one only has to be made anew.
            if body["response_format"] is FORMATS[dialect.format]:
                dialect.format += 1
            return True
        return False

    def _wait(self, error: Exception, attempt: int) -> float:
        """Seconds until the next try: what the server asks for, or longer and longer."""
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        asked = retry_after(headers)
        return self._backoff(attempt) if asked is None else asked

    def _backoff(self, attempt: int) -> float:
        return min(self.max_wait, 0.25 * 2**attempt) * random.uniform(0.5, 1.0)

    def _said(self, error: Exception) -> str:
        """What an error says, on one line, without the key."""
        status = getattr(error, "status_code", None)
        text = " ".join(self.key.redact(str(error)).split())[:300]
        if isinstance(error, json.JSONDecodeError):
            text = "the server's answer is broken JSON"
        return f"{status}: {text}" if status and str(status) not in text else text


def _worth_repeating(error: Exception) -> bool:
    status = getattr(error, "status_code", None)
    return status is None or status >= 500 or status in (408, 409, 425, 429)


def _estimate(messages: list[dict[str, Any]]) -> int:
    """The most tokens that messages can be: one for every two bytes of text, and 1,500 for a picture."""
    total = 0
    for message in messages:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            total += len(part["text"].encode()) // 2 + 8 if part["type"] == "text" else 1500
    return total


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as `retry-after-ms` or `Retry-After` say (RFC 9110: seconds, or a date); `None` without them."""
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, float(headers.get("retry-after-ms", "")) / 1000)
    value = headers.get("retry-after", "")
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
