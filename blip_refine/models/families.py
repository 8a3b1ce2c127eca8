"""What differs between the families of captioners, stated once: BLIP, BLIP-2 and InstructBLIP.

BLIP starts a caption from `text_config.bos_token_id` (`[DEC]`), takes the prompt for the decoder's first tokens, ends
with `[SEP]`, and reads the image by cross-attention. Once an image: the vision encoder.

BLIP-2 and InstructBLIP read the image as 32 tokens of a Q-Former, put before the prompt. On OPT and Vicuna one
language model reads both and goes on with the caption; on Flan-T5 the encoder reads both and the decoder writes the
caption from its own start token. The end token is that of `generation_config`. Once an image: encoder, Q-Former,
projection. InstructBLIP also hands the prompt to its Q-Former.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import nn

from ..errors import ModelError


@dataclass(frozen=True)
class CaptionFamily:
    """One family of captioners.

    Args:
        model_type (`str`): As in `config.json`.
        title (`str`): What people call it.
        lora_targets (`Mapping[str, tuple[str, ...]]`): The linear layers of the attention, by the part of the model
            (the name of the submodule) that they are in.
        lora_parts (`tuple[str, ...]`): The parts that LoRA goes on unless told otherwise.
        vision_by_default (`bool`): Whether the vision encoder is trained unless told otherwise.
    """

    model_type: str
    title: str
    lora_targets: Mapping[str, tuple[str, ...]]
    lora_parts: tuple[str, ...]
    vision_by_default: bool

    def target_pattern(self, parts: Sequence[str] | None = None) -> str:
        """The regular expression, over full module names, of what LoRA is put on.

        Args:
            parts (`Sequence[str]`, *optional*): Some of `lora_targets`; `lora_parts` by default.

        Raises:
            ModelError: There is no such part.
        """
        patterns = []
        for part in parts or self.lora_parts:
            if part not in self.lora_targets:
                known = ", ".join(self.lora_targets)
                raise ModelError(f"{self.title} has no part {part!r} to put LoRA on; it has: {known}.")
            patterns.append(rf"(?:.*\.)?{part}\..*\.(?:{'|'.join(self.lora_targets[part])})")
        return "|".join(patterns)


_LANGUAGE_MODEL = ("q_proj", "k_proj", "v_proj", "out_proj", "o_proj", "q", "k", "v", "o")
_QFORMER = ("query", "key", "value")

FAMILIES: Mapping[str, CaptionFamily] = {
    family.model_type: family
    for family in (
        CaptionFamily(
            "blip",
            "BLIP",
            {"text_decoder": ("query", "key", "value"), "vision_model": ("qkv",)},
            ("text_decoder", "vision_model"),
            True,
        ),
        CaptionFamily(
            "blip-2",
            "BLIP-2",
            {"language_model": _LANGUAGE_MODEL, "qformer": _QFORMER, "vision_model": ("qkv",)},
            ("language_model", "qformer"),
            False,
        ),
        CaptionFamily(
            "instructblip",
            "InstructBLIP",
            {"language_model": _LANGUAGE_MODEL, "qformer": _QFORMER, "vision_model": ("qkv",)},
            ("language_model", "qformer"),
            False,
        ),
    )
}


def base_model(model: nn.Module) -> Any:
    """The captioner inside PEFT, `torch.compile` and data-parallel wrappers; adapters stay in effect."""
    while True:
        inner: Any = extract_model_from_parallel(model, keep_fp32_wrapper=True, keep_torch_compile=False)
        if callable(getattr(inner, "get_base_model", None)):
            inner = inner.get_base_model()
        if inner is model:
            return model
        model = inner


def family_of(model: nn.Module) -> CaptionFamily:
    """The family that a captioner belongs to.

    Raises:
        ModelError: It is no captioner of a known family.
    """
    model_type = getattr(getattr(base_model(model), "config", None), "model_type", None)
    if model_type not in FAMILIES:
        raise ModelError(f"A {model_type!r} model is not one of the captioners: {', '.join(FAMILIES)}.")
    return FAMILIES[str(model_type)]


def vision_layers(model: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The embeddings and the layers of the vision encoder, first to last."""
    vision = base_model(model).vision_model
    return vision.embeddings, list(vision.encoder.layers)


def text_layers(model: nn.Module) -> tuple[nn.Module, list[nn.Module]]:
    """The embeddings and the layers of what writes the caption, first to last."""
    captioner = base_model(model)
    if hasattr(captioner, "text_decoder"):
        return captioner.text_decoder.bert.embeddings, list(captioner.text_decoder.bert.encoder.layer)
    decoder = captioner.language_model.get_decoder()
    layers = getattr(decoder, "layers", None) or decoder.block
    return captioner.language_model.get_input_embeddings(), list(layers)
