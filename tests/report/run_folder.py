"""A run folder as a run leaves it behind, small and drawn on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

COLORS = {"red": "#d33", "blue": "#36c", "green": "#3a3", "yellow": "#dc3"}
THINGS = ("ball", "house", "boat")


def draw(color: str, thing: str, path: Path) -> None:
    picture = Image.new("RGB", (96, 96), "#cde")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 70, 96, 96), fill="#8a6")
    shape = {"ball": pen.ellipse, "house": pen.rectangle, "boat": pen.rounded_rectangle}[thing]
    shape((28, 30, 68, 72), fill=COLORS[color])
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def example_row(number: int, folder: Path, rng: random.Random) -> dict:
    color, thing = rng.choice(list(COLORS)), rng.choice(THINGS)
    image = f"images/{number:03d}.png"
    draw(color, thing, folder / image)
    right = f"a {color} {thing} on the grass"
    before = rng.choice(["a thing", "a ball and a ball and a ball", "a purple dog"])
    systems = {"before": before, "after": right if rng.random() < 0.8 else f"a {thing}", "refined": f"{right}."}
    return {
        "image_id": f"{number:03d}.png",
        "caption": systems["refined"],
        "references": [
            right,
            f"there is a {color} {thing} on grass",
            f"a {thing} that is {color} stands on the grass",
        ],
        "systems": systems,
        "confidence": -rng.random() * 2,
        "image": image,
        "objects": [{"name": thing, "color": color, "count": 1}],
        "scores": {"before": {"CIDEr": rng.random()}, "after": {"CIDEr": 2 + rng.random()}, "refined": {"CIDEr": 2.4}},
    }


def make_run(folder: Path, images: int = 12) -> Path:
    """Write a whole run folder, but for the weights."""
    rng = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [example_row(number, folder, rng) for number in range(images)]
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    systems = {}
    for name, level in (("before", 0.1), ("after", 0.7), ("refined", 0.72)):
        scores = {f"Bleu_{order}": level - 0.02 * order for order in (1, 2, 3, 4)}
        scores |= {"ROUGE_L": level, "CIDEr": 3 * level}
        systems[name] = {
            **scores,
            "signature": "coco|tok:ptb|refs:3",
            "unavailable": {"METEOR": "there is no Java: pip install 'blip_refine[metrics]'"},
            "intervals": {metric: {"low": value * 0.9, "high": value * 1.1} for metric, value in scores.items()},
        }
    comparison = {
        "system": "after", "baseline": "before", "metric": "CIDEr", "difference": 1.8, "low": 1.6, "high": 2.0,
        "p_value": 0.001, "p_corrected": 0.002, "wins": images - 1, "ties": 1, "losses": 0,
    }  # fmt: skip
    draw_again = {**comparison, "system": "refined", "baseline": "after", "difference": 0.06, "low": -0.1, "high": 0.2}
    metrics = {**systems["refined"], "systems": systems}
    metrics["comparisons"] = [comparison, {**draw_again, "p_value": 0.4, "p_corrected": 0.4}]
    (folder / "coco_metrics.json").write_text(json.dumps(metrics))
    log = [{"step": step, "epoch": step / 100, "loss": 3 / (1 + step / 50)} for step in range(10, 310, 10)]
    log += [
        {"step": step, "epoch": step / 100, "eval_loss": 3.2 / (1 + step / 50), "eval_sacrebleu": step / 9,
         "eval_runtime": 2.0, "eval_samples_per_second": 5.0}
        for step in (100, 200, 300)
    ]  # fmt: skip
    (folder / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    facts = {
        "base_model": "starter", "dataset": "scenes", "splits": {"train": {"images": 900, "captions": 4500}},
        "hyperparameters": {"learning_rate": 5e-4}, "parameters": 3_700_000, "seconds": 151.2,
        "versions": {"torch": "2.13.0", "transformers": "5.23"}, "refiner": "rules",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    return folder
