from __future__ import annotations

import json

import pytest

from blip_refine.errors import ConfigurationError, MetricError, SourceFormatError, SourceNotFoundError
from blip_refine.metrics import ObjectVocabulary, object_hallucination, reference_hallucination
from blip_refine.metrics.objects import read_objects, singular
from blip_refine.metrics.statistics import bootstrap_interval
from blip_refine.records import SceneObject


def test_chair_by_hand():
    predictions = {
        "1": "a man and two dogs with a frisbee",  # the frisbee is made up: 1 of 3
        "2": "a cat sleeps",  # right: 0 of 1; the couch is left out
        "3": "grey sky",  # nothing mentioned; the kite is left out
    }
    truth = {"1": ["person", "dog"], "2": ["cat", "couch"], "3": ["kite"]}
    found = object_hallucination(predictions, truth, ObjectVocabulary.coco())
    assert found.rates == {
        "CHAIRi": pytest.approx(1 / 4),
        "CHAIRs": pytest.approx(1 / 3),
        "omission": pytest.approx(2 / 5),
    }
    assert found.invented == {"1": ("frisbee",)} and found.omitted == {"2": ("couch",), "3": ("kite",)}
    assert found.to_dict() == {**found.rates, "source": "objects"}


def test_what_people_mention_counts_as_true_where_asked():
    predictions, truth = {"1": "a dog with a frisbee"}, {"1": ["dog"]}
    alone = object_hallucination(predictions, truth, ObjectVocabulary.coco())
    with_people = object_hallucination(
        predictions, truth, ObjectVocabulary.coco(), references={"1": ["the dog catches a flying disc"]}
    )
    assert alone.rates["CHAIRs"] == 1 and with_people.rates["CHAIRs"] == 0
    assert with_people.source == "objects+references" and with_people.rates["omission"] == 0


def test_scenes_with_their_objects():
    scenes = {
        "1": (SceneObject("boat", "red"), SceneObject("tree", count=2)),
        "2": (SceneObject("cactus", "green"),),
        "3": (),
    }
    predictions = {"1": "a red boat and two trees", "2": "three cacti and a robot", "3": "an empty beach with a boat"}
    vocabulary = ObjectVocabulary.of(["boat", "tree", "cactus", "robot"])
    found = object_hallucination(predictions, scenes, vocabulary)
    assert found.invented == {"2": ("robot",), "3": ("boat",)} and found.rates["omission"] == 0
    assert found.rates["CHAIRi"] == pytest.approx(2 / 5)
    # Without a vocabulary, the names of all true objects are looked for.
    assert object_hallucination(predictions, scenes).invented == {"3": ("boat",)}


def test_references_only_is_named_as_such():
    references = {"1": ["a man on a bike", "a person rides a bicycle", "a man with a helmet and a dog"]}
    found = reference_hallucination({"1": "a man rides a horse"}, references)
    assert set(found.rates) == {"CHAIRi_references", "CHAIRs_references", "omission_references"}
    assert found.invented == {"1": ("horse",)}
    # Two of three mention the bicycle, one the dog: only the former is expected.
    assert found.omitted == {"1": ("bicycle",)} and found.source == "references"


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("Two hot dogs and a dog", ["hot dog", "dog"]),
        ("An orange cat beside an orange", ["cat", "orange"]),
        ("A bowl of oranges", ["bowl", "orange"]),
        ("a train at the train station", ["train"]),
        ("a teddy bear and a polar bear", ["teddy bear", "bear"]),
        ("wine glasses, scissors and skis", ["wine glass", "scissors", "skis"]),
        ("people, women, children and sheep", ["person", "person", "person", "sheep"]),
        ("a close-up of a stop-light", ["traffic light"]),
        ("a fire hydrant near buses on the street", ["fire hydrant", "bus"]),
        ("nothing of note", []),
    ],
)
def test_mentions_of_coco_objects(caption, objects):
    assert ObjectVocabulary.coco().mentions(caption) == objects


def test_all_eighty_categories_are_found_by_their_own_names():
    vocabulary = ObjectVocabulary.coco()
    assert len(vocabulary.objects) == 80
    for name in vocabulary.objects:
        assert vocabulary.mentions(f"there is a {name}") == [name]


@pytest.mark.parametrize(
    ("plural", "one"),
    [("boxes", "box"), ("cherries", "cherry"), ("knives", "knife"), ("glasses", "glass"), ("bus", "bus"), ("is", "is"),
     ("vases", "vase"), ("benches", "bench"), ("skis", "skis"), ("men", "man"), ("dress", "dress")],
)  # fmt: skip
def test_singular(plural, one):
    assert singular(plural) == one


def test_rates_can_be_resampled():
    predictions = {str(n): "a dog and a cat" if n % 2 else "a dog" for n in range(60)}
    found = object_hallucination(predictions, dict.fromkeys(predictions, ["dog"]), ObjectVocabulary.coco())
    interval = bootstrap_interval(found.statistics["CHAIRi"], 300)
    assert interval.score == pytest.approx(1 / 3) and interval.low < 1 / 3 < interval.high


def test_a_rate_with_nothing_to_count_is_left_out_and_not_zero():
    found = object_hallucination({"1": "grey sky"}, {"1": []}, ObjectVocabulary.coco())
    assert found.rates == {"CHAIRs": 0.0}


def test_bad_input(tmp_path):
    with pytest.raises(MetricError, match="objects of 1 of 2 images are not known .'2'"):
        object_hallucination({"1": "a", "2": "b"}, {"1": []})
    with pytest.raises(MetricError, match="1 of 1 images have no references"):
        reference_hallucination({"1": "a"}, {})
    with pytest.raises(ConfigurationError, match="cannot stand for both 'car' and 'truck'"):
        ObjectVocabulary.of(["car", "truck"], {"truck": ["car"]})
    with pytest.raises(SourceNotFoundError):
        read_objects(tmp_path / "instances.json")
    (tmp_path / "instances.json").write_text("[1]")
    with pytest.raises(SourceFormatError, match="not COCO's instances file"):
        read_objects(tmp_path / "instances.json")
    (tmp_path / "objects.jsonl").write_text('{"image_id": "1", "objects": [5]}\n')
    with pytest.raises(SourceFormatError, match="row 1: an object is a name or has one, found 5"):
        read_objects(tmp_path / "objects.jsonl")


def test_objects_from_files(tmp_path):
    instances = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 34, "name": "frisbee"}],
        "annotations": [{"image_id": 1, "category_id": 18}, {"image_id": 1, "category_id": 34}],
    }
    (tmp_path / "instances_val2017.json").write_text(json.dumps(instances))
    truth, vocabulary = read_objects(tmp_path / "instances_val2017.json")
    assert truth == {"1": ["dog", "frisbee"], "2": []} and "zebra" in vocabulary.objects
    (tmp_path / "predictions.jsonl").write_text(
        '{"image_id": "1", "objects": [{"name": "boat", "count": 2}, "tree"]}\n'
    )
    truth, vocabulary = read_objects(tmp_path / "predictions.jsonl")
    assert truth == {"1": ["boat", "tree"]} and vocabulary.objects == {"boat", "tree"}
