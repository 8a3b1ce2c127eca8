"""The captions of one system over a set of images, scored, and several of them as the result files of a run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import MetricError
from ..metrics import CaptionScores, score_captions
from ..metrics.families import metric_names
from ..records import CaptionRecord
from .caption_set import diversity_row
from .compare import score_against_first
from .evaluator import write_results
from .significance import compare_scores

BOOTSTRAP_RESAMPLES = 1000
CONTAMINATED = "images of this evaluation were in the training set: the scores measure memory"


@dataclass(frozen=True, slots=True)
class CaptionedImage:
    """An evaluated image and what one system said of it.

    Args:
        record ([`CaptionRecord`]): The image with its references.
        caption (`str`): The caption.
        confidence (`float`, *optional*): Mean natural log-probability of its tokens.
        candidates (`tuple[str, ...]`, *optional*): All captions that the system gave the image, `caption` among them.
    """

    record: CaptionRecord
    caption: str
    confidence: float | None = None
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """The captions of one system over a set of images, and their scores.

    Args:
        images (`Sequence[CaptionedImage]`): One an image, in the order of the dataset.
        scores ([`CaptionScores`]): Corpus and per-image scores with signature, and what could not be computed.
        contaminated (`bool`, defaults to `False`): Whether images of it were trained on.
        refinement (`Mapping[str, Any]`, *optional*): What became of the captions that a refiner was asked about
            ([`RefineCounts`]); `None` without a refiner.
        single_reference ([`CaptionScores`], *optional*): Scores against the first reference of each image alone.
        diversity (`Mapping[str, Any]`, *optional*): How varied the captions are ([`diversity_row`]).
        test_loss (`Mapping[str, Any]`, *optional*): How probable the references are ([`reference_loss`]).
    """

    images: Sequence[CaptionedImage]
    scores: CaptionScores
    contaminated: bool = False
    refinement: Mapping[str, Any] | None = None
    single_reference: CaptionScores | None = None
    diversity: Mapping[str, Any] | None = None
    test_loss: Mapping[str, Any] | None = None

    @property
    def captions(self) -> dict[str, str]:
        """Image id to caption."""
        return {image.record.image_id: image.caption for image in self.images}

    @property
    def row(self) -> dict[str, Any]:
        """What `coco_metrics.json` says of this system."""
        row = {**self.scores.to_dict(), "images": len(self.images)}
        for name in ("refinement", "diversity", "test_loss"):
            if getattr(self, name) is not None:
                row[name] = dict(getattr(self, name))
        if self.single_reference is not None:
            row["single_reference"] = self.single_reference.to_dict()
        return {**row, "contaminated": CONTAMINATED} if self.contaminated else row

    def scores_of(self, image_id: str) -> dict[str, float]:
        """Metric to the score of one image; empty where it was not scored."""
        per_image = self.scores.per_image
        return {metric: round(values[image_id], 6) for metric, values in per_image.items() if image_id in values}

    def write(self, folder: str | os.PathLike, system: str = "after") -> None:
        """Write this one system's result files into a run folder. See [`write_systems`]."""
        write_systems(folder, {system: self})


def evaluate_predictions(
    images: Sequence[CaptionedImage],
    *,
    metrics: Sequence[str] | None = None,
    bootstrap: int = BOOTSTRAP_RESAMPLES,
    contaminated: bool = False,
    spice_images: int | None = None,
    **diversity: Any,
) -> Evaluation:
    """Score captions against the references of their images.

    Args:
        images (`Sequence[CaptionedImage]`): One an image.
        metrics (`Sequence[str]`, *optional*): Defaults to all of [`score_captions`].
        bootstrap (`int`, defaults to 1000): Resamples for the 95 % intervals; 0 for none.
        contaminated (`bool`, defaults to `False`): Whether images of it were trained on.
        spice_images (`int`, *optional*): Score SPICE on so many randomly drawn images only.
        **diversity: `why_one` and `training_captions` of [`diversity_row`].

    Raises:
        MetricError: There is nothing to score, or an image has no reference.
    """
    if not images:
        raise MetricError("There is no captioned image to score.")
    captions = {image.record.image_id: image.caption for image in images}
    references = {image.record.image_id: list(image.record.captions) for image in images}
    scores = score_captions(
        captions,
        references,
        metrics=metrics,
        bootstrap=bootstrap,
        photos=not all((image.record.source or "").startswith("scenes:") for image in images),
        # An untrained model may say nothing at all. That is a score of zero, not a mistake of the user.
        allow_empty=True,
        spice_images=spice_images,
    )
    single = score_against_first({"": captions}, references, metric_names(metrics), bootstrap=bootstrap)
    candidates = {image.record.image_id: image.candidates for image in images}
    return Evaluation(
        list(images),
        scores,
        contaminated,
        single_reference=single.get(""),
        diversity=diversity_row(captions, candidates, **diversity),
    )


def write_systems(folder: str | os.PathLike, systems: Mapping[str, Evaluation], *, final: str | None = None) -> None:
    """Write `coco_metrics.json`, `predictions.jsonl` and `images/` of a run.

    Args:
        folder (`str` or `os.PathLike`): The run folder.
        systems (`Mapping[str, Evaluation]`): By name, in the order of the story ("before", "after", "refined").
        final (`str`, *optional*): The system that the run stands for, whose scores stand at the top level of
            `coco_metrics.json`; the last by default.
    """
    first, final = next(iter(systems)), final or list(systems)[-1]
    metrics = {name: evaluation.row for name, evaluation in systems.items()}
    captions = {name: evaluation.captions for name, evaluation in systems.items()}
    rows = []
    for image in systems[final].images:
        image_id = image.record.image_id
        row: dict[str, Any] = {
            "image_id": image_id,
            "caption": image.caption,
            "references": list(image.record.captions),
            "systems": {name: texts[image_id] for name, texts in captions.items() if image_id in texts},
            "scores": {name: evaluation.scores_of(image_id) for name, evaluation in systems.items()},
        }
        if image.confidence is not None:
            row["confidence"] = image.confidence
        rows.append(row)
    value: dict[str, Any] = {**metrics[final], "final": final, "systems": metrics}
    if comparable(systems.values()):
        tests = compare_scores({name: evaluation.scores for name, evaluation in systems.items()})
        value["comparisons"] = [test.to_dict() for test in tests]
    write_results(
        folder,
        value,
        rows,
        [image.record for image in systems[final].images],
        gains=_gains(systems[first], systems[final]),
    )


def comparable(systems: Iterable[Evaluation]) -> bool:
    """Whether systems can be tested against each other: at least two, on the same images, at least two of them."""
    seen = [tuple(image.record.image_id for image in evaluation.images) for evaluation in systems]
    return len(seen) > 1 and len(set(seen)) == 1 and len(seen[0]) > 1


def _gains(first: Evaluation, last: Evaluation) -> dict[str, float]:
    """What each image gained in CIDEr; nothing where one of the two was not scored by it."""
    before, after = (evaluation.scores.per_image.get("CIDEr", {}) for evaluation in (first, last))
    return {image_id: score - before[image_id] for image_id, score in after.items() if image_id in before}
