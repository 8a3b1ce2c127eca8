"""`CaptionPipeline`: images of any kind in, `Caption` records out, in order and one for each."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from .data.images import load_image
from .errors import ConfigurationError, ImageDecodeError
from .models.decoding import DecodedImage, DecodingOptions, generate_captions
from .records import Caption, CaptionRecord, ImageInput, RefineRequest
from .refine.base import RefinerLike, as_refiner
from .refine.safety import CircuitBreaker, refine_safely


class CaptionPipeline:
    """A captioner with its processor, decoding and refiner, ready to be called from any thread.

    Args:
        model (`nn.Module`): The captioner.
        processor (`ProcessorMixin`): The one that belongs to it.
        refiner ([`Refiner`], `str` or callable, *optional*): Improves the drafts ("rules", "rules>consensus", ...).
        decoding ([`DecodingOptions`] or `str`, defaults to `"accurate"`): How to decode, or the name of a preset.
        batch_size (`int`, defaults to 8): Images the model is given at once.
        on_error (`"record"` or `"raise"`, defaults to `"record"`): What an unreadable image becomes: a `Caption` with
            `error`, or an exception.
    """

    def __init__(
        self,
        model: nn.Module,
        processor: Any,
        *,
        refiner: RefinerLike | None = None,
        decoding: DecodingOptions | str = "accurate",
        batch_size: int = 8,
        on_error: str = "record",
    ):
        if batch_size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, not {batch_size}.")
        if on_error not in ("record", "raise"):
            raise ConfigurationError(f"`on_error` is 'record' or 'raise', not {on_error!r}.")
        self.model, self.processor = model, processor
        self.decoding = DecodingOptions.preset(decoding) if isinstance(decoding, str) else decoding
        self.refiner = None if refiner is None else as_refiner(refiner)
        self.batch_size, self.on_error = batch_size, on_error
        self._breaker = CircuitBreaker()
        self._lock = threading.Lock()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path = "starter",
        *,
        dtype: torch.dtype | str | None = "float32",
        device: str | torch.device | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        **options: Any,
    ) -> CaptionPipeline:
        """Load a captioner and make a pipeline of it.

        Args:
            name_or_path (`str` or `Path`, defaults to `"starter"`): A folder, a model id of the Hub, or "starter".
            dtype (`torch.dtype` or `str`, defaults to `"float32"`): Of the weights.
            device (`str` or `torch.device`, *optional*): By default a GPU if there is one.
            **options: Those of [`CaptionPipeline`].
        """
        from .models.captioner import load_captioner

        model, processor = load_captioner(name_or_path, dtype=dtype, revision=revision, token=token)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device), processor, **options)

    def __call__(self, images: ImageInput | CaptionRecord | Iterable[Any]) -> Caption | list[Caption]:
        """Caption one image, or many.

        Args:
            images: A path, bytes, a PIL image or a `CaptionRecord`; or any iterable of these.

        Returns:
            `Caption` for one image, `list[Caption]` for many, in their order.
        """
        if isinstance(images, (str, Path, bytes, Image.Image, CaptionRecord)):
            return next(self.stream([images]))
        return list(self.stream(images))

    def stream(self, images: Iterable[Any], batch_size: int | None = None) -> Iterator[Caption]:
        """Caption images one batch after the other, without holding more than a batch.

        Args:
            images: An iterable of images, endless if need be.
            batch_size (`int`, *optional*): That of the pipeline by default.
        """
        records = iter(images)
        place = 0
        while batch := list(islice(records, batch_size or self.batch_size)):
            yield from self._caption_batch(batch, place)
            place += len(batch)

    def _caption_batch(self, batch: Sequence[Any], place: int) -> list[Caption]:
        names: list[str] = []
        loaded: list[Any] = []
        for offset, image in enumerate(batch):
            name = str(image) if isinstance(image, (str, Path)) else str(place + offset)
            if isinstance(image, CaptionRecord):
                name, image = image.image_id, image.image
            names.append(name)
            try:
                loaded.append(load_image(image))
            except ImageDecodeError as error:
                if self.on_error == "raise":
                    raise
                loaded.append(error)
        pictures = [image for image in loaded if not isinstance(image, Exception)]
        decoded: Iterator[DecodedImage] = iter(())
        if pictures:
            pixel_values = self.processor.image_processor(images=pictures, return_tensors="pt").pixel_values
            with self._lock:
                decoded = iter(generate_captions(self.model, self.processor, pixel_values, self.decoding))
        captions = []
        for name, image in zip(names, loaded, strict=True):
            if isinstance(image, Exception):
                captions.append(Caption("", "", image_id=name, error=str(image)))
            else:
                found = next(decoded)
                captions.append(
                    Caption(found.texts[0], found.texts[0], found.texts, found.log_probs[0], image_id=name)
                )
        return self._refine(captions, batch)

    def _refine(self, captions: list[Caption], images: Sequence[Any]) -> list[Caption]:
        if self.refiner is None:
            return captions
        from dataclasses import replace

        places = [place for place, caption in enumerate(captions) if caption.error is None]
        requests = [
            RefineRequest(
                captions[place].draft,
                captions[place].candidates[1:],
                captions[place].confidence,
                metadata=images[place].metadata if isinstance(images[place], CaptionRecord) else {},
                image_id=captions[place].image_id,
            )
            for place in places
        ]
        for place, refined in zip(places, refine_safely(self.refiner, requests, breaker=self._breaker), strict=True):
            captions[place] = replace(
                captions[place],
                text=refined.text,
                refined=refined.accepted,
                reason=None if refined.accepted else refined.reason,
            )
        return captions
