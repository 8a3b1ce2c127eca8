"""`CaptionCollator`: images and captions to the tensors that a captioner is trained on."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import ConfigurationError, DataError
from ..models.loss import IGNORED as IGNORED
from .preprocess import ImagePreprocessor


@dataclass
class CaptionCollator:
    """Makes a batch: each image once, all its captions in rows, and labels only where something is to be predicted.

    The first input token is the one that decoding starts from (`[DEC]`, `bos_token_id` of the text configuration), not
    the tokenizer's `[CLS]`. Labels are -100 on that token, on the prompt and on padding.

    Args:
        processor ([`BlipProcessor`]): Prepares pictures and splits captions into tokens.
        start_token_id (`int`): The decoder's start token.
        max_txt_len (`int`, defaults to 40): Longest caption in tokens, with prompt, start and end.
        prompt (`str`, defaults to `""`): Put before every caption, as it will be when captioning ("a picture of ");
            images that bring a `prompt` of their own have that instead. Prompt and caption are split into tokens
            separately, as in decoding: a space at the end of the prompt, or none, changes nothing.
        captions_per_image (`str` or `int`, defaults to `"all"`): "all", or how many are drawn from each image's
            captions at each visit.
        training (`bool`, defaults to `True`): Draw captions; for evaluation all are used, whatever was asked for.
        seed (`int`, defaults to 0): Of the drawing.
        normalize (`bool`, defaults to `True`): Give `pixel_values` as the model takes them. `False` leaves them as
            8-bit levels where the processor allows it: a quarter of what a worker has to hand over and a GPU has to be
            sent, to be finished by [`ImagePreprocessor.normalize_tensor`].
        language_model_text ([`LanguageModelText`], *optional*): Makes the tensors of captions, for captioners that
            hand the image to a language model (BLIP-2, InstructBLIP). It knows prompt and length itself, and has one
            prompt for all images.

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
    normalize: bool = True
    language_model_text: Any = None

    def __post_init__(self) -> None:
        if self.captions_per_image != "all":
            self.captions_per_image = int(self.captions_per_image)
            if self.captions_per_image < 1:
                raise ConfigurationError(
                    f"captions_per_image must be 'all' or at least 1, not {self.captions_per_image}."
                )
        self._rng: random.Random | None = None
        # As `CaptionPipeline` does it; a processor that does more than resize and normalise is used itself.
        self.preprocessor = ImagePreprocessor.find(self.processor)
        if self.language_model_text is not None:
            return
        self._prompt_ids(self.prompt)  # refuses what does not fit

    def _prompt_ids(self, prompt: str) -> list[int]:
        ids = list(self.processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else []
        if self.max_txt_len < len(ids) + 3:
            raise ConfigurationError(
                f"max_txt_len={self.max_txt_len} leaves no room for a caption: start, end and the prompt {prompt!r} "
                f"take {len(ids) + 2} tokens."
            )
        return ids

    def check_prompts(self, prompts: Iterable[str]) -> None:
        """Refuse prompts of single images that cannot be trained with.

        Raises:
            ConfigurationError: One is too long, or the captioner takes one prompt for all images.
        """
        for prompt in dict.fromkeys(prompts):
            if self.language_model_text is not None:
                raise ConfigurationError(
                    "BLIP-2 and InstructBLIP are trained with one prompt for all images: leave out the prompt "
                    f"template, or rename the column 'prompt' (the first is {prompt!r})."
                )
            self._prompt_ids(prompt)

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """
        Args:
            items (`Sequence[dict]`): Items of a [`BlipCaptionDataset`].

        Returns:
            `dict`: `pixel_values` `(images, 3, height, width)` in `float32` (`uint8` without `normalize`), or
            `image_states` `(images, patches + 1, hidden)`
            where the items bring them; `input_ids`, `attention_mask` and `labels`, each
            `(captions, length)`, absent where no image has captions; `caption_counts` `(images,)`; `indices`
            `(images,)`, the items' places in the dataset; `prompts` (`list[str]`, one per image), where any has a
            prompt of its own; and `unreadable` (`list` of `(image_id, reason)`), where
            an image was left out.

        Raises:
            DataError: An image has no caption among others that have.
        """
        readable = [item for item in items if item["image"] is not None or "image_states" in item]
        unreadable = [(item["image_id"], item["error"]) for item in items if "error" in item]
        if not readable:
            return {**self._batch_without_images(), "unreadable": unreadable}
        batch: dict[str, Any] = {"indices": torch.tensor([item["index"] for item in readable])}
        if all("image_states" in item for item in readable):
            batch["image_states"] = torch.stack([item["image_states"] for item in readable])
        else:
            batch["pixel_values"] = self._pixels([item["image"] for item in readable])
        if unreadable:
            batch["unreadable"] = unreadable
        captions = [self._choose(item["captions"]) for item in readable]
        batch["caption_counts"] = torch.tensor([len(texts) for texts in captions])
        prompts = [item.get("prompt", self.prompt) for item in readable]
        if any("prompt" in item for item in readable):
            self.check_prompts(prompts)
            batch["prompts"] = prompts
        if any(captions):
            without = [item["image_id"] for item, texts in zip(readable, captions, strict=True) if not texts]
            if without:
                raise DataError(f"The image {without[0]!r} has no caption to train on or to be compared with.")
            rows = [prompt for prompt, texts in zip(prompts, captions, strict=True) for _ in texts]
            batch |= self.encode([text for texts in captions for text in texts], len(readable), rows)
        return batch

    def _pixels(self, pictures: list[Any]) -> torch.Tensor:
        if self.preprocessor is not None:
            arrays = [self.preprocessor.to_array(picture) for picture in pictures]
            if self.normalize:
                return torch.from_numpy(self.preprocessor.normalize(arrays))
            return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        return self.processor.image_processor(images=pictures, return_tensors="pt")["pixel_values"]

    def _batch_without_images(self) -> dict[str, Any]:
        """A batch of which no image can be decoded: one broken file must not end a run of small batches.

        In evaluation it is empty. In training all processes have to take part in a step: a black picture with an empty
        caption and no label adds nothing to the loss.
        """
        if not self.training:
            return {"indices": torch.tensor([], dtype=torch.long)}
        size = self.processor.image_processor.size
        black = Image.new("RGB", (size["width"], size["height"]))
        batch = {"pixel_values": self._pixels([black]), "indices": torch.tensor([-1]), **self.encode([""], images=1)}
        return {**batch, "labels": torch.full_like(batch["labels"], IGNORED), "caption_counts": torch.tensor([1])}

    def encode(
        self, texts: Sequence[str], images: int = 1, prompts: Sequence[str] | None = None
    ) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask` and `labels` of captions, one a row, padded on the right to the longest.

        Args:
            texts (`Sequence[str]`): The captions.
            images (`int`, defaults to 1): How many images they belong to (what is made once an image depends on it).
            prompts (`Sequence[str]`, *optional*): What each caption begins with; `prompt` by default.
        """
        if self.language_model_text is not None:
            return self.language_model_text.encode(texts, images)
        tokenizer = self.processor.tokenizer
        rows = [self.prompt] * len(texts) if prompts is None else prompts
        prompt_ids = {prompt: self._prompt_ids(prompt) for prompt in dict.fromkeys(rows)}
        # Truncated again below: the tokenizer knows nothing of the prompt's tokens.
        options = {"add_special_tokens": False, "truncation": True, "max_length": self.max_txt_len}
        words = tokenizer(list(texts), **options)["input_ids"]
        beginnings = [[self.start_token_id, *prompt_ids[prompt]] for prompt in rows]
        captions = [
            [*beginning, *ids[: self.max_txt_len - len(beginning) - 1], tokenizer.sep_token_id]
            for beginning, ids in zip(beginnings, words, strict=True)
        ]
        longest = max(map(len, captions))
        # BLIP's positions are absolute and counted from the left: padding there would move every word.
        ids = torch.tensor([[*row, *[tokenizer.pad_token_id] * (longest - len(row))] for row in captions])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in captions])
        labels = ids.masked_fill(mask == 0, IGNORED)
        for row, beginning in enumerate(beginnings):
            labels[row, : len(beginning)] = IGNORED
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def _choose(self, captions: Sequence[str]) -> Sequence[str]:
        if not self.training or self.captions_per_image == "all" or len(captions) <= int(self.captions_per_image):
            return captions
        if self._rng is None:
            # Made in the worker: a copied generator would draw the same captions in each of them.
            info = torch.utils.data.get_worker_info()
            self._rng = random.Random(f"{self.seed}:{info.seed if info else 0}")
        return self._rng.sample(list(captions), int(self.captions_per_image))
