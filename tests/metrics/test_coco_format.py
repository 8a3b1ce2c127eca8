from __future__ import annotations

import json

import pytest

from blip_refine.errors import MetricError, SourceFormatError, SourceNotFoundError
from blip_refine.metrics import read_coco_captions, read_coco_results, score_captions, write_coco_results
from blip_refine.metrics.coco_format import read_predictions, read_references


def test_results_round_trip_with_numbers_as_coco_has_them(tmp_path):
    predictions = {"391895": "a man on a motorcycle", "522418": "a woman \u201ccuts\u201d a cake"}
    write_coco_results(tmp_path / "results.json", predictions)
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert rows[0] == {"image_id": 391895, "caption": "a man on a motorcycle"}
    assert read_coco_results(tmp_path / "results.json") == predictions


@pytest.mark.parametrize("image_id", ["007", "a.jpg", "-1", "\u0663"])
def test_ids_that_are_no_plain_numbers_stay_text(tmp_path, image_id):
    write_coco_results(tmp_path / "results.json", {image_id: "a", "12": "b"})
    assert [row["image_id"] for row in json.loads((tmp_path / "results.json").read_text())] == [image_id, "12"]
    assert read_coco_results(tmp_path / "results.json") == {image_id: "a", "12": "b"}


def test_pycocotools_reads_what_is_written(tmp_path, capsys):
    coco = pytest.importorskip("pycocotools.coco")
    annotations = {
        "images": [{"id": 1}, {"id": 2}],
        "annotations": [
            {"id": 1, "image_id": 1, "caption": "a dog runs"},
            {"id": 2, "image_id": 1, "caption": "a brown dog"},
            {"id": 3, "image_id": 2, "caption": "two boats"},
        ],
        "type": "captions", "info": {}, "licenses": [],
    }  # fmt: skip
    (tmp_path / "captions.json").write_text(json.dumps(annotations))
    write_coco_results(tmp_path / "results.json", {"1": "a dog", "2": "boats"})
    results = coco.COCO(str(tmp_path / "captions.json")).loadRes(str(tmp_path / "results.json"))
    assert results.imgToAnns[1][0]["caption"] == "a dog"
    references = read_coco_captions(tmp_path / "captions.json")
    assert references == {"1": ["a dog runs", "a brown dog"], "2": ["two boats"]}
    assert score_captions(read_coco_results(tmp_path / "results.json"), references, ["Bleu_1"]).corpus["Bleu_1"] > 0


def test_real_coco_annotations(test_data):
    references = read_references(test_data / "coco85" / "captions_val2017.json")
    assert len(references) == 85 and all(len(captions) >= 5 for captions in references.values())


def test_json_lines(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"image_id": 1, "caption": "a"}\n{"image_id": "b", "caption": "c", "x": 1}\n')
    assert read_predictions(tmp_path / "p.jsonl") == {"1": "a", "b": "c"}
    (tmp_path / "r.jsonl").write_text(
        '{"image_id": 1, "captions": ["a", "b"]}\n{"image_id": "b", "caption": "x", "references": ["c"]}\n'
    )
    assert read_references(tmp_path / "r.jsonl") == {"1": ["a", "b"], "b": ["c"]}


BAD_PREDICTIONS = {
    "p.json": [
        ('{"a": 1}', SourceFormatError, "a COCO results file is a list"),
        ("[5]", SourceFormatError, "entry 1: expected an object"),
        ("[{}]", SourceFormatError, "entry 1: a prediction has an `image_id` and a `caption`"),
        ('[{"image_id": 1, "caption": null}]', SourceFormatError, "caption` that is text"),
        ('[{"image_id": 1.5, "caption": "a"}]', SourceFormatError, "string or a whole number, found 1.5"),
        ('[{"image_id": 1, "caption": "a"}, {"image_id": "1", "caption": "b"}]', MetricError, "for 1 image .'1'"),
        ("[", SourceFormatError, "not JSON"),
    ],
    "p.jsonl": [
        ('{"image_id": 1}', SourceFormatError, "row 1: a prediction has"),
        (
            '{"image_id": 1, "caption": "a"}\n{"image_id": 1, "caption": "b"}',
            MetricError,
            "More than one of the predictions",
        ),
        ('{"image_id": 1,', SourceFormatError, "line 1: not JSON"),
    ],
}


@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in BAD_PREDICTIONS.items() for case in cases])
def test_bad_predictions(tmp_path, name, case):
    content, error, message = case
    (tmp_path / name).write_text(content)
    with pytest.raises(error, match=message):
        read_predictions(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.json", "[]", "an object with a list `annotations`"),
        ("r.json", '{"annotations": [{"image_id": 1}]}', "annotation 1: expected `image_id` and a `caption`"),
        ("r.jsonl", '{"image_id": 1, "captions": "a"}', "row 1: a reference row has an `image_id` and `captions`"),
        ("r.jsonl", '{"image_id": 1, "captions": ["a"]}\n{"image_id": 1, "captions": ["a"]}', "More than one"),
    ],
)
def test_bad_references(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises((SourceFormatError, MetricError), match=message):
        read_references(tmp_path / name)


def test_files_that_are_not_there(tmp_path):
    for read in (read_predictions, read_references):
        for name in ("none.json", "none.jsonl"):
            with pytest.raises(SourceNotFoundError, match="There is no file"):
                read(tmp_path / name)
    (tmp_path / "latin.json").write_bytes(b'[{"image_id": 1, "caption": "caf\xe9"}]')
    with pytest.raises(SourceFormatError, match="not UTF-8"):
        read_predictions(tmp_path / "latin.json")
