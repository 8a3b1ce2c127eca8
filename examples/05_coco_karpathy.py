"""COCO with Karpathy's split and BLIP's own recipe: the road to 133 CIDEr.

    python examples/05_coco_karpathy.py --smoke                                # offline, a minute: shows that it runs
    python examples/05_coco_karpathy.py --data-dir coco/ --output coco-blip                           # for real

`coco/` holds `train2014/`, `val2014/` and `dataset_coco.json`; `blip-refine fetch coco` puts them there. The recipe is
that of Li et al. (BLIP, ICML 2022), configs/caption_coco.yaml: 384 pixels, prompt "a picture of ", AdamW with 1e-5 and
weight decay 0.05, cosine schedule, 5 epochs, a batch of 256 captions, 3 beams. The paper gives CIDEr 133.3 and BLEU-4
39.7 for BLIP base with CapFilt-L (table 7). The original draws one caption per image and visit, as here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoke_data import write_coco

from blip_refine import BlipCaptionDataset, BlipRefineError, CaptionTrainingArguments
from blip_refine.finetune import finetune

PAPER = {"Bleu_4": 0.397, "CIDEr": 1.333}
BATCH = 256
SMOKE = {"num_train_epochs": 2, "learning_rate": 1e-4, "gradient_checkpointing": False, "num_beams": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Salesforce/blip-image-captioning-base")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--output", default="coco-blip")
    parser.add_argument("--batch-size", type=int, default=32, help="images per device and step; 256 are accumulated")
    parser.add_argument("--devices", type=int, default=1, help="GPUs that `accelerate launch` starts this on")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures, the starter, two epochs")
    options = parser.parse_args()
    if options.data_dir is None and not options.smoke:
        parser.error("name the folder of COCO with --data-dir, or give --smoke")
    if not options.smoke and BATCH % (options.batch_size * options.devices):
        parser.error(f"--batch-size times --devices must divide {BATCH}")
    data_dir = write_coco(Path(options.output) / "coco") if options.smoke else options.data_dir

    train, validation, test = (
        BlipCaptionDataset.from_source("coco", split=split, data_dir=data_dir)
        for split in ("train", "validation", "test")
    )
    batches = {
        "per_device_train_batch_size": options.batch_size,
        "gradient_accumulation_steps": BATCH // (options.batch_size * options.devices),
        "captions_per_image": "1",
        "metric_for_best_model": "CIDEr",
    }
    changes = SMOKE if options.smoke else batches
    run = finetune(
        "starter" if options.smoke else options.model,
        CaptionTrainingArguments.from_recipe("original-blip", options.output, **changes),
        train,
        validation,
        test,
        dataset="coco",
        image_size=None if options.smoke else 384,
        metrics=["Bleu", "ROUGE_L", "CIDEr"] if options.smoke else None,
    )
    print(f"{'':10}{'before':>10}{'after':>10}{'paper':>10}")
    for metric, value in run.systems["after"].scores.corpus.items():
        before, paper = run.systems["before"].scores.corpus[metric], PAPER.get(metric)
        print(f"{metric:10}{before:>10.3f}{value:>10.3f}{'' if paper is None else f'{paper:.3f}':>10}")
    print(f"Report: {run.report}")
    if options.smoke:
        print("The paper's figures are for COCO, and these pictures are drawn: this showed that it runs.")


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
