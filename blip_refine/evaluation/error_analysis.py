"""What goes wrong, how often, and where: the faults of every caption of a system, counted and sliced.

Needs neither torch nor transformers: it reads captions, references and, where they are known, true objects.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..metrics.statistics import MetricStatistics, bootstrap_interval
from ..records import SceneObject
from .elements import elements, true_elements
from .faults import FAULTS, Fault, find_faults

RICH = 3
"""A caption that names so many different things or more counts as detailed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the analysis is given about one image.

    Args:
        image_id (`str`): Its name.
        caption (`str`): What the system said.
        references (`tuple[str, ...]`): What people wrote; may be empty.
        objects (`tuple[SceneObject, ...]`, *optional*): What is truly there, where it is known.
        background (`tuple[str, ...]`): What may truly be said of what is behind the objects ("in a green field").
    """

    image_id: str
    caption: str
    references: tuple[str, ...] = ()
    objects: tuple[SceneObject, ...] | None = None
    background: tuple[str, ...] = ()


@dataclass(frozen=True)
class ErrorAnalysis:
    """The faults of one system.

    Args:
        faults (`dict[str, tuple[Fault, ...]]`): Image id to its faults, for every image.
        rates (`dict[str, tuple[float, float, float]]`): Kind of fault to the share of captions that have it, with the
            ends of its 95 % interval (Wilson). Only kinds that could be judged.
        elements (`dict[str, int]`): Image id to how many different things its caption names.
        shared (`float`): Share of captions that are said of more than one image.
    """

    faults: dict[str, tuple[Fault, ...]]
    rates: dict[str, tuple[float, float, float]]
    elements: dict[str, int] = field(repr=False)
    shared: float

    @property
    def mean_elements(self) -> float:
        """Different things that a caption names, on average."""
        return sum(self.elements.values()) / len(self.elements) if self.elements else 0.0

    @property
    def detailed(self) -> float:
        """Share of captions that name three different things or more."""
        return sum(count >= RICH for count in self.elements.values()) / max(len(self.elements), 1)

    def having(self, kind: str) -> list[str]:
        """The images whose caption has a fault of this kind, in their order."""
        return [image_id for image_id, faults in self.faults.items() if any(fault.kind == kind for fault in faults)]

    def to_dict(self) -> dict[str, Any]:
        """Rates and counts, as they are written to JSON."""
        return {
            "faults": {
                kind: {"share": share, "low": low, "high": high} for kind, (share, low, high) in self.rates.items()
            },
            "shared_captions": self.shared,
            "elements_per_caption": self.mean_elements,
            "three_or_more_elements": self.detailed,
        }


def analyse_errors(judged: Sequence[Judged]) -> ErrorAnalysis:
    """Find and count the faults of one system's captions.

    Args:
        judged (`Sequence[Judged]`): An entry an image.
    """
    vocabulary = object_vocabulary(judged)
    said_of = Counter(_normal(one.caption) for one in judged)
    faults: dict[str, tuple[Fault, ...]] = {}
    for one in judged:
        found = find_faults(one.caption, one.references, one.objects, vocabulary, one.background)
        others = said_of[_normal(one.caption)]
        if others > 1 and _normal(one.caption):
            found.append(Fault("generic", "", f"is said of {others} different images", "itself"))
        faults[one.image_id] = tuple(found)
    with_references = sum(bool(one.references) or one.objects is not None for one in judged)
    rates = {}
    for kind in FAULTS:
        by_truth = kind in ("hallucination", "wrong colour", "wrong count", "omission")
        total = with_references if by_truth else len(judged)
        if total:
            held = sum(any(fault.kind == kind for fault in found) for found in faults.values())
            rates[kind] = (held / total, *wilson(held, total))
    return ErrorAnalysis(
        faults=faults,
        rates=rates,
        elements={one.image_id: len({item.noun for item in elements(one.caption)}) for one in judged},
        shared=rates["generic"][0] if judged else 0.0,
    )


def object_vocabulary(judged: Sequence[Judged]) -> frozenset[str]:
    """The nouns whose presence the true objects of a dataset decide: all that are an object of any of its images."""
    return frozenset(thing.noun for one in judged if one.objects for thing in true_elements(one.objects))


def background_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """What an image's metadata say of its background: the phrases under `background`, where there are any."""
    phrases = metadata.get("background")
    return tuple(str(phrase) for phrase in phrases) if isinstance(phrases, (list, tuple)) else ()


def people_judged(judged: Sequence[Judged]) -> list[Judged]:
    """The first reference of each image in the place of a caption, judged by the other references.

    People, too, mention what nobody else does. Their rates say what a rate by references is worth.
    """
    return [
        Judged(one.image_id, one.references[0], one.references[1:], one.objects, one.background)
        for one in judged
        if len(one.references) > 1
    ]


def wilson(held: int, total: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): within 0 and 1, and right for rare faults too.

    Args:
        held (`int`): How many have it.
        total (`int`): Of how many.
        z (`float`, defaults to 1.959964): The normal quantile of the level.
    """
    if not total:
        return 0.0, 1.0
    share = held / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def _normal(caption: str) -> str:
    return " ".join(re.findall(r"\w+", caption.lower()))


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the images.

    Args:
        by (`str`): What the images were divided by ("confidence", "words", "place").
        name (`str`): Which part this is.
        image_ids (`tuple[str, ...]`): Its images.
    """

    by: str
    name: str
    image_ids: tuple[str, ...]


def slices_by_number(by: str, values: Mapping[str, float], parts: int = 4) -> list[Slice]:
    """Images divided into parts of about the same size by a number.

    Args:
        by (`str`): What the number is.
        values (`Mapping[str, float]`): Image id to number.
        parts (`int`, defaults to 4): How many parts; fewer where many numbers are equal.
    """
    if len(values) < 2 * parts:
        return []
    numbers = np.array(list(values.values()), dtype=float)
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, parts + 1)))
    if len(edges) < 3:
        return []
    place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
    found = []
    for part in range(len(edges) - 1):
        held = tuple(image_id for image_id, where in zip(values, place, strict=True) if where == part)
        if held:
            inside = numbers[place == part]
            low, high = _short(float(inside.min())), _short(float(inside.max()))
            found.append(Slice(by, low if low == high else f"{low} to {high}", held))
    return found


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.2f}"


def slices_by_name(by: str, values: Mapping[str, str], most: int = 10, least: int = 5) -> list[Slice]:
    """Images divided by a name, the largest part first.

    Args:
        by (`str`): What the name is.
        values (`Mapping[str, str]`): Image id to name.
        most (`int`, defaults to 10): With more different names than this there are no slices: it is an id.
        least (`int`, defaults to 5): Parts with fewer images are left out.
    """
    names = Counter(values.values())
    if not 1 < len(names) <= most:
        return []
    return [
        Slice(by, name, tuple(image_id for image_id, held in values.items() if held == name))
        for name, count in names.most_common()
        if count >= least
    ]


@dataclass(frozen=True, slots=True)
class SliceScore:
    """A system on one slice.

    Args:
        by (`str`): What the images were divided by.
        name (`str`): Which part.
        images (`int`): How many images it has.
        score (`float`): Mean per-image score.
        low (`float`): Lower end of its 95 % bootstrap interval.
        high (`float`): Upper end.
        faulty (`float`): Share of captions with a fault other than "generic".
    """

    by: str
    name: str
    images: int
    score: float
    low: float
    high: float
    faulty: float


def score_slices(
    slices: Sequence[Slice], scores: Mapping[str, float], analysis: ErrorAnalysis, resamples: int = 1000
) -> list[SliceScore]:
    """Mean score and share of faulty captions on each slice.

    Args:
        slices (`Sequence[Slice]`): The parts.
        scores (`Mapping[str, float]`): Image id to score.
        analysis (`ErrorAnalysis`): The same system's faults.
        resamples (`int`, defaults to 1000): For the intervals.
    """
    found = []
    for part in slices:
        ids = [image_id for image_id in part.image_ids if image_id in scores]
        if len(ids) < 2:
            continue
        values = np.array([scores[image_id] for image_id in ids])
        interval = bootstrap_interval(MetricStatistics.from_mean("score", ids, values), resamples)
        faulty = sum(any(fault.kind != "generic" for fault in analysis.faults.get(image_id, ())) for image_id in ids)
        found.append(
            SliceScore(part.by, part.name, len(ids), interval.score, interval.low, interval.high, faulty / len(ids))
        )
    return found
