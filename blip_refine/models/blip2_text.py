"""What BLIP-2 and InstructBLIP read and write: image tokens, prompt and caption, in training as in decoding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import ConfigurationError
from .decoding import DecodedImage, DecodingOptions
from .loss import IGNORED
from .vision_encoder import encode_images


class LanguageModelText:
    """Puts image tokens, prompt and caption together as the language model of a captioner takes them.

    Training and decoding share the beginning of the sequence token by token. Nothing is left to the tokenizer's own
    idea of start and end: the start token is the language model's, the end token the one that decoding stops at.

    Args:
        model (`nn.Module`): A BLIP-2 or InstructBLIP captioner, unwrapped.
        processor (`ProcessorMixin`): The one that belongs to it.
        prompt (`str`, defaults to `""`): What comes before every caption.
        max_txt_len (`int`, defaults to 40): Longest caption in tokens, with prompt, start and end.

    Raises:
        ConfigurationError: `max_txt_len` leaves no room after the prompt.
    """

    def __init__(self, model: Any, processor: Any, prompt: str = "", max_txt_len: int = 40):
        config, tokenizer = model.config, processor.tokenizer
        self.processor, self.prompt, self.max_txt_len = processor, prompt, max_txt_len
        self.decoder_only = config.use_decoder_only_language_model
        self.image_ids = [config.image_token_id] * config.num_query_tokens
        self.prompt_ids = _tokens(tokenizer, prompt) if prompt else []
        self.end_id = _end_token(model)
        self.pad_id = _first(config.text_config.pad_token_id, tokenizer.pad_token_id, self.end_id)
        self.start_ids = (
            [] if not self.decoder_only else [_first(getattr(config.text_config, "bos_token_id", None), self.end_id)]
        )
        self.has_qformer_text = getattr(processor, "qformer_tokenizer", None) is not None
        if max_txt_len < len(self.prompt_ids) + 3:
            raise ConfigurationError(
                f"max_txt_len={max_txt_len} leaves no room for a caption: start, end and the prompt {prompt!r} take "
                f"{len(self.prompt_ids) + 2} tokens."
            )

    @property
    def beginning(self) -> list[int]:
        """What is read before the first token of a caption is written."""
        ending = [] if self.decoder_only else [self.end_id]
        return [*self.image_ids, *self.start_ids, *self.prompt_ids, *ending]

    def encode(self, texts: Sequence[str], images: int) -> dict[str, torch.Tensor]:
        """Captions as tensors.

        Args:
            texts (`Sequence[str]`): The captions.
            images (`int`): How many images they belong to.

        Returns:
            `dict`: `input_ids`, `attention_mask` `(captions, length)` and `labels`, of the same length for a
            decoder-only language model; padded on the right; and what the Q-Former reads, `(images, length)`.
        """
        room = self.max_txt_len - len(self.prompt_ids) - 2
        captions = [[*_tokens(self.processor.tokenizer, text)[:room], self.end_id] for text in texts]
        beginning = self.beginning
        if self.decoder_only:
            ids = _pad([[*beginning, *caption] for caption in captions], self.pad_id)
            labels = _pad([[IGNORED] * len(beginning) + caption for caption in captions], IGNORED)
            mask = _pad([[1] * (len(beginning) + len(caption)) for caption in captions], 0)
        else:
            ids, labels = torch.tensor([beginning] * len(captions)), _pad(captions, IGNORED)
            mask = torch.ones_like(ids)
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, **self.qformer_inputs(images)}

    def qformer_inputs(self, images: int) -> dict[str, torch.Tensor]:
        """The prompt as InstructBLIP's Q-Former reads it, a row an image; nothing for BLIP-2."""
        if not self.has_qformer_text:
            return {}
        ids = self.processor.qformer_tokenizer(self.prompt)["input_ids"]
        rows = torch.tensor([ids] * images)
        return {"qformer_input_ids": rows, "qformer_attention_mask": torch.ones_like(rows)}


def generate_captions_by_language_model(
    model: Any,
    processor: Any,
    pixel_values: torch.Tensor | None,
    options: DecodingOptions,
    image_states: torch.Tensor | None = None,
) -> list[DecodedImage]:
    """Caption images with the language model's own `generate`, from the image tokens and the prompt alone.

    Args:
        model (`nn.Module`): A BLIP-2 or InstructBLIP captioner, unwrapped.
        processor (`ProcessorMixin`): The one that belongs to it.
        pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`): Prepared images.
        options ([`DecodingOptions`]): How to decode.
        image_states (`torch.Tensor` of shape `(images, patches + 1, hidden)`, *optional*): The vision encoder's
            output, in the place of `pixel_values`.

    Raises:
        ConfigurationError: An option that these families do not have here.
    """
    if options.num_beam_groups > 1:
        raise ConfigurationError(
            "Diverse beam search (`num_beam_groups`, the preset 'candidates') is there for BLIP alone. For several "
            "captions of BLIP-2 or InstructBLIP, raise `num_return_sequences` with 'accurate' or 'creative'."
        )
    text = LanguageModelText(model, processor, options.prompt, max_txt_len=len(options.prompt) + 40)
    if image_states is None:
        assert pixel_values is not None
        image_states = encode_images(model, pixel_values)
    images, device = len(image_states), image_states.device
    ids = torch.tensor([text.beginning] * images, device=device)
    features = model.image_tokens(
        image_states, **{name: rows.to(device) for name, rows in text.qformer_inputs(images).items()}
    )
    embeddings = model.get_input_embeddings()(ids)
    places = (ids == model.config.image_token_id).unsqueeze(-1)
    inputs = {"inputs_embeds": embeddings.masked_scatter(places, features.to(embeddings.dtype))}
    if options.seed is not None:
        torch.manual_seed(options.seed)
    generated = model.language_model.generate(
        **inputs,
        attention_mask=torch.ones_like(ids),
        return_dict_in_generate=True,
        output_logits=True,
        eos_token_id=text.end_id,
        pad_token_id=text.pad_id,
        **_generation_arguments(options, processor),
    )
    log_probs = model.language_model.compute_transition_scores(
        generated.sequences,
        tuple(logits.float() for logits in generated.logits),
        getattr(generated, "beam_indices", None),
        normalize_logits=True,
    )
    found = []
    # An encoder-decoder's sequences begin with the decoder's start token; the others hold what is new alone.
    first = 0 if text.decoder_only else 1
    for row, row_log_probs in zip(generated.sequences[:, first:].tolist(), log_probs.tolist(), strict=True):
        length = row.index(text.end_id) + 1 if text.end_id in row else len(row)
        words = processor.tokenizer.decode(row[:length], skip_special_tokens=True).strip()
        found.append((words, sum(row_log_probs[:length]) / length, tuple(row[:length])))
    n = options.num_return_sequences
    return [
        DecodedImage(*(tuple(column) for column in zip(*found[k : k + n], strict=True)))
        for k in range(0, len(found), n)
    ]


def _generation_arguments(options: DecodingOptions, processor: Any) -> dict[str, Any]:
    names = ["num_beams", "max_new_tokens", "do_sample", "num_return_sequences", "repetition_penalty"]
    if options.num_beams > 1:
        names += ["length_penalty", "early_stopping"]
    if options.do_sample:
        names += ["temperature", "top_k", "top_p"]
    arguments = {name: getattr(options, name) for name in names}
    # What a checkpoint's own generation_config asks for must not mix with what was asked for here.
    arguments |= {"min_length": 0, "no_repeat_ngram_size": options.no_repeat_ngram_size}
    if options.min_new_tokens:
        arguments["min_new_tokens"] = options.min_new_tokens
    if options.bad_words:
        arguments["bad_words_ids"] = [_tokens(processor.tokenizer, word) for word in options.bad_words]
    return arguments


def _end_token(model: Any) -> int:
    """Where decoding stops: `generation_config` knows it better than the tokenizer (BLIP-2 on OPT stops at a line
    end)."""
    for holder in (model.generation_config, model.language_model.generation_config, model.config.text_config):
        end = getattr(holder, "eos_token_id", None)
        if end is not None:
            return end[0] if isinstance(end, list) else end
    raise ConfigurationError("This captioner does not say at which token a caption ends: set generation_config.")


def _first(*values: int | None) -> int:
    return next(value for value in values if value is not None)


def _tokens(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _pad(rows: list[list[int]], value: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
