"""Photo-like pictures for tests: every seed another, with detail at all scales as a photo has."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def make_photo(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A coloured picture of `size` (width, height), smooth in the large and rough in the small."""
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3))
    cells, strength = 3, 1.0
    while cells < max(size):
        layer = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += strength * (np.asarray(layer.resize(size, Image.Resampling.BICUBIC), dtype=float) - 128)
        cells, strength = cells * 2, strength * 0.55
    return Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8))


def encode(picture: Image.Image, format: str = "JPEG", **options) -> bytes:
    """The bytes of an image file."""
    if format in ("JPEG", "MPO") and "quality" not in options:
        options["quality"] = 92
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def write_photo(path: Path, seed: int, size: tuple[int, int] = (160, 120)) -> Path:
    """A photo as a file; the format is that of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    make_photo(seed, size).save(path)
    return path


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean absolute difference of two pictures, 0 to 255."""
    return float(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).mean())
