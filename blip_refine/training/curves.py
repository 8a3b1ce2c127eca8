"""Loss and metrics over the steps of a run, as a picture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..jsonlines import atomic_write

PANELS: Mapping[str, Mapping[str, str]] = {
    "Loss (nats a token)": {"loss": "training", "eval_loss": "validation"},
    "sacreBLEU": {"eval_sacrebleu": "validation"},
    "CIDEr": {"eval_CIDEr": "validation"},
}
TIMES = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
"""What the Trainer logs of an evaluation beside its metrics."""


def write_curves(log_history: Sequence[Mapping[str, Any]], folder: str | os.PathLike) -> Path | None:
    """Draw what a run has logged into `curves.png`.

    Args:
        log_history (`Sequence[Mapping]`): The Trainer's rows, each with a `step`.
        folder (`str` or `os.PathLike`): The run folder.

    Returns:
        `Path`, *optional*: The picture; `None` where nothing was logged that can be drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawn = []
    for title, names in {**PANELS, **_own_metrics(log_history)}.items():
        lines = {
            label: [(row["step"], row[name]) for row in log_history if name in row] for name, label in names.items()
        }
        lines = {label: points for label, points in lines.items() if points}
        if lines:
            drawn.append((title, lines))
    if not drawn:
        return None
    figure = Figure(figsize=(4.5 * len(drawn), 3.2), layout="constrained")
    for axes, (title, lines) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        for label, points in lines.items():
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, marker="o" if len(points) < 30 else "", markersize=3, label=label)
        axes.set(title=title, xlabel="optimizer step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.grid(alpha=0.3)
        axes.legend()
    path = Path(folder, "curves.png")
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
    return path


def _own_metrics(log_history: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, str]]:
    """A panel for each metric that the user's own `compute_metrics` has added."""
    known = {name for names in PANELS.values() for name in names} | set(TIMES)
    found = sorted({name for row in log_history for name in row if name.startswith("eval_")} - known)
    return {name.removeprefix("eval_"): {name: "validation"} for name in found}
