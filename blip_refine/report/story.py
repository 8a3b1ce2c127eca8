"""The first lines of the report: did it help? Said from measured differences alone, and no more than they allow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..data.split_names import images_of_split
from ..evaluation.significance import INVISIBLE
from .results import RunResults, SystemScores, is_number

SIGNIFICANCE = 0.05
"""A difference counts where its corrected p-value is below this."""

FEW = 3
"""Up to so many systems are told one after the other, as a story; of more, the best is named."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One system in the headline.

    Args:
        system (`str`): Its name.
        metric (`str`): The metric shown.
        value (`float`): Its corpus score.
        interval (`tuple[float, float]`, *optional*): 95 % bootstrap interval of the score.
        baseline (`str`, *optional*): The system it is compared with: the one before it, or the last
            before it that it was tested against.
        difference (`float`, *optional*): Score minus the baseline's score.
        difference_interval (`tuple[float, float]`, *optional*): Paired 95 % interval of the difference.
        verdict (`str`, *optional*): "better", "worse" or "no clear difference"; `None` where it was not tested.
    """

    system: str
    metric: str
    value: float
    interval: tuple[float, float] | None
    baseline: str | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    verdict: str | None = None


def verdict_of(row: Mapping[str, Any]) -> str | None:
    """What a paired test says: "better", "worse", "no clear difference"; `None` where the row holds no p-value."""
    p_value = row.get("p_corrected", row.get("p_value"))
    difference = row.get("difference")
    if not is_number(p_value) or not is_number(difference):
        return None
    if p_value >= SIGNIFICANCE or abs(difference) < INVISIBLE:
        return "no clear difference"
    return "better" if difference > 0 else "worse"


def comparison_of(run: RunResults, system: str, baseline: str, metric: str) -> Mapping[str, Any]:
    """The paired test of two systems in one metric; empty where there is none."""
    for row in run.comparisons:
        if (row.get("system"), row.get("baseline"), row.get("metric")) == (system, baseline, metric):
            return row
    return {}


def tiles(run: RunResults) -> list[Tile]:
    """The headline metric of every system, each against the one before it or the last that it was tested against."""
    metric = run.headline_metric
    if metric is None:
        return []
    shown: list[Tile] = []
    earlier: list[SystemScores] = []
    for system in run.systems:
        if metric not in system.scores:
            continue
        tested = [one for one in earlier if comparison_of(run, system.name, one.name, metric)]
        previous = (tested or earlier)[-1] if earlier else None
        shown.append(_tile(run, system, previous, metric))
        earlier.append(system)
    return shown


def _tile(run: RunResults, system: SystemScores, previous: SystemScores | None, metric: str) -> Tile:
    value, interval = system.scores[metric], system.intervals.get(metric)
    if previous is None:
        return Tile(system.name, metric, value, interval)
    row = comparison_of(run, system.name, previous.name, metric)
    low, high = row.get("low"), row.get("high")
    return Tile(
        system=system.name,
        metric=metric,
        value=value,
        interval=interval,
        baseline=previous.name,
        difference=value - previous.scores[metric],
        difference_interval=(low, high) if is_number(low) and is_number(high) else None,
        verdict=verdict_of(row),
    )


def sentence(run: RunResults, shown: list[Tile]) -> str:
    """The answer to "did it help?" in plain words."""
    if not shown:
        return "This run holds no scores yet: what it does hold is shown below."
    images = len(run.examples)
    over = f" on {images_of_split(images, run.evaluation_split)}" if images else ""
    if len(shown) == 1:
        return f"{shown[0].metric} {shown[0].value:.3f}{over}."
    if len(shown) > FEW:
        best = max(shown, key=lambda tile: tile.value)
        text = f"Of {len(shown)} systems, {best.system} scores highest ({best.metric} {best.value:.3f})"
        # Chosen after seeing all of them: the test against the first says whether even that is more than chance.
        return text + (f"; {_change(best)}" if best.baseline else "") + over + "."
    text = "; ".join(map(_change, shown[1:])) + over + "."
    return text[0].upper() + text[1:]


def _change(tile: Tile) -> str:
    """What the test of a system against its baseline says, in words."""
    said = {
        "better": f"{tile.system} is better than {tile.baseline}",
        "worse": f"{tile.system} is worse than {tile.baseline}",
        "no clear difference": f"between {tile.baseline} and {tile.system} there is no clear difference",
    }.get(tile.verdict or "", f"from {tile.baseline} to {tile.system}")
    return f"{said} ({tile.metric} {tile.difference:+.3f})"
