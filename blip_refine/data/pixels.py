"""From any mode that Pillow knows to 8-bit RGB, without the surprises of a bare `convert("RGB")`.

`Image.convert("RGB")` clips 16-bit pictures to white, shows what lies behind transparent pixels, and refuses LAB.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

_WITH_ALPHA = frozenset({"RGBA", "RGBa", "LA", "La", "PA"})
_SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I;12"})


def to_rgb(image: Image.Image, background: tuple[int, ...] = (255, 255, 255)) -> Image.Image:
    """Convert a picture to mode `"RGB"`; one that is RGB and opaque comes back as it is.

    Args:
        image (`PIL.Image.Image`): In any mode. Its pixels are loaded.
        background (`tuple[int, ...]`, defaults to white): Red, green and blue (0 to 255) behind transparent pixels.

    Returns:
        `PIL.Image.Image`: In mode `"RGB"`.
    """
    if image.mode in _SIXTEEN_BITS or image.mode in ("I", "F"):
        return _on_background(_scale_to_8_bits(image), background)
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return _on_background(image, background)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_background(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return image.convert("RGB")
    # Premultiplied and palette modes have no direct way to RGBA in every Pillow release; by LA and RGBA they have.
    if image.mode == "La":
        image = image.convert("LA")
    alpha = image.convert("RGBA")
    below = Image.new("RGBA", alpha.size, (*background[:3], 255))
    return Image.alpha_composite(below, alpha).convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Grey pictures with more than 8 bits: 16 bits fill 0 to 255; other ranges are stretched from least to most."""
    values = np.asarray(image)
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and _within(values, 256, 65535)):
        scaled = values.astype(np.float32) / 257.0
    elif _within(values, -1, 255) and not (image.mode == "F" and _within(values, -1e-6, 1.0)):
        scaled = values.astype(np.float32)
    elif image.mode == "F" and _within(values, -1e-6, 1.0):
        scaled = values * 255.0
    else:
        finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
        low, high = (np.nanmin(finite), np.nanmax(finite)) if np.isfinite(finite).any() else (0.0, 0.0)
        scaled = (np.where(np.isnan(finite), low, finite) - low) / (high - low or 1.0) * 255.0
    grey = Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8), mode=None)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _within(values: np.ndarray, low: float, high: float) -> bool:
    """Whether the largest value is above `low` and none lies outside 0 to `high`."""
    return bool(np.isfinite(values).all() and values.min() >= 0 and low < values.max() <= high)


def _from_lab(image: Image.Image) -> Image.Image:
    return ImageCms.applyTransform(image, _lab_to_srgb())


@lru_cache(maxsize=1)
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
