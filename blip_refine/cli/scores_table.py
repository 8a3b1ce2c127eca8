"""The table of systems and their scores, as several commands end with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .output import output

if TYPE_CHECKING:
    from ..evaluation.systems import Evaluation


def print_scores(systems: Mapping[str, Evaluation], split: str | None = None) -> None:
    """One row a metric, one column a system, 95 % intervals where they were computed, and what could not be.

    Args:
        systems (`Mapping[str, Evaluation]`): By name.
        split (`str`, *optional*): The split that they were scored on.
    """
    from ..data.split_names import images_of_split
    from ..metrics.score import COCO_METRICS
    from ..refine.counts import describe_counts, measured_over

    names = list(systems)
    rows = []
    others = [metric for one in systems.values() for metric in one.scores.corpus if metric not in COCO_METRICS]
    for metric in dict.fromkeys([*COCO_METRICS, *others]):
        cells = [_cell(systems[name], metric) for name in names]
        if any(cells):
            rows.append([metric, *cells])
    images = len(systems[names[-1]].images)
    over = {name: measured_over(systems[name].refinement) for name in names}
    heads = [f"{name} ({over[name]})" if over[name] else name for name in names]
    output.table(["", *heads], rows, title=f"{images_of_split(images, split)} (95 % bootstrap intervals)")
    for name in names:
        counts = systems[name].refinement
        if counts is not None:
            output.line(f"{name}: {describe_counts(counts)}.")
    for metric, reason in systems[names[-1]].scores.unavailable.items():
        output.line(f"{metric} was not computed: {reason}")
    concerned: dict[str, list[str]] = {}
    for name in names:
        for warning in systems[name].scores.warnings:
            concerned.setdefault(warning, []).append(name)
    for warning, of in concerned.items():
        output.warning(f"{', '.join(of)}: {warning}")
    for name in names:
        if systems[name].contaminated:
            output.warning(f"{name}: contaminated, its images were trained on")


def _cell(evaluation: Evaluation, metric: str) -> str:
    if metric not in evaluation.scores.corpus:
        return ""
    value = f"{evaluation.scores.corpus[metric]:.3f}"
    interval = evaluation.scores.intervals.get(metric)
    return f"{value} [{interval.low:.3f}, {interval.high:.3f}]" if interval else value
