"""What a captioner's `forward` returns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class CaptionOutput(ModelOutput):
    """Loss and logits of a captioner.

    Args:
        loss (`torch.Tensor`, *optional*): A scalar, or with `per_caption` of shape `(captions,)`, in nats.
        logits (`torch.Tensor` of shape `(captions, length, vocabulary)`, *optional*): Left out with `loss_only`.
        image_states (`torch.Tensor` of shape `(images, patches + 1, hidden)`, *optional*): The encoder's output.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    image_states: torch.Tensor | None = None
