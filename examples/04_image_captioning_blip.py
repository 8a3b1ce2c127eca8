"""The settings of `amirhossein-yousefi/Image-Captioning-BLIP`, a stock recipe for the Trainer, one by one.

    python examples/04_image_captioning_blip.py --smoke                        # offline, a minute: shows that it runs
    python examples/04_image_captioning_blip.py --output blip-open-out                                # for real
    python examples/04_image_captioning_blip.py --data-dir flickr8k/ --output blip-open-out    # from files you have

Two things differ, because the recipe's numbers would mislead otherwise. It splits rows, and each image has five rows:
the same photo is trained on and scored. Here the split is by image. And the scores here are those of the test split,
on which no checkpoint was chosen; the recipe's are those of the validation split, printed beside them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoke_data import write_flickr8k

from blip_refine import BlipCaptionDataset, BlipRefineError, CaptionTrainer, CaptionTrainingArguments, load_captioner

RECIPE = {
    "num_train_epochs": 4,
    "learning_rate": 5e-5,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "gradient_checkpointing": True,
    "freeze_vision": False,
    "logging_steps": 50,
    "save_total_limit": 2,
    "load_best_model_at_end": True,
    "metric_for_best_model": "sacrebleu",
    "max_txt_len": 40,
    "max_new_tokens": 30,
    "num_beams": 5,
    "length_penalty": 1.0,
    "early_stopping": True,
    "seed": 42,
    "data_seed": 42,
}
SPLIT = {"ratios": {"train": 0.90, "validation": 0.05, "test": 0.05}, "split_seed": 42}
SMOKE = {"num_train_epochs": 2, "learning_rate": 1e-4, "gradient_checkpointing": False, "num_beams": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Salesforce/blip-image-captioning-base")
    parser.add_argument("--data-dir", type=Path, help="Flickr8k as distributed; by default it comes from the Hub")
    parser.add_argument("--output", default="blip-open-out")
    parser.add_argument("--tensorboard", action="store_true", help="log to TensorBoard, as the recipe does")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures, the starter, two epochs")
    options = parser.parse_args()
    data_dir = write_flickr8k(Path(options.output) / "flickr8k") if options.smoke else options.data_dir
    source = "ariG23498/flickr8k" if data_dir is None else "flickr8k"

    train, validation, test = (
        BlipCaptionDataset.from_source(source, split=split, data_dir=data_dir, **SPLIT)
        for split in ("train", "validation", "test")
    )
    model, processor = load_captioner("starter" if options.smoke else options.model)
    trainer = CaptionTrainer(
        model=model,
        processing_class=processor,
        args=CaptionTrainingArguments(
            options.output,
            **{**RECIPE, **(SMOKE if options.smoke else {})},
            report_to="tensorboard" if options.tensorboard else "none",
        ),
        train_dataset=train,
        eval_dataset=validation,
    )
    trainer.train()
    trainer.save_model()
    print(f"best sacreBLEU in training: {trainer.state.best_metric:.2f}")
    metrics = ["Bleu", "ROUGE_L", "CIDEr"] if options.smoke else None
    chosen_on = trainer.evaluate_coco(validation, metrics=metrics, write=False).scores
    held_out = trainer.evaluate_coco(test, metrics=metrics).scores
    print(f"{'':10}{'validation':>12}{'test':>10}")
    for metric, value in held_out.corpus.items():
        print(f"{metric:10}{chosen_on.corpus[metric]:>12.3f}{value:>10.3f}")
    for metric, reason in held_out.unavailable.items():
        print(f"{metric} was not computed: {reason}")
    print(f"Scores: {Path(options.output) / 'coco_metrics.json'}")
    if options.smoke:
        print("A few steps on drawings say nothing of the recipe: this showed that it runs.")


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
