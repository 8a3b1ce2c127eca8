from __future__ import annotations

import json

import pytest
from PIL import Image

from blip_refine.errors import (
    BlipRefineError,
    ConfigurationError,
    DataError,
    MetricError,
    SourceFormatError,
    SourceNotFoundError,
)
from blip_refine.evaluation.compare import compare_systems
from blip_refine.evaluation.evaluator import captions_of, read_predictions, spread
from blip_refine.records import Caption, CaptionRecord, SceneObject
from blip_refine.report.report import write_report

METRICS = ["Bleu", "ROUGE_L", "CIDEr"]
THINGS = ("ball", "house", "boat", "tree", "star", "fish", "car", "dog", "bird", "kite", "bus", "lamp")


@pytest.fixture
def records(tmp_path) -> list[CaptionRecord]:
    found = []
    for number, thing in enumerate(THINGS):
        path = tmp_path / f"{thing}.png"
        Image.new("RGB", (200, 100), (number * 20, 80, 120)).save(path)
        captions = (f"a {thing} on the grass", f"there is a {thing} on grass")
        objects = (SceneObject(thing, color="red"),)
        found.append(CaptionRecord(path, captions, thing, objects=objects, metadata={"place": "grass"}))
    return found


def poor(images):
    return ["a thing" for _ in images]


class Good:
    """A captioner that has learnt the file names."""

    def __init__(self):
        self.batches: list[int] = []

    def __call__(self, images):
        self.batches.append(len(images))
        return [Caption(f"a {p.stem} on the grass", f"a {p.stem} on grass", confidence=-0.5) for p in images]


def test_models_on_a_dataset_end_in_a_report(records, tmp_path):
    good = Good()
    comparison = compare_systems(
        {"before": poor, "after": good}, records, metrics=METRICS, batch_size=3, output_dir=tmp_path / "run"
    )
    assert good.batches == [3, 3, 3, 3]
    assert comparison.scores["after"].corpus["Bleu_4"] == pytest.approx(1.0)
    test = comparison.test("after", "before", "CIDEr")
    assert (test.wins, test.ties, test.losses) == (12, 0, 0) and test.verdict() == "better"
    metrics = json.loads((tmp_path / "run" / "coco_metrics.json").read_text())
    assert list(metrics["systems"]) == ["before", "after"]
    assert metrics["CIDEr"] == metrics["systems"]["after"]["CIDEr"]
    assert metrics["systems"]["after"]["intervals"]["CIDEr"]["low"] <= metrics["CIDEr"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert rows[0]["systems"] == {"before": "a thing", "after": "a ball on the grass"}
    assert rows[0]["objects"] == [{"name": "ball", "color": "red", "count": 1}]
    assert rows[0]["confidence"] == -0.5 and rows[0]["metadata"] == {"place": "grass"}
    assert rows[0]["scores"]["after"]["CIDEr"] > rows[0]["scores"]["before"]["CIDEr"]
    errors = json.loads((tmp_path / "run" / "error_analysis.json").read_text())
    assert errors["systems"]["before"]["faults"]["omission"]["share"] == 1.0
    assert errors["systems"]["after"]["faults"]["omission"]["share"] == 0.0
    assert "hallucination" in errors["people"]["faults"]
    with Image.open(tmp_path / "run" / rows[0]["image"]) as picture:
        assert picture.size == (200, 100)
    page = write_report(tmp_path / "run", plots=False).read_text(encoding="utf-8")
    assert "After is better than before" in page


def test_single_reference_is_the_first_alone(records):
    known = {record.image_id: list(record.captions) for record in records}
    second = {record.image_id: record.captions[1] for record in records}
    comparison = compare_systems({"second": second}, known, metrics=["Bleu_4"])
    assert comparison.scores["second"].corpus["Bleu_4"] == pytest.approx(1.0)
    alone = comparison.single_reference["second"]
    assert alone.corpus["Bleu_4"] < 0.5
    assert "single_reference" in comparison.to_dict()["systems"]["second"]
    once = {key: texts[:1] for key, texts in known.items()}
    assert compare_systems({"second": second}, once, metrics=["Bleu_4"]).single_reference == {}


def test_files_of_any_form(records, tmp_path):
    known, rows = tmp_path / "references.jsonl", [{"image_id": r.image_id, "caption": r.captions[0]} for r in records]
    known.write_text("".join(json.dumps({"image_id": r.image_id, "captions": r.captions}) + "\n" for r in records))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # A path before the name of the file, as `caption` writes it.
    (tmp_path / "b.json").write_text(json.dumps([{**row, "image_id": f"photos/{row['image_id']}"} for row in rows]))
    comparison = compare_systems({"a": tmp_path / "a.jsonl", "b": str(tmp_path / "b.json")}, known, metrics=["CIDEr"])
    assert comparison.test("b", "a", "CIDEr").ties == len(records)


def test_sets_of_images_that_differ_are_refused_or_cut(records):
    known = {record.image_id: list(record.captions) for record in records}
    whole = {key: texts[0] for key, texts in known.items()}
    part = {key: text for key, text in whole.items() if key != "dog"}
    with pytest.raises(MetricError, match="dog"):
        compare_systems({"a": whole, "b": part}, known, metrics=["CIDEr"])
    comparison = compare_systems({"a": whole, "b": part}, known, metrics=["CIDEr"], common_only=True)
    assert len(comparison.references) == 11
    with pytest.raises(MetricError, match="no image in common"):
        compare_systems({"a": {"other": "a"}}, known, common_only=True)


def test_an_unreadable_image_counts_for_no_system(records):
    def half_blind(images):
        return [
            Caption("", "", error="not an image") if image.stem == "fish" else Caption("a car", "a car")
            for image in images
        ]

    comparison = compare_systems({"a": poor, "b": half_blind}, records, metrics=["Bleu_1"])
    assert comparison.skipped == {"fish": "not an image"}
    assert "fish" not in comparison.references and len(comparison.references) == 11
    assert comparison.to_dict()["skipped"] == {"fish": "not an image"}


def test_one_image_has_scores_and_no_tests():
    comparison = compare_systems({"a": {"1": "a dog"}, "b": {"1": "a cat"}}, {"1": ["a dog"]}, metrics=["Bleu_1"])
    assert comparison.scores["a"].corpus["Bleu_1"] == pytest.approx(1.0) and comparison.tests == ()


def test_what_cannot_be_compared_says_why(records, tmp_path):
    known = {record.image_id: list(record.captions) for record in records}
    with pytest.raises(ConfigurationError, match="at least one"):
        compare_systems({}, known)
    with pytest.raises(ConfigurationError, match="name a dataset"):
        compare_systems({"a": poor}, known)
    with pytest.raises(DataError, match="1 captions for 12 images"):
        compare_systems({"a": lambda images: ["a"]}, records)
    with pytest.raises(SourceNotFoundError, match="no file"):
        captions_of(str(tmp_path / "none.jsonl"))
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"image_id": "1", "text": "a"}\n')
    with pytest.raises(SourceFormatError, match="row 1: a prediction has"):
        read_predictions(bad)
    bad.write_text('{"image_id": "1", "caption": "a"}\n' * 2)
    with pytest.raises(SourceFormatError, match="row 2: the image '1' has a caption already"):
        read_predictions(bad)
    with pytest.raises(ConfigurationError, match="'a' was not tested against 'b'"):
        compare_systems({"a": poor}, records, metrics=["Bleu_1"]).test("a", "b", "Bleu_1")


@pytest.mark.parametrize(
    ("references", "options", "message"),
    [
        ({"a": ["a dog"], "b": ["a cat"]}, {"metrics": ["WER"]}, "no metric 'WER'"),
        ({"a": ["a dog"], "b": ["a cat"]}, {"pairs": "some"}, "'all', 'baseline'"),
        ({"a": ["a dog"], "b": []}, {}, "without a single reference: 1 image"),
        ({"a": "dog", "b": ["a cat"]}, {}, "a list of strings an image, not one string"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_anything_is_captioned(references, options, message):
    def captioner(images):
        raise AssertionError("captioned in vain")

    records = [CaptionRecord(Image.new("RGB", (8, 8)), captions, name) for name, captions in references.items()]
    with pytest.raises(BlipRefineError, match=message):
        compare_systems({"x": captioner, "y": captioner}, records, **options)
    with pytest.raises(BlipRefineError, match=message):
        compare_systems({"x": {"a": "", "b": ""}, "y": {"a": "", "b": ""}}, references, **options)


def test_spread_keeps_the_extremes_and_the_number():
    gains = [float(place) for place in range(100)]
    places = spread(gains, 12)
    assert len(places) == 12 and places == sorted(set(places))
    assert {0, 1, 2, 97, 98, 99} <= set(places)
    assert spread([None] * 10, 4) == spread([None] * 10, 4) and len(spread([None] * 10, 4)) == 4
    assert spread(gains[:3], 12) == [0, 1, 2] and spread(gains, 0) == []
