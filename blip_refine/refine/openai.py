"""A model behind an HTTP server that speaks the OpenAI protocol: OpenAI itself, vLLM, Ollama, llama.cpp, ..."""

from __future__ import annotations

import asyncio
import base64
import copy
import io
import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ConfigurationError, ImageDecodeError, MissingExtraError, RefinerError, RefinerUnansweredError
from ..records import ImageInput, RefineRequest
from .base import Proposal
from .budget import Budget
from .counts import advice, plain_reason
from .language import PromptedRefiner
from .openai_calls import Answer, Caller, Dialect
from .reasoning import (
    ANSWER_TOKENS,
    CUT_OFF,
    check_effort,
    check_max_output_tokens,
    check_temperature,
    is_openai_reasoning,
    is_reasoning,
)
from .secrets import ApiKey, without_credentials

if TYPE_CHECKING:
    from .cache import AnswerCache
    from .guards import Guards
    from .prompts import PromptTemplate, Style

KEY_VARIABLE = "OPENAI_API_KEY"


class OpenAIRefiner(PromptedRefiner):
    """Asks a server, many requests at a time (extra `openai`).

    Args:
        model (`str`): The model's name, as the server knows it.
        base_url (`str`, *optional*): The server, up to `/v1`. Defaults to the variable `OPENAI_BASE_URL`, or OpenAI.
        api_key_env (`str`, *optional*): The environment variable that holds the key; defaults to `OPENAI_API_KEY`. The
            key must be there, unless the server is another than OpenAI's.
        prompt (`str`, `os.PathLike` or `PromptTemplate`, defaults to `"refine"`): A template, its name, or a path.
        variables, style, instruction, guards, strict, cache, retries: As in [`PromptedRefiner`].
        concurrency (`int`, defaults to 32): Calls under way at once.
        timeout (`float`, defaults to 60): Seconds for one call.
        max_retries (`int`, defaults to 5): How often a call is repeated that failed (429, 5xx, time-out, broken JSON),
            after what `Retry-After` says or longer and longer pauses.
        max_wait (`float`, defaults to 60): The longest such pause, seconds.
        max_output_tokens (`int`, *optional*): The longest answer in tokens, thoughts included. By default 200, and
            8,192 for a model that reasons: known by its name (o1, o3, gpt-5, deepseek-r1, ...), or because an answer
            shows it. An answer that is cut off is none: the draft stands, and counts as unanswered.
        max_tokens (`int`, *optional*): The most tokens that this refiner may use in its life; then drafts are kept.
        max_cost (`float`, *optional*): The same in US dollars; needs `prices`.
        prices (`tuple[float, float]`, *optional*): US dollars for a million tokens read, and for a million written.
        temperature (`float` or `"auto"`, *optional*, defaults to `"auto"`): `None` leaves it to the server. "auto" is
            0, left out where the model reasons or the server refuses it.
        reasoning_effort (`str`, *optional*): How long the model may think: "none", "minimal", "low", "medium", "high"
            or "xhigh". By default the server's choice.
        structured (`bool`, defaults to `True`): Ask for JSON with one field; a server that cannot is asked for text.
        stream (`bool`, defaults to `False`): Receive answers piece by piece.
        send_image (`bool`, defaults to `False`): Let the model see the picture.
        image_size (`int`, defaults to 768): The picture's longer side as it is sent, in pixels.
        batch (`bool`, defaults to `False`): Send all requests as one job of the Batch API and wait for it (up to a
            day, at half the price at OpenAI). Needs `cache`, which remembers the job should this process die.
        batch_poll (`float`, defaults to 30): Seconds between looks at the job.
        extra (`Mapping[str, Any]`, *optional*): More fields of the request's JSON.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str | None = None,
        prompt: str | os.PathLike | PromptTemplate = "refine",
        variables: Mapping[str, Any] | None = None,
        style: str | Style | None = None,
        instruction: str | None = None,
        guards: Guards | str | bool | None = True,
        strict: bool = False,
        cache: AnswerCache | str | os.PathLike | None = None,
        retries: int = 1,
        concurrency: int = 32,
        timeout: float = 60.0,
        max_retries: int = 5,
        max_wait: float = 60.0,
        max_output_tokens: int | None = None,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        prices: tuple[float, float] | None = None,
        temperature: float | str | None = "auto",
        reasoning_effort: str | None = None,
        structured: bool = True,
        stream: bool = False,
        send_image: bool = False,
        image_size: int = 768,
        batch: bool = False,
        batch_poll: float = 30.0,
        extra: Mapping[str, Any] | None = None,
    ):
        super().__init__(
            model,
            prompt=prompt,
            variables=variables,
            style=style,
            instruction=instruction,
            guards=guards,
            strict=strict,
            cache=cache,
            retries=retries,
        )
        if concurrency < 1 or timeout <= 0 or max_retries < 0 or image_size < 1:
            raise ConfigurationError(
                "`concurrency`, `timeout` and `image_size` must be positive, `max_retries` not negative."
            )
        check_max_output_tokens(max_output_tokens)
        check_effort(reasoning_effort)
        asked_temperature = check_temperature(None if temperature == "auto" else temperature)
        if batch and self.cache is None:
            raise ConfigurationError("`batch` needs a `cache`: it remembers the job, should this process die.")
        if batch and (stream or max_tokens or max_cost):
            raise ConfigurationError("A batch job cannot be streamed, and no budget can stop it.")
        url = base_url or os.environ.get("OPENAI_BASE_URL")
        if url is not None and (urlsplit(url).username or urlsplit(url).password):
            raise ConfigurationError("`base_url` must not hold a user name or a key; give the key by `api_key_env`.")
        if url is not None and urlsplit(url).scheme not in ("http", "https"):
            raise ConfigurationError(
                f"`base_url` must begin with http:// or https://, not {without_credentials(url)!r}."
            )
        self._url = url
        self.base_url = None if url is None else without_credentials(url)
        self.key_of_account = ApiKey(api_key_env or KEY_VARIABLE, required=url is None or api_key_env is not None)
        self.budget = Budget(max_tokens, max_cost, prices)
        self.looks_at_image = self.send_image = send_image
        self.concurrency, self.timeout, self.max_retries, self.max_wait = concurrency, timeout, max_retries, max_wait
        thinks = is_reasoning(model) or reasoning_effort not in (None, "none")
        self.dialect = Dialect(
            length_name="max_completion_tokens" if is_openai_reasoning(model) else "max_tokens", thinks=thinks
        )
        self.insists = asked_temperature is not None
        self.temperature = 0.0 if temperature == "auto" and not thinks else asked_temperature
        self.max_output_tokens, self.reasoning_effort = max_output_tokens, reasoning_effort
        self.structured, self.stream, self.image_size = structured, stream, image_size
        self.batch, self.batch_poll, self.extra = batch, batch_poll, dict(extra or {})
        self.name = f"openai:{model}"

    def settings(self) -> dict[str, Any]:
        settings = {
            **super().settings(),
            "server": self.base_url,
            "temperature": self.temperature,
            # The name and the value of earlier releases, so that answers paid for then are still found.
            "max_answer_tokens": ANSWER_TOKENS if self.max_output_tokens is None else self.max_output_tokens,
            "structured": self.structured,
            "image_size": self.image_size if self.send_image else None,
            "extra": self.extra,
        }
        return settings if self.reasoning_effort is None else {**settings, "reasoning_effort": self.reasoning_effort}

    def check(self) -> None:
        """Ask the server one short question.

        Raises:
            RefinerUnansweredError: It does not answer, or refuses the key or the model.
        """
        probe = copy.copy(self)
        # One question at the start does not need the patience of a long run.
        probe.batch, probe.max_retries = False, min(self.max_retries, 2)
        where = self.base_url or "the server of OpenAI"
        try:
            _, proposal = next(probe.propose_each([RefineRequest("a dog runs on a beach")], [None]))
            problem = None if proposal.is_answer else proposal.reason
        except RefinerError as error:
            problem = str(error)
        if problem is not None and problem.startswith(CUT_OFF):
            raise RefinerUnansweredError(f"{self.name} does not answer at {where}: {problem}. {advice(problem)}.")
        if problem is not None:
            raise RefinerUnansweredError(
                f"{self.name} does not answer at {where}: {plain_reason(problem)}. Check the server "
                f"(OPENAI_BASE_URL), the model's name, and the key in {self.key_of_account.variable}."
            )

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        answers = dict(self.propose_each(requests, feedback))
        return [answers[place] for place in range(len(requests))]

    def propose_each(
        self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]
    ) -> Iterator[tuple[int, Proposal]]:
        require_openai()
        if self.batch:
            from .openai_batch import run_batch

            yield from run_batch(self, requests, feedback)
            return
        arrived: queue.SimpleQueue[tuple[int, Answer] | BaseException | None] = queue.SimpleQueue()
        # A loop of its own in a thread of its own: this works inside of a notebook's running loop, too.
        stop = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(requests, feedback, arrived, stop), name="blip-refine-openai", daemon=True
        )
        thread.start()
        try:
            while (item := arrived.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                place, answer = item
                yield place, self.proposal_of(answer)
        finally:
            stop.set()
            thread.join()

    def proposal_of(self, answer: Answer) -> Proposal:
        """A server's answer as a proposal. A call that failed has no `raw`: it is not kept, and is asked again."""
        if answer.text is None:
            return Proposal(
                None, reason=answer.problem, prompt_id=self.prompt.prompt_id, latency=answer.seconds or None
            )
        facts: dict[str, Any] = {
            "tokens": answer.read + answer.written,
            "cost": self.budget.price(answer.read, answer.written),
            "latency": answer.seconds,
        }
        if answer.cut_off:
            return self._cut_off(answer.text, answer.problem or CUT_OFF, **facts)
        if answer.problem is not None:
            return Proposal(None, answer.text, answer.problem, self.prompt.prompt_id, **facts)
        return self._proposal(answer.text, **facts)

    def _run(
        self,
        requests: Sequence[RefineRequest],
        feedback: Sequence[str | None],
        arrived: queue.SimpleQueue,
        stop: threading.Event,
    ) -> None:
        openai = require_openai()
        try:
            asyncio.run(self._ask_all(requests, feedback, arrived, stop))
        except openai.OpenAIError as error:
            text = self.key_of_account.redact(str(error))
            arrived.put(RefinerUnansweredError(f"The server could not be asked: {text}"))
        except BaseException as error:
            arrived.put(error)
        else:
            arrived.put(None)

    async def _ask_all(
        self,
        requests: Sequence[RefineRequest],
        feedback: Sequence[str | None],
        arrived: queue.SimpleQueue,
        stop: threading.Event,
    ) -> None:
        async with self.client() as client:
            caller = self.caller(client)
            places = iter(range(len(requests)))

            async def work() -> None:
                # Few workers rather than a task for each request: pictures are encoded only when their turn comes.
                for place in places:
                    request, reason = requests[place], feedback[place]
                    try:
                        messages = await asyncio.to_thread(self.messages_of, request, reason)
                    except ImageDecodeError as error:
                        arrived.put((place, Answer(None, f"the picture cannot be sent: {error}")))
                        continue
                    arrived.put((place, await caller.ask(messages, self.key(request, reason))))

            async def watch() -> None:
                while not stop.is_set():
                    await asyncio.sleep(0.05)

            workers = [asyncio.create_task(work()) for _ in range(min(self.concurrency, len(requests)))]
            done: asyncio.Future[Any] = asyncio.gather(*workers)
            watcher: asyncio.Future[Any] = asyncio.create_task(watch())
            try:
                await asyncio.wait([done, watcher], return_when=asyncio.FIRST_COMPLETED)
                if done.done():
                    # Raises what a worker raised.
                    done.result()
            finally:
                for task in (*workers, watcher):
                    task.cancel()
                await asyncio.gather(*workers, watcher, return_exceptions=True)

    def client(self, asynchronous: bool = True) -> Any:
        """A new client of the server.

        Raises:
            MissingExtraError: The `openai` package is not installed.
        """
        openai = require_openai()
        kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
        key = self.key_of_account.reveal()
        return kind(api_key=key, base_url=self._url, timeout=self.timeout, max_retries=0 if asynchronous else 5)

    def caller(self, client: Any) -> Caller:
        """What makes the calls of this refiner with `client`."""
        return Caller(
            client=client,
            model=self.model,
            key=self.key_of_account,
            budget=self.budget,
            timeout=self.timeout,
            max_retries=self.max_retries,
            max_wait=self.max_wait,
            dialect=self.dialect,
            max_output_tokens=self.max_output_tokens,
            temperature=self.temperature,
            insists=self.insists,
            reasoning_effort=self.reasoning_effort,
            structured=self.structured,
            stream=self.stream,
            extra=self.extra,
        )

    def messages_of(self, request: RefineRequest, feedback: str | None) -> list[dict[str, Any]]:
        """The chat of one request, with the picture where it is to be sent."""
        shown = self.send_image and request.image is not None
        messages: list[dict[str, Any]] = list(self._messages(request, feedback, shown))
        if shown and request.image is not None:
            picture = {"type": "image_url", "image_url": {"url": picture_url(request.image, self.image_size)}}
            messages[-1] = {**messages[-1], "content": [{"type": "text", "text": messages[-1]["content"]}, picture]}
        return messages

    def __repr__(self) -> str:
        return f"OpenAIRefiner({self.model!r}, base_url={self.base_url!r}, key={self.key_of_account!r})"


def require_openai() -> Any:
    """The `openai` package.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingExtraError("openai", "openai", "ask a server that speaks the OpenAI protocol") from error
    return openai


def picture_url(image: ImageInput, longest: int) -> str:
    """A picture as a `data:` URL: upright JPEG, its longer side at most `longest` pixels, without its metadata."""
    from ..data.images import load_image

    picture = load_image(image, target_size=longest).copy()
    picture.thumbnail((longest, longest))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
