"""BLIP's text decoder one step at a time, over image states that are never repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .decoding_cache import DecodingCache


class StepDecoder:
    """Decodes n rows of text for each image of a batch, token by token.

    Args:
        captioner ([`BlipForConditionalGeneration`]): Its text attention must be the one of `use_attention`.
        states (`torch.Tensor` of shape `(images, states, hidden)`): The vision encoder's output.
        rows (`int`): Rows of text an image: beams, or samples.
        max_new_tokens (`int`): The most steps that will be asked for.
    """

    def __init__(self, captioner: Any, states: torch.Tensor, rows: int, max_new_tokens: int):
        self._bert, self._head = captioner.text_decoder.bert, captioner.text_decoder.cls
        self._states, self._rows, self._max_new_tokens = states, rows, max_new_tokens
        self._position = 0

    def start(self, prompt: torch.Tensor) -> torch.Tensor:
        """Read the prompt, once an image for all its rows.

        Args:
            prompt (`torch.Tensor` of shape `(length,)`): Start token and prompt.

        Returns:
            `torch.Tensor` of shape `(images, vocabulary)`: Logits of the first new token.
        """
        images, length, device = len(self._states), len(prompt), self._states.device
        slots = length + self._rows * self._max_new_tokens
        self._cache = DecodingCache(images, len(self._bert.encoder.layer), slots)
        # What a row sees of its image's slots, to be added to the attention's scores: 0, or minus infinity for a slot
        # that it does not descend from. Fused attention on a GPU would copy rows of any other length at each layer.
        dtype = self._bert.embeddings.word_embeddings.weight.dtype
        padded = -(-slots // 8) * 8
        self._visible = torch.full((images, self._rows, padded), -torch.inf, dtype=dtype, device=device)
        self._visible[:, :, :length].fill_(0)
        self._own = torch.full((self._rows, self._rows), -torch.inf, dtype=dtype, device=device).fill_diagonal_(0)
        tokens = prompt.expand(images, length)
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril() if length > 1 else None
        return self._forward(tokens, mask, length)[:, -1]

    def step(self, tokens: torch.Tensor, parents: torch.Tensor | None = None) -> torch.Tensor:
        """Read one token a row.

        Args:
            tokens (`torch.Tensor` of shape `(images, rows)`): The token just chosen for each row.
            parents (`torch.Tensor` of shape `(images, rows)`, *optional*): The row of the same image that each row
                goes on from; each from itself by default.

        Returns:
            `torch.Tensor` of shape `(images, rows, vocabulary)`: Logits of the next token.
        """
        images, rows = tokens.shape
        mask = None
        if rows > 1:
            if parents is not None:
                self._visible = self._visible.gather(1, parents[:, :, None].expand_as(self._visible))
            used = self._cache.used
            self._visible[:, :, used : used + rows] = self._own
            mask = self._visible[:, None, :, : used + rows]
        return self._forward(tokens.reshape(images * rows, 1), mask, rows).view(images, rows, -1)

    def _forward(self, tokens: torch.Tensor, mask: torch.Tensor | None, slots: int) -> torch.Tensor:
        """Logits after the last of `tokens`, `(rows, length)`, of which an image takes `slots` slots."""
        length = tokens.shape[1]
        positions = torch.arange(self._position, self._position + length, device=tokens.device)[None]
        hidden = self._bert.encoder(
            self._bert.embeddings(input_ids=tokens, position_ids=positions),
            attention_mask=mask,
            encoder_hidden_states=self._states,
            past_key_values=self._cache,
            use_cache=False,
        ).last_hidden_state
        self._cache.advance(slots)
        self._position += length
        return self._head(hidden[:, -1:])

    def keep(self, survivors: Sequence[int]) -> list[int]:
        """Leave out the images that are done. Returns, for each new place, the place where its image was."""
        order = self._cache.keep(survivors)
        self._visible = self._visible[torch.tensor(order, device=self._visible.device)]
        return order
