"""Captions cleaned, and captions that stay true of a picture that is changed."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from blip_refine.data.augment import Augmentation, load_augmentation
from blip_refine.data.augment_preview import draw_preview, save_preview
from blip_refine.data.cleaning import CleaningRules, caption_fault, clean_captions, clean_records, normalize_caption
from blip_refine.data.mirroring import mentions_writing, mirror_caption
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.errors import ConfigurationError, DataError
from blip_refine.records import CaptionRecord

from .photos import difference, make_photo


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("  a   dog\t runs\n", "a dog runs"),
        ("a dog &amp;amp; a cat", "a dog & a cat"),
        ("a <b>big</b> dog<br/>", "a big dog"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u200bdog\ufeff", "adog"),
        ("a\x00dog\x1f", "a dog"),
        ("\u202eevil\u202c text", "evil text"),
        ("family \U0001f468\u200d\U0001f469", "family \U0001f468\u200d\U0001f469"),
        ("a dog\u2028runs", "a dog runs"),
    ],
)
def test_captions_in_plain_form(raw, plain):
    assert normalize_caption(raw) == plain


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_cleaning_twice_changes_nothing_more(text):
    once = normalize_caption(text)
    assert normalize_caption(once) == once
    once.encode("utf-8")


@pytest.mark.parametrize(
    ("caption", "fault"),
    [
        ("", "empty caption"),
        ("12 / 34", "no words"),
        ("dog", "too few words"),
        ("a dog " * 31, "too long"),
        ("see https://x.org for more", "URL"),
        ("write to me@x.org today", "URL"),
        ("Getty Images", "boilerplate"),
        ("IMG_1234.jpg", "boilerplate"),
        ("DSC00012", "boilerplate"),
        ("untitled", "boilerplate"),
        ("Royalty free photo of a dog", "boilerplate"),
        ("click here to see the dog", "boilerplate"),
        ("a dog runs", None),
        ("a man in a statefarm.com hat", None),
        ("fruit for sale at a market", None),
        ("犬が走る", None),
    ],
)
def test_why_a_caption_is_left_out(caption, fault):
    assert caption_fault(normalize_caption(caption), CleaningRules()) == fault


def test_nothing_is_dropped_silently():
    found = Rejections()
    captions = ["A dog runs.", "a dog runs", "", "dog", "A cat &amp; a dog"]
    assert clean_captions(captions, None, found, "1.jpg") == ("A dog runs.", "A cat & a dog")
    assert found.counts == {"duplicate caption": 1, "empty caption": 1, "too few words": 1}
    records = [CaptionRecord("a", ("x",), "a"), CaptionRecord("b", ("a dog",), "b"), CaptionRecord("c", (), "c")]
    found = Rejections()
    assert [record.image_id for record in clean_records(records, None, found)] == ["b", "c"]
    assert found.counts == {"too few words": 1, "no caption left": 1}
    with pytest.raises(ConfigurationError, match="at least 5 and at most 2 words"):
        CleaningRules(min_words=5, max_words=2)
    with pytest.raises(ConfigurationError, match="max_aspect_ratio"):
        CleaningRules(max_aspect_ratio=0.5)


def test_people_s_captions_are_not_taken_for_boilerplate(test_data):
    found = Rejections()
    clean_records(load_source("flickr8k", data_dir=test_data / "flickr8k"), None, found)
    assert found.counts.keys() == {"duplicate caption"} and len(found) < 30


def test_the_language_filter_leaves_out_what_is_surely_another():
    pytest.importorskip("py3langid")
    rules = CleaningRules(language="en")
    assert caption_fault("a dog is running over the wet grass", rules) is None
    assert caption_fault("ein Hund läuft über die nasse Wiese", rules) == "other language"
    with pytest.raises(ConfigurationError, match="'klingon' cannot be told; known are"):
        caption_fault("a dog runs", CleaningRules(language="klingon"))


# Mirroring


@pytest.mark.parametrize(
    ("caption", "mirrored"),
    [
        ("a dog to the left of a boy", "a dog to the right of a boy"),
        ("Left hand raised, the man on the RIGHT side", "Right hand raised, the man on the LEFT side"),
        ("a left-handed batter", "a right-handed batter"),
        ("from left to right: a dog and a cat", "from right to left: a dog and a cat"),
        ("he looks to his left", "he looks to his right"),
        ("a dog right behind a boy", "a dog right behind a boy"),
        ("food was left on a plate", "food was left on a plate"),
        ("a bright dog leftovers", "a bright dog leftovers"),
        ("a dog", "a dog"),
        ("a dog looking right at the camera", None),
        ("a leaflet left by someone", None),
        ("a bike that turns clockwise", None),
    ],
)
def test_sides_change_places_and_doubt_is_left_alone(caption, mirrored):
    assert mirror_caption(caption) == mirrored


@pytest.mark.parametrize(
    "caption", ["a sign that says stop", "a player with number 7", 'a cake with "Anna"', "a clock"]
)
def test_writing_in_the_picture_is_noticed(caption):
    assert mentions_writing(caption)
    assert Augmentation().mirrored_captions([caption]) is None
    assert Augmentation(flip_writing=True).mirrored_captions([caption]) is not None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("a dog to the left right of his hand side on boy and next".split()), max_size=12))
def test_mirroring_twice_is_the_caption_again(words):
    caption = " ".join(words)
    once = mirror_caption(caption)
    if once is not None and (twice := mirror_caption(once)) is not None:
        assert twice == caption


def test_a_mirrored_scene_is_told_truly():
    """In drawn scenes the truth is known: mirrored, what stood on the left stands on the right."""
    records = [record for record in load_scenes(split="train", count=200) if "to the left of" in record.captions[0]]
    assert len(records) > 10
    always = Augmentation(crop_scale=(1, 1), flip=1.0, jitter=0)
    for record in records:
        picture, captions = always(record.image, record.captions)
        if captions != record.captions:
            assert difference(picture, ImageOps.mirror(record.image)) == 0
            assert captions[0] == record.captions[0].replace("to the left of", "to the right of")


# Augmentation


def test_colors_change_only_where_none_is_named():
    picture = make_photo(1)
    only = Augmentation(crop_scale=(1, 1), flip=0, jitter=0.3, rng=random.Random(0))
    assert difference(only(picture, ["a red car"])[0], picture) == 0
    assert difference(only(picture, ["a car", "a car at night"])[0], picture) == 0
    assert difference(only(picture, ["a car", "two people"])[0], picture) > 1
    forced = Augmentation(crop_scale=(1, 1), flip=0, jitter=0.3, jitter_colors=True, rng=random.Random(0))
    assert difference(forced(picture, ["a red car"])[0], picture) > 1


def test_crops_are_bounded_and_lie_in_the_picture():
    augmentation = Augmentation(flip=0, jitter=0, rng=random.Random(0))
    picture = make_photo(2, (200, 100))
    areas = []
    for _ in range(200):
        cropped, captions = augmentation(picture, ["a dog"])
        areas.append(cropped.width * cropped.height / 20_000)
        assert captions == ("a dog",) and cropped.mode == "RGB"
    assert 0.78 < min(areas) < 0.85 and 0.95 < max(areas) <= 1
    assert augmentation(Image.new("RGB", (1, 1)), [])[0].size == (1, 1)


def test_chance_is_reproducible_and_names_are_checked():
    picture, captions = make_photo(3), ["a dog to the left of a boy"]
    one, other = (Augmentation(rng=random.Random(5))(picture, captions) for _ in range(2))
    assert one[1] == other[1] and np.array_equal(np.asarray(one[0]), np.asarray(other[0]))
    assert load_augmentation("none") is None and load_augmentation(None) is None
    assert isinstance(load_augmentation("standard"), Augmentation)
    with pytest.raises(ConfigurationError, match="no augmentation 'strong'; there are: none, light, standard"):
        load_augmentation("strong")
    for wrong in ({"crop_scale": (0, 1)}, {"crop_ratio": (2, 1)}, {"flip": 2}, {"jitter": 1}):
        with pytest.raises(ConfigurationError):
            Augmentation(**wrong)


def test_a_preview_shows_the_picture_and_its_versions(tmp_path):
    records = load_scenes(split="train", count=8)
    sheet = draw_preview(load_augmentation("standard"), records, pictures=3, versions=2)
    assert sheet.size == (3 * 200, 20 + 3 * 246)
    assert difference(sheet, draw_preview(load_augmentation("standard"), records, pictures=3, versions=2)) == 0
    save_preview(None, [CaptionRecord(make_photo(1), ("犬が走る",), "1")], tmp_path / "p.jpg")
    assert Image.open(tmp_path / "p.jpg").format == "JPEG"
    with pytest.raises(DataError):
        draw_preview(None, [])
