from __future__ import annotations

import json

import pytest

from blip_refine.errors import ConfigurationError, MetricError
from blip_refine.metrics import score_captions, submission
from blip_refine.metrics.coco_format import read_coco_results
from blip_refine.metrics.submission import submission_ids, write_submission

from .captions import PREDICTIONS, REFERENCES


def test_numbers_in_the_order_of_the_split_and_nothing_else(tmp_path):
    path = tmp_path / "results.json"
    numbers = submission_ids(path, ["391895", "COCO_val2014_000000000042.jpg", "000000000007.jpg"])
    write_submission(path, numbers, {"000000000007.jpg": "c", "391895": "a é", "COCO_val2014_000000000042.jpg": "b"})
    assert json.loads(path.read_text(encoding="utf-8")) == [
        {"image_id": 391895, "caption": "a é"},
        {"image_id": 42, "caption": "b"},
        {"image_id": 7, "caption": "c"},
    ]
    assert read_coco_results(path) == {"391895": "a é", "42": "b", "7": "c"}


@pytest.mark.parametrize(
    ("captions", "message"),
    [({"1": "a"}, "no caption for 1 of 2 images, for example '2'"), ({"1": "", "2": "", "3": ""}, "of other images")],
)
def test_each_image_is_there_exactly_once_or_nothing_is_written(tmp_path, captions, message):
    path = tmp_path / "results.json"
    with pytest.raises(MetricError, match=message):
        write_submission(path, submission_ids(path, ["1", "2"]), captions)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "ids", "source", "message"),
    [
        ("results.jsonl", ["1"], None, "A submission is a .json file, not 'results.jsonl'"),
        ("captions_val2014_my_blip_results.json", ["1"], None, "does not take the name.*NAME has no underscore"),
        ("captions_val2017_blip_results.json", ["1"], None, "does not take the name"),
        ("results.json", ["boat.jpg"], None, "The image 'boat.jpg' has no number"),
        ("results.json", ["7", "000000000007.jpg"], None, "are both number 7"),
        (
            "captions_val2014_blip_results.json",
            ["1"],
            "coco",
            "must have all 40504 images of val2014",
        ),
        (
            "captions_test2014_blip_results.json",
            ["1"],
            "coco",
            "all 40775 images of test2014.*form=test2014",
        ),
        ("val.json", ["1"], "nocaps", "scores all 4500 images of val or all 10600 of test, and there are 1"),
    ],
)
def test_what_the_server_would_refuse_is_refused_before(tmp_path, name, ids, source, message):
    with pytest.raises(ConfigurationError, match=message):
        submission_ids(tmp_path / name, ids, source)


def test_the_official_name_with_all_images(tmp_path, monkeypatch):
    monkeypatch.setitem(submission.SERVER_SPLITS, "val2014", 3)
    assert submission_ids(tmp_path / "captions_val2014_blip_results.json", ["3", "1", "2"]) == {"3": 3, "1": 1, "2": 2}


@pytest.mark.parametrize(("number", "message"), [(5, "without SPICE among"), ("few", "at least one image")])
def test_a_number_of_images_for_spice_that_cannot_act_is_refused(number, message):
    metrics = ["Bleu_1"] if number == 5 else ["SPICE"]
    with pytest.raises(ConfigurationError, match=message):
        score_captions(PREDICTIONS, REFERENCES, metrics, spice_images=number)
