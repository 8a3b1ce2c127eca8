"""What all captioners share: images of any kind in, `Caption` records out, in order and one for each.

`CaptionPipeline` captions with our models; `captioners` with those of other families and behind servers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from .caption_prompts import PromptChoice
from .data.images import MAX_PIXELS
from .errors import ConfigurationError
from .inputs import ImageSource, expand_images, is_one_image, with_prompts
from .prepared import PreparedImage
from .records import Caption
from .refine.base import Refiner, RefinerLike, as_refiner
from .refine.captions import refine_captions
from .refine.safety import CircuitBreaker
from .review import ReviewRules
from .streaming import default_workers, in_batches, map_ahead, one_behind
from .url_images import UrlLimits


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


class CaptionStream:
    """Captions images as they come. Subclasses say how: `prepare`, `_caption`, `settings`, `describe`.

    Args:
        name (`str`): What the captioner is called in results.
        prompts ([`PromptChoice`]): The prompt of each image.
        refiner ([`Refiner`], `str` or callable, *optional*): Improves the drafts.
        batch_size (`int`): Images the captioner is given at once.
        num_workers (`int`, *optional*): Threads that decode images ahead; by default one per CPU core, up to 16.
        on_error (`"record"` or `"raise"`): What an unreadable image becomes.
        abstain_below (`float`, *optional*): Captions of lower confidence are flagged for review.
        blocked_words (`Sequence[str]`): Captions with one of these words are flagged for review.
        url_limits ([`UrlLimits`], *optional*): Limits for fetching images.
        refiner_timeout (`float`, *optional*): Seconds that the refiner has for a batch.
    """

    model_threads = 0
    """Threads that caption while batches before them are finished; 0 captions in the calling thread."""

    def __init__(
        self,
        name: str,
        prompts: PromptChoice,
        *,
        refiner: RefinerLike | None,
        batch_size: int,
        num_workers: int | None,
        on_error: str,
        abstain_below: float | None,
        blocked_words: Sequence[str],
        url_limits: UrlLimits | None,
        refiner_timeout: float | None,
    ):
        if batch_size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, not {batch_size}.")
        if num_workers is not None and num_workers < 0:
            raise ConfigurationError(f"`num_workers` counts threads and cannot be {num_workers}.")
        _raises(on_error)
        self.name, self.prompts = name, prompts
        self.refiner = None if refiner is None else as_refiner(refiner)
        self.batch_size, self.on_error = batch_size, on_error
        self.num_workers = default_workers() if num_workers is None else num_workers
        self.review = ReviewRules(abstain_below, blocked_words)
        self.url_limits = url_limits or UrlLimits()
        self.refiner_timeout = refiner_timeout
        self.breaker = CircuitBreaker()

    def with_candidates(self, needed: int) -> CaptionStream:
        """The same captioner with at least `needed` captions per image, the draft included.

        Args:
            needed (`int`): Captions per image.

        Raises:
            ConfigurationError: It gives one.
        """
        if needed > 1:
            raise ConfigurationError(f"{self.name} gives one caption per image, and {needed} are needed.")
        return self

    def check_refiner(self, refiner: Refiner) -> None:
        """Refuse a refiner that this captioner has too few captions for. Captioners that decode here refuse none."""

    def settings(self) -> Mapping[str, Any]:
        """All that can change a caption besides the image."""
        raise NotImplementedError

    def describe(self) -> Mapping[str, Any]:
        """What results say of the captioner: `model`, and if known `revision`, `server`, `prompt` and `decoding`."""
        raise NotImplementedError

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
        raise NotImplementedError

    def _caption(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """Drafts for a batch; what could not be decoded keeps its place."""
        raise NotImplementedError

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
        with ExitStack() as stack:
            prepared = stack.enter_context(closing(map_ahead(prepare, sources, workers=self.num_workers, ahead=ahead)))
            batches = in_batches(_without_skipped(prepared, raises), size)
            answers = stack.enter_context(
                closing(map_ahead(self._caption, batches, workers=self.model_threads, ahead=2))
            )
            captioned = (answer for _, answer in answers)
            if self.refiner is None:
                finished: Iterator[list[CaptionedImage]] = map(self._finish, captioned)
            else:
                finished = one_behind(self._finish, captioned)
            for batch in finished:
                yield from batch

    def prompt_of(self, source: ImageSource) -> str:
        """What the caption of an image will begin with.

        Raises:
            ConfigurationError: The prompt template names a column that the image does not have.
        """
        return self.prompts.of(source.image_id, source.prompt, source.metadata)

    def caption_prepared(self, batch: Sequence[tuple[ImageSource, PreparedImage]]) -> list[CaptionedImage]:
        """Caption images that `prepare` has prepared, all at once: for services that make batches of their own.

        Args:
            batch (`Sequence[tuple[ImageSource, PreparedImage]]`): n images.

        Returns:
            `list[CaptionedImage]`: n results, in the same order.
        """
        return self._finish(self._caption(batch))

    def _finish(self, batch: list[CaptionedImage]) -> list[CaptionedImage]:
        """Refine what is sure enough, and flag what a person has to look at."""
        captions = [self.review.abstain(one.caption) for one in batch]
        if self.refiner is not None:
            captions = refine_captions(
                self.refiner,
                captions,
                images=[one.source.image for one in batch],
                metadata=[one.source.facts or {} for one in batch],
                breaker=self.breaker,
                timeout=self.refiner_timeout,
            )
        return [replace(one, caption=self.review.block(caption)) for one, caption in zip(batch, captions, strict=True)]


def _raises(on_error: str) -> bool:
    if on_error not in ("record", "raise"):
        raise ConfigurationError(f"`on_error` is 'record' or 'raise', not {on_error!r}.")
    return on_error == "raise"


def _without_skipped(
    prepared: Iterable[tuple[ImageSource, PreparedImage]], raises: bool
) -> Iterator[tuple[ImageSource, PreparedImage]]:
    for source, one in prepared:
        if raises and one.error is not None:
            raise one.error
        if not one.skipped:
            yield source, one
