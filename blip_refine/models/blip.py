"""BLIP for captioning with several captions an image: the stock model, its weights and its files, another `forward`.

The class carries the name of the stock class on purpose. `save_pretrained` writes a model's class name into
`config.json` as `architectures`, and what this library trains must load anywhere the stock model loads.
"""

from __future__ import annotations

import torch
import transformers
from transformers.models.blip.modeling_blip import BlipForConditionalGenerationModelOutput

from .attention import shares_image_states
from .loss import IGNORED, caption_loss


class BlipForConditionalGeneration(transformers.BlipForConditionalGeneration):
    """Stock BLIP whose `forward` encodes each image once for all its captions and normalises the loss as it is told.

    Without the arguments that it adds, `forward` is the stock one.
    """

    # Tells the Trainer that `num_items_in_batch` is honoured. The stock class only looks as if it did: its `forward`
    # takes any keyword and then averages over each micro-batch, so that gradients grow with accumulation.
    accepts_loss_kwargs = True

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
        interpolate_pos_encoding: bool = False,
        **kwargs,
    ) -> BlipForConditionalGenerationModelOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`): Each image once.
            input_ids (`torch.Tensor` of shape `(captions, length)`): All captions, those of an image together and in
                the order of the images.
            attention_mask (`torch.Tensor` of shape `(captions, length)`, *optional*): 0 on padding.
            labels (`torch.Tensor` of shape `(captions, length)`, *optional*): -100 where nothing is to be predicted.
                They are aligned with `input_ids`; the shift by one happens here.
            caption_counts (`torch.Tensor` of shape `(images,)`, *optional*): Captions of each image. Without it each
                row of text belongs to the image of the same place.
            image_states (`torch.Tensor` of shape `(images, patches + 1, hidden)`, *optional*): What the vision encoder
                says of the images, in the place of `pixel_values`.
            num_items_in_batch (`int`, *optional*): What the summed loss is divided by; the number of label tokens of
                this call without it. The Trainer hands in the count over the whole accumulated, world-wide batch.
            label_smoothing (`float`, defaults to 0.0): As in `torch.nn.functional.cross_entropy`.
            loss_only (`bool`, defaults to `False`): Return no logits, and compute them only where there is a label:
                the vocabulary is the widest tensor of the model.
            per_caption (`bool`, defaults to `False`): `loss` is then the summed loss of each caption, `(captions,)`.
        """
        if labels is None:
            return super().forward(
                pixel_values=pixel_values,
                input_ids=input_ids,
                attention_mask=attention_mask,
                interpolate_pos_encoding=interpolate_pos_encoding,
                **kwargs,
            )
        if image_states is None:
            image_states = self.vision_model(
                pixel_values=pixel_values, interpolate_pos_encoding=interpolate_pos_encoding
            ).last_hidden_state
        hidden = self.text_decoder.bert(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=self._states_of_captions(image_states, caption_counts),
            use_cache=False,
            is_decoder=True,
        ).last_hidden_state

        targets = labels[:, 1:]
        wanted = targets != IGNORED
        logits = None if loss_only else self.text_decoder.cls(hidden)
        at_labels = hidden[:, :-1][wanted]
        predicted = self.text_decoder.cls(at_labels) if logits is None else logits[:, :-1][wanted]
        loss = caption_loss(
            predicted,
            targets,
            num_items_in_batch=num_items_in_batch,
            label_smoothing=label_smoothing,
            per_caption=per_caption,
        )
        return BlipForConditionalGenerationModelOutput(
            loss=loss, logits=logits, image_embeds=image_states, last_hidden_state=image_states
        )

    def _states_of_captions(self, states: torch.Tensor, caption_counts: torch.Tensor | None) -> torch.Tensor:
        """Image states as the text decoder takes them: unrepeated where it can share them, else a row a caption."""
        if caption_counts is None:
            return states
        # The collator keeps the counts on the CPU when they are equal, so that looking at them stops no GPU.
        equal = bool((caption_counts == caption_counts[0]).all())
        if equal and shares_image_states(self.text_decoder):
            return states
        return states.repeat_interleave(caption_counts.to(states.device), dim=0)
