"""BLIP-2 with Flan-T5: an adapter on 8-bit weights, then a review of its captions by a person.

    python examples/03_blip2_flan_t5.py --smoke                                # offline, a minute: shows that it runs
    python examples/03_blip2_flan_t5.py --dataset flickr8k --data-dir flickr8k/ --output blip2        # for real

The model has 3.9 billion parameters, of which 2.8 are Flan-T5-XL: in 8 bit they take about 4 GB of GPU memory.
Scores do not show what a captioner makes up. Afterwards a person marks that:
    blip-refine rate blip2 --review 50
"""

from __future__ import annotations

import argparse
from pathlib import Path

from smoke_data import write_blip2, write_flickr8k

from blip_refine import BlipCaptionDataset, BlipRefineError, CaptionTrainingArguments
from blip_refine.finetune import finetune

SMOKE = {"num_train_epochs": 1, "gradient_checkpointing": False, "num_beams": 1, "max_new_tokens": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Salesforce/blip2-flan-t5-xl")
    parser.add_argument("--dataset", default="flickr8k")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--output", default="blip2")
    parser.add_argument("--smoke", action="store_true", help="drawn pictures, a tiny random BLIP-2, one epoch")
    options = parser.parse_args()
    model, data_dir = options.model, options.data_dir
    if options.smoke:
        model = write_blip2(Path(options.output) / "tiny-blip2")
        data_dir = write_flickr8k(Path(options.output) / "flickr8k")

    train, validation, test = (
        BlipCaptionDataset.from_source(options.dataset, split=split, data_dir=data_dir)
        for split in ("train", "validation", "test")
    )
    real = {"num_train_epochs": 3, "learning_rate": 1e-4, "gradient_accumulation_steps": 4, "weight_decay": 0.05}
    run = finetune(
        model,
        # The vision encoder stays as it is; the adapter is in the attention of the Q-Former and of the language model.
        CaptionTrainingArguments(options.output, **(SMOKE if options.smoke else real)),
        train,
        validation,
        test,
        dataset=options.dataset,
        lora=True,
        quantization=None if options.smoke else "8bit",
        metrics=["Bleu", "ROUGE_L", "CIDEr"] if options.smoke else None,
    )
    for system, evaluation in run.systems.items():
        scores = ", ".join(f"{metric} {value:.3f}" for metric, value in evaluation.scores.corpus.items())
        print(f"{system:7} {scores}")
    print(f"Report: {run.report}")
    print(f"Review: blip-refine rate {run.folder} --review 50")
    if options.smoke:
        print("Random weights say nothing of the method: this showed that it runs.")


if __name__ == "__main__":
    try:
        main()
    except BlipRefineError as error:
        raise SystemExit(f"Error: {error}") from error
