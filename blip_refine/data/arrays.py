"""Pictures in arrays and tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ..errors import ImageDecodeError


def picture_of(array: Any) -> Image.Image:
    """The picture in an array or tensor, as a copy: what becomes of the array afterwards does not change it.

    Args:
        array (`np.ndarray` or `torch.Tensor`): Of shape `(height, width)`, `(height, width, channels)` or
            `(channels, height, width)` with 1, 3 or 4 channels; whole numbers from 0 to 255, also as floats, or
            floats from 0 to 1.

    Raises:
        ImageDecodeError: It is no such array. Normalized `pixel_values` are not.
    """
    array = _in_memory(array)
    shape = array.shape
    if array.ndim == 3 and shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in shape:
        raise ImageDecodeError(f"An array of shape {shape} is no picture: it takes (height, width, 3) or the like.")
    # Pillow would share the memory of an array with one or four channels: a buffer that is filled again for the next
    # picture, before this one is captioned, would change it.
    return Image.fromarray(_as_bytes(array).copy(order="C"))


def _in_memory(array: Any) -> np.ndarray:
    try:
        if hasattr(array, "detach"):
            array = array.detach().cpu()
            # numpy has no bfloat16.
            array = (array.float() if array.is_floating_point() else array).numpy()
        return np.asarray(array)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ImageDecodeError(f"A {type(array).__name__} cannot be read as an array: {reason}.") from error


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """The array in `uint8`."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())
        if low >= -1e-6 and high <= 1 + 1e-6:
            return np.round(array.clip(0, 1) * 255).astype(np.uint8)
        # Whole numbers of this range cannot be normalized values, which are few and lie between -3 and 3.
        if low >= 0 and 3 < high <= 255 and bool((array == np.rint(array)).all()):
            return array.astype(np.uint8)
        raise ImageDecodeError(
            f"An array of floats from {low:.3g} to {high:.3g} is no picture: floats go from 0 to 1 and whole "
            "numbers from 0 to 255. Give the picture as it was before it was normalized."
        )
    if not np.issubdtype(array.dtype, np.integer) or array.min() < 0 or array.max() > 255:
        raise ImageDecodeError(f"An array of {array.dtype} is no picture: whole numbers go from 0 to 255.")
    return array.astype(np.uint8)
