"""Data sets prepared: broken images lost and listed, statistics, and a folder that loads again."""

from __future__ import annotations

import json

import pytest

from blip_refine.data.fingerprint import load_fingerprint
from blip_refine.data.images import CroppedImage, load_image
from blip_refine.data.inspection import inspect_images
from blip_refine.data.prepare import prepare_dataset
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.data.statistics import dataset_statistics
from blip_refine.errors import DataError
from blip_refine.records import CaptionRecord

from .photos import difference, encode, make_photo


def write_folder(folder, count=12):
    folder.mkdir(parents=True, exist_ok=True)
    rows = "file_name,caption\n"
    for n in range(count):
        (folder / f"{n}.jpg").write_bytes(encode(make_photo(n, (80, 60))))
        rows += f"{n}.jpg,a photo with the number {n}\n{n}.jpg,<b>another</b> photo &amp; number {n}\n"
    (folder / "metadata.csv").write_text(rows)
    return folder


def test_broken_images_lose_themselves_and_no_other(tmp_path):
    folder = write_folder(tmp_path / "photos")
    whole = (folder / "3.jpg").read_bytes()
    (folder / "3.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "4.jpg").write_bytes(b"<html>not found</html>")
    (folder / "5.jpg").write_bytes(b"")
    (folder / "6.jpg").write_bytes(encode(make_photo(6, (20, 60))))
    (folder / "7.jpg").write_bytes(encode(make_photo(7, (400, 60))))
    found = Rejections()
    kept, facts = inspect_images(load_source(folder), None, found)
    assert [record.image_id for record in kept] == ["0.jpg", "1.jpg", "2.jpg", "8.jpg", "9.jpg", "10.jpg", "11.jpg"]
    assert found.counts == {"unreadable image": 3, "tiny image": 1, "extreme ratio": 1}
    reasons = {item.item: item.detail for item in found}
    assert "truncated" in reasons["3.jpg"] and "web page" in reasons["4.jpg"] and "is empty" in reasons["5.jpg"]
    assert reasons["6.jpg"] == "20x60" and all("5.jpg" in reasons["5.jpg"] for _ in facts)
    assert {(fact.width, fact.height, fact.format) for fact in facts} == {(80, 60, "JPEG")}


def test_a_prepared_folder_holds_everything_and_loads_again(tmp_path):
    found = Rejections()
    records = load_source(write_folder(tmp_path / "photos", 40), rejections=found)
    prepared = prepare_dataset(records, tmp_path / "out", name="my <photos>", rejections=found)
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "records.jsonl", "rejected.jsonl", "fingerprint.json", "statistics.json", "index.html", "contact_sheet.jpg",
    }  # fmt: skip
    again = load_source(out)
    assert [(r.image_id, r.captions, r.split) for r in again] == [
        (r.image_id, r.captions, r.split) for r in prepared.records
    ]
    assert again[0].captions == ("a photo with the number 0", "another photo & number 0")
    assert difference(load_image(again[3].image), load_image(records[3].image)) == 0
    assert load_fingerprint(out / "fingerprint.json").value == prepared.fingerprint
    page = (out / "index.html").read_text()
    assert "my &lt;photos&gt;" in page and "<photos>" not in page and "data:image/jpeg;base64," in page
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["images"] == 40 and statistics["captions"] == 80
    assert sum(part["images"] for part in statistics["splits"].values()) == 40


def test_preparing_again_with_more_images_moves_none(tmp_path):
    folder = write_folder(tmp_path / "photos", 20)
    ratios = {"train": 0.5, "test": 0.5}
    first = prepare_dataset(load_source(folder), tmp_path / "out", ratios=ratios)
    before = {record.image_id: record.split for record in first.records}
    write_folder(folder, 30)
    second = prepare_dataset(load_source(folder), tmp_path / "out", ratios=ratios)
    after = {record.image_id: record.split for record in second.records}
    assert len(after) == 30 and {name: after[name] for name in before} == before


def test_a_leak_between_given_splits_is_taken_out_and_listed(tmp_path):
    records = [CaptionRecord(encode(make_photo(n)), ("a photo of noise",), f"{n}", "train") for n in range(5)]
    records.append(CaptionRecord(encode(make_photo(2).resize((80, 60))), ("a photo of noise",), "leak", "test"))
    prepared = prepare_dataset(records, tmp_path / "out")
    assert [record.image_id for record in prepared.records] == ["0", "1", "3", "4", "leak"]
    assert prepared.rejections.counts == {"duplicate across splits": 1}


def test_a_source_without_splits_beside_one_that_has_official_ones(tmp_path):
    def of(source, n, image_id, split=None, **size):
        picture = make_photo(n) if not size else make_photo(n).resize((80, 60))
        return CaptionRecord(encode(picture), ("a photo of noise",), image_id, split, source)

    records = [of("official", n, f"o{n}", "test" if n < 3 else "train") for n in range(6)]
    records.append(of("official", 6, "in no list"))
    records += [of("own", n, f"{n}") for n in range(10, 30)]
    records += [of("own", 1, "copy of a test photo", small=True), of("own", 4, "copy of a training photo", small=True)]
    prepared = prepare_dataset(records, tmp_path / "out", ratios=None)
    splits = {record.image_id: record.split for record in prepared.records}
    assert [splits[f"o{n}"] for n in range(6)] == ["test"] * 3 + ["train"] * 3 and splits["in no list"] is None
    assert splits["copy of a test photo"] == "test" and splits["copy of a training photo"] == "train"
    assert None not in {splits[f"{n}"] for n in range(10, 30)}
    said = prepared.statistics["prepared"]["splits"]
    assert said["official"] == ["official"] and said["made"] == ["own"]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "As the source has them: official." in page and "own (train 90 %, validation 5 %, test 5 %, seed 0)" in page


def test_images_that_are_no_files_become_files(tmp_path):
    data = encode(make_photo(1, (90, 70)))
    records = [
        CaptionRecord(data, ("some bytes",), "bytes"),
        CaptionRecord(make_photo(2), ("a decoded picture",), "picture"),
        CaptionRecord(CroppedImage(data, (10, 10, 60, 60)), ("a part",), "part"),
        *load_scenes(split="test", count=2),
    ]
    prepare_dataset(records, tmp_path / "out", ratios={"train": 1})
    again = {record.image_id: record for record in load_source(tmp_path / "out")}
    assert load_image(again["part"].image).size == (50, 50)
    assert difference(load_image(again["picture"].image), make_photo(2)) == 0
    moved = tmp_path / "moved"
    (tmp_path / "out").rename(moved)
    assert all(load_image(record.image) for record in load_source(moved))


def test_copied_images_travel(tmp_path):
    prepare_dataset(load_source(write_folder(tmp_path / "photos", 3)), tmp_path / "out", copy_images=True)
    for path in (tmp_path / "photos").iterdir():
        path.unlink()
    assert len([load_image(record.image) for record in load_source(tmp_path / "out")]) == 3


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    with pytest.raises(DataError, match="Nothing is left of 1 images(.|\n)*unreadable image: 1"):
        prepare_dataset([CaptionRecord(b"x", ("a dog",), "1")], tmp_path / "out")


def test_statistics_are_right():
    records = [
        CaptionRecord("a", ("A dog runs", "a dog"), "a", "train", "s"),
        CaptionRecord("b", ("The dog's well-known toy",), "b", "test", "s"),
    ]
    statistics = dataset_statistics(records)
    assert statistics["splits"] == {"train": {"images": 1, "captions": 2}, "test": {"images": 1, "captions": 1}}
    assert statistics["words_per_caption"] == {
        "mean": 3.0, "median": 3, "min": 2, "max": 4, "histogram": [[2, 1], [3, 1], [4, 1]],
    }  # fmt: skip
    assert statistics["vocabulary"]["words"] == 7 and statistics["vocabulary"]["once"] == 5
    assert statistics["vocabulary"]["most_common"][0] == ["a", 2]
