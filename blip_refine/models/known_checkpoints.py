"""What is known of published checkpoints that their names do not say."""

from __future__ import annotations

import os

from ..errors import ConfigurationError

from torch import nn

from .families import base_model

KNOWN = {
    # https://github.com/huggingface/transformers: src/transformers/models/blip/convert_blip_original_pytorch_to_hf.py
    "Salesforce/blip-image-captioning-base": (
        "converted from the pre-trained model_base_capfilt_large.pth, not the file that was fine-tuned on COCO "
        "(model_base_caption_capfilt_large.pth, for `blip-refine convert`): on COCO it has room to learn"
    ),
}


def what_is_known_of(model: nn.Module) -> str | None:
    """What a captioner's published checkpoint has learned, if that is known and easily mistaken.

    Args:
        model (`nn.Module`): The captioner, wrapped or not.
    """
    return KNOWN.get(base_model(model).config.name_or_path)

OTHER_KINDS = ("hf", "openai")
"""What the names of captioners begin with, before a ":", that are compared with ours and never trained."""


def is_other(name: str) -> bool:
    """Whether this is the name of a captioner of another family (`hf:MODEL`) or behind a server (`openai:MODEL`)."""
    return name.strip().startswith(tuple(f"{kind}:" for kind in OTHER_KINDS))


def refuse_other_captioner(model: str | os.PathLike | None) -> None:
    """Refuse a captioner that is not ours where only ours will do.

    Args:
        model (`str` or `os.PathLike`, *optional*): Its name.

    Raises:
        ConfigurationError: It is `hf:...` or `openai:...`.
    """
    if model is not None and is_other(str(model)):
        raise ConfigurationError(
            f"{str(model).split(',')[0]!r} is a captioner for compare, ablate, caption and rate; it cannot be trained "
            "or loaded here. Name a BLIP captioner, such as Salesforce/blip-image-captioning-base."
        )
