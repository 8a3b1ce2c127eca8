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
from .base import Proposal
from .language import PromptedRefiner

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
        variables, style, guards, strict, cache, retries: As in [`PromptedRefiner`].
        batch_size (`int`, defaults to 16): Captions a batch.
        max_new_tokens (`int`, *optional*): The most tokens of an answer; by default twice the tokens of the longest
            draft of the batch and 16 more.
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
        guards: Guards | str | bool | None = True,
        strict: bool = False,
        cache: AnswerCache | str | os.PathLike | None = None,
        retries: int = 1,
        batch_size: int = 16,
        max_new_tokens: int | None = None,
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
            guards=guards,
            strict=strict,
            cache=cache,
            retries=retries,
        )
        if batch_size < 1:
            raise ConfigurationError(f"`batch_size` must be at least 1, not {batch_size}.")
        if quantization is not None and quantization not in QUANTIZATIONS:
            raise ConfigurationError(f"`quantization` must be 4bit or 8bit, not {quantization!r}.")
        self.batch_size, self.max_new_tokens, self.seed = batch_size, max_new_tokens, seed
        self.device, self.dtype, self.quantization = device, dtype, quantization
        self.generation = dict(generation or {})
        self.name = f"instruct:{Path(model).name if model.endswith('.gguf') else model}"
        self._loaded: tuple[Any, Any] | None = None

    def settings(self) -> dict[str, Any]:
        return {
            **super().settings(),
            "max_new_tokens": self.max_new_tokens,
            "dtype": self.dtype,
            "quantization": self.quantization,
            "generation": self.generation,
            "seed": self.seed if self.generation.get("do_sample") else None,
        }

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer; loaded the first time.

        Raises:
            ModelError: There is no such model, or it is no chat model.
            MissingExtraError: What the file needs is not installed.
        """
        if self._loaded is None:
            self._loaded = _load(self.model, self.device, self.dtype, self.quantization)
        return self._loaded

    def check(self) -> None:
        self.load()

    def propose_each(
        self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]
    ) -> Iterator[tuple[int, Proposal]]:
        _, tokenizer = self.load()
        texts = [
            tokenizer.apply_chat_template(
                self._fitting(tokenizer, self._messages(request, reason)), tokenize=False, add_generation_prompt=True
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
        longest = max(len(ids) for ids in tokenizer(drafts, add_special_tokens=False)["input_ids"])
        options = {
            "do_sample": False,
            "num_beams": 1,
            "max_new_tokens": self.max_new_tokens or 2 * longest + 16,
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
        proposals = []
        for row, mask in zip(output, encoded["attention_mask"], strict=True):
            answer = row[prompt_length:]
            written = int((answer != tokenizer.pad_token_id).sum())
            text = tokenizer.decode(answer, skip_special_tokens=True)
            proposals.append(self._proposal(text, tokens=int(mask.sum()) + written, latency=latency))
        return proposals

    def close(self) -> None:
        super().close()
        self._loaded = None


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
