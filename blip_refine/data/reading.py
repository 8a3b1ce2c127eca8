"""From a record to an item: decode the picture, no larger than it is needed, and augment it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..caption_prompts import PromptTemplate
from ..errors import ImageDecodeError
from ..records import CaptionRecord
from .augment import Augmentation, load_augmentation
from .images import load_image


@dataclass(frozen=True)
class RecordReader:
    """Reads the image of a record, as a worker does it.

    Args:
        transform (`Callable`, *optional*): Takes and returns `(picture, captions)`: a `PIL.Image.Image` and a tuple of
            `str`. It is given the whole picture, augmented if there is an augmentation.
        augment ([`Augmentation`], *optional*): What is done to picture and captions at each visit.
        image_size (`tuple[int, int]`, *optional*): Width and height in pixels that the picture will be resized to.
            Large JPEGs are then decoded at a reduced scale (see [`load_image`]); where an augmentation crops, at one
            that leaves as many pixels in the crop. By default the whole picture is decoded.
        truncated (`"error"` or `"recover"`, defaults to `"error"`): What to do with a file that ends too early: leave
            it out and say so, or keep what is there of it.
        prompt_template ([`PromptTemplate`], *optional*): What the captions of an image begin with, from its metadata;
            by default the prompt that its record brings.
    """

    transform: Callable | None = None
    augment: Augmentation | None = None
    image_size: tuple[int, int] | None = None
    truncated: Literal["error", "recover"] = "error"
    prompt_template: PromptTemplate | None = None

    @classmethod
    def make(
        cls,
        transform: Callable | None = None,
        augment: str | Augmentation | None = None,
        image_size: int | tuple[int, int] | None = None,
        truncated: Literal["error", "recover"] = "error",
    ) -> RecordReader:
        """The same from what people write: the name of an augmentation, one number for a square.

        Raises:
            ConfigurationError: There is no augmentation of that name.
        """
        return cls().with_changes(transform=transform, augment=augment, image_size=image_size, truncated=truncated)

    def with_changes(self, **changes: Any) -> RecordReader:
        """The same with other settings, as people write them; see `make`."""
        if "augment" in changes:
            changes["augment"] = load_augmentation(changes["augment"])
        size = changes.get("image_size")
        if isinstance(size, int):
            changes["image_size"] = (size, size)
        template = changes.get("prompt_template")
        if isinstance(template, str):
            changes["prompt_template"] = PromptTemplate(template)
        return replace(self, **changes)

    @property
    def changes_pictures(self) -> bool:
        """Whether a picture is another at each visit, so that nothing that is computed of it can be kept."""
        return self.transform is not None or self.augment is not None

    @property
    def target_size(self) -> tuple[int, int] | None:
        """The size that is asked of the decoder; `None` for all there is."""
        if self.image_size is None or self.transform is not None:
            return None
        share = 1.0 if self.augment is None else self.augment.smallest_side
        return math.ceil(self.image_size[0] / share), math.ceil(self.image_size[1] / share)

    def prompt_of(self, record: CaptionRecord) -> str | None:
        """What the captions of an image begin with, if it has a prompt of its own.

        Raises:
            ConfigurationError: It lacks a column that the template names.
        """
        return record.prompt if self.prompt_template is None else self.prompt_template.fill_record(record)

    def describe(self, record: CaptionRecord, index: int) -> dict[str, Any]:
        """The item of a record without its picture."""
        item = {"captions": record.captions, "image_id": record.image_id, "index": index}
        prompt = self.prompt_of(record)
        return item if prompt is None else {**item, "prompt": prompt}

    def __call__(self, record: CaptionRecord, index: int) -> dict[str, Any]:
        """The item of a record; see [`BlipCaptionDataset`] for what is in it."""
        item = self.describe(record, index)
        try:
            image = load_image(record.image, target_size=self.target_size, truncated=self.truncated)
        except ImageDecodeError as error:
            # One broken file among a million must not end a training run; the collator leaves it out and says so.
            return {**item, "image": None, "error": str(error)}
        if self.augment is not None:
            image, item["captions"] = self.augment(image, record.captions)
        if self.transform is not None:
            image, item["captions"] = self.transform(image, item["captions"])
        return {**item, "image": image}
