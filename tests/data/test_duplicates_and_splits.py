"""No picture on two sides: copies are found, splits are by image, stable, and the same every time."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from blip_refine.data import hamming
from blip_refine.data.duplicates import (
    ImageHash,
    content_hash,
    find_duplicate_pairs,
    group_duplicates,
    hash_image,
    hash_images,
)
from blip_refine.data.fingerprint import Fingerprint, fingerprint_records, load_fingerprint, save_fingerprint
from blip_refine.data.hamming import near_pairs
from blip_refine.data.images import CroppedImage, load_image
from blip_refine.data.leakage import ensure_no_overlap, find_overlap
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.data.splits import _draw, keep_on_one_side, split_by_image
from blip_refine.errors import (
    ConfigurationError,
    DataError,
    ImageDecodeError,
    LeakageError,
    SourceFormatError,
    SourceNotFoundError,
)
from blip_refine.records import CaptionRecord

from .photos import encode, make_photo

CHANGES = {
    "re-encoded": lambda picture: encode(picture, quality=40),
    "as PNG": lambda picture: encode(picture, "PNG"),
    "as WebP": lambda picture: encode(picture, "WEBP", quality=60),
    "half the size": lambda picture: encode(picture.resize((picture.width // 2, picture.height // 2))),
    "a thumbnail": lambda picture: encode(picture.resize((64, 64))),
    "squashed to a square": lambda picture: encode(picture.resize((224, 224))),
    "twice the size": lambda picture: encode(picture.resize((picture.width * 2, picture.height * 2))),
    "brighter": lambda picture: encode(ImageEnhance.Brightness(picture).enhance(1.1)),
    "in grey": lambda picture: encode(picture.convert("L")) if _is_pale(picture) else encode(picture),
}
"""What happens to a photo on its way through the web. Colour is looked at coarsely: a grey copy of a strongly coloured
picture is another picture."""


def _is_pale(picture):
    channels = np.asarray(picture.resize((4, 4), Image.Resampling.BOX), dtype=int)
    return np.ptp(channels, axis=2).max() < 60


def record(image, name, captions=("a photo",), split=None, source=None):
    return CaptionRecord(image, captions, name, split, source)


def photo_records(numbers, **options):
    return [record(encode(make_photo(n)), f"{n}.jpg", **options) for n in numbers]


# Made pictures are full of extreme values, which brightening clips as it clips no photo.
@pytest.mark.parametrize("change", [change for change in CHANGES if change != "brighter"])
def test_changed_copies_are_found_and_other_photos_are_not(change):
    originals = hash_images([encode(make_photo(n)) for n in range(30)])
    copies = hash_images([CHANGES[change](make_photo(n)) for n in range(30)])
    assert find_duplicate_pairs(originals, copies) == [(n, n) for n in range(30)]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_real_photos_are_found(test_data, change):
    pictures = [load_image(path) for path in sorted((test_data / "coco85" / "val2017").iterdir())[:40]]
    originals = hash_images([encode(picture, quality=95) for picture in pictures])
    copies = hash_images([CHANGES[change](picture) for picture in pictures])
    assert find_duplicate_pairs(originals, copies) == [(n, n) for n in range(40)]


def test_real_photos_of_the_same_kind_are_not_taken_for_copies(test_data):
    """7,500 photos, many of dogs on grass; two of them are the same photo under two names."""
    paths = sorted((test_data / "flickr8k" / "images").iterdir())[::4]
    twins = [path for path in paths if path.name.startswith(("2851198725_", "3050606344_"))]
    hashes = hash_images([*paths, *(test_data / "flickr8k" / "images").glob("2851198725_*")])
    hashes += hash_images(list((test_data / "flickr8k" / "images").glob("3050606344_*")))
    pairs = {(one, other) for one, other in find_duplicate_pairs(hashes)}
    same = {(len(paths), len(paths) + 1)} | {(paths.index(path), len(paths)) for path in twins}
    assert len(pairs) <= len(same) + 1 and (len(paths), len(paths) + 1) in pairs


def test_drawn_scenes_of_two_splits_are_not_taken_for_copies():
    for domain in ("everyday", "adventure"):
        train, test = load_scenes(domain, "train", count=300), load_scenes(domain, "test", count=60)
        assert find_overlap(train, test) == []


def test_plain_pictures_of_different_colors_differ():
    red, blue, dark = (encode(Image.new("RGB", (90, 60), color)) for color in ("red", "blue", (40, 0, 0)))
    hashes = hash_images([red, blue, dark, encode(Image.new("RGB", (30, 80), "red"))])
    assert find_duplicate_pairs(hashes) == [(0, 3)]


def test_the_same_content_under_any_name_or_form_has_one_hash(tmp_path):
    data = encode(make_photo(1))
    path = tmp_path / "renamed.jpg"
    path.write_bytes(data)
    assert content_hash(path) == content_hash(str(path)) == content_hash(data)
    assert content_hash(make_photo(1)) == content_hash(make_photo(1)) != content_hash(make_photo(2))
    assert hash_image(CroppedImage(str(path), (0, 0, 20, 20))) == hash_image(path)


def test_a_file_that_changes_is_hashed_anew(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(encode(make_photo(1)))
    first = hash_image(path)
    assert hash_image(path) is first
    path.write_bytes(encode(make_photo(2)) + b"\0")
    assert hash_image(path) != first


def test_a_file_that_cannot_be_decoded_is_known_by_its_bytes():
    assert hash_image(b"no image").perceptual is None
    assert find_duplicate_pairs([hash_image(b"no image")], [hash_image(b"no image"), hash_image(b"other")]) == [(0, 0)]
    with pytest.raises(ImageDecodeError, match="cannot be read"):
        hash_image("nowhere.jpg")


def brute_force(first, second):
    found = set()
    for one, a in enumerate(first):
        for other, b in enumerate(second):
            left, right = bytes.fromhex(a), bytes.fromhex(b)
            bits = bin(int.from_bytes(left[:32], "big") ^ int.from_bytes(right[:32], "big")).count("1")
            color = max(abs(x - y) for x, y in zip(left[32:], right[32:], strict=True))
            if bits <= hamming.MAX_BIT_DISTANCE and color <= hamming.MAX_COLOR_DISTANCE:
                found.add((one, other))
    return found


@pytest.mark.parametrize("numpy_1", [False, True])
def test_near_pairs_are_those_of_comparing_all_with_all(numpy_1, monkeypatch):
    if numpy_1 and hasattr(np, "bitwise_count"):
        monkeypatch.delattr(np, "bitwise_count")
    rng = random.Random(0)

    def changed(text, bits):
        value = int(text[:64], 16)
        for place in rng.sample(range(256), bits):
            value ^= 1 << place
        return f"{value:064x}" + text[64:]

    base = [f"{rng.getrandbits(256):064x}" + f"{rng.getrandbits(384):096x}" for _ in range(30)]
    others = [changed(text, rng.randint(10, 30)) for text in base for _ in range(4)]
    expected = brute_force(base, others)
    assert 20 < len(expected) < 120
    assert set(near_pairs(base, others)) == expected
    everything = base + others
    within = {(a, b) for a, b in brute_force(everything, everything) if a < b}
    assert set(near_pairs(everything)) == within
    assert list(near_pairs([None, *base], [None])) == [] and list(near_pairs([])) == []


def test_a_thousand_equal_pictures_are_one_group():
    hashes = [ImageHash(f"{n:032x}", "0" * 160) for n in range(1000)] + [ImageHash("f" * 32, "f" * 160)]
    assert group_duplicates(hashes) == [list(range(1000)), [1000]]


# Splits


def sides(parts):
    return {record.image_id: split for split, chosen in parts.items() for record in chosen}


def test_splits_are_by_image_deterministic_and_complete():
    records = photo_records(range(60), captions=("one", "two", "three", "four", "five"))
    parts = split_by_image(records)
    assert list(parts) == ["train", "validation", "test"]
    assert sides(parts).keys() == {record.image_id for record in records}
    assert sides(split_by_image(list(reversed(records)))) == sides(parts)
    assert sides(split_by_image(records, seed=1)) != sides(parts)
    assert all(record.split == split for split, chosen in parts.items() for record in chosen)
    assert all(len(record.captions) == 5 for chosen in parts.values() for record in chosen)


def test_shares_are_as_asked_for():
    records = [record(f"{n}", f"{n}") for n in range(4000)]
    hashes = [ImageHash(f"{n:032x}") for n in range(4000)]
    counts = {split: len(chosen) for split, chosen in split_by_image(records, hashes=hashes).items()}
    # Three standard deviations of a binomial draw are 57 and 41 images.
    assert abs(counts["train"] - 3600) < 57 and abs(counts["test"] - 200) < 42 and abs(counts["validation"] - 200) < 42
    halves = split_by_image(records, {"a": 2, "b": 2, "none": 0}, hashes=hashes)
    assert abs(len(halves["a"]) - 2000) < 95 and halves["none"] == []


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 10_000), min_size=12, max_size=80), st.data())
def test_adding_images_moves_none_that_were_there(numbers, data):
    every = [record(str(n), str(n)) for n in sorted(numbers)]
    hashes = {str(n): ImageHash(f"{n * 2654435761 % 2**32:032x}") for n in numbers}
    some = data.draw(st.lists(st.sampled_from(every), unique_by=lambda one: one.image_id, min_size=12))
    shares = {"train": 0.5, "test": 0.5}

    def split(records):
        # Where the draw left a split empty, images were moved: those are few images, and the next test's.
        keys = [hashes[one.image_id].content for one in records]
        assume({_draw(key, 3, shares) for key in keys} == set(shares))
        return sides(split_by_image(records, shares, seed=3, hashes=[hashes[one.image_id] for one in records]))

    before, after = split(some), split(every)
    assert {name: after[name] for name in before} == before


def unlike(numbers):
    """Records and hashes of images that are no copies of each other."""
    records = [record(f"{n}", f"{n}") for n in numbers]
    return records, [ImageHash(hashlib.sha256(one.image_id.encode()).hexdigest()[:32]) for one in records]


def test_splits_of_enough_images_are_those_of_all_releases():
    records, hashes = unlike(range(400))
    parts = split_by_image(records, seed=5, hashes=hashes)
    assert {name: len(chosen) for name, chosen in parts.items()} == {"train": 356, "validation": 30, "test": 14}
    expected = "25 33 63 68 109 165 221 228 254 277 288 317 324 357"
    assert " ".join(one.image_id for one in parts["test"]) == expected


@pytest.mark.parametrize("count, least", [(3, 1), (4, 1), (12, 1), (20, 2), (35, 3)])
def test_few_images_leave_no_split_empty(count, least, caplog):
    moved = 0
    for seed in range(30):
        records, hashes = unlike(range(1000 * seed, 1000 * seed + count))
        caplog.clear()
        parts = split_by_image(records, seed=seed, hashes=hashes)
        sizes = {name: len(chosen) for name, chosen in parts.items()}
        assert min(sizes.values()) >= 1 and sum(sizes.values()) == count
        backward = split_by_image(records[::-1], seed=seed, hashes=hashes[::-1])
        assert sides(backward) == sides(parts)
        if caplog.messages:
            moved += 1
            assert min(sizes.values()) >= least and sizes["train"] == max(sizes.values())
            told = f"With {count} images the shares asked for leave a split empty, so images were moved: "
            expected = f"{sizes['train']} train, {sizes['validation']} validation, {sizes['test']} test."
            assert set(caplog.messages) == {told + expected}
    assert moved > 5


def test_few_images_keep_copies_together_and_what_was_split_before_in_its_place():
    for seed in range(20):
        originals = photo_records(range(3), source="a")
        copies = [record(CHANGES["half the size"](make_photo(n)), f"copy-{n}.jpg", source="b") for n in range(3)]
        found = sides(split_by_image(originals + copies, seed=seed))
        assert set(found.values()) == {"train", "validation", "test"}
        assert all(found[f"{n}.jpg"] == found[f"copy-{n}.jpg"] for n in range(3))
    records, hashes = unlike(range(12))
    pinned = {hashed.content: "train" for hashed in hashes[:11]}
    found = sides(split_by_image(records, hashes=hashes, previous=pinned))
    assert [found[str(n)] for n in range(11)] == ["train"] * 11


def test_too_few_pictures_for_the_splits_say_what_to_do():
    two = photo_records(range(2))
    copy = record(CHANGES["re-encoded"](make_photo(0)), "copy.jpg")
    with pytest.raises(DataError, match="3 images cannot be split into train, validation, test.*ratios="):
        split_by_image([*two, copy])
    with pytest.raises(DataError, match="1 image cannot be split"):
        split_by_image(two[:1], {"train": 1, "test": 1})
    assert len(split_by_image(two, {"train": 1})["train"]) == 2
    assert split_by_image([]) == {"train": [], "validation": [], "test": []}


def test_copies_fall_on_one_side_also_across_sources():
    for seed in range(6):
        originals = photo_records(range(12), source="a")
        copies = [record(CHANGES["half the size"](make_photo(n)), f"copy-{n}.jpg", source="b") for n in range(12)]
        found = sides(split_by_image(originals + copies, {"train": 1, "test": 1}, seed))
        assert set(found.values()) == {"train", "test"}
        assert all(found[f"{n}.jpg"] == found[f"copy-{n}.jpg"] for n in range(12))


def test_an_earlier_split_is_kept_and_nothing_trained_on_is_ever_evaluated():
    records = photo_records(range(10))
    hashes = hash_images([one.image for one in records])
    previous = {hashes[n].content: "test" for n in range(5)}
    found = sides(split_by_image(records, seed=9, previous=previous))
    assert all(found[f"{n}.jpg"] == "test" for n in range(5))
    bridge = record(CHANGES["half the size"](make_photo(0)), "bridge.jpg")
    previous[hash_image(bridge.image).content] = "train"
    found = sides(split_by_image([*records, bridge], previous=previous))
    assert found["0.jpg"] == found["bridge.jpg"] == "train"


@pytest.mark.parametrize(
    "ratios", [{}, {"train": -1, "test": 2}, {"train": 0}, {"train": float("inf")}, {"a": float("nan")}]
)
def test_impossible_shares_are_refused(ratios):
    with pytest.raises(ConfigurationError, match="Split ratios are shares"):
        split_by_image(photo_records(range(2)), ratios)


def test_official_splits_lose_only_the_copies_that_would_leak():
    records = [
        *photo_records(range(4), split="train"),
        *photo_records(range(10, 12), split="test"),
        record(CHANGES["re-encoded"](make_photo(2)), "leak.jpg", split="test"),
        record(CHANGES["re-encoded"](make_photo(3)), "twin.jpg", split="train"),
        record(encode(make_photo(20)), "unsplit.jpg"),
    ]
    found = Rejections()
    kept, hashes = keep_on_one_side(records, hash_images([one.image for one in records]), found)
    assert [one.image_id for one in kept] == [
        "0.jpg", "1.jpg", "3.jpg", "10.jpg", "11.jpg", "leak.jpg", "twin.jpg", "unsplit.jpg",
    ]  # fmt: skip
    assert len(hashes) == len(kept)
    assert [(item.reason, item.item) for item in found] == [("duplicate across splits", "2.jpg")]
    assert "the same picture as leak.jpg in test" in found.items[0].detail


# Leaks


@pytest.mark.parametrize("change", ["re-encoded", "half the size", "a thumbnail", "as PNG"])
def test_a_planted_leak_is_found_and_named(tmp_path, change):
    train = photo_records(range(20))
    hidden = tmp_path / "holiday_0042.dat"
    hidden.write_bytes(CHANGES[change](make_photo(7)))
    evaluation = [*photo_records(range(100, 110)), record(hidden, "innocent")]
    with pytest.raises(LeakageError, match="1 of 11 evaluation images.*'innocent' is '7.jpg' re-encoded or resized"):
        ensure_no_overlap(train, evaluation)
    overlap = ensure_no_overlap(train, evaluation, allow_overlap=True)
    assert [(item.train_id, item.evaluation_id, item.kind) for item in overlap] == [("7.jpg", "innocent", "near")]
    assert find_overlap(train, evaluation, near_duplicates=False) == []
    assert ensure_no_overlap(train, evaluation[:-1]) == []


def test_the_same_file_under_another_name_is_an_exact_leak():
    train = photo_records(range(5))
    overlap = find_overlap(train, [replace(train[3], image_id="other.jpg")])
    assert [(item.train_id, item.kind) for item in overlap] == [("3.jpg", "exact")]


def test_a_training_fingerprint_travels_and_is_checked_later(tmp_path):
    train = photo_records(range(10), split="train")
    value = save_fingerprint(train, tmp_path / "training.json")
    assert value == fingerprint_records(train) and value.startswith("sha256:")
    fingerprint = load_fingerprint(tmp_path / "training.json")
    assert fingerprint == Fingerprint.of(train) and len(fingerprint) == 10
    with pytest.raises(LeakageError, match="'x' is '4.jpg' re-encoded"):
        ensure_no_overlap(fingerprint, [record(CHANGES["a thumbnail"](make_photo(4)), "x")])
    assert ensure_no_overlap(fingerprint, photo_records(range(50, 55))) == []


def test_a_fingerprint_is_of_content_captions_and_splits():
    records = photo_records(range(3), split="train")
    value = fingerprint_records(records)
    assert fingerprint_records(records[::-1]) == value
    assert fingerprint_records([replace(records[0], image_id="renamed"), *records[1:]]) == value
    for changed in (
        replace(records[0], split="test"),
        replace(records[0], captions=("another",)),
        replace(records[0], image=encode(make_photo(9))),
    ):
        assert fingerprint_records([changed, *records[1:]]) != value
    assert fingerprint_records(records[:2]) != value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no fingerprint"),
        ("{}", "no fingerprint"),
        ('{"format": "x"}', "of the form 'x'"),
        ("[1]", "no fingerprint"),
    ],
)
def test_a_broken_fingerprint_is_named(tmp_path, content, message):
    path = tmp_path / "f.json"
    path.write_text(content)
    with pytest.raises(SourceFormatError, match=f"f.json.*{message}"):
        load_fingerprint(path)
    with pytest.raises(SourceNotFoundError):
        load_fingerprint(tmp_path / "none.json")


def test_splits_made_on_request_do_not_overlap(tmp_path):
    for n in range(30):
        (tmp_path / f"{n}.jpg").write_bytes(encode(make_photo(n % 20), quality=90 if n < 20 else 60))
        (tmp_path / f"{n}.txt").write_text(f"photo {n}")
    ratios = {"train": 1, "validation": 1, "test": 1}
    parts = {name: load_source(tmp_path, split=name, ratios=ratios) for name in ratios}
    assert Counter(len(one.captions) for chosen in parts.values() for one in chosen) == {1: 30}
    assert min(map(len, parts.values())) > 0
    assert (
        ensure_no_overlap(parts["train"], parts["test"])
        == ensure_no_overlap(parts["train"], parts["validation"])
        == []
    )
