"""The original `.pth` checkpoints of salesforce/BLIP and LAVIS, turned into a Hugging Face folder.

Both name the vision encoder's tensors as timm does (`visual_encoder.blocks.0.attn.qkv`) and those of the text model as
`transformers` does (`text_decoder.bert.encoder.layer.0...`, `text_encoder.encoder.layer.0...`). These names say what
a file holds, and the tensors say the sizes. The vision encoder's LayerNorm adds 1e-6 (`vit.py` of the original code),
where the configuration of `transformers` has 1e-5 by default.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BlipConfig, BlipForImageTextRetrieval, BlipImageProcessor, BlipProcessor

from ..errors import ConfigurationError, ModelError
from .blip import BlipForConditionalGeneration
from .captioner import resize_image_input
from .pickled_weights import read_pickle
from .stock_check import difference_from_stock

TOKENIZER = "google-bert/bert-base-uncased"
HEAD_WIDTH = 64
"""Of every BLIP: base has 12 heads over 768, large 16 over 1024."""

_PREFIXES = {
    "captioning": ("text_decoder.",),
    "matching": ("text_encoder.", "vision_proj.", "text_proj.", "itm_head."),
}
"""Beside the vision encoder, the parts that a converted model keeps. Their names stay."""

_RENAMED = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)


def convert_original(
    checkpoint: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    tokenizer: str = TOKENIZER,
    image_size: int | None = None,
) -> BlipForConditionalGeneration | BlipForImageTextRetrieval:
    """Convert an original checkpoint into a folder that this package and stock `transformers` load.

    Args:
        checkpoint (`str` or `os.PathLike`): A `.pth` file of salesforce/BLIP or LAVIS, base or large. A captioning or
            pre-training checkpoint becomes a captioner; a retrieval checkpoint becomes an image-text matching model.
            Momentum encoders and queues are left out.
        folder (`str` or `os.PathLike`): A new or empty folder.
        tokenizer (`str`, defaults to `"google-bert/bert-base-uncased"`): A folder or id of BERT's tokenizer, which the
            checkpoint does not hold.
        image_size (`int`, *optional*): Side of the pictures in pixels; positions are interpolated (bicubic). By
            default that of the checkpoint.

    Returns:
        [`BlipForConditionalGeneration`] or [`BlipForImageTextRetrieval`]: The model, in evaluation mode.

    Raises:
        ConfigurationError: The folder is not empty, or `image_size` is not a multiple of the patch size.
        ModelError: The file is not such a checkpoint (of question answering, for example), is damaged, or holds more
            than tensors and plain values; or the tokenizer cannot be loaded.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigurationError(f"{target} exists and is not an empty folder. Name a new one.")
    if not Path(checkpoint).is_file():
        raise ModelError(f"There is no file {str(checkpoint)!r}.")
    task, tensors = _read(Path(checkpoint))
    config = _config(Path(checkpoint), task, tensors)
    captions = task == "captioning"
    model = BlipForConditionalGeneration(config) if captions else BlipForImageTextRetrieval(config)
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        told = " ".join(str(error).split())[:200]
        raise ModelError(f"{checkpoint} is not a BLIP {task} model: sizes do not fit ({told}).") from error
    # Stored once or twice, by release of the original code; tied in the model.
    tied = {"text_decoder.cls.predictions.decoder.weight", "text_decoder.cls.predictions.decoder.bias"}
    lost = sorted((set(missing) - tied) | set(unexpected))
    if lost:
        raise ModelError(
            f"{checkpoint} is not a BLIP {task} model: {len(lost)} tensors do not fit, such as {lost[0]}."
        )
    model.tie_weights()
    model.eval()
    size = {"height": config.vision_config.image_size, "width": config.vision_config.image_size}
    try:
        processor = BlipProcessor(BlipImageProcessor(size=size), AutoTokenizer.from_pretrained(tokenizer))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The tokenizer {tokenizer!r} cannot be loaded. Name a folder that holds BERT's: --tokenizer FOLDER "
            "(tokenizer= in Python)."
        ) from error
    if len(processor.tokenizer) > config.text_config.vocab_size:
        raise ModelError(
            f"The tokenizer {tokenizer!r} knows {len(processor.tokenizer)} tokens and the checkpoint only "
            f"{config.text_config.vocab_size}: it belongs to another model."
        )
    if image_size is not None:
        resize_image_input(model, processor, image_size)
    # A matching model runs stock code: nothing to compare.
    difference = difference_from_stock(model, vision=True) if captions else None
    if difference:
        raise ModelError(f"The converted model was not saved: {difference}")
    model.save_pretrained(target)
    processor.save_pretrained(target)
    return model


def _read(path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """What a checkpoint is for, and the tensors that this needs, under their names in `transformers`."""
    found = read_pickle(path)
    if isinstance(found, dict) and isinstance(found.get("model"), dict):
        found = found["model"]
    if not isinstance(found, dict):
        raise ModelError(f"{path} does not hold a model's weights (tensors by name).")
    held = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, torch.Tensor)}
    task = _task(path, held)
    tensors = {}
    for name, value in held.items():
        if name.startswith(_PREFIXES[task]):
            tensors[name] = value.float()
        for pattern, replacement in _RENAMED:
            if re.match(pattern, name):
                tensors[re.sub(pattern, replacement, name)] = value.float()
                break
    # A buffer that is not saved any more.
    for text in ("text_decoder.bert", "text_encoder"):
        tensors.pop(f"{text}.embeddings.position_ids", None)
    return task, tensors


def _task(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """What a checkpoint was trained for, by the parts that it has."""

    def has(part: str) -> bool:
        return any(name.startswith(f"{part}.") for name in tensors)

    if has("text_decoder"):
        # Pre-training has all parts. In question answering the decoder looks at the question, and not at the image.
        if has("text_encoder") and not has("itm_head"):
            raise ModelError(
                f"{path} holds a question-answering model (VQA), which cannot caption. Take a captioning, "
                "pre-training or retrieval checkpoint."
            )
        return "captioning"
    if has("text_encoder") and has("itm_head"):
        return "matching"
    holds = "a model of another task" if has("visual_encoder") else "no BLIP model"
    raise ModelError(
        f"{path} has no text decoder and no matching head (it holds {holds}). Take a captioning, pre-training or "
        "retrieval checkpoint."
    )


def _config(path: Path, task: str, tensors: dict[str, torch.Tensor]) -> BlipConfig:
    vision, text = "vision_model.embeddings", "text_decoder.bert" if task == "captioning" else "text_encoder"
    try:
        positions = tensors[f"{vision}.position_embedding"]
        patch = tensors[f"{vision}.patch_embedding.weight"].shape[-1]
        words = tensors[f"{text}.embeddings.word_embeddings.weight"]
        vision_config: dict[str, Any] = {
            "hidden_size": positions.shape[2],
            "intermediate_size": tensors["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, "vision_model.encoder.layers"),
            "num_attention_heads": positions.shape[2] // HEAD_WIDTH,
            "image_size": round((positions.shape[1] - 1) ** 0.5) * patch,
            "patch_size": patch,
            "layer_norm_eps": 1e-6,
        }
        text_config: dict[str, Any] = {
            "vocab_size": words.shape[0],
            "hidden_size": words.shape[1],
            "encoder_hidden_size": tensors[f"{text}.encoder.layer.0.crossattention.self.key.weight"].shape[1],
            "intermediate_size": tensors[f"{text}.encoder.layer.0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, f"{text}.encoder.layer"),
            "num_attention_heads": words.shape[1] // HEAD_WIDTH,
            "max_position_embeddings": tensors[f"{text}.embeddings.position_embeddings.weight"].shape[0],
            # BERT's 30,522 words, then [DEC] and [ENC].
            "bos_token_id": words.shape[0] - 2,
            "sep_token_id": 102,
            "pad_token_id": 0,
        }
        shared = {} if task == "captioning" else {"image_text_hidden_size": tensors["vision_proj.weight"].shape[0]}
    except (KeyError, IndexError) as error:
        raise ModelError(f"{path} is not a BLIP {task} model: it has no {error.args[0]}.") from error
    return BlipConfig(vision_config=vision_config, text_config=text_config, **shared)


def _layers(tensors: dict[str, torch.Tensor], prefix: str) -> int:
    numbers = (re.match(rf"{re.escape(prefix)}\.(\d+)\.", name) for name in tensors)
    return 1 + max(int(match[1]) for match in numbers if match)
