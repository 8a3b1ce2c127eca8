"""What is printed has the words of others in it, and says them as they are."""

from __future__ import annotations

import pytest

from blip_refine.cli import output as module
from blip_refine.cli.output import Output


@pytest.mark.parametrize("text", ["openai:m:", "a :dog: runs", "[bold]", "[/x]", "a[0] [red]b[/red]"])
def test_text_is_neither_markup_nor_emoji(capsys, monkeypatch, text):
    sink = Output()
    sink.note(f"note {text}")
    sink.heading(f"heading {text}")
    sink.warning(f"warned {text}")
    sink.line(f"line {text}")
    sink.table(["", f"column {text}"], [["", f"cell {text}"]], title=f"title {text}")
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True)
    with sink.progress(f"progress {text}", total=1):
        pass
    printed = capsys.readouterr()
    for part, where in (
        ("note", printed.err), ("heading", printed.err), ("warned", printed.err), ("progress", printed.err),
        ("line", printed.out), ("column", printed.out), ("cell", printed.out), ("title", printed.out),
    ):  # fmt: skip
        assert f"{part} {text}" in where
