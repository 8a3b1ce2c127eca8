"""`blip-refine score`: score predictions against references, from files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .metric_options import SpiceImages, split_metrics
from .output import output

if TYPE_CHECKING:
    from ..metrics import CaptionScores


def score(
    predictions: Annotated[
        Path, typer.Argument(help="JSON Lines of image_id and caption, or a COCO results file (.json).")
    ],
    references: Annotated[
        Path, typer.Argument(help="JSON Lines of image_id and captions, or a COCO annotation file (.json).")
    ],
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas; those of COCO by default.")] = None,
    result_file: Annotated[Path | None, typer.Option("--output", "-o", help="Write the scores as JSON.")] = None,
    per_image: Annotated[bool, typer.Option("--per-image", help="Write the score of each image, too.")] = False,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for 95 % intervals; 0 for none.")] = 0,
    seed: Annotated[int, typer.Option(help="What is drawn is drawn with this.")] = 0,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Score empty captions as they are.")] = False,
    subset: Annotated[
        bool, typer.Option("--subset", help="Score the predicted images only, of references of more images.")
    ] = False,
    document_frequencies: Annotated[
        Path | None, typer.Option(help="How rare phrases are, for CIDEr, from a larger set; see --save-frequencies.")
    ] = None,
    save_frequencies: Annotated[
        Path | None, typer.Option(help="Count the phrases of these references and write them to this file.")
    ] = None,
    spice_images: SpiceImages = None,
    objects: Annotated[
        Path | None,
        typer.Option(help="What is truly in the pictures: JSON Lines with objects, or COCO's instances_*.json."),
    ] = None,
) -> None:
    """Score captions: BLEU, METEOR, ROUGE-L, CIDEr, SPICE and more."""
    from ..jsonlines import write_json
    from ..metrics import DocumentFrequencies, PreparedReferences, caption_diversity, score_captions
    from ..metrics.coco_format import read_predictions, read_references
    from ..metrics.matching import match_file_names

    names = split_metrics(metrics, spice_images)
    truth = read_references(references)
    captions = match_file_names(read_predictions(predictions), truth)
    if subset:
        # Where none is shared, scoring says so with examples of both.
        shared = {image_id: truth[image_id] for image_id in captions if image_id in truth}
        truth = shared or truth
    if save_frequencies:
        DocumentFrequencies.from_references(truth).save(save_frequencies)
        output.note(f"Document frequencies of {len(truth)} images: {save_frequencies}")
    frozen = DocumentFrequencies.load(document_frequencies) if document_frequencies else None
    scores = score_captions(
        captions,
        PreparedReferences(truth, frozen),
        names,
        allow_empty=allow_empty,
        bootstrap=bootstrap,
        seed=seed,
        spice_images=spice_images,
    )
    diversity = caption_diversity(captions).to_dict()
    result: dict[str, Any] = {**scores.to_dict(), "images": len(captions), "diversity": diversity}
    if objects:
        result["hallucination"] = _hallucination(objects, captions)
    _print(scores, len(captions), result)
    if result_file:
        write_json(result_file, {**result, "per_image": scores.per_image} if per_image else result)
        output.line(f"Scores: {result_file}")
    output.result({**result, "per_image": scores.per_image} if per_image else result)


def _hallucination(path: Path, captions: dict[str, str]) -> dict[str, Any]:
    from ..metrics import object_hallucination
    from ..metrics.objects import read_objects

    truth, vocabulary = read_objects(path)
    return object_hallucination(captions, truth, vocabulary).to_dict()


def _print(scores: CaptionScores, images: int, result: dict[str, Any]) -> None:
    columns, rows = ["", "score"], [[name, f"{value:.4f}"] for name, value in scores.corpus.items()]
    if scores.intervals:
        columns.append("95 % interval")
        for row in rows:
            interval = scores.intervals.get(row[0])
            row.append(f"{interval.low:.4f} to {interval.high:.4f}" if interval else "")
    if rows:
        output.table(columns, rows, title=f"{images} images")
    for group in ("diversity", "hallucination"):
        if group in result:
            shown = [[name, f"{value:.4f}"] for name, value in result[group].items() if isinstance(value, float)]
            output.table([group, ""], shown)
    output.line(f"Signature: {scores.signature}")
    for name, reason in scores.unavailable.items():
        output.warning(f"{name} was not computed. {reason}")
    for warning in scores.warnings:
        output.warning(warning)
