"""`blip-refine evaluate`: caption a held-out split, and score it with the COCO metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import output


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, an id on the Hub, or 'starter'.")],
    dataset: Annotated[str, typer.Option(help="flickr8k, coco, scenes:everyday, a folder, a file, a Hub id.")],
    data_dir: Annotated[str | None, typer.Option(help="Where the dataset's files are.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where results are written.")] = Path("evaluation"),
    images: Annotated[int | None, typer.Option(help="Only the first so many images. Default: all.")] = None,
    decoding: Annotated[str, typer.Option(help="accurate, fast, creative or candidates.")] = "accurate",
    num_beams: Annotated[int | None, typer.Option(help="Beams. Default: the preset's.")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Longest caption in tokens. Default: the preset's.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help='What captions begin with ("a picture of "). Default: nothing.')
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas. Default: those of COCO.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    allow_overlap: Annotated[bool, typer.Option(help="Score images that the model was trained on.")] = False,
) -> None:
    """Score a captioner on images that it was not trained on."""
    from ..data.fingerprint import training_fingerprint
    from ..data.leakage import ensure_no_overlap
    from ..evaluation.systems import CaptionedImage, evaluate_predictions, write_systems
    from ..models.decoding import DecodingOptions
    from ..pipeline import CaptionPipeline
    from .data_options import load_split
    from .libraries import quieten_libraries
    from .scores_table import print_scores

    quieten_libraries()

    changes = {"num_beams": num_beams, "max_new_tokens": max_new_tokens, "prompt": prompt}
    options = DecodingOptions.preset(decoding, **{name: value for name, value in changes.items() if value is not None})
    data = load_split(dataset, split, data_dir=data_dir, limit=images)
    assert data is not None
    trained_on = training_fingerprint(model)
    overlap = []
    if trained_on is not None:
        overlap = ensure_no_overlap(trained_on, data.records, allow_overlap=allow_overlap)
    else:
        output.note(f"{model} does not say what it was trained on: the check for training images is left out.")
    pipeline = CaptionPipeline.from_pretrained(model, decoding=options, batch_size=batch_size)
    found = []
    with output.progress("Captioning", total=len(data)) as advance:
        for record, caption in zip(data.records, pipeline.stream(data.records), strict=True):
            if caption.error is None:
                found.append(CaptionedImage(record, caption.text, caption.confidence))
            else:
                output.warning(f"{record.image_id}: {caption.error}")
            advance()
    names = [name.strip() for name in metrics.split(",")] if metrics else None
    evaluation = evaluate_predictions(found, metrics=names, contaminated=bool(overlap))
    systems = {"model": evaluation}
    write_systems(folder, systems)
    print_scores(systems)
    output.line(f"Scores: {folder / 'coco_metrics.json'}")
    output.line(f"Captions: {folder / 'predictions.jsonl'}")
    output.next_command(f"blip-refine report {folder}")
    output.result({"folder": str(folder), **evaluation.row})
