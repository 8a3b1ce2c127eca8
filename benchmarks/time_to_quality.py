"""Time to quality: how long until our training has the validation loss of the stock recipe after two epochs?

    python benchmarks/time_to_quality.py --photos flickr8k/           # as `load_source("flickr8k")` reads it
    python benchmarks/time_to_quality.py --smoke                      # seconds, tiny model, drawn scenes, nothing kept

A BLIP with a ViT-S encoder (196 patches) and a text decoder of the same width starts from the same random weights on
both sides. The stock recipe is `transformers.Trainer` over rows of one picture and one caption, with stock attention.
Ours is `CaptionTrainer`, with several compositions of a batch: "3x5" is 3 images with 5 captions each. Learning rate
(constant after a warm-up, so that where a schedule ends plays no part), precision and optimizer are the same; the
clock stands still during validation. Both sides are given the start token that decoding begins with, which the usual
stock recipe gets wrong: the losses would not be comparable.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
import transformers
from machine import processor_name
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipProcessor,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from blip_refine import BlipCaptionDataset, CaptionRecord, CaptionTrainer, CaptionTrainingArguments
from blip_refine.data.collator import CaptionCollator
from blip_refine.data.images import load_image
from blip_refine.data.sources import load_source
from blip_refine.jsonlines import write_json
from blip_refine.models.blip import BlipForConditionalGeneration

RESULTS = Path(__file__).resolve().parent / "results"
CAPTIONS = 5


def make_processor(records: list[CaptionRecord], image_size: int) -> BlipProcessor:
    """Words of the training captions that occur twice, spelt out otherwise."""
    words = Counter(
        word for record in records for text in record.captions for word in text.lower().replace(".", " ").split()
    )
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,'\"-!?&")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    tokens += [word for word, count in words.items() if count > 1 and word.isalpha()]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    size = {"height": image_size, "width": image_size}
    return BlipProcessor(BlipImageProcessorPil(size=size), BertTokenizer(vocab=vocabulary, do_lower_case=True))


def make_config(processor: BlipProcessor, smoke: bool) -> BlipConfig:
    width, heads, layers, text_layers = (48, 2, 2, 2) if smoke else (384, 6, 12, 6)
    tokenizer = processor.tokenizer
    shared = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": heads}
    # As many rows as BLIP's own vocabulary has, though fewer are used: they are part of what a step costs.
    rows = len(tokenizer) + 2 if smoke else max(30524, len(tokenizer) + 2)
    return BlipConfig(
        text_config={
            **shared,
            **{"num_hidden_layers": text_layers, "encoder_hidden_size": width, "vocab_size": rows},
            **{"bos_token_id": rows - 2, "eos_token_id": tokenizer.sep_token_id},
            **{"sep_token_id": tokenizer.sep_token_id, "pad_token_id": tokenizer.pad_token_id},
            "max_position_embeddings": 128,
        },
        vision_config={
            **shared,
            **{"num_hidden_layers": layers, "patch_size": 16, "initializer_range": 0.02},
            "image_size": processor.image_processor.size["height"],
        },
    )


class Rows(torch.utils.data.Dataset):
    """One picture and one caption a row, as the stock recipes have it."""

    def __init__(self, records: list[CaptionRecord]):
        self.rows = [(record, text) for record in records for text in record.captions]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:
        record, text = self.rows[index]
        return load_image(record.image), text


class StockCollator:
    """`processor(images, text, padding=True)` with -100 on padding, and the right start token."""

    def __init__(self, processor: BlipProcessor, start: int):
        self.processor, self.start = processor, start

    def __call__(self, rows: list[tuple[Image.Image, str]]) -> dict[str, torch.Tensor]:
        batch = dict(
            self.processor(
                images=[picture for picture, _ in rows],
                text=[text for _, text in rows],
                padding=True,
                truncation=True,
                max_length=40,
                return_tensors="pt",
            )
        )
        batch["input_ids"][:, 0] = self.start
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        return batch


class Validation:
    """Mean cross-entropy over all caption tokens of held-out images, the same way for both sides."""

    def __init__(self, config: BlipConfig, processor: BlipProcessor, records: list[CaptionRecord]):
        self.model = BlipForConditionalGeneration(config).eval()
        dataset = BlipCaptionDataset(records)
        collator = CaptionCollator(processor, config.text_config.bos_token_id)
        self.batches = []
        for first in range(0, len(dataset), 20):
            batch = collator([dataset[place] for place in range(first, min(first + 20, len(dataset)))])
            names = ("pixel_values", "input_ids", "attention_mask", "labels", "caption_counts")
            self.batches.append({name: batch[name] for name in names if name in batch})
            pixels = self.batches[-1]["pixel_values"]
            if pixels.dtype == torch.uint8:
                raise TypeError("The collator leaves pixels to the trainer: normalise them here.")
        self.tokens = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in self.batches)

    def __call__(self, model: torch.nn.Module) -> float:
        self.model.load_state_dict(model.state_dict())
        with torch.inference_mode():
            total = sum(self.model(**b, loss_only=True, num_items_in_batch=1).loss.item() for b in self.batches)
        return total / self.tokens


class Watch(TrainerCallback):
    """Seconds of training, with validation off the clock; ends training at `target`."""

    def __init__(self, validate: Validation, every: int, target: float | None = None):
        self.validate, self.every, self.target = validate, every, target
        self.seconds, self.curve = 0.0, []

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.curve.append({"step": 0, "seconds": 0.0, "loss": self.validate(model)})
        self.since = time.perf_counter()

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every and state.global_step != state.max_steps:
            return
        self.seconds += time.perf_counter() - self.since
        loss = self.validate(model)
        self.curve.append({"step": state.global_step, "seconds": round(self.seconds, 2), "loss": round(loss, 4)})
        print(f"    step {state.global_step}: {self.seconds:.0f} s, loss {loss:.4f}", flush=True)
        if self.target is not None and loss <= self.target:
            control.should_training_stop = True
        self.since = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder in a form that `load_source` knows (flickr8k)")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--validation", type=int, default=60)
    parser.add_argument("--rows", type=int, default=16, help="rows of a batch of the stock recipe")
    parser.add_argument("--compositions", nargs="+", default=["3x5", "4x4", "8x2"], help="images x captions")
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--every", type=int, default=25, help="steps between two validations")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--patience", type=float, default=6.0, help="epochs after which ours gives up")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path, default=RESULTS / "time_to_quality.json")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.smoke:
        options.images, options.validation, options.every, options.compositions = 24, 8, 5, ["3x5"]
    transformers.logging.set_verbosity_error()

    if options.photos:
        train = load_source("flickr8k", data_dir=options.photos, split="train")[: options.images]
        held_out = load_source("flickr8k", data_dir=options.photos, split="validation")[: options.validation]
    else:
        train = load_source("scenes:everyday", split="train")[: options.images]
        held_out = load_source("scenes:everyday", split="validation")[: options.validation]
    assert len(train) == options.images and all(len(record.captions) == CAPTIONS for record in train)
    processor = make_processor(train, 32 if options.smoke else 224)
    config = make_config(processor, options.smoke)
    torch.manual_seed(0)
    weights = transformers.BlipForConditionalGeneration(config).state_dict()
    validate = Validation(config, processor, held_out)
    common = dict(
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=20,
        weight_decay=0.05,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        gradient_accumulation_steps=1,
        gradient_checkpointing=False,
        bf16=options.precision == "bf16",
        seed=0,
        use_cpu=not torch.cuda.is_available(),
    )

    def stock(folder: str) -> Watch:
        model = transformers.BlipForConditionalGeneration(config)
        model.load_state_dict(weights)
        watch = Watch(validate, options.every)
        args = TrainingArguments(
            folder,
            num_train_epochs=2,
            per_device_train_batch_size=options.rows,
            remove_unused_columns=False,
            **common,
        )
        set_seed(0)
        trainer = Trainer(
            model,
            args,
            train_dataset=Rows(train),
            data_collator=StockCollator(processor, config.text_config.bos_token_id),
            callbacks=[watch],
        )
        trainer.train()
        return watch

    def ours(folder: str, images: int, captions: int, target: float) -> Watch:
        model = BlipForConditionalGeneration(config)
        model.load_state_dict(weights)
        watch = Watch(validate, options.every, target)
        args = CaptionTrainingArguments(
            folder,
            num_train_epochs=options.patience * CAPTIONS / captions,
            per_device_train_batch_size=images,
            captions_per_image="all" if captions == CAPTIONS else captions,
            eval_strategy="no",
            **{**common, "precision": options.precision, "bf16": False},
        )
        set_seed(0)
        trainer = CaptionTrainer(model, args, BlipCaptionDataset(train), processing_class=processor, callbacks=[watch])
        trainer.train()
        return watch

    load = os.getloadavg()[0]
    rows: dict[str, dict] = {}
    curves: dict[str, list[dict]] = {}

    def keep(baseline: list[dict]) -> None:
        """Written after each composition: what has been measured is not lost."""
        result = {
            "target_loss": baseline[-1]["loss"],
            "stock": baseline[-1] | {"seconds_a_step": round(baseline[-1]["seconds"] / baseline[-1]["step"], 3)},
            "ours": rows,
            "curves": {"stock": baseline, **curves},
            "setting": {
                name: str(value) for name, value in vars(options).items() if name not in ("photos", "output", "smoke")
            },
            "real_photos": options.photos is not None,
            "parameters": sum(tensor.numel() for tensor in weights.values()),
            "machine": {
                "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor_name(),
                "cores": os.cpu_count(),
                "threads": torch.get_num_threads(),
                "load_average_at_start": round(load, 2),
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }
        if not options.smoke:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            write_json(options.output, result)

    with tempfile.TemporaryDirectory() as folder:
        print("  stock", flush=True)
        baseline = stock(folder).curve
        target = baseline[-1]["loss"]
        keep(baseline)
        for composition in options.compositions:
            images, captions = map(int, composition.split("x"))
            print(f"  ours, {composition}: until {target:.4f}", flush=True)
            curve = curves[composition] = ours(folder, images, captions, target).curve
            at = next((row for row in curve if row["loss"] <= target), None)
            rows[composition] = {
                "reached": at,
                "share_of_stock_time": at and round(at["seconds"] / baseline[-1]["seconds"], 3),
                "share_of_stock_steps": at and round(at["step"] / baseline[-1]["step"], 3),
                "seconds_a_step": round(curve[-1]["seconds"] / curve[-1]["step"], 3),
            }
            print(f"{composition}: {json.dumps(rows[composition])}", flush=True)
            keep(baseline)


if __name__ == "__main__":
    main()
