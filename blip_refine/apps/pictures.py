"""Pictures of a page: those behind an address, and drawn ones at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.images import load_image
from ..data.sources.scenes import make_scene
from ..errors import ConfigurationError
from ..url_images import UrlImage, UrlLimits

EXAMPLE_SCENES = (("everyday", 3), ("everyday", 8), ("everyday", 21), ("adventure", 2), ("adventure", 5))


def fetch_picture(url: str) -> Any:
    """The picture behind an address that a visitor typed: never a file of this machine, nor its private network.

    Args:
        url (`str`): http:// or https://.

    Returns:
        `PIL.Image.Image`

    Raises:
        ConfigurationError: It is no such address.
        ImageDecodeError: There is no picture, or it may not be fetched.
    """
    address = (url or "").strip()
    if not address.lower().startswith(("http://", "https://")):
        raise ConfigurationError("The address of a picture begins with http:// or https://.")
    return load_image(UrlImage(address, UrlLimits()))


def write_examples(folder: Path, size: int = 224) -> list[str]:
    """Draw a few scenes, so that there is something to caption at once.

    Args:
        folder (`Path`): Where the files go.
        size (`int`, defaults to 224): Their side in pixels.

    Returns:
        `list[str]`: The files.
    """
    paths = []
    for domain, number in EXAMPLE_SCENES:
        path = folder / f"{domain}-{number}.png"
        make_scene(domain, "examples", number, size=size).image.save(path)  # type: ignore[union-attr]
        paths.append(str(path))
    return paths
