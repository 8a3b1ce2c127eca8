"""The plots of a run as PNG files, for papers, cards and slides. Drawn without a screen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .measure import Findings
from .results import METRICS, RunResults, curve, logged_metrics
from .words import words_of

COLORS = ("#64748b", "#4f46e5", "#0d9488", "#d97706", "#be185d", "#0284c7", "#a3a3a3")
"""Of the systems, in their order; told apart by readers with any colour vision, and never the only mark."""


def write_plots(findings: Findings, folder: Path) -> list[Path]:
    """Write every plot that the run has data for.

    Args:
        findings (`Findings`): What was found out about the run.
        folder (`Path`): Where the files go.

    Returns:
        `list[Path]`: What was written: of `loss.png`, `metrics.png`, `scores.png`, `lengths.png`, `confidence.png`,
        `calibration.png`, `slices.png` and `pareto.png`.
    """
    run = findings.run
    drawings: tuple[tuple[str, Callable[[RunResults, Any], None], tuple[float, float], bool], ...] = (
        ("loss.png", _loss, (7, 4), bool(curve(run, "loss") or curve(run, "eval_loss"))),
        ("metrics.png", _metrics, (7, 4), bool(logged_metrics(run))),
        ("scores.png", _scores, (9, 4.5), any(system.scores for system in run.systems)),
        ("lengths.png", _lengths, (7, 4), any(example.systems for example in run.examples)),
        ("confidence.png", _confidence, (7, 4), any(example.confidence is not None for example in run.examples)),
        ("calibration.png", partial(_calibration, findings), (7, 4), findings.calibration is not None),
        ("slices.png", partial(_slices, findings), (7, 1.5 + 0.32 * len(findings.slices)), bool(findings.slices)),
        ("pareto.png", _pareto, (7, 4.5), bool(run.ablation.get("cells"))),
    )
    written = []
    for name, draw, size, possible in drawings:
        if possible:
            _save(run, draw, size, folder / name)
            written.append(folder / name)
    return written


def _save(run: RunResults, draw: Callable[[RunResults, Any], None], size: tuple[float, float], path: Path) -> None:
    # The figure's own canvas, not pyplot: no global state, no screen, nothing left open.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    draw(run, figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _axes(figure: Any, title: str, x_name: str, y_name: str, place: int = 111) -> Any:
    axes = figure.add_subplot(place)
    axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def _loss(run: RunResults, figure: Any) -> None:
    axes = _axes(figure, "Loss", "step", "loss")
    for name, key, color, mark in (("training", "loss", 0, None), ("validation", "eval_loss", 1, "o")):
        points = sorted(curve(run, key))
        if points:
            axes.plot(*zip(*points, strict=True), color=COLORS[color], marker=mark, label=name)
    axes.legend(frameon=False)


def _metrics(run: RunResults, figure: Any) -> None:
    names = logged_metrics(run)
    for place, key in enumerate(names):
        name = key.removeprefix("eval_")
        axes = _axes(figure, f"{name} (validation)", "step", name, 100 + 10 * len(names) + place + 1)
        axes.plot(*zip(*sorted(curve(run, key)), strict=True), color=COLORS[1], marker="o")


def _scores(run: RunResults, figure: Any) -> None:
    metrics = [metric for metric in METRICS if any(metric in system.scores for system in run.systems)]
    grid = figure.add_gridspec(1, len(metrics))
    for place, metric in enumerate(metrics):
        axes = _axes(figure, metric, "", "", grid[0, place])
        for index, system in enumerate(run.systems):
            if metric not in system.scores:
                continue
            value, ends = system.scores[metric], system.intervals.get(metric)
            error = None if ends is None else [[max(value - ends[0], 0)], [max(ends[1] - value, 0)]]
            color = COLORS[min(index if len(run.systems) > 1 else 1, len(COLORS) - 1)]
            axes.bar(index, value, yerr=error, capsize=4, color=color, label=system.name, width=0.75)
        axes.set_xticks([])
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, [_plain(label) for label in labels], loc="outside lower center", ncols=4, frameon=False)


def _lengths(run: RunResults, figure: Any) -> None:
    axes = _axes(figure, "Caption length", "words in the caption", "share of captions (%)")
    groups = {
        name: [len(words_of(example.systems[name])) for example in run.examples if name in example.systems]
        for name in run.system_names
    }
    references = [len(words_of(text)) for example in run.examples for text in example.references]
    if references:
        groups["references"] = references
    longest = max(max(values) for values in groups.values() if values)
    for index, (name, values) in enumerate(groups.items()):
        color = COLORS[-1] if name == "references" else COLORS[min(index, len(COLORS) - 2)]
        weights = [100 / len(values)] * len(values)
        edges = [edge - 0.5 for edge in range(longest + 2)]
        axes.hist(values, bins=edges, weights=weights, histtype="step", linewidth=1.8, color=color, label=_plain(name))
    axes.legend(frameon=False)


def _confidence(run: RunResults, figure: Any) -> None:
    axes = _axes(figure, "Confidence", "mean log-probability of the caption's tokens", "captions")
    axes.hist([one.confidence for one in run.examples if one.confidence is not None], bins=20, color=COLORS[1])


def _calibration(findings: Findings, run: RunResults, figure: Any) -> None:
    found = findings.calibration
    assert found is not None
    axes = _axes(figure, "Confidence and quality", "confidence (mean log-probability)", run.headline_metric or "score")
    middle = [one.score for one in found.bins]
    errors = [
        [max(one.score - one.low, 0.0) for one in found.bins],
        [max(one.high - one.score, 0.0) for one in found.bins],
    ]
    axes.errorbar([one.confidence for one in found.bins], middle, yerr=errors, marker="o", capsize=3, color=COLORS[1])


def _slices(findings: Findings, run: RunResults, figure: Any) -> None:
    axes = _axes(figure, "Parts of the images", run.headline_metric or "score", "")
    axes.grid(visible=False)
    names = [_plain(f"{one.by}: {one.name} ({one.images})") for one in findings.slices]
    scores = [one.score for one in findings.slices]
    errors = [
        [max(one.score - one.low, 0.0) for one in findings.slices],
        [max(one.high - one.score, 0.0) for one in findings.slices],
    ]
    axes.barh(range(len(names)), scores, xerr=errors, capsize=3, color=COLORS[1])
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()


def _pareto(run: RunResults, figure: Any) -> None:
    metric = str(run.ablation["metric"])
    axes = _axes(figure, f"{metric} against time", "milliseconds an image", metric)
    cells = run.ablation["cells"]
    for place, one in enumerate(cells, 1):
        x, y = 1000 * one["seconds"], one["scores"][metric]
        label = _plain(f"{place}. {one['name']}")
        axes.scatter([x], [y], color=COLORS[1 if one.get("best") else 0], label=label, zorder=3)
        axes.annotate(str(place), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    front = sorted((1000 * one["seconds"], one["scores"][metric]) for one in cells if one.get("best"))
    axes.plot(*zip(*front, strict=True), color=COLORS[1], linestyle="--", linewidth=1)
    axes.set_xlim(left=0)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _plain(text: str) -> str:
    """Text from data, so that matplotlib reads neither formulas nor hidden labels from it."""
    return text.replace("$", r"\$").lstrip("_") or "system"
