"""What is typed of a data set, the calls that it stands for, and errors that name what the user types."""

from __future__ import annotations

import json
import pickle

import pytest

from blip_refine.data.source_options import SourceOptions, parse_options, parse_ratios
from blip_refine.data.sources import load_source
from blip_refine.data.sources.registry import load_splits
from blip_refine.errors import ConfigurationError, DataError, SourceNotFoundError, SplitNotFoundError

from .photos import encode, make_photo


@pytest.fixture
def coco(tmp_path):
    """COCO 2017 as distributed, in small: two annotation files, no test split."""
    return make_coco(tmp_path / "coco", {"train2017": range(12), "val2017": range(12, 15)})


def make_coco(folder, parts):
    (folder / "annotations").mkdir(parents=True)
    for part, numbers in parts.items():
        (folder / part).mkdir()
        for n in numbers:
            (folder / part / f"{n}.jpg").write_bytes(encode(make_photo(n)))
        content = {
            "images": [{"id": n, "file_name": f"{n}.jpg"} for n in numbers],
            "annotations": [{"image_id": n, "caption": f"photo {n}"} for n in numbers],
        }
        (folder / "annotations" / f"captions_{part}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "given, shares",
    [
        ("90/5/5", {"train": 90, "validation": 5, "test": 5}),
        ("80/20", {"train": 80, "test": 20}),
        ("train=1, dev=2", {"train": 1, "dev": 2}),
        ({"train": 1}, {"train": 1}),
    ],
)
def test_ratios(given, shares):
    assert parse_ratios(given) == shares


@pytest.mark.parametrize("given", ["many", "1/2/3/4", "train=x", {"train": "x"}, 3])
def test_ratios_that_are_none(given):
    with pytest.raises(ConfigurationError, match="ratios= is 90/5/5") as caught:
        parse_ratios(given)
    assert caught.value.spelled(lambda name, value: f"--{name}").startswith("--ratios is 90/5/5")


def test_options_of_the_source():
    expected = {"restval": "drop", "count": 3, "exact": True}
    assert parse_options(["restval=drop", "count=3", "exact=true"]) == expected
    assert parse_options(expected) == parse_options(json.dumps(expected)) == expected
    assert parse_options("restval=a=b") == {"restval": "a=b"}
    for broken in ("restval", "=drop", "{broken"):
        with pytest.raises(ConfigurationError, match="option= is"):
            parse_options(broken)
    with pytest.raises(
        ConfigurationError, match="'image_dir' is not an option of a source. Use image_dir=... instead"
    ):
        parse_options(["image_dir=photos"])
    with pytest.raises(ConfigurationError, match="'split' is not an option"):
        parse_options(["split=train"])


def test_what_is_typed_becomes_arguments_and_flags_again():
    typed = {"image_dir": "photos", "caption_column": "a,b", "ratios": "80/20", "option": ["form=annotations", "n=2"]}
    options = SourceOptions.parse({**typed, "data_dir": None, "model": "starter"})
    assert options.arguments == {
        "image_dir": "photos",
        "caption_column": ("a", "b"),
        "ratios": {"train": 80, "test": 20},
        "form": "annotations",
        "n": 2,
    }
    flags = options.flags
    names = [flag.removeprefix("--").replace("-", "_") for flag in flags[::2]]
    again: dict = {"option": []}
    for name, value in zip(names, flags[1::2], strict=True):
        again[name] = [*again["option"], value] if name == "option" else value
    assert SourceOptions.parse(again) == options
    assert SourceOptions.parse({"caption_column": "text"}).arguments == {"caption_column": "text"}
    assert SourceOptions.parse({"image_column": 1}).arguments == {"image_column": "1"}


def test_a_source_is_read_once_and_gives_the_splits_that_it_gives_one_by_one(coco, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    for n in range(20, 40):
        (own / f"{n}.jpg").write_bytes(encode(make_photo(n)))
        (own / f"{n}.txt").write_text(f"photo {n}")
    halves = {"train": 1, "test": 1}
    for source, options, names in (
        (coco, {}, ["train", "validation"]),
        (own, {}, ["train", "validation", "test"]),
        (own, {"ratios": halves}, ["train", "test"]),
        (coco, {"ratios": halves}, ["train", "test"]),
        ("scenes:everyday", {"count": 4}, ["train", "validation", "test"]),
        ({str(coco): 1, str(own): 1}, {}, ["train", "validation"]),
    ):
        found = load_splits(source, **options)
        assert sorted(found) == sorted(names)
        for name, records in found.items():
            assert [one.image_id for one in records] == [
                one.image_id for one in load_source(source, split=name, **options)
            ]


def test_without_a_test_split_the_validation_split_is_read(coco):
    options = SourceOptions()
    parts = options.load_parts(str(coco), evaluation_limit=2)
    assert {name: part and len(part) for name, part in parts.items()} == {"train": 12, "validation": 2, "test": None}
    assert {one.split for one in options.load(str(coco)).records} == {"validation"}
    with pytest.raises(SplitNotFoundError, match="no split 'test'; it has 'train', 'validation'") as caught:
        options.load(str(coco), "test")
    assert caught.value.arguments == ("ratios",)
    with pytest.raises(ConfigurationError, match="at least 1, not 0"):
        options.load(str(coco), limit=0)


@pytest.mark.parametrize("ratios", ["train=60,validation=40", "60/40/0"])
def test_without_a_test_share_the_validation_share_is_read(coco, ratios):
    options = SourceOptions.parse({"ratios": ratios})
    assert {one.split for one in options.load(str(coco)).records} == {"validation"}
    with pytest.raises((ConfigurationError, DataError), match="no split 'test'|no images in its test split"):
        options.load(str(coco), "test")


def test_a_source_with_a_training_split_alone_is_split(tmp_path, caplog):
    folder = make_coco(tmp_path / "train-only", {"train2017": range(20)})
    parts = SourceOptions().load_parts(str(folder))
    sizes = {name: len(part) for name, part in parts.items()}
    assert sum(sizes.values()) == 20 and min(sizes.values()) >= 1
    assert "has a split 'train' and no other, so its images are split by image" in caplog.text
    test = load_source(folder, split="test")
    assert [one.image_id for one in test] == [one.image_id for one in parts["test"].records]
    assert {one.split for one in load_source(folder)} == {"train"}


def test_a_source_without_training_images(tmp_path):
    folder = make_coco(tmp_path / "val-only", {"val2017": range(4)})
    with pytest.raises(SplitNotFoundError, match="no split 'train'; it has 'validation'.*ratios="):
        SourceOptions().load_parts(str(folder))


def test_nocaps_is_its_validation_split(tmp_path):
    folder = make_coco(tmp_path / "nocaps", {"val2017": range(4)})
    path = folder / "nocaps_val_4500_captions.json"
    content = json.loads((folder / "annotations/captions_val2017.json").read_text())
    path.write_text(json.dumps({**content, "images": [{**one, "domain": "near-domain"} for one in content["images"]]}))
    found = SourceOptions(image_dir=str(folder / "val2017")).load(str(path))
    assert len(found) == 4 and {one.split for one in found.records} == {"validation"}
    assert {one.metadata["domain"] for one in found.records} == {"near-domain"}


def test_two_images_cannot_be_three_splits(tmp_path):
    for n in range(2):
        (tmp_path / f"{n}.jpg").write_bytes(encode(make_photo(n)))
        (tmp_path / f"{n}.txt").write_text("a photo")
    with pytest.raises(DataError, match="2 images cannot be split into train, validation, test"):
        SourceOptions().load_parts(str(tmp_path))
    parts = SourceOptions.parse({"ratios": "train=1"}).load_parts(str(tmp_path))
    assert len(parts["train"]) == 2 and parts["test"] is None


@pytest.mark.parametrize(
    "source, options, idle",
    [
        ("scenes:everyday", {"data_dir": "x"}, "leave out data_dir="),
        ("scenes:everyday", {"image_column": "x"}, "scenes:everyday takes no option image_column=; it takes count="),
        ("coco", {"restval": "drop"}, "leave out restval="),
        ("coco", {"image_column": "x"}, "takes no option image_column=; it takes image_dir=, restval=, form="),
        ("sidecars", {"image_dir": "x"}, "image_dir= has nothing to say"),
        ("sidecars", {"caption_column": "x"}, "caption_column= has nothing to say"),
    ],
)
def test_an_option_that_cannot_act_is_refused(source, options, idle, coco, tmp_path):
    if source == "sidecars":
        source = tmp_path / "sidecars"
        source.mkdir()
        (source / "0.jpg").write_bytes(encode(make_photo(0)))
        (source / "0.txt").write_text("a photo")
    elif source == "coco":
        options = {"data_dir": coco, **options}
    with pytest.raises(ConfigurationError) as caught:
        load_source(source, **options)
    assert idle in str(caught.value) and "--" not in str(caught.value)


def test_an_image_dir_acts_beside_a_metadata_file(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/0.jpg").write_bytes(encode(make_photo(0)))
    (tmp_path / "data/metadata.csv").write_text("file_name,caption\n0.jpg,a photo\n")
    (found,) = load_source(tmp_path / "data", image_dir=tmp_path / "photos")
    assert found.image == str(tmp_path / "photos/0.jpg")


def test_only_the_arguments_that_an_error_names_are_spelled_anew():
    error = SourceNotFoundError("my_image_dir=1: name image_dir=..., or ratios={'a': 1}.", arguments=("image_dir",))
    assert error.spelled(lambda name, value: f"<{name} {value}>") == (
        "my_image_dir=1: name <image_dir ...>, or ratios={'a': 1}."
    )
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.arguments == ("image_dir",)
