"""The metric lines of a job: what is printed while it trains, and the expressions that read it, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOGGED = {
    "loss": "train:loss",
    "learning_rate": "train:learning_rate",
    "captions_per_second": "train:captions_per_second",
    "eval_loss": "validation:loss",
    "eval_sacrebleu": "validation:sacrebleu",
    "eval_CIDEr": "validation:CIDEr",
}
"""Name in the Trainer's log to the name of the metric in SageMaker."""

FINAL = ("Bleu_1", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")


def final_names(split: str) -> dict[str, str]:
    """Name of a final score to the name of the metric in SageMaker.

    Args:
        split (`str`): The split that was scored: "test", or "validation" without test images.
    """
    return {name: f"{split}:{name}" for name in FINAL}


NUMBER = r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)"

METRIC_DEFINITIONS = [
    {"Name": name, "Regex": rf"\b{name.replace(':', '_')}={NUMBER}"}
    for name in dict.fromkeys([*LOGGED.values(), *final_names("validation").values(), *final_names("test").values()])
]
"""For the estimator's `metric_definitions`: what SageMaker reads out of the log of a job."""


def metric_line(values: Mapping[str, Any], names: Mapping[str, str] = LOGGED, step: int | None = None) -> str | None:
    """The line that `METRIC_DEFINITIONS` read; `None` if none of the values is a metric.

    Args:
        values (`Mapping[str, Any]`): A row of the Trainer's log, or final scores.
        names (`Mapping[str, str]`): `LOGGED`, or those of `final_names`.
        step (`int`, *optional*): The optimizer step, to be printed first.
    """
    parts = [f"{name.replace(':', '_')}={float(values[key]):.6g}" for key, name in names.items() if key in values]
    if not parts:
        return None
    return " ".join(([] if step is None else [f"step={step}"]) + parts)
