"""`--submission` and `--spice-images` on the command line, with the starter on small COCO and nocaps folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blip_refine.cli.main import main
from blip_refine.data.fetch.catalog import CATALOG
from blip_refine.data.fetch.dataset import fetch_dataset
from blip_refine.metrics import spice, submission

from ..data import published_files as small
from ..data.file_server import FileServer

STARTER_FAST = ["starter", "--decoding", "fast"]


def run(capsys, *arguments: str, code: int = 0):
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    printed = capsys.readouterr()
    assert stopped.value.code == code, printed.err
    assert "Traceback" not in printed.err
    return printed


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Folders as `fetch` leaves them."""
    files = {**small.coco_files(), **small.nocaps_files()}
    with FileServer(files) as server:
        for name, parts in (("coco", ["karpathy", "train2014", "val2014", "test2014"]), ("nocaps", ["val", "test"])):
            monkeypatch.setitem(CATALOG, name, small.with_checksums_of(name, files))
            fetch_dataset(name, tmp_path / name, accept_license=True, parts=parts, mirror=server.url)
    return tmp_path


def test_a_split_with_captions_is_scored_and_submitted(published, capsys, monkeypatch):
    monkeypatch.setattr(submission, "NOCAPS_SPLITS", {"val": 3, "test": 2})
    target = published / "nocaps_val.json"
    data = ["--dataset", "nocaps", "--data-dir", str(published / "nocaps"), "--split", "validation"]
    options = [*data, "--metrics", "Bleu,ROUGE_L", "--output", str(published / "out"), "--submission", str(target)]
    printed = run(capsys, "evaluate", *STARTER_FAST, *options)
    assert f"Submission: {target} (3 images)" in printed.out
    rows = json.loads(target.read_text())
    assert [row["image_id"] for row in rows] == [0, 1, 2] and all(row["caption"] for row in rows)
    scored = [json.loads(line) for line in (published / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [row["caption"] for row in rows] == [row["caption"] for row in scored]


def test_a_split_without_captions_is_only_submitted(published, capsys, monkeypatch):
    monkeypatch.setattr(submission, "NOCAPS_SPLITS", {"val": 3, "test": 2})
    target = published / "nocaps_test.json"
    data = ["--dataset", "nocaps", "--data-dir", str(published / "nocaps"), "--split", "test"]
    output = ["--output", str(published / "out")]
    assert run(capsys, "evaluate", *STARTER_FAST, *data, *output, "--submission", str(target)).out
    assert [row["image_id"] for row in json.loads(target.read_text())] == [0, 1]
    assert not (published / "out").exists()
    for more in ([], ["--submission", str(target), "--metrics", "Bleu"]):
        printed = run(capsys, "evaluate", *STARTER_FAST, *data, *output, *more, code=2)
        assert "The test images of nocaps have no captions to score against" in printed.err


def test_what_the_server_would_refuse_stops_before_captioning(published, capsys, monkeypatch):
    monkeypatch.setattr("blip_refine.pipeline.CaptionPipeline.from_pretrained", None)
    data = ["--dataset", "coco", "--data-dir", str(published / "coco")]
    target = published / "captions_val2014_blip_results.json"
    printed = run(capsys, "evaluate", *STARTER_FAST, *data, "--submission", str(target), code=2)
    assert "must have all 40504 images of val2014, and there are 1" in printed.err


def test_an_image_that_cannot_be_read_leaves_no_submission(published, capsys, monkeypatch):
    monkeypatch.setattr(submission, "NOCAPS_SPLITS", {"val": 3, "test": 2})
    next((published / "nocaps" / "val").iterdir()).write_bytes(b"not a photo")
    target = published / "nocaps_val.json"
    data = ["--dataset", "nocaps", "--data-dir", str(published / "nocaps"), "--split", "validation"]
    options = [*data, "--output", str(published / "out"), "--submission", str(target), "--metrics", "Bleu"]
    assert "no caption for 1 of 3 images" in run(capsys, "evaluate", *STARTER_FAST, *options, code=2).err
    assert not target.exists()


@pytest.fixture
def sampled(monkeypatch):
    """How many images SPICE was asked about, at each call; its program is another test's."""
    asked: list[int] = []

    def run_spice(predictions, references):
        asked.append(len(predictions))
        return [0.25] * len(predictions)

    monkeypatch.setattr(spice, "run_spice", run_spice)
    return asked


SCENES = ["--dataset", "scenes:everyday"]


@pytest.mark.parametrize("command", ["evaluate", "compare", "ablate", "train"])
def test_spice_on_so_many_images_everywhere(command, sampled, tmp_path, capsys):
    out = ["--output", str(tmp_path / "out"), "--metrics", "Bleu_1,CIDEr,SPICE", "--spice-images", "3"]
    arguments = {
        "evaluate": [*STARTER_FAST, *SCENES, "--images", "6", "--allow-overlap"],
        "compare": ["scenes:everyday", "a=starter", "b=starter > rules", "--images", "6"],
        "ablate": ["starter", *SCENES, "--decoding", "fast", "--refiner", "rules", "--images", "6"],
        "train": [*SCENES, "--train-images", "4", "--eval-images", "6", "--max-steps", "1", "--allow-overlap", "true"],
    }[command]
    run(capsys, command, *arguments, *out)
    assert sampled and set(sampled) == {3}
    scores = json.loads(Path(tmp_path / "out" / "coco_metrics.json").read_text())
    assert scores["SPICE"] == 0.25 and "spice:1.0.sample3.seed0" in scores["signature"]


@pytest.mark.parametrize("command", ["evaluate", "compare", "ablate", "train", "score"])
def test_spice_images_without_spice_are_refused_at_once(command, tmp_path, capsys):
    arguments = {
        "evaluate": ["nothing", *SCENES],
        "compare": ["scenes:everyday", "a=nothing"],
        "ablate": ["nothing", *SCENES],
        "train": [*SCENES, "--model", "nothing"],
        "score": ["nothing.jsonl", "nothing.jsonl"],
    }[command]
    printed = run(capsys, command, *arguments, "--metrics", "Bleu", "--spice-images", "3", code=2)
    assert "without SPICE among the metrics" in printed.err
