"""`hf:MODEL`: a captioner of another family, run here by stock `transformers`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..caption_prompts import PromptChoice, PromptTemplate
from ..caption_stream import CaptionedImage, CaptionStream
from ..data.images import MAX_PIXELS
from ..errors import ConfigurationError
from ..inputs import ImageSource
from ..models.candidates import add_candidates, with_candidates
from ..models.decoding import DecodedImage, DecodingOptions
from ..models.device import best_device, resolve_dtype, usable_device
from ..models.other_captioners import OtherCaptioner, load_other_captioner
from ..models.other_decoding import OtherCaption, caption_pictures, check_captioner, stock_decoding
from ..pipeline import weights_fingerprint
from ..prepared import PreparedImage, prepare_image
from ..records import Caption
from ..refine.answers import clean_answer
from ..refine.base import RefinerLike, as_refiner
from ..url_images import UrlLimits
from .spec import NO_CAPTION, CaptionerSpec


class HubCaptioner(CaptionStream):
    """A captioner of another family, with its prompt, decoding and refiner.

    Args:
        captioner ([`OtherCaptioner`]): The loaded model.
        name (`str`): What it is called in results.
        prompt (`str`, *optional*): What the model is asked or continues; by default that of its family: "<CAPTION>"
            for Florence-2, a short instruction for chat models, nothing for GIT and ViT-GPT2.
        prompt_template (`str`, *optional*): A prompt per image, from the columns that are known of it.
        decoding ([`DecodingOptions`] or `str`, *optional*): How to decode; by default as the model's own
            `generation_config.json` says, without sampling.
        changes (`Mapping[str, Any]`, *optional*): Single fields of the decoding that are to differ.
        batch_size (`int`, defaults to 8): Images the model is given at once.
        refiner, num_workers, on_error, abstain_below, blocked_words, url_limits, refiner_timeout: As in
            [`CaptionPipeline`].

    Raises:
        ConfigurationError: The model takes no prompt, or the decoding is not one of stock `generate`.
        ModelError: Model, processor and prompt do not go together.
    """

    def __init__(
        self,
        captioner: OtherCaptioner,
        name: str,
        *,
        prompt: str | None = None,
        prompt_template: str | None = None,
        decoding: DecodingOptions | str | None = None,
        changes: Mapping[str, Any] | None = None,
        batch_size: int = 8,
        refiner: RefinerLike | None = None,
        num_workers: int | None = None,
        on_error: str = "record",
        abstain_below: float | None = None,
        blocked_words: Sequence[str] = (),
        url_limits: UrlLimits | None = None,
        refiner_timeout: float | None = None,
    ):
        if (prompt or prompt_template) and not captioner.takes_prompt:
            raise ConfigurationError(f"{name} ({captioner.family}) takes no prompt: leave it out.")
        self.captioner = captioner
        self.prompt = captioner.default_prompt if prompt is None else prompt
        super().__init__(
            name,
            PromptChoice(self.prompt, None if prompt_template is None else PromptTemplate(prompt_template), None),
            refiner=refiner,
            batch_size=batch_size,
            num_workers=num_workers,
            on_error=on_error,
            abstain_below=abstain_below,
            blocked_words=blocked_words,
            url_limits=url_limits,
            refiner_timeout=refiner_timeout,
        )
        self.decoding = stock_decoding(captioner, decoding, changes)
        self._wider: DecodingOptions | None = None
        self._widen(1 if self.refiner is None else self.refiner.needs_candidates)
        check_captioner(captioner, name, self.prompt)

    def _widen(self, needed: int) -> None:
        if needed > 1:
            base = self.decoding or stock_decoding(self.captioner, None, {"num_beams": 1})
            assert base is not None
            draft, self._wider = with_candidates(base, needed)
            if self._wider is None:
                self.decoding = draft

    def with_candidates(self, needed: int) -> HubCaptioner:
        """The same captioner, decoding at least `needed` captions per image: the draft as before, others behind it.

        Args:
            needed (`int`): Captions per image, the draft included.
        """
        wider = copy.copy(self)
        wider._widen(needed)
        return wider

    @classmethod
    def load(
        cls,
        spec: CaptionerSpec,
        *,
        changes: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        dtype: torch.dtype | str | None = None,
        device: str | torch.device | None = None,
        quantization: str | None = None,
        refiner: RefinerLike | None = None,
        **options: Any,
    ) -> HubCaptioner:
        """Load the model that a name stands for.

        Args:
            spec ([`CaptionerSpec`]): The name. Options that stand in it win over arguments.
            dtype, device, quantization: As in [`CaptionPipeline.from_pretrained`].
            changes, prompt, refiner, **options: Those of [`HubCaptioner`].
        """
        refuse_unknown(spec, options, cls.__init__)
        written = dict(spec.options)
        prompt = written.pop("prompt", prompt)
        revision = written.pop("revision", None)
        dtype = written.pop("dtype", dtype or "float32")
        quantization = written.pop("quantization", quantization)
        place = usable_device(device) if device is not None else best_device()
        refiner = None if refiner is None else as_refiner(refiner)
        captioner = load_other_captioner(
            spec.model,
            revision=revision,
            dtype=resolve_dtype(dtype, place),
            device=place,
            quantization=quantization,
        )
        changes = {**(changes or {}), **written}
        return cls(captioner, spec.name, prompt=prompt, changes=changes, refiner=refiner, **options)

    @property
    def model_threads(self) -> int:  # type: ignore[override]
        """On a GPU a batch is captioned while the one before is finished."""
        return 1 if next(self.captioner.model.parameters()).device.type == "cuda" else 0

    def describe(self) -> dict[str, Any]:
        """What results say of this captioner."""
        facts: dict[str, Any] = {"model": self.name}
        if self.captioner.revision is not None:
            facts["revision"] = self.captioner.revision
        if self.prompt:
            facts["prompt"] = self.prompt
        return {**facts, "decoding": "its own" if self.decoding is None else self.decoding.to_dict()}

    def settings(self) -> dict[str, Any]:
        """All that can change a caption besides the image."""
        model = self.captioner.model
        return {
            **self.describe(),
            "weights": weights_fingerprint(model),
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            **({} if self._wider is None else {"candidates": self._wider.to_dict()}),
            **({} if self.prompts.template is None else {"prompt_template": self.prompts.template.text}),
            "refiner": None if self.refiner is None else {"name": self.refiner.name, **self.refiner.settings()},
            "abstain_below": self.review.abstain_below,
            "blocked_words": list(self.review.blocked_words),
        }

    def prepare(
        self,
        source: ImageSource,
        skip: Callable[[ImageSource, str], bool] | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
    ) -> PreparedImage:
        """Read and decode one image. See [`CaptionStream.prepare`]."""
        prompt = self.prompt if source.error is not None else self.prompt_of(source)
        if not self.captioner.takes_prompt and prompt:
            raise ConfigurationError(f"{self.name} takes no prompt, and {source.image_id} brings one.")
        own = None if prompt == self.prompt else prompt
        return replace(prepare_image(source, None, skip=skip, max_pixels=max_pixels, own_prompt=own), prompt=prompt)

    def _caption(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """Drafts for a batch, prompt by prompt; what could not be decoded keeps its place."""
        made: dict[int, OtherCaption] = {}
        readable = [place for place, (_, prepared) in enumerate(batch) if prepared.error is None]
        for prompt in dict.fromkeys(batch[place][1].prompt for place in readable):
            rows = [place for place in readable if batch[place][1].prompt == prompt]
            pictures: list[Any] = [batch[place][1].pixels for place in rows]
            found = caption_pictures(self.captioner, pictures, prompt, self.decoding)
            if self._wider is not None:
                wide = caption_pictures(self.captioner, pictures, prompt, self._wider)
                found = [
                    replace(one, decoded=add_candidates(one.decoded, more.decoded))
                    for one, more in zip(found, wide, strict=True)
                ]
            made.update(zip(rows, found, strict=True))
        return [
            CaptionedImage(
                source,
                Caption("", "", image_id=source.image_id, error=str(prepared.error))
                if place not in made
                else self._as_caption(source.image_id, made[place]),
                prepared.digest,
            )
            for place, (source, prepared) in enumerate(batch)
        ]

    def _as_caption(self, image_id: str, made: OtherCaption) -> Caption:
        decoded: DecodedImage = made.decoded
        text, problem = decoded.texts[0], None
        if self.captioner.chats:
            # Chat models quote and announce what they say.
            cleaned, problem = clean_answer(text)
            text = cleaned or ""
        if problem is not None:
            return Caption("", "", image_id=image_id, error=f"{NO_CAPTION}{problem}.", tokens=made.tokens)
        return Caption(
            text=text,
            draft=text,
            candidates=(text, *decoded.texts[1:]),
            confidence=decoded.log_probs[0],
            candidate_confidences=decoded.log_probs,
            image_id=image_id,
            tokens=made.tokens,
        )


def refuse_unknown(spec: CaptionerSpec, options: dict[str, Any], constructor: Callable[..., Any]) -> None:
    """Take options out that are not set, and refuse those that this kind of captioner does not have.

    Args:
        spec ([`CaptionerSpec`]): The captioner.
        options (`dict[str, Any]`): Options that were given; changed in place.
        constructor (`Callable`): What takes them.

    Raises:
        ConfigurationError: An option has no effect with this captioner.
    """
    known = inspect.signature(constructor).parameters
    for name, value in list(options.items()):
        if name in known:
            continue
        flag, is_set = name, value not in (None, False, (), {})
        if name == "exact_decoding":
            flag, is_set = "fast_jpeg", value is False
        if is_set:
            raise ConfigurationError(
                f"--{flag.replace('_', '-')} has no effect with the captioner {spec.name}: leave it out."
            )
        del options[name]
