"""Whether one system is better than another: paired tests over the same images, corrected for how many were made.

Built on `blip_refine.metrics.statistics`, which resamples cached statistics and scores nothing again. Needs neither
torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from ..metrics.score import CaptionScores
from ..metrics.statistics import (
    Comparison,
    MetricStatistics,
    approximate_randomizations,
    effects,
    paired,
    paired_bootstraps,
)

SAME = 1e-9
"""Per-image scores that differ by less are a tie: sums in another order differ in the last bits."""

INVISIBLE = 0.0005
"""Corpus scores that differ by less are shown as the same number, and nothing is called better by it: BLEU-4 without
any match still changes in its tenth decimal, and is so on every image."""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """One system against another in one metric, on the same images.

    Args:
        system (`str`): The system.
        baseline (`str`): What it is compared with.
        metric (`str`): The metric.
        score (`float`): The system's corpus score.
        baseline_score (`float`): The baseline's corpus score.
        difference (`float`): `score - baseline_score`.
        low (`float`): Lower end of the paired 95 % bootstrap interval of the difference.
        high (`float`): Its upper end.
        p_value (`float`): Two-sided, of the approximate randomization test.
        p_corrected (`float`): The same after Holm's correction for all tests of the comparison.
        wins (`int`): Images on which the system scores higher.
        ties (`int`): Images on which both score the same.
        losses (`int`): Images on which it scores lower.
        gained (`tuple[tuple[str, float], ...]`): Images that gained most, with their gain, most first.
        lost (`tuple[tuple[str, float], ...]`): Images that lost most, with their (negative) gain, most first.
    """

    system: str
    baseline: str
    metric: str
    score: float
    baseline_score: float
    difference: float
    low: float
    high: float
    p_value: float
    p_corrected: float
    wins: int
    ties: int
    losses: int
    gained: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    lost: tuple[tuple[str, float], ...] = field(default=(), repr=False)

    def verdict(self, alpha: float = 0.05) -> str:
        """ "better", "worse", or "no clear difference" at the level `alpha` after correction."""
        if self.p_corrected >= alpha or abs(self.difference) < INVISIBLE:
            return "no clear difference"
        return "better" if self.difference > 0 else "worse"

    def to_dict(self) -> dict[str, Any]:
        """As an entry of `comparisons` in `coco_metrics.json`."""
        value = asdict(self)
        for key in ("gained", "lost"):
            value[key] = [{"image_id": image_id, "gain": gain} for image_id, gain in value[key]]
        return value


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that the chance of *any* false alarm stays below the level.

    Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979): uniformly more powerful than Bonferroni's
    and, like it, valid however the tests depend on each other (and BLEU-1 to BLEU-4 do).

    Args:
        p_values (`Sequence[float]`): Of n tests.

    Returns:
        `list[float]`: n corrected p-values in the same order, none above 1.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, (len(p_values) - rank) * p_values[place])
        corrected[place] = min(highest, 1.0)
    return corrected


def enough_trials(tests: int, alpha: float = 0.05) -> int:
    """Trials needed for a test to be able to stand at `alpha` after correction for `tests` tests.

    A randomization test of `t` trials cannot give a p-value below `1 / (t + 1)`; corrected for `m` tests that becomes
    `m / (t + 1)`. Ten times the bare minimum leaves room for some trials to be extreme by chance.
    """
    return int(np.ceil(10 * tests / alpha))


def paired_test(
    system: MetricStatistics,
    baseline: MetricStatistics,
    names: tuple[str, str],
    *,
    resamples: int = 1000,
    trials: int = 10_000,
    seed: int = 0,
    examples: int = 5,
) -> PairedTest:
    """Compare two systems in one metric; `p_corrected` is still the bare p-value.

    Args:
        system (`MetricStatistics`): Of the system.
        baseline (`MetricStatistics`): Of the baseline, on the same images in the same order.
        names (`tuple[str, str]`): Name of the system, name of the baseline.
        resamples (`int`, defaults to 1000): For the interval of the difference.
        trials (`int`, defaults to 10000): For the p-value.
        seed (`int`, defaults to 0): Of both.
        examples (`int`, defaults to 5): How many of the images that gained and lost most to keep.

    Raises:
        MetricError: The systems were scored on other images, or there are fewer than two.
    """
    return paired_tests([(system, baseline, names)], resamples=resamples, trials=trials, seed=seed, examples=examples)[
        0
    ]


def paired_tests(
    wanted: Sequence[tuple[MetricStatistics, MetricStatistics, tuple[str, str]]],
    *,
    resamples: int = 1000,
    trials: int = 10_000,
    seed: int = 0,
    examples: int = 5,
) -> list[PairedTest]:
    """`paired_test` of several systems and metrics. What is over the same images is resampled together.

    Args:
        wanted (`Sequence[tuple]`): System, baseline, and their names, as in [`paired_test`].
        resamples, trials, seed, examples: As in [`paired_test`].
    """
    together: dict[tuple[str, ...], list[int]] = {}
    for place, (system, baseline, _) in enumerate(wanted):
        paired(baseline, system)
        together.setdefault(system.image_ids, []).append(place)
    found: dict[int, PairedTest] = {}
    for places in together.values():
        pairs = [(wanted[place][1], wanted[place][0]) for place in places]
        intervals = paired_bootstraps(pairs, resamples=resamples, seed=seed)
        tests = approximate_randomizations(pairs, trials=trials, seed=seed)
        for place, interval, test in zip(places, intervals, tests, strict=True):
            found[place] = _described(wanted[place], interval, test, examples)
    return [found[place] for place in range(len(wanted))]


def _described(
    wanted: tuple[MetricStatistics, MetricStatistics, tuple[str, str]],
    interval: Comparison,
    test: Comparison,
    examples: int,
) -> PairedTest:
    system, baseline, names = wanted
    gains = effects(baseline, system)
    order = np.argsort(gains, kind="stable")
    assert interval.low is not None and interval.high is not None
    return PairedTest(
        system=names[0],
        baseline=names[1],
        metric=system.name,
        score=interval.b,
        baseline_score=interval.a,
        difference=interval.difference,
        low=interval.low,
        high=interval.high,
        p_value=test.p_value,
        p_corrected=test.p_value,
        wins=int((gains > SAME).sum()),
        ties=int((np.abs(gains) <= SAME).sum()),
        losses=int((gains < -SAME).sum()),
        gained=tuple((system.image_ids[k], float(gains[k])) for k in order[::-1][:examples] if gains[k] > SAME),
        lost=tuple((system.image_ids[k], float(gains[k])) for k in order[:examples] if gains[k] < -SAME),
    )


def compare_scores(
    scores: Mapping[str, CaptionScores],
    *,
    pairs: str | Sequence[tuple[str, str]] = "all",
    resamples: int = 1000,
    trials: int | None = None,
    seed: int = 0,
) -> tuple[PairedTest, ...]:
    """Paired tests between systems in every metric that both have, corrected for the number of all of them.

    Args:
        scores (`Mapping[str, CaptionScores]`): System to its scores, the baseline first.
        pairs (`str` or `Sequence[tuple[str, str]]`, defaults to `"all"`): `"all"` pairs, later against earlier;
            `"baseline"` for each against the first; or `(system, baseline)` pairs by name.
        resamples (`int`, defaults to 1000): Bootstrap resamples for each interval.
        trials (`int`, *optional*): Random swaps for each p-value; by default 10,000, and more where that many tests
            could not leave any of them significant (`enough_trials`).
        seed (`int`, defaults to 0): Of both.

    Raises:
        ConfigurationError: `pairs` names what is not there.
        MetricError: The systems were scored on different images.
    """
    chosen = choose_pairs(list(scores), pairs)
    wanted = [
        (system, baseline, metric)
        for system, baseline in chosen
        for metric in scores[system].statistics
        if metric in scores[baseline].statistics
    ]
    trials = trials or max(10_000, enough_trials(len(wanted)))
    tests = paired_tests(
        [
            (scores[system].statistics[metric], scores[baseline].statistics[metric], (system, baseline))
            for system, baseline, metric in wanted
        ],
        resamples=resamples,
        trials=trials,
        seed=seed,
    )
    corrected = holm([test.p_value for test in tests])
    return tuple(replace(test, p_corrected=value) for test, value in zip(tests, corrected, strict=True))


def choose_pairs(names: Sequence[str], pairs: str | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The `(system, baseline)` pairs that `pairs` stands for, as `compare_scores` takes it."""
    if pairs == "all":
        return [(later, earlier) for earlier, later in combinations(names, 2)]
    if pairs == "baseline":
        return [(name, names[0]) for name in names[1:]]
    if isinstance(pairs, str):
        raise ConfigurationError(f"`pairs` is 'all', 'baseline' or a list of pairs of names, not {pairs!r}.")
    unknown = sorted({name for pair in pairs for name in pair} - set(names))
    if unknown:
        raise ConfigurationError(f"There is no system {unknown[0]!r}; there are {', '.join(map(repr, names))}.")
    return [(system, baseline) for system, baseline in pairs]
