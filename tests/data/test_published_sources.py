"""Flickr8k, COCO, Karpathy's files and Visual Genome, from files in the exact form in which they are distributed."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from blip_refine.data.images import load_image
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.json_list import iterate_json_list
from blip_refine.errors import ConfigurationError, SourceFormatError, SourceNotFoundError

from .photos import write_photo

NAMES = [f"{1000 + n}_{n:010x}.jpg" for n in range(6)]
KAGGLE = "image,caption\n" + "".join(
    f'{name},"A dog , number {n} , runs ."\n{name},A cat sits {n} .\n' for n, name in enumerate(NAMES)
)
TOKEN = "".join(f"{name}#{k}\tA dog number {n} says {k} .\n" for n, name in enumerate(NAMES) for k in range(5))
TOKEN += "2258277193_586949ec62.jpg.1#0\tpeople waiting .\n2258277193_586949ec62.jpg.1#1\tpeople on a lawn .\n"


def karpathy_json(names, split_of=None, **extra) -> str:
    images = [
        {
            "filename": name,
            "imgid": n,
            "split": (split_of or ["train", "train", "train", "val", "test", "test"])[n],
            "sentids": [n * 2, n * 2 + 1],
            "sentences": [
                {"tokens": ["a", "dog"], "raw": f"A dog, number {n}, runs.", "imgid": n, "sentid": n * 2},
                {"tokens": ["a", "cat"], "raw": f"A cat sits {n}.", "imgid": n, "sentid": n * 2 + 1},
            ],
            **{key: values[n] for key, values in extra.items()},
        }
        for n, name in enumerate(names)
    ]
    return json.dumps({"dataset": "flickr8k", "images": images})


@pytest.fixture
def flickr(tmp_path):
    for n, name in enumerate(NAMES):
        write_photo(tmp_path / "Images" / name, n, (40, 30))
    return tmp_path


def write_official_lists(folder, style):
    lists = {"train": NAMES[:3], "dev": NAMES[3:4], "test": NAMES[4:5]}
    for split, names in lists.items():
        path = folder / (f"Flickr_8k.{split}Images.txt" if style == "original" else f"splits/{split}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")


def test_flickr8k_as_kaggle_has_it(flickr):
    (flickr / "captions.txt").write_text(KAGGLE)
    write_official_lists(flickr, "original")
    records = load_source("flickr8k", data_dir=flickr)
    assert [record.image_id for record in records] == NAMES
    assert records[2].captions == ("A dog , number 2 , runs .", "A cat sits 2 .")
    assert [record.split for record in records] == ["train", "train", "train", "validation", "test", None]
    assert records[0].source == "flickr8k" and load_image(records[0].image).size == (40, 30)
    assert [record.image_id for record in load_source("flickr8k", data_dir=flickr, split="dev")] == NAMES[3:4]


def test_flickr8k_as_first_published_with_its_phantom_rows(tmp_path):
    text, photos = tmp_path / "Flickr8k_text", tmp_path / "Flicker8k_Dataset"
    text.mkdir()
    (text / "Flickr8k.token.txt").write_text(TOKEN)
    write_official_lists(text, "original")
    for n, name in enumerate(NAMES):
        write_photo(photos / name, n, (40, 30))
    found = Rejections()
    records = load_source("flickr8k", data_dir=tmp_path, rejections=found)
    assert Counter(len(record.captions) for record in records) == {5: 6}
    assert records[0].captions[3] == "A dog number 0 says 3 ."
    assert found.counts == {"broken row": 2}
    assert found.items[0].item == "2258277193_586949ec62.jpg.1" and "line 31" in found.items[0].where


def test_flickr8k_as_karpathy_split_it(flickr):
    (flickr / "dataset_flickr8k.json").write_text(karpathy_json(NAMES))
    records = load_source("flickr8k", data_dir=flickr)
    assert [record.split for record in records] == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert records[5].captions == ("A dog, number 5, runs.", "A cat sits 5.")


def test_flickr30k_as_kaggle_has_it(flickr):
    rows = "".join(f"{name}| {k}| Two dogs , {n} , run | fast .\n" for n, name in enumerate(NAMES) for k in range(2))
    (flickr / "results.csv").write_text("image_name| comment_number| comment\n" + rows)
    records = load_source("flickr30k", data_dir=flickr)
    assert len(records) == 6 and records[1].captions[0].strip() == "Two dogs , 1 , run | fast ."


def test_missing_photos_are_counted_and_named_and_not_fatal(flickr, caplog):
    (flickr / "captions.txt").write_text(KAGGLE + "9999_gone.jpg,A dog .\n")
    (flickr / "Images" / NAMES[1]).unlink()
    found = Rejections()
    records = load_source("flickr8k", data_dir=flickr, rejections=found)
    assert len(records) == 5 and found.counts == {"missing image": 3}
    assert {item.item for item in found} == {NAMES[1], "9999_gone.jpg"}
    load_source("flickr8k", data_dir=flickr)
    assert "missing image: 3" in caplog.text and "9999_gone.jpg" in caplog.text


def test_an_unquoted_comma_belongs_to_the_caption(flickr):
    (flickr / "captions.txt").write_text(f"image,caption\n{NAMES[0]},A dog, a cat, and a hen .\n")
    assert load_source("flickr8k", data_dir=flickr)[0].captions == ("A dog, a cat, and a hen .",)


def test_strange_line_ends_stay_inside_their_caption(flickr):
    (flickr / "captions.txt").write_bytes(
        f"image,caption\r\n{NAMES[0]},A dog\u2028runs .\r\n{NAMES[1]},A\x0ccat .\r\n".encode()
    )
    records = load_source("flickr8k", data_dir=flickr)
    assert [record.captions for record in records] == [("A dog\u2028runs .",), ("A\x0ccat .",)]


def test_what_is_wrong_with_flickr_files_is_said(flickr, tmp_path):
    with pytest.raises(SourceNotFoundError, match="no file of Flickr captions.*captions.txt"):
        load_source("flickr8k", data_dir=flickr)
    (flickr / "captions.txt").write_text("hello\nworld\n")
    with pytest.raises(SourceFormatError, match="line 1: expected `image,caption`.*found 'hello'"):
        load_source("flickr8k", data_dir=flickr)
    (flickr / "captions.txt").write_bytes("image,caption\nx.jpg,caf\xe9".encode("latin-1"))
    with pytest.raises(SourceFormatError, match="captions.txt is not UTF-8"):
        load_source("flickr8k", data_dir=flickr)
    (flickr / "captions.txt").write_text(KAGGLE)
    write_official_lists(flickr, "folder")
    (flickr / "splits" / "test.txt").write_text(NAMES[0])
    with pytest.raises(SourceFormatError, match="is in the lists of train and of test"):
        load_source("flickr8k", data_dir=flickr)
    with pytest.raises(SourceNotFoundError, match="no folder"):
        load_source("flickr8k", data_dir=flickr / "nowhere")
    with pytest.raises(SourceNotFoundError, match="no folder of images"):
        empty = tmp_path / "empty"
        empty.mkdir()
        (empty / "captions.txt").write_text(KAGGLE)
        load_source("flickr8k", data_dir=empty)


def test_real_flickr8k(test_data):
    records = load_source("flickr8k", data_dir=test_data / "flickr8k")
    assert Counter(record.split for record in records) == {"train": 6000, "validation": 1000, "test": 500}
    assert Counter(len(record.captions) for record in records) == {5: 7500}
    assert len({record.image_id for record in records}) == 7500
    # A folder is told by its files, without its name.
    assert len(load_source(test_data / "flickr8k", split="test")) == 500


@pytest.fixture
def coco(tmp_path):
    """COCO as it unpacks: photos of both subsets and both annotation files."""
    for subset, ids in (("train2014", (9, 25, 30)), ("val2014", (42, 73, 74))):
        images, annotations = [], []
        for image_id in ids:
            name = f"COCO_{subset}_{image_id:012d}.jpg"
            write_photo(tmp_path / subset / name, image_id, (40, 30))
            images.append({"id": image_id, "file_name": name, "height": 30, "width": 40, "license": 3})
            annotations += [{"image_id": image_id, "id": k, "caption": f"caption {k} of {image_id}"} for k in range(5)]
        content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "type": "captions"}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"captions_{subset}.json").write_text(json.dumps(content))
    return tmp_path


def write_karpathy_coco(coco):
    ids = [9, 25, 30, 42, 73, 74]
    subsets = ["train2014"] * 3 + ["val2014"] * 3
    names = [f"COCO_{subset}_{number:012d}.jpg" for subset, number in zip(subsets, ids, strict=True)]
    splits = ["train", "train", "train", "restval", "val", "test"]
    text = karpathy_json(names, splits, filepath=subsets, cocoid=ids)
    (coco / "dataset_coco.json").write_text(text)


def test_coco_annotations_as_distributed(coco):
    records = load_source("coco", data_dir=coco)
    assert {record.image_id: record.split for record in records} == {
        "9": "train", "25": "train", "30": "train", "42": "validation", "73": "validation", "74": "validation",
    }  # fmt: skip
    assert records[0].captions == tuple(f"caption {k} of 9" for k in range(5))
    assert records[0].metadata["license"] == 3
    assert len(load_source(coco / "annotations" / "captions_val2014.json")) == 3


@pytest.mark.parametrize(("restval", "train"), [("train", 4), ("drop", 3), ("keep", 3)])
def test_coco_as_karpathy_split_it(coco, restval, train):
    write_karpathy_coco(coco)
    found = Rejections()
    records = load_source("coco", data_dir=coco, restval=restval, rejections=found)
    splits = Counter(record.split for record in records)
    assert splits["train"] == train and splits["validation"] == splits["test"] == 1
    assert splits["restval"] == (restval == "keep") and found.counts == ({"restval": 1} if restval == "drop" else {})
    assert {record.image_id for record in records} >= {"9", "74"}
    assert load_source("coco", data_dir=coco, form="annotations", split="train")[0].captions[0] == "caption 0 of 9"
    with pytest.raises(ConfigurationError, match="restval must be"):
        load_source("coco", data_dir=coco, restval="maybe")


def test_broken_coco_files_are_named(coco):
    (coco / "val2014" / "COCO_val2014_000000000042.jpg").unlink()
    path = coco / "annotations" / "captions_val2014.json"
    content = json.loads(path.read_text())
    content["annotations"].append({"image_id": 5, "id": 1, "caption": "of no image"})
    path.write_text(json.dumps(content))
    found = Rejections()
    assert len(load_source("coco", data_dir=coco, rejections=found)) == 5
    assert found.counts == {"missing image": 1, "caption of an unlisted image": 1}
    path.write_text("[]")
    with pytest.raises(SourceFormatError, match="not a COCO caption file"):
        load_source("coco", data_dir=coco)
    path.write_text('{"images": [')
    with pytest.raises(SourceFormatError, match="is not JSON"):
        load_source("coco", data_dir=coco)
    (coco / "dataset_coco.json").write_text('{"images": [{"filename": "a.jpg"}]}')
    with pytest.raises(SourceFormatError, match="not a Karpathy file"):
        load_source("coco", data_dir=coco)


def test_coco_without_its_photos_says_where_it_looked(coco, tmp_path):
    write_karpathy_coco(coco)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(SourceNotFoundError, match="Not one of the 6 photos.*image_dir"):
        load_source(coco / "dataset_coco.json", image_dir=elsewhere)


def test_real_coco(test_data):
    records = load_source(test_data / "coco85")
    assert len(records) == 85 and all(len(record.captions) >= 5 for record in records)
    assert all(record.split == "validation" for record in records)
    assert load_image(records[0].image).mode == "RGB"


@pytest.fixture
def genome(tmp_path):
    entries = []
    for image_id, folder in ((1, "VG_100K"), (2, "VG_100K_2"), (3, "VG_100K")):
        if image_id != 3:
            write_photo(tmp_path / folder / f"{image_id}.jpg", image_id, (200, 150))
        regions = [
            {
                "region_id": image_id * 10 + k,
                "width": w,
                "height": h,
                "x": x,
                "y": 10,
                "phrase": phrase,
                "image_id": image_id,
            }
            for k, (w, h, x, phrase) in enumerate(
                [(50, 60, 20, "a red kite"), (10, 10, 0, "a button"), (120, 100, -5, "the sea behind him")]
            )
        ]
        entries.append({"id": image_id, "regions": regions})
    (tmp_path / "region_descriptions.json").write_text(json.dumps(entries, indent=1))
    data = [{"image_id": 1, "width": 200, "height": 150, "url": "https://x/1.jpg", "coco_id": 77, "flickr_id": None}]
    (tmp_path / "image_data.json").write_text(json.dumps(data))
    return tmp_path


def test_visual_genome_regions_as_captions(genome):
    found = Rejections()
    records = load_source("visual_genome", data_dir=genome, rejections=found)
    assert [record.image_id for record in records] == ["1", "2"]
    assert records[0].captions == ("the sea behind him", "a red kite", "a button")  # largest first
    assert records[0].metadata == {"coco_id": 77, "url": "https://x/1.jpg"}
    assert [(item.reason, item.item) for item in found] == [("missing image", "3.jpg")]
    assert load_source(genome, max_regions=1)[1].captions == ("the sea behind him",)


def test_visual_genome_regions_as_pictures(genome):
    found = Rejections()
    records = load_source("visual_genome", data_dir=genome, regions="crops", rejections=found)
    assert [record.image_id for record in records] == ["1-12", "1-10", "2-22", "2-20"]
    assert load_image(records[1].image).size == (50, 60)
    assert load_image(records[0].image).size == (115, 100)  # what lies outside of the photo is cut off
    assert found.counts["small region"] == 2
    with pytest.raises(ConfigurationError, match="regions must be"):
        load_source("visual_genome", data_dir=genome, regions="boxes")


def test_crops_of_one_photo_fall_on_one_side(genome):
    records = load_source("visual_genome", data_dir=genome, regions="crops", ratios={"train": 0.5, "test": 0.5})
    splits = {}
    for record in records:
        splits.setdefault(record.metadata["image"], set()).add(record.split)
    assert all(len(split) == 1 for split in splits.values()) and len(splits) == 2


def test_broken_visual_genome_is_named(genome):
    path = genome / "region_descriptions.json"
    path.write_text('[{"id": 1, "regions": [{"phrase": "a dog"}]}]')
    with pytest.raises(SourceFormatError, match="image 0: expected"):
        load_source("visual_genome", data_dir=genome)
    path.write_text('[{"id": 1, "regions": []}, {"id"')
    with pytest.raises(SourceFormatError, match="ends too early"):
        load_source("visual_genome", data_dir=genome)


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_a_list_is_read_the_same_in_pieces_of_any_size(tmp_path, chunk):
    value = [{"a": ']} ü \\ "', "b": [1, 2.5, [None]]}, 12345, "text, with [brackets]", {}, [], True]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(value, indent=2))
    assert list(iterate_json_list(path, chunk)) == value
    path.write_text("{}")
    with pytest.raises(SourceFormatError, match="expected a JSON list"):
        list(iterate_json_list(path, chunk))
