"""Run folders to publish: a tiny BLIP with random weights, real processor files, and the result files of a run."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw

BASE_ID = "me/tiny-blip"
COLORS = {"red": "#d33", "blue": "#36c", "green": "#3a3"}
WORDS = "a an the red blue green boat ball house on water grass there is picture of big small . ,".split()


def make_base(folder: Path) -> Path:
    """A whole captioner: config.json, model.safetensors and processor files."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    from blip_refine.models.blip import BlipForConditionalGeneration

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in WORDS]
    tokens = specials + WORDS + letters + [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, do_lower_case=True)
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 32, "width": 32}), tokenizer)
    text = {
        "vocab_size": len(tokens) + 2, "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 64,
        "projection_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
        "bos_token_id": len(tokens), "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "projection_dim": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
    }  # fmt: skip
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=32)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_full_run(folder: Path, base: Path) -> Path:
    """A run folder with a whole model, as `train` leaves it behind, checkpoint and pickled arguments included."""
    import torch

    from blip_refine.models.captioner import load_captioner

    model, processor = load_captioner(base)
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_results(folder)
    torch.save({"hub_token": "not for others"}, folder / "training_args.bin")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "optimizer.pt").write_bytes(b"0" * 1000)
    return folder


def make_adapter_run(folder: Path, base: Path) -> Path:
    """A run folder with an adapter that changes the answers."""
    import torch

    from blip_refine.models.captioner import load_captioner

    model, processor = load_captioner(base, lora={"r": 4})
    torch.manual_seed(2)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": BASE_ID}))
    write_results(folder)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "base_model": BASE_ID}))
    return folder


def write_results(folder: Path, images: int = 12) -> None:
    """The result files of a run, and pictures."""
    rows, names = [], list(COLORS)
    for number in range(images):
        color, thing = names[number % 3], ("boat", "ball", "house")[number // 3 % 3]
        picture = Image.new("RGB", (64, 64), "#cde")
        ImageDraw.Draw(picture).ellipse((16, 20, 48, 52), fill=COLORS[color])
        path = folder / "images" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        systems = {"before": "a picture", "after": f"a {color} {thing}", "refined": f"A {color} {thing}."}
        references = [f"a {color} {thing} on the water", f"there is a {color} {thing}"]
        rows.append(
            {
                "image_id": path.name,
                "caption": systems["refined"],
                "references": references,
                "systems": systems,
                "image": f"images/{path.name}",
            }
        )
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    systems = {}
    for name, level in (("before", 0.1), ("after", 0.7), ("refined", 0.71)):
        scores = {f"Bleu_{order}": round(level - 0.02 * order, 4) for order in (1, 2, 3, 4)} | {"CIDEr": 3 * level}
        intervals = {
            metric: {"low": 0.9 * value, "high": 1.1 * value, "level": 0.95, "resamples": 1000, "seed": 0}
            for metric, value in scores.items()
        }
        systems[name] = {
            **scores,
            "signature": f"images:{images}|refs:2|case:lc|version:0.1.0",
            "unavailable": {"METEOR": "there is no Java"},
            "intervals": intervals,
            "images": images,
        }
    test = {"system": "after", "baseline": "before", "metric": "CIDEr", "difference": 1.8, "low": 1.6, "high": 2.0,
            "p_value": 0.001, "p_corrected": 0.002}  # fmt: skip
    metrics = {**systems["refined"], "final": "refined", "systems": systems, "comparisons": [test]}
    (folder / "coco_metrics.json").write_text(json.dumps(metrics))
    log = [{"step": 10, "loss": 3.2}, {"step": 20, "loss": 1.1}, {"step": 20, "eval_loss": 1.2}]
    state = {
        "global_step": 20,
        "epoch": 2.0,
        "log_history": log,
        "best_model_checkpoint": "/home/ada/run/checkpoint-20",
    }
    (folder / "trainer_state.json").write_text(json.dumps(state))
    facts = {
        "base_model": "starter", "dataset": "scenes:adventure", "refiner": "rules",
        "splits": {"train": {"images": 100, "captions": 500}, "test": {"images": images, "captions": 2 * images}},
        "evaluation_split": "test", "fingerprint": "sha256:0123456789abcdef", "overlap": "none found",
        "decoding": {"num_beams": 5, "max_new_tokens": 30}, "hyperparameters": {"learning_rate": 5e-4, "num_beams": 3},
        "parameters": 100_000, "trainable_parameters": 90_000, "seconds": 151.2, "hardware": "2 CPU cores, x86_64",
        "versions": {"blip_refine": "0.1.0", "torch": "2.13.0"},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
