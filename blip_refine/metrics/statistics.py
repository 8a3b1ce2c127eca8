"""What a metric is made of, so that any of them can be resampled: statistics of each image, and an aggregation.

A corpus score is never looked at alone. Every metric hands over a `MetricStatistics`: a matrix with one row an image
whose *sums* over any multiset of images determine the score of that multiset. A mean of per-image scores has the rows
`(score, 1)`; BLEU has its matches, its guesses and its lengths; METEOR has its counts. On this stand, for every metric
alike and without scoring any caption a second time:

```python
from blip_refine.metrics import score_captions
from blip_refine.metrics.statistics import bootstrap_interval, paired_bootstrap, approximate_randomization, effects

before, after = score_captions(drafts, references), score_captions(refined, references)
a, b = before.statistics["CIDEr"], after.statistics["CIDEr"]

bootstrap_interval(b, resamples=1000, level=0.95, seed=0)   # Interval(score, low, high, level, resamples)
paired_bootstrap(a, b, resamples=10_000, seed=0)            # Comparison(...): difference b - a, interval, p_value
approximate_randomization(a, b, trials=10_000, seed=0)      # Comparison(...): exact under exchange of the two systems
effects(a, b)                                               # per image: b's score less a's, in the order of image_ids
```

The two systems of a comparison must have been scored on the same images in the same order; `paired` refuses others.
The document frequencies of CIDEr stay those of the whole reference set: it is the images that are drawn, not the
corpus that says how rare a phrase is.

Everything is seeded and independent of the chunk size; `numpy.random.Generator(PCG64)` draws the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import MetricError

_CHUNK_CELLS = 2_000_000
"""How many (resample, image) cells are held at once: 16 MB of counts."""


def mean_of_rows(sums: np.ndarray) -> np.ndarray:
    """Aggregation of metrics that are a mean or a share: `sums[..., 0] / sums[..., 1]`, and 0 where nothing counts."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(np.shape(sums[..., 0])), where=sums[..., 1] > 0)


@dataclass(frozen=True)
class MetricStatistics:
    """One metric over one set of images, ready to be aggregated over any multiset of them.

    Args:
        name (`str`): The metric ("CIDEr").
        image_ids (`tuple[str, ...]`): The images, in the order of the rows.
        rows (`np.ndarray` of shape `(images, statistics)`): What is summed over images before `aggregate`.
        per_image (`np.ndarray` of shape `(images,)`): The score of each image by itself.
        aggregate (`Callable`, defaults to the mean): From sums of shape `(..., statistics)` to scores of shape
            `(...)`.
    """

    name: str
    image_ids: tuple[str, ...]
    rows: np.ndarray
    per_image: np.ndarray
    aggregate: Callable[[np.ndarray], np.ndarray] = field(default=mean_of_rows, repr=False)

    @classmethod
    def from_mean(cls, name: str, image_ids: Sequence[str], per_image: np.ndarray) -> MetricStatistics:
        """The statistics of a metric whose corpus score is the mean of its per-image scores."""
        per_image = np.asarray(per_image, dtype=np.float64)
        rows = np.stack([per_image, np.ones_like(per_image)], axis=1)
        return cls(name, tuple(image_ids), rows, per_image)

    @property
    def corpus(self) -> float:
        """The score of all images together."""
        return float(self.aggregate(self.rows.sum(axis=0)))

    def __len__(self) -> int:
        return len(self.per_image)


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap percentile interval.

    Args:
        score (`float`): The score on the images as they are.
        low (`float`): Lower end of the interval.
        high (`float`): Upper end of the interval.
        level (`float`): The share of resampled scores that the interval holds, such as 0.95.
        resamples (`int`): How many resamples were drawn.
        seed (`int`): What they were drawn with.
    """

    score: float
    low: float
    high: float
    level: float
    resamples: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """System `b` against system `a` on the same images.

    Args:
        name (`str`): The metric.
        method (`str`): "paired bootstrap" or "approximate randomization".
        a (`float`): The score of the first system.
        b (`float`): The score of the second system.
        difference (`float`): `b - a`.
        p_value (`float`): Two-sided: how often a difference at least as large would come about if the systems were
            equally good. Never 0: the observed outcome counts as one of the trials.
        trials (`int`): Resamples or shuffles.
        seed (`int`): What they were drawn with.
        low (`float`, *optional*): Lower end of the interval of the difference (paired bootstrap only).
        high (`float`, *optional*): Upper end of the interval of the difference (paired bootstrap only).
        level (`float`, *optional*): The level of that interval.
    """

    name: str
    method: str
    a: float
    b: float
    difference: float
    p_value: float
    trials: int
    seed: int
    low: float | None = None
    high: float | None = None
    level: float | None = None


def _check(resamples: int, level: float | None, n_images: int) -> None:
    if resamples < 1:
        raise MetricError(f"Resampling needs at least one resample, not {resamples}.")
    if level is not None and not 0 < level < 1:
        raise MetricError(f"The level of an interval lies between 0 and 1 (such as 0.95), not at {level}.")
    if n_images < 2:
        raise MetricError(
            f"Resampling needs at least two images; there {'is' if n_images == 1 else 'are'} {n_images}."
        )


def paired(a: MetricStatistics, b: MetricStatistics) -> None:
    """Refuse two systems that cannot be compared: other metrics, other images, or another order of them.

    Raises:
        MetricError: They cannot be compared; the message says what differs.
    """
    if a.name != b.name:
        raise MetricError(f"Two systems are compared by one metric; these are {a.name} and {b.name}.")
    if a.image_ids != b.image_ids:
        only_a, only_b = sorted(set(a.image_ids) - set(b.image_ids)), sorted(set(b.image_ids) - set(a.image_ids))
        if not only_a and not only_b:
            raise MetricError(
                f"{a.name}: the two systems hold the same {len(a)} images in another order; "
                "score both against the same references mapping."
            )
        raise MetricError(
            f"{a.name}: the two systems were scored on other images: {len(only_a)} only in the first "
            f"({', '.join(only_a[:3])}), {len(only_b)} only in the second ({', '.join(only_b[:3])})."
        )


def resample_counts(n_images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn in each resample, in chunks of shape `(chunk, n_images)`.

    One image drawn at a time with replacement, `n_images` draws a resample (Efron 1979). The stream of random numbers
    is read resample by resample, so the chunking never shows in a result.

    Args:
        n_images (`int`): How many images there are.
        resamples (`int`): How many resamples to draw.
        seed (`int`): What they are drawn with.
    """
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // n_images)
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts: np.ndarray = np.empty((size, n_images), dtype=np.float64)
        for row in range(size):
            drawn = generator.integers(0, n_images, size=n_images, dtype=np.int32)
            counts[row] = np.bincount(drawn, minlength=n_images)
        yield counts


def bootstrap_scores(statistics: MetricStatistics, resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """The metric on each of `resamples` bootstrap resamples of the images: an array of shape `(resamples,)`."""
    _check(resamples, None, len(statistics))
    chunks = resample_counts(len(statistics), resamples, seed)
    return np.concatenate([statistics.aggregate(counts @ statistics.rows) for counts in chunks])


def bootstrap_interval(
    statistics: MetricStatistics, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of a corpus score over images (Efron & Tibshirani 1993, chapter 13).

    Args:
        statistics (`MetricStatistics`): The metric.
        resamples (`int`, defaults to 1000): How many resamples to draw.
        level (`float`, defaults to 0.95): The share of resampled scores that the interval holds.
        seed (`int`, defaults to 0): What they are drawn with.

    Raises:
        MetricError: Fewer than two images, no resamples, or a level outside of (0, 1).
    """
    _check(resamples, level, len(statistics))
    scores = bootstrap_scores(statistics, resamples, seed)
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return Interval(statistics.corpus, float(low), float(high), level, resamples, seed)


def paired_bootstrap(
    a: MetricStatistics, b: MetricStatistics, resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Whether `b` beats `a`, by resampling the images of both together (Koehn 2004).

    The interval is the percentile interval of the difference. The p-value is two-sided, with the resampled differences
    shifted to the null hypothesis of no difference: the share of resamples whose difference lies at least as far from
    the observed one as the observed one lies from 0, with one added to both counts (as sacreBLEU does it).

    Args:
        a (`MetricStatistics`): The first system, usually the baseline.
        b (`MetricStatistics`): The second system.
        resamples (`int`, defaults to 10000): How many resamples to draw.
        level (`float`, defaults to 0.95): The level of the interval of the difference.
        seed (`int`, defaults to 0): What they are drawn with.

    Raises:
        MetricError: The systems were scored on other images or by other metrics, or too few images.
    """
    paired(a, b)
    _check(resamples, level, len(a))
    differences = np.concatenate(
        [
            b.aggregate(counts @ b.rows) - a.aggregate(counts @ a.rows)
            for counts in resample_counts(len(a), resamples, seed)
        ]
    )
    observed = b.corpus - a.corpus
    # A tolerance, since sums in another order differ in the last bit: equal systems must come out as equal.
    extreme = int(np.count_nonzero(np.abs(differences - observed) >= abs(observed) - 1e-12))
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Comparison(
        name=a.name,
        method="paired bootstrap",
        a=a.corpus,
        b=b.corpus,
        difference=observed,
        p_value=(extreme + 1) / (resamples + 1),
        trials=resamples,
        seed=seed,
        low=float(low),
        high=float(high),
        level=level,
    )


def approximate_randomization(
    a: MetricStatistics, b: MetricStatistics, trials: int = 10_000, seed: int = 0
) -> Comparison:
    """Whether `b` differs from `a`, by swapping the two systems' captions of random images (Riezler & Maxwell 2005).

    Under the hypothesis that the systems are interchangeable, every one of the 2^n swaps is equally likely. The
    p-value is the share of drawn swaps whose absolute difference is at least the observed one, the observed swap
    counted.

    Args:
        a (`MetricStatistics`): The first system, usually the baseline.
        b (`MetricStatistics`): The second system.
        trials (`int`, defaults to 10000): How many swaps to draw.
        seed (`int`, defaults to 0): What they are drawn with.

    Raises:
        MetricError: The systems were scored on other images or by other metrics, or too few images.
    """
    paired(a, b)
    _check(trials, None, len(a))
    generator = np.random.default_rng(seed)
    n_images = len(a)
    total_a, total_b, gap = a.rows.sum(axis=0), b.rows.sum(axis=0), b.rows - a.rows
    observed = b.corpus - a.corpus
    chunk, extreme = max(1, _CHUNK_CELLS // n_images), 0
    for start in range(0, trials, chunk):
        size = min(chunk, trials - start)
        # One random bit an image, read trial by trial.
        bits = np.frombuffer(generator.bytes(size * ((n_images + 7) // 8)), dtype=np.uint8).reshape(size, -1)
        moved = np.unpackbits(bits, axis=1, count=n_images).astype(np.float64) @ gap
        differences = b.aggregate(total_b - moved) - a.aggregate(total_a + moved)
        extreme += int(np.count_nonzero(np.abs(differences) >= abs(observed) - 1e-12))
    return Comparison(
        name=a.name,
        method="approximate randomization",
        a=a.corpus,
        b=b.corpus,
        difference=observed,
        p_value=(extreme + 1) / (trials + 1),
        trials=trials,
        seed=seed,
    )


def effects(a: MetricStatistics, b: MetricStatistics) -> np.ndarray:
    """Effect per image: `b`'s score less `a`'s, of shape `(images,)`, in the order of `image_ids`."""
    paired(a, b)
    return b.per_image - a.per_image
