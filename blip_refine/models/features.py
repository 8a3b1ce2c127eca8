"""What a frozen vision encoder says of images, computed once and kept in memory-mapped files.

A file holds the states of up to `SHARD_IMAGES` images as one safetensors tensor, and in its metadata which images they
are. It appears whole or not at all, and what an interrupted run has written is used by the next one.

States are found by a key of three: the weights of the encoder, the preprocessing, and the bytes of the image. Another
weight, another mean or another photo has another key, so that what is found is never stale.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from ..data.duplicates import content_hash
from ..data.images import load_image
from ..data.preprocess import ImagePreprocessor
from ..errors import ConfigurationError, ImageDecodeError
from ..records import CaptionRecord, ImageInput
from .families import base_model
from .vision_encoder import encode_images

SHARD_IMAGES = 512
FEATURE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class VisionFeatures:
    """States of a frozen vision encoder, by image.

    Args:
        model (`nn.Module`): The captioner. Its vision encoder must not be trained.
        processor (`ProcessorMixin`): Prepares the pictures.
        folder (`str` or `os.PathLike`): Where the files are, for any number of encoders and data sets.
        dtype (`str`, defaults to `"float32"`): Of the stored states: "float32" gives the same gradient to the last
            bit; "bfloat16" takes half the disk and keeps 8 bits of precision.

    Raises:
        ConfigurationError: The encoder is trained, or there is no such precision.
    """

    def __init__(self, model: nn.Module, processor: Any, folder: str | os.PathLike, dtype: str = "float32"):
        if dtype not in FEATURE_DTYPES:
            raise ConfigurationError(f"Features cannot be kept as {dtype!r}; there are: {', '.join(FEATURE_DTYPES)}.")
        encoder = base_model(model).vision_model
        if any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ConfigurationError(
                "The vision encoder is trained, so that its outputs change at every step: features can be cached only "
                "with freeze_vision=True."
            )
        self.model, self.processor, self.dtype = model, processor, FEATURE_DTYPES[dtype]
        # The pixels that training without the cache would see.
        self._preprocess = ImagePreprocessor.find(processor)
        key = hashlib.sha256(f"{encoder_fingerprint(encoder)} {_preprocessing(processor)} {dtype}".encode())
        self.folder = Path(folder) / key.hexdigest()[:24]
        vision = base_model(model).config.vision_config
        self.shape = ((vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size)
        self._places: dict[str, tuple[str, int]] = {}
        self._open: dict[str, Any] = {}
        self._process = os.getpid()
        self._read_index()

    @property
    def bytes_per_image(self) -> int:
        """Bytes that the states of one image take."""
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def missing(self, records: Sequence[CaptionRecord]) -> tuple[dict[str, CaptionRecord], dict[str, str]]:
        """What is still to be encoded.

        Returns:
            `tuple`: One record for each image that has no states yet, by the image's key; and the keys of all
            records that can be read, by `image_id`.
        """
        keys, missing = {}, {}
        for record in records:
            try:
                key = image_key(record.image)
            except ImageDecodeError:
                continue
            keys[record.image_id] = key
            if key not in self._places:
                missing[key] = record
        return missing, keys

    def check_disk(self, images: int) -> int:
        """The bytes that so many images will take.

        Raises:
            ConfigurationError: There is not so much room.
        """
        needed = images * self.bytes_per_image
        place = self.folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        if needed > 0.95 * free:
            raise ConfigurationError(
                f"The features of {images} images take {needed / 2**30:.1f} GiB, and {place} has {free / 2**30:.1f} "
                "GiB free. Use feature_dtype=bfloat16, another feature_cache_dir, fewer images, or "
                "cache_vision_features=False."
            )
        return needed

    @torch.no_grad()
    def build(
        self, records: Sequence[CaptionRecord], *, batch_size: int = 8, advance: Callable[[int], object] | None = None
    ) -> dict[str, str]:
        """Encode what is missing.

        Args:
            records (`Sequence[CaptionRecord]`): The images.
            batch_size (`int`, defaults to 8): Images at once.
            advance (`Callable[[int], object]`, *optional*): Called with a number of images done.

        Returns:
            `dict[str, str]`: The key of each image that has states, by `image_id`. What cannot be decoded is left out.

        Raises:
            ConfigurationError: The disk is too small.
        """
        missing, keys = self.missing(records)
        self.check_disk(len(missing))
        encoder = base_model(self.model).vision_model
        was_training = encoder.training
        encoder.eval()
        held_keys: list[str] = []
        held_states: list[torch.Tensor] = []
        try:
            for batch in _batches(missing, batch_size):
                pictures = {key: picture for key, record in batch if (picture := _decode(record.image)) is not None}
                if pictures:
                    held_keys += pictures
                    held_states.append(self._encode(list(pictures.values())))
                if len(held_keys) >= SHARD_IMAGES:
                    self._write(held_keys, torch.cat(held_states))
                    held_keys, held_states = [], []
                if advance is not None:
                    advance(len(batch))
        finally:
            encoder.train(was_training)
            if held_keys:
                self._write(held_keys, torch.cat(held_states))
        return {image_id: key for image_id, key in keys.items() if key in self._places}

    def _encode(self, pictures: list[Any]) -> torch.Tensor:
        if self._preprocess is not None:
            pixels = torch.from_numpy(self._preprocess(pictures))
        else:
            pixels = self.processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]
        return encode_images(base_model(self.model), pixels).to("cpu", self.dtype)

    def __getitem__(self, key: str) -> torch.Tensor:
        """The states of an image, `(patches + 1, hidden)`, read from the mapped file."""
        if os.getpid() != self._process:
            # Handles do not survive a fork into a worker.
            self._open, self._process = {}, os.getpid()
        name, row = self._places[key]
        if name not in self._open:
            self._open[name] = safe_open(self.folder / name, framework="pt")
        return self._open[name].get_slice("states")[row : row + 1][0]

    def __getstate__(self) -> dict[str, Any]:
        """A worker reads; the model and open files stay where they are."""
        return {**self.__dict__, "model": None, "_open": {}}

    def _write(self, keys: Sequence[str], states: torch.Tensor) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"{hashlib.sha256(' '.join(keys).encode()).hexdigest()[:16]}.safetensors"
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".part")
        os.close(handle)
        try:
            save_file({"states": states.contiguous()}, temporary, metadata={"images": json.dumps(list(keys))})
            os.replace(temporary, self.folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._places |= {key: (name, row) for row, key in enumerate(keys)}

    def _read_index(self) -> None:
        for path in sorted(self.folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                keys = json.loads(file.metadata()["images"])
            self._places |= {key: (path.name, row) for row, key in enumerate(keys)}


def image_key(image: ImageInput) -> str:
    """Hash of what is in a picture: its stored bytes, and the part of them that is meant.

    Raises:
        ImageDecodeError: The image cannot be read.
    """
    box = getattr(image, "box", None)
    return content_hash(image) if box is None else f"{content_hash(image.image)}-{'-'.join(map(str, box))}"  # type: ignore[union-attr]


def encoder_fingerprint(encoder: nn.Module) -> str:
    """Hash of the encoder's weights, their names and their precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        if isinstance(tensor, torch.Tensor):
            data = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {data.dtype} {tuple(data.shape)} ".encode())
            digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _preprocessing(processor: Any) -> str:
    settings = processor.image_processor.to_dict()
    return json.dumps(settings, sort_keys=True, default=str)


def _decode(image: ImageInput) -> Any:
    try:
        return load_image(image)
    except ImageDecodeError:
        return None


def _batches(missing: dict[str, CaptionRecord], size: int) -> Iterator[list[tuple[str, CaptionRecord]]]:
    items = list(missing.items())
    for start in range(0, len(items), size):
        yield items[start : start + size]
