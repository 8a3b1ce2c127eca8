"""Which metrics there are, and how each family of them is computed.

A family is a function from a `Job` to the statistics of its metrics, and a part of the signature. One that lacks
something on this machine raises `ConfigurationError`, whose text becomes the reason under `unavailable`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from ..errors import ConfigurationError
from .cider import SIGMA
from .ngrams import ORDERS, PredictionGrams
from .references import PreparedReferences
from .statistics import MetricStatistics
from .tokenizer import tokenize_captions

COCO_METRICS = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")
"""What the COCO evaluation reports, under its names, in the order of its tables."""


@dataclass
class Job:
    """One system over one set of images, and what is to be known for scoring it.

    Args:
        predictions (`Mapping[str, str]`): Image id to caption.
        references (`PreparedReferences`): The references of the same images.
        wanted (`tuple[str, ...]`): The metrics asked for.
        seed (`int`): What is drawn is drawn with this.
        spice_images (`int`, *optional*): Score SPICE on so many images only.
        images (`Mapping`, *optional*): Image id to picture, for metrics that look.
        models (`Mapping[str, str]`): Name of a model-based metric to the model to use.
    """

    predictions: Mapping[str, str]
    references: PreparedReferences
    wanted: tuple[str, ...]
    seed: int = 0
    spice_images: int | None = None
    images: Mapping[str, str | os.PathLike] | None = None
    models: Mapping[str, str] | None = None

    @cached_property
    def texts(self) -> list[str]:
        """The tokenized predictions, in the order of the references."""
        return tokenize_captions(self.predictions[image_id] for image_id in self.references.ids)

    def tokenize(self) -> None:
        """Tokenize predictions and references now, where that was not done yet."""
        assert len(self.texts) == len(self.references.tokenized)

    @cached_property
    def grams(self) -> PredictionGrams:
        """Their n-grams."""
        return self.references.index.read(self.texts)

    def mean_of(self, name: str, per_image: np.ndarray) -> dict[str, MetricStatistics]:
        """The result of a family with one metric that is the mean of its per-image scores."""
        return {name: MetricStatistics.from_mean(name, self.references.ids, per_image)}


Result = tuple[dict[str, MetricStatistics], str]


def _bleu(job: Job) -> Result:
    from .bleu import aggregate_bleu, bleu_rows

    rows = bleu_rows(job.references.index, job.grams)
    found = {}
    for order in range(1, ORDERS + 1):
        if f"Bleu_{order}" in job.wanted:
            aggregate = partial(aggregate_bleu, order=order)
            found[f"Bleu_{order}"] = MetricStatistics(
                f"Bleu_{order}", job.references.ids, rows, aggregate(rows), aggregate
            )
    return found, "bleu:coco.closest"


def _rouge(job: Job) -> Result:
    from .rouge import BETA, rouge_l

    return job.mean_of("ROUGE_L", rouge_l(job.references.index, job.grams)), f"rouge:L.beta{BETA:g}"


def _cider(job: Job) -> Result:
    if len(job.references) == 1 and job.references.document_frequencies is None:
        raise ConfigurationError(
            "CIDEr weighs phrases by how rare they are among the images, and there is only one image: every weight "
            "would be 0. Pass document_frequencies counted over a larger set."
        )
    found: dict[str, MetricStatistics] = {}
    variants = []
    for name, clipped in (("CIDEr", True), ("CIDEr-D", True), ("CIDEr-plain", False)):
        if name in job.wanted:
            found.update(job.mean_of(name, job.references.cider.score(job.grams, clipped=clipped)))
            variants.append(f"D.sigma{SIGMA:g}" if clipped else "plain")
    frozen = job.references.document_frequencies
    source = f"frozen.{frozen.images}.{frozen.fingerprint}" if frozen else "these"
    return found, f"cider:{'+'.join(dict.fromkeys(variants))}.df-{source}"


def _meteor(jobs: Sequence[Job]) -> list[Result]:
    from .meteor import aggregate_meteor, meteor

    texts = [text for job in jobs for text in job.texts]
    groups = [group for job in jobs for group in job.references.tokenized]
    rows, scores = meteor(texts, groups)
    found: list[Result] = []
    begin = 0
    for job in jobs:
        part = slice(begin, begin + len(job.texts))
        begin = part.stop
        statistics = MetricStatistics("METEOR", job.references.ids, rows[part], scores[part], aggregate_meteor)
        found.append(({"METEOR": statistics}, "meteor:1.5.norm"))
    return found


def _spice(job: Job) -> Result:
    from .spice import spice

    return spice(job)


def _synsets(job: Job) -> Result:
    from .synsets import LEXICON, synset_f1

    return job.mean_of("SynsetF1", synset_f1(job.texts, job.references.tokenized)), f"synsetf1:{LEXICON}"


def _bertscore(job: Job) -> Result:
    from .model_based import bertscore

    return bertscore(job)


def _clipscore(job: Job) -> Result:
    from .model_based import clipscore

    return clipscore(job)


@dataclass(frozen=True)
class Family:
    """Metrics that are computed together.

    Args:
        names (`tuple[str, ...]`): Its metrics.
        compute (`Callable[[Job], Result]`): Their statistics, and what the signature says of them.
    """

    names: tuple[str, ...]
    compute: Callable[[Job], Result]

    def compute_all(self, jobs: Sequence[Job]) -> list[Result]:
        """The results of several systems."""
        return [self.compute(job) for job in jobs]


@dataclass(frozen=True)
class ProgramFamily:
    """Metrics of a program that runs beside this one, and is asked for all systems at once.

    Args:
        names (`tuple[str, ...]`): Its metrics.
        compute_all (`Callable[[Sequence[Job]], list[Result]]`): The results of several systems.
    """

    names: tuple[str, ...]
    compute_all: Callable[[Sequence[Job]], list[Result]]


FAMILIES: dict[str, Family | ProgramFamily] = {
    "Bleu": Family(COCO_METRICS[:4], _bleu),
    "METEOR": ProgramFamily(("METEOR",), _meteor),
    "ROUGE_L": Family(("ROUGE_L",), _rouge),
    "CIDEr": Family(("CIDEr", "CIDEr-D", "CIDEr-plain"), _cider),
    "SPICE": Family(("SPICE",), _spice),
    "SynsetF1": Family(("SynsetF1",), _synsets),
    "BERTScore": Family(("BERTScore",), _bertscore),
    "CLIPScore": Family(("CLIPScore", "RefCLIPScore"), _clipscore),
}
ALL_METRICS = tuple(name for family in FAMILIES.values() for name in family.names)
"""Every metric that `score_captions` computes. Those of `COCO_METRICS` are its default."""


def _spelling(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


def metric_names(metrics: Sequence[str] | None) -> tuple[str, ...]:
    """The metrics asked for under their full names, in the order of `ALL_METRICS`.

    Args:
        metrics (`Sequence[str]`, *optional*): Names in any case, with or without underscores; `"Bleu"` stands for all
            four. By default those of COCO.

    Raises:
        ConfigurationError: A name is unknown, or none is given; the message lists those there are.
    """
    if metrics is None:
        return COCO_METRICS
    known: dict[str, tuple[str, ...]] = {_spelling(name): (name,) for name in ALL_METRICS}
    known["bleu"] = FAMILIES["Bleu"].names
    chosen: set[str] = set()
    for name in [metrics] if isinstance(metrics, str) else metrics:
        if _spelling(name) not in known:
            raise ConfigurationError(f"There is no metric {name!r}; there are Bleu, {', '.join(ALL_METRICS)}.")
        chosen.update(known[_spelling(name)])
    if not chosen:
        raise ConfigurationError(f"No metric was asked for; there are Bleu, {', '.join(ALL_METRICS)}.")
    return tuple(name for name in ALL_METRICS if name in chosen)


def check_spice_images(names: Sequence[str], spice_images: int | None) -> None:
    """Refuse a number of images for SPICE that cannot act.

    Raises:
        ConfigurationError: It is below 1, or SPICE is not among the metrics.
    """
    if spice_images is None:
        return
    if not isinstance(spice_images, int) or spice_images < 1:
        raise ConfigurationError(f"SPICE needs at least one image, not {spice_images}.")
    if "SPICE" not in names:
        raise ConfigurationError(
            f"A number of images for SPICE ({spice_images}) without SPICE among the metrics: add SPICE, or leave out "
            "the number."
        )
