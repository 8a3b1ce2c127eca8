"""`blip-refine caption`: photos in, captions out, one JSON line each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def caption(
    paths: Annotated[list[Path], typer.Argument(help="Images.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the captions go.")] = None,
    model: Annotated[str, typer.Option(help="A folder, a model id of the Hub, or 'starter'.")] = "starter",
    decoding: Annotated[str, typer.Option(help="accurate, fast, creative or candidates.")] = "accurate",
    refiner: Annotated[str | None, typer.Option(help="Such as rules, or rules>consensus.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
) -> None:
    """Caption images."""
    from ..jsonlines import write_jsonl
    from ..pipeline import CaptionPipeline
    from .output import output as sink

    pipeline = CaptionPipeline.from_pretrained(model, decoding=decoding, refiner=refiner, batch_size=batch_size)
    captions = pipeline.stream(paths)
    if output is not None:
        count = write_jsonl(output, (one.to_dict() for one in captions))
        sink.line(f"{count} captions in {output}")
        return
    rows = [one.to_dict() for one in captions]
    for row in rows:
        sink.line(f"{row['image_id']}\t{row['error'] or row['caption']}")
    sink.result({"captions": rows})
