"""`CaptionCollator`: images and captions to the tensors that a captioner is trained on."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import ConfigurationError, DataError

IGNORED = -100
"""The label that the loss passes over (`ignore_index` of `torch.nn.functional.cross_entropy`)."""


@dataclass
class CaptionCollator:
    """Makes a batch: each image once, all its captions in rows, and labels only where something is to be predicted.

    The first input token is the one that decoding starts from (`[DEC]`, `bos_token_id` of the text configuration), not
    the tokenizer's `[CLS]`. Labels are -100 on that token, on the prompt and on padding.

    Args:
        processor ([`BlipProcessor`]): Prepares pictures and splits captions into tokens.
        start_token_id (`int`): The decoder's start token.
        max_txt_len (`int`, defaults to 40): Longest caption in tokens, with prompt, start and end.
        prompt (`str`, defaults to `""`): Put before every caption, as it will be when captioning ("a picture of ").
        captions_per_image (`str` or `int`, defaults to `"all"`): "all", or how many are drawn from each image's
            captions at each visit.
        training (`bool`, defaults to `True`): Draw captions; for evaluation all are used, whatever was asked for.
        seed (`int`, defaults to 0): Of the drawing.

    Raises:
        ConfigurationError: Nothing fits: `max_txt_len` leaves no room after the prompt, or the number of captions is
            not positive.
    """

    processor: Any
    start_token_id: int
    max_txt_len: int = 40
    prompt: str = ""
    captions_per_image: str | int = "all"
    training: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.captions_per_image != "all":
            self.captions_per_image = int(self.captions_per_image)
            if self.captions_per_image < 1:
                raise ConfigurationError(
                    f"captions_per_image must be 'all' or at least 1, not {self.captions_per_image}."
                )
        prompt_ids = (
            self.processor.tokenizer(self.prompt, add_special_tokens=False)["input_ids"] if self.prompt else []
        )
        self.prompt_length = len(prompt_ids)
        if self.max_txt_len < self.prompt_length + 3:
            raise ConfigurationError(
                f"max_txt_len={self.max_txt_len} leaves no room for a caption: start, end and the prompt "
                f"{self.prompt!r} take {self.prompt_length + 2} tokens."
            )
        self._rng: random.Random | None = None

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """
        Args:
            items (`Sequence[dict]`): Items of a [`BlipCaptionDataset`].

        Returns:
            `dict`: `pixel_values` `(images, 3, height, width)`; `input_ids`, `attention_mask` and `labels`, each
            `(captions, length)`, absent where no image has captions; `caption_counts` `(images,)`; `indices`
            `(images,)`, the items' places in the dataset; and `unreadable` (`list` of `(image_id, reason)`), where
            an image was left out.

        Raises:
            DataError: No image of the batch can be decoded, or an image has no caption among others that have.
        """
        readable = [item for item in items if item["image"] is not None]
        unreadable = [(item["image_id"], item["error"]) for item in items if item["image"] is None]
        if not readable:
            raise DataError(
                f"None of the {len(items)} images of a batch can be decoded; the first is {unreadable[0][0]!r}: "
                f"{unreadable[0][1]}"
            )
        pictures = [item["image"] for item in readable]
        batch: dict[str, Any] = {
            "pixel_values": self.processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"],
            "indices": torch.tensor([item["index"] for item in readable]),
        }
        if unreadable:
            batch["unreadable"] = unreadable
        captions = [self._choose(item["captions"]) for item in readable]
        batch["caption_counts"] = torch.tensor([len(texts) for texts in captions])
        if any(captions):
            without = [item["image_id"] for item, texts in zip(readable, captions, strict=True) if not texts]
            if without:
                raise DataError(f"The image {without[0]!r} has no caption to train on or to be compared with.")
            batch |= self.encode([text for texts in captions for text in texts])
        return batch

    def encode(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels` of captions, one a row, padded on the right to the longest."""
        tokenizer = self.processor.tokenizer
        encoded = tokenizer(
            [self.prompt + text for text in texts],
            padding=True,
            # BLIP's positions are absolute and counted from the left: padding there would move every word.
            padding_side="right",
            truncation=True,
            max_length=self.max_txt_len,
            return_tensors="pt",
        )
        ids, mask = encoded["input_ids"], encoded["attention_mask"]
        ids[:, 0] = self.start_token_id
        labels = ids.masked_fill(mask == 0, IGNORED)
        labels[:, : 1 + self.prompt_length] = IGNORED
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def _choose(self, captions: Sequence[str]) -> Sequence[str]:
        if not self.training or self.captions_per_image == "all" or len(captions) <= int(self.captions_per_image):
            return captions
        if self._rng is None:
            # Made in the worker: a copied generator would draw the same captions in each of them.
            info = torch.utils.data.get_worker_info()
            self._rng = random.Random(f"{self.seed}:{info.seed if info else 0}")
        return self._rng.sample(list(captions), int(self.captions_per_image))
