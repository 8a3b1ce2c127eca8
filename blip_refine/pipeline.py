"""`CaptionPipeline`: images of any kind in, `Caption` records out, in order and one for each."""

from __future__ import annotations

import copy
import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .caption_prompts import PromptChoice, PromptTemplate
from .caption_stream import CaptionedImage, CaptionStream
from .data.images import MAX_PIXELS
from .data.preprocess import ImagePreprocessor
from .errors import ConfigurationError, ImageDecodeError
from .inputs import ImageSource, expand_images
from .models.candidates import add_candidates, with_candidates
from .models.decoding import DecodedImage, DecodingOptions, prompt_tokens
from .models.device import best_device, resolve_dtype, usable_device
from .models.graphs import DecodingGraphs
from .models.prompted import generate_with_prompts, prompt_as_written, prompted_texts, room_for_prompt
from .models.saved_defaults import effective_decoding, save_defaults, saved_defaults
from .models.scoring import TextScore, score_texts, score_without_image
from .prepared import PreparedImage, prepare_image
from .records import Caption, CaptionRecord
from .refine.base import RefinerLike
from .refine.grounding import captioner_likelihood
from .url_images import UrlLimits

if TYPE_CHECKING:
    from .hub.push import PushResult


class CaptionPipeline(CaptionStream):
    """A captioner with its processor, decoding and refiner. One pipeline may be called from several threads.

    Args:
        model (`nn.Module`): The captioner, wrapped by PEFT or not.
        processor (`ProcessorMixin`): The one that belongs to it.
        refiner ([`Refiner`], `str` or callable, *optional*): Improves the drafts ("rules", "rules>consensus", ...).
            It works on a batch while the model captions the next one.
        decoding ([`DecodingOptions`] or `str`, *optional*): How to decode, or the name of a preset. By default as it
            is saved with the model ([`SavedDefaults`]), else "accurate". Options without a prompt keep the saved one.
        changes (`Mapping[str, Any]`, *optional*): Single fields of the decoding that are to differ (`{"num_beams":
            3}`); `None` stands for one that is not.
        prompt (`str`, *optional*): What every caption begins with, in the place of the saved prompt; "" for none.
            Images that bring a prompt of their own have that instead.
        prompt_template (`str`, *optional*): A prompt per image, from the columns that are known of it ("a photo of
            {name}, "). By default the template that is saved with the model, for images that have its columns.
        batch_size (`int`, defaults to 8): Images the model is given at once.
        num_workers (`int`, *optional*): Threads that decode images ahead of the model; by default one a processor, up
            to 16. 0 decodes in the calling thread.
        on_error (`"record"` or `"raise"`, defaults to `"record"`): What an unreadable image becomes: a `Caption` with
            `error`, or an exception.
        abstain_below (`float`, *optional*): Captions whose confidence is lower are not published but flagged for
            review. [`review.calibrate_abstention`] finds the value for a wanted quality.
        blocked_words (`Sequence[str]`, defaults to `()`): Captions with one of these words or phrases are flagged for
            review, in whatever case they are written.
        image_gain (`bool`, defaults to `False`): Also compute `Caption.image_gain`: what the image, and not habit,
            contributes to the draft. Costs one more pass of the text decoder.
        exact_decoding (`bool`, defaults to `True`): Decode large JPEGs whole, for the very pixels that the stock
            processor makes. `False` lets the JPEG decoder reduce them first, which is several times faster.
        url_limits ([`UrlLimits`], *optional*): What fetching an image may cost, and whether private addresses may be
            fetched from.
        candidates (`int`, *optional*): Captions to decode per image for a refiner to work with. By default as many as
            the refiner needs (`Refiner.needs_candidates`). The draft is the same as without: where the decoding does
            not give that many, a second, wider search does.
        refiner_timeout (`float`, *optional*): Seconds that the refiner has for a batch; then its drafts stand.
        cuda_graphs (`bool`, defaults to `True`): On a GPU, record decoding as CUDA graphs where that is possible
            ([`DecodingGraphs`]). Faster; takes the memory of a second batch.

    Example:

    ```python
    captioner = CaptionPipeline.from_pretrained("starter", refiner="rules")
    captioner("photo.jpg").text
    for caption in captioner.stream("photos/**/*.jpg", batch_size=32):
        print(caption.image_id, caption.text)
    ```
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        refiner: RefinerLike | None = None,
        decoding: DecodingOptions | str | None = None,
        changes: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        prompt_template: str | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        on_error: str = "record",
        abstain_below: float | None = None,
        blocked_words: Sequence[str] = (),
        image_gain: bool = False,
        exact_decoding: bool = True,
        url_limits: UrlLimits | None = None,
        candidates: int | None = None,
        refiner_timeout: float | None = None,
        cuda_graphs: bool = True,
    ):
        self.model, self.processor = model, processor
        saved = saved_defaults(model)
        self.decoding = effective_decoding(saved, decoding, prompt=prompt, **(changes or {}))
        super().__init__(
            str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__),
            PromptChoice(
                self.decoding.prompt,
                None if prompt_template is None else PromptTemplate(prompt_template),
                None if saved is None or prompt is not None else saved.template,
            ),
            refiner=refiner,
            batch_size=batch_size,
            num_workers=num_workers,
            on_error=on_error,
            abstain_below=abstain_below,
            blocked_words=blocked_words,
            url_limits=url_limits,
            refiner_timeout=refiner_timeout,
        )
        if self.refiner is not None:
            self.refiner.use_captioner(captioner_likelihood(model, processor))
        if candidates is None:
            candidates = 1 if self.refiner is None else self.refiner.needs_candidates
        self.decoding, self._wider = with_candidates(self.decoding, candidates)
        self.image_gain, self.exact_decoding = image_gain, exact_decoding
        self._graphs = DecodingGraphs() if cuda_graphs else None
        self._preprocess = ImagePreprocessor.find(processor)
        self._room = room_for_prompt(model, self.decoding)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike = "starter",
        *,
        dtype: torch.dtype | str | None = "float32",
        device: str | torch.device | None = None,
        **options: Any,
    ) -> CaptionPipeline:
        """Load a captioner and make a pipeline of it.

        Args:
            name_or_path (`str` or `os.PathLike`, defaults to `"starter"`): A folder, a model id of the Hub, or
                "starter".
            dtype (`torch.dtype` or `str`, defaults to `"float32"`): Of the weights. "auto" takes bfloat16 where the
                device computes in it: several times faster, and now and then another word.
            device (`str` or `torch.device`, *optional*): By default a GPU if there is one.
            **options: Those of [`CaptionPipeline`] and of [`load_captioner`] (`revision`, `quantization`,
                `device_map`, ...); `torch_dtype` is taken for `dtype`.

        Raises:
            ConfigurationError: An option that cannot be, or a device that this machine does not have.
            ModelError: There is no such captioner, or it cannot be loaded.
        """
        from .models.captioner import load_captioner

        dtype = options.pop("torch_dtype", dtype)
        own = {name: options.pop(name) for name in list(options) if name in _OPTIONS}
        device = usable_device(device) if device is not None else best_device()
        model, processor = load_captioner(name_or_path, dtype=resolve_dtype(dtype, device), **options)
        if not hasattr(model, "hf_device_map") and not getattr(model, "is_quantized", False):
            model = model.to(device)
        pipeline = cls(model, processor, **own)
        pipeline.name = str(name_or_path)
        return pipeline

    def with_candidates(self, needed: int) -> CaptionPipeline:
        """The same pipeline, decoding at least `needed` captions per image: the draft as before, and others behind it.

        Args:
            needed (`int`): Captions per image, the draft included.
        """
        pipeline = copy.copy(self)
        pipeline.decoding, pipeline._wider = with_candidates(self.decoding, needed)
        return pipeline

    def push_to_hub(self, repo_id: str, **options: Any) -> PushResult:
        """Publish the captioner with its processor: whole, or the adapter alone where there is one.

        A run folder has more to tell (scores, samples, what it was trained on): `push_captioner(folder, repo_id)`.

        Args:
            repo_id (`str`): `owner/name`.
            **options: Those of [`push_captioner`] (`private`, `merge`, `dry_run`, ...).

        Returns:
            [`PushResult`]
        """
        from .hub.push import push_captioner

        with tempfile.TemporaryDirectory(prefix="blip-refine-pipeline-") as folder:
            self.model.save_pretrained(folder)
            save_defaults(self.model, folder)
            self.processor.save_pretrained(folder)
            return push_captioner(folder, repo_id, **options)

    def settings(self) -> dict[str, Any]:
        """All that can change a caption besides the image: the weights, how they are decoded, and what comes after."""
        return {
            "model": self.name,
            "weights": weights_fingerprint(self.model),
            "dtype": str(next(self.model.parameters()).dtype).removeprefix("torch."),
            "decoding": self.decoding.to_dict(),
            **({} if self._wider is None else {"candidates": self._wider.to_dict()}),
            **({} if self._template is None else {"prompt_template": self._template.text}),
            "refiner": None if self.refiner is None else {"name": self.refiner.name, **self.refiner.settings()},
            "abstain_below": self.review.abstain_below,
            "blocked_words": list(self.review.blocked_words),
            "exact_decoding": self.exact_decoding,
        }

    def describe(self) -> dict[str, Any]:
        """What results say of this captioner."""
        decoding = self.decoding.to_dict()
        prompt = decoding.pop("prompt", None)
        return {"model": self.name, **({} if prompt is None else {"prompt": prompt}), "decoding": decoding}

    @property
    def model_threads(self) -> int:  # type: ignore[override]
        """A GPU has the next batch while this one is finished, and written by whoever consumes it."""
        return 1 if self._is_on_gpu() else 0

    @property
    def _template(self) -> PromptTemplate | None:
        return self.prompts.template or self.prompts.saved_template

    def prepare(
        self,
        source: ImageSource,
        skip: Callable[[ImageSource, str], bool] | None = None,
        *,
        max_pixels: int = MAX_PIXELS,
    ) -> PreparedImage:
        """Read and decode one image. May be called from any thread; the model is not asked.

        Args:
            source ([`ImageSource`]): The image.
            skip (`Callable`, *optional*): See `run`.
            max_pixels (`int`, defaults to `178_956_970`): Images that claim more pixels are not decoded.
        """
        prompt = self.decoding.prompt if source.error is not None else self.prompt_of(source)
        own = None if prompt == self.decoding.prompt else prompt
        prepared = prepare_image(
            source, self._preprocess, exact=self.exact_decoding, skip=skip, max_pixels=max_pixels, own_prompt=own
        )
        return prepared if prepared.error is not None or prepared.skipped else self._with_prompt(prepared, prompt)

    def _with_prompt(self, prepared: PreparedImage, prompt: str) -> PreparedImage:
        """A prepared image with its prompt, if the model has room for that: one image must not end a run."""
        if prompt != self.decoding.prompt and self._room is not None:
            length = len(prompt_tokens(self.processor, prompt))
            if length > self._room:
                return PreparedImage(
                    digest=prepared.digest,
                    error=ImageDecodeError(
                        f"The prompt has {length} tokens, and the model has room for {self._room}: shorten it."
                    ),
                )
        return replace(prepared, prompt=prompt)

    def _caption(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """Drafts for a batch; what could not be decoded keeps its place."""
        readable = [prepared for _, prepared in batch if prepared.error is None]
        pixels: list[Any] = [prepared.pixels for prepared in readable]
        prompts = [prepared.prompt for prepared in readable]
        decoded: Iterator[DecodedImage] = iter(())
        gains: Iterator[float | None] = iter([None] * len(pixels))
        if pixels:
            values = self._values(pixels)
            found = self._decode(values, prompts, self.decoding)
            if self._wider is not None:
                wide = self._decode(values, prompts, self._wider)
                found = [add_candidates(one, more) for one, more in zip(found, wide, strict=True)]
            decoded = iter(found)
            if self.image_gain:
                gains = iter(self._image_gains(found, prompts))
        captioned = []
        for source, prepared in batch:
            if prepared.error is not None:
                caption = Caption("", "", image_id=source.image_id, error=str(prepared.error))
            else:
                one = next(decoded)
                caption = Caption(
                    text=one.texts[0],
                    draft=one.texts[0],
                    candidates=one.texts,
                    confidence=one.log_probs[0],
                    candidate_confidences=one.log_probs,
                    image_id=source.image_id,
                    image_gain=next(gains),
                    prompt=self._written(prepared.prompt, one),
                )
            captioned.append(CaptionedImage(source, caption, prepared.digest))
        return captioned

    def _written(self, prompt: str, decoded: DecodedImage) -> str | None:
        """The prompt as it stands in a draft."""
        return prompt_as_written(self.processor, prompt, decoded.texts[0], decoded.tokens[0]) if prompt else None

    def score_references(self, records: Sequence[CaptionRecord]) -> list[list[TextScore]]:
        """How probable the captions of records are for their images, by teacher forcing.

        Args:
            records (`Sequence[CaptionRecord]`): n images with their captions.

        Returns:
            `list[list[TextScore]]`: For each record the scores of its captions; none for an image that cannot be read.
        """
        prepared = [self.prepare(source) for source in expand_images(records, limits=self.url_limits)]
        found: list[list[TextScore]] = [[] for _ in records]
        for prompt in dict.fromkeys(one.prompt for one in prepared if one.error is None):
            rows = [row for row, one in enumerate(prepared) if one.error is None and one.prompt == prompt]
            values = self._values([prepared[row].pixels for row in rows])
            texts = [prompted_texts(self.model, prompt, records[row].captions) for row in rows]
            scores = score_texts(self.model, self.processor, values, texts, prompt=prompt)
            for row, of_image in zip(rows, scores, strict=True):
                found[row] = of_image
        return found

    def _values(self, pixels: Sequence[Any]) -> torch.Tensor:
        """`pixel_values` of decoded images."""
        if self._preprocess is None:
            return self.processor.image_processor(images=list(pixels), return_tensors="pt").pixel_values
        return self._normalize(pixels)

    def _normalize(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        """`pixel_values`, computed on the GPU where the model is on one: a quarter of the bytes go there, and the
        processor has no table to look up a million times."""
        assert self._preprocess is not None
        if not self._is_on_gpu():
            return torch.from_numpy(self._preprocess.normalize(pixels))
        stacked = torch.from_numpy(np.stack(pixels)).to(next(self.model.parameters()).device)
        return self._preprocess.normalize_tensor(stacked.permute(0, 3, 1, 2))

    def _is_on_gpu(self) -> bool:
        return next(self.model.parameters()).device.type == "cuda"

    def _decode(self, values: torch.Tensor, prompts: Sequence[str], decoding: DecodingOptions) -> list[DecodedImage]:
        """Captions of prepared images; in halves where they are too many for the memory of the GPU."""
        try:
            return generate_with_prompts(self.model, self.processor, values, decoding, prompts, graphs=self._graphs)
        except torch.cuda.OutOfMemoryError:
            # Recordings hold memory, too: there is too little of it for them.
            self._graphs = None
            if len(values) == 1:
                raise
        half = len(values) // 2
        first = self._decode(values[:half], prompts[:half], decoding)
        return first + self._decode(values[half:], prompts[half:], decoding)

    def _image_gains(self, found: Sequence[DecodedImage], prompts: Sequence[str]) -> list[float | None]:
        without: dict[int, float] = {}
        for prompt in dict.fromkeys(prompts):
            rows = [row for row, own in enumerate(prompts) if own == prompt]
            texts = [found[row].texts[0] for row in rows]
            try:
                scores = score_without_image(self.model, self.processor, texts, prompt=prompt)
            except ConfigurationError:
                if prompt == self.decoding.prompt:
                    raise
                continue  # a word of this image's prompt is unknown to the tokenizer, and is not in the text
            without.update(zip(rows, (score.log_prob for score in scores), strict=True))
        return [
            one.log_probs[0] * len(one.tokens[0]) - without[row] if row in without else None
            for row, one in enumerate(found)
        ]


_OPTIONS = frozenset(inspect.signature(CaptionPipeline.__init__).parameters) - {"self", "model", "processor"}


def weights_fingerprint(model: nn.Module) -> str:
    """A short hash that tells two sets of weights apart: of up to 256 values of every parameter, evenly spread; of its
    name and shape alone where a device map keeps it on the disk."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        flat = parameter.detach().reshape(-1)
        step = max(1, len(flat) // 256)
        digest.update(f"{name} {tuple(parameter.shape)} ".encode())
        if parameter.is_meta:
            continue
        digest.update(flat[::step][:256].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
