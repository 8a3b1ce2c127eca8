"""`score_captions`: the scores of a captioner over a set of images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..errors import ConfigurationError, MetricError
from .cider import DocumentFrequencies
from .families import ALL_METRICS, COCO_METRICS, FAMILIES, Job, metric_names
from .plausibility import score_warnings
from .references import PreparedReferences
from .statistics import Interval, MetricStatistics, bootstrap_interval
from .tokenizer import TOKENIZER
from .validation import check_captions

__all__ = ["ALL_METRICS", "COCO_METRICS", "CaptionScores", "metric_names", "score_captions"]


@dataclass(frozen=True)
class CaptionScores:
    """The scores of one system.

    Args:
        corpus (`dict[str, float]`): Metric to score, on COCO's scale (0 to 1; CIDEr 0 to 10).
        per_image (`dict[str, dict[str, float]]`): Metric to image id to score.
        signature (`str`): What was computed and how: all that another person needs to get the same numbers.
        unavailable (`dict[str, str]`): Metrics that were asked for and could not be computed, with the reason.
        warnings (`tuple[str, ...]`): What a reader of the scores must know.
        intervals (`dict[str, Interval]`): Bootstrap intervals, where they were asked for.
        statistics (`dict[str, MetricStatistics]`): What the scores are aggregated from, for resampling.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[str, float]] = field(repr=False)
    signature: str
    unavailable: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    intervals: dict[str, Interval] = field(default_factory=dict)
    statistics: dict[str, MetricStatistics] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The form of `coco_metrics.json`: metrics by name, `signature`, `unavailable`, and what else is known."""
        value: dict[str, Any] = {**self.corpus, "signature": self.signature, "unavailable": dict(self.unavailable)}
        if self.warnings:
            value["warnings"] = list(self.warnings)
        if self.intervals:
            value["intervals"] = {
                name: {"low": i.low, "high": i.high, "level": i.level, "resamples": i.resamples, "seed": i.seed}
                for name, i in self.intervals.items()
            }
        return value


def score_captions(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    metrics: Sequence[str] | None = None,
    *,
    allow_empty: bool = False,
    bootstrap: int = 0,
    level: float = 0.95,
    seed: int = 0,
    document_frequencies: DocumentFrequencies | None = None,
    photos: bool = True,
    spice_images: int | None = None,
    images: Mapping[str, str | os.PathLike] | None = None,
    models: Mapping[str, str] | None = None,
) -> CaptionScores:
    """Score one caption an image against its references, as the COCO evaluation does.

    BLEU, ROUGE-L and CIDEr equal `pycocoevalcap` 1.2 to the last bits on equal tokens; the tokens are those that its
    Java tokenizer gives each caption by itself. METEOR 1.5 is the official program.

    Args:
        predictions (`Mapping[str, str]`): Image id to caption.
        references (`Mapping[str, Sequence[str]]` or `PreparedReferences`): Image id to reference captions. Prepare
            them once to score several systems.
        metrics (`Sequence[str]`, *optional*): Which to compute, of `ALL_METRICS`; `"Bleu"` stands for all four.
            Defaults to `COCO_METRICS`.
        allow_empty (`bool`, defaults to `False`): Score empty predictions as they are instead of refusing them.
        bootstrap (`int`, defaults to 0): Resamples for bootstrap intervals; 0 for none.
        level (`float`, defaults to 0.95): The level of those intervals.
        seed (`int`, defaults to 0): What is drawn is drawn with this.
        document_frequencies (`DocumentFrequencies`, *optional*): How rare phrases are, for CIDEr; by default counted
            over these references.
        spice_images (`int`, *optional*): Score SPICE, and SPICE alone, on so many randomly drawn images.
        photos (`bool`, defaults to `True`): Whether the images are natural photos, of which scores above what people
            reach are warned about.
        images (`Mapping[str, str or os.PathLike]`, *optional*): Image id to picture, for CLIPScore.
        models (`Mapping[str, str]`, *optional*): The models of `"BERTScore"` and `"CLIPScore"`.

    Returns:
        `CaptionScores`: A metric that cannot be computed on this machine is in `unavailable` with the reason and what
        to install; it is never zero and never null.

    Raises:
        MetricError: Predictions and references do not belong together; every fault is named, with a count and
            examples.
        ConfigurationError: An unknown metric, or `spice_images` below 1.

    ```python
    >>> from blip_refine.metrics import score_captions
    >>> scores = score_captions({"1": "a dog runs", "2": "two boats"}, {"1": ["a dog runs"], "2": ["two red boats"]},
    ...                         metrics=["Bleu_1", "ROUGE_L"])
    >>> round(scores.corpus["Bleu_1"], 3), round(scores.per_image["ROUGE_L"]["2"], 3)
    (0.819, 0.772)
    ```
    """
    names = metric_names(metrics)
    if spice_images is not None and spice_images < 1:
        raise ConfigurationError(f"SPICE needs at least one image, not {spice_images}.")
    check_captions(predictions, references, allow_empty=allow_empty)
    if not isinstance(references, PreparedReferences) or document_frequencies is not None:
        references = PreparedReferences(references, document_frequencies)
    job = Job(predictions, references, names, seed, spice_images, images, models)
    statistics: dict[str, MetricStatistics] = {}
    unavailable: dict[str, str] = {}
    scorers = []
    for family in FAMILIES.values():
        asked = [name for name in family.names if name in names]
        if not asked:
            continue
        try:
            found, scorer = family.compute(job)
        except (ConfigurationError, MetricError) as error:
            # The input was checked before: what fails here is a scorer, and the others need not be lost with it.
            unavailable.update(dict.fromkeys(asked, str(error)))
        else:
            statistics.update(found)
            scorers.append(scorer)

    statistics = {name: statistics[name] for name in names if name in statistics}
    corpus = {name: value.corpus for name, value in statistics.items()}
    empty = sum(not text.strip() for text in predictions.values())
    return CaptionScores(
        corpus=corpus,
        per_image={
            name: dict(zip(value.image_ids, value.per_image.tolist(), strict=True))
            for name, value in statistics.items()
        },
        signature=_signature(references, scorers),
        unavailable=unavailable,
        warnings=tuple(
            score_warnings(corpus, len(references), references.document_frequencies is not None, empty, photos)
        ),
        intervals=_intervals(statistics, bootstrap, level, seed),
        statistics=statistics,
    )


def _intervals(
    statistics: Mapping[str, MetricStatistics], resamples: int, level: float, seed: int
) -> dict[str, Interval]:
    if not resamples:
        return {}
    return {
        name: bootstrap_interval(value, resamples, level, seed)
        for name, value in statistics.items()
        if len(value) > 1  # One image has no spread to resample.
    }


def _signature(references: PreparedReferences, scorers: Sequence[str]) -> str:
    """One line that says how the scores were made, in sacreBLEU's manner: scorers, tokenizer, case, references."""
    low, high = references.counts
    return "|".join(
        [
            f"images:{len(references)}",
            f"refs:{low}" if low == high else f"refs:{low}-{high}",
            "case:lc",
            f"tok:{TOKENIZER}",
            *scorers,
            f"version:{__version__}",
        ]
    )
