"""The captioning loss: summed over label tokens, computed where there is a label and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

IGNORED = -100
"""The label that the loss passes over (`ignore_index` of `torch.nn.functional.cross_entropy`)."""


def caption_loss(
    predicted: torch.Tensor,
    labels: torch.Tensor,
    *,
    num_items_in_batch: torch.Tensor | int | None = None,
    label_smoothing: float = 0.0,
    per_caption: bool = False,
) -> torch.Tensor:
    """Cross-entropy of the label tokens.

    Args:
        predicted (`torch.Tensor` of shape `(label tokens, vocabulary)`): Logits at the positions that have a label,
            row by row of `labels`.
        labels (`torch.Tensor` of shape `(captions, length)`): -100 where nothing is to be predicted; shifted already.
        num_items_in_batch (`int` or `torch.Tensor`, *optional*): What the sum is divided by; the number of label
            tokens here without it.
        label_smoothing (`float`, defaults to 0.0): As in `torch.nn.functional.cross_entropy` (Szegedy et al., 2016).
        per_caption (`bool`, defaults to `False`): Return the sum of each caption instead.

    Returns:
        `torch.Tensor`: A scalar, or with `per_caption` of shape `(captions,)`, in float32 (nats).
    """
    wanted = labels != IGNORED
    losses = F.cross_entropy(
        # Half-precision logits would lose the loss's last digits; float64 ones keep theirs.
        predicted.float() if predicted.dtype in (torch.float16, torch.bfloat16) else predicted,
        labels[wanted],
        reduction="none" if per_caption else "sum",
        label_smoothing=float(label_smoothing),
    )
    if per_caption:
        rows = wanted.nonzero()[:, 0]
        return torch.zeros(len(labels), dtype=losses.dtype, device=losses.device).index_add(0, rows, losses)
    items = wanted.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
    return losses / (items.to(losses.device) if isinstance(items, torch.Tensor) else items)


@contextmanager
def head_only_at(head: nn.Module, wanted: torch.Tensor) -> Iterator[None]:
    """For the time of a `with`, a language model's output layer sees only the positions that are wanted.

    The vocabulary is the widest tensor of a captioner; masked positions need none of it.

    Args:
        head (`nn.Module`): The output layer, called with `(rows, length, hidden)`.
        wanted (`torch.Tensor` of shape `(rows, length)`): Boolean. The layer then returns `(wanted, vocabulary)`.
    """
    hook = head.register_forward_pre_hook(lambda _, inputs: (inputs[0][wanted], *inputs[1:]))
    try:
        yield
    finally:
        hook.remove()
