from __future__ import annotations

import json
import os
import sys
import threading

import pytest

from blip_refine.errors import ConfigurationError, MetricError, SourceFormatError, SourceNotFoundError
from blip_refine.metrics import COCO_METRICS, DocumentFrequencies, PreparedReferences, score_captions, score_systems
from blip_refine.metrics.validation import check_duplicates

from .captions import PREDICTIONS, REFERENCES

NATIVE = ["Bleu", "ROUGE_L", "CIDEr"]


def test_signature_says_how():
    scores = score_captions(PREDICTIONS, REFERENCES, NATIVE)
    assert scores.signature.startswith("images:4|refs:2-4|case:lc|tok:ptb-1|")
    for part in ("bleu:coco.closest", "rouge:L.beta1.2", "cider:D.sigma6.df-these", "version:"):
        assert part in scores.signature
    assert "meteor" not in scores.signature


def test_signature_tells_the_variants_of_cider_apart():
    for names, part in (
        (["CIDEr"], "cider:D.sigma6.df-these"),
        (["CIDEr-plain"], "cider:plain.df-these"),
        (["CIDEr-plain", "CIDEr-D"], "cider:D.sigma6+plain.df-these"),
    ):
        assert part in score_captions(PREDICTIONS, REFERENCES, names).signature.split("|")


def test_dictionary_is_json_with_metrics_at_the_top():
    scores = score_captions(PREDICTIONS, REFERENCES, [*NATIVE, "SPICE"], bootstrap=50)
    value = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert list(value)[:6] == ["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr"]
    assert value["signature"] == scores.signature and "SPICE" not in value and "SPICE" in value["unavailable"]
    assert value["intervals"]["CIDEr"]["low"] <= value["CIDEr"] <= value["intervals"]["CIDEr"]["high"]
    assert value["intervals"]["CIDEr"]["resamples"] == 50


def test_per_image_is_by_id_whatever_the_order():
    backwards = dict(reversed(list(PREDICTIONS.items())))
    assert (
        score_captions(backwards, REFERENCES, NATIVE).per_image
        == score_captions(PREDICTIONS, REFERENCES, NATIVE).per_image
    )


@pytest.mark.parametrize(
    "name", ["bleu", "BLEU", "Bleu_4", "rouge_l", "ROUGE-L", "RougeL", "cider", "CIDEr-D", "ciderd"]
)
def test_metric_names_in_any_spelling(name):
    assert score_captions(PREDICTIONS, REFERENCES, [name]).corpus


def test_unknown_metric_lists_the_known():
    with pytest.raises(ConfigurationError, match="no metric 'WER'.*Bleu.*CIDEr"):
        score_captions(PREDICTIONS, REFERENCES, ["WER"])
    with pytest.raises(ConfigurationError, match="No metric was asked for"):
        score_captions(PREDICTIONS, REFERENCES, [])
    with pytest.raises(ConfigurationError, match="at least one image, not 0"):
        score_captions(PREDICTIONS, REFERENCES, NATIVE, spice_images=0)
    assert COCO_METRICS == ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "ROUGE_L", "CIDEr", "SPICE")


def without(mapping, *ids):
    return {image_id: value for image_id, value in mapping.items() if image_id not in ids}


BAD = {
    "no predictions": ({}, REFERENCES, "no predictions for the 4 images"),
    "no references": (PREDICTIONS, {}, "no references"),
    "missing": (without(PREDICTIONS, "boat.jpg"), REFERENCES, "No prediction for 1 image of.*'boat.jpg'"),
    "extra": ({**PREDICTIONS, "x": "a"}, REFERENCES, "No references for 1 image of.*'x'"),
    "other set": ({"x": "a dog"}, REFERENCES, "different sets: not one image id.*'x'.*'boat.jpg'"),
    "numbers and strings": (
        {1: "a", 2: "b"},
        {"1": ["a"], "2": ["b"]},
        "one side holds numbers and the other strings",
    ),
    "empty prediction": (
        {**PREDICTIONS, "boat.jpg": " \n"},
        REFERENCES,
        "Empty predictions: 1 image .'boat.jpg'.*allow",
    ),
    "empty reference": (PREDICTIONS, {**REFERENCES, "boat.jpg": ["a", ""]}, "Empty references: 1 image .'boat.jpg'"),
    "no reference": (PREDICTIONS, {**REFERENCES, "boat.jpg": []}, "without a single reference: 1 image .'boat.jpg'"),
    "bare reference": (PREDICTIONS, {**REFERENCES, "boat.jpg": "a boat"}, "not one string: 1 image .'boat.jpg'"),
    "nested reference": (
        PREDICTIONS,
        {**REFERENCES, "boat.jpg": [["a"]]},
        "not a list of strings: 1 image .'boat.jpg'",
    ),
    "nested prediction": ({**PREDICTIONS, "boat.jpg": ["a"]}, REFERENCES, "one string an image, not a list: 1 image"),
    "no text": ({**PREDICTIONS, "boat.jpg": None}, REFERENCES, "not text: 1 image .'boat.jpg'"),
    "a list": (list(PREDICTIONS.values()), REFERENCES, "predictions must map image ids to captions.*got a list"),
    "references a list": (PREDICTIONS, [["a"]], "references must map image ids to captions.*got a list"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_belong_together_is_named(case):
    predictions, references, message = BAD[case]
    with pytest.raises(MetricError, match=message):
        score_captions(predictions, references, NATIVE)


def test_all_faults_at_once_with_counts_and_examples():
    predictions = {"1": "", "2": "a", "9": "b"}
    references = {str(n): ["a"] for n in range(1, 8)}
    with pytest.raises(MetricError) as found:
        score_captions(predictions, references, NATIVE)
    for part in (
        "No prediction for 5 images",
        "'3', '4', '5' and 2 more",
        "No references for 1 image",
        "Empty predictions",
    ):
        assert part in str(found.value)


def test_duplicate_ids_are_named():
    with pytest.raises(MetricError, match="More than one of the predictions for 2 images .'a', 'b'"):
        check_duplicates("predictions", ["a", "b", "a", "b", "c"])


def test_empty_predictions_score_nothing_where_that_is_wanted():
    scores = score_captions({**PREDICTIONS, "boat.jpg": ""}, REFERENCES, NATIVE, allow_empty=True)
    assert scores.per_image["CIDEr"]["boat.jpg"] == 0 and scores.per_image["ROUGE_L"]["boat.jpg"] == 0
    assert any("1 of 4 predictions are empty" in warning for warning in scores.warnings)


def test_few_images_are_warned_of():
    scores = score_captions(PREDICTIONS, REFERENCES, NATIVE)
    assert any("CIDEr over 4 images says little" in warning for warning in scores.warnings)
    many = {str(n): f"a dog number {n}" for n in range(150)}
    apart = {str(n): [f"the cat numbered {n}", "a bird"] for n in range(150)}
    assert score_captions(many, apart, NATIVE).warnings == ()


def test_scores_too_good_to_be_true_name_the_usual_leaks():
    copied = {str(n): f"a photo of thing number {n} and more" for n in range(150)}
    scores = score_captions(copied, {k: [v] for k, v in copied.items()}, NATIVE)
    (warning,) = scores.warnings
    for part in ("Bleu_4 1.000", "CIDEr", "input_ids", "pixel_values", "training images", "blip-refine doctor"):
        assert part in warning


def test_a_scorer_that_fails_costs_the_other_metrics_nothing(monkeypatch):
    from blip_refine.metrics import meteor

    def broken(predictions, references):
        raise MetricError("METEOR: Java ended after 0 of 4 lines.")

    monkeypatch.setattr(meteor, "meteor", broken)
    scores = score_captions(PREDICTIONS, REFERENCES, ["Bleu_1", "METEOR"])
    assert scores.unavailable == {"METEOR": "METEOR: Java ended after 0 of 4 lines."} and list(scores.corpus) == [
        "Bleu_1"
    ]


def test_several_systems_score_as_each_by_itself():
    poor = dict.fromkeys(PREDICTIONS, "a thing on a thing")
    names = [*NATIVE, "SPICE"]
    found = score_systems({"good": PREDICTIONS, "poor": poor}, REFERENCES, names, bootstrap=50, seed=3)
    assert list(found) == ["good", "poor"] and score_systems({}, REFERENCES, NATIVE) == {}
    for name, predictions in (("good", PREDICTIONS), ("poor", poor)):
        alone = score_captions(predictions, REFERENCES, names, bootstrap=50, seed=3)
        assert found[name].corpus == alone.corpus and found[name].per_image == alone.per_image
        assert found[name].signature == alone.signature and found[name].unavailable == alone.unavailable
        assert found[name].warnings == alone.warnings
        for metric, interval in alone.intervals.items():
            ours = found[name].intervals[metric]
            assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    with pytest.raises(MetricError, match="different sets"):
        score_systems({"good": PREDICTIONS, "other": {"x": "a dog"}}, REFERENCES, NATIVE)


def test_an_interruption_does_not_wait_for_the_program_beside(monkeypatch):
    """METEOR's thread waits for an answer that never comes; Ctrl-C while BLEU is computed ends both at once."""
    from blip_refine.metrics import bleu, meteor
    from blip_refine.metrics.java import JavaProcess

    silent = JavaProcess([sys.executable, "-c", "import time; time.sleep(600)"], "METEOR")
    shared, asked = meteor.Meteor(), threading.Event()
    shared._process, shared._owner = silent, os.getpid()
    monkeypatch.setattr(meteor, "_shared", shared)
    ask = silent.ask
    monkeypatch.setattr(silent, "ask", lambda *arguments: (asked.set(), ask(*arguments))[1])

    def interrupted(*_):
        assert asked.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(bleu, "bleu_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score_captions(PREDICTIONS, REFERENCES, ["Bleu_1", "METEOR"])
    assert not silent.alive


def test_document_frequencies_from_a_wrong_file(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no file of document frequencies"):
        DocumentFrequencies.load(tmp_path / "none.json")
    for content in (b"[]", b"{}", b"\x1f\x8bbroken", b'{"images": 1, "counts": {"a": 5}, "tokenizer": "ptb-1"}'):
        (tmp_path / "df.json").write_bytes(content)
        with pytest.raises(SourceFormatError):
            DocumentFrequencies.load(tmp_path / "df.json")
    (tmp_path / "df.json").write_text('{"images": 2, "counts": {"a": 1}, "tokenizer": "ptb-0"}')
    with pytest.raises(SourceFormatError, match="tokenizer 'ptb-0'"):
        DocumentFrequencies.load(tmp_path / "df.json")
    with pytest.raises(MetricError):
        DocumentFrequencies.from_references({})


def test_prepared_references_are_checked_at_once():
    with pytest.raises(MetricError, match="not one string"):
        PreparedReferences({"1": "a dog"})
    with pytest.raises(MetricError, match="no references"):
        PreparedReferences({})
