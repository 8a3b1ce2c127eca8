"""How probable a text is for an image: `log p(text | image)`, and how much of that is owed to the image.

A caption that the decoder would write whatever it saw ("a person standing on a street") is probable and says nothing.
The difference `log p(text | image) - log p(text | no image)`, the pointwise mutual information of text and image,
is high where the image is what makes the text probable.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from ..errors import ConfigurationError, ModelError
from .decoding import evaluating, prompt_tokens
from .families import base_model
from .text_decoder import TextDecoder
from .vision_encoder import encode_images


@dataclass(frozen=True, slots=True)
class TextScore:
    """How probable a text is for an image.

    Args:
        log_prob (`float`): Natural log-probability of the text's tokens after the prompt, the end token included.
        tokens (`int`): How many these are.
        log_prob_without_image (`float`, *optional*): The same with an empty image in place of this one.
    """

    log_prob: float
    tokens: int
    log_prob_without_image: float | None = None

    @property
    def mean(self) -> float:
        """Mean log-probability of a token: what `CaptionPipeline` calls the confidence of a caption."""
        return self.log_prob / self.tokens

    @property
    def image_gain(self) -> float | None:
        """`log p(text | image) - log p(text | no image)`: how much the image explains, in nats."""
        return None if self.log_prob_without_image is None else self.log_prob - self.log_prob_without_image


def score_texts(
    model: nn.Module,
    processor: Any,
    pixel_values: torch.Tensor,
    texts: Sequence[Sequence[str]],
    *,
    prompt: str = "",
    without_image: bool = False,
    batch_size: int = 64,
) -> list[list[TextScore]]:
    """Score any texts against any images. Each image is encoded once for all its texts.

    Args:
        model (`nn.Module`): The captioner, wrapped by PEFT or not. It comes back as it was.
        processor (`ProcessorMixin`): The one that belongs to it.
        pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`): Prepared images.
        texts (`Sequence[Sequence[str]]`): For each image its texts, as many as there are. They are scored as they
            stand: a model whose tokenizer lower-cases does so here, too.
        prompt (`str`, defaults to `""`): What every text begins with; its tokens are given, not scored. The captions
            of BLIP-2 and InstructBLIP come without their prompt: there it is what the language model reads first.
        without_image (`bool`, defaults to `False`): Score each text without its image as well. "No image" is one of
            the mean colour of the training images (all zeros after normalization): BLIP was never trained without
            image states, and what it makes of none at all is noise.
        batch_size (`int`, defaults to 64): Texts the decoder is given at once.

    Returns:
        `list[list[TextScore]]`: For each image the scores of its texts, in their order.

    Raises:
        ModelError: The model is no captioner, or the images do not fit it.
        ConfigurationError: Texts and images do not belong together, or a text is too long or does not begin with
            `prompt`.
    """
    captioner = base_model(model)
    if len(texts) != len(pixel_values):
        raise ConfigurationError(f"There are {len(pixel_values)} images and texts for {len(texts)}.")
    if any(isinstance(of_image, str) for of_image in texts):
        raise ConfigurationError("`texts` holds a list of texts for each image; write [['a dog'], ['a cat']].")
    if not _is_blip(captioner):
        return _score_by_language_model(captioner, processor, pixel_values, texts, prompt, without_image, batch_size)
    start = [captioner.config.text_config.bos_token_id, *prompt_tokens(processor, prompt)]
    rows = [_tokens(captioner, processor, of_image, start) for of_image in texts]
    with evaluating(captioner):
        states = encode_images(captioner, pixel_values) if any(rows) else pixel_values
        given = _log_probs(captioner, states, rows, len(start), batch_size)
        without: list[list[float]] | None = None
        if without_image and any(rows):
            flat = [tokens for of_image in rows for tokens in of_image]
            answers = iter(_log_probs(captioner, _no_image(captioner), [flat], len(start), batch_size)[0])
            without = [[next(answers) for _ in of_image] for of_image in rows]
    return [
        [
            TextScore(given[image][k], len(tokens) - len(start), None if without is None else without[image][k])
            for k, tokens in enumerate(of_image)
        ]
        for image, of_image in enumerate(rows)
    ]


def score_without_image(
    model: nn.Module, processor: Any, texts: Sequence[str], *, prompt: str = "", batch_size: int = 64
) -> list[TextScore]:
    """`log p(text | no image)` of texts: how much of a caption is mere habit. See [`score_texts`].

    Args:
        model (`nn.Module`): The captioner.
        processor (`ProcessorMixin`): The one that belongs to it.
        texts (`Sequence[str]`): n texts.
        prompt (`str`, defaults to `""`): What every text begins with; its tokens are given, not scored.
        batch_size (`int`, defaults to 64): Texts the decoder is given at once.

    Returns:
        `list[TextScore]`: n scores; `log_prob` is the one without an image.
    """
    captioner = base_model(model)
    if not _is_blip(captioner):
        empty = _empty_image(captioner)
        (scores,) = _score_by_language_model(captioner, processor, empty, [texts], prompt, False, batch_size)
        return [replace(one, log_prob_without_image=one.log_prob) for one in scores]
    start = [captioner.config.text_config.bos_token_id, *prompt_tokens(processor, prompt)]
    rows = _tokens(captioner, processor, texts, start)
    if not rows:
        return []
    with evaluating(captioner):
        found = _log_probs(captioner, _no_image(captioner), [rows], len(start), batch_size)[0]
    return [TextScore(value, len(tokens) - len(start), value) for value, tokens in zip(found, rows, strict=True)]


def _is_blip(captioner: nn.Module) -> bool:
    """Whether it is BLIP itself and not one of the families with a language model."""
    if isinstance(captioner, transformers.BlipForConditionalGeneration):
        return True
    from .blip2 import GroupedCaptions

    if not isinstance(captioner, GroupedCaptions):
        raise ModelError(f"Texts are scored with captioners, and a {type(captioner).__name__} is none.")
    return False


def _score_by_language_model(
    captioner: Any,
    processor: Any,
    pixel_values: torch.Tensor,
    texts,
    prompt: str,
    without_image: bool,
    batch_size: int,
) -> list[list[TextScore]]:
    from .blip2_scoring import log_probs_by_language_model

    with evaluating(captioner):
        given = log_probs_by_language_model(captioner, processor, pixel_values, texts, prompt, batch_size)
        without: Iterator[float | None] = itertools.repeat(None)
        if without_image:
            flat = [text for of_image in texts for text in of_image]
            empty = _empty_image(captioner)
            (scores,) = log_probs_by_language_model(captioner, processor, empty, [flat], prompt, batch_size)
            without = iter([value for value, _ in scores])
    return [[TextScore(value, count, next(without)) for value, count in of_image] for of_image in given]


def _empty_image(captioner: Any) -> torch.Tensor:
    """A picture of the mean colour, `(1, 3, height, width)`."""
    size = captioner.config.vision_config.image_size
    return torch.zeros(1, 3, size, size)


def _no_image(captioner: Any) -> torch.Tensor:
    """The image states of an empty picture."""
    return encode_images(captioner, _empty_image(captioner))


def _tokens(captioner: Any, processor: Any, texts: Sequence[str], start: list[int]) -> list[list[int]]:
    """Each text from the start token to the end token."""
    config = captioner.config.text_config
    rows = []
    for text in texts:
        tokens = [start[0], *prompt_tokens(processor, text), config.sep_token_id]
        if tokens[: len(start)] != start:
            raise ConfigurationError(f"The text {text!r} does not begin with the prompt.")
        if len(tokens) > config.max_position_embeddings + 1:
            raise ConfigurationError(
                f"The text {text[:40]!r}... has {len(tokens)} tokens; the model reads "
                f"{config.max_position_embeddings}."
            )
        rows.append(tokens)
    return rows


def _log_probs(
    captioner: Any, states: torch.Tensor, rows: Sequence[Sequence[list[int]]], given: int, batch_size: int
) -> list[list[float]]:
    """For each image, and each of its token rows, the summed log-probability of the tokens after the first `given`."""
    results = [[math.nan] * len(of_image) for of_image in rows]
    for images, places in _batches(rows, batch_size):
        batch = [rows[image][place] for image, chosen in zip(images, places, strict=True) for place in chosen]
        values = iter(_score_rows(captioner, states[images], batch, given))
        for image, chosen in zip(images, places, strict=True):
            for place in chosen:
                results[image][place] = next(values)
    return results


def _batches(rows: Sequence[Sequence[list[int]]], batch_size: int) -> Iterator[tuple[list[int], list[Sequence[int]]]]:
    """Images, and for each of them the places of equally many of its rows: the form in which states are shared."""
    pieces: dict[int, list[tuple[int, Sequence[int]]]] = defaultdict(list)
    for image, of_image in enumerate(rows):
        # Rows of like length together: less padding.
        order = sorted(range(len(of_image)), key=lambda place: len(of_image[place]))
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            pieces[len(chosen)].append((image, chosen))
    for size, alike in pieces.items():
        alike.sort(key=lambda piece: max(len(rows[piece[0]][place]) for place in piece[1]))
        together = max(1, batch_size // size)
        for first in range(0, len(alike), together):
            batch = alike[first : first + together]
            yield [image for image, _ in batch], [chosen for _, chosen in batch]


def _score_rows(captioner: Any, states: torch.Tensor, rows: Sequence[list[int]], given: int) -> list[float]:
    """Teacher forcing over `(images, ...)` states and `n * images` token rows, those of an image together."""
    pad, device = captioner.config.text_config.pad_token_id, states.device
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [pad] * (longest - len(row)) for row in rows], device=device)
    lengths = torch.tensor([len(row) for row in rows], device=device)
    # Padding stands on the right, where no earlier token can see it.
    decoder = TextDecoder(captioner)
    hidden = decoder.read(tokens[:, :-1], states)[:, given - 1 :]
    targets = tokens[:, given:]
    wanted = torch.arange(given, longest, device=device)[None] < lengths[:, None]
    # The vocabulary is the widest tensor: logits are made only where a token is scored.
    losses = F.cross_entropy(decoder.logits(hidden[wanted]).float(), targets[wanted], reduction="none")
    sums = torch.zeros(targets.shape, device=device)
    sums[wanted] = -losses
    return sums.sum(1).tolist()
