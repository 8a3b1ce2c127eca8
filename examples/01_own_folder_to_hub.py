"""Fine-tune on a folder of your own photos, measure what it gained, and publish the result on the Hub.

    python examples/01_own_folder_to_hub.py --smoke        # offline, a minute: shows that it runs
    hf auth login
    python examples/01_own_folder_to_hub.py photos/ --repo you/your-captioner --output run       # for real

`photos/` holds pictures and a `captions.csv` with the columns `image` and `caption`; docs/data.md lists other forms.
A LoRA adapter on BLIP-base fits a GPU with 16 GB. Without `--repo` nothing is published.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoke_data import write_photo_folder

from blip_refine import BlipCaptionDataset, BlipRefineError, CaptionTrainingArguments, push_captioner
from blip_refine.finetune import finetune

SMOKE = {"num_train_epochs": 2, "learning_rate": 1e-4, "gradient_checkpointing": False, "num_beams": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="your pictures and their captions")
    parser.add_argument("--model", default="Salesforce/blip-image-captioning-base")
    parser.add_argument("--output", default="run")
    parser.add_argument("--repo", help="owner/name on the Hub")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures, the starter, two epochs")
    options = parser.parse_args()
    if options.folder is None and not options.smoke:
        parser.error("name a folder of pictures, or give --smoke")
    model = "starter" if options.smoke else options.model
    folder = write_photo_folder(Path(options.output) / "photos") if options.smoke else options.folder

    # Splits are made by image: 90 % to train on, 5 % to choose the best checkpoint, 5 % to be scored.
    train, validation, test = (
        BlipCaptionDataset.from_source(folder, split=split) for split in ("train", "validation", "test")
    )
    run = finetune(
        model,
        CaptionTrainingArguments(options.output, **(SMOKE if options.smoke else {"learning_rate": 1e-4})),
        train,
        validation,
        test,
        dataset=folder.name,
        lora=True,
        metrics=["Bleu", "ROUGE_L", "CIDEr"] if options.smoke else None,
    )
    for system, evaluation in run.systems.items():
        scores = ", ".join(f"{metric} {value:.3f}" for metric, value in evaluation.scores.corpus.items())
        print(f"{system:7} {scores}")
    print(run.headline)
    print(f"Report: {run.report}")

    if options.smoke:
        would = push_captioner(run.folder, "you/your-captioner", base_model=options.model, dry_run=True, verify=False)
        print("Would be published:", ", ".join(would.files))
    elif options.repo:
        print("Published:", push_captioner(run.folder, options.repo).url)


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
