"""What is not published before a person has looked at it: captions of low confidence, and with blocked words."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .errors import ConfigurationError
from .records import Caption


class ReviewRules:
    """Flags captions for review.

    Args:
        abstain_below (`float`, *optional*): Captions whose confidence (mean log-probability of a token, at most 0) is
            lower are flagged. [`calibrate_abstention`] finds the value for a wanted quality.
        blocked_words (`Sequence[str]`, defaults to `()`): Captions that say one of these words or phrases, in
            whatever case, width and kind of apostrophe, are flagged.

    Raises:
        ConfigurationError: The threshold is no confidence, or a word no text.
    """

    def __init__(self, abstain_below: float | None = None, blocked_words: Sequence[str] = ()):
        if isinstance(blocked_words, str):
            raise ConfigurationError(f"`blocked_words` is a list of words; write [{blocked_words!r}].")
        if abstain_below is not None and not (isinstance(abstain_below, (int, float)) and abstain_below <= 0):
            raise ConfigurationError(
                f"`abstain_below` is a mean log-probability, such as -1.5 and at most 0, not {abstain_below!r}."
            )
        self.abstain_below, self.blocked_words = abstain_below, tuple(blocked_words)
        for word in self.blocked_words:
            if not isinstance(word, str):
                raise ConfigurationError(f"`blocked_words` is a list of words; {word!r} is none.")
        plain = map(_plain, self.blocked_words)
        phrases = [r"\s+".join(map(re.escape, word.split())) for word in plain if word.strip()]
        self._blocked = re.compile(rf"(?<!\w)(?:{'|'.join(phrases)})(?!\w)") if phrases else None

    def abstain(self, caption: Caption) -> Caption:
        """Flag a draft that the captioner is not sure of."""
        if self.abstain_below is None or caption.confidence is None or caption.confidence >= self.abstain_below:
            return caption
        review = f"the confidence, {caption.confidence:.2f}, is below {self.abstain_below:.2f}"
        return replace(caption, text="", review=review)

    def block(self, caption: Caption) -> Caption:
        """Flag a caption that says a blocked word. Where only the refiner said it, the draft stands."""
        found = self._blocked.search(_plain(caption.text)) if self._blocked else None
        if self._blocked is None or found is None:
            return caption
        reason = f"says the blocked word {found.group()!r}"
        if caption.refined and not self._blocked.search(_plain(caption.draft)):
            return replace(caption, text=caption.draft, refined=False, reason=f"the refined caption {reason}")
        return replace(caption, text="", review=reason)


def _plain(text: str) -> str:
    """Text in which spellings that look alike are alike: one case, one width, one apostrophe, nothing invisible."""
    text = unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


_APOSTROPHES = dict.fromkeys(map(ord, "\u2018\u2019\u02bc\u00b4`"), "'")


def review_queue(captions: Iterable[Caption]) -> list[Caption]:
    """Captions in the order in which a person should look at them.

    Args:
        captions (`Iterable[Caption]`): Of one run.

    Returns:
        `list[Caption]`: Those without an error: flagged ones first, then by confidence (by `image_gain` where that was
            computed for all), the least sure first.
    """
    waiting = [caption for caption in captions if caption.error is None]
    by_gain = bool(waiting) and all(caption.image_gain is not None for caption in waiting)

    def order(caption: Caption) -> tuple[bool, float]:
        value = caption.image_gain if by_gain else caption.confidence
        return caption.review is None, float("-inf") if value is None else value

    return sorted(waiting, key=order)


@dataclass(frozen=True, slots=True)
class Abstention:
    """A threshold, and what it did on the captions that it was found with.

    Args:
        abstain_below (`float`): The threshold.
        kept (`float`): Share of captions at or above it, 0 to 1.
        quality (`float`): Mean quality of these.
        quality_of_all (`float`): Mean quality without any threshold.
    """

    abstain_below: float
    kept: float
    quality: float
    quality_of_all: float


def calibrate_abstention(
    confidences: Sequence[float], qualities: Sequence[float], *, target: float, at_least: int = 20
) -> Abstention:
    """The threshold that keeps as many captions as it can while their mean quality reaches a target.

    Use captions of images that were neither trained on nor are evaluated on afterwards.

    Args:
        confidences (`Sequence[float]`): Of n captions.
        qualities (`Sequence[float]`): How good each of them is: 1 and 0 for right and wrong (the target is then a
            precision), or any score that is higher for better captions, such as a CIDEr per image.
        target (`float`): The mean quality that the kept captions must reach.
        at_least (`int`, defaults to 20): A threshold that keeps fewer captions is not believed.

    Returns:
        [`Abstention`]

    Raises:
        ConfigurationError: Too few captions, numbers that are none, or no threshold reaches the target; the message
            says what can be had.
    """
    if len(confidences) != len(qualities):
        raise ConfigurationError(f"There are {len(confidences)} confidences and {len(qualities)} qualities.")
    if at_least < 1:
        raise ConfigurationError(f"`at_least` counts captions and cannot be {at_least}.")
    for name, values in (("confidence", confidences), ("quality", qualities)):
        for place, value in enumerate(values):
            if value is None or not math.isfinite(value):
                raise ConfigurationError(
                    f"The {name} of caption {place} is {value}: leave out captions that have none, such as those with "
                    "an error."
                )
    if len(confidences) < at_least:
        raise ConfigurationError(
            f"{len(confidences)} captions are too few to calibrate with; give {at_least} or more."
        )
    ranked = sorted(zip(confidences, qualities, strict=True), reverse=True)
    found: Abstention | None = None
    best = float("-inf")
    total = 0.0
    mean_of_all = sum(qualities) / len(qualities)
    for count, (confidence, quality) in enumerate(ranked, 1):
        total += quality
        # Captions of equal confidence are kept or flagged together.
        tied = count < len(ranked) and ranked[count][0] == confidence
        if count < at_least or tied:
            continue
        best = max(best, total / count)
        if total / count >= target:
            found = Abstention(float(confidence), count / len(ranked), float(total / count), float(mean_of_all))
    if found is None:
        raise ConfigurationError(
            f"No threshold reaches a mean quality of {target:g}: the surest {at_least} captions or more reach at most "
            f"{best:g}. Lower the target or improve the captioner."
        )
    return found
