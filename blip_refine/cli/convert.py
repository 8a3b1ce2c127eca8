"""`blip-refine convert`: turn an original `.pth` checkpoint into a folder that everything else loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .output import output


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth file of salesforce/BLIP or LAVIS.")],
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the converted model.")],
    tokenizer: Annotated[
        str, typer.Option(help="Folder or Hub id of BERT's tokenizer, which the checkpoint does not hold.")
    ] = "google-bert/bert-base-uncased",
    image_size: Annotated[
        int | None, typer.Option(help="Side of the pictures in pixels. Default: the checkpoint's.")
    ] = None,
) -> None:
    """Convert an original BLIP checkpoint (captioning, pre-training or retrieval) into a Hugging Face folder.

    A retrieval checkpoint becomes an image-text matching model for --matching. No code of the file is run. Of a
    captioner, our decoder and the stock model are compared before anything is saved.
    """
    from .libraries import quieten_libraries

    quieten_libraries()  # Before transformers' BLIP is imported, which warns then.
    from ..models.captioner import count_parameters
    from ..models.original_checkpoint import convert_original

    model = convert_original(checkpoint, folder, tokenizer=tokenizer, image_size=image_size)
    total, size = count_parameters(model)[0], model.config.vision_config.image_size
    name = type(model).__name__
    output.line(f"{folder}: {name}, {total:,} parameters.")
    output.line(f"It takes {size}x{size} pixels; loads in blip_refine and in stock transformers.")
    output.result({"folder": str(folder), "model": name, "parameters": total, "image_size": size})
    if name == "BlipForImageTextRetrieval":
        output.next_command(
            f"blip-refine refine captions.jsonl --refiner bart --matching {folder} --image-folder photos/ "
            "--output refined.jsonl"
        )
    else:
        output.next_command(f"blip-refine caption photos/ --model {folder} --output captions.jsonl")
