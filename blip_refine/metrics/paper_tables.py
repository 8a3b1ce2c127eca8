"""Tables of systems as a paper needs them: LaTeX, Markdown or CSV, with intervals and the best value in bold."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from ..errors import ConfigurationError
from .families import ALL_METRICS, COCO_METRICS

DIVERSITY = {
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "vocabulary": "vocabulary",
    "unique_captions": "unique",
    "novel_captions": "novel",
    "mean_length": "words",
    "repetition_rate": "repeats",
    "self_bleu": "self-BLEU",
    "mBLEU_4": "mBLEU-4",
    "div_1": "Div-1",
    "div_2": "Div-2",
}
"""Measures of a set of captions and their heads; none of them is better when it is higher or lower."""

TEST_LOSS = "test loss"
SET_NOTE = "properties of the whole set of captions: no intervals, no tests per image"


@dataclass(frozen=True)
class Value:
    """A number of a table.

    Args:
        value (`float`): The number.
        low, high (`float`, *optional*): The ends of its 95 % interval.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class PaperTable:
    """Systems by measures.

    Args:
        title (`str`): What the numbers are.
        columns (`tuple[str, ...]`): The measures.
        rows (`Mapping[str, Sequence[Value | None]]`): System to its value of each measure.
        lower_is_better (`frozenset[str]`, *optional*): Of these the lowest value is the best.
        no_best (`frozenset[str]`, *optional*): Of these no value is better than another.
    """

    title: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[Value | None]]
    lower_is_better: frozenset[str] = field(default_factory=frozenset)
    no_best: frozenset[str] = field(default_factory=frozenset)

    def best(self, place: int) -> float | None:
        """The best value of a column as it is shown; `None` where there is nothing to choose between."""
        column = self.columns[place]
        shown = [round(row[place].value, 3) for row in self.rows.values() if row[place] is not None]  # type: ignore[union-attr]
        if column in self.no_best or len(shown) < 2 or len(set(shown)) < 2:
            return None
        return min(shown) if column in self.lower_is_better else max(shown)


def tables_of(systems: Mapping[str, Mapping[str, Any]]) -> list[PaperTable]:
    """The tables of a comparison: scores with the test loss, single-reference scores, diversity.

    Args:
        systems (`Mapping[str, Mapping[str, Any]]`): System to its row of `coco_metrics.json`.
    """
    metrics = [*COCO_METRICS, *(name for name in ALL_METRICS if name not in COCO_METRICS)]
    tables = []
    scores = {name: _scores(row, metrics) for name, row in systems.items()}
    for name, row in systems.items():
        loss = (row.get("test_loss") or {}).get("nats_per_token")
        scores[name][TEST_LOSS] = Value(loss) if is_number(loss) else None
    tables.append(_table("Scores against all references (95 % intervals)", [*metrics, TEST_LOSS], scores))
    single = {name: _scores(row.get("single_reference") or {}, metrics) for name, row in systems.items()}
    tables.append(_table("Against the first reference alone", metrics, single))
    varied = {
        name: {
            head: Value(row["diversity"][key]) if is_number((row.get("diversity") or {}).get(key)) else None
            for key, head in DIVERSITY.items()
        }
        for name, row in systems.items()
    }
    tables.append(_table(f"Diversity ({SET_NOTE})", list(DIVERSITY.values()), varied))
    return [table for table in tables if table.columns]


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a number (JSON's `true` is none)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scores(row: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Value | None]:
    intervals = row.get("intervals") or {}
    return {
        name: Value(row[name], *((intervals[name]["low"], intervals[name]["high"]) if name in intervals else ()))
        if is_number(row.get(name))
        else None
        for name in metrics
    }


def _table(title: str, columns: Sequence[str], cells: Mapping[str, Mapping[str, Value | None]]) -> PaperTable:
    """A table of the columns in which any system has a value."""
    kept = tuple(column for column in columns if any(row.get(column) is not None for row in cells.values()))
    rows = {name: [row.get(column) for column in kept] for name, row in cells.items()}
    return PaperTable(title, kept, rows, frozenset({TEST_LOSS}), frozenset(DIVERSITY.values()))


def shown(value: float) -> str:
    """A number of a table: counts as they are, others with three digits behind the point."""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def format_tables(tables: Sequence[PaperTable], form: str) -> str:
    """Tables as text.

    Args:
        tables (`Sequence[PaperTable]`): Over the same systems.
        form (`str`): "latex" (booktabs), "markdown" or "csv" (one table, with a column each for the ends of intervals,
            `NAME_lower` and `NAME_upper`).

    Raises:
        ConfigurationError: There is no such form.
    """
    return FORMS[check_form(form)](tables)


def check_form(form: str) -> str:
    """`form`, if there is such a form of tables.

    Raises:
        ConfigurationError: There is none.
    """
    if form not in FORMS:
        raise ConfigurationError(f"There is no table format {form!r}; there are: {', '.join(FORMS)}.")
    return form


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", '"': r"\textquotedbl{}",
}  # fmt: skip


def escape_latex(text: str) -> str:
    """`text` as LaTeX prints it as it is."""
    return "".join(_LATEX.get(char, char) for char in " ".join(text.split()))


def _latex(tables: Sequence[PaperTable]) -> str:
    parts = [r"% needs \usepackage{booktabs}"]
    for table in tables:
        lines = [
            rf"% {' '.join(table.title.split())}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
        ]
        lines.append(" & ".join(["", *map(escape_latex, table.columns)]).strip() + r" \\")
        lines.append(r"\midrule")
        for name, row in table.rows.items():
            cells = [escape_latex(name)]
            for place, value in enumerate(row):
                cells.append(_cell(table, place, value, r"\textbf{{{}}}", r" {{\scriptsize [{}, {}]}}"))
            lines.append(" & ".join(cells) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join(parts)


def escape_markdown(text: str) -> str:
    """`text` as Markdown shows it as it is, inside a table too."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", " ".join(text.split()))


def _markdown(tables: Sequence[PaperTable]) -> str:
    parts = []
    for table in tables:
        lines = [["", *map(escape_markdown, table.columns)], ["---", *(["---:"] * len(table.columns))]]
        for name, row in table.rows.items():
            cells = [_cell(table, place, value, "**{}**", " [{}, {}]") for place, value in enumerate(row)]
            lines.append([escape_markdown(name), *cells])
        grid = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        parts.append(f"{escape_markdown(table.title)}\n\n{grid}")
    return "\n\n".join(parts)


def _cell(table: PaperTable, place: int, value: Value | None, bold: str, ends: str) -> str:
    if value is None:
        return ""
    best = table.best(place)
    text = shown(value.value)
    if best is not None and round(value.value, 3) == best:
        text = bold.format(text)
    return text if value.low is None else text + ends.format(shown(value.low), shown(value.high or 0.0))


def _csv(tables: Sequence[PaperTable]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    heads: list[str] = ["system"]
    intervals: list[list[bool]] = []
    for number, table in enumerate(tables):
        # A metric that stands in two tables has two names.
        earlier = {column for one in tables[:number] for column in one.columns}
        intervals.append([])
        for place, column in enumerate(table.columns):
            name = (f"single_{column}" if column in earlier else column).replace(" ", "_")
            held = [row[place] for row in table.rows.values()]
            intervals[-1].append(any(value is not None and value.low is not None for value in held))
            heads += [name, f"{name}_lower", f"{name}_upper"] if intervals[-1][-1] else [name]
    writer.writerow(heads)
    for system in tables[0].rows if tables else ():
        cells: list[Any] = [system]
        for table, with_ends in zip(tables, intervals, strict=True):
            for value, ends in zip(table.rows[system], with_ends, strict=True):
                numbers = (value.value, value.low, value.high) if value is not None else (None, None, None)
                cells += ["" if one is None else repr(one) for one in numbers[: 3 if ends else 1]]
        writer.writerow(cells)
    return file.getvalue().rstrip("\n")


FORMS: Mapping[str, Callable[[Sequence[PaperTable]], str]] = {"latex": _latex, "markdown": _markdown, "csv": _csv}
"""The forms in which a table can be printed."""


def missing_measures(systems: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """For each measure of diversity, and for the test loss, why which systems have none, in sentences.

    Args:
        systems (`Mapping[str, Mapping[str, Any]]`): System to its row of `coco_metrics.json`.
    """
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, row in systems.items():
        for measure, reason in ((row.get("diversity") or {}).get("unavailable") or {}).items():
            head = DIVERSITY.get(measure)
            if head is not None:
                reasons.setdefault((name, str(reason)), []).append(head)
        lost = (row.get("test_loss") or {}).get("unavailable")
        if lost:
            reasons.setdefault((name, str(lost)), []).append(TEST_LOSS)
    merged: dict[tuple[str, str], list[str]] = {}
    for (name, reason), measures in reasons.items():
        merged.setdefault((", ".join(measures), reason), []).append(name)
    return [
        f"{what} unavailable for {'all systems' if len(names) == len(systems) > 1 else ', '.join(names)}: {reason}."
        for (what, reason), names in merged.items()
    ]
