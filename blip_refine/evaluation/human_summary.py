"""What people's ratings say: means with intervals, who wins, how far raters agree, and which raters to look at."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from ..errors import ConfigurationError, DataError
from ..metrics.agreement import agreement
from ..metrics.statistics import MetricStatistics, approximate_randomization, bootstrap_interval, paired_bootstrap
from .error_analysis import wilson
from .human import CRITERIA, RatingStudy
from .rater_reports import Answer, RaterReport, answer_table, rater_reports, read_answers, without_names
from .significance import holm


@dataclass(frozen=True, slots=True)
class MeanRating:
    """Mean rating of one system in one criterion, over images, with the ends of its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    ratings: int


@dataclass(frozen=True, slots=True)
class Duel:
    """Two systems in the eyes of people.

    Args:
        system (`str`): The system.
        baseline (`str`): What it is compared with.
        wins (`int`): Times that a rater gave it the higher quality (or preferred it, where preferences were asked).
        ties (`int`): Times that neither was better.
        losses (`int`): Times that the baseline was better.
        win_rate (`float`): Wins among the decided ones; 0.5 where none was decided.
        low (`float`): Lower end of its 95 % interval (Wilson).
        high (`float`): Upper end.
        difference (`float`): Mean difference in quality, over images.
        p_corrected (`float`): Of that difference (approximate randomization over images, Holm's correction).
    """

    system: str
    baseline: str
    wins: int
    ties: int
    losses: int
    win_rate: float
    low: float
    high: float
    difference: float
    p_corrected: float


@dataclass(frozen=True)
class RatingSummary:
    """What a study found.

    Args:
        images (`int`): Images with at least one rating.
        ratings (`int`): Captions rated, over all raters.
        systems (`dict[str, dict[str, MeanRating]]`): System to criterion to its mean.
        duels (`tuple[Duel, ...]`): Every pair of systems.
        alpha (`dict[str, float | None]`): Criterion to Krippendorff's alpha (ordinal): 1 is perfect agreement, 0 is
            chance, and `None` where it is undefined.
        alpha_undefined (`dict[str, str]`): Criterion to the reason why its alpha is undefined.
        raters (`tuple[RaterReport, ...]`): How each rater worked.
        excluded (`tuple[str, ...]`): Raters whose answers were left out.
    """

    images: int
    ratings: int
    systems: dict[str, dict[str, MeanRating]]
    duels: tuple[Duel, ...]
    alpha: dict[str, float | None]
    alpha_undefined: dict[str, str] = field(default_factory=dict)
    raters: tuple[RaterReport, ...] = field(default=())
    excluded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form of `human.json` in a run folder. Raters are numbered: their names are nobody's business."""
        value = asdict(self)
        value["raters"], value["excluded"] = without_names(self.raters, self.excluded)
        return value


def summarize(
    study: RatingStudy, *, exclude: Sequence[str] = (), resamples: int = 1000, seed: int = 0
) -> RatingSummary:
    """Summarise the ratings of a study.

    Images are what is sampled: a mean is over images, of the mean over each image's raters, and intervals resample
    images.

    Args:
        study (`RatingStudy`): The study.
        exclude (`Sequence[str]`): Raters whose answers do not count.
        resamples (`int`, defaults to 1000): For the intervals.
        seed (`int`, defaults to 0): Of these.

    Raises:
        ConfigurationError: The study is of another kind.
        DataError: Nothing has been rated yet.
        MissingExtraError: `krippendorff` is not installed.
    """
    if study.kind != "rating":
        raise ConfigurationError(f"{study.path} is a study of kind {study.kind}: see `summarize_review`.")
    with study.connect() as database:
        answers, preferences = read_answers(database), _preferences(database)
        reports = rater_reports(database, answers)
    kept = [answer for answer in answers if answer.rater not in exclude]
    if not kept:
        raise DataError(f"{study.path} holds no ratings {'of others' if answers else 'yet'}.")
    by_image = _by_image(kept)
    systems: dict[str, dict[str, MeanRating]] = {}
    for system in study.systems:
        systems[system] = {}
        for criterion in CRITERIA:
            values = by_image[system, criterion]
            mean, low, high = _interval(values, resamples, seed)
            count = sum(answer.system == system for answer in kept)
            systems[system][criterion] = MeanRating(mean, low, high, count)
    liked = [row for row in preferences if row[0] not in exclude]
    agreements = {criterion: agreement(answer_table(kept, criterion)) for criterion in CRITERIA}
    return RatingSummary(
        images=len({answer.image for answer in kept}),
        ratings=len(kept),
        systems=systems,
        duels=_duels(study.systems, kept, liked, by_image, resamples, seed),
        alpha={criterion: one.alpha for criterion, one in agreements.items()},
        alpha_undefined={criterion: one.reason for criterion, one in agreements.items() if one.reason},
        raters=tuple(reports),
        excluded=tuple(rater for rater in exclude if any(answer.rater == rater for answer in answers)),
    )


def _preferences(database: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    rows = database.execute("SELECT rater, preferred FROM tasks WHERE preferred IS NOT NULL")
    return [(rater, json.loads(preferred)) for rater, preferred in rows]


def _by_image(answers: Sequence[Answer]) -> dict[tuple[str, str], dict[str, float]]:
    """System and criterion to image to the mean over its raters."""
    held: dict[tuple[str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        for criterion, score in answer.scores.items():
            held[answer.system, criterion][answer.image].append(score)
    return {key: {image: float(np.mean(all_)) for image, all_ in images.items()} for key, images in held.items()}


def _statistics(values: Mapping[str, float]) -> MetricStatistics:
    return MetricStatistics.from_mean("rating", list(values), np.array(list(values.values())))


def _interval(values: Mapping[str, float], resamples: int, seed: int) -> tuple[float, float, float]:
    if len(values) < 2:
        mean = float(np.mean(list(values.values())))
        return mean, 1.0, 5.0
    interval = bootstrap_interval(_statistics(values), resamples, seed=seed)
    return interval.score, interval.low, interval.high


def _duels(
    systems: Sequence[str],
    answers: Sequence[Answer],
    preferences: Sequence[tuple[str, list[str]]],
    by_image: Mapping[tuple[str, str], Mapping[str, float]],
    resamples: int,
    seed: int,
) -> tuple[Duel, ...]:
    quality: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for answer in answers:
        quality[answer.rater, answer.image][answer.system] = answer.scores["quality"]
    drafts, p_values = [], []
    for baseline, system in combinations(systems, 2):
        if preferences:
            wins = sum(system in liked and baseline not in liked for _, liked in preferences)
            losses = sum(baseline in liked and system not in liked for _, liked in preferences)
            ties = len(preferences) - wins - losses
        else:
            signs = [np.sign(one[system] - one[baseline]) for one in quality.values()]
            wins, losses, ties = signs.count(1), signs.count(-1), signs.count(0)
        first, second = by_image[baseline, "quality"], by_image[system, "quality"]
        difference, p_value = float(np.mean(list(second.values())) - np.mean(list(first.values()))), 1.0
        if len(first) > 1:
            left, right = _statistics(first), _statistics({image: second[image] for image in first})
            difference = paired_bootstrap(left, right, resamples=resamples, seed=seed).difference
            p_value = approximate_randomization(left, right, seed=seed).p_value
        p_values.append(p_value)
        decided = wins + losses
        low, high = wilson(wins, decided)
        rate = wins / decided if decided else 0.5
        drafts.append((system, baseline, wins, ties, losses, rate, low, high, difference))
    return tuple(Duel(*draft, p_corrected) for draft, p_corrected in zip(drafts, holm(p_values), strict=True))
