"""From an image file to `pixel_values`, as the model's own image processor makes them, and faster.

Two things make the difference: large JPEGs are decoded at reduced scale (see `load_image`), and scaling and
normalising, which are a function of one of 256 levels in one of 3 channels, are looked up in a table that the image
processor itself has filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import ConfigurationError
from ..records import ImageInput
from .images import load_image


class ImagePreprocessor:
    """Decodes, resizes and normalises images.

    Args:
        size (`tuple[int, int]`): Width and height in pixels.
        resample (`PIL.Image.Resampling`): How to resize.
        levels (`np.ndarray` of shape `(3, 256)`): The value of each level (0 to 255) in each channel, in `float32`.

    Example:
        ```python
        >>> from transformers import BlipImageProcessor
        >>> preprocess = ImagePreprocessor.from_processor(BlipImageProcessor())
        >>> preprocess(["photo.jpg"]).shape
        (1, 3, 384, 384)
        ```
    """

    def __init__(self, size: tuple[int, int], resample: Image.Resampling, levels: np.ndarray):
        self.size, self.resample, self.levels = size, resample, levels
        self._levels_on: dict[torch.device, torch.Tensor] = {}

    @classmethod
    def from_processor(cls, processor: Any) -> ImagePreprocessor:
        """What an image processor of `transformers` does, read off from it.

        Args:
            processor ([`BlipImageProcessor`] or [`BlipProcessor`]): The model's own.

        Raises:
            ConfigurationError: It does something else than resize to a fixed size, rescale and normalise.
        """
        processor = getattr(processor, "image_processor", processor)
        size = dict(processor.size)
        fixed = {"height", "width"} <= size.keys() and not getattr(processor, "do_center_crop", False)
        if not processor.do_resize or not fixed:
            raise ConfigurationError(
                f"{type(processor).__name__} does not simply resize to a fixed size (size={size}). Use it as it is."
            )
        # A picture that has every level once: what comes back for it is what comes back for any picture.
        ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
        values = processor(images=[Image.fromarray(ramp)], do_resize=False, return_tensors="pt")["pixel_values"]
        levels = np.asarray(values, dtype=np.float32).reshape(3, 256)
        return cls((int(size["width"]), int(size["height"])), Image.Resampling(int(processor.resample)), levels)

    @classmethod
    def find(cls, processor: Any) -> ImagePreprocessor | None:
        """The fast way where there is one; `None` where the processor has to be used as it is.

        Args:
            processor ([`BlipImageProcessor`] or [`BlipProcessor`]): The model's own.
        """
        try:
            return cls.from_processor(processor)
        except ConfigurationError:
            return None

    def load(self, image: ImageInput) -> Image.Image:
        """Decode an image no larger than is needed.

        Raises:
            ImageDecodeError: The image cannot be decoded.
        """
        return load_image(image, target_size=self.size)

    def to_array(self, image: ImageInput) -> np.ndarray:
        """An image at its final size, not normalised: a quarter of the bytes, which is what should cross processes.

        Returns:
            `np.ndarray` of shape `(height, width, 3)`, `uint8`.

        Raises:
            ImageDecodeError: The image cannot be decoded.
        """
        picture = self.load(image)
        return np.asarray(picture if picture.size == self.size else picture.resize(self.size, self.resample))

    def normalize(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """`pixel_values` of images at their final size.

        Args:
            arrays (`Sequence[np.ndarray]`): Of shape `(height, width, 3)`, `uint8`.

        Returns:
            `np.ndarray` of shape `(images, 3, height, width)`, `float32`.
        """
        width, height = self.size
        result: np.ndarray = np.empty((len(arrays), 3, height, width), dtype=np.float32)
        for place, array in enumerate(arrays):
            for channel in range(3):
                np.take(self.levels[channel], array[:, :, channel], out=result[place, channel], mode="clip")
        return result

    def normalize_tensor(self, pixels: torch.Tensor) -> torch.Tensor:
        """The same for pixels that have come from another process, or are on a GPU: the same values to the last bit.

        Args:
            pixels (`torch.Tensor` of shape `(images, 3, height, width)`): In `uint8`, in any layout.

        Returns:
            `torch.Tensor` of shape `(images, 3, height, width)`: In `float32`, on the same device.
        """
        if pixels.device.type == "cpu":
            return torch.from_numpy(self.normalize(list(pixels.permute(0, 2, 3, 1).numpy())))
        # Kept there: a copy at each step would wait for all that the device has still to do.
        levels = self._levels_on.get(pixels.device)
        if levels is None:
            levels = self._levels_on[pixels.device] = torch.from_numpy(self.levels).to(pixels.device)
        channels = [levels[channel][pixels[:, channel].int()] for channel in range(3)]
        return torch.stack(channels, dim=1)

    def __call__(self, images: Sequence[ImageInput]) -> np.ndarray:
        """`pixel_values` of images.

        Args:
            images (`Sequence`): Paths, bytes or pictures.

        Returns:
            `np.ndarray` of shape `(images, 3, height, width)`, `float32`.

        Raises:
            ImageDecodeError: An image cannot be decoded.
        """
        return self.normalize([self.to_array(image) for image in images])
