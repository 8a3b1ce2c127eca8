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
    return bootstrap_all([statistics], resamples, seed)[0]


def bootstrap_all(statistics: Sequence[MetricStatistics], resamples: int = 1000, seed: int = 0) -> list[np.ndarray]:
    """`bootstrap_scores` of several metrics and systems over the same images, each resample drawn once for all.

    Raises:
        MetricError: They are not over the same images, or too few of them, or no resamples.
    """
    if not statistics:
        return []
    _same_images(statistics)
    _check(resamples, None, len(statistics[0]))
    sums = _SharedSums([one.rows for one in statistics])
    for counts in resample_counts(len(statistics[0]), resamples, seed):
        sums.add(counts)
    return [one.aggregate(value) for one, value in zip(statistics, sums.parts(), strict=True)]


class _SharedSums:
    """Weighted sums of several matrices of rows by one product, matrices that are the same one (BLEU-1 to 4) once."""

    def __init__(self, matrices: Sequence[np.ndarray]):
        ends, begin = {}, 0
        for matrix in matrices:
            if id(matrix) not in ends:
                ends[id(matrix)] = (begin, begin + matrix.shape[1])
                begin += matrix.shape[1]
        self._columns = [slice(*ends[id(matrix)]) for matrix in matrices]
        self._stacked = np.concatenate(list({id(matrix): matrix for matrix in matrices}.values()), axis=1)
        self._chunks: list[np.ndarray] = []

    def add(self, weights: np.ndarray) -> None:
        """Sums under weights of shape `(chunk, images)`."""
        self._chunks.append(weights @ self._stacked)

    def parts(self) -> list[np.ndarray]:
        """For each matrix, its sums under all weights so far: `(weights, columns)`."""
        sums = np.concatenate(self._chunks)
        return [sums[:, columns] for columns in self._columns]


def _same_images(statistics: Sequence[MetricStatistics]) -> None:
    if any(one.image_ids != statistics[0].image_ids for one in statistics[1:]):
        raise MetricError(
            "Several metrics are resampled together over the same images; these are over different ones."
        )


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
    return bootstrap_intervals([statistics], resamples, level, seed)[0]


def bootstrap_intervals(
    statistics: Sequence[MetricStatistics], resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> list[Interval]:
    """`bootstrap_interval` of several metrics and systems over the same images, each resample drawn once for all."""
    for one in statistics:
        _check(resamples, level, len(one))
    quantiles = [(1 - level) / 2, (1 + level) / 2]
    found = []
    for one, scores in zip(statistics, bootstrap_all(statistics, resamples, seed), strict=True):
        low, high = np.quantile(scores, quantiles)
        found.append(Interval(one.corpus, float(low), float(high), level, resamples, seed))
    return found


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
    return paired_bootstraps([(a, b)], resamples, level, seed)[0]


def paired_bootstraps(
    pairs: Sequence[tuple[MetricStatistics, MetricStatistics]],
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """`paired_bootstrap` of several pairs over the same images, each resample drawn once for all."""
    for a, b in pairs:
        paired(a, b)
        _check(resamples, level, len(a))
    scores = bootstrap_all([one for pair in pairs for one in pair], resamples, seed)
    found = []
    for place, (a, b) in enumerate(pairs):
        differences = scores[2 * place + 1] - scores[2 * place]
        low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
        interval = {"low": float(low), "high": float(high), "level": level}
        null = differences - (b.corpus - a.corpus)
        found.append(_comparison("paired bootstrap", a, b, null, seed, **interval))
    return found


def _comparison(
    method: str, a: MetricStatistics, b: MetricStatistics, null: np.ndarray, seed: int, **interval: float
) -> Comparison:
    """What was observed, against the differences that were drawn (`null`) as of two systems that are equally good."""
    difference = b.corpus - a.corpus
    # A tolerance, since sums in another order differ in the last bit: equal systems must come out as equal.
    extreme = int(np.count_nonzero(np.abs(null) >= abs(difference) - 1e-12))
    p_value = (extreme + 1) / (len(null) + 1)
    return Comparison(a.name, method, a.corpus, b.corpus, difference, p_value, len(null), seed, **interval)


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
    return approximate_randomizations([(a, b)], trials, seed)[0]


def approximate_randomizations(
    pairs: Sequence[tuple[MetricStatistics, MetricStatistics]], trials: int = 10_000, seed: int = 0
) -> list[Comparison]:
    """`approximate_randomization` of several pairs over the same images, each swap drawn once for all."""
    if not pairs:
        return []
    for a, b in pairs:
        paired(a, b)
        _check(trials, None, len(a))
    _same_images([a for a, _ in pairs])
    n_images = len(pairs[0][0])
    gaps: dict[tuple[int, int], np.ndarray] = {}
    for a, b in pairs:
        gaps.setdefault((id(a.rows), id(b.rows)), b.rows - a.rows)
    moved = _SharedSums([gaps[id(a.rows), id(b.rows)] for a, b in pairs])
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK_CELLS // n_images)
    for start in range(0, trials, chunk):
        size = min(chunk, trials - start)
        # One random bit an image, read trial by trial.
        bits = np.frombuffer(generator.bytes(size * ((n_images + 7) // 8)), dtype=np.uint8).reshape(size, -1)
        moved.add(np.unpackbits(bits, axis=1, count=n_images).astype(np.float64))
    found = []
    for (a, b), sums in zip(pairs, moved.parts(), strict=True):
        null = b.aggregate(b.rows.sum(axis=0) - sums) - a.aggregate(a.rows.sum(axis=0) + sums)
        found.append(_comparison("approximate randomization", a, b, null, seed))
    return found


def effects(a: MetricStatistics, b: MetricStatistics) -> np.ndarray:
    """Effect per image: `b`'s score less `a`'s, of shape `(images,)`, in the order of `image_ids`."""
    paired(a, b)
    return b.per_image - a.per_image
