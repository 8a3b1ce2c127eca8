"""A quick comparison with the stock modules, for the day on which a release of `transformers` changes them."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

from .families import base_model
from .text_decoder import TextDecoder
from .vision_encoder import encode_images

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
HALF_PRECISION_TOLERANCE = 0.25
WORDS = 4
STATES = 5


@torch.no_grad()
def difference_from_stock(model: nn.Module, vision: bool = False) -> str | None:
    """Compare one step of our text decoder with the stock module, over made-up image states and words.

    Takes some milliseconds: a few words over a few image states go through the decoder twice.

    Args:
        model (`nn.Module`): The captioner, wrapped or not. BLIP-2 and InstructBLIP run stock code: nothing to
            compare.
        vision (`bool`, defaults to `False`): Compare the vision encoder as well, on one image of the model's size.

    Returns:
        `str`, *optional*: One sentence that says what differs; `None` if nothing does.
    """
    captioner = base_model(model)
    if captioner.config.model_type != "blip":
        return None
    training = [module for module in captioner.modules() if module.training]
    captioner.eval()
    try:
        difference = _decoder_difference(captioner)
        if vision:
            difference = max(difference, _encoder_difference(captioner))
    # Whatever a changed signature or class of another release raises is the finding.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        return (
            f"transformers {transformers.__version__} can no longer run BLIP's stock modules as before ({first}): "
            "captions made by blip_refine do not depend on them, but stock `generate` may fail."
        )
    finally:
        for module in training:
            module.training = True
    dtype = TextDecoder(captioner).dtype
    if difference <= TOLERANCES.get(dtype, HALF_PRECISION_TOLERANCE):
        return None
    return (
        f"transformers {transformers.__version__} computes BLIP otherwise than blip_refine "
        f"(difference {difference:.2g}): stock `generate` may give other captions for this model. Install a version "
        "named in docs/compatibility.md."
    )


def _decoder_difference(captioner: Any) -> float:
    """Largest difference of a log-probability."""
    config, decoder = captioner.config.text_config, TextDecoder(captioner)
    draw = torch.Generator().manual_seed(0)
    weight = captioner.text_decoder.bert.embeddings.word_embeddings.weight
    states = torch.randn(1, STATES, config.encoder_hidden_size, generator=draw).to(weight.device, weight.dtype)
    words = torch.randint(0, config.vocab_size, (1, WORDS), generator=draw).to(weight.device)
    words[:, 0] = config.bos_token_id
    ours = decoder.logits(decoder.read(words, states))
    stock = captioner.text_decoder(input_ids=words, encoder_hidden_states=states).logits
    return _largest(ours.float().log_softmax(-1), stock.float().log_softmax(-1))


def _encoder_difference(captioner: Any) -> float:
    """Largest difference of an image state, which a LayerNorm has brought to a size of about 1."""
    size = captioner.config.vision_config.image_size
    weight = captioner.vision_model.embeddings.patch_embedding.weight
    pixels = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size).to(weight.device, weight.dtype)
    stock = captioner.vision_model(pixel_values=pixels).last_hidden_state
    return _largest(encode_images(captioner, pixels).float(), stock.float())


def _largest(ours: torch.Tensor, stock: torch.Tensor) -> float:
    difference = (ours - stock).abs().max().item()
    return difference if difference == difference else float("inf")
