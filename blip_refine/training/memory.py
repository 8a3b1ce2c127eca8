"""How much memory a training step takes: estimated before, measured while, and what to do when it is not there."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import nn

from ..models.adapters import attached_parameters
from ..models.families import base_model, text_layers, vision_layers

GIB = 2**30
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|No executable batch size", re.IGNORECASE
)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that training takes on one device.

    Args:
        weights, gradients, optimizer (`int`): Known exactly (two moments a trained parameter, as AdamW keeps them).
        activations (`int`): Estimated; see [`estimate_memory`].
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = ("weights", "gradients", "optimizer", "activations")
        listed = ", ".join(f"{name} {getattr(self, name) / GIB:.2f}" for name in parts)
        return f"about {self.total / GIB:.2f} GiB a device ({listed})"


def estimate_memory(
    model: nn.Module,
    *,
    images: int,
    captions_per_image: float,
    caption_length: int = 16,
    gradient_checkpointing: bool = False,
    half_precision: bool = False,
    cached_features: bool = False,
) -> MemoryEstimate:
    """What one training step will take.

    Activations follow Korthikanti et al. 2022 (Reducing Activation Recomputation in Large Transformer Models, eq. 2)
    for a layer whose attention matrix is never kept: 34 bytes a token and unit of width in half precision, that is 17
    numbers; of them only the input is kept with checkpointing. Cross-attention adds keys and values of the image
    states (once an image) and its own query and output (4 numbers a token).

    Args:
        model (`nn.Module`): The captioner, frozen and adapted as it will be trained.
        images (`int`): Images a device and step.
        captions_per_image (`float`): Captions of each.
        caption_length (`int`, defaults to 16): Tokens of a caption.
        gradient_checkpointing (`bool`, defaults to `False`): Whether activations are computed a second time.
        half_precision (`bool`, defaults to `False`): Whether autocast computes in 16 bits.
        cached_features (`bool`, defaults to `False`): Whether the encoder does not run.
    """
    captioner = base_model(model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    trained_bytes = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    number = 2 if half_precision else 4

    vision = captioner.config.vision_config
    states = (vision.image_size // vision.patch_size) ** 2 + 1
    vision_tokens = images * states
    layers = vision_layers(model)[1]
    learning = any(p.requires_grad for p in captioner.vision_model.parameters())
    kept = 0.0
    if learning and not cached_features:
        kept += _kept(len(layers), vision_tokens * vision.hidden_size, gradient_checkpointing)

    text = captioner.config.text_config
    width = getattr(text, "hidden_size", None) or text.d_model
    queries = getattr(captioner.config, "num_query_tokens", 0) if not hasattr(captioner, "text_decoder") else 0
    tokens = images * captions_per_image * (caption_length + queries)
    layers = text_layers(model)[1]
    kept += _kept(len(layers), tokens * width, gradient_checkpointing)
    if hasattr(captioner, "text_decoder"):
        cross = 2 * vision_tokens * width + 4 * tokens * width
        kept += cross * (1 if gradient_checkpointing else len(layers))
    # Logits, their log-softmax and its gradient, at label tokens alone and in float32.
    logits = 3 * 4 * images * captions_per_image * caption_length * text.vocab_size
    return MemoryEstimate(weights, trained_bytes, 2 * 4 * trained, int(kept * number + logits))


def _kept(layers: int, numbers: float, checkpointing: bool) -> float:
    """Numbers kept for the backward pass by a stack of layers of 17 numbers a token and unit of width each."""
    return (layers + 17) * numbers if checkpointing else 17 * layers * numbers


def peak_memory() -> int:
    """The most bytes used so far: of the GPU where there is one, else of this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows, where psutil knows the peak
        return psutil.Process().memory_info().peak_wset
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def total_memory() -> int:
    """The bytes that there are: of the GPU where there is one, else of this machine."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return psutil.virtual_memory().total


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))
    )


def advise_on_memory(args: Any, model: nn.Module) -> str:
    """What to change, in the order of what it costs, given what is set already.

    Args:
        args ([`CaptionTrainingArguments`]): The arguments that did not fit.
        model (`nn.Module`): The model that did not fit.
    """
    batch, accumulation = args.per_device_train_batch_size, args.gradient_accumulation_steps
    advice = []
    if not args.gradient_checkpointing:
        advice.append("--gradient-checkpointing true (the same gradient, about a third slower)")
    if batch > 1:
        half = batch // 2
        advice.append(
            f"--per-device-train-batch-size {half} --gradient-accumulation-steps "
            f"{-(-batch * accumulation // half)} (the same gradient)"
        )
    if not (args.bf16 or args.fp16) and torch.cuda.is_available():
        advice.append("--precision bf16")
    learning = any(p.requires_grad for p in base_model(model).vision_model.parameters())
    if learning and not attached_parameters(model):
        advice.append("--lora (gradients and optimizer for the adapter alone)")
    if learning:
        advice.append("--freeze-vision, and then --cache-vision-features where nothing is augmented")
    elif not args.cache_vision_features:
        advice.append("--cache-vision-features (the encoder does not run in training)")
    if str(args.captions_per_image) == "all":
        advice.append("--captions-per-image 2 (other captions at each visit)")
    if not args.auto_find_batch_size:
        advice.append("--auto-find-batch-size true, which makes the batch smaller until it fits")
    listed = "; ".join(f"{place}) {item}" for place, item in enumerate(advice, 1))
    images = "1 image" if batch == 1 else f"{batch} images"
    return f"A batch of {images} with their captions does not fit into memory. In this order: {listed}."
