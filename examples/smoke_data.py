"""What the `--smoke` runs of the examples stand on: drawn pictures in the layouts of real datasets, and a tiny BLIP-2.

Nothing here is downloaded. The pictures come from `blip_refine`'s own scene generator; the readers that open them are
those that open the real files.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

from blip_refine.data.sources import load_source

COUNTS = {"train": 64, "val": 8, "test": 8}


def _draw(folder: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Save drawn pictures as JPEG into a folder, and yield the split, file name and captions of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in COUNTS.items():
        for number, record in enumerate(load_source("scenes:adventure", split=split, count=count)):
            name = f"{split}_{number}.jpg"
            record.image.save(folder / name, quality=95)
            yield split, name, record.captions


def write_photo_folder(folder: Path) -> Path:
    """A folder of pictures with `captions.csv`, as people have them: without splits."""
    rows = [(name, caption) for _, name, captions in _draw(folder) for caption in captions]
    with open(folder / "captions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return folder


def write_flickr8k(folder: Path) -> Path:
    """`Images/`, `captions.txt` and the lists of the splits."""
    rows = list(_draw(folder / "Images"))
    lines = [f'{name},"{caption}"' for _, name, captions in rows for caption in captions]
    (folder / "captions.txt").write_text("\n".join(["image,caption", *lines]) + "\n", encoding="utf-8")
    for split, part in {"train": "trainImages", "val": "devImages", "test": "testImages"}.items():
        names = [name for of, name, _ in rows if of == split]
        (folder / f"Flickr_8k.{part}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def write_coco(folder: Path) -> Path:
    """`val2014/` and Karpathy's `dataset_coco.json`."""
    images = [
        {
            "filename": name,
            "filepath": "val2014",
            "split": split,
            "cocoid": number,
            "imgid": number,
            "sentences": [{"raw": caption} for caption in captions],
        }
        for number, (split, name, captions) in enumerate(_draw(folder / "val2014"))
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"images": images, "dataset": "coco"}), encoding="utf-8")
    return folder


def write_blip2(folder: Path) -> Path:
    """A BLIP-2 with a T5 of 2 layers and random weights. Every part is real, and its captions mean nothing."""
    import torch
    import transformers

    from blip_refine.models.captioner import resolve_checkpoint

    tokenizer = transformers.AutoTokenizer.from_pretrained(resolve_checkpoint("starter"))
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    processor = transformers.Blip2Processor(images, tokenizer, num_query_tokens=4)
    size = len(processor.tokenizer)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = transformers.T5Config(
        vocab_size=size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        decoder_start_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.sep_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config = transformers.Blip2Config(
        vision_config={**small, "image_size": 32, "patch_size": 16},
        qformer_config={**small, "vocab_size": size, "encoder_hidden_size": 32, "cross_attention_frequency": 1},
        text_config=text.to_dict(),
        num_query_tokens=4,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    torch.manual_seed(0)
    model = transformers.Blip2ForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.sep_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
