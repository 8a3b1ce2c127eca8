"""Attention of BLIP by `scaled_dot_product_attention`, with image states shared by all captions of an image.

The stock classes compute attention step by step in every case. Here the attention modules of a loaded model are given
another class: the parameters, their names and the state dict stay what they are, and `use_attention(model, "eager")`
takes it back. Nothing is patched for other models in the process.

Where a text batch holds `n` rows for each image (n captions in training, n beams in decoding, in the order of the
images), cross-attention takes the image states *unrepeated*: keys and values are computed once an image, and the rows
of an image are laid side by side as queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.blip.modeling_blip import BlipAttention
from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

from ..errors import ConfigurationError
from .decoding_cache import DecodingCache

ATTENTION_IMPLEMENTATIONS = ("sdpa", "eager")


def _attend(query, key, value, mask=None, dropout: float = 0.0, scale: float | None = None) -> torch.Tensor:
    """`scaled_dot_product_attention` over `(batch, heads, length, size)`, in the precision that is fast here."""
    dtype = query.dtype
    # Under autocast packed 8-bit weights answer in the precision of their input and adapters in autocast's own.
    key, value = key.to(dtype), value.to(dtype)
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


def _side_by_side(states: torch.Tensor, images: int) -> torch.Tensor:
    """The n rows of an image one after the other: `(n * images, heads, length, size)` to `(images, heads, n * length,
    size)`."""
    rows, heads, length, size = states.shape
    if rows == images:
        return states
    states = states.view(images, rows // images, heads, length, size).transpose(1, 2)
    return states.reshape(images, heads, rows // images * length, size)


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
            attention_mask (`torch.Tensor`, *optional*): Additive or boolean, of shape `(rows, 1, length, keys)`; with
                a [`DecodingCache`] of shape `(images, 1, rows / images * length, keys)`. For cross-attention the mask
                over the image states, of which BLIP has none to hide.
            encoder_hidden_states (`torch.Tensor` of shape `(images, states, encoder_hidden)`, *optional*): Given for
                cross-attention. `rows` is `n * images`, the n rows of an image one after the other.
            past_key_values ([`DecodingCache`] or a cache of `transformers`, *optional*): What is known already.
        """
        rows, length, _ = hidden_states.shape
        dropout = self.dropout.p if self.training else 0.0
        query = self._heads(self.query(hidden_states))
        if encoder_hidden_states is None:
            images, mask = rows, attention_mask
            key, value = self._heads(self.key(hidden_states)), self._heads(self.value(hidden_states))
            if isinstance(past_key_values, DecodingCache):
                images = past_key_values.images
                key, value = past_key_values.extend(
                    self.layer_idx, _side_by_side(key, images), _side_by_side(value, images)
                )
            elif past_key_values is not None:
                cache = getattr(past_key_values, "self_attention_cache", past_key_values)
                key, value = cache.update(key, value, self.layer_idx)
        else:
            key, value = self._image_keys_and_values(encoder_hidden_states, past_key_values)
            images, mask = key.shape[0], None
        context = _attend(_side_by_side(query, images), key, value, mask=mask, dropout=dropout)
        # Back from the rows of an image side by side: (images, heads, n * length, size) -> (rows, length, hidden).
        context = context.view(images, self.num_attention_heads, rows // images, length, self.attention_head_size)
        return context.permute(0, 2, 3, 1, 4).reshape(rows, length, self.all_head_size), None

    def _image_keys_and_values(self, states: torch.Tensor, past_key_values) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the image states: computed at the first step of decoding, and kept in its cache."""
        if isinstance(past_key_values, DecodingCache):
            known = past_key_values.image_keys_and_values(self.layer_idx)
            if known is not None:
                return known
            key, value = self._heads(self.key(states)), self._heads(self.value(states))
            return past_key_values.keep_image(self.layer_idx, key, value)
        is_updated = getattr(past_key_values, "is_updated", None)
        if is_updated is not None and is_updated.get(self.layer_idx):
            layer = past_key_values.cross_attention_cache.layers[self.layer_idx]
            return layer.keys, layer.values
        key, value = self._heads(self.key(states)), self._heads(self.value(states))
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
            _become(module, classes[type(module)])
    return model


def _become(module: nn.Module, kind: type[nn.Module]) -> None:
    module.__class__ = kind
    if "_old_forward" in module.__dict__:
        # A device map has put a hook around `forward`, which calls the one that was there then.
        module._old_forward = kind.forward.__get__(module)


@contextmanager
def sharing_image_states(model: nn.Module) -> Iterator[None]:
    """Attention that shares image states for the time of a `with`; afterwards each module has its own again."""
    before = [(module, type(module)) for module in model.modules() if type(module) in _SDPA_CLASS_OF]
    use_attention(model)
    try:
        yield
    finally:
        for module, stock in before:
            _become(module, stock)


def shares_image_states(model: nn.Module) -> bool:
    """Whether cross-attention of this model takes image states unrepeated for several text rows an image."""
    return any(isinstance(module, SdpaTextAttention) for module in model.modules())
