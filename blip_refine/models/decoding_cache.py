"""Attention's keys and values while captions are decoded: the image's once an image, the text's never re-ordered.

Beam search drops some beams at each step and splits others. Instead of copying the cache of every layer into the new
order, each token keeps its slot for good, and a small boolean table says which slots a beam descends from. All beams
of an image look at the same keys, each through its own row of that table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


class DecodingCache:
    """Keys and values of all layers for one batch of images.

    Args:
        images (`int`): Images in the batch.
        layers (`int`): Layers of the decoder.
        slots (`int`): Room for text tokens an image, over all its beams and the prompt.
    """

    def __init__(self, images: int, layers: int, slots: int):
        self.images, self.slots, self.used = images, slots, 0
        self._image: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * layers
        self._text: list[tuple[torch.Tensor, torch.Tensor] | None] = [None] * layers

    def image_keys_and_values(self, layer: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """What `keep_image` was given for the images that are still decoded; `None` before."""
        kept = self._image[layer]
        return None if kept is None else (kept[0][: self.images], kept[1][: self.images])

    def keep_image(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep a layer's keys and values of the image states, of shape `(images, heads, states, size)`."""
        # Every step reads all of them: laid out head by head, they are read in one go.
        kept = self._image[layer] = (key.contiguous(), value.contiguous())
        return kept

    def extend(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new tokens, `(images, heads, new, size)`, into the next free slots.

        Returns:
            `tuple`: Keys and values of all slots in use, `(images, heads, used + new, size)`.
        """
        kept = self._text[layer]
        if kept is None:
            shape = (*key.shape[:2], self.slots, key.shape[3])
            # Zeros, not whatever lies in memory: a slot that is masked out must still not be NaN.
            kept = self._text[layer] = (key.new_zeros(shape), value.new_zeros(shape))
        end = self.used + key.shape[2]
        for room, new in zip(kept, (key, value), strict=True):
            room[: self.images, :, self.used : end] = new
        return kept[0][: self.images, :, :end], kept[1][: self.images, :, :end]

    def advance(self, new: int) -> None:
        """Count `new` slots an image as used, once all layers have put their tokens there."""
        self.used += new

    def keep(self, survivors: Sequence[int]) -> list[int]:
        """Leave out the images that are done.

        The last survivors move into the places of those that leave, so that little is copied.

        Args:
            survivors (`Sequence[int]`): Places, ascending, of the images that go on.

        Returns:
            `list[int]`: For each new place, the place where that image was.
        """
        count = len(survivors)
        order = list(range(count))
        staying = set(survivors)
        holes = [place for place in order if place not in staying]
        movers = [place for place in survivors if place >= count]
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
            for kept in (*self._image, *self._text):
                for tensor in kept or ():
                    tensor[hole].copy_(tensor[mover])
        self.images = count
        return order
