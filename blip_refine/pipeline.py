"""`CaptionPipeline`: images of any kind in, `Caption` records out, in order and one for each."""

from __future__ import annotations

import hashlib
import inspect
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from .caption_prompts import PromptChoice, PromptTemplate
from .data.images import MAX_PIXELS
from .data.preprocess import ImagePreprocessor
from .errors import ConfigurationError, ImageDecodeError
from .inputs import ImageSource, expand_images, is_one_image, with_prompts
from .models.candidates import add_candidates, with_candidates
from .models.decoding import DecodedImage, DecodingOptions, prompt_tokens
from .models.device import best_device, resolve_dtype
from .models.graphs import DecodingGraphs
from .models.prompted import generate_with_prompts, prompt_as_written, room_for_prompt
from .models.saved_defaults import effective_decoding, save_defaults, saved_defaults
from .models.scoring import score_without_image
from .prepared import PreparedImage, prepare_image
from .records import Caption
from .refine.base import RefinerLike, as_refiner
from .refine.captions import refine_captions
from .refine.grounding import captioner_likelihood
from .refine.safety import CircuitBreaker
from .review import ReviewRules
from .streaming import default_workers, in_batches, map_ahead, one_behind
from .url_images import UrlLimits

if TYPE_CHECKING:
    from .hub.push import PushResult


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An image with its caption.

    Args:
        source ([`ImageSource`]): Where the image came from.
        caption ([`Caption`]): What was said about it.
        digest (`str`, *optional*): Hash of the image's content, where it was asked for.
    """

    source: ImageSource
    caption: Caption
    digest: str | None = None


class CaptionPipeline:
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
        if batch_size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, not {batch_size}.")
        if num_workers is not None and num_workers < 0:
            raise ConfigurationError(f"`num_workers` counts threads and cannot be {num_workers}.")
        _raises(on_error)
        self.model, self.processor = model, processor
        saved = saved_defaults(model)
        self.decoding = effective_decoding(saved, decoding, prompt=prompt, **(changes or {}))
        self.prompts = PromptChoice(
            self.decoding.prompt,
            None if prompt_template is None else PromptTemplate(prompt_template),
            None if saved is None or prompt is not None else saved.template,
        )
        self.refiner = None if refiner is None else as_refiner(refiner)
        if self.refiner is not None:
            self.refiner.use_captioner(captioner_likelihood(model, processor))
        if candidates is None:
            candidates = 1 if self.refiner is None else self.refiner.needs_candidates
        self.decoding, self._wider = with_candidates(self.decoding, candidates)
        self.batch_size, self.on_error = batch_size, on_error
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.review = ReviewRules(abstain_below, blocked_words)
        self.image_gain, self.exact_decoding = image_gain, exact_decoding
        self.url_limits = url_limits or UrlLimits()
        self.refiner_timeout = refiner_timeout
        self.name = str(getattr(getattr(model, "config", None), "name_or_path", "") or type(model).__name__)
        self.breaker = CircuitBreaker()
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
        device = _usable(device) if device is not None else best_device()
        model, processor = load_captioner(name_or_path, dtype=resolve_dtype(dtype, device), **options)
        if not hasattr(model, "hf_device_map") and not getattr(model, "is_quantized", False):
            model = model.to(device)
        pipeline = cls(model, processor, **own)
        pipeline.name = str(name_or_path)
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

    def __call__(self, images: Any, **options: Any) -> Caption | list[Caption]:
        """Caption one image, or many.

        Args:
            images: Anything that [`inputs.expand_images`] takes.
            **options: Those of `stream`.

        Returns:
            `Caption` for one image; `list[Caption]` for several (a list, a folder, a pattern, a batch of arrays), in
            their order and one for each.
        """
        if is_one_image(images):
            if isinstance(options.get("prompts"), str):
                options["prompts"] = [options["prompts"]]
            return next(iter(self.stream([images], **options)))
        return list(self.stream(images, **options))

    def stream(self, images: Any, **options: Any) -> Iterator[Caption]:
        """Caption images as they come, in bounded memory, however many there are.

        Args:
            images: Anything that [`inputs.expand_images`] takes, an endless generator among it.
            batch_size (`int`, *optional*): Images the model is given at once; that of the pipeline by default.
            on_error (`str`, *optional*): "record" or "raise"; that of the pipeline by default.
            image_column (`str`, *optional*): The column of a dataset that holds the images.
            prompts (`Iterable[str]`, *optional*): What each caption begins with, one per image and in their order;
                for one image, a text.

        Yields:
            `Caption`: One for each image, in order, a batch at a time.
        """
        with closing(self.run(images, **options)) as captioned:
            for one in captioned:
                yield one.caption

    def run(
        self,
        images: Any,
        *,
        batch_size: int | None = None,
        on_error: str | None = None,
        image_column: str | None = None,
        prompts: Iterable[str] | None = None,
        skip: Callable[[ImageSource, str], bool] | None = None,
    ) -> Generator[CaptionedImage, None, None]:
        """What `stream` does, with each image's source beside its caption.

        Args:
            images, batch_size, on_error, image_column, prompts: See `stream`.
            skip (`Callable[[ImageSource, str], bool]`, *optional*): Called in a worker with a source and the hash of
                its content; where it says `True` nothing is decoded, and nothing comes out for this image.
        """
        size = self.batch_size if batch_size is None else batch_size
        if size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, not {size}.")
        raises = _raises(self.on_error if on_error is None else on_error)

        def prepare(source: ImageSource) -> PreparedImage:
            return self.prepare(source, skip)

        if prompts is not None and self.prompts.template is not None:
            raise ConfigurationError("The pipeline has a prompt template: give it, or `prompts`, and not both.")
        if isinstance(prompts, str):
            raise ConfigurationError("`prompts` holds one prompt per image; for all images alike, give `prompt`.")
        sources = expand_images(images, image_column=image_column, limits=self.url_limits)
        if prompts is not None:
            sources = with_prompts(sources, prompts)
        ahead = 2 * size + self.num_workers
        # A GPU has the next batch while this one is finished, and written by whoever consumes it.
        model_threads = 1 if self._is_on_gpu() else 0
        with ExitStack() as stack:
            prepared = stack.enter_context(closing(map_ahead(prepare, sources, workers=self.num_workers, ahead=ahead)))
            batches = in_batches(_without_skipped(prepared, raises), size)
            answers = stack.enter_context(closing(map_ahead(self._caption, batches, workers=model_threads, ahead=2)))
            captioned = (answer for _, answer in answers)
            if self.refiner is None:
                finished: Iterator[list[CaptionedImage]] = map(self._finish, captioned)
            else:
                finished = one_behind(self._finish, captioned)
            for batch in finished:
                yield from batch

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

    @property
    def _template(self) -> PromptTemplate | None:
        return self.prompts.template or self.prompts.saved_template

    def prompt_of(self, source: ImageSource) -> str:
        """What the caption of an image will begin with.

        Raises:
            ConfigurationError: The prompt template names a column that the image does not have.
        """
        return self.prompts.of(source.image_id, source.prompt, source.metadata)

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

    def caption_prepared(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """Caption images that `prepare` has prepared, all at once: for services that make batches of their own.

        Args:
            batch (`Sequence[tuple[ImageSource, PreparedImage]]`): n images.

        Returns:
            `list[CaptionedImage]`: n results, in the same order.
        """
        return self._finish(self._caption(batch))

    def _caption(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """Drafts for a batch; what could not be decoded keeps its place."""
        readable = [prepared for _, prepared in batch if prepared.error is None]
        pixels: list[Any] = [prepared.pixels for prepared in readable]
        prompts = [prepared.prompt for prepared in readable]
        decoded: Iterator[DecodedImage] = iter(())
        gains: Iterator[float | None] = iter([None] * len(pixels))
        if pixels:
            if self._preprocess is None:
                values = self.processor.image_processor(images=pixels, return_tensors="pt").pixel_values
            else:
                values = self._normalize(pixels)
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

    def _finish(self, batch: list[CaptionedImage]) -> list[CaptionedImage]:
        """Refine what is sure enough, and flag what a person has to look at."""
        captions = [self.review.abstain(one.caption) for one in batch]
        if self.refiner is not None:
            captions = refine_captions(
                self.refiner,
                captions,
                images=[one.source.image for one in batch],
                metadata=[one.source.metadata for one in batch],
                breaker=self.breaker,
                timeout=self.refiner_timeout,
            )
        return [replace(one, caption=self.review.block(caption)) for one, caption in zip(batch, captions, strict=True)]


def _usable(name: str | torch.device) -> torch.device:
    """A device, once something has been put on it: before a model is loaded for nothing."""
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError) as error:  # torch raises either, by what is missing
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise ConfigurationError(f"The device {str(name)!r} cannot be used here: {reason}.") from error


def _raises(on_error: str) -> bool:
    if on_error not in ("record", "raise"):
        raise ConfigurationError(f"`on_error` is 'record' or 'raise', not {on_error!r}.")
    return on_error == "raise"


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


def _without_skipped(
    prepared: Iterable[tuple[ImageSource, PreparedImage]], raises: bool
) -> Iterator[tuple[ImageSource, PreparedImage]]:
    for source, one in prepared:
        if raises and one.error is not None:
            raise one.error
        if not one.skipped:
            yield source, one
