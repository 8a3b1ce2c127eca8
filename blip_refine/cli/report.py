"""`blip-refine report`: one page about a run, from its result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import output


def report(
    run: Annotated[Path, typer.Argument(help="The folder that train, evaluate or demo wrote.")],
    pictures: Annotated[int, typer.Option(min=0, help="At most so many pictures in the gallery.")] = 200,
    plots: Annotated[bool, typer.Option(help="Write the PNG plots too.")] = True,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write RUN/report/index.html, one page that needs no network, and PNG plots."""
    from ..report.report import write_report

    page = write_report(run, max_pictures=pictures, plots=plots)
    files = sorted(path.name for path in page.parent.glob("*.png"))
    output.line(f"Report: {page}")
    if files:
        output.line(f"Plots: {', '.join(files)}")
    output.result({"report": str(page), "plots": [str(page.parent / name) for name in files]})
    if open_page:
        typer.launch(page.resolve().as_uri())
