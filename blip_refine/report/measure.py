"""What the result files imply and do not say: scores by image, intervals, paired tests, faults, slices, calibration.

All of it follows from the captions and references in `predictions.jsonl`; no model and no Java is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..evaluation.calibration import Calibration, calibrate
from ..evaluation.compare import SystemComparison, compare_systems
from ..evaluation.error_analysis import (
    ErrorAnalysis,
    Judged,
    Slice,
    SliceScore,
    analyse_errors,
    background_of,
    people_judged,
    score_slices,
    slices_by_name,
    slices_by_number,
)
from .results import Example, RunResults, SystemScores, is_number
from .words import words_of

AGREES = 1e-3
"""Scores that differ by more than this were not computed from these predictions."""

LEAST_SLICED = 20
"""With fewer images than this, parts of them say nothing."""


@dataclass(frozen=True)
class Findings:
    """What was found out about a run beyond what its files say.

    Args:
        run (`RunResults`): The run, with what was missing filled in.
        warnings (`tuple[str, ...]`): What a reader must know.
        errors (`dict[str, ErrorAnalysis]`): System to its faults.
        people (`ErrorAnalysis`, *optional*): The references judged by each other.
        slices (`list[SliceScore]`): The last system's headline metric on parts of the images.
        calibration (`Calibration`, *optional*): Where confidences are known.
    """

    run: RunResults
    warnings: tuple[str, ...] = ()
    errors: dict[str, ErrorAnalysis] = field(default_factory=dict)
    people: ErrorAnalysis | None = None
    slices: list[SliceScore] = field(default_factory=list)
    calibration: Calibration | None = None


def measure(run: RunResults) -> Findings:
    """Everything that can be found out from a run's files.

    Args:
        run (`RunResults`): What the run folder says.
    """
    run, warnings = complete(run)
    if run.facts.get("evaluation_note"):
        warnings = (str(run.facts["evaluation_note"]), *warnings)
    if run.contaminated:
        warnings = (f"These scores are contaminated: {run.contaminated}.", *warnings)
    errors = {name: analyse_errors(judged) for name in run.system_names if (judged := judged_by(run, name))}
    people: ErrorAnalysis | None = None
    slices: list[SliceScore] = []
    calibration: Calibration | None = None
    if errors:
        last = list(errors)[-1]
        by_people = people_judged(judged_by(run, last))
        people = analyse_errors(by_people) if by_people else None
        scores = scores_of(run, last)
        if len(scores) >= LEAST_SLICED:
            slices = score_slices(slices_of(run), scores, errors[last])
            confidence = {one.image_id: one.confidence for one in run.examples if one.confidence is not None}
            if len(set(confidence.values())) > 1 and len(confidence.keys() & scores.keys()) >= LEAST_SLICED:
                calibration = calibrate(confidence, scores)
    return Findings(run, warnings, errors, people, slices, calibration)


def judged_by(run: RunResults, system: str) -> list[Judged]:
    """One system's captions, as the error analysis takes them."""
    return [
        Judged(
            example.image_id,
            example.systems[system],
            example.references,
            example.objects,
            background_of(example.metadata),
        )
        for example in run.examples
        if system in example.systems
    ]


def scores_of(run: RunResults, system: str) -> dict[str, float]:
    """Image id to a system's score in the headline metric."""
    metric = run.headline_metric
    return {
        example.image_id: example.scores[system][metric]
        for example in run.examples
        if metric is not None and metric in example.scores.get(system, {})
    }


def complete(run: RunResults) -> tuple[RunResults, tuple[str, ...]]:
    """A run with scores by image, intervals and paired tests, where they were missing and can be computed.

    Scores in the files are never replaced. Where they are not those of the predictions beside them, nothing is derived
    from these and a warning says so.
    """
    scored = [example for example in run.examples if example.references and example.systems]
    names = [name for name in run.system_names if all(name in example.systems for example in scored)]
    missing = (
        not any(example.scores for example in run.examples)
        or not run.systems
        or any(not system.intervals for system in run.systems)
        or (len(run.systems) > 1 and not run.comparisons)
    )
    if len(scored) < 2 or not names or not missing:
        return run, ()
    systems = {name: {example.image_id: example.systems[name] for example in scored} for name in names}
    references = {example.image_id: example.references for example in scored}
    found = compare_systems(systems, references, metrics=["Bleu", "ROUGE_L", "CIDEr"], single_reference=False)
    for system in run.systems:
        computed = found.scores[system.name].corpus if system.name in found.scores else {}
        for metric, score in system.scores.items():
            if metric in computed and abs(computed[metric] - score) > AGREES * max(1.0, abs(score)):
                return run, (
                    f"{metric} of {system.name!r} is {score:.4f} in coco_metrics.json, and {computed[metric]:.4f} "
                    "when computed from predictions.jsonl: these files are not of one evaluation.",
                )
    return _merge(run, found), ()


def _merge(run: RunResults, found: SystemComparison) -> RunResults:
    systems = run.systems or tuple(
        SystemScores(name, scores.corpus, signature=scores.signature) for name, scores in found.scores.items()
    )
    filled = []
    for system in systems:
        intervals = found.scores[system.name].intervals if system.name in found.scores else {}
        known = {name: (one.low, one.high) for name, one in intervals.items() if name in system.scores}
        filled.append(replace(system, intervals={**known, **system.intervals}))
    rows = {row["image_id"]: row["scores"] for row in found.rows()}
    return replace(
        run,
        systems=tuple(filled),
        comparisons=run.comparisons or tuple(test.to_dict() for test in found.tests),
        examples=tuple(replace(one, scores=_both(rows.get(one.image_id, {}), one.scores)) for one in run.examples),
    )


def _both(
    computed: Mapping[str, Mapping[str, float]], said: Mapping[str, Mapping[str, float]]
) -> dict[str, Mapping[str, float]]:
    return {name: {**computed.get(name, {}), **said.get(name, {})} for name in {**computed, **said}}


def slices_of(run: RunResults) -> list[Slice]:
    """The images divided by length, confidence, true objects and metadata."""
    numbers: dict[str, dict[str, float]] = {"words in the caption": {}, "words in the references": {}}
    names: dict[str, dict[str, str]] = {}
    for one in run.examples:
        numbers["words in the caption"][one.image_id] = float(len(words_of(one.caption)))
        if one.references:
            lengths = [len(words_of(text)) for text in one.references]
            numbers["words in the references"][one.image_id] = sum(lengths) / len(lengths)
        if one.confidence is not None:
            numbers.setdefault("confidence", {})[one.image_id] = one.confidence
        if one.objects is not None:
            counted = sum(thing.count for thing in one.objects)
            names.setdefault("things in the picture", {})[one.image_id] = str(counted)
        _add_metadata(one, numbers, names)
    found = [part for by, values in numbers.items() for part in slices_by_number(by, values)]
    return found + [part for by, values in names.items() for part in slices_by_name(by, values)]


def _add_metadata(one: Example, numbers: dict[str, dict[str, float]], names: dict[str, dict[str, str]]) -> None:
    known: Mapping[str, Any] = one.metadata
    for key, value in known.items():
        if is_number(value):
            numbers.setdefault(str(key), {})[one.image_id] = float(value)
        elif isinstance(value, (str, bool)):
            names.setdefault(str(key), {})[one.image_id] = str(value)
