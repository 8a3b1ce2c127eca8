"""What a data set is, in numbers: counts, lengths of captions, vocabulary, sizes of images."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..records import CaptionRecord
from .inspection import ImageFacts
from .rejections import Rejections

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def dataset_statistics(
    records: Sequence[CaptionRecord], facts: Sequence[ImageFacts] = (), rejections: Rejections | None = None
) -> dict[str, Any]:
    """Numbers of a data set, ready for JSON.

    Args:
        records (`Sequence[CaptionRecord]`): The data set.
        facts (`Sequence[ImageFacts]`, *optional*): What its images are, in the same order.
        rejections (`Rejections`, *optional*): What was left out of it.

    Returns:
        `dict[str, Any]`: `images`, `captions`, `splits` and `sources` (images and captions of each),
        `words_per_caption` and `captions_per_image` (`mean`, `median`, `min`, `max`, `histogram`), `vocabulary`
        (`words`, `once`, `most_common`), `image_sides` (shorter side in pixels), `image_formats`, `rejected` (counts
        by reason). What is empty is left out. Words are maximal runs of letters and digits, with inner hyphens and
        apostrophes, compared without regard to case.
    """
    captions = [caption for record in records for caption in record.captions]
    lengths = []
    words: Counter[str] = Counter()
    for caption in captions:
        found = _WORD.findall(caption.casefold())
        lengths.append(len(found))
        words.update(found)
    result: dict[str, Any] = {
        "images": len(records),
        "captions": len(captions),
        "splits": _parts(records, "split"),
        "sources": _parts(records, "source"),
        "captions_per_image": _distribution([len(record.captions) for record in records]),
        "words_per_caption": _distribution(lengths),
        "vocabulary": {
            "words": len(words),
            "once": sum(count == 1 for count in words.values()),
            "most_common": [[word, count] for word, count in words.most_common(30)],
        },
        "image_sides": _distribution([min(fact.width, fact.height) for fact in facts], histogram=False),
        "image_formats": dict(Counter(fact.format for fact in facts).most_common()),
        "rejected": rejections.counts if rejections is not None else {},
    }
    return {key: value for key, value in result.items() if value != {} or key == "rejected"}


def _parts(records: Sequence[CaptionRecord], attribute: str) -> dict[str, dict[str, int]]:
    parts: dict[str, dict[str, int]] = {}
    for record in records:
        part = parts.setdefault(getattr(record, attribute) or "(none)", {"images": 0, "captions": 0})
        part["images"] += 1
        part["captions"] += len(record.captions)
    order = {"train": 0, "validation": 1, "test": 2}
    return dict(sorted(parts.items(), key=lambda pair: (order.get(pair[0], 3), pair[0])))


def _distribution(values: Sequence[int], histogram: bool = True) -> dict[str, Any]:
    if not values:
        return {}
    result: dict[str, Any] = {
        "mean": round(statistics.fmean(values), 2),
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }
    if histogram:
        result["histogram"] = [[value, count] for value, count in sorted(Counter(values).items())]
    return result
