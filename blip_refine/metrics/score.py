"""`score_captions`: the scores of a captioner over a set of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from .. import __version__
from ..errors import ConfigurationError
from .bleu import aggregate_bleu, bleu_rows
from .cider import SIGMA, CiderWeights
from .ngrams import ORDERS, PredictionGrams, ReferenceIndex
from .rouge import rouge_l
from .statistics import Interval, MetricStatistics, bootstrap_interval
from .tokenizer import TOKENIZER, tokenize_captions
from .validation import check_captions

COCO_METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")
"""What the COCO evaluation reports, under its names, in the order of its tables."""


@dataclass(frozen=True)
class CaptionScores:
    """The scores of one system.

    Args:
        corpus (`dict[str, float]`): Metric to score, COCO scale (0 to 1; CIDEr 0 to 10).
        per_image (`dict[str, dict[str, float]]`): Metric to image id to score.
        signature (`str`): What was computed, and how: everything that another person needs to get the same numbers.
        unavailable (`dict[str, str]`): Metrics that were asked for and could not be computed, with the reason.
        warnings (`tuple[str, ...]`): What a reader of the scores must know.
        intervals (`dict[str, Interval]`): Bootstrap intervals, where they were asked for.
        statistics (`dict[str, MetricStatistics]`): What the scores are aggregated from, for resampling.
    """

    corpus: dict[str, float]
    per_image: dict[str, dict[str, float]]
    signature: str
    unavailable: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    intervals: dict[str, Interval] = field(default_factory=dict)
    statistics: dict[str, MetricStatistics] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The form of `coco_metrics.json`: the metrics by name, then `signature`, `unavailable` and what else is known."""
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
    seed: int = 0,
) -> CaptionScores:
    """Score one caption an image against its references, as the COCO evaluation does.

    Args:
        predictions (`Mapping[str, str]`): Image id to caption.
        references (`Mapping[str, Sequence[str]]`): Image id to reference captions.
        metrics (`Sequence[str]`, *optional*): Which to compute; by default those of COCO. `"Bleu"` stands for all four.
        allow_empty (`bool`, defaults to `False`): Score empty predictions as they are instead of refusing them.
        bootstrap (`int`, defaults to 0): Resamples for 95 % intervals; 0 for none.
        seed (`int`, defaults to 0): What they are drawn with.

    Raises:
        MetricError: Predictions and references do not belong together; every fault is named.
        ConfigurationError: An unknown metric.
    """
    names = metric_names(metrics)
    check_captions(predictions, references, allow_empty=allow_empty)
    ids = list(references)
    texts = tokenize_captions(predictions[image_id] for image_id in ids)
    grouped = [tokenize_captions(references[image_id]) for image_id in ids]
    statistics: dict[str, MetricStatistics] = {}
    unavailable: dict[str, str] = {}

    native = [name for name in names if name.startswith("Bleu") or name in ("ROUGE_L", "CIDEr")]
    if native:
        index = ReferenceIndex(grouped)
        grams = index.read(texts)
        image_ids = tuple(ids)
        if any(name.startswith("Bleu") for name in names):
            rows = bleu_rows(index, grams)
            for order in range(1, ORDERS + 1):
                if f"Bleu_{order}" in names:
                    aggregate = partial(aggregate_bleu, order=order)
                    statistics[f"Bleu_{order}"] = MetricStatistics(
                        f"Bleu_{order}", image_ids, rows, aggregate(rows), aggregate
                    )
        if "ROUGE_L" in names:
            statistics["ROUGE_L"] = MetricStatistics.from_mean("ROUGE_L", image_ids, rouge_l(index, grams))
        if "CIDEr" in names:
            statistics["CIDEr"] = MetricStatistics.from_mean("CIDEr", image_ids, CiderWeights(index).score(grams))
    if "METEOR" in names:
        from .meteor import aggregate_meteor, meteor, meteor_unavailable

        reason = meteor_unavailable()
        if reason:
            unavailable["METEOR"] = reason
        else:
            rows, values = meteor(texts, grouped)
            statistics["METEOR"] = MetricStatistics("METEOR", tuple(ids), rows, values, aggregate_meteor)
    if "SPICE" in names:
        unavailable["SPICE"] = "SPICE needs Stanford CoreNLP 3.6; set BLIP_REFINE_SPICE_HOME to its folder."

    statistics = {name: statistics[name] for name in names if name in statistics}
    counts = sorted({len(references[image_id]) for image_id in ids})
    return CaptionScores(
        corpus={name: value.corpus for name, value in statistics.items()},
        per_image={name: dict(zip(ids, value.per_image.tolist(), strict=True)) for name, value in statistics.items()},
        signature=signature(statistics, len(ids), counts),
        unavailable=unavailable,
        intervals=(
            {name: bootstrap_interval(value, bootstrap, seed=seed) for name, value in statistics.items()}
            if bootstrap
            else {}
        ),
        statistics=statistics,
    )


def metric_names(metrics: Sequence[str] | None) -> tuple[str, ...]:
    """The metrics asked for by their full names, in the order of `COCO_METRICS`.

    Raises:
        ConfigurationError: A name is unknown; the message lists those there are.
    """
    if metrics is None:
        return COCO_METRICS
    known = {name.lower().replace("-", "_"): (name,) for name in COCO_METRICS}
    known["bleu"] = COCO_METRICS[:4]
    chosen: set[str] = set()
    for name in [metrics] if isinstance(metrics, str) else metrics:
        if name.lower().replace("-", "_") not in known:
            raise ConfigurationError(f"There is no metric {name!r}; there are Bleu, {', '.join(COCO_METRICS)}.")
        chosen.update(known[name.lower().replace("-", "_")])
    return tuple(name for name in COCO_METRICS if name in chosen)


def signature(names: Mapping[str, Any], n_images: int, reference_counts: Sequence[int]) -> str:
    """One line that says how the scores were made, in the manner of sacreBLEU."""
    low, high = reference_counts[0], reference_counts[-1]
    parts = [
        f"images:{n_images}",
        f"refs:{low}" if low == high else f"refs:{low}-{high}",
        "case:lc",
        f"tok:{TOKENIZER}",
    ]
    if any(name.startswith("Bleu") for name in names):
        parts.append("bleu:coco-closest")
    if "CIDEr" in names:
        parts.append(f"cider:d-sigma{SIGMA:g}-df.corpus")
    if "METEOR" in names:
        parts.append("meteor:1.5-norm")
    return "|".join([*parts, f"version:{__version__}"])
