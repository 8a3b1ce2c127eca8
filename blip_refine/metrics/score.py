"""`score_captions`: the scores of a captioner over a set of images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .. import __version__
from ..errors import ConfigurationError, MetricError
from .cider import DocumentFrequencies
from .families import (
    ALL_METRICS,
    COCO_METRICS,
    FAMILIES,
    Family,
    Job,
    ProgramFamily,
    Result,
    check_spice_images,
    metric_names,
)
from .meteor import stop_meteor
from .plausibility import score_warnings
from .references import PreparedReferences
from .statistics import Interval, MetricStatistics, bootstrap_intervals
from .tokenizer import TOKENIZER
from .validation import check_captions

__all__ = ["ALL_METRICS", "COCO_METRICS", "CaptionScores", "metric_names", "score_captions", "score_systems"]


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
        ConfigurationError: An unknown metric, or `spice_images` below 1 or without SPICE.

    ```python
    >>> from blip_refine.metrics import score_captions
    >>> scores = score_captions({"1": "a dog runs", "2": "two boats"}, {"1": ["a dog runs"], "2": ["two red boats"]},
    ...                         metrics=["Bleu_1", "ROUGE_L"])
    >>> round(scores.corpus["Bleu_1"], 3), round(scores.per_image["ROUGE_L"]["2"], 3)
    (0.819, 0.772)
    ```
    """
    return score_systems(
        {"": predictions},
        references,
        metrics,
        allow_empty=allow_empty,
        bootstrap=bootstrap,
        level=level,
        seed=seed,
        document_frequencies=document_frequencies,
        photos=photos,
        spice_images=spice_images,
        images=images,
        models=models,
    )[""]


def score_systems(
    systems: Mapping[str, Mapping[str, str]],
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
) -> dict[str, CaptionScores]:
    """[`score_captions`] of several systems against the same references, with what they share done once.

    References are tokenized and counted once, resamples are drawn once, and METEOR's program, which works beside
    everything else, is asked once for what two systems both say of an image.

    Args:
        systems (`Mapping[str, Mapping[str, str]]`): System to its predictions: image id to caption.
        references, metrics, allow_empty, bootstrap, level, seed, document_frequencies, photos, spice_images, images,
            models: As in [`score_captions`].

    Returns:
        `dict[str, CaptionScores]`: By system, in the order given. A metric that fails for one of them is unavailable
        for all: they are there to be compared.
    """
    names = metric_names(metrics)
    check_spice_images(names, spice_images)
    for predictions in systems.values():
        check_captions(predictions, references, allow_empty=allow_empty)
    if not isinstance(references, PreparedReferences) or document_frequencies is not None:
        references = PreparedReferences(references, document_frequencies)
    jobs = [
        Job(predictions, references, names, seed, spice_images, images, models) for predictions in systems.values()
    ]
    results, unavailable = _results(jobs, names)
    found: list[dict[str, MetricStatistics]] = []
    for place in range(len(jobs)):
        computed = {name: value for result in results for name, value in result[place][0].items()}
        found.append({name: computed[name] for name in names if name in computed})
    intervals = _intervals(found, bootstrap, level, seed)
    signature = _signature(references, [result[0][1] for result in results]) if jobs else ""
    scores = {}
    for place, (system, predictions) in enumerate(systems.items()):
        statistics = found[place]
        corpus = {name: value.corpus for name, value in statistics.items()}
        empty = sum(not text.strip() for text in predictions.values())
        scores[system] = CaptionScores(
            corpus=corpus,
            per_image={
                name: dict(zip(value.image_ids, value.per_image.tolist(), strict=True))
                for name, value in statistics.items()
            },
            signature=signature,
            unavailable=dict(unavailable),
            warnings=tuple(
                score_warnings(corpus, len(references), references.document_frequencies is not None, empty, photos)
            ),
            intervals=intervals[place],
            statistics=statistics,
        )
    return scores


def _results(jobs: Sequence[Job], names: Sequence[str]) -> tuple[list[list[Result]], dict[str, str]]:
    """For each family that could be computed, the results of all jobs; for each metric that could not, the reason."""
    asked = [family for family in FAMILIES.values() if set(family.names) & set(names)]
    outcomes: dict[tuple[str, ...], list[Result] | str] = {}
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="METEOR") as beside:
        waiting: dict[tuple[str, ...], Future] = {}
        try:
            for family in asked:
                if isinstance(family, ProgramFamily):
                    for job in jobs:
                        job.tokenize()  # Both sides need the tokens: they are made before the two part.
                    waiting[family.names] = beside.submit(_outcome, family, jobs)
            for family in asked:
                if family.names not in waiting:
                    outcomes[family.names] = _outcome(family, jobs)
            outcomes.update({key: future.result() for key, future in waiting.items()})
        except BaseException:
            # The thread waits for the program's answers, and leaving this block waits for the thread.
            stop_meteor()
            raise
    results, unavailable = [], {}
    for family in asked:
        outcome = outcomes[family.names]
        if isinstance(outcome, str):
            unavailable.update({name: outcome for name in family.names if name in names})
        else:
            results.append(outcome)
    return results, unavailable


def _outcome(family: Family | ProgramFamily, jobs: Sequence[Job]) -> list[Result] | str:
    """The results of all jobs, or why there are none."""
    try:
        return family.compute_all(jobs)
    except (ConfigurationError, MetricError) as error:
        # The input was checked before: what fails here is a scorer, and the others need not be lost with it.
        return str(error)


def _intervals(
    systems: Sequence[Mapping[str, MetricStatistics]], resamples: int, level: float, seed: int
) -> list[dict[str, Interval]]:
    """The intervals of each system, where there are to be any. What is over the same images is resampled together."""
    found: list[dict[str, Interval]] = [{} for _ in systems]
    together: dict[tuple[str, ...], list[tuple[int, str, MetricStatistics]]] = {}
    for place, statistics in enumerate(systems):
        for name, value in statistics.items():
            if resamples and len(value) > 1:  # One image has no spread to resample.
                together.setdefault(value.image_ids, []).append((place, name, value))
    for held in together.values():
        intervals = bootstrap_intervals([value for _, _, value in held], resamples, level, seed)
        for (place, name, _), interval in zip(held, intervals, strict=True):
            found[place][name] = interval
    return found


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
