"""Where all commands print: for a person by default, as JSON with `--json`.

What a command *reports* goes to standard output; progress and notes go to standard error, so that a pipe carries
results alone. Rich is imported when the first thing is printed, which keeps `blip-refine --help` fast.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class Output:
    """The one place that prints.

    Args:
        json_mode (`bool`, defaults to `False`): Print one JSON object at the end and nothing else on standard output.
        quiet (`bool`, defaults to `False`): No notes and no progress bars.
    """

    def __init__(self, json_mode: bool = False, quiet: bool = False):
        self.json_mode, self.quiet = json_mode, quiet
        self._consoles: dict[bool, Any] = {}

    def _console(self, stderr: bool) -> Any:
        if stderr not in self._consoles:
            from rich.console import Console

            # No width guessing in a pipe: a path broken over two lines cannot be copied.
            width = None if (sys.stderr if stderr else sys.stdout).isatty() else 160
            # What is printed has captions, names and paths in it: none of it is markup, and ":m:" is no emoji.
            self._consoles[stderr] = Console(
                stderr=stderr, width=width, soft_wrap=True, markup=False, emoji=False, highlight=False
            )
        return self._consoles[stderr]

    def note(self, text: str = "") -> None:
        """Say what is being done. `text` is printed as it is: no markup is read from it."""
        if not self.quiet:
            self._console(stderr=True).print(text)

    def heading(self, text: str) -> None:
        """Begin a part of what a command does."""
        if not self.quiet:
            self._console(stderr=True).print(f"\n{text}", style="bold")

    def warning(self, text: str) -> None:
        """Say what the user should know and the command went on in spite of."""
        self._console(stderr=True).print(f"Warning: {text}", style="yellow")

    def line(self, text: str = "") -> None:
        """One line of the result itself."""
        if not self.json_mode:
            self._console(stderr=False).print(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
        """A table as part of the result. The first column is text, the others are right-aligned."""
        if self.json_mode:
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index == 0 else "right")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self._console(stderr=False).print(table)

    def result(self, value: Mapping[str, Any]) -> None:
        """What the command found, for `--json`. Does nothing for a person, who has read it already."""
        if self.json_mode:
            sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")

    def next_command(self, command: str) -> None:
        """What to type next, under the name by which this program can be called from here."""
        name, _, rest = command.partition(" ")
        if shutil.which(name) is None:
            name = f"{sys.executable} -m blip_refine" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
        self.line(f"Next: {name} {rest}")

    @contextmanager
    def progress(self, description: str, total: int | None = None, *, in_bytes: bool = False):
        """A progress bar on standard error, which may count bytes. Yields `advance(n=1)`."""
        if self.quiet or not sys.stderr.isatty():
            if not self.quiet:
                self.note(f"{description} ...")
            yield lambda n=1: None
            return
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.text import Text

        class RateColumn(ProgressColumn):
            """How many a second."""

            def render(self, task) -> Text:
                speed = task.finished_speed or task.speed
                return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn(),
            TransferSpeedColumn() if in_bytes else RateColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console(stderr=True)) as bar:
            task = bar.add_task(description, total=total)
            yield lambda n=1: bar.advance(task, n)


output = Output()
"""The sink of this process. `main` sets its mode from `--json` and `--quiet` before a command runs."""
