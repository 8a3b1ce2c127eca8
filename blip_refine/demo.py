"""The demonstration: the whole path on drawn scenes, on a laptop, in three minutes and without a network."""

from __future__ import annotations

import os

from .data.dataset import BlipCaptionDataset
from .data.sources.scenes import SPLIT_SIZES, load_scenes
from .finetune import FinetunedRun, finetune
from .models.captioner import STARTER
from .narrator import Narrator
from .training.arguments import CaptionTrainingArguments

DOMAIN = "adventure"
REFINER = "rules>consensus"


def run_demo(
    output: str | os.PathLike,
    *,
    epochs: float = 6,
    images: int | None = None,
    seed: int = 0,
    narrator: Narrator | None = None,
) -> FinetunedRun:
    """Fine-tune the starter on a world that it has never seen: other things, other places, another way of speaking.

    Args:
        output (`str` or `os.PathLike`): The run folder.
        epochs (`float`, defaults to 6): Passes over the training scenes.
        images (`int`, *optional*): Training scenes, and at most as many of the other splits, for a shorter run; by
            default those of [`load_scenes`].
        seed (`int`, defaults to 0): Of the scenes and of training.
        narrator ([`Narrator`], *optional*): Who is told what goes on.

    Returns:
        [`FinetunedRun`]
    """
    splits = {
        split: BlipCaptionDataset(load_scenes(DOMAIN, split, count=_at_most(images, split), seed=seed))
        for split in ("train", "validation", "test")
    }
    args = CaptionTrainingArguments(
        output_dir=str(output),
        num_train_epochs=epochs,
        per_device_train_batch_size=12,
        per_device_eval_batch_size=20,
        # Two of each picture's five captions at every visit: more pictures in the same three minutes.
        captions_per_image="2",
        gradient_accumulation_steps=1,
        # The starter fits into any memory; checkpointing would cost a third of the three minutes.
        gradient_checkpointing=False,
        learning_rate=1.2e-3,
        warmup_steps=20,
        lr_scheduler_type="cosine",
        weight_decay=0.05,
        logging_steps=10,
        num_beams=3,
        max_new_tokens=24,
        seed=seed,
        disable_tqdm=True,
    )
    return finetune(
        STARTER,
        args,
        splits["train"],
        splits["validation"],
        splits["test"],
        dataset=f"scenes:{DOMAIN}",
        refiner=REFINER,
        narrator=narrator,
    )


def _at_most(images: int | None, split: str) -> int | None:
    if images is None or split == "train":
        return images
    return min(images, SPLIT_SIZES[split])
