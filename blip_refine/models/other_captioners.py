"""Captioners of other families, as stock `transformers` has them: GIT, ViT-GPT2, Florence-2, SmolVLM, Qwen2-VL, ...

They are compared with ours and never trained here. Whatever `AutoModelForImageTextToText` knows is loaded; code that a
repository brings along is never run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ..errors import BlipRefineError, ModelError
from .adapters import quantization_config
from .captioner import explain_loading_error, resolve_checkpoint
from .pickled_weights import with_safetensors

DEFAULT_INSTRUCTION = "Describe this image in one short sentence."
"""What a chat model is asked."""

DEFAULT_PROMPTS = {"florence2": "<CAPTION>"}
"""What models of a family are asked that take a prompt and have no chat template."""


@dataclass(frozen=True)
class OtherCaptioner:
    """A loaded captioner of another family.

    Args:
        model (`nn.Module`): Of a stock class, in evaluation mode.
        processor: Its processor; for a `VisionEncoderDecoderModel` its image processor.
        tokenizer: Its tokenizer.
        family (`str`): `model_type` of its configuration ("git", "florence2", "qwen2_vl", ...).
        chats (`bool`): Whether it is asked by a chat template.
        revision (`str`, *optional*): The commit on the Hub that was loaded.
    """

    model: nn.Module
    processor: Any
    tokenizer: Any
    family: str
    chats: bool
    revision: str | None = None

    @property
    def default_prompt(self) -> str:
        """What the model is asked unless told otherwise; `""` if it needs no prompt."""
        return DEFAULT_INSTRUCTION if self.chats else DEFAULT_PROMPTS.get(self.family, "")

    @property
    def takes_prompt(self) -> bool:
        """Whether a prompt can change what it says."""
        return self.family != "vision-encoder-decoder"


def read_family(name: str, revision: str | None = None) -> Any:
    """The configuration of a captioner: found and understood before its weights are loaded.

    Args:
        name (`str`): A folder, or a model id of the Hub.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.

    Raises:
        ModelError: There is no such model, it is not a captioner, or it needs code of its own.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    try:
        config = AutoConfig.from_pretrained(resolve_checkpoint(name), revision=revision, trust_remote_code=False)
    except Exception as error:  # a stranger's configuration may raise anything
        raise ModelError(_explain(name, error)) from error
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelError(
            f"{name} is a {config.model_type!r} model, which transformers cannot ask for the caption of an image "
            "(AutoModelForImageTextToText)."
        )
    return config


def load_other_captioner(
    name: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype | str | None = "float32",
    device: torch.device | str | None = None,
    quantization: str | None = None,
) -> OtherCaptioner:
    """Load a captioner that is not one of ours, with stock classes.

    Args:
        name (`str`): A folder, or a model id of the Hub. Pickled weights are read as in [`load_captioner`].
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        dtype (`torch.dtype` or `str`, *optional*, defaults to `"float32"`): Of the weights; `None` keeps the file's.
        device (`torch.device` or `str`, *optional*): Where to put it; by default where it was loaded.
        quantization (`str`, *optional*): "8bit" or "4bit" weights (bitsandbytes).

    Raises:
        ModelError: There is no such model, it is not a captioner, it needs code of its own or a package that is not
            installed, or weights are missing.
    """
    from transformers import AutoModelForImageTextToText

    config, hub = read_family(name, revision), {"revision": revision}
    place = resolve_checkpoint(name)
    options: dict[str, Any] = {}
    if quantization is not None:
        compute = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype or "float32")
        options = {"quantization_config": quantization_config(quantization, compute)}
        options["device_map"] = {"": device if device is not None else "cpu"}
    try:
        weights = with_safetensors(place, {**hub, "token": None})
        # Never unpickle, and never run a repository's code.
        model, loading = AutoModelForImageTextToText.from_pretrained(
            weights,
            dtype=dtype or "auto",
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
            **({} if weights != place else hub),
        )
        processor, tokenizer = _load_processor(place, config.model_type, hub)
    except BlipRefineError:
        raise
    except SafetensorError as error:
        raise ModelError(f"The weights of {name!r} are damaged or cut short: download them again.") from error
    except Exception as error:  # a stranger's files may raise anything
        raise ModelError(_explain(name, error)) from error
    if missing := sorted(loading["missing_keys"]):
        # transformers fills them with random numbers, and captions would be noise.
        raise ModelError(
            f"{name} lacks {len(missing)} weights of transformers' {type(model).__name__}, such as {missing[0]!r}: it "
            "was saved for other code. Use a conversion for transformers (Florence-2: florence-community/...)."
        )
    if device is not None and quantization is None:
        model = model.to(device)
    chats = bool(getattr(processor, "chat_template", None))
    if chats:
        tokenizer.padding_side = "left"
    return OtherCaptioner(model.eval(), processor, tokenizer, config.model_type, chats, _commit(place, revision))


def _load_processor(place: str, family: str, hub: Mapping[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    if family == "vision-encoder-decoder":
        processor = AutoImageProcessor.from_pretrained(place, trust_remote_code=False, **hub)
        return processor, AutoTokenizer.from_pretrained(place, trust_remote_code=False, **hub)
    try:
        processor = AutoProcessor.from_pretrained(place, trust_remote_code=False, **hub)
    except ImportError:
        # Processors of SmolVLM2 and Qwen-VL want packages for videos, which captions of images do not.
        still = _still_processor(family)
        if still is None:
            raise
        processor = still.from_pretrained(place, **hub)
    return processor, processor.tokenizer


def _still_processor(family: str) -> Any:
    """A processor that makes the same of images as a family's own, and knows no videos; `None` if there is none."""
    from transformers import Idefics3Processor, ProcessorMixin, Qwen2VLProcessor

    if family == "smolvlm":
        return Idefics3Processor  # The layout of images is the same.
    if family not in ("qwen2_vl", "qwen2_5_vl"):
        return None

    class StillProcessor(Qwen2VLProcessor):
        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
            self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
            self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
            self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
            ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    return StillProcessor


def _commit(place: str, revision: str | None) -> str | None:
    """The commit of the files of a Hub model in the cache; `None` for a folder."""
    from huggingface_hub import hf_hub_download

    if Path(place).is_dir():
        return None
    return Path(hf_hub_download(place, "config.json", revision=revision)).parent.name


def _explain(name: str, error: Exception) -> str:
    """One plain sentence for what could not be loaded."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = (lines or [type(error).__name__])[0].rstrip(".")[:300]
    if "trust_remote_code" in str(error) or _brings_code(name):
        return (
            f"{name} needs code of its own, which is never run here: use a model that transformers knows "
            "(Florence-2: florence-community/...)."
        )
    if isinstance(error, ImportError):
        return f"The processor of {name} cannot be made: {first}. Install the package that it names."
    if Path(resolve_checkpoint(name)).is_dir() or not isinstance(error, (OSError, ValueError)):
        return f"Cannot load {name} as a captioner of transformers: {first}."
    return explain_loading_error(name, error)


def _brings_code(name: str) -> bool:
    """Whether a folder's configuration names code that it brings along."""
    path = Path(resolve_checkpoint(name)) / "config.json"
    try:
        return "auto_map" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
