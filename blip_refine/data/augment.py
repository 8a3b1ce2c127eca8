"""Augmentation that keeps the caption true: what is done to a picture depends on what is said of it.

An augmentation is a `transform` of `BlipCaptionDataset`: it takes a picture and its captions and returns both.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from PIL import Image, ImageEnhance

from ..errors import ConfigurationError
from .mirroring import mentions_writing, mirror_caption

_COLOR_WORD = re.compile(
    r"\b(?:colou?r(?:s|ed|ful)?|multi-?colou?red|red|redd?ish|orange|yellow(?:ish)?|green(?:ish)?|blue|bluish|purple|violet"
    r"|pink(?:ish)?|brown(?:ish)?|black|white|gr[ae]y(?:ish)?|beige|tan|tanned|gold(?:en)?|silver|turquoise|teal|cyan"
    r"|magenta|maroon|crimson|scarlet|navy|indigo|lavender|lilac|khaki|olive|ivory|cream|bronze|copper|blond|blonde|brunette"
    r"|redhead(?:ed)?|auburn|sepia|monochrome|bright(?:ly)?|dark(?:ness)?|dim(?:ly)?|pale|faded|vivid|neon|rainbow|sunny"
    r"|sunset|sunrise|dusk|dawn|night|nighttime|shadow(?:s|y)?|silhouettes?|silhouetted|fair|ginger|rust(?:y|ed)?|ripe"
    r"|camouflage|camo|plaid|tie-dyed?)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Augmentation:
    """Random crop, mirroring and colour jitter, each only where the captions stay true.

    Args:
        crop_scale (`tuple[float, float]`, defaults to `(0.8, 1.0)`): Share of the picture's area that is kept.
        crop_ratio (`tuple[float, float]`, defaults to `(0.9, 1.1)`): Change of its width to height, as a factor.
        flip (`float`, defaults to 0.5): How probable mirroring is. "left" and "right" change places in the captions;
            where a caption is ambiguous, the picture is not mirrored.
        flip_writing (`bool`, defaults to `False`): Mirror pictures of which a caption says that there is writing in
            them. It goes by the captions alone: writing that none of them mentions is not seen.
        jitter (`float`, defaults to 0.2): Brightness, contrast and saturation are changed by a factor of up to so much
            more or less than 1, in random order; hue by up to a tenth of it of a full turn.
        jitter_colors (`bool`, defaults to `False`): Change colours even where a caption names one, or says how light
            it is.
        rng (`random.Random`, *optional*): Where chance comes from. By default the `random` module, which PyTorch
            seeds anew in each worker and `transformers.set_seed` in the main process.

    Raises:
        ConfigurationError: A number outside of its range.
    """

    crop_scale: tuple[float, float] = (0.8, 1.0)
    crop_ratio: tuple[float, float] = (0.9, 1.1)
    flip: float = 0.5
    flip_writing: bool = False
    jitter: float = 0.2
    jitter_colors: bool = False
    rng: random.Random | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            raise ConfigurationError(f"crop_scale is two shares from above 0 to 1, not {self.crop_scale}.")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ConfigurationError(f"crop_ratio is two positive factors, not {self.crop_ratio}.")
        if not 0 <= self.flip <= 1 or not 0 <= self.jitter < 1:
            raise ConfigurationError("flip is from 0 to 1, jitter from 0 to below 1.")

    def __call__(self, picture: Image.Image, captions: Sequence[str]) -> tuple[Image.Image, tuple[str, ...]]:
        """Augment one picture.

        Args:
            picture (`PIL.Image.Image`): In mode `"RGB"`; it is not changed.
            captions (`Sequence[str]`): All its captions.

        Returns:
            `tuple[PIL.Image.Image, tuple[str, ...]]`: A picture in mode `"RGB"`, and captions that are true of it.
        """
        captions = tuple(captions)
        rng = self.rng or random
        if self.crop_scale[0] < 1:
            picture = self._cropped(picture, rng)
        if self.flip and rng.random() < self.flip:
            mirrored = self.mirrored_captions(captions)
            if mirrored is not None:
                picture, captions = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), mirrored
        if self.jitter and self.may_change_colors(captions):
            picture = self._jittered(picture, rng)
        return picture, captions

    @property
    def smallest_side(self) -> float:
        """The least share of a side that a crop keeps: a picture that is to fill n pixels needs n / share of them."""
        return math.sqrt(self.crop_scale[0] * min(1.0, self.crop_ratio[0], 1 / self.crop_ratio[1]))

    def mirrored_captions(self, captions: Sequence[str]) -> tuple[str, ...] | None:
        """The captions of the mirrored picture, or `None` where it must not be mirrored."""
        if not self.flip_writing and any(mentions_writing(caption) for caption in captions):
            return None
        mirrored = [mirror_caption(caption) for caption in captions]
        return None if None in mirrored else tuple(mirrored)  # type: ignore[arg-type]

    def may_change_colors(self, captions: Sequence[str]) -> bool:
        """Whether colours may change: no caption names one, or it is asked for nevertheless."""
        return self.jitter_colors or not any(_COLOR_WORD.search(caption) for caption in captions)

    def _cropped(self, picture: Image.Image, rng: Any) -> Image.Image:
        """A part of the picture, in its own resolution: to bring it to the model's size is the processor's work."""
        area = rng.uniform(*self.crop_scale)
        ratio = math.exp(rng.uniform(math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1])))
        width = min(picture.width, max(1, round(picture.width * math.sqrt(area * ratio))))
        height = min(picture.height, max(1, round(picture.height * math.sqrt(area / ratio))))
        left = rng.randint(0, picture.width - width)
        top = rng.randint(0, picture.height - height)
        return picture.crop((left, top, left + width, top + height))

    def _jittered(self, picture: Image.Image, rng: Any) -> Image.Image:
        enhancers = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
        rng.shuffle(enhancers)
        for enhancer in enhancers:
            picture = enhancer(picture).enhance(rng.uniform(1 - self.jitter, 1 + self.jitter))
        turn = round(rng.uniform(-self.jitter, self.jitter) * 0.1 * 256)
        if turn:
            hue, saturation, value = picture.convert("HSV").split()
            hue = hue.point([(level + turn) % 256 for level in range(256)])
            picture = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
        return picture


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "light": Augmentation(crop_scale=(0.9, 1.0), crop_ratio=(0.95, 1.05), jitter=0.1),
    "standard": Augmentation(),
}
"""By name, for `augment="standard"`."""


def load_augmentation(augment: str | Augmentation | None, **changes: Any) -> Augmentation | None:
    """The augmentation of a name.

    Args:
        augment (`str`, `Augmentation` or `None`): `"standard"`, `"light"`, `"none"`, or one of your own.
        **changes: Arguments of [`Augmentation`] that are to differ from what the name stands for.

    Raises:
        ConfigurationError: There is no such name, or a change cannot be.

    Example:
        ```python
        >>> from blip_refine.data.augment import load_augmentation
        >>> load_augmentation("standard", jitter_colors=True).crop_scale
        (0.8, 1.0)
        ```
    """
    if isinstance(augment, str):
        if augment not in AUGMENTATIONS:
            raise ConfigurationError(f"There is no augmentation {augment!r}; there are: {', '.join(AUGMENTATIONS)}.")
        augment = AUGMENTATIONS[augment]
    if augment is None or not changes:
        return augment
    known = [one.name for one in fields(Augmentation)]
    for name in changes:
        if name not in known:
            raise ConfigurationError(f"An augmentation has no {name!r}; it has: {', '.join(known)}.")
    return replace(augment, **changes)
