"""Some evaluated images with their captions, on the disk and in the tracker."""

from __future__ import annotations

import html
import io
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from transformers.integrations import TensorBoardCallback, TrackioCallback, WandbCallback

from ..data.images import load_image
from ..errors import ImageDecodeError
from ..evaluation.systems import CaptionedImage
from ..jsonlines import atomic_write, write_jsonl

TILE = 224
LINES = 7


def write_samples(
    images: Sequence[CaptionedImage], folder: str | os.PathLike, step: int, callbacks: Iterable[Any] = ()
) -> Path:
    """Write captioned images as `step-N.jsonl` and as one picture, `step-N.png`, and hand them to the trackers.

    Args:
        images (`Sequence[CaptionedImage]`): The images with what was said of them.
        folder (`str` or `os.PathLike`): Where the files are written.
        step (`int`): The optimizer step.
        callbacks (`Iterable[TrainerCallback]`, *optional*): Among them the Trainer's callbacks for TensorBoard, W&B
            and Trackio, which get the picture.

    Returns:
        `Path`: The picture.
    """
    name = f"step-{step:07d}"
    rows = [
        {"image_id": one.record.image_id, "caption": one.caption, "references": list(one.record.captions)}
        for one in images
    ]
    write_jsonl(Path(folder, f"{name}.jsonl"), rows)
    sheet = contact_sheet(images)
    encoded = io.BytesIO()
    sheet.save(encoded, format="PNG")
    path = Path(folder, f"{name}.png")
    with atomic_write(path, "wb") as file:
        file.write(encoded.getvalue())
    for callback in callbacks:
        _send(callback, sheet, _table(rows), step)
    return path


def contact_sheet(images: Sequence[CaptionedImage]) -> Image.Image:
    """The images side by side, each with its caption and, in grey, its first reference."""
    font = ImageFont.load_default(13)
    sheet = Image.new("RGB", (max(1, len(images)) * (TILE + 8), TILE + 16 * LINES), "white")
    draw = ImageDraw.Draw(sheet)
    for place, one in enumerate(images):
        left = place * (TILE + 8)
        try:
            picture = load_image(one.record.image)
        except ImageDecodeError:
            continue
        sheet.paste(picture.resize((TILE, TILE)), (left, 0))
        texts = [(one.caption, "black")] + [(text, "gray") for text in one.record.captions[:1]]
        line = 0
        for text, color in texts:
            for part in textwrap.wrap(text, 32)[: LINES // 2]:
                draw.text((left + 2, TILE + 2 + 16 * line), part, fill=color, font=font)
                line += 1
    return sheet


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """The captions as a Markdown table, in which nothing of them is taken for Markdown or HTML."""
    lines = ["| image | caption | reference |", "|---|---|---|"]
    for row in rows:
        cells = (row["image_id"], row["caption"], *row["references"][:1])
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]#|~])", r"\\\1", html.escape(" ".join(text.split())))


def _send(callback: Any, sheet: Image.Image, table: str, step: int) -> None:
    """Hand the samples to the tracker that a callback of `transformers` speaks to; other callbacks are none."""
    if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
        import numpy as np

        callback.tb_writer.add_image("samples", np.asarray(sheet), step, dataformats="HWC")
        callback.tb_writer.add_text("captions", table, step)
    elif isinstance(callback, WandbCallback):
        import wandb

        if wandb.run is not None:
            wandb.run.log({"samples": wandb.Image(sheet, caption=table), "train/global_step": step})
    elif isinstance(callback, TrackioCallback):
        import trackio

        trackio.log({"samples": trackio.Image(sheet, caption=table), "train/global_step": step})
