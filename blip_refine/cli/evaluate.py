"""`blip-refine evaluate`: caption a held-out split, and score it with the COCO metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .decoding_options import (
    LengthPenalty,
    Loss,
    MaxNewTokens,
    MinNewTokens,
    NoRepeatNgramSize,
    NumBeams,
    NumReturnSequences,
    Preset,
    Prompt,
    RepetitionPenalty,
    SamplingSeed,
    Temperature,
    TopK,
    TopP,
    check_decoding,
    decoding_changes,
    naming_flags,
)
from .output import output

if TYPE_CHECKING:
    from ..models.decoding import DecodingOptions


def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, an id on the Hub, or 'starter'.")],
    dataset: Annotated[str, typer.Option(help="flickr8k, coco, scenes:everyday, a folder, a file, a Hub id.")],
    data_dir: Annotated[str | None, typer.Option(help="Where the dataset's files are.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    folder: Annotated[Path, typer.Option("--output", "-o", help="Where results are written.")] = Path("evaluation"),
    images: Annotated[int | None, typer.Option(help="Only the first so many images. Default: all.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Prompt, decoding and image size of a published recipe: original-blip.")
    ] = None,
    decoding: Preset = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    min_new_tokens: MinNewTokens = None,
    length_penalty: LengthPenalty = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    num_return_sequences: NumReturnSequences = None,
    seed: SamplingSeed = None,
    prompt: Prompt = None,
    prompt_template: Annotated[
        str | None, typer.Option(help='A prompt per image, from its columns ("a photo of {name}, ").')
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the pictures in pixels. Default: the model's.")
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas. Default: those of COCO.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 8,
    loss: Loss = True,
    allow_overlap: Annotated[bool, typer.Option(help="Score images that the model was trained on.")] = False,
) -> None:
    """Score a captioner on images that it was not trained on, with the prompt and decoding that are saved with it."""
    changes = decoding_changes(locals())
    from ..caption_prompts import PromptTemplate, check_template, for_scoring
    from ..data.fingerprint import training_fingerprint
    from ..data.leakage import ensure_no_overlap
    from ..errors import ConfigurationError
    from ..evaluation.caption_set import reference_loss
    from ..evaluation.systems import CaptionedImage, evaluate_predictions, write_systems
    from ..pipeline import CaptionPipeline
    from ..training.arguments import recipe_decoding
    from .data_options import load_split
    from .libraries import quieten_libraries
    from .scores_table import print_scores

    quieten_libraries()

    options: DecodingOptions | str | None = decoding
    if recipe is not None:
        if decoding is not None:
            raise ConfigurationError("--recipe and --decoding both say how to decode: give one of them.")
        of_recipe = recipe_decoding(recipe)
        options, image_size = of_recipe.options(), image_size or of_recipe.image_size
    check_decoding(model, options, changes)
    template = None if prompt_template is None else PromptTemplate(prompt_template)
    data = load_split(dataset, split, data_dir=data_dir, limit=images)
    assert data is not None
    if template is not None:
        check_template(template, data.records)
    trained_on = training_fingerprint(model)
    overlap = []
    if trained_on is not None:
        overlap = ensure_no_overlap(trained_on, data.records, allow_overlap=allow_overlap)
    else:
        output.note(f"{model} does not say what it was trained on: the check for training images is left out.")
    changes.pop("prompt", None)  # as an argument of its own it leaves out a saved template, too
    with naming_flags():
        pipeline = CaptionPipeline.from_pretrained(
            model,
            decoding=options,
            changes=changes,
            prompt=prompt,
            prompt_template=prompt_template,
            image_size=image_size,
            batch_size=batch_size,
        )
    found = []
    with output.progress("Captioning", total=len(data)) as advance:
        for record, caption in zip(data.records, pipeline.stream(data.records), strict=True):
            if caption.error is None:
                scored = for_scoring(caption)
                found.append(CaptionedImage(record, scored.text, scored.confidence, scored.candidates))
            else:
                output.warning(f"{record.image_id}: {caption.error}")
            advance()
    names = [name.strip() for name in metrics.split(",")] if metrics else None
    evaluation = evaluate_predictions(found, metrics=names, contaminated=bool(overlap))
    if loss:
        output.note("Test loss ...")
        evaluation = replace(evaluation, test_loss=reference_loss(pipeline, data.records))
    systems = {"model": evaluation}
    write_systems(folder, systems)
    print_scores(systems)
    output.line(f"Scores: {folder / 'coco_metrics.json'}")
    output.line(f"Captions: {folder / 'predictions.jsonl'}")
    output.next_command(f"blip-refine report {folder}")
    output.result({"folder": str(folder), **evaluation.row})
