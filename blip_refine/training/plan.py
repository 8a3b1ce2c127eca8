"""What a training is about to do, in a few lines, before it costs anything."""

from __future__ import annotations

import math
from typing import Any

from ..data.fingerprint import fingerprint_records
from ..models.captioner import count_parameters
from ..models.families import family_of
from .memory import estimate_memory


def describe_plan(trainer: Any) -> list[str]:
    """The plan of a [`CaptionTrainer`] as lines of text.

    Args:
        trainer ([`CaptionTrainer`]): With model, arguments and training set.

    Returns:
        `list[str]`: Fingerprint of the data, trained parameters, optimizer steps, precision and estimated memory.
    """
    args, records = trainer.args, trainer.train_dataset.records
    total, trained = count_parameters(trainer.model)
    devices = max(1, args.world_size)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * devices
    an_epoch = math.ceil(len(records) / batch)
    steps = args.max_steps if args.max_steps > 0 else math.ceil(an_epoch * args.num_train_epochs)
    parts = [f"{args.per_device_train_batch_size} a device"]
    if args.gradient_accumulation_steps > 1:
        parts.append(f"{args.gradient_accumulation_steps} accumulated")
    if devices > 1:
        parts.append(f"{devices} devices")
    mean = sum(len(record.captions) for record in records) / len(records)
    captions = mean if args.captions_per_image == "all" else min(mean, float(args.captions_per_image))
    words = sum(len(text.split()) for record in records for text in record.captions)
    estimate = estimate_memory(
        trainer.model,
        images=args.per_device_train_batch_size,
        captions_per_image=captions,
        # A little over one token a word, with start and end.
        caption_length=min(args.max_txt_len, math.ceil(1.3 * words / max(1, mean * len(records))) + 4),
        gradient_checkpointing=args.gradient_checkpointing,
        half_precision=args.chosen_precision != "fp32",
        cached_features=args.cache_vision_features,
    )
    return [
        f"  fingerprint {fingerprint_records(records)}",
        f"  trained     {trained:,} of {total:,} parameters ({100 * trained / total:.1f} %) of a "
        f"{family_of(trainer.model).title} captioner",
        f"  steps       {steps}: {an_epoch} an epoch of {batch} images ({' x '.join(parts)}), each with "
        f"{captions:.3g} captions",
        f"  precision   {args.chosen_precision}, {args.why_precision}",
        f"  memory      {estimate}",
    ]
