"""`blip-refine evaluate`: caption a held-out split, and score it with the COCO metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .data_options import (
    CaptionColumn,
    DataDir,
    DownloadDir,
    IdColumn,
    ImageColumn,
    ImageDir,
    Option,
    PromptColumn,
    Ratios,
    SplitColumn,
    SplitLists,
)
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
from .metric_options import SpiceImages, split_metrics
from .output import output

if TYPE_CHECKING:
    from ..models.decoding import DecodingOptions
    from ..records import CaptionRecord


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A run folder, an id on the Hub, or 'starter'.")],
    dataset: Annotated[str, typer.Option(help="flickr8k, coco, scenes:everyday, a folder, a file, a Hub id.")],
    data_dir: DataDir = None,
    image_dir: ImageDir = None,
    download_dir: DownloadDir = None,
    split_lists: SplitLists = None,
    image_column: ImageColumn = None,
    caption_column: CaptionColumn = None,
    id_column: IdColumn = None,
    split_column: SplitColumn = None,
    prompt_column: PromptColumn = None,
    ratios: Ratios = None,
    option: Option = None,
    split: Annotated[
        str | None, typer.Option(help="train, validation or test. Default: test or, if there is none, validation.")
    ] = None,
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
    spice_images: SpiceImages = None,
    submission: Annotated[
        Path | None,
        typer.Option(help="Write the captions for the evaluation server of COCO or nocaps to this .json file, too."),
    ] = None,
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
    from ..metrics.submission import write_submission
    from ..models.other_names import refuse_other_captioner
    from ..pipeline import CaptionPipeline
    from ..training.arguments import recipe_decoding
    from .data_options import source_options, tell_split
    from .libraries import quieten_libraries
    from .scores_table import print_scores

    refuse_other_captioner(model)
    names = split_metrics(metrics, spice_images)
    quieten_libraries()

    options: DecodingOptions | str | None = decoding
    if recipe is not None:
        if decoding is not None:
            raise ConfigurationError("--recipe and --decoding both say how to decode: give one of them.")
        of_recipe = recipe_decoding(recipe)
        options, image_size = of_recipe.options(), image_size or of_recipe.image_size
    check_decoding(model, options, changes)
    template = None if prompt_template is None else PromptTemplate(prompt_template)
    data = source_options(context).load(dataset, split, images)
    scored = tell_split(dataset, data, split)
    if template is not None:
        check_template(template, data.records)
    numbers = _submission_ids(submission, dataset, data.records)
    unscored = not any(record.captions for record in data.records)
    if unscored and (submission is None or names is not None or spice_images is not None):
        raise ConfigurationError(
            f"The {data.records[0].split or ''} images of {dataset} have no captions to score against. --submission "
            "FILE.json alone writes what the evaluation server scores."
        )
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
                bare = for_scoring(caption)
                found.append(CaptionedImage(record, bare.text, bare.confidence, bare.candidates))
            else:
                output.warning(f"{record.image_id}: {caption.error}")
            advance()
    if submission is not None:
        write_submission(submission, numbers, {image.record.image_id: image.caption for image in found})
        output.line(f"Submission: {submission} ({len(numbers)} images)")
    if unscored:
        output.result({"submission": str(submission), "images": len(numbers)})
        return
    evaluation = evaluate_predictions(found, metrics=names, contaminated=bool(overlap), spice_images=spice_images)
    if loss:
        output.note("Test loss ...")
        evaluation = replace(evaluation, test_loss=reference_loss(pipeline, data.records))
    systems = {"model": evaluation}
    write_systems(folder, systems)
    print_scores(systems, scored)
    output.line(f"Scores: {folder / 'coco_metrics.json'}")
    output.line(f"Captions: {folder / 'predictions.jsonl'}")
    output.next_command(f"blip-refine report {folder}")
    output.result({"folder": str(folder), "split": scored, **evaluation.row})


def _submission_ids(path: Path | None, dataset: str, records: Sequence[CaptionRecord]) -> dict[str, int]:
    """The numbers under which an evaluation server knows the images; empty without a submission."""
    from ..metrics.submission import submission_ids

    if path is None:
        return {}
    return submission_ids(path, [record.image_id for record in records], dataset)
