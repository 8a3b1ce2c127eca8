from __future__ import annotations

import json
from pathlib import Path

import pytest

from blip_refine.cli.main import main
from blip_refine.jsonlines import write_jsonl

from ..metrics.captions import PREDICTIONS, REFERENCES


@pytest.fixture
def files(tmp_path):
    write_jsonl(tmp_path / "predictions.jsonl", ({"image_id": k, "caption": v} for k, v in PREDICTIONS.items()))
    write_jsonl(tmp_path / "references.jsonl", ({"image_id": k, "captions": v} for k, v in REFERENCES.items()))
    return [str(tmp_path / "predictions.jsonl"), str(tmp_path / "references.jsonl")]


def run(capsys, *arguments: str, code: int = 0):
    with pytest.raises(SystemExit) as stopped:
        main(["score", *arguments])
    printed = capsys.readouterr()
    assert stopped.value.code == code, printed.err
    assert "Traceback" not in printed.err
    return printed


def test_scores_for_a_person(files, capsys):
    printed = run(capsys, *files, "--metrics", "Bleu,ROUGE_L,CIDEr", "--bootstrap", "100")
    for part in ("4 images", "Bleu_4", "CIDEr", "95 % interval", "distinct_1", "Signature: images:4|refs:2-4"):
        assert part in printed.out
    assert "Warning: CIDEr over 4 images says little" in printed.err


def test_scores_in_a_file_and_as_json(files, capsys, tmp_path):
    target = tmp_path / "scores.json"
    options = ["--metrics", "bleu, cider,spice", "--output", str(target), "--per-image", "--bootstrap", "50"]
    value = json.loads(run(capsys, *files, *options, "--json").out)
    assert value == json.loads(target.read_text(encoding="utf-8"))
    assert 0 < value["Bleu_1"] < 1 and "SPICE" in value["unavailable"] and "SPICE" not in value
    assert set(value["per_image"]["CIDEr"]) == set(PREDICTIONS)
    assert value["intervals"]["Bleu_1"]["resamples"] == 50 and value["diversity"]["captions"] == 4


def test_coco_files(capsys, tmp_path):
    results = [{"image_id": n, "caption": text} for n, text in enumerate(PREDICTIONS.values())]
    annotations = [
        {"image_id": n, "id": n, "caption": text} for n, group in enumerate(REFERENCES.values()) for text in group
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    (tmp_path / "captions.json").write_text(json.dumps({"images": [], "annotations": annotations}))
    arguments = [str(tmp_path / "results.json"), str(tmp_path / "captions.json"), "--metrics", "CIDEr", "--json"]
    assert json.loads(run(capsys, *arguments).out)["CIDEr"] > 0


def test_frequencies_are_saved_and_used(files, capsys, tmp_path):
    frequencies = str(tmp_path / "df.json.gz")
    first = json.loads(run(capsys, *files, "--metrics", "CIDEr", "--save-frequencies", frequencies, "--json").out)
    again = json.loads(run(capsys, *files, "--metrics", "CIDEr", "--document-frequencies", frequencies, "--json").out)
    assert again["CIDEr"] == pytest.approx(first["CIDEr"]) and "df-frozen.4" in again["signature"]


def test_objects_give_hallucination_rates(files, capsys, tmp_path):
    truth = {"boat.jpg": ["boat"], "dogs.jpg": ["dog", "ball"], "kite.jpg": ["kite"], "room.jpg": ["chair"]}
    objects = tmp_path / "objects.jsonl"
    write_jsonl(objects, ({"image_id": k, "objects": v} for k, v in truth.items()))
    value = json.loads(run(capsys, *files, "--metrics", "Bleu_1", "--objects", str(objects), "--json").out)
    assert value["hallucination"]["CHAIRs"] == 0 and value["hallucination"]["omission"] == pytest.approx(1 / 5)
    assert "omission" in run(capsys, *files, "--metrics", "Bleu_1", "--objects", str(objects)).out


def test_a_subset_only_where_that_is_asked(files, capsys, tmp_path):
    few = tmp_path / "few.jsonl"
    write_jsonl(few, [{"image_id": "boat.jpg", "caption": "a boat"}, {"image_id": "room.jpg", "caption": "a chair"}])
    printed = run(capsys, str(few), files[1], "--metrics", "Bleu_1", code=2)
    assert "No prediction for 2 images" in printed.err
    assert json.loads(run(capsys, str(few), files[1], "--metrics", "Bleu_1", "--subset", "--json").out)["images"] == 2
    write_jsonl(few, [{"image_id": "tree.jpg", "caption": "a tree"}])
    printed = run(capsys, str(few), files[1], "--metrics", "Bleu_1", "--subset", code=2)
    assert "not one image id is in both" in printed.err and "tree.jpg" in printed.err


def test_paths_are_matched_by_the_names_of_the_files(files, capsys, tmp_path):
    rows = [json.loads(line) for line in Path(files[0]).read_text().splitlines()]
    moved = tmp_path / "moved.jsonl"
    write_jsonl(moved, [{**row, "image_id": f"some/photos/{row['image_id']}"} for row in rows])
    plain, found = (
        json.loads(run(capsys, path, files[1], "--metrics", "Bleu_4", "--json").out) for path in (files[0], str(moved))
    )
    assert found["Bleu_4"] == plain["Bleu_4"] and found["images"] == plain["images"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image_id": "boat.jpg", "caption": ""}], "Empty predictions"),
        ([{"image_id": "x", "caption": "a"}], "different sets"),
        ([{"image_id": "x"}], "row 1: a prediction has"),
        ([], "no predictions"),
    ],
)
def test_bad_input_is_one_sentence(files, capsys, tmp_path, rows, message):
    bad = tmp_path / "bad.jsonl"
    write_jsonl(bad, rows)
    assert message in run(capsys, str(bad), files[1], code=2).err


def test_unknown_metric_and_missing_file(files, capsys):
    assert "There is no metric 'WER'" in run(capsys, *files, "--metrics", "WER", code=2).err
    assert "There is no file" in run(capsys, "nowhere.jsonl", files[1], code=2).err
