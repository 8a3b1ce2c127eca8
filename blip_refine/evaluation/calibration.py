"""Does the captioner know when it is wrong? Confidence against quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import MetricError
from ..metrics.statistics import MetricStatistics, bootstrap_interval


@dataclass(frozen=True, slots=True)
class Bin:
    """Captions of similar confidence.

    Args:
        confidence (`float`): Their mean confidence (mean log-probability of the tokens, at most 0).
        score (`float`): Their mean score.
        low (`float`): Lower end of the score's 95 % bootstrap interval.
        high (`float`): Upper end.
        images (`int`): How many there are.
    """

    confidence: float
    score: float
    low: float
    high: float
    images: int


@dataclass(frozen=True)
class Calibration:
    """How well confidence tells good captions from bad ones.

    Args:
        bins (`tuple[Bin, ...]`): From the least to the most confident captions, equally many in each.
        correlation (`float`): Spearman's rank correlation of confidence and score; 0 where confidence says nothing.
        kept (`tuple[tuple[float, float], ...]`): Share of captions kept, the most confident ones, and their mean score
            (the risk-coverage curve of El-Yaniv & Wiener 2010): what refusing to caption would gain.
    """

    bins: tuple[Bin, ...]
    correlation: float
    kept: tuple[tuple[float, float], ...]


def calibrate(confidence: Mapping[str, float], scores: Mapping[str, float], bins: int = 8) -> Calibration:
    """Confidence against quality.

    Args:
        confidence (`Mapping[str, float]`): Image id to confidence.
        scores (`Mapping[str, float]`): Image id to score; images without a confidence are left out.
        bins (`int`, defaults to 8): How many groups; fewer where there are few images.

    Raises:
        MetricError: Fewer than four images have both.
    """
    ids = [image_id for image_id in scores if image_id in confidence]
    if len(ids) < 4:
        raise MetricError(f"Calibration needs at least four images with confidence and score; there are {len(ids)}.")
    ids.sort(key=lambda image_id: confidence[image_id])
    sure = np.array([confidence[image_id] for image_id in ids])
    good = np.array([scores[image_id] for image_id in ids])
    groups = np.array_split(np.arange(len(ids)), min(bins, len(ids) // 2))
    found = []
    for group in groups:
        interval = bootstrap_interval(MetricStatistics.from_mean("score", [ids[k] for k in group], good[group]))
        found.append(Bin(float(sure[group].mean()), interval.score, interval.low, interval.high, len(group)))
    means = np.cumsum(good[::-1]) / np.arange(1, len(good) + 1)
    # Means of a handful of captions jump about; from a tenth on they say something.
    counts = np.unique(np.linspace(max(1, len(ids) // 10), len(ids), 19).astype(int))
    return Calibration(
        bins=tuple(found),
        correlation=_spearman(sure, good),
        kept=tuple((float(count / len(ids)), float(means[count - 1])) for count in counts),
    )


def _spearman(left: np.ndarray, right: np.ndarray) -> float:
    first, second = _ranks(left), _ranks(right)
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts) + (ends - 1))[inverse] / 2
