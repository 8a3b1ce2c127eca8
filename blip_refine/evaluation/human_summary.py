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

from ..errors import DataError
from ..metrics.agreement import agreement
from ..metrics.statistics import MetricStatistics, approximate_randomization, bootstrap_interval, paired_bootstrap
from .error_analysis import wilson
from .human import CRITERIA, RatingStudy
from .significance import holm

HASTY = 1.5
"""Seconds a caption below which nobody has read it, looked at the picture and answered three questions."""


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


@dataclass(frozen=True, slots=True)
class RaterReport:
    """How one rater worked.

    Args:
        rater (`str`): Who.
        images (`int`): Pictures rated.
        checks (`int`): Attention checks answered.
        passed (`int`): Of these, passed.
        seconds (`float`): Median seconds a caption.
        agreement (`float`, *optional*): Correlation of their quality ratings with the mean of the other raters'.
        anomalies (`tuple[str, ...]`): What to look at; empty for most raters.
    """

    rater: str
    images: int
    checks: int
    passed: int
    seconds: float
    agreement: float | None
    anomalies: tuple[str, ...] = ()


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
        numbers = {one.rater: f"rater {place}" for place, one in enumerate(self.raters, 1)}
        value["raters"] = [
            {key: held for key, held in {**row, "rater": numbers[row["rater"]]}.items() if held is not None}
            for row in value["raters"]
        ]
        value["excluded"] = [numbers.get(rater, "rater") for rater in self.excluded]
        return value


@dataclass(frozen=True, slots=True)
class _Answer:
    rater: str
    image: str
    system: str
    scores: Mapping[str, int]


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
        DataError: Nothing has been rated yet.
        MissingExtraError: `krippendorff` is not installed.
    """
    with study.connect() as database:
        answers, preferences = _answers(database), _preferences(database)
        reports = _rater_reports(database, answers)
    kept = [answer for answer in answers if answer.rater not in exclude]
    if not kept:
        raise DataError(f"{study.path} holds no ratings yet.")
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
    agreements = {criterion: agreement(kept_table(kept, criterion)) for criterion in CRITERIA}
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


def _answers(database: sqlite3.Connection) -> list[_Answer]:
    scores: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    query = (
        "SELECT t.rater, i.image_id, r.system, r.criterion, r.score FROM ratings r "
        "JOIN tasks t USING (task) JOIN items i USING (item) ORDER BY t.task, r.system"
    )
    for rater, image, system, criterion, score in database.execute(query):
        scores[rater, image, system][criterion] = score
    return [_Answer(*key, held) for key, held in scores.items()]


def _preferences(database: sqlite3.Connection) -> list[tuple[str, list[str]]]:
    rows = database.execute("SELECT rater, preferred FROM tasks WHERE preferred IS NOT NULL")
    return [(rater, json.loads(preferred)) for rater, preferred in rows]


def _by_image(answers: Sequence[_Answer]) -> dict[tuple[str, str], dict[str, float]]:
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
    answers: Sequence[_Answer],
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


def kept_table(answers: Sequence[_Answer], criterion: str) -> np.ndarray:
    """Ratings of one criterion as an array of shape `(raters, captions)`; NaN where a rater did not see a caption."""
    raters = sorted({answer.rater for answer in answers})
    units = sorted({(answer.image, answer.system) for answer in answers})
    table = np.full((len(raters), len(units)), np.nan)
    row = {rater: place for place, rater in enumerate(raters)}
    column = {unit: place for place, unit in enumerate(units)}
    for answer in answers:
        table[row[answer.rater], column[answer.image, answer.system]] = answer.scores[criterion]
    return table


def _rater_reports(database: sqlite3.Connection, answers: Sequence[_Answer]) -> list[RaterReport]:
    query = (
        "SELECT t.rater AS rater, t.item AS item, t.done - t.given AS seconds, t.passed AS passed, "
        "(SELECT COUNT(DISTINCT r.system) FROM ratings r WHERE r.task = t.task) AS captions "
        "FROM tasks t WHERE t.done IS NOT NULL ORDER BY t.task"
    )
    tasks: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in database.execute(query):
        tasks[row["rater"]].append(row)
    return [_rater_report(rater, rows, answers) for rater, rows in sorted(tasks.items())]


def _rater_report(rater: str, rows: Sequence[sqlite3.Row], answers: Sequence[_Answer]) -> RaterReport:
    checks = [row["passed"] for row in rows if row["item"] is None]
    paces = [row["seconds"] / max(row["captions"], 1) for row in rows if row["item"] is not None]
    own = [answer for answer in answers if answer.rater == rater]
    scores = [score for answer in own for score in answer.scores.values()]
    agrees = _agreement_with_others(rater, answers)
    anomalies = []
    if checks and sum(checks) < len(checks):
        anomalies.append(f"failed {len(checks) - sum(checks)} of {len(checks)} attention checks")
    if len(paces) > 2 and np.median(paces) < HASTY:
        anomalies.append(f"took {np.median(paces):.1f} seconds a caption")
    if len(scores) >= 15 and len(set(scores)) == 1:
        anomalies.append(f"always answered {scores[0]}")
    if agrees is not None and len(own) >= 10 and agrees < 0:
        anomalies.append(f"disagrees with the others (correlation {agrees:.2f})")
    return RaterReport(
        rater=rater,
        images=len(paces),
        checks=len(checks),
        passed=int(sum(checks)),
        seconds=float(np.median(paces)) if paces else 0.0,
        agreement=agrees,
        anomalies=tuple(anomalies),
    )


def _agreement_with_others(rater: str, answers: Sequence[_Answer]) -> float | None:
    others: dict[tuple[str, str], list[int]] = defaultdict(list)
    for answer in answers:
        if answer.rater != rater:
            others[answer.image, answer.system].append(answer.scores["quality"])
    pairs = [
        (answer.scores["quality"], float(np.mean(others[answer.image, answer.system])))
        for answer in answers
        if answer.rater == rater and (answer.image, answer.system) in others
    ]
    if len(pairs) < 3:
        return None
    mine, theirs = np.array(pairs, dtype=float).T
    if mine.std() == 0 or theirs.std() == 0:
        return None
    return float(np.corrcoef(mine, theirs)[0, 1])
