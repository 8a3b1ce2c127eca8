"""The charts of the page, put together from what a run holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from . import charts
from .measure import Findings
from .results import METRICS, People, RunResults, curve, is_number, logged_metrics
from .words import words_of


@dataclass(frozen=True, slots=True)
class Panel:
    """A chart with what stands around it.

    Args:
        title (`str`): Above the chart.
        svg (`Markup`): The chart.
        legend (`tuple[tuple[str, str], ...]`): Names and their CSS classes, below the chart.
    """

    title: str
    svg: Markup
    legend: tuple[tuple[str, str], ...] = ()


def system_styles(names: list[str]) -> dict[str, str]:
    """System to the CSS class of its colour; the first of several, the starting point, is grey."""
    first = 0 if len(names) > 1 else 1
    return {name: f"s{min(first + place, 5)}" for place, name in enumerate(names)}


def training_charts(run: RunResults) -> list[Panel]:
    """Loss and metric curves, from the Trainer's log."""
    found: list[Panel] = []
    named = (("training", "loss", "s0"), ("validation", "eval_loss", "s1"))
    losses = [charts.Series(name, points, style) for name, key, style in named if (points := curve(run, key))]
    if losses:
        legend = tuple((line.name, line.style) for line in losses)
        found.append(Panel("Loss", charts.line_chart(losses, "step", "loss", "Loss"), legend))
    for key in logged_metrics(run):
        name = key.removeprefix("eval_")
        line = charts.Series(name, curve(run, key), "s1")
        svg = charts.line_chart([line], "step", name, f"{name} on the validation set")
        found.append(Panel(f"{name} (validation)", svg))
    return found


def score_charts(run: RunResults) -> list[Panel]:
    """One chart a metric with every system and its interval."""
    styles = system_styles(run.system_names)
    found: list[Panel] = []
    for metric in METRICS:
        bars = []
        for system in run.systems:
            if metric in system.scores:
                low, high = system.intervals.get(metric) or (None, None)
                bars.append(charts.Bar(system.name, system.scores[metric], low, high, styles[system.name]))
        if bars:
            found.append(Panel(metric, charts.interval_chart(bars, metric)))
    return found


def distribution_charts(run: RunResults) -> list[Panel]:
    """Histograms of caption length and confidence."""
    styles = system_styles(run.system_names)
    found: list[Panel] = []
    lengths = [
        (name, styles[name], [float(len(words_of(one.systems[name]))) for one in run.examples if name in one.systems])
        for name in run.system_names
    ]
    lengths = [group for group in lengths if group[2]]
    if lengths:
        references = [float(len(words_of(text))) for one in run.examples for text in one.references]
        if references:
            lengths.append(("references", "s6", references))
        svg = charts.histogram(lengths, "words in the caption", "Length of the captions")
        found.append(Panel("Caption length", svg, tuple((name, style) for name, style, _ in lengths)))
    confidences = [one.confidence for one in run.examples if one.confidence is not None]
    if confidences:
        name = "mean log-probability of the caption's tokens"
        svg = charts.histogram([("drafts", "s1", confidences)], name, "Confidence of the captioner")
        found.append(Panel("Confidence", svg))
    return found


def ablation_chart(ablation: Mapping[str, Any]) -> Panel | None:
    """Quality against time of every cell of an ablation."""
    cells, metric = ablation.get("cells") or [], ablation.get("metric")
    points = [
        (str(one["name"]), 1000 * one["seconds"], one["scores"][metric], bool(one.get("best")))
        for one in cells
        if is_number(one.get("seconds")) and is_number(one.get("scores", {}).get(metric))
    ]
    if not points or metric is None:
        return None
    svg = charts.scatter(points, "milliseconds an image", str(metric), f"{metric} against time")
    return Panel(f"{metric} against time", svg, (("nothing is better and faster", "s1"), ("the others", "s0")))


def people_charts(run: RunResults, people: People) -> list[Panel]:
    """For each criterion that people rated, the mean of every system with its interval."""
    styles = system_styles(run.system_names)
    found: dict[str, list[charts.Bar]] = {}
    for system, criteria in people.systems.items():
        for criterion, (mean, low, high) in criteria.items():
            bar = charts.Bar(system, mean, low, high, styles.get(system, "s5"))
            found.setdefault(criterion, []).append(bar)
    return [
        Panel(criterion.capitalize(), charts.interval_chart(bars, f"{criterion}, rated by people", digits=2))
        for criterion, bars in found.items()
    ]


def slice_charts(findings: Findings) -> list[Panel]:
    """For each way of dividing the images, a bar for each part, with its interval and its number of images."""
    metric = findings.run.headline_metric
    groups: dict[str, list[charts.Bar]] = {}
    for part in findings.slices:
        bar = charts.Bar(part.name, part.score, part.low, part.high, "s1", f"({part.images})")
        groups.setdefault(part.by, []).append(bar)
    return [
        Panel(f"{metric} by {by}", charts.interval_chart(bars, f"{metric} by {by}", digits=2, zero=True))
        for by, bars in groups.items()
        if len(bars) > 1
    ]


def calibration_charts(findings: Findings) -> list[Panel]:
    """Score against confidence, and what keeping only the most confident captions would give."""
    found, metric = findings.calibration, findings.run.headline_metric
    if found is None or metric is None:
        return []
    bins = charts.Series(
        metric,
        [(one.confidence, one.score) for one in found.bins],
        "s1",
        [(one.low, one.high) for one in found.bins],
    )
    kept = charts.Series(metric, [(100 * share, score) for share, score in found.kept], "s2")
    return [
        Panel(f"{metric} by confidence", charts.line_chart([bins], "confidence", metric, f"{metric} by confidence")),
        Panel(
            f"{metric} if only the most confident were kept",
            charts.line_chart([kept], "captions kept (%)", metric, f"{metric} of the most confident captions"),
        ),
    ]
