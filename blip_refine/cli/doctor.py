"""`blip-refine doctor`: check a set-up before money is spent on it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from .output import output

if TYPE_CHECKING:
    from ..data.dataset import BlipCaptionDataset

CONTEXT_SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


def doctor(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="A folder, a Hub id, or 'starter', which is the default.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="What will be trained on, as in train. Default: no data is looked at.")
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
    images: Annotated[
        int | None, typer.Option(help="Only the first so many images of each split. Default: all.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file of settings that train will be given.")] = None,
    lora: Annotated[bool | None, typer.Option("--lora/--no-lora", help="Train a LoRA adapter.")] = None,
    dora: Annotated[bool | None, typer.Option("--dora/--no-dora", help="Train a DoRA adapter.")] = None,
    quantization: Annotated[
        str | None, typer.Option(help="8bit or 4bit weights under an adapter (QLoRA). Default: none.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Published settings to start from: original-blip.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(help="Side of the pictures in pixels; positions are interpolated. Default: the model's."),
    ] = None,
) -> None:
    """Look for the mistakes that spoil a training without an error message. Exit code 2 where there is one.

    Takes what train takes: --config, and any training argument (--freeze-vision, --prompt "a picture of ").
    """
    from ..data.source_options import OPTION_NAMES
    from ..models.captioner import STARTER, load_captioner
    from ..training.device_check import check_devices
    from ..training.doctor import Check, check_captioner, check_machine, check_splits, examine
    from .arguments_from import parse_training_arguments
    from .data_options import refuse_flags, source_options
    from .libraries import quieten_libraries

    quieten_libraries()
    own: dict[str, Any] = {
        "model": model,
        "dataset": dataset,
        **{name: context.params[name] for name in OPTION_NAMES},
        "lora": lora,
        "dora": dora,
        "quantization": quantization,
        "recipe": recipe,
        "image_size": image_size,
    }
    # The rest of what `train` reads from such a file, so that one file serves both.
    own |= dict.fromkeys(("output", "train_images", "eval_images", "merge", "refiner", "metrics"))
    args, own = parse_training_arguments(context.args, config, own)
    source, adapter = own["dataset"], "dora" if own["dora"] else bool(own["lora"])
    parts: dict[str, BlipCaptionDataset | None] = {}
    told = source_options(context, own)
    if source:
        limits = [own[limit] if images is None else images for limit in ("train_images", "eval_images")]
        parts = told.load_parts(source, *limits)
    else:
        refuse_flags(context, (*OPTION_NAMES, "images"), "Without --dataset no data is looked at.")

    def of_captioner():
        captioner, processor = load_captioner(
            own["model"] or STARTER,
            lora=adapter,
            quantization=own["quantization"],
            image_size=own["image_size"],
        )
        yield from check_captioner(captioner, processor, args, parts.get("train"), bool(adapter))
        yield from check_devices(captioner, processor)

    found = examine([check_machine, of_captioner, lambda: check_splits(parts)])
    for check in found:
        output.line(f"{check.status:<8} {check.name:<24} {check.message}")
    errors: list[Check] = [check for check in found if check.status == "error"]
    output.result({"checks": [vars(check) for check in found], "errors": len(errors)})
    if errors:
        output.line(f"{len(errors)} of {len(found)} checks failed.")
        raise typer.Exit(2)
    same: dict[str, object] = {
        "--config": config,
        "--quantization": quantization,
        "--recipe": recipe,
    }
    same["--image-size"] = image_size
    options = [part for flag, value in same.items() if value is not None for part in (flag, str(value))]
    options += source_options(context).flags
    options += [flag for flag, value in {"--lora": lora, "--dora": dora}.items() if value]
    command = ["--model", own["model"] or STARTER, "--dataset", source or "scenes:everyday", *options, *context.args]
    output.next_command(f"blip-refine train {shlex.join([*command, '--output', 'run'])}")
