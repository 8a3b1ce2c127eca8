"""BLIP for captioning with several captions per image: the stock model, its weights and its files, another `forward`.

The class carries the name of the stock class on purpose. `save_pretrained` writes a model's class name into
`config.json` as `architectures`, and what this library trains must load anywhere the stock model loads. `generate` is
the stock one and runs stock code; [`generate_captions`] is the fast one.
"""

from __future__ import annotations

import torch
import transformers

from .loss import IGNORED, caption_loss
from .outputs import CaptionOutput
from .text_decoder import TextDecoder
from .vision_encoder import encode_images


class BlipForConditionalGeneration(transformers.BlipForConditionalGeneration):
    """Stock BLIP whose `forward` encodes each image once for all its captions and normalizes the loss as asked."""

    # Tells the Trainer that `num_items_in_batch` is honored. The stock class only looks as if it did: its `forward`
    # takes any keyword and then averages over each micro-batch, so that gradients grow with accumulation.
    accepts_loss_kwargs = True

    def __init__(self, config: transformers.BlipConfig):
        super().__init__(config)
        # `gradient_checkpointing_enable` sets it on every module that has an attribute of this name.
        self.gradient_checkpointing = False

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        caption_counts: torch.Tensor | None = None,
        image_states: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        label_smoothing: float = 0.0,
        loss_only: bool = False,
        per_caption: bool = False,
    ) -> CaptionOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`, *optional*): Each image once.
            input_ids (`torch.Tensor` of shape `(captions, length)`): All captions, those of an image together and in
                the order of the images.
            attention_mask (`torch.Tensor` of shape `(captions, length)`, *optional*): 0 on padding.
            labels (`torch.Tensor` of shape `(captions, length)`, *optional*): -100 where nothing is to be predicted.
                They are aligned with `input_ids`; the shift by one happens here. Without labels there is no loss.
            caption_counts (`torch.Tensor` of shape `(images,)`, *optional*): Captions of each image. Without it each
                row of text belongs to the image at the same index.
            image_states (`torch.Tensor` of shape `(images, patches + 1, hidden)`, *optional*): The vision encoder's
                output, instead of `pixel_values`.
            num_items_in_batch (`int`, *optional*): Divisor of the summed loss; by default the number of label tokens
                of this call. The Trainer hands in the count over the whole accumulated, world-wide batch.
            label_smoothing (`float`, defaults to 0.0): As in `torch.nn.functional.cross_entropy`.
            loss_only (`bool`, defaults to `False`): Return no logits, and compute them only where there is a label:
                the vocabulary is the widest tensor of the model.
            per_caption (`bool`, defaults to `False`): `loss` is then the summed loss of each caption, `(captions,)`.

        Returns:
            [`CaptionOutput`]
        """
        recompute = self.gradient_checkpointing and self.training
        if image_states is None:
            image_states = encode_images(self, pixel_values, recompute=recompute)
        decoder = TextDecoder(self)
        states = _states_of_captions(image_states, caption_counts)
        hidden = decoder.read(input_ids, states, attention_mask, recompute=recompute)
        logits = None if loss_only and labels is not None else decoder.logits(hidden)
        loss = None
        if labels is not None:
            targets = labels[:, 1:].to(hidden.device)
            wanted = targets != IGNORED
            predicted = decoder.logits(hidden[:, :-1][wanted]) if logits is None else logits[:, :-1][wanted]
            loss = caption_loss(
                predicted,
                targets,
                num_items_in_batch=num_items_in_batch,
                label_smoothing=label_smoothing,
                per_caption=per_caption,
            )
        return CaptionOutput(loss=loss, logits=logits, image_states=image_states)


def _states_of_captions(states: torch.Tensor, caption_counts: torch.Tensor | None) -> torch.Tensor:
    """Image states as the text decoder takes them: unrepeated if all images have equally many captions."""
    # The collator keeps the counts on the CPU when they are equal, so that looking at them does not stop a GPU.
    if caption_counts is None or bool((caption_counts == caption_counts[0]).all()):
        return states
    return states.repeat_interleave(caption_counts.to(states.device), dim=0)
