"""`blip-refine train`: fine-tune a captioner on your images, and measure what it gained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    TRAINING_FLAGS,
    LengthPenalty,
    MaxNewTokens,
    MinNewTokens,
    NoRepeatNgramSize,
    NumBeams,
    Prompt,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from .metric_options import SpiceImages, split_metrics
from .output import output
from .refine_options import (
    ApiKeyEnv,
    BaseUrl,
    Grounding,
    GuardNames,
    Instruction,
    Matching,
    MaxOutputTokens,
    Prices,
    ReasoningEffort,
    RefinerName,
    RefinerTemperature,
    SendImage,
    make_refiner,
    refiner_options,
    share_flags,
)

CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def train(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="A folder, a Hub id, or 'starter', which is the default.")] = None,
    dataset: Annotated[
        str | None,
        typer.Option(help="Required: flickr8k, coco, scenes:everyday, a folder, a csv or jsonl file, or a Hub id."),
    ] = None,
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
    folder: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the run is written. Default: captioner.")
    ] = None,
    train_images: Annotated[
        int | None, typer.Option(help="Only the first so many training images. Default: all.")
    ] = None,
    eval_images: Annotated[
        int | None, typer.Option(help="Only so many validation and test images. Default: all.")
    ] = None,
    lora: Annotated[bool | None, typer.Option("--lora/--no-lora", help="Train a LoRA adapter.")] = None,
    dora: Annotated[bool | None, typer.Option("--dora/--no-dora", help="Train a DoRA adapter.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="8bit or 4bit weights under an adapter (QLoRA). Default: none.")
    ] = None,
    merge: Annotated[bool | None, typer.Option("--merge/--no-merge", help="Write merged weights too.")] = None,
    recipe: Annotated[str | None, typer.Option(help="Published settings to start from: original-blip.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the pictures in pixels; positions are interpolated. Default: the model's."),
    ] = None,
    refiner: RefinerName = None,
    instruction: Instruction = None,
    max_output_tokens: MaxOutputTokens = None,
    refiner_temperature: RefinerTemperature = None,
    reasoning_effort: ReasoningEffort = None,
    send_image: SendImage = False,
    guards: GuardNames = None,
    grounding: Grounding = None,
    matching: Matching = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prices: Prices = None,
    decoding: Annotated[
        str | None,
        typer.Option(
            help="accurate (the default), fast or creative: how captions are made, and saved with the model."
        ),
    ] = None,
    num_beams: NumBeams = None,
    max_new_tokens: MaxNewTokens = None,
    min_new_tokens: MinNewTokens = None,
    length_penalty: LengthPenalty = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram_size: NoRepeatNgramSize = None,
    top_k: TopK = None,
    top_p: TopP = None,
    temperature: Temperature = None,
    prompt: Prompt = None,
    metrics: Annotated[str | None, typer.Option(help="Names, separated by commas. Default: those of COCO.")] = None,
    spice_images: SpiceImages = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of settings; flags win over it.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last whole checkpoint in the output folder.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Remove an earlier run's weights and checkpoints first.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    help_all: Annotated[bool, typer.Option("--help-all", help="Every training argument, and stop.")] = False,
) -> None:
    """Fine-tune a captioner: --model, --dataset, --output, and any training argument (--learning-rate 1e-5 ...).

    --help-all lists all training arguments with their defaults.
    """
    given = locals()
    from ..data.source_options import OPTION_NAMES
    from ..refine.options import RUN_OPTIONS
    from .arguments_from import describe_fields, parse_training_arguments

    # What was not given may stand in the file.
    refiner_flags = {name: given[name] or None for name in RUN_OPTIONS}
    if help_all:
        output.table(["flag", "default", "what it is"], describe_fields())
        return
    own = {
        "model": model,
        "dataset": dataset,
        **{name: context.params[name] for name in OPTION_NAMES},
        "output": None if folder is None else str(folder),
        "train_images": train_images,
        "eval_images": eval_images,
        "lora": lora,
        "dora": dora,
        "quantization": quantization,
        "merge": merge,
        "recipe": recipe,
        "decoding": decoding,
        "image_size": image_size,
        "refiner": refiner,
        "metrics": metrics,
        **refiner_flags,
        "spice_images": spice_images,
    }
    decided = [f"--{name}={given[name]}" for name in TRAINING_FLAGS if given[name] is not None]
    args, own = parse_training_arguments([*context.args, *decided], config, own)
    from ..errors import ConfigurationError
    from ..models.other_names import refuse_other_captioner

    if not own["dataset"]:
        raise ConfigurationError("What shall it be trained on? For example: --dataset flickr8k --data-dir photos/")
    refuse_other_captioner(str(own["model"] or ""))
    if own["output"]:
        args.output_dir = own["output"]
    args.disable_tqdm = True
    if resume and overwrite:
        raise ConfigurationError("--resume goes on from what --overwrite removes: give one of them.")
    _run(context, args, own, resume, overwrite, dry_run)


def _run(context, args, own: dict, resume: bool, overwrite: bool, dry_run: bool) -> None:
    from ..errors import ConfigurationError
    from ..finetune import evaluation_note, finetune, plan_finetuning, scored_split
    from ..models.captioner import STARTER
    from ..training.checkpoints import find_earlier_run, remove_earlier_run
    from .data_options import describe_prompts, describe_split, source_options
    from .libraries import quieten_libraries
    from .scores_table import print_scores

    options = refiner_options(own)
    share_flags([own["refiner"]], options)
    names = split_metrics(own["metrics"], own["spice_images"])
    earlier = None if resume or dry_run else find_earlier_run(args.output_dir)
    if earlier and not overwrite:
        raise ConfigurationError(
            f"{args.output_dir} holds an earlier run ({earlier}). --resume goes on from its last checkpoint, "
            "--overwrite removes it, and another --output keeps it."
        )
    quieten_libraries()
    source = own["dataset"]
    parts = source_options(context, own).load_parts(source, own["train_images"], own["eval_images"])
    train_set = parts["train"]
    assert train_set is not None  # required above
    output.heading("Plan")
    output.note(f"  model       {own['model'] or STARTER}")
    if own["model"] is None and not source.startswith("scenes:"):
        output.note(
            "              (it has seen drawings alone: photos want --model Salesforce/blip-image-captioning-base)"
        )
    output.note(f"  dataset     {source}")
    for name, part in parts.items():
        output.note(describe_split(name, part))
    if prompts := describe_prompts(train_set.records):
        output.note(prompts)
    output.note(f"  output      {args.output_dir}")
    adapter = "dora" if own["dora"] else bool(own["lora"])
    if dry_run:
        loading = {name: own[name] for name in ("quantization", "image_size")}
        plan = plan_finetuning(
            own["model"] or STARTER,
            args,
            train_set,
            parts["validation"],
            lora=adapter,
            **loading,
        )
        for line in plan:
            output.note(line)
        if note := evaluation_note(parts["validation"], parts["test"], args):
            output.warning(f"There is no test split: the model is {note}.")
        sizes = {name: 0 if part is None else len(part) for name, part in parts.items()}
        output.result({"plan": sizes, "scored": scored_split(parts["validation"], parts["test"]), "details": plan})
        return
    fixer = make_refiner(own["refiner"], options)
    if earlier:
        remove_earlier_run(args.output_dir)
    run = finetune(
        own["model"] or STARTER,
        args,
        train_set,
        parts["validation"],
        parts["test"],
        dataset=source,
        lora=adapter,
        quantization=own["quantization"],
        merge=bool(own["merge"]),
        tell_plan=True,
        image_size=own["image_size"],
        refiner=fixer,
        metrics=names,
        spice_images=own["spice_images"],
        resume_from_checkpoint=True if resume else None,
        narrator=output,
    )
    output.line()
    if run.systems:
        print_scores(run.systems, run.evaluation_split)
    if run.headline:
        output.line(run.headline)
    output.line(f"Model: {run.folder}")
    output.line(f"Card: {run.card}")
    output.line(f"Report: {run.report}")
    output.next_command(f"blip-refine caption PHOTOS --model {run.folder} --output captions.jsonl")
    output.result({"folder": str(run.folder), "systems": {name: one.row for name, one in run.systems.items()}})
