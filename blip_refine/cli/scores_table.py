"""The table of systems and their scores, as several commands end with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .output import output

if TYPE_CHECKING:
    from ..evaluation.systems import Evaluation
    from ..metrics.paper_tables import PaperTable


def print_scores(systems: Mapping[str, Evaluation], split: str | None = None, *, with_measures: bool = True) -> None:
    """One row a metric, one column a system, 95 % intervals where they were computed, and what could not be.

    Args:
        systems (`Mapping[str, Evaluation]`): By name.
        split (`str`, *optional*): The split that they were scored on.
        with_measures (`bool`, defaults to `True`): Also print single-reference scores, diversity and test loss.
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
    if with_measures:
        print_measures({name: systems[name].row for name in names})
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


def check_table_form(form: str | None) -> None:
    """Refuse `--table` before anything slow starts.

    Raises:
        ConfigurationError: There is no such form, or `--json` prints the result in another one.
    """
    from ..metrics.paper_tables import check_form

    if form is not None:
        check_form(form)
        if output.json_mode:
            raise ConfigurationError("--json and --table both print the result: give one of them.")


def print_tables(systems: Mapping[str, Mapping[str, Any]], form: str, more: Sequence[PaperTable] = ()) -> None:
    """Tables for a paper on standard output, and on standard error what is missing in them.

    Args:
        systems (`Mapping[str, Mapping[str, Any]]`): System to its row of `coco_metrics.json`.
        form (`str`): "latex", "markdown" or "csv".
        more (`Sequence[PaperTable]`, *optional*): Further tables of the same systems.
    """
    import sys

    from ..metrics.paper_tables import format_tables, missing_measures, tables_of

    sys.stdout.write(format_tables([*tables_of(systems), *more], form) + "\n")
    for note in missing_measures(systems):
        output.note(note)


def print_measures(systems: Mapping[str, Mapping[str, Any]]) -> None:
    """What is known of sets of captions beside their scores: single-reference scores, diversity, test loss.

    Args:
        systems (`Mapping[str, Mapping[str, Any]]`): System to its row of `coco_metrics.json`.
    """
    from ..metrics.paper_tables import TEST_LOSS, missing_measures, shown, tables_of

    for table in tables_of(systems):
        if table.title.startswith("Scores"):
            if TEST_LOSS in table.columns:
                place = table.columns.index(TEST_LOSS)
                losses = {name: row[place] for name, row in table.rows.items()}
                shared = set(losses.values())
                said = ", ".join(f"{name} {value.value:.3f}" for name, value in losses.items() if value is not None)
                if len(losses) > 1 and len(shared) == 1:
                    said = "the same for all"
                    said = f"{shared.pop().value:.3f}, {said}"  # type: ignore[union-attr]
                output.line(f"Test loss (nats per token of the references; lower is better): {said}")
            continue
        rows = [
            [name, *("" if value is None else shown(value.value) for value in row)] for name, row in table.rows.items()
        ]
        output.table(["", *table.columns], rows, title=table.title)
    for note in missing_measures(systems):
        output.line(note)
