"""What a training is about to do, in a few lines, before it costs anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..data.fingerprint import fingerprint_records
from ..models.captioner import count_parameters
from ..models.families import family_of
from ..models.known_checkpoints import what_is_known_of
from ..records import CaptionRecord
from .arguments import CaptionTrainingArguments
from .memory import MemoryEstimate, estimate_memory


def captions_of_image(args: CaptionTrainingArguments, records: Sequence[CaptionRecord]) -> float:
    """How many captions an image brings to a batch, on average."""
    mean = sum(len(record.captions) for record in records) / len(records)
    return mean if args.captions_per_image == "all" else min(mean, float(args.captions_per_image))


def estimate_step(model: Any, args: CaptionTrainingArguments, records: Sequence[CaptionRecord]) -> MemoryEstimate:
    """The memory of a training step with these arguments on these images; see [`estimate_memory`]."""
    words = [len(text.split()) for record in records for text in record.captions]
    return estimate_memory(
        model,
        images=args.per_device_train_batch_size,
        captions_per_image=captions_of_image(args, records),
        # A little over one token a word, with start and end.
        caption_length=min(args.max_txt_len, math.ceil(1.3 * sum(words) / max(1, len(words))) + 4),
        gradient_checkpointing=args.gradient_checkpointing,
        half_precision=args.chosen_precision != "fp32",
        cached_features=args.cache_vision_features,
    )


def describe_plan(model: Any, args: CaptionTrainingArguments, records: Sequence[CaptionRecord]) -> list[str]:
    """What a [`CaptionTrainer`] would do, as lines of text.

    Args:
        model (`nn.Module`): The captioner, frozen and adapted as it will be trained.
        args ([`CaptionTrainingArguments`]): How it will be trained.
        records (`Sequence[CaptionRecord]`): What it will be trained on.

    Returns:
        `list[str]`: Fingerprint of the data, trained parameters, optimizer steps, precision and estimated memory.
    """
    total, trained = count_parameters(model)
    prompt = args.prompt if args.prompt_template is None else args.prompt_template
    devices = max(1, args.world_size)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * devices
    an_epoch = math.ceil(len(records) / batch)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(an_epoch * args.num_train_epochs)
    parts = [f"{args.per_device_train_batch_size} a device"]
    if args.gradient_accumulation_steps > 1:
        parts.append(f"{args.gradient_accumulation_steps} accumulated")
    if devices > 1:
        parts.append(f"{devices} devices")
    told = [f"  prompt      {prompt!r}"] if prompt else []
    known = what_is_known_of(model)
    return [
        f"  fingerprint {fingerprint_records(records)}",
        *told,
        *([f"  base        {known}"] if known else []),
        f"  trained     {trained:,} of {total:,} parameters ({100 * trained / total:.1f} %) of a "
        f"{family_of(model).title} captioner",
        f"  steps       {steps}: {an_epoch} an epoch of {batch} images ({' x '.join(parts)}), each with "
        f"{captions_of_image(args, records):.3g} captions",
        f"  precision   {args.chosen_precision}, {args.why_precision}",
        f"  memory      {estimate_step(model, args, records)}",
    ]
