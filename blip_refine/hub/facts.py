"""What a run folder says, as the model card needs it. Files alone: no model is loaded, nothing heavy is imported."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import SourceFormatError, SourceNotFoundError
from ..jsonlines import read_json_object, read_jsonl

METRICS = {
    "Bleu_1": ("BLEU-1", "bleu"),
    "Bleu_2": ("BLEU-2", "bleu"),
    "Bleu_3": ("BLEU-3", "bleu"),
    "Bleu_4": ("BLEU-4", "bleu"),
    "METEOR": ("METEOR", "meteor"),
    "ROUGE_L": ("ROUGE-L", "rouge"),
    "CIDEr": ("CIDEr", "cider"),
    "SPICE": ("SPICE", "spice"),
}
"""Name in `coco_metrics.json` to the name for people and the metric's name on the Hub."""

ENERGY = {"energy_kwh": "energy_kwh", "co2_eq_kg": "co2_kg"}
"""Name of a fact in `run.json` to its name in the Trainer's log."""

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of a run folder, read. What is missing is empty.

    Args:
        path (`Path`): The folder.
        facts (`Mapping[str, Any]`): `run.json`.
        scores (`Mapping[str, Mapping[str, Any]]`): System to its row of `coco_metrics.json`, in the order of the run.
        metrics (`Mapping[str, Any]`): `coco_metrics.json` itself.
        predictions (`tuple[Mapping[str, Any], ...]`): `predictions.jsonl`.
        training (`Mapping[str, Any]`): `trainer_state.json`.
        pretraining (`Mapping[str, Any]`): `pretraining.json`, where the model was trained from nothing.
        config (`Mapping[str, Any]`): `config.json` of the model.
        adapter (`Mapping[str, Any]`): `adapter_config.json`, where the folder holds an adapter and no whole model.
        errors (`Mapping[str, Any]`): `error_analysis.json`.
        people (`Mapping[str, Any]`): `human.json`.
    """

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    predictions: tuple[Mapping[str, Any], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    adapter: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, Any] = field(default_factory=dict)
    people: Mapping[str, Any] = field(default_factory=dict)

    @property
    def base_model(self) -> str | None:
        """What the weights started from."""
        name = self.adapter.get("base_model_name_or_path") or self.facts.get("base_model")
        return str(name) if name else None

    @property
    def dataset(self) -> str | None:
        """What was trained on."""
        name = self.facts.get("dataset") or self.pretraining.get("data")
        return str(name) if name else None

    @property
    def weights_system(self) -> str | None:
        """The system whose captions are those of these weights alone, without a refiner."""
        if len(self.scores) == 1:
            return next(iter(self.scores))
        plain = [name for name in self.scores if name not in ("before", "refined")]
        return "after" if "after" in self.scores else (plain[-1] if plain else None)

    @property
    def energy(self) -> dict[str, float]:
        """What training took, where it was measured: `energy_kwh` and `co2_eq_kg`, of `run.json` or of the Trainer's
        log, in which every training that was ended has its row."""
        found = {name: float(self.facts[name]) for name in ENERGY if is_number(self.facts.get(name))}
        log = [row for row in self.training.get("log_history") or () if isinstance(row, Mapping)]
        for name, logged in ENERGY.items():
            rows = [row[logged] for row in log if is_number(row.get(logged))]
            if rows:
                found.setdefault(name, sum(rows))
        return found

    @property
    def evaluated_images(self) -> int | None:
        """How many images the scores are over."""
        row = self.scores.get(self.weights_system or "", self.metrics)
        found = re.search(r"(?:^|\|)images:(\d+)", str(row.get("signature", "")))
        return row.get("images") or (int(found[1]) if found else None) or len(self.predictions) or None

    @property
    def references_per_image(self) -> str | None:
        """How many references an image has: "5", or "1 to 5"."""
        counts = [len(row["references"]) for row in self.predictions if isinstance(row.get("references"), list)]
        if counts:
            low, high = min(counts), max(counts)
            return str(low) if low == high else f"{low} to {high}"
        found = re.search(r"(?:^|\|)refs:(\d+)(?:-(\d+))?", str(self.metrics.get("signature", "")))
        return None if not found else found[1] if not found[2] else f"{found[1]} to {found[2]}"


def read_run_folder(folder: str | os.PathLike) -> RunFolder:
    """Read what a run folder says about its model (`docs/architecture.md`, "Files").

    Args:
        folder (`str` or `os.PathLike`): What `train` or `demo` left behind.

    Raises:
        SourceNotFoundError: There is no such folder, or no model in it.
        SourceFormatError: A file is there and is not what it should be; the message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceNotFoundError(f"There is no run folder {str(folder)!r}.")
    config, adapter = read_json_object(folder / "config.json"), read_json_object(folder / ADAPTER_CONFIG)
    if not config and not adapter:
        raise SourceNotFoundError(
            f"{str(folder)!r} holds neither config.json nor {ADAPTER_CONFIG}: there is no model in it. "
            "Name the folder that `blip-refine train` or `demo` wrote."
        )
    metrics = read_json_object(folder / "coco_metrics.json")
    predictions = folder / "predictions.jsonl"
    return RunFolder(
        path=folder,
        facts=read_json_object(folder / "run.json"),
        scores=_systems(metrics, folder / "coco_metrics.json"),
        metrics=metrics,
        predictions=tuple(read_jsonl(predictions)) if predictions.is_file() else (),
        training=read_json_object(folder / "trainer_state.json"),
        pretraining=read_json_object(folder / "pretraining.json"),
        config=config,
        adapter={} if config else adapter,
        errors=read_json_object(folder / "error_analysis.json"),
        people=read_json_object(folder / "human.json"),
    )


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a finite number (JSON's `true` is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _systems(metrics: Mapping[str, Any], path: Path) -> dict[str, Mapping[str, Any]]:
    systems = metrics.get("systems") or ({"model": metrics} if any(name in metrics for name in METRICS) else {})
    if not isinstance(systems, Mapping) or not all(isinstance(row, Mapping) for row in systems.values()):
        raise SourceFormatError(f"{path}: 'systems' is not an object of objects, one for each system.")
    return {str(name): row for name, row in systems.items()}
