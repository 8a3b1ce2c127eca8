"""Captions of images that have prompts of their own: images are encoded together, and decoded prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..errors import ConfigurationError
from .decoding import DecodedImage, DecodingOptions, encode_images, evaluating, generate_captions, prompt_tokens
from .families import base_model
from .graphs import DecodingGraphs


def generate_with_prompts(
    model: nn.Module,
    processor: Any,
    pixel_values: torch.Tensor | None,
    options: DecodingOptions,
    prompts: Sequence[str] | None = None,
    *,
    image_states: torch.Tensor | None = None,
    graphs: DecodingGraphs | None = None,
) -> list[DecodedImage]:
    """What [`generate_captions`] does, with a prompt per image.

    Images of one prompt are decoded together. Where every image has another prompt, decoding takes as many passes as
    there are images; encoding, which takes most of the time, takes one.

    Args:
        model, processor, pixel_values, image_states: As in [`generate_captions`].
        options ([`DecodingOptions`]): How to decode; `prompt` is that of all images if there are no `prompts`.
        prompts (`Sequence[str]`, *optional*): One per image.
        graphs ([`DecodingGraphs`], *optional*): Used where one prompt serves all: for each prompt and number of images
            another recording would be made.

    Returns:
        `list[DecodedImage]`: One per image, in their order.

    Raises:
        ConfigurationError: There are not as many prompts as images.
    """
    if prompts is None:
        return generate_captions(model, processor, pixel_values, options, image_states=image_states, graphs=graphs)
    given = pixel_values if image_states is None else image_states
    images = 0 if given is None else len(given)
    if len(prompts) != images:
        raise ConfigurationError(f"There are {len(prompts)} prompts for {images} images: give one per image.")
    distinct = list(dict.fromkeys(prompts))
    if len(distinct) <= 1:
        same = options.with_changes(prompt=distinct[0]) if distinct else options
        return generate_captions(model, processor, pixel_values, same, image_states=image_states, graphs=graphs)
    if image_states is None:
        captioner = base_model(model)
        with evaluating(captioner):
            image_states = encode_images(captioner, pixel_values)
    decoded: dict[int, DecodedImage] = {}
    for prompt in distinct:
        rows = [row for row, own in enumerate(prompts) if own == prompt]
        some = generate_captions(
            model, processor, None, options.with_changes(prompt=prompt), image_states=image_states[rows]
        )
        decoded.update(zip(rows, some, strict=True))
    return [decoded[row] for row in range(images)]


def room_for_prompt(model: nn.Module, options: DecodingOptions) -> int | None:
    """The most tokens that a prompt can have beside `max_new_tokens`; `None` where the model sets no limit.

    Args:
        model (`nn.Module`): The captioner, wrapped or not.
        options ([`DecodingOptions`]): How it will be decoded.
    """
    config = base_model(model).config
    if config.model_type != "blip":
        return None
    return config.text_config.max_position_embeddings - 1 - options.max_new_tokens


def prompt_as_written(processor: Any, prompt: str, text: str, tokens: Sequence[int]) -> str | None:
    """The prompt as it stands at the beginning of a decoded text; `None` where the text has none.

    Tokenizers write it otherwise than it was given: in lower case, with other spaces, without unknown words.

    Args:
        processor (`ProcessorMixin`): The captioner's.
        prompt (`str`): The prompt, as it was given.
        text (`str`): The decoded text.
        tokens (`Sequence[int]`): Its new tokens.
    """
    new = processor.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()
    if text.endswith(new):
        return text[: len(text) - len(new)].strip() or None
    # The first new token goes on with the last word of the prompt.
    written = processor.tokenizer.decode(prompt_tokens(processor, prompt), skip_special_tokens=True).strip()
    return written if written and text.startswith(written) else None


def prompted_texts(model: nn.Module, prompt: str, captions: Sequence[str]) -> list[str]:
    """Captions as [`score_texts`] takes them: behind their prompt for BLIP, which reads both as one text.

    Args:
        model (`nn.Module`): The captioner, wrapped or not.
        prompt (`str`): The prompt.
        captions (`Sequence[str]`): n captions without it.
    """
    if not prompt or base_model(model).config.model_type != "blip":
        return list(captions)
    # Prompt and caption are never one word, as they are split into tokens separately in training.
    return [f"{prompt.rstrip()} {caption}" for caption in captions]
