"""BLIP's text decoder, computed from the tensors that every BLIP checkpoint holds.

The decoder is BERT with cross-attention (Li et al., 2022, BLIP, section 3.1; `med.py` of the original code): each
layer is self-attention, cross-attention to the image, and a feed-forward block, each followed by a residual connection
and a LayerNorm. What is relied on is the checkpoint: the names and shapes of its linear layers, norms and embeddings
(`text_decoder.bert.encoder.layer.0.attention.self.query`, ...). They are called one by one, so that adapters,
quantized weights and device maps, which replace or hook exactly these, keep working. The `forward` methods, caches and
masks of the stock layers are not used: they change between releases of `transformers`.

One implementation serves training, scoring (`TextDecoder.read`) and decoding (`StepDecoder`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN

from .attention import attend, row_by_row, side_by_side, split_heads
from .decoding_cache import DecodingCache


class TextDecoder:
    """The text decoder of a captioner, over image states that are never repeated.

    It holds no weights of its own and is made anew for each use, so that it always sees the modules that the model has
    at that time. Dropout follows the model's configuration and `text_decoder.training`.

    Args:
        captioner ([`BlipForConditionalGeneration`]): The captioner, unwrapped.
    """

    def __init__(self, captioner: Any):
        self.config = captioner.config.text_config
        self._embeddings = captioner.text_decoder.bert.embeddings
        self._layers = captioner.text_decoder.bert.encoder.layer
        self._head = captioner.text_decoder.cls.predictions
        self._activation = ACT2FN[self.config.hidden_act]
        training = captioner.text_decoder.training
        self._hidden_dropout = self.config.hidden_dropout_prob if training else 0.0
        self._attention_dropout = self.config.attention_probs_dropout_prob if training else 0.0

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the word embeddings, which no quantization touches."""
        return self._embeddings.word_embeddings.weight.dtype

    def read(
        self,
        tokens: torch.Tensor,
        states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        recompute: bool = False,
    ) -> torch.Tensor:
        """Read whole texts.

        Args:
            tokens (`torch.Tensor` of shape `(rows, length)`): Texts, n per image, those of an image together.
            states (`torch.Tensor` of shape `(images, states, encoder_hidden)`): The vision encoder's output.
            attention_mask (`torch.Tensor` of shape `(rows, length)`, *optional*): 0 on padding. Padding on the right
                needs none: no earlier token sees it.
            recompute (`bool`, defaults to `False`): Compute each layer a second time in the backward pass instead of
                keeping its activations.

        Returns:
            `torch.Tensor` of shape `(rows, length, hidden)`: The hidden state after each token.
        """
        length, device = tokens.shape[1], tokens.device
        visible = torch.ones(length, length, dtype=torch.bool, device=device).tril()
        if attention_mask is not None:
            # A token always sees itself: a row that sees nothing would be NaN.
            own = torch.eye(length, dtype=torch.bool, device=device)
            visible = visible & (attention_mask[:, None, None, :].bool() | own)
        hidden = self._embed(tokens, torch.arange(length, device=device))
        for index in range(len(self._layers)):
            if recompute:
                hidden = checkpoint(self._layer, index, hidden, states, visible, None, use_reentrant=False)
            else:
                hidden = self._layer(index, hidden, states, visible, None)
        return hidden

    def read_next(
        self,
        tokens: torch.Tensor,
        position: int,
        states: torch.Tensor,
        visible: torch.Tensor | None,
        cache: DecodingCache,
    ) -> torch.Tensor:
        """Read the next tokens of texts whose earlier tokens are in the cache.

        Args:
            tokens (`torch.Tensor` of shape `(rows, length)`): The tokens, n rows per image.
            position (`int`): How many tokens each row has before them.
            states (`torch.Tensor` of shape `(images, states, encoder_hidden)`): The vision encoder's output, which is
                only looked at in the first call.
            visible (`torch.Tensor`, *optional*): What each row sees of its image's slots; see [`attend`].
            cache ([`DecodingCache`]): Keys and values so far. The new ones are put there.

        Returns:
            `torch.Tensor` of shape `(rows, length, hidden)`: The hidden state after each token.
        """
        positions = torch.arange(position, position + tokens.shape[1], device=tokens.device)
        hidden = self._embed(tokens, positions)
        for index in range(len(self._layers)):
            hidden = self._layer(index, hidden, states, visible, cache)
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits of the next token: `(..., hidden)` to `(..., vocabulary)`."""
        transform = self._head.transform
        return self._head.decoder(transform.LayerNorm(self._activation(transform.dense(hidden))))

    def _embed(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        embedded = self._embeddings.word_embeddings(tokens) + self._embeddings.position_embeddings(positions)
        return self._drop(self._embeddings.LayerNorm(embedded))

    def _layer(
        self,
        index: int,
        hidden: torch.Tensor,
        states: torch.Tensor,
        visible: torch.Tensor | None,
        cache: DecodingCache | None,
    ) -> torch.Tensor:
        layer = self._layers[index]
        hidden = self._add(layer.attention.output, self._see_text(index, hidden, visible, cache), hidden)
        hidden = self._add(layer.crossattention.output, self._see_image(index, hidden, states, cache), hidden)
        return self._add(layer.output, self._activation(layer.intermediate.dense(hidden)), hidden)

    def _see_text(
        self, index: int, hidden: torch.Tensor, visible: torch.Tensor | None, cache: DecodingCache | None
    ) -> torch.Tensor:
        """Self-attention: `(rows, length, hidden)` to the same shape."""
        attention, rows = self._layers[index].attention.self, len(hidden)
        query, key, value = (self._heads(part(hidden)) for part in (attention.query, attention.key, attention.value))
        images = rows
        if cache is not None:
            images = cache.images
            key, value = cache.extend(index, side_by_side(key, images), side_by_side(value, images))
        context = attend(side_by_side(query, images), key, value, visible, self._attention_dropout)
        return row_by_row(context, rows)

    def _see_image(
        self, index: int, hidden: torch.Tensor, states: torch.Tensor, cache: DecodingCache | None
    ) -> torch.Tensor:
        """Cross-attention: `(rows, length, hidden)` to the same shape."""
        attention = self._layers[index].crossattention.self
        known = None if cache is None else cache.image_keys_and_values(index)
        if known is None:
            known = self._heads(attention.key(states)), self._heads(attention.value(states))
            if cache is not None:
                known = cache.keep_image(index, *known)
        key, value = known
        query = side_by_side(self._heads(attention.query(hidden)), len(key))
        return row_by_row(attend(query, key, value, dropout=self._attention_dropout), len(hidden))

    def _heads(self, states: torch.Tensor) -> torch.Tensor:
        return split_heads(states, self.config.num_attention_heads)

    def _add(self, block: Any, update: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """A block's projection, the residual connection and its LayerNorm."""
        update = self._drop(block.dense(update))
        # A device map may have put the layer before this one elsewhere.
        return block.LayerNorm(update + hidden.to(update.device))

    def _drop(self, states: torch.Tensor) -> torch.Tensor:
        return F.dropout(states, self._hidden_dropout) if self._hidden_dropout else states


class StepDecoder:
    """Decodes n rows of text per image of a batch, token by token.

    Args:
        captioner ([`BlipForConditionalGeneration`]): The captioner, unwrapped.
        states (`torch.Tensor` of shape `(images, states, hidden)`): The vision encoder's output.
        rows (`int`): Rows of text per image: beams, or samples.
        max_new_tokens (`int`): The most steps that will be asked for.
    """

    def __init__(self, captioner: Any, states: torch.Tensor, rows: int, max_new_tokens: int):
        self._decoder = TextDecoder(captioner)
        self._states, self._rows, self._max_new_tokens = states, rows, max_new_tokens
        self._position = 0

    def start(self, prompt: torch.Tensor) -> torch.Tensor:
        """Read the prompt, once per image for all its rows.

        Args:
            prompt (`torch.Tensor` of shape `(length,)`): Start token and prompt.

        Returns:
            `torch.Tensor` of shape `(images, vocabulary)`: Logits of the first new token.
        """
        images, length, device = len(self._states), len(prompt), self._states.device
        slots = length + self._rows * self._max_new_tokens
        self._cache = DecodingCache(images, self._decoder.config.num_hidden_layers, slots)
        # What a row sees of its image's slots, to be added to the attention's scores: 0, or minus infinity for a slot
        # that it does not descend from. Fused attention on a GPU would copy rows of any other length at each layer.
        dtype = self._decoder.dtype
        padded = -(-slots // 8) * 8
        self._visible = torch.full((images, self._rows, padded), -torch.inf, dtype=dtype, device=device)
        self._visible[:, :, :length].fill_(0)
        self._own = torch.full((self._rows, self._rows), -torch.inf, dtype=dtype, device=device).fill_diagonal_(0)
        mask = torch.ones(length, length, dtype=torch.bool, device=device).tril() if length > 1 else None
        return self._read(prompt.expand(images, length), mask, length)[:, -1]

    def step(self, tokens: torch.Tensor, parents: torch.Tensor | None = None) -> torch.Tensor:
        """Read one token per row.

        Args:
            tokens (`torch.Tensor` of shape `(images, rows)`): The token just chosen for each row.
            parents (`torch.Tensor` of shape `(images, rows)`, *optional*): The row of the same image that each row
                continues; itself by default.

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
        return self._read(tokens.reshape(images * rows, 1), mask, rows).view(images, rows, -1)

    def _read(self, tokens: torch.Tensor, mask: torch.Tensor | None, slots: int) -> torch.Tensor:
        """Logits after the last of `tokens`, `(rows, length)`, which take `slots` slots per image."""
        hidden = self._decoder.read_next(tokens, self._position, self._states, mask, self._cache)
        self._cache.advance(slots)
        self._position += tokens.shape[1]
        return self._decoder.logits(hidden[:, -1:])

    def keep(self, survivors: Sequence[int]) -> list[int]:
        """Leave out the images that are done. Returns, for each new index, the previous index of its image."""
        order = self._cache.keep(survivors)
        self._visible = self._visible[torch.tensor(order, device=self._visible.device)]
        return order
