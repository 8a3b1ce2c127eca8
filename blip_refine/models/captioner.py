"""Loading a captioner: weights and processor that fit each other, from a folder, the Hub, or the embedded starter."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, BlipProcessor

from ..errors import ConfigurationError, ModelError
from .attention import use_attention
from .blip import BlipForConditionalGeneration

STARTER = "starter"
LORA_TARGETS = ("query", "key", "value", "qkv")
"""The projections of BLIP's attention: three in the text decoder, self and cross, and a fused one in the encoder."""


def resolve_checkpoint(name_or_path: str | os.PathLike) -> str:
    """The place that `transformers` loads from: "starter" stands for the checkpoint inside this package."""
    if str(name_or_path) == STARTER and not Path(STARTER).exists():
        return str(Path(__file__).resolve().parent.parent / "starter")
    return str(name_or_path)


def load_captioner(
    name_or_path: str | os.PathLike = STARTER,
    *,
    lora: bool | dict[str, Any] | Any = False,
    freeze_vision: bool = False,
    image_size: int | None = None,
    attention: str = "sdpa",
    dtype: torch.dtype | str | None = "float32",
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[nn.Module, BlipProcessor]:
    """Load a BLIP captioner and its processor, ready to train or to caption.

    Args:
        name_or_path (`str` or `os.PathLike`, defaults to `"starter"`): A folder, a model id of the Hub, or "starter".
            A folder or id that holds a LoRA adapter loads its base and puts the adapter on.
        lora (`bool`, `dict` or [`peft.LoraConfig`], defaults to `False`): Train a low-rank adapter instead of the
            weights. `True` takes rank 16, alpha 32, dropout 0.05 on every attention projection; a `dict` changes
            single fields of that.
        freeze_vision (`bool`, defaults to `False`): Do not train the vision encoder.
        image_size (`int`, *optional*): Side of the pictures in pixels, a multiple of the patch size. Where it is not
            what the checkpoint was trained on, the position table is interpolated (bicubic), and model and processor
            are both set to it.
        attention (`str`, defaults to `"sdpa"`): "sdpa" (fast, same weights, same output) or "eager" (the stock code).
        dtype (`torch.dtype` or `str`, *optional*, defaults to `"float32"`): Of the weights; `None` keeps the file's.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        token (`str` or `bool`, *optional*): For a private repository. By default the one saved by `hf auth login`.

    Returns:
        `tuple`: The model, a [`BlipForConditionalGeneration`] or a [`peft.PeftModel`] around one, in evaluation mode,
        and its [`BlipProcessor`].

    Raises:
        ModelError: There is no such model, it is not a BLIP captioner, or its files do not fit one another.
        ConfigurationError: `image_size` is not a multiple of the patch size, or LoRA found nothing to attach to.
    """
    place = resolve_checkpoint(name_or_path)
    hub = {"revision": revision, "token": token}
    adapter = _read_adapter_config(place)
    if adapter is not None:
        if lora:
            raise ConfigurationError(f"{name_or_path} is a LoRA adapter already; load it without lora=True.")
        return _load_adapter(place, adapter, name_or_path, image_size, attention, dtype, hub)
    try:
        config = AutoConfig.from_pretrained(place, **hub)
        if config.model_type != "blip":
            raise ModelError(
                f"{name_or_path} is a {config.model_type!r} model; load_captioner loads BLIP captioners such as "
                "'Salesforce/blip-image-captioning-base'."
            )
        model = BlipForConditionalGeneration.from_pretrained(
            place, dtype=dtype or "auto", use_safetensors=_prefers_safetensors(place), **hub
        )
        processor = BlipProcessor.from_pretrained(place, **hub)
    except (OSError, ValueError) as error:
        raise ModelError(explain_loading_error(name_or_path, error)) from error
    use_attention(model, attention)
    if image_size is not None:
        resize_image_input(model, processor, image_size)
    check_image_size(model, processor)
    _check_vocabulary(model, processor, name_or_path)
    if freeze_vision:
        freeze_vision_encoder(model)
    if lora:
        model = add_lora(model, lora)
    return model.eval(), processor


def _prefers_safetensors(place: str) -> bool:
    """Never unpickle: a pickled checkpoint can run code when it is loaded."""
    if not Path(place).is_dir():
        return True
    if list(Path(place).glob("*.safetensors")):
        return True
    pickles = sorted(path.name for path in Path(place).glob("*.bin"))
    if pickles:
        raise ModelError(
            f"{place} holds {pickles[0]} and no safetensors. Pickled weights can run code when they are loaded, and "
            "are refused: convert them once, where you trust them, with `model.save_pretrained(folder)`."
        )
    return True


def explain_loading_error(name_or_path: str | os.PathLike, error: Exception) -> str:
    """One plain sentence for what `from_pretrained` could not do."""
    path = Path(str(name_or_path))
    if path.is_dir():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        return (
            f"The folder {str(path)!r} is not a whole BLIP checkpoint ({_first_line(error)}). It holds: {found}. "
            "Needed are config.json, model.safetensors and the processor's files."
        )
    looks_like_path = (
        path.is_absolute() or str(name_or_path).startswith((".", "~")) or str(name_or_path).count("/") > 1
    )
    if looks_like_path:
        return f"There is no folder {str(name_or_path)!r}."
    text = str(error).lower()
    if "gated" in text or "401" in text or "403" in text:
        return f"The Hub does not let you read {name_or_path!r}: accept its terms there, then run `hf auth login`."
    if "offline" in text or "connect" in text or "resolve" in text or "couldn't" in text or "cached" in text:
        return (
            f"{name_or_path!r} is neither a folder here nor in the local cache, and the Hub cannot be reached. Check "
            "the name and the network (and HF_HUB_OFFLINE), or use 'starter', which needs no network."
        )
    return (
        f"There is no model {name_or_path!r}: it is neither a folder here nor a repository of the Hub that you can "
        f"read ({_first_line(error)}). 'starter' is the one that needs no network."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def check_image_size(model: nn.Module, processor: BlipProcessor) -> None:
    """Refuse a processor that makes pictures of another size than the model's position table was made for.

    Stock BLIP takes a smaller picture without a word and gives its patches the positions of others.

    Raises:
        ModelError: The sizes differ.
    """
    expected = model.config.vision_config.image_size
    size = processor.image_processor.size
    height, width = size["height"], size["width"]
    if (height, width) != (expected, expected):
        raise ModelError(
            f"The processor makes pictures of {width}x{height} pixels and the model expects {expected}x{expected}. "
            f"Load both with load_captioner(..., image_size={expected}) or image_size={height}, which fits the model."
        )


def _check_vocabulary(model: nn.Module, processor: BlipProcessor, name_or_path: str | os.PathLike) -> None:
    """Refuse a tokenizer whose words are missing, which `transformers` makes up silently, or are another model's."""
    known, embedded = len(processor.tokenizer), model.config.text_config.vocab_size
    if known <= len(processor.tokenizer.all_special_tokens):
        raise ModelError(f"{name_or_path} has no vocabulary: tokenizer.json (or vocab.txt) is missing.")
    if known > embedded:
        raise ModelError(
            f"The tokenizer of {name_or_path} knows {known} tokens and the model only {embedded}: the vocabulary is "
            "that of another model."
        )


@torch.no_grad()
def resize_image_input(model: nn.Module, processor: BlipProcessor, image_size: int) -> None:
    """Make model and processor take pictures of another size, in place.

    The grid of position embeddings is interpolated bicubically, as in Dosovitskiy et al. 2021 (ViT), section 3.2.

    Args:
        model ([`BlipForConditionalGeneration`]): The captioner.
        processor ([`BlipProcessor`]): Its processor.
        image_size (`int`): The new side in pixels, a multiple of the patch size.

    Raises:
        ConfigurationError: It is not a multiple of the patch size.
    """
    vision = model.config.vision_config
    if image_size <= 0 or image_size % vision.patch_size:
        raise ConfigurationError(
            f"image_size must be a multiple of the patch size, {vision.patch_size} pixels; it was {image_size}."
        )
    if image_size != vision.image_size:
        embeddings = model.vision_model.embeddings
        table = embeddings.position_embedding
        old, new = vision.image_size // vision.patch_size, image_size // vision.patch_size
        grid = table[:, 1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
        grid = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
        grid = grid.permute(0, 2, 3, 1).reshape(1, new * new, -1).to(table.dtype)
        embeddings.position_embedding = nn.Parameter(torch.cat([table[:, :1], grid], dim=1))
        embeddings.num_patches, embeddings.num_positions = new * new, new * new + 1
        embeddings.image_size = vision.image_size = image_size
    processor.image_processor.size = {"height": image_size, "width": image_size}


def freeze_vision_encoder(model: nn.Module) -> None:
    """Stop training the vision encoder, in place."""
    base_model(model).vision_model.requires_grad_(False)


def add_lora(model: nn.Module, lora: bool | dict[str, Any] | Any) -> nn.Module:
    """Put a LoRA adapter on a captioner, and make sure that it is there.

    Args:
        model ([`BlipForConditionalGeneration`]): The captioner; its own weights are frozen.
        lora (`bool`, `dict` or [`peft.LoraConfig`]): See [`load_captioner`].

    Returns:
        [`peft.PeftModel`]

    Raises:
        ConfigurationError: No module has a name among the targets, so that nothing would be trained.
    """
    from peft import LoraConfig, get_peft_model

    if isinstance(lora, LoraConfig):
        config = lora
    else:
        fields = {"r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "target_modules": list(LORA_TARGETS)}
        config = LoraConfig(**{**fields, **(lora if isinstance(lora, dict) else {})})
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise ConfigurationError(f"LoRA could not be attached: {_first_line(error)}.") from error
    if not any("lora_" in name and parameter.requires_grad for name, parameter in wrapped.named_parameters()):
        raise ConfigurationError(f"LoRA was attached to nothing: no module is named {config.target_modules}.")
    return wrapped


def base_model(model: nn.Module) -> nn.Module:
    """The BLIP model inside adapters and wrappers."""
    get_base = getattr(model, "get_base_model", None)
    return get_base() if callable(get_base) else model


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters, and those that are trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def _read_adapter_config(place: str) -> dict[str, Any] | None:
    """The adapter's configuration where the place is a folder that holds an adapter and no whole model."""
    folder = Path(place)
    path = folder / "adapter_config.json"
    if not path.is_file() or (folder / "config.json").is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _load_adapter(place, adapter, name_or_path, image_size, attention, dtype, hub) -> tuple[nn.Module, BlipProcessor]:
    from peft import PeftModel

    base_name = adapter.get("base_model_name_or_path")
    if not base_name:
        raise ModelError(f"The adapter in {name_or_path} does not say which model it belongs to.")
    model, processor = load_captioner(base_name, attention=attention, dtype=dtype, image_size=image_size)
    if any((Path(place) / name).is_file() for name in PROCESSOR_FILES):
        processor = BlipProcessor.from_pretrained(place)
    try:
        wrapped = PeftModel.from_pretrained(model, place)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The adapter in {name_or_path} does not fit its base {base_name}: {error}") from error
    check_image_size(model, processor)
    return wrapped.eval(), processor


PROCESSOR_FILES: Sequence[str] = ("processor_config.json", "preprocessor_config.json")
