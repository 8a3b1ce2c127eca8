"""Loading a captioner: weights and processor that fit each other, from a folder, the Hub, or the embedded starter."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, BlipProcessor, ProcessorMixin

from ..errors import BlipRefineError, ConfigurationError, ModelError
from .adapters import add_lora as add_lora
from .adapters import count_parameters as count_parameters
from .adapters import quantization_config
from .families import FAMILIES
from .families import base_model as base_model
from .freezing import freeze_vision_encoder as freeze_vision_encoder
from .hub_files import hub_has
from .other_names import refuse_other_captioner
from .pickled_weights import with_safetensors
from .saved_defaults import load_defaults, read_defaults
from .stock_check import difference_from_stock

logger = logging.getLogger(__name__)

STARTER = "starter"


def resolve_checkpoint(name_or_path: str | os.PathLike) -> str:
    """The place that `transformers` loads from: "starter" stands for the checkpoint inside this package."""
    if str(name_or_path) == STARTER and not Path(STARTER).exists():
        return str(Path(__file__).resolve().parent.parent / "starter")
    return str(name_or_path)


def load_captioner(
    name_or_path: str | os.PathLike = STARTER,
    *,
    lora: bool | str | dict[str, Any] | Any = False,
    freeze_vision: bool = False,
    image_size: int | None = None,
    dtype: torch.dtype | str | None = "float32",
    quantization: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[nn.Module, ProcessorMixin]:
    """Load a captioner (BLIP, BLIP-2 or InstructBLIP) and its processor, ready to train or to caption.

    Args:
        name_or_path (`str` or `os.PathLike`, defaults to `"starter"`): A folder, a model id of the Hub, or "starter".
            A folder or id that holds a LoRA adapter loads its base and puts the adapter on.
        lora (`bool`, `str`, `dict` or [`peft.LoraConfig`], defaults to `False`): Train a low-rank adapter instead of
            the weights: `True` or "lora", "dora", or changes of single fields; see [`add_lora`].
        freeze_vision (`bool`, defaults to `False`): Do not train the vision encoder.
        image_size (`int`, *optional*): Side of the pictures in pixels, a multiple of the patch size. Where it is not
            what the checkpoint was trained on, the position table is interpolated (bicubic), and model and processor
            are both set to it.
        dtype (`torch.dtype` or `str`, *optional*, defaults to `"float32"`): Of the weights; `None` keeps the file's.
        quantization (`str`, *optional*): "8bit" or "4bit": keep the weights of linear layers in few bits
            (bitsandbytes). They cannot be trained then; with `lora` this is QLoRA.
        device_map (`str` or `dict`, *optional*): Where which part goes, as `transformers` takes it ("auto"), for
            captioners that one device does not hold.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        token (`str` or `bool`, *optional*): For a private repository. By default the one saved by `hf auth login`.

    Returns:
        `tuple`: The model, one of [`captioner_class`] or a [`peft.PeftModel`] around it, in evaluation mode, and its
        processor.

    Raises:
        ModelError: There is no such model, it is not a captioner, or its files do not fit one another.
        ConfigurationError: `image_size` is not a multiple of the patch size, or LoRA found nothing to attach to.
        MissingExtraError: Quantisation was asked for, and bitsandbytes is not installed.
    """
    refuse_other_captioner(name_or_path)
    place = resolve_checkpoint(name_or_path)
    hub = {"revision": revision, "token": token}
    place = _adapter_from_hub(place, hub) or place
    adapter = _read_adapter_config(place)
    if adapter is not None:
        if lora:
            raise ConfigurationError(f"{name_or_path} is a LoRA adapter already; load it without lora=True.")
        loading = {"image_size": image_size, "dtype": dtype, "quantization": quantization}
        loading["device_map"] = device_map
        return _load_adapter(place, adapter, name_or_path, freeze_vision, loading)
    try:
        config = AutoConfig.from_pretrained(place, **hub)
        if config.model_type not in FAMILIES:
            raise ModelError(
                f"{name_or_path} is a {config.model_type!r} model; load_captioner loads captioners "
                f"({', '.join(FAMILIES)}) such as 'Salesforce/blip-image-captioning-base'."
            )
        trained = config.architectures or ["BlipForConditionalGeneration"]
        if not any(name.endswith("ForConditionalGeneration") for name in trained):
            # Its text decoder would be made up, without an error.
            raise ModelError(
                f"{name_or_path} is a {trained[0]}, which cannot caption: it has no text decoder for that."
            )
        model_class, processor_class = captioner_class(config.model_type)
        options: dict[str, Any] = {}
        if quantization is not None:
            compute = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype or "float32")
            options |= {"quantization_config": quantization_config(quantization, compute)}
            options |= {"device_map": {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"}}
        if device_map is not None:
            options["device_map"] = device_map
        weights = with_safetensors(place, hub)
        # Never unpickle: a pickled checkpoint can run code when it is loaded.
        model = model_class.from_pretrained(weights, dtype=dtype or "auto", use_safetensors=True, **options, **hub)
        if weights != place:
            # Adapters and results name the model, not the copy of its weights in the cache.
            model.name_or_path = model.config.name_or_path = place
        processor = processor_class.from_pretrained(place, **hub)
    except BlipRefineError:
        raise
    except SafetensorError as error:
        raise ModelError(_damaged(name_or_path, error)) from error
    except (OSError, ValueError) as error:
        raise ModelError(explain_loading_error(name_or_path, error)) from error
    if image_size is not None:
        resize_image_input(model, processor, image_size)
    check_image_size(model, processor)
    _check_vocabulary(model, processor, name_or_path)
    # 4-bit weights are repacked by the first inference on some CPUs, and cannot be trained afterwards.
    if device_map is None and quantization is None and (difference := difference_from_stock(model)):
        logger.warning(difference)
    if freeze_vision:
        freeze_vision_encoder(model)
    if lora:
        model = add_lora(model, lora)
    return model.eval(), processor


def captioner_class(model_type: str) -> tuple[Any, Any]:
    """The classes of model and processor of a family: ours, which carry the names of the stock ones.

    Args:
        model_type (`str`): As in `config.json`: "blip", "blip-2" or "instructblip".
    """
    import transformers

    if model_type == "blip":
        from .blip import BlipForConditionalGeneration

        return BlipForConditionalGeneration, BlipProcessor
    from .blip2 import Blip2ForConditionalGeneration, InstructBlipForConditionalGeneration

    if model_type == "blip-2":
        return Blip2ForConditionalGeneration, transformers.Blip2Processor
    return InstructBlipForConditionalGeneration, transformers.InstructBlipProcessor


def _damaged(name_or_path: str | os.PathLike, error: Exception) -> str:
    return (
        f"The weights of {str(name_or_path)!r} are damaged or cut short ({_first_line(error)}): copy or download the "
        "safetensors file again."
    )


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
        model ([`BlipForConditionalGeneration`] or [`BlipForImageTextRetrieval`]): The model.
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


def _adapter_from_hub(place: str, hub: dict[str, Any]) -> str | None:
    """The local copy of a repository that holds an adapter and no whole model; `None` for anything else."""
    if Path(place).is_dir():
        return None
    from huggingface_hub import snapshot_download

    try:
        if hub_has(place, "config.json", hub) or not hub_has(place, "adapter_config.json", hub):
            return None
        return snapshot_download(place, allow_patterns=["*.json", "*.safetensors", "vocab.txt"], **hub)
    except (OSError, ValueError):
        # No such repository, or no name of one: loading the model finds the same and says it plainly.
        return None


def _read_adapter_config(place: str) -> dict[str, Any] | None:
    """The adapter's configuration where the place is a folder that holds an adapter and no whole model."""
    folder = Path(place)
    path = folder / "adapter_config.json"
    if not path.is_file() or (folder / "config.json").is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({_first_line(error)}): copy or download it again.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path} does not describe an adapter: copy or download it again.")
    return config


def _load_adapter(place, adapter, name_or_path, freeze_vision, loading) -> tuple[nn.Module, ProcessorMixin]:
    from peft import PeftModel

    base_name = adapter.get("base_model_name_or_path")
    if not base_name:
        raise ModelError(f"The adapter in {name_or_path} does not say which model it belongs to.")
    image_size = loading.pop("image_size")
    model, processor = load_captioner(base_name, **loading)
    if any((Path(place) / name).is_file() for name in PROCESSOR_FILES):
        processor = type(processor).from_pretrained(place)
        size = processor.image_processor.size
        if image_size is None and size["height"] == size["width"]:
            # The base may have another size than the adapter was trained on; positions are interpolated as they were.
            image_size = size["height"]
    saved = read_defaults(place)
    if image_size is None and saved is not None:
        image_size = saved.image_size
    if image_size is not None:
        resize_image_input(model, processor, image_size)
    try:
        wrapped = PeftModel.from_pretrained(model, place)
    except SafetensorError as error:
        raise ModelError(_damaged(name_or_path, error)) from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The adapter in {name_or_path} does not fit its base {base_name}: {error}") from error
    check_image_size(model, processor)
    if freeze_vision:
        freeze_vision_encoder(wrapped)
    load_defaults(wrapped, place)
    # `config._name_or_path` is the base's: this says where the adapter, and what it was trained on, is to be found.
    wrapped.adapter_folder = str(place)
    return wrapped.eval(), processor


PROCESSOR_FILES: Sequence[str] = ("processor_config.json", "preprocessor_config.json")
