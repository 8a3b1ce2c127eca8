"""Fine-tune a captioner on your own images, and see what it gained.

    python examples/01_finetune.py --smoke                                    # offline, a minute: shows that it runs
    python examples/01_finetune.py --model Salesforce/blip-image-captioning-base \\
        --dataset flickr8k --data-dir flickr8k/ --output run --lora                # for real

The dataset may be a folder of pictures with captions, a csv or jsonl file, a known name, or an id on the Hub.
"""

from __future__ import annotations

import argparse

from blip_refine import BlipCaptionDataset, CaptionTrainer, CaptionTrainingArguments, load_captioner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--dataset", default="scenes:adventure")
    parser.add_argument("--data-dir")
    parser.add_argument("--output", default="run")
    parser.add_argument("--lora", action="store_true", help="train an adapter instead of all weights")
    parser.add_argument("--smoke", action="store_true", help="a few drawn pictures, two epochs")
    options = parser.parse_args()
    few = {"count": 32} if options.smoke else {}

    def split(name: str) -> BlipCaptionDataset:
        return BlipCaptionDataset.from_source(options.dataset, split=name, data_dir=options.data_dir, **few)

    model, processor = load_captioner(options.model, lora=options.lora)
    smoke = {"num_train_epochs": 2, "learning_rate": 6e-4, "gradient_checkpointing": False, "num_beams": 2}
    args = CaptionTrainingArguments(options.output, **(smoke if options.smoke else {}))
    trainer = CaptionTrainer(
        model=model,
        processing_class=processor,
        args=args,
        train_dataset=split("train"),
        eval_dataset=split("validation"),
    )
    test = split("test")
    before = trainer.evaluate_coco(test, system="before", write=False)
    trainer.train()
    after = trainer.evaluate_coco(test)
    trainer.save_model()
    for metric, value in after.scores.corpus.items():
        print(f"{metric:8} {before.scores.corpus[metric]:.3f} -> {value:.3f}")
    print(after.scores.signature)
    if options.smoke:
        print("Four steps on 32 drawings are too few to gain anything. `blip-refine demo` takes 1,200, for minutes.")


if __name__ == "__main__":
    main()
