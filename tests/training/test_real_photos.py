"""The whole path on 64 real photos: train, evaluate, caption, refine, report, through the command line.

Nothing pretrained on photos ships with the package, so that the scores are low; they have to be there and honest.
"""

from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main


def command(*arguments: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--quiet"])
    assert not stopped.value.code, arguments


@pytest.mark.slow
def test_train_evaluate_caption_refine_on_flickr8k(test_data, tmp_path):
    flickr, run = str(test_data / "flickr8k"), tmp_path / "run"
    common = ["--dataset", "flickr8k", "--data-dir", flickr]
    command(
        *("train", "--model", "starter", *common, "--output", str(run), "--train-images", "64", "--eval-images", "16"),
        *("--num-train-epochs", "2", "--learning-rate", "5e-4", "--num-beams", "2", "--max-new-tokens", "16"),
        *("--gradient-checkpointing", "false", "--refiner", "rules", "--use-cpu"),
    )
    scores = json.loads((run / "coco_metrics.json").read_text())
    assert set(scores["systems"]) == {"before", "after", "refined"}
    assert scores["systems"]["after"]["images"] == 16
    for row in scores["systems"].values():
        assert 0 <= row["Bleu_4"] <= row["Bleu_1"] < 0.8 and row["signature"]
    losses = [
        row["eval_loss"]
        for row in json.loads((run / "trainer_state.json").read_text())["log_history"]
        if "eval_loss" in row
    ]
    assert len(losses) == 2 and losses[1] < losses[0]
    facts = json.loads((run / "run.json").read_text())
    assert facts["splits"]["train"] == {"images": 64, "captions": 320}
    assert facts["overlap"] == "none found"
    assert (run / "README.md").is_file() and (run / "report" / "index.html").is_file()
    assert not list(run.glob("*.bin"))

    command("evaluate", str(run), *common, "--images", "16", "--num-beams", "2", "--output", str(tmp_path / "scores"))
    again = json.loads((tmp_path / "scores" / "coco_metrics.json").read_text())
    assert again["images"] == 16 and 0 <= again["CIDEr"] < 3

    photos = [str(path) for path in sorted((test_data / "flickr8k" / "images").iterdir())[:4]]
    captions = tmp_path / "captions.jsonl"
    command("caption", *photos, "--model", str(run), "--output", str(captions))
    rows = [json.loads(line) for line in captions.read_text().splitlines()]
    assert len(rows) == 4 and all(row["caption"] for row in rows)
    command("refine", str(captions), "--refiner", "rules", "--output", str(tmp_path / "refined.jsonl"))
    refined = [json.loads(line) for line in (tmp_path / "refined.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in refined] == [row["image_id"] for row in rows]
