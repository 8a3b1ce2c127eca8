"""`blip-refine doctor`: check a set-up before money is spent on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .output import output


def doctor(
    model: Annotated[str, typer.Option(help="A folder, an id on the Hub, or 'starter'.")] = "starter",
    dataset: Annotated[str | None, typer.Option(help="What will be trained on, as in train.")] = None,
    data_dir: Annotated[str | None, typer.Option(help="Where the dataset's files are.")] = None,
    images: Annotated[int | None, typer.Option(help="Only the first so many images of each split.")] = None,
    config: Annotated[Path | None, typer.Option(help="The YAML file of settings that train will be given.")] = None,
    lora: Annotated[bool, typer.Option("--lora/--no-lora", help="Train a LoRA adapter.")] = False,
) -> None:
    """Look for the mistakes that spoil a training without an error message. Exit code 2 where there is one."""
    from ..models.captioner import load_captioner
    from ..training.doctor import Check, check_captioner, check_machine, check_splits, examine
    from .arguments_from import parse_training_arguments
    from .data_options import load_split
    from .libraries import quieten_libraries

    quieten_libraries()
    # All that `train` reads from such a file, so that one file serves both.
    names = ("output", "train_images", "eval_images", "dora", "quantization", "merge", "image_size", "attention")
    own: dict[str, Any] = {"model": None, "dataset": dataset, "data_dir": data_dir, "lora": None, "refiner": None}
    own |= dict.fromkeys(names)
    args, own = parse_training_arguments([], config, own)
    source, adapter = own["dataset"], lora or bool(own["lora"])
    parts = {}
    if source:
        for name in ("train", "validation", "test"):
            required = name == "train"
            parts[name] = load_split(source, name, data_dir=own["data_dir"], limit=images, required=required)

    def of_captioner():
        captioner, processor = load_captioner(
            own["model"] or model, lora=adapter, quantization=own["quantization"], image_size=own["image_size"]
        )
        yield from check_captioner(captioner, processor, args, parts.get("train"), adapter)

    found = examine([check_machine, of_captioner, lambda: check_splits(parts)])
    output.table(["check", "", "what was found"], [(check.name, check.status, check.message) for check in found])
    errors: list[Check] = [check for check in found if check.status == "error"]
    output.result({"checks": [vars(check) for check in found], "errors": len(errors)})
    if errors:
        raise typer.Exit(2)
    output.next_command(f"blip-refine train --model {own['model'] or model} --dataset {source or 'scenes:everyday'}")
