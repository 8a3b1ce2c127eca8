"""Does what is published answer as what was trained? The same picture through both, and their logits compared."""

from __future__ import annotations

import os
from typing import Any

from ..errors import ModelError

MERGE_TOLERANCE = 1e-3
"""Largest relative difference of logits that putting an adapter into its base may make: another order of sums in
float32. A wrong base, a lost tensor or another precision differs by far more."""


def probe_logits(model: Any, processor: Any) -> Any:
    """The logits of a captioner for one drawn picture and one text, through its own processor.

    Args:
        model (`nn.Module`): The captioner, in evaluation mode.
        processor ([`BlipProcessor`]): Its processor; a wrong one shows in the logits too.

    Returns:
        `torch.Tensor` of shape `(1, length, vocabulary)`, float32, on the CPU.
    """
    import torch
    from PIL import Image

    side = 96
    picture = Image.new("RGB", (side, side))
    picture.putdata([(5 * x % 256, 7 * y % 256, 3 * (x + y) % 256) for y in range(side) for x in range(side)])
    inputs = processor(images=picture, text="a red boat on the water", return_tensors="pt")
    parameter = next(model.parameters())
    with torch.inference_mode():
        outputs = model(
            pixel_values=inputs["pixel_values"].to(parameter.device, parameter.dtype),
            input_ids=inputs["input_ids"].to(parameter.device),
            attention_mask=inputs["attention_mask"].to(parameter.device),
        )
    return outputs.logits.float().cpu()


def folder_logits(folder: str | os.PathLike) -> Any:
    """[`probe_logits`] of what lies in a folder.

    Raises:
        ModelError: The folder cannot be loaded.
    """
    from ..models.captioner import load_captioner

    model, processor = load_captioner(folder)
    return probe_logits(model, processor)


def require_same_logits(expected: Any, found: Any, what: str, *, merged: bool = False) -> float:
    """Compare the logits of two copies of a captioner.

    Args:
        expected (`torch.Tensor`): Those of the run folder.
        found (`torch.Tensor`): Those of the copy.
        what (`str`): What the copy is, as the beginning of the message.
        merged (`bool`, defaults to `False`): Whether an adapter was put into its base: then the last bits may differ.

    Returns:
        `float`: The largest difference, relative to the largest logit.

    Raises:
        ModelError: They differ by more than they may.
    """
    if expected.shape != found.shape:
        raise ModelError(f"{what} answers in another shape: {tuple(found.shape)} for {tuple(expected.shape)}.")
    difference = ((expected - found).abs().max() / expected.abs().max()).item()
    # Not "<=": a difference of NaN must not pass.
    if not difference <= (MERGE_TOLERANCE if merged else 0.0):
        raise ModelError(
            f"{what} does not answer as the run folder does: the logits differ by {difference:.2g} of the largest. "
            "Nothing that was measured holds for it."
        )
    return difference
