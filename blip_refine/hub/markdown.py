"""Text from data made harmless inside a Markdown page that the Hub renders as HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_SPECIAL = re.compile(r"[\\`*_{}\[\]()#+\-.!|~$&<>@]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "@": "&#64;"}
_ONLY_AT_START = ".-+()#!"
"""Markup at the start of a line alone; inside a caption these read better bare."""
_LINKS = re.compile(r"(?i)\b(https?|ftp|mailto|www)([:.])")
_BREAKS = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def escape(text: Any) -> str:
    """`text` as one line that Markdown and HTML show as it is: no markup, no tag, no link, no table cell breaks out.

    Args:
        text (`Any`): What came from data or from a model; `str()` of it is shown.
    """
    line = _BREAKS.sub(" ", str(text)).strip()

    def harmless(match: re.Match[str]) -> str:
        if match[0] in _ENTITIES:
            return _ENTITIES[match[0]]
        return match[0] if match[0] in _ONLY_AT_START and match.start() else f"\\{match[0]}"

    # An address must not become a link by itself.
    return _LINKS.sub(lambda match: f"{match[1]}&#{ord(match[2])};", _SPECIAL.sub(harmless, line))


def code(text: Any) -> str:
    """`text` as a code span, whatever backticks it holds."""
    line = _BREAKS.sub(" ", str(text)).strip()
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def table(columns: list[str], rows: list[list[str]], right: int = 1) -> str:
    """A Markdown table of cells that are Markdown already.

    Args:
        columns (`list[str]`): The head.
        rows (`list[list[str]]`): The cells.
        right (`int`, defaults to 1): From which column on cells are right-aligned.
    """
    rule = ["---:" if number >= right else "---" for number in range(len(columns))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rule, *rows])


def facts_table(facts: Mapping[str, Any]) -> str:
    """Names and values, as a table of two columns; what is no text or number stands there as JSON."""
    rows = []
    for name, value in facts.items():
        plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
        # Inside of a table even a code span ends at a bare pipe.
        shown = (
            escape(value) if plain else code(json.dumps(value, ensure_ascii=False, default=str)).replace("|", "\\|")
        )
        rows.append([escape(name), shown])
    return table(["", ""], rows, right=2)
