"""BLIP-2 and InstructBLIP for captioning with several captions per image: stock weights and files, another `forward`.

As with BLIP, the classes carry the names of the stock classes, so that what is saved loads anywhere.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

from ..errors import ConfigurationError
from .loss import IGNORED, caption_loss, head_only_at
from .outputs import CaptionOutput
from .vision_encoder import encode_images


class GroupedCaptions:
    """`forward` over images with several captions each, for models that hand an image to a language model as tokens.

    An image goes through vision encoder, Q-Former and projection once for all its captions.
    """

    accepts_loss_kwargs = True

    def forward(
        self: Any,
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
        qformer_input_ids: torch.Tensor | None = None,
        qformer_attention_mask: torch.Tensor | None = None,
    ) -> CaptionOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`): Each image once.
            input_ids (`torch.Tensor` of shape `(captions, length)`): What the language model reads: image tokens and
                prompt, and with a decoder-only language model the caption.
            attention_mask (`torch.Tensor` of shape `(captions, length)`, *optional*): 0 on padding.
            labels (`torch.Tensor` of shape `(captions, length)`): -100 where nothing is to be predicted. Aligned with
                `input_ids` for a decoder-only language model, and the caption alone for another.
            caption_counts, image_states, num_items_in_batch, label_smoothing, loss_only, per_caption: As in
                [`BlipForConditionalGeneration`].
            qformer_input_ids, qformer_attention_mask (`torch.Tensor` of shape `(images, length)`, *optional*): The
                prompt as InstructBLIP's Q-Former reads it.

        Returns:
            [`CaptionOutput`]

        Raises:
            ConfigurationError: There are no labels. [`generate_captions`] captions images.
        """
        if labels is None:
            raise ConfigurationError("This captioner's `forward` trains and scores: it needs `labels`.")
        if image_states is None:
            image_states = encode_images(self, pixel_values)
        features = self.image_tokens(image_states, qformer_input_ids, qformer_attention_mask)
        if caption_counts is not None:
            features = features.repeat_interleave(caption_counts.to(features.device), dim=0)
        embeddings = self.get_input_embeddings()(input_ids)
        places = (input_ids == self.config.image_token_id).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(places, features.to(embeddings.device, embeddings.dtype))
        inputs: dict[str, Any] = {"inputs_embeds": embeddings, "attention_mask": attention_mask, "use_cache": False}
        if self.config.use_decoder_only_language_model:
            targets = torch.full_like(labels, IGNORED)
            targets[:, :-1] = labels[:, 1:]
        else:
            targets = labels
            inputs["decoder_input_ids"] = self.language_model.prepare_decoder_input_ids_from_labels(labels)
        wanted = targets != IGNORED
        logits = None
        if loss_only:
            with head_only_at(self.language_model.get_output_embeddings(), wanted):
                predicted = self.language_model(**inputs).logits
        else:
            logits = self.language_model(**inputs).logits
            predicted = logits[wanted]
        loss = caption_loss(
            predicted,
            targets,
            num_items_in_batch=num_items_in_batch,
            label_smoothing=label_smoothing,
            per_caption=per_caption,
        )
        return CaptionOutput(loss=loss, logits=logits, image_states=image_states)

    def image_tokens(
        self: Any,
        image_states: torch.Tensor,
        qformer_input_ids: torch.Tensor | None = None,
        qformer_attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The image as the language model reads it.

        Args:
            image_states (`torch.Tensor` of shape `(images, patches + 1, hidden)`): The vision encoder's output.
            qformer_input_ids, qformer_attention_mask (`torch.Tensor` of shape `(images, length)`, *optional*): The
                prompt as InstructBLIP's Q-Former reads it.

        Returns:
            `torch.Tensor` of shape `(images, query tokens, language model's hidden)`.
        """
        queries = self.query_tokens.expand(len(image_states), -1, -1)
        seen = torch.ones(image_states.shape[:-1], dtype=torch.long, device=image_states.device)
        text: dict[str, Any] = {}
        if qformer_input_ids is not None:
            own = torch.ones(queries.shape[:-1], dtype=torch.long, device=queries.device)
            if qformer_attention_mask is None:
                qformer_attention_mask = torch.ones_like(qformer_input_ids)
            text = {"input_ids": qformer_input_ids, "attention_mask": torch.cat([own, qformer_attention_mask], dim=1)}
        output = self.qformer(
            query_embeds=queries, encoder_hidden_states=image_states, encoder_attention_mask=seen, **text
        ).last_hidden_state[:, : queries.shape[1]]
        # BLIP-2's Q-Former stays in float32 whatever the rest is in.
        return self.language_projection(output.to(image_states.dtype))


class Blip2ForConditionalGeneration(GroupedCaptions, transformers.Blip2ForConditionalGeneration):
    """Stock BLIP-2 with the `forward` of [`GroupedCaptions`]."""


class InstructBlipForConditionalGeneration(GroupedCaptions, transformers.InstructBlipForConditionalGeneration):
    """Stock InstructBLIP with the `forward` of [`GroupedCaptions`]."""
