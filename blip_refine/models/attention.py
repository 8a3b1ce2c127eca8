"""Attention over `(batch, heads, length, size)`, and the layout in which the rows of an image share its keys.

Where a text batch holds `n` rows per image (n captions in training, n beams in decoding, in the order of the images),
the image states are not repeated: keys and values are computed once per image, and the rows of an image are laid side
by side as queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """`scaled_dot_product_attention` (Vaswani et al., 2017, eq. 1) in the precision that is fast on this device.

    Args:
        query (`torch.Tensor` of shape `(batch, heads, length, size)`): Queries.
        key, value (`torch.Tensor` of shape `(batch, heads, keys, size)`): Keys and values.
        mask (`torch.Tensor`, *optional*): Boolean (`True` where a key is seen) or added to the scores; broadcast to
            `(batch, heads, length, keys)`.
        dropout (`float`, defaults to 0.0): Probability with which an attention weight is dropped.

    Returns:
        `torch.Tensor` of shape `(batch, heads, length, size)`, in the precision of `query`.
    """
    dtype = query.dtype
    # Under autocast packed 8-bit weights answer in the precision of their input and adapters in autocast's own.
    key, value = key.to(dtype), value.to(dtype)
    if dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        # The backward pass of the CPU's fused attention takes 8 times as long in bfloat16 as in float32 (torch 2.13,
        # 64 images x 65 states and 320 captions x 16 tokens: 1.24 s against 0.14 s), though the forward is faster.
        query, key, value = query.float(), key.float(), value.float()
    if mask is not None:
        mask = mask.to(query.device, query.dtype if mask.is_floating_point() else torch.bool)
    # Autocast would take the inputs back to its own precision.
    with torch.autocast(query.device.type, enabled=False):
        context = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
    return context.to(dtype)


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """`(rows, length, width)` to `(rows, heads, length, width / heads)`."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)


def side_by_side(states: torch.Tensor, images: int) -> torch.Tensor:
    """The n rows of an image one after the other: `(n * images, heads, length, size)` to `(images, heads, n * length,
    size)`."""
    rows, heads, length, size = states.shape
    if rows == images:
        return states
    states = states.view(images, rows // images, heads, length, size).transpose(1, 2)
    return states.reshape(images, heads, rows // images * length, size)


def row_by_row(context: torch.Tensor, rows: int) -> torch.Tensor:
    """Back from `side_by_side`, heads joined: `(images, heads, n * length, size)` to `(rows, length, width)`."""
    images, heads, total, size = context.shape
    length = total * images // rows
    context = context.view(images, heads, rows // images, length, size)
    return context.permute(0, 2, 3, 1, 4).reshape(rows, length, heads * size)
