"""BART, or any other sequence-to-sequence model, as a fuser: several captions of one image in, one sentence out.

A summarizer is trained to shorten several sentences into one. Given a single ten-word caption, and a configuration
that asks for 56 tokens, it can only invent. So it is given all candidates, and lengths that follow from them. The
other order, one caption in and one out (`mode="single"`), is there to be measured.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, ModelError
from ..records import RefineRequest
from .base import Proposal, Refiner
from .consensus import candidates_of

if TYPE_CHECKING:
    from .cache import AnswerCache
    from .guards import Guards

DEFAULT_MODEL = "facebook/bart-large-cnn"
MODES = ("fuse", "single")
CANDIDATES = 5
"""Captions per image that fusing asks for."""


class BartRefiner(Refiner):
    """Fuses the candidates of an image into one sentence, or rewrites a single caption.

    Args:
        model (`str`, defaults to `"facebook/bart-large-cnn"`): A sequence-to-sequence model: a folder or a Hub id.
        mode (`str`, defaults to `"fuse"`): "fuse" joins all candidates of an image; a request with nothing but its
            draft keeps it. "single" gives the model the draft alone, as caption-then-summarize pipelines do.
        guards (`Guards`, `str` or `bool`, defaults to `True`): As in [`Refiner`].
        cache: As in [`Refiner`].
        batch_size (`int`, defaults to 8): Images a batch.
        num_beams (`int`, defaults to 4): Beams.
        prefix (`str`, defaults to `""`): What some models want before their input ("summarize: " for T5).
        most_candidates (`int`, defaults to 8): How many candidates are given to the model, the draft first.
        device (`str`, *optional*): Defaults to CUDA where there is one, then MPS, then the CPU.
        dtype (`str`, *optional*): Defaults to what the checkpoint was saved in.
    """

    asks_again = False

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        mode: str = "fuse",
        guards: Guards | str | bool | None = True,
        cache: AnswerCache | str | os.PathLike | None = None,
        batch_size: int = 8,
        num_beams: int = 4,
        prefix: str = "",
        most_candidates: int = 8,
        device: str | None = None,
        dtype: str | None = None,
    ):
        super().__init__(guards=guards, cache=cache)
        if batch_size < 1 or num_beams < 1 or most_candidates < 2:
            raise ConfigurationError("`batch_size` and `num_beams` are at least 1, `most_candidates` at least 2.")
        if mode not in MODES:
            raise ConfigurationError(f"`mode` is {' or '.join(map(repr, MODES))}, not {mode!r}.")
        self.mode = mode
        self.needs_candidates = 1 if mode == "single" else min(CANDIDATES, most_candidates)
        self.model, self.batch_size, self.num_beams, self.prefix = model, batch_size, num_beams, prefix
        self.most_candidates, self.device, self.dtype = most_candidates, device, dtype
        self.name = f"bart:{model}" + (",mode=single" if mode == "single" else "")
        self._loaded: tuple[Any, Any] | None = None

    def settings(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "mode": self.mode,
            "num_beams": self.num_beams,
            "prefix": self.prefix,
            "most_candidates": self.most_candidates,
            "dtype": self.dtype,
        }

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer; loaded the first time.

        Raises:
            ModelError: There is no such model, or it is none of sequences to sequences.
        """
        if self._loaded is None:
            self._loaded = _load(self.model, self.device, self.dtype)
        return self._loaded

    def check(self) -> None:
        self.load()

    def propose_each(
        self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]
    ) -> Iterator[tuple[int, Proposal]]:
        # Equal candidates say the same: the model sees each text once.
        most, enough = (1, 1) if self.mode == "single" else (self.most_candidates, 2)
        pools = [list(dict.fromkeys(candidates_of(request)))[:most] for request in requests]
        alone = "there is nothing to fuse: the request has no candidates besides the draft"
        for place, pool in enumerate(pools):
            if len(pool) < enough:
                yield place, Proposal(None, reason=alone, keeps_draft=True)
        order = sorted(
            (k for k, pool in enumerate(pools) if len(pool) >= enough), key=lambda k: sum(map(len, pools[k]))
        )
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            yield from zip(places, self._fuse([pools[k] for k in places]), strict=True)

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        answers = dict(self.propose_each(requests, feedback))
        return [answers[place] for place in range(len(requests))]

    def _fuse(self, pools: list[list[str]]) -> list[Proposal]:
        import torch

        model, tokenizer = self.load()
        texts = [self.prefix + " ".join(_sentence(text) for text in pool) for pool in pools]
        # A tokenizer may not know how many positions its model has.
        room = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", 1024))
        encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=room)
        encoded = encoded.to(model.device)
        # Special tokens are not counted: lengths are those of the captions themselves.
        lengths = [len(ids) for pool in pools for ids in tokenizer(pool, add_special_tokens=False)["input_ids"]]
        options = copy.deepcopy(model.generation_config)
        options.update(
            min_new_tokens=max(1, min(lengths) // 2),
            max_new_tokens=max(lengths) + 8,
            num_beams=self.num_beams,
            do_sample=False,
            early_stopping=self.num_beams > 1,
            no_repeat_ngram_size=3,
            length_penalty=1.0,
        )
        started = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(
                input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"], generation_config=options
            )
        latency = (time.perf_counter() - started) / len(pools)
        proposals = []
        for row, mask in zip(output, encoded["attention_mask"], strict=True):
            text = " ".join(tokenizer.decode(row, skip_special_tokens=True).split())
            tokens = int(mask.sum()) + int((row != model.config.pad_token_id).sum())
            proposals.append(
                Proposal(text or None, raw=text, reason=None if text else "empty", tokens=tokens, latency=latency)
            )
        return proposals

    def close(self) -> None:
        super().close()
        self._loaded = None


def _sentence(text: str) -> str:
    """One caption as a sentence of its own."""
    text = " ".join(text.split())
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def _load(model: str, device: str | None, dtype: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if dtype is not None and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ConfigurationError(f"torch has no dtype {dtype!r}; there are: float32, bfloat16, float16.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        loaded = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=getattr(torch, dtype) if dtype else "auto")
    except (OSError, ValueError, KeyError) as error:
        told = " ".join(str(error).split()).rstrip(".")
        raise ModelError(
            f"The sequence-to-sequence model {model!r} cannot be loaded: {told}. Name a folder that holds it "
            "(bart:FOLDER), or download it first."
        ) from error
    # The checkpoint's own lengths are those of a news summary: they go, whatever they are.
    loaded.generation_config.min_length = loaded.generation_config.max_length = None
    return loaded.to(device).eval(), tokenizer
