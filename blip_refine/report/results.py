"""What a run folder says, read into records. The only place of the report that touches the run's files.

Every file and every field may be missing: a run that was never scored still has a loss curve, and predictions without
a Trainer's log are still worth looking at. A file that is there and broken is an error that names it.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import SourceFormatError, SourceNotFoundError
from ..jsonlines import read_json_object, read_jsonl
from ..metrics.families import ALL_METRICS, COCO_METRICS
from ..records import SceneObject
from .review import Review, read_review

METRICS = (*COCO_METRICS, *(name for name in ALL_METRICS if name not in COCO_METRICS))
"""The names of COCO caption evaluation, in its order, and then all others that can be computed."""

HEADLINE_METRICS = tuple(dict.fromkeys(("CIDEr", "Bleu_4", "METEOR", "ROUGE_L", "Bleu_1", *METRICS)))
"""Which metric stands for a system where one number is shown: the first of these that was measured."""

_NO_METRIC = ("_runtime", "_per_second", "_loss", "_time", "_tokens")
"""Ends of the names of what the Trainer logs at an evaluation beside its metrics."""


@dataclass(frozen=True, slots=True)
class SystemScores:
    """The corpus scores of one system.

    Args:
        name (`str`): "before", "after", "refined", or whatever the run called it.
        scores (`Mapping[str, float]`): Metric to score, on the COCO scale (0..1, CIDEr 0..10).
        intervals (`Mapping[str, tuple[float, float]]`): Metric to the ends of its 95 % bootstrap interval.
        signature (`str`, *optional*): How the scores were computed.
        unavailable (`Mapping[str, str]`): Metric to the reason why it could not be computed.
        refinement (`Mapping[str, Any]`): What became of the captions that its refiner was asked about.
        captioner (`Mapping[str, Any]`): Who captioned, how, and what it took.
        measures (`Mapping[str, Any]`): `single_reference`, `diversity` and `test_loss`, as they stand in the file.
    """

    name: str
    scores: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    signature: str | None = None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    refinement: Mapping[str, Any] = field(default_factory=dict)
    captioner: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One evaluated image.

    Args:
        image_id (`str`): Its name.
        systems (`Mapping[str, str]`): System to its caption, in the order of the run.
        caption (`str`): The final caption: the one that the run would publish.
        references (`tuple[str, ...]`): What people wrote.
        confidence (`float`, *optional*): Mean log-probability of the draft's tokens, at most 0.
        image (`Path`, *optional*): The picture, where a copy is kept inside the run folder.
        objects (`tuple[SceneObject, ...]`, *optional*): What is truly in the picture; `None` where unknown.
        scores (`Mapping[str, Mapping[str, float]]`): System to metric to this image's score.
        metadata (`Mapping[str, Any]`): Anything else that is known about the picture.
    """

    image_id: str
    systems: Mapping[str, str]
    caption: str = ""
    references: tuple[str, ...] = ()
    confidence: float | None = None
    image: Path | None = None
    objects: tuple[SceneObject, ...] | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class People:
    """What people's ratings say, as `blip-refine rate --summary` wrote it.

    Args:
        images (`int`): Images rated.
        ratings (`int`): Captions rated, over all raters.
        systems (`Mapping[str, Mapping[str, tuple[float, float, float]]]`): System to criterion to mean and interval.
        duels (`tuple[Mapping[str, Any], ...]`): Pairs of systems: `system`, `baseline`, `wins`, `ties`, `losses`,
            `win_rate`, `low`, `high`, `difference`, `p_corrected`.
        alpha (`Mapping[str, float | None]`): Criterion to Krippendorff's alpha; `None` where it is undefined.
        alpha_undefined (`Mapping[str, str]`): Criterion to the reason why it is undefined.
        raters (`tuple[Mapping[str, Any], ...]`): How each rater worked: `rater`, `anomalies`.
        excluded (`tuple[str, ...]`): Raters that were left out.
    """

    images: int
    ratings: int
    systems: Mapping[str, Mapping[str, tuple[float, float, float]]]
    duels: tuple[Mapping[str, Any], ...] = ()
    alpha: Mapping[str, float | None] = field(default_factory=dict)
    alpha_undefined: Mapping[str, str] = field(default_factory=dict)
    raters: tuple[Mapping[str, Any], ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResults:
    """Everything that the result files of a run folder say.

    Args:
        folder (`Path`): The run folder.
        systems (`tuple[SystemScores, ...]`): In the order of the run.
        comparisons (`tuple[Mapping[str, Any], ...]`): Paired tests: `system`, `baseline`, `metric`, `difference`,
            `low`, `high`, `p_value`, `p_corrected`, `wins`, `ties`, `losses`.
        examples (`tuple[Example, ...]`): The evaluated images.
        log (`tuple[Mapping[str, Any], ...]`): The rows of the Trainer's `log_history`.
        facts (`Mapping[str, Any]`): `run.json`.
        people (`People`, *optional*): `human.json`, the summary of people's ratings.
        review (`Review`, *optional*): `review` of `human.json`, the summary of people's reviews.
        ablation (`Mapping[str, Any]`): `ablation.json`.
        evaluation_split (`str`, *optional*): The split that the scores are of.
        contaminated (`str`, *optional*): Why the scores are not those of unseen images, where they are not.
    """

    folder: Path
    systems: tuple[SystemScores, ...] = ()
    comparisons: tuple[Mapping[str, Any], ...] = ()
    examples: tuple[Example, ...] = ()
    log: tuple[Mapping[str, Any], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    people: People | None = None
    review: Review | None = None
    ablation: Mapping[str, Any] = field(default_factory=dict)
    evaluation_split: str | None = None
    contaminated: str | None = None

    @property
    def system_names(self) -> list[str]:
        """All systems that have scores or captions, in the order of the run."""
        names = [system.name for system in self.systems]
        for example in self.examples:
            names.extend(name for name in example.systems if name not in names)
        return names

    @property
    def headline_metric(self) -> str | None:
        """The metric that stands for a system where one number is shown."""
        measured = {metric for system in self.systems for metric in system.scores}
        return next((metric for metric in HEADLINE_METRICS if metric in measured), None)


def read_run(folder: str | os.PathLike) -> RunResults:
    """Read the result files of a run folder (`docs/architecture.md`, "Files").

    Args:
        folder (`str` or `os.PathLike`): What `train`, `demo` or `evaluate` left behind.

    Returns:
        `RunResults`: What there is; what is missing is empty.

    Raises:
        SourceNotFoundError: There is no such folder, or no result file in it.
        SourceFormatError: A result file is there and is not what it should be.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceNotFoundError(f"There is no run folder {str(folder)!r}.")
    sources = ("coco_metrics.json", "predictions.jsonl", "trainer_state.json")
    if not any((folder / name).is_file() for name in sources):
        raise SourceNotFoundError(
            f"{str(folder)!r} holds none of {', '.join(sources)}: there is nothing to report. "
            "Name the folder that `blip-refine train`, `evaluate` or `demo` wrote."
        )
    metrics = read_json_object(folder / "coco_metrics.json")
    predictions = folder / "predictions.jsonl"
    examples: tuple[Example, ...] = ()
    if predictions.is_file():
        rows = enumerate(read_jsonl(predictions), 1)
        examples = tuple(_example(row, folder, f"{predictions}, row {number}") for number, row in rows)
        twice = [image_id for image_id, times in Counter(one.image_id for one in examples).items() if times > 1]
        if twice:
            raise SourceFormatError(f"{predictions}: the image {twice[0]!r} is there more than once.")
    human = read_json_object(folder / "human.json")
    log = read_json_object(folder / "trainer_state.json").get("log_history", [])
    facts = read_json_object(folder / "run.json")
    split = facts.get("evaluation_split") or metrics.get("evaluation_split")
    return RunResults(
        folder=folder,
        systems=_systems(metrics, folder / "coco_metrics.json"),
        comparisons=tuple(row for row in metrics.get("comparisons", []) if isinstance(row, Mapping)),
        examples=examples,
        log=tuple(row for row in log if isinstance(row, Mapping)) if isinstance(log, list) else (),
        facts=facts,
        people=_people(human, folder / "human.json"),
        review=read_review(human.get("review"), folder / "human.json"),
        ablation=read_json_object(folder / "ablation.json"),
        evaluation_split=None if split is None else str(split),
        contaminated=str(metrics["contaminated"]) if metrics.get("contaminated") else None,
    )


def curve(run: RunResults, key: str) -> list[tuple[float, float]]:
    """The points `(step, value)` of one quantity of the Trainer's log."""
    rows = (row for row in run.log if is_number(row.get(key)) and is_number(row.get("step")))
    return [(float(row["step"]), float(row[key])) for row in rows]


def logged_metrics(run: RunResults) -> list[str]:
    """The names under which the Trainer logged metrics of the evaluation set, in the order of their appearance."""
    keys: dict[str, None] = {}
    for row in run.log:
        for key in row:
            if key.startswith("eval_") and not key.endswith(_NO_METRIC) and curve(run, key):
                keys[key] = None
    return list(keys)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number (JSON's `true` is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _systems(metrics: Mapping[str, Any], path: Path) -> tuple[SystemScores, ...]:
    systems = metrics.get("systems")
    if not systems:
        # One model alone: its scores are the file's own.
        systems = {"model": metrics} if any(is_number(metrics.get(name)) for name in METRICS) else {}
    if not isinstance(systems, Mapping) or not all(isinstance(value, Mapping) for value in systems.values()):
        raise SourceFormatError(f"{path}: 'systems' is not an object of objects, one for each system.")
    return tuple(_system_scores(str(name), values) for name, values in systems.items())


def _system_scores(name: str, values: Mapping[str, Any]) -> SystemScores:
    intervals, unavailable = _object(values.get("intervals")), _object(values.get("unavailable"))
    signature = values.get("signature")
    return SystemScores(
        name=name,
        scores={metric: float(values[metric]) for metric in METRICS if is_number(values.get(metric))},
        intervals={
            str(metric): (float(ends["low"]), float(ends["high"]))
            for metric, ends in intervals.items()
            if isinstance(ends, Mapping) and is_number(ends.get("low")) and is_number(ends.get("high"))
        },
        signature=None if signature is None else str(signature),
        unavailable={str(metric): str(reason) for metric, reason in unavailable.items()},
        refinement=_object(values.get("refinement")),
        captioner=_object(values.get("captioner")),
        measures={name: _object(values.get(name)) for name in ("single_reference", "diversity", "test_loss")},
    )


def _people(value: Mapping[str, Any], path: Path) -> People | None:
    if not set(value) - {"review"}:
        return None
    try:
        return People(
            images=int(value["images"]),
            ratings=int(value["ratings"]),
            systems={
                str(system): {
                    str(criterion): (float(one["mean"]), float(one["low"]), float(one["high"]))
                    for criterion, one in criteria.items()
                }
                for system, criteria in value["systems"].items()
            },
            duels=tuple(dict(duel) for duel in value.get("duels", ())),
            alpha={
                str(criterion): None if one is None else float(one)
                for criterion, one in value.get("alpha", {}).items()
            },
            alpha_undefined={
                str(criterion): str(reason) for criterion, reason in value.get("alpha_undefined", {}).items()
            },
            raters=tuple({"anomalies": (), **rater} for rater in value.get("raters", ())),
            excluded=tuple(str(rater) for rater in value.get("excluded", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SourceFormatError(
            f"{path} is no summary of ratings as `blip-refine rate --summary` writes it."
        ) from error


def _example(row: Mapping[str, Any], folder: Path, where: str) -> Example:
    if "image_id" not in row:
        raise SourceFormatError(f"{where}: there is no 'image_id'.")
    systems = row.get("systems") or ({"model": row["caption"]} if "caption" in row else {})
    references, objects, scores = row.get("references") or [], row.get("objects"), row.get("scores") or {}
    if not isinstance(systems, Mapping) or not isinstance(references, list) or not isinstance(scores, Mapping):
        raise SourceFormatError(f"{where}: 'systems' and 'scores' are objects and 'references' is a list of captions.")
    if objects is not None and not (isinstance(objects, list) and all(isinstance(item, Mapping) for item in objects)):
        raise SourceFormatError(f'{where}: \'objects\' is a list of objects such as {{"name": "boat"}}.')
    confidence = row.get("confidence")
    return Example(
        image_id=str(row["image_id"]),
        systems={str(name): str(caption) for name, caption in systems.items()},
        caption=str(row["caption"] if "caption" in row else list(systems.values())[-1] if systems else ""),
        references=tuple(str(reference) for reference in references),
        confidence=float(confidence) if is_number(confidence) else None,
        image=_inside(folder, row.get("image")),
        objects=None if objects is None else tuple(_scene_object(item) for item in objects),
        scores={
            str(system): {str(metric): float(value) for metric, value in values.items() if is_number(value)}
            for system, values in scores.items()
            if isinstance(values, Mapping)
        },
        metadata=_object(row.get("metadata")),
    )


def _scene_object(item: Mapping[str, Any]) -> SceneObject:
    count = item.get("count", 1)
    color, size = item.get("color"), item.get("size")
    return SceneObject(
        name=str(item.get("name", "")),
        color=None if color is None else str(color),
        size=None if size is None else str(size),
        count=count if isinstance(count, int) else 1,
    )


def _inside(folder: Path, name: Any) -> Path | None:
    """The picture that a row names. One outside the run folder is not shown: a result file may come from anywhere."""
    if not isinstance(name, str) or not name:
        return None
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
