"""How captions are decoded: options that cannot contradict each other, presets by name, and `generate_captions`.

`generate_captions` is given images and never text to predict: neither labels nor reference captions can reach it, so
that it is safe in the middle of training and in evaluation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from torch import nn
from transformers import (
    LogitsProcessorList,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..errors import ConfigurationError, ModelError
from .families import base_model
from .graphs import DecodingGraphs
from .search import BatchSearch, search
from .search_state import Vocabulary
from .text_decoder import StepDecoder
from .vision_encoder import beside, encode_images


@dataclass(frozen=True)
class DecodingOptions:
    """How to decode. Fields are those of `transformers.GenerationConfig` where it has them, with the same meaning.

    Args:
        num_beams (`int`, defaults to 5): Beams an image; 1 is greedy search, or sampling with `do_sample`.
        max_new_tokens (`int`, defaults to 30): The most tokens after the prompt, the end token included.
        min_new_tokens (`int`, defaults to 0): The end token is not chosen before this many tokens.
        length_penalty (`float`, defaults to 1.0): A finished beam's score is its summed log-probability divided by
            its number of new tokens to this power. Above 0 favours longer captions.
        early_stopping (`bool`, defaults to `True`): Stop an image when `num_beams` beams have finished; `False` goes
            on while a running beam's score, at its present length, is better than the worst finished one.
        do_sample (`bool`, defaults to `False`): Draw tokens instead of taking the most probable.
        temperature (`float`, defaults to 1.0): Logits are divided by it before drawing.
        top_k (`int`, defaults to 0): Draw among this many most probable tokens only; 0 for all.
        top_p (`float`, defaults to 1.0): Draw among the fewest most probable tokens that together have at least this
            probability (nucleus sampling, Holtzman et al., 2020).
        num_return_sequences (`int`, defaults to 1): Captions an image.
        repetition_penalty (`float`, defaults to 1.0): Scores of tokens that have occurred are divided by it where
            positive and multiplied where negative (CTRL, Keskar et al., 2019). 1 changes nothing.
        no_repeat_ngram_size (`int`, defaults to 0): No n-gram of this size occurs twice; 0 allows all.
        num_beam_groups (`int`, defaults to 1): Groups for diverse beam search (Vijayakumar et al., 2018). Divides
            `num_beams`.
        diversity_penalty (`float`, defaults to 0.0): Subtracted from the score of a token once for each beam of an
            earlier group that took it at the same step.
        bad_words (`tuple[str, ...]`, defaults to `()`): Words and phrases that no caption contains.
        prompt (`str`, defaults to `""`): What every caption begins with ("a photo of"). It is part of the text that
            comes back.
        seed (`int`, *optional*): For sampling. By default PyTorch's own generator is used as it stands.

    Raises:
        ConfigurationError: Options that cannot be, alone or together.
    """

    num_beams: int = 5
    max_new_tokens: int = 30
    min_new_tokens: int = 0
    length_penalty: float = 1.0
    early_stopping: bool = True
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    num_return_sequences: int = 1
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    bad_words: tuple[str, ...] = ()
    prompt: str = ""
    seed: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.bad_words, str):
            raise ConfigurationError(f"`bad_words` is a list of words; write [{self.bad_words!r}].")
        object.__setattr__(self, "bad_words", tuple(self.bad_words))
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise ConfigurationError(f"`{name}` must be a whole number of at least {lowest}, not {value!r}.")
        for problem in self._problems():
            raise ConfigurationError(problem)

    def _problems(self) -> Iterator[str]:
        if self.min_new_tokens > self.max_new_tokens:
            yield f"`min_new_tokens` ({self.min_new_tokens}) is above `max_new_tokens` ({self.max_new_tokens})."
        if not self.temperature > 0:
            yield f"`temperature` must be above 0, not {self.temperature}; for the most probable token, do not sample."
        if not 0 < self.top_p <= 1:
            yield f"`top_p` is a probability above 0 and at most 1, not {self.top_p}."
        if not self.repetition_penalty > 0:
            yield f"`repetition_penalty` must be above 0, not {self.repetition_penalty}; 1 changes nothing."
        if self.diversity_penalty < 0:
            yield f"`diversity_penalty` cannot be negative: {self.diversity_penalty}."
        if not self.do_sample:
            for name in ("temperature", "top_k", "top_p", "seed"):
                if getattr(self, name) != _DEFAULTS[name]:
                    yield f"`{name}` has no effect without `do_sample=True`."
            if self.num_beams == 1 and self.num_return_sequences > 1:
                yield "Greedy search finds one caption: raise `num_beams` or sample for several."
            if self.num_return_sequences > self.num_beams:
                yield (
                    f"{self.num_beams} beams cannot give {self.num_return_sequences} captions: raise `num_beams` or "
                    "lower `num_return_sequences`."
                )
        elif 1 < self.num_beams < self.num_return_sequences:
            yield f"{self.num_beams} beams cannot give {self.num_return_sequences} captions; sample with one beam."
        if self.num_beams == 1 and self.length_penalty != 1:
            yield "`length_penalty` has no effect with one beam: raise `num_beams`."
        if self.num_beam_groups > 1:
            if self.do_sample:
                yield "Diverse beam search does not sample: leave out `num_beam_groups` or `do_sample`."
            if self.num_beams % self.num_beam_groups:
                yield f"`num_beam_groups` ({self.num_beam_groups}) must divide `num_beams` ({self.num_beams})."
            if self.diversity_penalty == 0:
                yield "Without a `diversity_penalty` above 0 all groups of beams would find the same captions."
        elif self.diversity_penalty:
            yield "`diversity_penalty` has no effect without `num_beam_groups` above 1."

    @classmethod
    def preset(cls, name: str, **changes: Any) -> DecodingOptions:
        """Options by name: "accurate" (5 beams), "fast" (greedy), "creative" (nucleus sampling) or "candidates"
        (5 unlike captions an image by diverse beam search).

        Args:
            name (`str`): Which.
            **changes: Fields that are to differ from the preset.
        """
        if name not in PRESETS:
            raise ConfigurationError(f"There is no decoding preset {name!r}; there are: {', '.join(PRESETS)}.")
        unknown = sorted(set(changes) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigurationError(f"There is no decoding option {unknown[0]!r}.")
        return cls(**{**PRESETS[name], **changes})

    def with_changes(self, **changes: Any) -> DecodingOptions:
        """The same options with some fields changed."""
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Only the fields that differ from the defaults, for a record of how captions were made."""
        return {name: getattr(self, name) for name, default in _DEFAULTS.items() if getattr(self, name) != default}


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(DecodingOptions)}
_LOWEST = {
    "num_beams": 1,
    "max_new_tokens": 1,
    "min_new_tokens": 0,
    "top_k": 0,
    "num_return_sequences": 1,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "accurate": {},
    "fast": {"num_beams": 1, "max_new_tokens": 20},
    "creative": {"num_beams": 1, "do_sample": True, "top_p": 0.9},
    "candidates": {"num_beams": 10, "num_beam_groups": 5, "diversity_penalty": 0.5, "num_return_sequences": 5},
}


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """What was decoded for one image.

    Args:
        texts (`tuple[str, ...]`): Its captions, best first.
        log_probs (`tuple[float, ...]`): For each, the mean natural log-probability of its new tokens under the model
            itself (before temperature, penalties and bans), the end token included where it was reached.
        tokens (`tuple[tuple[int, ...], ...]`): For each, the new tokens, without prompt and padding.
    """

    texts: tuple[str, ...]
    log_probs: tuple[float, ...]
    tokens: tuple[tuple[int, ...], ...]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and gradients, and for one thread at a time: what is changed in the model for that is put back
    afterwards, and another thread must not work on it meanwhile."""
    with _LOCKS_LOCK:
        lock = _LOCKS.setdefault(model, threading.RLock())
    with lock:
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            for module in training:
                module.training = True


_LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_LOCKS_LOCK = threading.Lock()


def prompt_tokens(processor: Any, prompt: str) -> list[int]:
    """The tokens of a prompt, without the start and end that a tokenizer puts around a whole text."""
    return list(processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]) if prompt else []


def generate_captions(
    model: nn.Module,
    processor: Any,
    pixel_values: torch.Tensor | None,
    options: DecodingOptions | str = "accurate",
    *,
    image_states: torch.Tensor | None = None,
    graphs: DecodingGraphs | None = None,
) -> list[DecodedImage]:
    """Caption images.

    Args:
        model (`nn.Module`): The captioner, in training or not, wrapped by PEFT or not. It comes back as it was.
        processor (`ProcessorMixin`): The one that belongs to it.
        pixel_values (`torch.Tensor` of shape `(images, 3, height, width)`, *optional*): Prepared images.
        options (`DecodingOptions` or `str`, defaults to `"accurate"`): How to decode, or the name of a preset.
        image_states (`torch.Tensor` of shape `(images, patches + 1, hidden)`, *optional*): The vision encoder's
            output for them, in the place of `pixel_values`.
        graphs ([`DecodingGraphs`], *optional*): Where CUDA graphs of this captioner's decoding are kept from call to
            call. By default none are made.

    Returns:
        `list[DecodedImage]`: One for each image, in their order.

    Raises:
        ConfigurationError: Options that cannot be.
        ModelError: The images do not fit the model.
    """
    if isinstance(options, str):
        options = DecodingOptions.preset(options)
    if image_states is None:
        if pixel_values is None or pixel_values.ndim != 4:
            shape = None if pixel_values is None else tuple(pixel_values.shape)
            raise ModelError(f"`pixel_values` has the shape (images, channels, height, width), not {shape}.")
        if len(pixel_values) == 0:
            return []
    captioner = base_model(model)
    with evaluating(captioner):
        if not isinstance(captioner, transformers.BlipForConditionalGeneration):
            from .blip2_text import generate_captions_by_language_model

            return generate_captions_by_language_model(captioner, processor, pixel_values, options, image_states)
        states = encode_images(captioner, pixel_values) if image_states is None else image_states
        return _generate_shared(captioner, processor, states, options, graphs)


def _generate_shared(
    captioner: Any,
    processor: Any,
    states: torch.Tensor,
    options: DecodingOptions,
    graphs: DecodingGraphs | None,
) -> list[DecodedImage]:
    """By `search`, over image states that all rows of an image share."""
    config = captioner.config.text_config
    prompt = [config.bos_token_id, *prompt_tokens(processor, options.prompt)]
    room = config.max_position_embeddings - len(prompt)
    if options.max_new_tokens > room:
        raise ConfigurationError(
            f"The model has room for {room} tokens after the prompt, fewer than `max_new_tokens` "
            f"({options.max_new_tokens}): lower it or shorten the prompt."
        )
    rows = options.num_beams if options.num_beams > 1 else options.num_return_sequences
    states = beside(states, captioner.text_decoder.bert.embeddings.word_embeddings.weight)
    vocabulary = Vocabulary(end=config.sep_token_id, pad=config.pad_token_id)
    processors = _processors(processor, options, vocabulary.end, states.device)
    start = torch.tensor(prompt, device=states.device)

    def search_over(states: torch.Tensor, generator: torch.Generator | None = None) -> BatchSearch:
        decoder = StepDecoder(captioner, states, rows, options.max_new_tokens)
        return BatchSearch(decoder, start, options, vocabulary, processors, generator)

    found = None if graphs is None else graphs.search(captioner.text_decoder, states, options, search_over)
    if found is None:
        generator = None if options.seed is None else torch.Generator(states.device).manual_seed(options.seed)
        found = search(search_over(states, generator))
    texts = processor.tokenizer.batch_decode(
        [prompt + one.tokens for captions in found for one in captions], skip_special_tokens=True
    )
    following = (text.strip() for text in texts)
    return [
        DecodedImage(
            texts=tuple(next(following) for _ in captions),
            log_probs=tuple(one.log_prob / len(one.tokens) for one in captions),
            tokens=tuple(tuple(one.tokens) for one in captions),
        )
        for captions in found
    ]


def _processors(processor: Any, options: DecodingOptions, end: int, device: torch.device) -> LogitsProcessorList:
    """What changes the scores before a token is chosen, in the order in which `transformers` does it."""
    chain = LogitsProcessorList()
    if options.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(options.repetition_penalty))
    if options.no_repeat_ngram_size:
        chain.append(NoRepeatNGramLogitsProcessor(options.no_repeat_ngram_size))
    if options.bad_words:
        banned = [prompt_tokens(processor, word) for word in options.bad_words]
        chain.append(NoBadWordsLogitsProcessor(banned, eos_token_id=torch.tensor([end], device=device)))
    if options.do_sample:
        # Beams need a second token to go on with, should the first be the end.
        fewest = 2 if options.num_beams > 1 else 1
        if options.temperature != 1.0:
            chain.append(TemperatureLogitsWarper(options.temperature))
        if options.top_k:
            chain.append(TopKLogitsWarper(options.top_k, min_tokens_to_keep=fewest))
        if options.top_p < 1.0:
            chain.append(TopPLogitsWarper(options.top_p, min_tokens_to_keep=fewest))
    return chain
