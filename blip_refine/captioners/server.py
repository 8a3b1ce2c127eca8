"""`openai:MODEL@URL`: a vision model behind a server that speaks the OpenAI protocol (OpenAI, vLLM, Ollama, ...)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from ..caption_prompts import PromptChoice, PromptTemplate
from ..caption_stream import CaptionedImage, CaptionStream
from ..data.images import MAX_PIXELS
from ..errors import CaptionerUnansweredError, ConfigurationError, RefinerError, RefinerUnansweredError
from ..inputs import ImageSource
from ..models.other_captioners import DEFAULT_INSTRUCTION
from ..prepared import PreparedImage, prepare_image
from ..records import Caption, RefineRequest
from ..refine.base import Proposal, Refiner, RefinerLike
from ..refine.cache import answer_key
from ..refine.counts import plain_reason
from ..refine.openai import OpenAIRefiner, picture_url
from ..url_images import UrlLimits
from .local import refuse_unknown
from .spec import NO_CAPTION, CaptionerSpec, refuse_decoding


class VisionServer(OpenAIRefiner):
    """Asks what is in a picture, with the calls, retries, budget and secrets of [`OpenAIRefiner`].

    A request holds the prompt in the place of a draft, and the picture.

    Args:
        model (`str`): The model's name at the server.
        **options: Those of [`OpenAIRefiner`] that concern the calls.
    """

    def __init__(self, model: str, **options: Any):
        super().__init__(model, guards=None, structured=False, send_image=True, **options)

    def messages_of(self, request: RefineRequest, feedback: str | None) -> list[dict[str, Any]]:
        """One question with its picture."""
        assert request.image is not None
        picture = {"type": "image_url", "image_url": {"url": picture_url(request.image, self.image_size)}}
        return [{"role": "user", "content": [{"type": "text", "text": request.draft}, picture]}]

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "server": self.base_url,
            "temperature": self.temperature,
            "max_new_tokens": self.max_output_tokens,
            "reasoning_effort": self.reasoning_effort,
            "image_size": self.image_size,
        }

    def key(self, request: RefineRequest, feedback: str | None = None) -> str:
        return answer_key(self.name, self.settings(), request)

    def check(self) -> None:
        """Ask about one gray picture.

        Raises:
            ConfigurationError: The server does not answer, or refuses the key, the model or pictures.
        """
        probe = copy.copy(self)
        probe.max_retries = min(self.max_retries, 2)
        gray = Image.new("RGB", (64, 64), (128, 128, 128))
        try:
            _, proposal = next(iter(probe.propose_each([RefineRequest(DEFAULT_INSTRUCTION, image=gray)], [None])))
            problem = None if proposal.is_answer or proposal.raw is not None else proposal.reason
        except RefinerError as error:
            problem = str(error)
        if problem is not None:
            raise ConfigurationError(
                f"{self.name} does not answer at {self.base_url or 'the server of OpenAI'}: {plain_reason(problem)}. "
                f"Check the server's address, the model's name, whether it takes images, and the key in "
                f"{self.key_of_account.variable}."
            )


class ServerCaptioner(CaptionStream):
    """A captioner behind a server. The server is asked about one gray picture when this is made.

    Args:
        spec ([`CaptionerSpec`]): Its name. Options that stand in it win over arguments.
        prompt (`str`, *optional*): What the model is asked about each picture.
        prompt_template (`str`, *optional*): A prompt per image, from the columns that are known of it.
        changes (`Mapping[str, Any]`, *optional*): `max_new_tokens`, by default as `max_output_tokens` of
            [`OpenAIRefiner`]. An answer that is cut off is no caption. Other decoding is the server's.
        decoding (`str`, *optional*): Refused: how to decode is the server's business.
        prices (`tuple[float, float]`, *optional*): US dollars for a million tokens read, and for a million written.
        api_key_env (`str`, *optional*): The environment variable that holds the key; defaults to `OPENAI_API_KEY`.
        batch_size (`int`, defaults to 8): Raised to the number of calls under way at once (`concurrency`, 32).
        refiner, num_workers, on_error, abstain_below, blocked_words, url_limits, refiner_timeout: As in
            [`CaptionPipeline`].

    Raises:
        ConfigurationError: The server does not answer, or an option has no effect with a server.
    """

    def __init__(
        self,
        spec: CaptionerSpec,
        *,
        prompt: str | None = None,
        prompt_template: str | None = None,
        changes: Mapping[str, Any] | None = None,
        decoding: Any = None,
        prices: tuple[float, float] | None = None,
        api_key_env: str | None = None,
        batch_size: int = 8,
        refiner: RefinerLike | None = None,
        num_workers: int | None = None,
        on_error: str = "record",
        abstain_below: float | None = None,
        blocked_words: Sequence[str] = (),
        url_limits: UrlLimits | None = None,
        refiner_timeout: float | None = None,
        dtype: Any = None,
        **options: Any,
    ):
        given = {name: value for name, value in (changes or {}).items() if value is not None}
        asked = {name: value for name, value in {"decoding": decoding, **given}.items() if value is not None}
        # Sampling implies these: what was typed is named first.
        first = sorted(asked, key=("num_beams", "do_sample").__contains__)
        refuse_decoding(spec, [name for name in first if name != "max_new_tokens"])
        if dtype not in (None, "float32"):
            raise ConfigurationError(f"--dtype has no effect with the captioner {spec.name}: leave it out.")
        if abstain_below is not None:
            raise ConfigurationError(
                f"--abstain-below has no effect with the captioner {spec.name}: its captions have no confidence."
            )
        refuse_unknown(spec, options, ServerCaptioner.__init__)
        written = {"prices": prices, "api_key_env": api_key_env, **given, **spec.options}
        self.prompt = written.pop("prompt", None) or prompt or DEFAULT_INSTRUCTION
        longest = written.pop("max_new_tokens", None)
        self.server = VisionServer(spec.model, base_url=spec.url, max_output_tokens=longest, **written)
        super().__init__(
            spec.name,
            PromptChoice(self.prompt, None if prompt_template is None else PromptTemplate(prompt_template), None),
            refiner=refiner,
            batch_size=max(batch_size, self.server.concurrency),
            num_workers=num_workers,
            on_error=on_error,
            abstain_below=None,
            blocked_words=blocked_words,
            url_limits=url_limits,
            refiner_timeout=refiner_timeout,
        )
        if self.refiner is not None:
            self.check_refiner(self.refiner)
        self.server.check()

    def check_refiner(self, refiner: Refiner) -> None:
        """Refuse a refiner that needs several captions per image.

        Args:
            refiner ([`Refiner`]): What is to work on the captions.

        Raises:
            ConfigurationError: A server gives one caption per image.
        """
        if refiner.needs_candidates > 1:
            raise ConfigurationError(
                f"The refiner {refiner.name!r} needs {refiner.needs_candidates} captions per image, and {self.name} "
                "gives one. Choose a refiner that works on one caption, such as rules."
            )

    def describe(self) -> dict[str, Any]:
        """What results say of this captioner."""
        server = {} if self.server.base_url is None else {"server": self.server.base_url}
        asked = ("temperature", "reasoning_effort")
        decoding = {name: value for name in asked if (value := getattr(self.server, name)) is not None}
        if self.server.max_output_tokens is not None:
            decoding["max_new_tokens"] = self.server.max_output_tokens
        return {"model": self.name, **server, "prompt": self.prompt, "decoding": decoding}

    def settings(self) -> dict[str, Any]:
        """All that can change a caption besides the image."""
        return {
            **self.describe(),
            "image_size": self.server.image_size,
            **({} if self.prompts.template is None else {"prompt_template": self.prompts.template.text}),
            "refiner": None if self.refiner is None else {"name": self.refiner.name, **self.refiner.settings()},
            "blocked_words": list(self.review.blocked_words),
        }

    def prepare(
        self,
        source: ImageSource,
        skip: Callable[[ImageSource, str], bool] | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
    ) -> PreparedImage:
        """Read, decode and shrink one image. See [`CaptionStream.prepare`]."""
        prompt = self.prompt if source.error is not None else self.prompt_of(source)
        own = None if prompt == self.prompt else prompt
        prepared = prepare_image(source, None, skip=skip, max_pixels=max_pixels, own_prompt=own)
        if isinstance(prepared.pixels, Image.Image):
            # At the size at which it is sent: whole photos of many calls would fill the memory.
            picture = prepared.pixels.copy()
            picture.thumbnail((self.server.image_size, self.server.image_size))
            prepared = replace(prepared, pixels=picture)
        return replace(prepared, prompt=prompt)

    def _caption(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """The server's captions of a batch; what could not be decoded or was not answered keeps its place."""
        requests: dict[int, RefineRequest] = {
            place: RefineRequest(prepared.prompt, image=prepared.pixels)  # type: ignore[arg-type]
            for place, (_, prepared) in enumerate(batch)
            if prepared.error is None
        }
        places, answers = list(requests), {}
        try:
            for number, proposal in self.server.propose_each(list(requests.values()), [None] * len(requests)):
                answers[places[number]] = proposal
        except RefinerUnansweredError as error:
            raise CaptionerUnansweredError(f"{self.name}: {error}") from error
        return [
            CaptionedImage(
                source,
                Caption("", "", image_id=source.image_id, error=str(prepared.error))
                if prepared.error is not None
                else _as_caption(source.image_id, answers[place]),
                prepared.digest,
            )
            for place, (source, prepared) in enumerate(batch)
        ]


def _as_caption(image_id: str, proposal: Proposal) -> Caption:
    facts: dict[str, Any] = {"image_id": image_id}
    if proposal.raw is not None:
        facts |= {"tokens": proposal.tokens, "cost": proposal.cost}
    if proposal.text is None:
        return Caption("", "", error=f"{NO_CAPTION}{proposal.reason}.", **facts)
    return Caption(proposal.text, proposal.text, candidates=(proposal.text,), **facts)
