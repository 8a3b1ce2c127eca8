"""A local chat model as a refiner: whatever `transformers` can load and has a chat template, GGUF files included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, MissingExtraError, ModelError, RefinerError
from ..records import RefineRequest
from .answers import THOUGHT
from .base import Proposal
from .language import PromptedRefiner
from .reasoning import (
    LOCAL_THOUGHT_TOKENS,
    check_effort,
    check_max_output_tokens,
    check_temperature,
    describe_cut_off,
    without_thought,
)

if TYPE_CHECKING:
    from .cache import AnswerCache
    from .guards import Guards
    from .prompts import PromptTemplate, Style

QUANTIZATIONS = ("4bit", "8bit")


class InstructRefiner(PromptedRefiner):
    """Asks a local chat model: batched, padded on the left, greedy unless told otherwise. Loaded when first needed.

    Args:
        model (`str`): A folder, a Hub id, or a `.gguf` file (extra `gguf`).
        prompt (`str`, `os.PathLike` or `PromptTemplate`, defaults to `"correct"`): `"correct"` (grammar, small
            changes), `"fuse"` (several candidates into one), `"refine"`, or a path.
        variables, style, instruction, guards, strict, cache, retries: As in [`PromptedRefiner`].
        batch_size (`int`, defaults to 16): Captions a batch.
        max_output_tokens (`int`, *optional*): The most tokens of an answer; by default twice the tokens of the longest
            draft of the batch and 16 more, and 2,048 on top where the chat template knows thoughts. An answer that
            reaches the limit without an end token is cut off: the draft stands, and counts as unanswered.
        temperature (`float`, *optional*): Sample at this temperature; by default, and at 0, decoding is greedy.
        reasoning_effort (`str`, *optional*): "none", "minimal", "low", "medium", "high" or "xhigh", for chat templates
            with `reasoning_effort`; those with `enable_thinking` alone tell "none" from the rest.
        device (`str`, *optional*): Defaults to CUDA where there is one, then MPS, then the CPU.
        dtype (`str`, *optional*): `"float32"`, `"bfloat16"`, ...; defaults to what the checkpoint was saved in.
        quantization (`str`, *optional*): `"4bit"` or `"8bit"` (extra `quant`).
        generation (`Mapping[str, Any]`, *optional*): More options of `generate`, such as `{"do_sample": True,
            "temperature": 0.7}`. With sampling, `seed` makes a run repeatable.
        seed (`int`, defaults to 0): What sampling is seeded with, before every batch.
    """

    def __init__(
        self,
        model: str,
        *,
        prompt: str | os.PathLike | PromptTemplate = "correct",
        variables: Mapping[str, Any] | None = None,
        style: str | Style | None = None,
        instruction: str | None = None,
        guards: Guards | str | bool | None = True,
        strict: bool = False,
        cache: AnswerCache | str | os.PathLike | None = None,
        retries: int = 1,
        batch_size: int = 16,
        max_output_tokens: int | None = None,
        temperature: float | None = None,
        reasoning_effort: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        quantization: str | None = None,
        generation: Mapping[str, Any] | None = None,
        seed: int = 0,
    ):
        super().__init__(
            model,
            prompt=prompt,
            variables=variables,
            style=style,
            instruction=instruction,
            guards=guards,
            strict=strict,
            cache=cache,
            retries=retries,
        )
        if batch_size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, not {batch_size}.")
        if quantization is not None and quantization not in QUANTIZATIONS:
            raise ConfigurationError(f"`quantization` must be 4bit or 8bit, not {quantization!r}.")
        check_max_output_tokens(max_output_tokens)
        check_temperature(temperature)
        check_effort(reasoning_effort)
        if temperature is not None and generation and {"temperature", "do_sample"} & set(generation):
            raise ConfigurationError("Give the temperature once: by `temperature` or in `generation`.")
        self.batch_size, self.max_output_tokens, self.seed = batch_size, max_output_tokens, seed
        self.reasoning_effort = reasoning_effort
        self.device, self.dtype, self.quantization = device, dtype, quantization
        self.generation = dict(generation or {})
        if temperature:
            self.generation |= {"do_sample": True, "temperature": float(temperature)}
        self.name = f"instruct:{Path(model).name if model.endswith('.gguf') else model}"
        # In a container of its own: a copy with another instruction loads nothing anew.
        self._loaded: list[tuple[Any, Any]] = []

    def settings(self) -> dict[str, Any]:
        settings = {
            **super().settings(),
            "max_new_tokens": self.max_output_tokens,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "generation": self.generation,
            "seed": self.seed if self.generation.get("do_sample") else None,
        }
        return settings if self.reasoning_effort is None else {**settings, "reasoning_effort": self.reasoning_effort}

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer; loaded the first time.

        Raises:
            ModelError: There is no such model, or it is no chat model.
            ConfigurationError: The model knows no reasoning effort, and one is asked for.
            MissingExtraError: What the file needs is not installed.
        """
        if not self._loaded:
            loaded = _load(self.model, self.device, self.dtype, self.quantization)
            self._thinking(loaded[1])
            self._loaded.append(loaded)
        return self._loaded[0]

    def _thinking(self, tokenizer: Any) -> dict[str, Any]:
        """What the chat template is told about thinking."""
        template = str(tokenizer.chat_template or "")
        if self.reasoning_effort is None:
            return {}
        if "reasoning_effort" in template:
            return {"reasoning_effort": self.reasoning_effort}
        if "enable_thinking" in template:
            return {"enable_thinking": self.reasoning_effort != "none"}
        raise ConfigurationError(
            f"The chat template of {self.model!r} knows no reasoning effort: `reasoning_effort` cannot act."
        )

    def _room(self, tokenizer: Any, drafts: list[str]) -> int:
        """The most tokens of an answer to these drafts."""
        if self.max_output_tokens is not None:
            return self.max_output_tokens
        longest = max(len(ids) for ids in tokenizer(drafts, add_special_tokens=False)["input_ids"])
        template = str(tokenizer.chat_template)
        thinks = any(mark in template for mark in ("<think>", "enable_thinking", "reasoning_effort"))
        return 2 * longest + 16 + (LOCAL_THOUGHT_TOKENS if thinks and self.reasoning_effort != "none" else 0)

    def check(self) -> None:
        self.load()

    def propose_each(
        self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]
    ) -> Iterator[tuple[int, Proposal]]:
        _, tokenizer = self.load()
        texts = [
            tokenizer.apply_chat_template(
                self._fitting(tokenizer, self._messages(request, reason)),
                tokenize=False,
                add_generation_prompt=True,
                **self._thinking(tokenizer),
            )
            for request, reason in zip(requests, feedback, strict=True)
        ]
        # Texts of about one length together: little padding, little waiting for the longest answer.
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            answers = self._generate([texts[k] for k in places], [requests[k].draft for k in places])
            yield from zip(places, answers, strict=True)

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        answers = dict(self.propose_each(requests, feedback))
        return [answers[place] for place in range(len(requests))]

    @staticmethod
    def _fitting(tokenizer: Any, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """`messages` as the model's chat template takes them: some know no system message."""
        if messages[0]["role"] != "system" or "system" in (tokenizer.chat_template or ""):
            return messages
        first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
        return [first, *messages[2:]]

    def _generate(self, texts: list[str], drafts: list[str]) -> list[Proposal]:
        import torch

        model, tokenizer = self.load()
        # The template has written the special tokens already.
        encoded = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
        options = {
            "do_sample": False,
            "num_beams": 1,
            "max_new_tokens": self._room(tokenizer, drafts),
            "pad_token_id": tokenizer.pad_token_id,
            **self.generation,
        }
        if not options["do_sample"]:
            # A checkpoint's own sampling settings would only draw warnings.
            options = {"temperature": None, "top_p": None, "top_k": None, **options}
        else:
            torch.manual_seed(self.seed)
        started = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(**encoded, **options)
        latency = (time.perf_counter() - started) / len(texts)
        prompt_length = encoded["input_ids"].shape[1]
        limit, ends = options["max_new_tokens"], _end_tokens(model, tokenizer)
        proposals = []
        for row, mask in zip(output, encoded["attention_mask"], strict=True):
            answer = row[prompt_length:]
            written = int((answer != tokenizer.pad_token_id).sum())
            text = tokenizer.decode(answer, skip_special_tokens=True)
            facts: dict[str, Any] = {"tokens": int(mask.sum()) + written, "latency": latency}
            ended = not ends or len(answer) < limit or bool(ends.intersection(answer.tolist()))
            lost_in_thought = THOUGHT.search(text) is not None and not without_thought(text)
            if ended and not lost_in_thought:
                proposals.append(self._proposal(text, **facts))
            else:
                proposals.append(self._cut_off(text, describe_cut_off(limit, lost_in_thought), **facts))
        return proposals

    def close(self) -> None:
        super().close()
        self._loaded.clear()


def _end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """The tokens that end an answer; padding stands behind an answer that has ended."""
    known = model.generation_config.eos_token_id
    ends = {known} if isinstance(known, int) else set(known or ())
    return ends | {tokenizer.pad_token_id} if ends else set()


def _load(model: str, device: str | None, dtype: str | None, quantization: str | None) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {}
    place: str | Path = model
    if model.endswith(".gguf"):
        path = Path(model)
        if not path.is_file():
            raise ModelError(f"There is no model file {model!r}.")
        if find_spec("gguf") is None:
            raise MissingExtraError("gguf", "gguf", "read a .gguf file")
        place, options["gguf_file"] = path.parent, path.name
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if dtype is not None and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ConfigurationError(f"torch has no dtype {dtype!r}; there are: float32, bfloat16, float16.")
    weights: dict[str, Any] = {"dtype": getattr(torch, dtype) if dtype else "auto"}
    if quantization is not None:
        weights |= {"quantization_config": _quantization_config(quantization), "device_map": device}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, padding_side="left", **options)
        loaded = AutoModelForCausalLM.from_pretrained(place, **options, **weights)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"The chat model {model!r} cannot be loaded: {error}") from error
    if not tokenizer.chat_template:
        raise RefinerError(
            f"The model {model!r} has no chat template: it is not an instruction-tuned model. Take one that is."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if quantization is None:
        loaded = loaded.to(device)
    return loaded.eval(), tokenizer


def _quantization_config(quantization: str) -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quant", f"load a model in {quantization}")
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
