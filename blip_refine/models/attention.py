"""Attention of BLIP by `scaled_dot_product_attention`, with image states shared by all captions of an image.

The stock classes compute attention step by step in every case. Here the attention modules of a loaded model are given
another class: the parameters, their names and the state dict stay what they are, and `use_attention(model, "eager")`
takes it back. Nothing is patched for other models in the process.

Where a text batch holds `n` rows for each image (n captions in training, n beams in decoding, in the order of the
images), cross-attention takes the image states *unrepeated*: keys and values are computed once an image, and the rows
of an image are laid side by side as queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.blip.modeling_blip import BlipAttention
from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

from ..errors import ConfigurationError

ATTENTION_IMPLEMENTATIONS = ("sdpa", "eager")


def _attend(query, key, value, mask=None, dropout: float = 0.0, scale: float | None = None) -> torch.Tensor:
    """`scaled_dot_product_attention` over `(batch, heads, length, size)`, in the precision that is fast here."""
    dtype = query.dtype
    if dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        # The backward pass of the CPU's fused attention takes 8 times as long in bfloat16 as in float32 (torch 2.13,
        # 64 images x 65 states and 320 captions x 16 tokens: 1.24 s against 0.14 s), though the forward is faster.
        query, key, value = query.float(), key.float(), value.float()
    if mask is not None and mask.is_floating_point():
        mask = mask.to(query.dtype)
    # Autocast would take the inputs back to its own precision.
    with torch.autocast(query.device.type, enabled=False):
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    return context.to(dtype)


class SdpaVisionAttention(BlipAttention):
    """`BlipAttention` of the vision encoder by `scaled_dot_product_attention`."""

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> tuple[torch.Tensor, None]:
        """`hidden_states` of shape `(images, patches + 1, hidden)` to the same shape. No weights are returned."""
        images, length, width = hidden_states.shape
        qkv = self.qkv(hidden_states).view(images, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        dropout = self.dropout.p if self.training else 0.0
        context = _attend(query, key, value, dropout=dropout, scale=self.scale)
        return self.projection(context.transpose(1, 2).reshape(images, length, width)), None


class SdpaTextAttention(BlipTextSelfAttention):
    """`BlipTextSelfAttention`, self and cross, by `scaled_dot_product_attention`."""

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:-1], self.num_attention_heads, self.attention_head_size).transpose(1, 2)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        past_key_values=None,
        **kwargs,
    ) -> tuple[torch.Tensor, None]:
        """
        Args:
            hidden_states (`torch.Tensor` of shape `(rows, length, hidden)`): The text.
            attention_mask (`torch.Tensor`, *optional*): Additive or boolean, of shape `(rows, 1, length, keys)`; for
                cross-attention the mask over the image states, of which BLIP has none to hide.
            encoder_hidden_states (`torch.Tensor` of shape `(images, states, encoder_hidden)`, *optional*): Given for
                cross-attention. `rows` is `n * images`, the n rows of an image one after the other.
        """
        dropout = self.dropout.p if self.training else 0.0
        query = self._heads(self.query(hidden_states))
        if encoder_hidden_states is None:
            key, value = self._heads(self.key(hidden_states)), self._heads(self.value(hidden_states))
            if past_key_values is not None:
                cache = getattr(past_key_values, "self_attention_cache", past_key_values)
                key, value = cache.update(key, value, self.layer_idx)
            context = _attend(query, key, value, mask=attention_mask, dropout=dropout)
            return context.transpose(1, 2).flatten(2), None

        key, value = self._image_keys_and_values(encoder_hidden_states, past_key_values)
        rows, heads, length, size = query.shape
        images = key.shape[0]
        per_image = rows // images
        # (rows, heads, length, size) -> (images, heads, per_image * length, size): the rows of an image side by side.
        query = query.view(images, per_image, heads, length, size).transpose(1, 2)
        query = query.reshape(images, heads, per_image * length, size)
        context = _attend(query, key, value, dropout=dropout)
        context = context.view(images, heads, per_image, length, size).permute(0, 2, 3, 1, 4)
        return context.reshape(rows, length, heads * size), None

    def _image_keys_and_values(self, encoder_hidden_states, past_key_values):
        """Keys and values of the image states: computed at the first step of decoding, and kept in its cache."""
        is_updated = getattr(past_key_values, "is_updated", None)
        if is_updated is not None and is_updated.get(self.layer_idx):
            layer = past_key_values.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        key, value = self._heads(self.key(encoder_hidden_states)), self._heads(self.value(encoder_hidden_states))
        if is_updated is not None:
            key, value = past_key_values.cross_attention_cache.update(key, value, self.layer_idx)
            is_updated[self.layer_idx] = True
        return key, value


_SDPA_CLASS_OF = {BlipAttention: SdpaVisionAttention, BlipTextSelfAttention: SdpaTextAttention}
_STOCK_CLASS_OF = {fast: stock for stock, fast in _SDPA_CLASS_OF.items()}


def use_attention(model: nn.Module, implementation: str = "sdpa") -> nn.Module:
    """Choose how a BLIP model computes attention, in place.

    Args:
        model (`nn.Module`): Any model that holds BLIP's attention modules.
        implementation (`str`, defaults to `"sdpa"`): "sdpa" or "eager" (the stock code; the only one that returns
            attention weights).

    Returns:
        `nn.Module`: The same model.

    Raises:
        ConfigurationError: There is no such implementation.
    """
    if implementation not in ATTENTION_IMPLEMENTATIONS:
        known = ", ".join(ATTENTION_IMPLEMENTATIONS)
        raise ConfigurationError(f"There is no attention implementation {implementation!r}; there are: {known}.")
    classes = _SDPA_CLASS_OF if implementation == "sdpa" else _STOCK_CLASS_OF
    for module in model.modules():
        if type(module) in classes:
            module.__class__ = classes[type(module)]
    return model


def shares_image_states(model: nn.Module) -> bool:
    """Whether cross-attention of this model takes image states unrepeated for several text rows an image."""
    return any(isinstance(module, SdpaTextAttention) for module in model.modules())
