"""Training few parameters: LoRA, DoRA and QLoRA adapters, and merging them into the weights they were trained for."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch
from torch import nn

from ..errors import ConfigurationError, MissingExtraError
from .families import base_model, family_of

ADAPTERS = ("lora", "dora")
QUANTIZATIONS = ("8bit", "4bit")


def add_lora(model: nn.Module, lora: bool | str | dict[str, Any] | Any = True) -> nn.Module:
    """Put a low-rank adapter on a captioner, and make sure that it is there.

    Args:
        model (`nn.Module`): The captioner; its own weights are frozen.
        lora (`bool`, `str`, `dict` or [`peft.LoraConfig`], defaults to `True`): `True` or "lora" (Hu et al., 2021)
            takes rank 16, alpha 32, dropout 0.05 on the attention projections that suit the family; "dora" (Liu et
            al., 2024) learns direction and length of each weight apart. A `dict` changes single fields of
            [`peft.LoraConfig`]; its key `parts` names the parts of the model, such as `["qformer"]`.

    Returns:
        [`peft.PeftModel`]

    Raises:
        ConfigurationError: No module has a name among the targets, so that nothing would be trained.
    """
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if isinstance(lora, str) and lora not in ADAPTERS:
        raise ConfigurationError(f"There is no adapter {lora!r}; there are: {', '.join(ADAPTERS)}.")
    if isinstance(lora, LoraConfig):
        config = lora
    else:
        changes: dict[str, Any] = dict(lora) if isinstance(lora, dict) else {"use_dora": lora == "dora"}
        pattern = family_of(model).target_pattern(changes.pop("parts", None))
        fields = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": pattern}
        config = LoraConfig(**{**fields, **changes})
    if is_quantized(model):
        # Norms and embeddings to float32, and gradients for the inputs: without them checkpointing trains nothing.
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        _keep_trainable_on_cpu(model)
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigurationError(f"LoRA could not be attached: {str(error).strip().splitlines()[0]}.") from error
    if not attached_parameters(wrapped):
        raise ConfigurationError(f"LoRA was attached to nothing: no module is named {config.target_modules}.")
    return wrapped


def _keep_trainable_on_cpu(model: nn.Module) -> None:
    """Leave 4-bit weights in the form that has a backward pass.

    On a CPU with AVX-512 BF16, bitsandbytes repacks them at the first inference into one that has none: an evaluation
    before training, or between two epochs, would be the end of it.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def attached_parameters(model: nn.Module) -> list[str]:
    """The names of the adapter parameters that are trained; empty where no adapter is attached."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    # A tuner layer keeps the layer that it adapts under the name `base_layer`.
    return [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
        for name, value in module.named_parameters()
        if value.requires_grad and not name.startswith("base_layer.")
    ]


def merge_adapter(model: nn.Module) -> nn.Module:
    """The captioner with its adapter added into its weights: a whole model again, with equal outputs.

    Args:
        model ([`peft.PeftModel`]): A captioner with an adapter. It is changed and must not be used any more.

    Returns:
        `nn.Module`: The captioner, to be saved with `save_pretrained`; it loads in stock `transformers`.

    Raises:
        ConfigurationError: There is no adapter, or the base is quantised: sums would be rounded to 4 or 8 bits.
    """
    if not hasattr(model, "merge_and_unload"):
        raise ConfigurationError("This captioner has no adapter to merge.")
    if is_quantized(model):
        raise ConfigurationError(
            "The base of this adapter is quantised, and merging would round its outputs. Load the saved adapter with "
            "load_captioner(folder, quantization=None), which puts it on the base in full precision, and merge that."
        )
    merged = model.merge_and_unload(safe_merge=True)
    merged.requires_grad_(True)
    return merged


def is_quantized(model: nn.Module) -> bool:
    """Whether weights are kept in 4 or 8 bits."""
    return bool(getattr(base_model(model), "is_quantized", False))


def quantization_config(quantization: str, compute_dtype: torch.dtype = torch.float32) -> Any:
    """How weights are kept in few bits (`transformers.BitsAndBytesConfig`).

    Args:
        quantization (`str`): "8bit" (LLM.int8(), Dettmers et al., 2022) or "4bit" (NF4 with double quantisation, as
            QLoRA, Dettmers et al., 2023).
        compute_dtype (`torch.dtype`, defaults to `torch.float32`): What 4-bit weights are multiplied in.

    Raises:
        ConfigurationError: There is no such quantisation.
        MissingExtraError: bitsandbytes is not installed.
    """
    if quantization not in QUANTIZATIONS:
        raise ConfigurationError(f"There is no quantisation {quantization!r}; there are: {', '.join(QUANTIZATIONS)}.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "quant", "keep weights in 4 or 8 bits")
    from transformers import BitsAndBytesConfig

    # The output layer turns small differences into other words; it stays as it is, as does what is tied to it.
    kept = [
        "text_decoder.cls",
        "text_decoder.cls.predictions.decoder",
        "language_model.lm_head",
        "language_projection",
    ]
    if quantization == "8bit":
        # At every layer of every step it says that LLM.int8() computes in float16, which is what was asked for.
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype,
        llm_int8_skip_modules=kept,
    )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained. Packed 4-bit weights count as what they stand for."""
    total = trained = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        count = state.shape.numel() if state is not None and parameter.dtype == torch.uint8 else parameter.numel()
        total += count
        trained += count if parameter.requires_grad else 0
    return total, trained
