"""`BlipCaptionDataset`: images with all their captions, as a map-style dataset for the Trainer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch.utils.data import Dataset

from ..errors import DataError
from ..records import CaptionRecord
from .augment import Augmentation
from .reading import RecordReader
from .sources import load_source


class BlipCaptionDataset(Dataset):
    """Captioned images, one item an *image*: its captions always travel together.

    There is no item for a single caption, so a split by caption row, which puts every test photo into training, cannot
    be expressed. Images stay as they are stored until a worker asks for them.

    Args:
        records (`Iterable[CaptionRecord]`): The images.
        transform (`Callable`, *optional*): Takes and returns `(picture, captions)`: a `PIL.Image.Image` and a tuple
            of `str`. Applied each time an item is read.
        augment (`str` or [`Augmentation`], *optional*): What is done to pictures and captions at each visit, before
            `transform`: "standard", "light" or one of your own (`load_augmentation("standard", jitter_colors=True)`).
        image_size (`int` or `tuple[int, int]`, *optional*): Width and height in pixels that pictures will be resized
            to: large JPEGs are then decoded at a reduced scale. [`CaptionTrainer`] sets it to what the model takes.
        truncated (`"error"` or `"recover"`, defaults to `"error"`): What to do with a file that ends too early: leave
            it out and say so, or keep what is there of it.

    Raises:
        DataError: There are no images, or two have one `image_id`.
        ConfigurationError: There is no augmentation of that name.

    Example:
        ```python
        >>> from blip_refine import BlipCaptionDataset
        >>> train = BlipCaptionDataset.from_source("scenes:everyday", split="train", count=20, augment="standard")
        >>> len(train), len(train[0]["captions"])
        (20, 5)
        ```
    """

    def __init__(
        self,
        records: Iterable[CaptionRecord],
        transform: Callable | None = None,
        *,
        augment: str | Augmentation | None = None,
        image_size: int | tuple[int, int] | None = None,
        truncated: Literal["error", "recover"] = "error",
    ):
        self.records = list(records)
        self.reader = RecordReader.make(transform, augment, image_size, truncated)
        if not self.records:
            raise DataError("A dataset needs at least one image; there is none.")
        seen: set[str] = set()
        for record in self.records:
            if record.image_id in seen:
                raise DataError(
                    f"The image {record.image_id!r} is there twice. An image is one record with all its captions."
                )
            seen.add(record.image_id)

    @classmethod
    def from_source(
        cls,
        source: Any,
        *,
        split: str | None = None,
        transform: Callable | None = None,
        augment: str | Augmentation | None = None,
        image_size: int | tuple[int, int] | None = None,
        truncated: Literal["error", "recover"] = "error",
        **options: Any,
    ) -> BlipCaptionDataset:
        """Read a dataset from wherever it is.

        Args:
            source (`str`, `os.PathLike` or `datasets.Dataset`): The name of a dataset ("flickr8k", "scenes:everyday"),
                a folder of pictures, a file of captions, an id on the Hub, or a dataset in memory.
            split (`str`, *optional*): "train", "validation" or "test".
            transform, augment, image_size, truncated: See the class.
            **options: Handed on to [`load_source`]: `data_dir`, column names, and what the source itself takes.
        """
        records = load_source(source, split=split, **options)
        return cls(records, transform, augment=augment, image_size=image_size, truncated=truncated)

    def with_changes(self, **changes: Any) -> BlipCaptionDataset:
        """The same images, read in another way.

        Args:
            **changes: `transform`, `augment`, `image_size` or `truncated`, see the class; or `prompt_template`
                (`str` or [`PromptTemplate`]): what the captions of an image begin with, from its metadata
                (`"a photo of {name}, "`).
        """
        changed = copy.copy(self)
        changed.reader = self.reader.with_changes(**changes)
        return changed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """An image and its captions.

        Returns:
            `dict`: `image` (`PIL.Image.Image` in RGB, or `None` where it cannot be decoded), `captions` (`tuple` of
            `str`), `image_id` (`str`), `index` (`int`), `prompt` (`str`, *optional*), what its captions begin with
            where it has a prompt of its own, and `error` (`str`, *optional*) saying why there is no image.
        """
        return self.reader(self.records[index], index)

    @property
    def references(self) -> dict[str, list[str]]:
        """The captions by `image_id`, as the scorers take them."""
        return {record.image_id: list(record.captions) for record in self.records}


class FeatureDataset(Dataset):
    """The images of a dataset as the states of a frozen encoder, with all their captions.

    Args:
        dataset ([`BlipCaptionDataset`]): The images. They must not be augmented or transformed: a picture that
            changes at every visit has no states to keep.
        features ([`VisionFeatures`]): Where the states are.
        keys (`dict[str, str]`): The key of each image in `features`, by `image_id`. An image without one is read as
            an image that cannot be decoded.
    """

    def __init__(self, dataset: BlipCaptionDataset, features: Any, keys: dict[str, str]):
        self.dataset, self.features, self.keys = dataset, features, keys
        self.records = dataset.records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As [`BlipCaptionDataset`] does, with `image_states`, `(patches + 1, hidden)`, in the place of `image`."""
        record = self.records[index]
        if record.image_id not in self.keys:
            item = self.dataset[index]
            return {"error": "It could not be decoded when features were computed.", **item, "image": None}
        states = self.features[self.keys[record.image_id]]
        return {**self.dataset.reader.describe(record, index), "image": None, "image_states": states}
