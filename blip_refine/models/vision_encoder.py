"""The vision encoder: BLIP's computed from the tensors of its checkpoint, and the public one of BLIP-2.

BLIP's is a ViT (Dosovitskiy et al., 2021) whose layers normalize first. As in `text_decoder.py`, what is relied on is
the checkpoint: `vision_model.embeddings.patch_embedding`, `vision_model.encoder.layers.0.self_attn.qkv`, ...
"""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import align_module_device
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN

from ..errors import ModelError
from .attention import attend, row_by_row, split_heads


def encode_images(captioner: Any, pixel_values: torch.Tensor, recompute: bool = False) -> torch.Tensor:
    """The vision encoder's states of prepared images, on the model's device and in its precision.

    Args:
        captioner (`nn.Module`): A BLIP, BLIP-2 or InstructBLIP captioner, unwrapped.
        pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`): Prepared images.
        recompute (`bool`, defaults to `False`): Compute each layer a second time in the backward pass instead of
            keeping its activations. BLIP only.

    Returns:
        `torch.Tensor` of shape `(images, patches + 1, hidden)`.

    Raises:
        ModelError: The images have another size than the model's.
    """
    vision, config = captioner.vision_model, captioner.config.vision_config
    size = config.image_size
    if tuple(pixel_values.shape[1:]) != (3, size, size):
        raise ModelError(
            f"The images are {tuple(pixel_values.shape[1:])} (channels, height, width), and the model takes "
            f"{(3, size, size)}: prepare them with the processor that belongs to it."
        )
    weight = vision.embeddings.patch_embedding.weight
    pixel_values = beside(pixel_values.to(weight.dtype), weight)
    if captioner.config.model_type != "blip":
        return vision(pixel_values=pixel_values).last_hidden_state
    hidden = _embed(vision.embeddings, pixel_values)
    dropout = config.attention_dropout if vision.training else 0.0
    for layer in vision.encoder.layers:
        if recompute:
            hidden = checkpoint(_layer, layer, hidden, config, dropout, use_reentrant=False)
        else:
            hidden = _layer(layer, hidden, config, dropout)
    return vision.post_layernorm(hidden)


def beside(tensor: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The tensor where the weight is; unmoved if a device map keeps the weight elsewhere until it is needed."""
    return tensor if weight.device.type == "meta" else tensor.to(weight.device)


def _embed(embeddings: Any, pixel_values: torch.Tensor) -> torch.Tensor:
    patches = embeddings.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
    # These two belong to the module itself: a device map that offloads it loads them only when it is called.
    with align_module_device(embeddings):
        start = embeddings.class_embedding.to(patches.device, patches.dtype).expand(len(patches), 1, -1)
        positions = embeddings.position_embedding.to(patches.device, patches.dtype)
    return torch.cat([start, patches], dim=1) + positions


def _layer(layer: Any, hidden: torch.Tensor, config: Any, dropout: float) -> torch.Tensor:
    attention = layer.self_attn
    qkv = attention.qkv(layer.layer_norm1(hidden))
    query, key, value = (split_heads(part, config.num_attention_heads) for part in qkv.chunk(3, dim=-1))
    seen = attention.projection(row_by_row(attend(query, key, value, dropout=dropout), len(hidden)))
    hidden = seen + hidden.to(seen.device)
    return layer.mlp.fc2(ACT2FN[config.hidden_act](layer.mlp.fc1(layer.layer_norm2(hidden)))) + hidden
