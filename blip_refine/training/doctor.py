"""Checks of a user's own set-up, for the mistakes that cost a training without an error message."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from ..data.collator import IGNORED
from ..data.dataset import BlipCaptionDataset
from ..data.leakage import find_overlap
from ..errors import BlipRefineError
from ..metrics.java import find_java
from ..models.adapters import attached_parameters
from ..models.captioner import count_parameters
from ..models.device import best_device, has_fast_bfloat16
from ..models.families import base_model, family_of
from ..models.known_checkpoints import what_is_known_of
from ..models.saved_defaults import saved_defaults
from ..models.stock_check import difference_from_stock
from .arguments import CaptionTrainingArguments
from .loading import make_collator, make_ready
from .memory import GIB, advise_on_memory, total_memory
from .plan import estimate_step

PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "sacrebleu")


@dataclass(frozen=True)
class Check:
    """What one check has found.

    Args:
        name (`str`): What was checked.
        status (`str`): "ok", "warning" (training works, less well) or "error" (it would go wrong).
        message (`str`): What was found, and what to do.
    """

    name: str
    status: str
    message: str


def check_machine() -> Iterator[Check]:
    """Versions, device and Java."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    yield Check("versions", "ok", f"Python {platform.python_version()}, {versions}")
    device = best_device()
    if device.type == "cuda":
        size = torch.cuda.get_device_properties(0).total_memory / 2**30
        half = "bf16" if has_fast_bfloat16(device) else "fp16"
        yield Check("device", "ok", f"{torch.cuda.get_device_name()}, {size:.0f} GiB, computes in {half}")
    else:
        yield Check("device", "warning", f"no GPU: training runs on {device.type}, many times slower")
    try:
        java = find_java()
        yield Check("java", "ok", f"Java {java.version} at {java.path}")
    except BlipRefineError as error:
        yield Check("java", "warning", f"METEOR and SPICE cannot be computed. {error}")


def check_captioner(
    model: Any, processor: Any, args: CaptionTrainingArguments, train: BlipCaptionDataset | None, lora: bool = False
) -> Iterator[Check]:
    """Image size, start token, padding, labels, accumulation and adapter, on a real batch.

    Args:
        model (`nn.Module`): The captioner, as it will be trained.
        processor (`ProcessorMixin`): Its processor.
        args ([`CaptionTrainingArguments`]): How it will be trained.
        train ([`BlipCaptionDataset`], *optional*): What it will be trained on.
        lora (`bool`, defaults to `False`): Whether an adapter was asked for.
    """
    captioner = base_model(model)
    yield Check("family", "ok", family_of(model).title)
    if known := what_is_known_of(model):
        yield Check("base checkpoint", "ok", known)
    if captioner.config.model_type == "blip":
        difference = difference_from_stock(model, vision=True)
        same = f"image states and words are those of transformers {transformers.__version__}"
        yield Check("stock modules", "error" if difference else "ok", difference or same)
    yield _check_prompt(model, args)
    try:
        make_ready(model, processor, args)
        yield Check("image size", "ok", f"{captioner.config.vision_config.image_size} pixels in model and processor")
    except BlipRefineError as error:
        yield Check("image size", "error", str(error))
        return
    attached = attached_parameters(model)
    if lora or attached:
        status = "ok" if attached else "error"
        message = f"{len(attached)} adapter weights are attached and trained"
        yield Check("adapter", status, message if attached else "an adapter was asked for, and none is attached")
    total, trained = count_parameters(model)
    share = f"{trained:,} of {total:,} ({100 * trained / total:.1f} %)"
    yield Check("trained parameters", "ok" if trained else "error", share if trained else "everything is frozen")
    collator = make_collator(model, processor, args)
    yield from _check_text(captioner, processor, collator)
    if train is not None:
        yield from _check_batch(model, collator, train)
        yield _check_memory(model, args, train)


def _check_prompt(model: Any, args: CaptionTrainingArguments) -> Check:
    """Which prompt the captioner was saved with, and which it would be trained with."""
    saved = saved_defaults(model)
    own = "" if saved is None else saved.prompt
    if args.template is not None:
        return Check("prompt", "ok", f"{args.prompt_template!r}, filled in per image")
    if args.prompt is None or args.prompt.split() == own.split():
        kept = f"{own!r}, which is saved with the model" if own else "none"
        return Check("prompt", "ok", kept)
    if not own:
        return Check("prompt", "ok", repr(args.prompt))
    return Check("prompt", "warning", f"{args.prompt!r}; the model was trained with {own!r}, and has to learn another")


def _check_memory(model: Any, args: CaptionTrainingArguments, train: BlipCaptionDataset) -> Check:
    estimate, there = estimate_step(model, args, train.records), total_memory()
    if estimate.total > 0.9 * there:
        advice = advise_on_memory(args, model)
        return Check("memory", "warning", f"{estimate}, and there are {there / GIB:.1f} GiB. {advice}")
    return Check("memory", "ok", f"{estimate}, of {there / GIB:.1f} GiB")


def _check_text(captioner: Any, processor: Any, collator: Any) -> Iterator[Check]:
    batch = collator.encode(["a dog", "two small red fish swim in the clear cold water"], images=1)
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    if captioner.config.model_type == "blip":
        start, tokenizer = captioner.config.text_config.bos_token_id, processor.tokenizer
        good = (ids[:, 0] == start).all() and start != tokenizer.cls_token_id and 0 <= start
        message = f"training and decoding both start from token {start}"
        if start == tokenizer.cls_token_id:
            message = "decoding starts from the tokenizer's [CLS]; BLIP has [DEC] for it: set text_config.bos_token_id"
        yield Check("start token", "ok" if good else "error", message)
    left = bool((mask[:, 0] == 0).any())
    told = getattr(processor.tokenizer, "padding_side", "right")
    note = "" if told == "right" else f" (the tokenizer says {told}, and is overruled)"
    fault = "left: positions are counted from there, and every word would be moved"
    yield Check("padding side", "error" if left else "ok", fault if left else f"right{note}")
    predicted = labels != IGNORED
    shown = bool((predicted & (mask == 0)).any()) if labels.shape == mask.shape else False
    if not predicted.any():
        yield Check("labels", "error", "no token of a caption is predicted: all labels are masked")
    elif shown:
        yield Check("labels", "error", "padding is predicted: its labels must be -100")
    else:
        yield Check("labels", "ok", "start, prompt and padding are not predicted")


def _check_batch(model: Any, collator: Any, train: BlipCaptionDataset) -> Iterator[Check]:
    items = [train[place] for place in range(min(2, len(train)))]
    batch = {name: value for name, value in collator(items).items() if name not in ("indices", "unreadable")}
    broken = [item["image_id"] for item in items if item["image"] is None]
    if broken:
        yield Check("images", "error", f"{broken[0]} cannot be decoded")
        return
    items_in_batch = (batch["labels"] != IGNORED).sum()
    if not items_in_batch:
        return
    with torch.no_grad():
        whole, doubled = (
            model(**batch, loss_only=True, num_items_in_batch=times * items_in_batch).loss for times in (1, 2)
        )
    ratio = float(whole / doubled)
    scaled = abs(ratio - 2) < 1e-3
    yield Check(
        "accumulation",
        "ok" if scaled else "error",
        "the loss is divided by the label tokens of the whole accumulated batch"
        if scaled
        else f"the loss ignores num_items_in_batch (ratio {ratio:.3f}, 2 is right): gradients grow with accumulation",
    )
    yield Check("loss", "ok" if torch.isfinite(whole) else "error", f"{whole.item():.3f} nats a token")


def check_splits(parts: dict[str, BlipCaptionDataset | None]) -> Iterator[Check]:
    """Whether images of an evaluation split are in the training set."""
    train = parts.get("train")
    for name in ("validation", "test"):
        part = parts.get(name)
        if train is None or part is None:
            continue
        overlap = find_overlap(train.records, part.records)
        if overlap:
            one = overlap[0]
            message = f"{len(overlap)} images are in the training set ({one.evaluation_id!r} is {one.train_id!r})"
            yield Check(f"overlap with {name}", "error", message)
        else:
            yield Check(f"overlap with {name}", "ok", f"none of {len(part)} images")


def examine(checks: Sequence[Callable[[], Iterator[Check]]]) -> list[Check]:
    """Run checks; what one of them refuses becomes an error in the list."""
    found: list[Check] = []
    for check in checks:
        try:
            found.extend(check())
        except BlipRefineError as error:
            found.append(Check("set-up", "error", str(error)))
    return found
