"""`log p(text | image)` under BLIP-2 and InstructBLIP; see `scoring.py`, which hands it on to here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .blip2_text import LanguageModelText
from .loss import IGNORED


def log_probs_by_language_model(
    captioner: Any,
    processor: Any,
    pixel_values: torch.Tensor,
    texts: Sequence[Sequence[str]],
    prompt: str,
    batch_size: int,
) -> list[list[tuple[float, int]]]:
    """Score texts as the language model of a captioner reads them. The captioner must be in evaluation.

    Args:
        captioner (`nn.Module`): A BLIP-2 or InstructBLIP captioner of this package, unwrapped.
        processor (`ProcessorMixin`): The one that belongs to it.
        pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`): Prepared images.
        texts (`Sequence[Sequence[str]]`): For each image its texts, without the prompt.
        prompt (`str`): What the language model is given before each text.
        batch_size (`int`): Texts it is given at once.

    Returns:
        `list[list[tuple[float, int]]]`: For each image and text the summed natural log-probability of its tokens, the
        end token included, and their number.
    """
    longest = max((len(text) for of_image in texts for text in of_image), default=0)
    # A token is at least a character: nothing is cut off.
    reader = LanguageModelText(captioner, processor, prompt, max_txt_len=len(prompt) + longest + 8)
    patches = captioner.vision_model.embeddings.patch_embedding.weight
    found: list[list[tuple[float, int]]] = [[] for _ in texts]
    for image, chosen in _pieces(texts, batch_size):
        encoded = {name: rows.to(patches.device) for name, rows in reader.encode(chosen, images=1).items()}
        # Of shape (texts,): the summed loss of each.
        losses = captioner(
            pixel_values=pixel_values[image : image + 1].to(patches.device, patches.dtype),
            caption_counts=torch.tensor([len(chosen)]),
            loss_only=True,
            per_caption=True,
            **encoded,
        ).loss
        counts = (encoded["labels"] != IGNORED).sum(1)
        found[image] += [(-loss, count) for loss, count in zip(losses.tolist(), counts.tolist(), strict=True)]
    return found


def _pieces(texts: Sequence[Sequence[str]], batch_size: int) -> Iterator[tuple[int, Sequence[str]]]:
    for image, of_image in enumerate(texts):
        for first in range(0, len(of_image), batch_size):
            yield image, of_image[first : first + batch_size]
