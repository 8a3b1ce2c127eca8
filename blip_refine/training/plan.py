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
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * max(1, args.world_size)
    steps = (
        args.max_steps if args.max_steps > 0 else math.ceil(math.ceil(len(records) / batch) * args.num_train_epochs)
    )
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
        f"  updates     {steps} optimizer steps of {batch} images",
        f"  precision   {args.chosen_precision}" + (" (chosen for this machine)" if args.precision == "auto" else ""),
        f"  memory      {estimate}",
    ]
