"""Objects that captions make up, and objects that they leave out.

CHAIR (Rohrbach et al. 2018, "Object Hallucination in Image Captioning"): CHAIRi is the share of mentioned objects
that are not in the picture, CHAIRs the share of captions that mention one. Both need to know what is in the picture:
COCO's instance annotations, or scenes that were drawn. Where nobody knows, `reference_hallucination` compares with
what people wrote; that is another quantity (people leave things out, too), and is named otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import MetricError
from ..records import SceneObject
from .objects import ObjectVocabulary
from .statistics import MetricStatistics


@dataclass(frozen=True)
class Hallucination:
    """Objects made up and left out by the captions of one system.

    Args:
        source (`str`): What was taken for the truth: "objects", "objects+references" or "references".
        rates (`dict[str, float]`): `CHAIRi` (share of mentions), `CHAIRs` (share of captions) and `omission` (share of
            true objects not mentioned); with `_references` behind the names where references are the only truth. A
            rate without anything to count (no mention at all) is left out.
        invented (`dict[str, tuple[str, ...]]`): Image id to the objects that its caption made up, where there are any.
        omitted (`dict[str, tuple[str, ...]]`): Image id to true objects that its caption does not mention.
        statistics (`dict[str, MetricStatistics]`): The rates as what they are aggregated from, for resampling.
    """

    source: str
    rates: dict[str, float]
    invented: dict[str, tuple[str, ...]] = field(repr=False)
    omitted: dict[str, tuple[str, ...]] = field(repr=False)
    statistics: dict[str, MetricStatistics] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Rates and source, as JSON."""
        return {**self.rates, "source": self.source}


def object_hallucination(
    predictions: Mapping[str, str],
    objects: Mapping[str, Iterable[str | SceneObject]],
    vocabulary: ObjectVocabulary | None = None,
    references: Mapping[str, Sequence[str]] | None = None,
) -> Hallucination:
    """CHAIRi, CHAIRs and the omission rate, where the objects in the pictures are known.

    Args:
        predictions (`Mapping[str, str]`): Image id to caption.
        objects (`Mapping[str, Iterable[str or SceneObject]]`): Image id to what is truly there.
        vocabulary (`ObjectVocabulary`, *optional*): The names to look for; by default those of all true objects.
        references (`Mapping[str, Sequence[str]]`, *optional*): Captions by people: what they mention counts as true,
            too, as in the paper's evaluation on COCO. It is not expected of a caption, so the omission rate stays one
            of `objects`.

    Raises:
        MetricError: There are no predictions, or images without known objects.
    """
    unknown = [image_id for image_id in predictions if image_id not in objects]
    if unknown or not predictions:
        raise MetricError(
            f"The objects of {len(unknown)} of {len(predictions)} images are not known "
            f"({', '.join(map(repr, unknown[:3]))}): leave those images out, or use reference_hallucination."
        )
    truth = {image_id: [_name(thing) for thing in objects[image_id]] for image_id in predictions}
    if vocabulary is None:
        vocabulary = ObjectVocabulary.of(sorted({_name(thing) for things in objects.values() for thing in things}))
    allowed = {image_id: set(things) for image_id, things in truth.items()}
    if references is not None:
        for image_id in predictions:
            allowed[image_id].update(*(vocabulary.mentions(text) for text in references.get(image_id, ())))
    source = "objects" if references is None else "objects+references"
    return _measure(predictions, truth, allowed, vocabulary, source, "")


def reference_hallucination(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], vocabulary: ObjectVocabulary | None = None
) -> Hallucination:
    """The same against references alone: `CHAIRi_references`, `CHAIRs_references`, `omission_references`.

    An object that people did not mention may well be there: this overstates what is made up, the more so the fewer
    references an image has. `omission_references` is the share of objects mentioned by *more than half* of an image's
    references that the caption lacks.

    Args:
        predictions (`Mapping[str, str]`): Image id to caption.
        references (`Mapping[str, Sequence[str]]`): Image id to captions by people.
        vocabulary (`ObjectVocabulary`, *optional*): The names to look for; COCO's eighty categories by default.
    """
    missing = [image_id for image_id in predictions if not references.get(image_id)]
    if missing or not predictions:
        raise MetricError(f"{len(missing)} of {len(predictions)} images have no references.")
    vocabulary = vocabulary or ObjectVocabulary.coco()
    truth, allowed = {}, {}
    for image_id in predictions:
        said = [set(vocabulary.mentions(text)) for text in references[image_id]]
        allowed[image_id] = set().union(*said)
        truth[image_id] = [
            thing for thing in sorted(allowed[image_id]) if 2 * sum(thing in one for one in said) > len(said)
        ]
    return _measure(predictions, truth, allowed, vocabulary, "references", "_references")


def _name(thing: str | SceneObject) -> str:
    return thing.name if isinstance(thing, SceneObject) else thing


def _measure(
    predictions: Mapping[str, str],
    truth: Mapping[str, Sequence[str]],
    allowed: Mapping[str, set[str]],
    vocabulary: ObjectVocabulary,
    source: str,
    suffix: str,
) -> Hallucination:
    rows = np.zeros((len(predictions), 5))
    invented, omitted = {}, {}
    for place, (image_id, caption) in enumerate(predictions.items()):
        mentioned = vocabulary.mentions(caption)
        wrong = [thing for thing in mentioned if thing not in allowed[image_id]]
        expected = sorted(set(truth[image_id]) & vocabulary.objects)
        lacking = [thing for thing in expected if thing not in mentioned]
        rows[place] = len(wrong), len(mentioned), bool(wrong), len(lacking), len(expected)
        if wrong:
            invented[image_id] = tuple(dict.fromkeys(wrong))
        if lacking:
            omitted[image_id] = tuple(lacking)
    ids = tuple(predictions)
    statistics = {
        name: MetricStatistics(name, ids, part, ratio(part))
        for name, part in (
            (f"CHAIRi{suffix}", rows[:, [0, 1]]),
            (f"CHAIRs{suffix}", np.stack([rows[:, 2], np.ones(len(ids))], axis=1)),
            (f"omission{suffix}", rows[:, [3, 4]]),
        )
    }
    statistics = {name: value for name, value in statistics.items() if value.rows[:, 1].sum() > 0}
    rates = {name: value.corpus for name, value in statistics.items()}
    return Hallucination(source, rates, invented, omitted, statistics)


def ratio(rows: np.ndarray) -> np.ndarray:
    """Share of each image, 0 where it has nothing to count."""
    return np.divide(rows[:, 0], rows[:, 1], out=np.zeros(len(rows)), where=rows[:, 1] > 0)
