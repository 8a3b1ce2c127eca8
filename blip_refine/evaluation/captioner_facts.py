"""How captions of a system were made, as a row of a table: for the command line and the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CAPTIONER_COLUMNS = ("", "captioner", "prompt", "seconds", "tokens", "$ for 1000")


def captioner_row(name: str, facts: Mapping[str, Any]) -> list[str]:
    """The cells of [`CAPTIONER_COLUMNS`]; empty if a fact is not known.

    Args:
        name (`str`): The system.
        facts (`Mapping[str, Any]`): As `coco_metrics.json` has them under `captioner` ([`PipelineSystem.facts`]). The
            file may be a stranger's: whatever is no text or number is left out.
    """
    model = str(facts.get("model", ""))
    if isinstance(facts.get("revision"), str):
        model += f" @ {facts['revision'][:12]}"
    if isinstance(facts.get("server"), str):
        model += f" at {facts['server']}"
    prompt = facts.get("prompt")
    return [
        name,
        model,
        prompt if isinstance(prompt, str) else "",
        _number(facts.get("seconds"), "{:.3f}"),
        _number(facts.get("tokens"), "{:.1f}"),
        _number(facts.get("cost"), "{:.2f}", 1000),
    ]


def _number(value: Any, form: str, times: int = 1) -> str:
    return form.format(times * value) if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
