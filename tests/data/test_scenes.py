"""Drawn scenes: deterministic, captioned truthfully, and with the truth kept."""

from __future__ import annotations

import hashlib

import pytest

from blip_refine.data.sources.scene_captions import SceneContent, article, describe, noun_phrase, plural, vocabulary
from blip_refine.data.sources.scene_drawing import COLORS
from blip_refine.data.sources.scenes import DOMAINS, KINDS, SPLIT_SIZES, load_scenes, make_scene
from blip_refine.errors import ConfigurationError
from blip_refine.records import SceneObject


def digest(record) -> str:
    return hashlib.sha256(record.image.tobytes()).hexdigest()


def test_a_scene_depends_on_its_own_seed_alone():
    alone = make_scene("everyday", "train", 7)
    among = load_scenes("everyday", "train", count=10)[7]
    more = load_scenes("everyday", "train", count=12)[7]
    assert digest(alone) == digest(among) == digest(more)
    assert alone.captions == among.captions and alone.objects == among.objects
    assert digest(make_scene("everyday", "train", 7, seed=1)) != digest(alone)
    assert digest(make_scene("everyday", "test", 7)) != digest(alone)


def test_splits_share_no_picture():
    pictures = [digest(record) for record in load_scenes("adventure")]
    assert len(set(pictures)) == len(pictures) == sum(SPLIT_SIZES.values())


@pytest.mark.parametrize("domain", DOMAINS)
def test_captions_name_the_things_that_are_there(domain):
    """Every caption names its first thing with its colour, and no thing, colour or number that is not there."""
    things = set(DOMAINS[domain].things)
    for record in load_scenes(domain, "train", count=200):
        assert len(record.captions) == 5
        said_by_all = [set(text.split()) for text in record.captions]
        first = record.objects[0]
        present = {one.name for one in record.objects}
        ground = {"green"} if record.metadata["place"] == "grass" else set()
        for words in said_by_all:
            assert first.color in words
            assert {first.name, plural(first.name)} & words
            named = {name for name in things if {name, plural(name)} & words}
            assert named <= present
            assert words & set(COLORS) <= {one.color for one in record.objects} | ground
            if first.count > 1:
                assert {2: "two", 3: "three", 4: "four"}[first.count] in words
        assert any(present == {name for name in things if {name, plural(name)} & words} for words in said_by_all)


def test_relations_are_drawn_as_they_are_told():
    """The thing that is said to be left is drawn left: found by its colour, which nothing else in the picture has."""
    checked = 0
    for number in range(400):
        record = make_scene("everyday", "relations", number, kind="pair", size=96)
        first, second = record.objects
        plain = {"red", "purple", "yellow", "orange"}
        if not {first.color, second.color} <= plain or record.metadata["place"] in ("room", "beach"):
            continue
        centres = []
        for thing in (first, second):
            red, green, blue = COLORS[thing.color]
            spots = [
                (x, y)
                for x in range(96)
                for y in range(96)
                if sum(abs(a - b) for a, b in zip(record.image.getpixel((x, y)), (red, green, blue), strict=True)) < 40
            ]
            if len(spots) > 40:
                centres.append(tuple(sum(axis) / len(spots) for axis in zip(*spots, strict=True)))
        if len(centres) < 2:
            continue
        (x0, y0), (x1, y1) = centres
        drawn = {"left": x0 < x1, "right": x0 > x1, "above": y0 < y1, "below": y0 > y1}
        assert drawn[record.metadata["relation"]], (number, record.captions[0])
        checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        (SceneObject("car", "orange"), "an orange car"),
        (SceneObject("umbrella", "red"), "a red umbrella"),
        (SceneObject("house", "blue", "big"), "a big blue house"),
        (SceneObject("fish", "red", count=3), "three red fish"),
        (SceneObject("box", "white", count=2), "two white boxes"),
        (SceneObject("cactus", "green", count=4), "four green cacti"),
    ],
)
def test_noun_phrases_are_english(thing, text):
    assert noun_phrase(thing) == text


def test_articles():
    assert article("orange") == article("umbrella") == "an"
    assert article("red") == article("house") == "a"


def test_the_vocabulary_covers_everything_that_is_said():
    import random

    known = set(vocabulary())
    for domain in DOMAINS:
        for record in load_scenes(domain, "train", count=300):
            for text in record.captions:
                assert set(text.split()) <= known
    content = SceneContent("beach", (SceneObject("ball", "red"),))
    assert set(" ".join(describe(content, "everyday", random.Random(3))).split()) <= known


def test_kinds_show_what_they_say():
    for kind in KINDS:
        for number in range(12):
            objects = make_scene("everyday", "kinds", number, kind=kind).objects
            assert len(objects) == (2 if kind in ("pair", "group and single") else 1)
            assert (objects[0].count > 1) == kind.startswith("group")


def test_sizes_and_modes():
    record = make_scene("adventure", "test", 0, size=48)
    assert record.image.size == (48, 48) and record.image.mode == "RGB"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"domain": "underwater"}, "everyday, adventure"),
        ({"split": "dev"}, "train, validation, test"),
        ({"count": -1}, "must not be negative"),
    ],
)
def test_bad_input_is_named(options, said):
    with pytest.raises(ConfigurationError, match=said):
        load_scenes(**options)
