"""How each rater of a study worked, and the answers that they gave."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

HASTY = 1.5
"""Seconds a caption below which nobody has read it, looked at the picture and answered three questions."""


@dataclass(frozen=True, slots=True)
class RaterReport:
    """How one rater worked.

    Args:
        rater (`str`): Who.
        images (`int`): Pictures rated.
        checks (`int`): Attention checks answered.
        passed (`int`): Of these, passed.
        seconds (`float`): Median seconds a caption.
        agreement (`float`, *optional*): Correlation of their quality ratings with the mean of the other raters'; not
            of a review.
        anomalies (`tuple[str, ...]`): What to look at; empty for most raters.
    """

    rater: str
    images: int
    checks: int
    passed: int
    seconds: float
    agreement: float | None
    anomalies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a rater said of the caption of a system: criterion to score, or mark to 0 and 1."""

    rater: str
    image: str
    system: str
    scores: Mapping[str, int]


def read_answers(database: sqlite3.Connection) -> list[Answer]:
    """All answers of a study but those to attention checks."""
    scores: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    query = (
        "SELECT t.rater, i.image_id, r.system, r.criterion, r.score FROM ratings r "
        "JOIN tasks t USING (task) JOIN items i USING (item) ORDER BY t.task, r.system"
    )
    for rater, image, system, criterion, score in database.execute(query):
        scores[rater, image, system][criterion] = score
    return [Answer(*key, held) for key, held in scores.items()]


def answer_table(answers: Sequence[Answer], criterion: str) -> np.ndarray:
    """Ratings of one criterion as an array of shape `(raters, captions)`; NaN where a rater did not see a caption."""
    raters = sorted({answer.rater for answer in answers})
    units = sorted({(answer.image, answer.system) for answer in answers})
    table = np.full((len(raters), len(units)), np.nan)
    row = {rater: place for place, rater in enumerate(raters)}
    column = {unit: place for place, unit in enumerate(units)}
    for answer in answers:
        table[row[answer.rater], column[answer.image, answer.system]] = answer.scores[criterion]
    return table


def rater_reports(database: sqlite3.Connection, answers: Sequence[Answer]) -> list[RaterReport]:
    """How each rater of a study worked.

    Args:
        database (`sqlite3.Connection`): The study.
        answers (`Sequence[Answer]`): What [`read_answers`] found in it.
    """
    query = (
        "SELECT t.rater AS rater, t.item AS item, t.done - t.given AS seconds, t.passed AS passed, "
        "(SELECT COUNT(DISTINCT r.system) FROM ratings r WHERE r.task = t.task) AS captions "
        "FROM tasks t WHERE t.done IS NOT NULL ORDER BY t.task"
    )
    tasks: dict[str, list[sqlite3.Row]] = defaultdict(list)
    for row in database.execute(query):
        tasks[row["rater"]].append(row)
    return [_rater_report(rater, rows, answers) for rater, rows in sorted(tasks.items())]


def _rater_report(rater: str, rows: Sequence[sqlite3.Row], answers: Sequence[Answer]) -> RaterReport:
    checks = [row["passed"] for row in rows if row["item"] is None]
    paces = [row["seconds"] / max(row["captions"], 1) for row in rows if row["item"] is not None]
    own = [answer for answer in answers if answer.rater == rater]
    scores = [score for answer in own for score in answer.scores.values()]
    agrees = None if own and "quality" not in own[0].scores else _agreement_with_others(rater, answers)
    anomalies = []
    if checks and sum(checks) < len(checks):
        anomalies.append(f"failed {len(checks) - sum(checks)} of {len(checks)} attention checks")
    if len(paces) > 2 and np.median(paces) < HASTY:
        anomalies.append(f"took {np.median(paces):.1f} seconds a caption")
    # Captions without a fault are what a review hopes for.
    marks = bool(own) and "quality" not in own[0].scores
    if len(scores) >= 15 and len(set(scores)) == 1 and not (marks and scores[0] == 0):
        anomalies.append("marked everything" if marks else f"always answered {scores[0]}")
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


def _agreement_with_others(rater: str, answers: Sequence[Answer]) -> float | None:
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


def without_names(raters: Sequence[RaterReport], excluded: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The reports and the raters left out, as rows in which raters are numbered: their names are nobody's business.

    Args:
        raters (`Sequence[RaterReport]`): All reports.
        excluded (`Sequence[str]`): Who was left out.
    """
    numbers = {one.rater: f"rater {place}" for place, one in enumerate(raters, 1)}
    rows = [
        {key: held for key, held in {**asdict(one), "rater": numbers[one.rater]}.items() if held is not None}
        for one in raters
    ]
    return rows, [numbers.get(rater, "rater") for rater in excluded]
