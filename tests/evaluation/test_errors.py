"""Faults that are planted are found, and captions without a fault are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from blip_refine.data.sources.scenes import load_scenes
from blip_refine.errors import MetricError
from blip_refine.evaluation.calibration import calibrate
from blip_refine.evaluation.elements import elements, names_same
from blip_refine.evaluation.error_analysis import (
    Judged,
    analyse_errors,
    background_of,
    people_judged,
    score_slices,
    slices_by_name,
    slices_by_number,
    wilson,
)
from blip_refine.evaluation.faults import find_faults, repetitions, truncation
from blip_refine.records import SceneObject

BOATS = ("two red boats on the sea", "a pair of red boats sail on the sea", "there are two red boats on the water")


def kinds(caption, references=BOATS, objects=None, vocabulary=frozenset()):
    return {fault.kind for fault in find_faults(caption, references, objects, vocabulary)}


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("two red boats near a house", [("boat", {"red"}, 2), ("house", set(), 1)]),
        ("three small robots in blue", [("robot", {"blue"}, 3)]),
        ("the ball is green", [("ball", {"green"}, None)]),
        ("a black and white dog", [("dog", {"black", "white"}, 1)]),
        ("a red fire hydrant", [("hydrant", {"red"}, 1)]),
        ("a herd of sheep", [("sheep", set(), None)]),
        ("a picture of an orange", [("orange", set(), 1)]),
        ("a man on top of a horse", [("man", set(), 1), ("horse", set(), 1)]),
        ("a double bed", [("bed", set(), 1)]),
        ("", []),
    ],
)
def test_things_with_colour_and_count(caption, found):
    assert [(one.noun, set(one.colors), one.count) for one in elements(caption)] == found


def test_kinds_of_things():
    assert names_same("animal", "dog") and not names_same("dog", "animal")
    assert names_same("people", "man") and names_same("couch", "sofa")
    assert not names_same("boat", "dog")


@pytest.mark.parametrize("caption", [*BOATS, "red boats on water", "two boats", "a couple of vessels on the ocean"])
def test_a_true_caption_is_left_alone(caption):
    assert kinds(caption) <= {"omission"}
    assert kinds(BOATS[0]) == set()


@pytest.mark.parametrize(
    ("caption", "kind", "word"),
    [
        ("two red boats and a dog on the sea", "hallucination", "dog"),
        ("two blue boats on the sea", "wrong colour", "blue"),
        ("three red boats on the sea", "wrong count", "boats"),
        ("a red boat on the sea", "wrong count", "boat"),
        ("the sea", "omission", "boat"),
        ("two red red boats on the sea", "repetition", "red"),
        ("a red boat and a red boat on the sea", "repetition", "a red boat"),
        ("two red boats on the", "truncation", "the"),
        ("two boats near a red", "truncation", "red"),
        (" ... ", "empty", ""),
    ],
)
def test_a_planted_fault_is_found(caption, kind, word):
    fault = next(fault for fault in find_faults(caption, BOATS) if fault.kind == kind)
    assert fault.word == word and fault.detail


@pytest.mark.parametrize(
    "caption",
    ["a dog next to another dog", "a woman beside an older woman", "the dog and the dog", "bye bye", "a cat in a hat"],
)
def test_no_repetition(caption):
    assert repetitions(caption) == []


@pytest.mark.parametrize("caption", ["a city in the dark", "dogs near one another", "a man with his jacket on", "dog"])
def test_no_truncation(caption):
    assert truncation(caption) == []


def test_the_truth_decides_over_the_references():
    truth = (SceneObject("robot", "green"), SceneObject("tent", "red", count=2))
    vocabulary = frozenset({"robot", "tent", "rocket"})
    references = ("a green robot and a rocket", "a green robot and two red tents")
    # A reference may be wrong: the rocket is not there, whoever says so.
    by_truth = find_faults("a green robot and a rocket and two red tents", references, truth, vocabulary)
    assert [(fault.kind, fault.word, fault.by) for fault in by_truth] == [("hallucination", "rocket", "objects")]
    assert kinds("a green robot near two red tents in a forest", references, truth, vocabulary) == {"hallucination"}
    assert kinds("a red robot and two red tents", references, truth, vocabulary) == {"wrong colour"}
    assert kinds("a green robot and a red tent", references, truth, vocabulary) == {"wrong count"}
    assert kinds("a green robot", references, truth, vocabulary) == {"omission"}
    assert kinds("a green robot and two red tents", (), truth, vocabulary) == set()


def test_the_background_is_there_and_has_a_colour_of_its_own():
    """ "In a green field" is right of red balls on grass: the field is no object, and green no colour of one."""
    truth, phrases = (SceneObject("box", "red", count=2),), ["on the grass", "in a green field", "in a room"]
    vocabulary = frozenset(("box", "ball", "field"))
    without = ("two red boxes", "there are two red boxes")

    def found(caption, background=phrases, vocabulary=frozenset(("box", "ball"))):
        return [(fault.kind, fault.word) for fault in find_faults(caption, without, truth, vocabulary, background)]

    assert found("two red boxes in a green field") == found("two red boxes in a room") == []
    assert found("two red boxes in a green field", ()) == [("hallucination", "field")]
    assert found("two red boxes in a room", ()) == [("wrong count", "room")], "a box may be called a room"
    assert found("two green boxes in a green field") == [("wrong colour", "green")]
    assert found("two red boxes at the sea") == [("hallucination", "sea")]
    # Where fields can be objects, one that is not among them is made up.
    assert found("two red boxes in a green field", vocabulary=vocabulary) == [("hallucination", "field")]


def test_what_drawn_scenes_say_of_themselves_is_true():
    records = [
        record for domain in ("everyday", "adventure") for record in load_scenes(domain, "test", count=60, size=8)
    ]
    judged = [
        Judged(f"{record.image_id} {place}", caption, (), record.objects, background_of(record.metadata))
        for record in records
        for place, caption in enumerate(record.captions)
    ]
    by_truth = ("hallucination", "wrong colour", "wrong count", "omission")
    analysis = analyse_errors(judged)
    assert {kind: analysis.having(kind) for kind in by_truth if analysis.having(kind)} == {}
    assert any("green field" in one.caption for one in judged) and any("cacti" in one.caption for one in judged)


def test_without_references_only_the_caption_itself_is_judged():
    assert kinds("a unicorn", ()) == set()
    analysis = analyse_errors([Judged("1", "a dog and a dog"), Judged("2", "a cat")])
    assert set(analysis.rates) == {"repetition", "truncation", "empty", "generic"}
    assert analysis.having("repetition") == ["1"]


def test_generic_captions_and_named_things_are_counted():
    judged = [
        Judged("1", "A dog."),
        Judged("2", "a dog"),
        Judged("3", "a dog with a ball and a kite"),
        Judged("4", "a dog, a dog and a cat"),
    ]
    analysis = analyse_errors(judged)
    assert analysis.shared == 0.5 and analysis.having("generic") == ["1", "2"]
    assert analysis.elements == {"1": 1, "2": 1, "3": 3, "4": 2}
    assert analysis.detailed == 0.25 and analysis.mean_elements == 1.75
    share, low, high = analysis.rates["generic"]
    assert share == 0.5 and 0 < low < share < high < 1
    assert analysis.to_dict()["three_or_more_elements"] == 0.25


def test_people_are_judged_by_each_other():
    judged = [Judged("1", "x", ("a dog with a hat", "a dog", "a dog runs")), Judged("2", "x", ("a cat",))]
    people = people_judged(judged)
    assert [(one.image_id, one.caption) for one in people] == [("1", "a dog with a hat")]
    assert analyse_errors(people).having("hallucination") == ["1"]


def test_wilson_interval_of_known_shares():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_slices():
    values = {str(number): float(number) for number in range(20)}
    parts = slices_by_number("confidence", values)
    assert [len(part.image_ids) for part in parts] == [5, 5, 5, 5]
    assert parts[0].name == "0 to 4" and sorted(sum((part.image_ids for part in parts), ())) == sorted(values)
    assert slices_by_number("confidence", dict.fromkeys("abcdefgh", 1.0)) == []
    places = {str(number): "sea" if number % 3 else "city" for number in range(20)}
    assert [(part.name, len(part.image_ids)) for part in slices_by_name("place", places)] == [("sea", 13), ("city", 7)]
    assert slices_by_name("name", {key: key for key in values}) == []
    analysis = analyse_errors([Judged(key, "a dog and a dog" if float(key) < 5 else f"a dog {key}") for key in values])
    scored = score_slices(parts, values, analysis)
    assert [one.faulty for one in scored] == [1.0, 0.0, 0.0, 0.0]
    assert scored[0].score == 2.0 and scored[0].low < 2.0 < scored[0].high and scored[0].images == 5


def test_calibration_of_a_captioner_that_knows_and_one_that_does_not():
    rng = np.random.default_rng(0)
    quality = {str(number): float(value) for number, value in enumerate(rng.random(400))}
    knows = calibrate({key: np.log(value) for key, value in quality.items()}, quality)
    assert knows.correlation == pytest.approx(1.0)
    assert [one.score for one in knows.bins] == sorted(one.score for one in knows.bins)
    assert knows.kept[0][1] > 0.9 and knows.kept[-1] == (1.0, pytest.approx(np.mean(list(quality.values()))))
    guesses = calibrate({key: float(value) for key, value in zip(quality, rng.random(400), strict=True)}, quality)
    assert abs(guesses.correlation) < 0.15
    assert sum(one.images for one in guesses.bins) == 400
    # By hand: ranks 0 1.5 1.5 3 against 0 1 2 3.
    ties = calibrate({"a": -4.0, "b": -2.0, "c": -2.0, "d": -1.0}, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0})
    assert ties.correlation == pytest.approx(0.9486833)
    with pytest.raises(MetricError, match="at least four"):
        calibrate({"a": 0.0}, {"a": 1.0})
