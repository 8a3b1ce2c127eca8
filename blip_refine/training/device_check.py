"""Whether an accelerator captions as the CPU does.

Wrong numbers of a GPU raise no error: the captions are gibberish, or end too late. Apple's MPS has a history of that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image
from torch import nn

from ..data.sources.scenes import make_scene
from ..models.decoding import DecodedImage, DecodingOptions, generate_captions
from .doctor import Check

NAME = "device agreement"


def check_devices(model: nn.Module, processor: Any) -> Iterator[Check]:
    """Compare MPS with the CPU where there is MPS; nothing elsewhere.

    Args:
        model (`nn.Module`): The captioner.
        processor (`ProcessorMixin`): Its processor.
    """
    if torch.backends.mps.is_available():
        yield compare_devices(model, processor, "cpu", "mps")


def compare_devices(
    model: nn.Module,
    processor: Any,
    reference: str | torch.device,
    device: str | torch.device,
    *,
    image: Image.Image | None = None,
    model_on_device: nn.Module | None = None,
) -> Check:
    """Compare the greedy caption of one picture on two devices, token by token.

    Args:
        model (`nn.Module`): The captioner. It stays where it is: copies are moved.
        processor (`ProcessorMixin`): Its processor.
        reference (`str` or `torch.device`): The device that is trusted, such as `"cpu"`.
        device (`str` or `torch.device`): The device to be checked, such as `"mps"`.
        image (`PIL.Image.Image`, *optional*): The picture; by default a drawn scene.
        model_on_device (`nn.Module`, *optional*): The captioner that runs on `device`; by default a copy of `model`.

    Returns:
        [`Check`]: "ok" for equal tokens, "error" for others, "warning" if the model cannot be copied to the devices.
    """
    picture = make_scene("everyday", "test", 0).image if image is None else image
    pixels = processor(images=picture.convert("RGB"), return_tensors="pt")["pixel_values"]
    try:
        expected = _greedy(model, processor, pixels, reference)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        # Quantized weights, and those that a device map divides, cannot be moved.
        return Check(NAME, "warning", f"not compared with {device}: {_first_line(error)}")
    try:
        found = _greedy(model if model_on_device is None else model_on_device, processor, pixels, device)
    except (RuntimeError, NotImplementedError) as error:
        return Check(NAME, "error", f"{device} cannot caption a picture: {_first_line(error)} Use the {reference}.")
    if found.tokens == expected.tokens:
        return Check(NAME, "ok", f"{device} captions a picture as {reference} does: {expected.texts[0]!r}")
    differing = f"{device} captions a picture as {found.texts[0]!r}, and {reference} as {expected.texts[0]!r}"
    advice = f"Update torch, or use the {reference}."
    return Check(NAME, "error", f"{differing}: {device} computes wrongly with torch {torch.__version__}. {advice}")


def _greedy(model: nn.Module, processor: Any, pixels: torch.Tensor, device: str | torch.device) -> DecodedImage:
    moved = copy.deepcopy(model).to(device)
    return generate_captions(moved, processor, pixels, DecodingOptions.preset("fast"))[0]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".") + "."
