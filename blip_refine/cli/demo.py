"""`blip-refine demo`: the whole path on drawn scenes, with what it does said as it goes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from .output import output
from .scores_table import print_scores


def demo(
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where the run is written.")] = Path("run"),
    epochs: Annotated[float, typer.Option(min=0.1, help="Passes over the training scenes.")] = 6,
    images: Annotated[int | None, typer.Option(min=2, help="Training scenes, for a shorter run.")] = None,
    seed: Annotated[int, typer.Option(help="Of the scenes and of training.")] = 0,
) -> None:
    """See it all work: fine-tune a small BLIP on drawn pictures, before and after, in three minutes on a CPU."""
    began = time.monotonic()
    output.note(
        "A small BLIP that knows everyday scenes meets a world that it has never seen: robots, rockets and snails\n"
        "in deserts and on the moon, described as in a catalogue. No network, no GPU."
    )
    from ..demo import run_demo
    from .libraries import quieten_libraries

    quieten_libraries()
    run = run_demo(folder, epochs=epochs, images=images, seed=seed, narrator=output)
    output.line()
    print_scores(run.systems, with_measures=False)  # a first look is short; the report has them
    if run.headline:
        output.line(run.headline)
    output.line(f"Model:   {run.folder}   (loads in stock transformers)")
    output.line(f"Scores:  {run.folder / 'coco_metrics.json'}")
    output.line(f"Card:    {run.card}")
    output.line(f"Report:  {run.report}   (open it in a browser)")
    output.line(f"Took {time.monotonic() - began:.0f} s.")
    some_picture = next(iter(sorted((run.folder / "images").iterdir())))
    output.next_command(f"blip-refine caption {some_picture} --model {run.folder}")
    output.result({"folder": str(run.folder), "systems": {name: one.row for name, one in run.systems.items()}})
