"""What is known of published checkpoints that their names do not say."""

from __future__ import annotations

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
