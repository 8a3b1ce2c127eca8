"""A run folder as a run leaves it behind, small and drawn on the spot."""

from __future__ import annotations

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

from blip_refine.evaluation.compare import compare_systems
from blip_refine.records import Caption, CaptionRecord, SceneObject

COLORS = {"red": "#d33", "blue": "#36c", "green": "#3a3", "yellow": "#dc3"}
THINGS = ("ball", "house", "boat")


def draw(color: str, thing: str) -> Image.Image:
    picture = Image.new("RGB", (96, 96), "#cde")
    pen = ImageDraw.Draw(picture)
    pen.rectangle((0, 70, 96, 96), fill="#8a6")
    if thing == "ball":
        pen.ellipse((28, 30, 68, 72), fill=COLORS[color])
    elif thing == "house":
        pen.polygon(((24, 48), (48, 24), (72, 48)), fill="#654")
        pen.rectangle((30, 48, 66, 74), fill=COLORS[color])
    else:
        pen.polygon(((20, 60), (76, 60), (66, 76), (30, 76)), fill=COLORS[color])
        pen.polygon(((46, 56), (46, 24), (66, 54)), fill="#eee")
    return picture


def make_record(number: int, rng: random.Random) -> CaptionRecord:
    color, thing = rng.choice(list(COLORS)), rng.choice(THINGS)
    captions = (
        f"a {color} {thing} on the grass",
        f"there is a {color} {thing} on grass",
        f"a {color} {thing} stands on the grass",
    )
    objects = (SceneObject(thing, color=color),)
    metadata = {"weather": rng.choice(("sun", "rain"))}
    return CaptionRecord(draw(color, thing), captions, f"{number:03d}.png", objects=objects, metadata=metadata)


def captions_for(record: CaptionRecord, rng: random.Random) -> dict[str, Caption]:
    """What three systems say: one knows little, one errs now and then, one errs a little less."""
    thing, color = record.objects[0].name, record.objects[0].color
    before = rng.choice(["a thing", "a ball and a ball", "a purple dog on the beach", f"a {thing} on a"])
    wrong = rng.choice([f"a {thing}", f"a purple {thing} on the grass", f"a {color} {thing} and a dog on the grass"])
    right = rng.random() < 0.7
    after = f"a {color} {thing} on the grass" if right else wrong
    refined = after if rng.random() < 0.8 else f"there is a {color} {thing} on grass"
    sure = rng.uniform(-0.4, -0.1) if right else rng.uniform(-1.2, -0.3)
    return {
        "before": Caption(before, before, confidence=sure - 1),
        "after": Caption(after, after, confidence=sure),
        "refined": Caption(refined, after, confidence=sure, refined=refined != after),
    }


def make_run(folder: Path, images: int = 24) -> Path:
    """Write a whole run folder, but for the weights."""
    rng = random.Random(0)
    records = [make_record(number, rng) for number in range(images)]
    systems: dict[str, dict[str, Caption]] = {"before": {}, "after": {}, "refined": {}}
    for record in records:
        for name, caption in captions_for(record, rng).items():
            systems[name][record.image_id] = caption
    compare_systems(systems, records, metrics=["Bleu", "ROUGE_L", "CIDEr"], resamples=200, output_dir=folder)
    edit(folder / "coco_metrics.json", say_no_java)
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


def say_no_java(metrics: dict) -> None:
    for scores in (metrics, *metrics["systems"].values()):
        scores["unavailable"] = {"METEOR": "there is no Java"}


def edit(path: Path, change) -> None:
    """Change a JSON file in place."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def read_rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def write_rows(folder: Path, rows: list[dict]) -> None:
    (folder / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
