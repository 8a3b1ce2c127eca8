"""One's own data: folders, tables, tars, data sets in memory, and several of them mixed."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections import Counter

import pytest
from PIL import Image

from blip_refine.data.duplicates import content_hash
from blip_refine.data.images import load_image
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.mixed import mix_records
from blip_refine.data.sources.registry import iterate_source
from blip_refine.errors import ConfigurationError, SourceFormatError, SourceNotFoundError

from .photos import difference, encode, make_photo, write_photo


@pytest.fixture
def photos(tmp_path):
    for n in range(4):
        write_photo(tmp_path / f"{n}.jpg", n, (40, 30))
    return tmp_path


def ids(records):
    return [record.image_id for record in records]


# Folders


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_the_hubs_imagefolder_form(photos, form):
    rows = [{"file_name": f"{n}.jpg", "text": f"picture, number {n}"} for n in (0, 1, 2, 0)]
    path = photos / f"metadata.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif form == "csv":
        path.write_text("file_name,text\n" + "".join(f'{row["file_name"]},"{row["text"]}"\n' for row in rows))
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    found = Rejections()
    records = load_source(photos, rejections=found)
    assert ids(records) == ["0.jpg", "1.jpg", "2.jpg"]
    assert records[0].captions == ("picture, number 0", "picture, number 0")
    assert [(item.reason, item.item) for item in found] == [("image without caption", "3.jpg")]


def test_the_imagefolder_form_is_what_datasets_reads(photos):
    """The same folder through `datasets` itself gives the same captions and pixels."""
    from datasets import load_dataset

    (photos / "metadata.csv").write_text("file_name,text\n" + "".join(f"{n}.jpg,picture {n}\n" for n in range(4)))
    through_datasets = load_dataset("imagefolder", data_dir=str(photos), cache_dir=str(photos / "cache"))
    ours, theirs = load_source(photos, split=None), load_source(through_datasets)
    assert [record.captions for record in theirs] == [record.captions for record in ours]
    # `datasets` calls everything "train" that nobody has split: that is no split.
    assert ids(theirs) == ids(ours) and {record.split for record in theirs} == {None}
    assert [content_hash(record.image) for record in theirs] == [content_hash(record.image) for record in ours]


def test_split_folders_with_their_own_metadata(tmp_path):
    for split, numbers in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        for n in numbers:
            write_photo(tmp_path / split / f"{n % 2}.jpg", n)
        text = "".join(f"{n % 2}.jpg,picture {n}\n" for n in numbers)
        (tmp_path / split / "metadata.csv").write_text("file_name,caption\n" + text)
    records = load_source(tmp_path)
    assert [(record.image_id, record.split) for record in records] == [
        ("test/1.jpg", "test"), ("train/0.jpg", "train"), ("train/1.jpg", "train"), ("val/0.jpg", "validation"),
    ]  # fmt: skip
    assert ids(load_source(tmp_path, split="validation")) == ["val/0.jpg"]


def test_text_files_beside_the_photos(tmp_path):
    write_photo(tmp_path / "a" / "one.jpg", 1)
    (tmp_path / "a" / "one.txt").write_text("A dog.\n\nA brown dog.\n")
    write_photo(tmp_path / "b" / "two.PNG", 2)
    (tmp_path / "b" / "two.PNG.txt").write_text("\ufeffA cat.")
    write_photo(tmp_path / "three.webp", 3)
    write_photo(tmp_path / ".hidden" / "four.jpg", 4)
    found = Rejections()
    records = load_source(tmp_path, rejections=found)
    assert {record.image_id: record.captions for record in records} == {
        "a/one.jpg": ("A dog.", "A brown dog."),
        "b/two.PNG": ("A cat.",),
    }
    assert [item.item for item in found] == ["three.webp"]
    assert ids(load_source(tmp_path, require_captions=False)) == ["three.webp", "a/one.jpg", "b/two.PNG"]


def test_a_folder_without_captions_says_where_to_put_them(photos):
    with pytest.raises(SourceFormatError, match=r"4 images and not one caption.*metadata\.csv.*0\.txt for 0\.jpg"):
        load_source(photos)
    (photos / "empty").mkdir()
    with pytest.raises(SourceFormatError, match="no images and no table"):
        load_source(photos / "empty")
    (photos / "one.csv").write_text("image,caption\n")
    (photos / "two.csv").write_text("image,caption\n")
    with pytest.raises(SourceFormatError, match=r"several tables \(one.csv, two.csv\)"):
        load_source(photos)


# Tables and their columns


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("image,caption", "0.jpg,a dog"),
        ("Image Path;Description", "0.jpg;a dog"),
        ("filepath\tid\traw", "0.jpg\t7\ta dog"),
        ("caption,path,extra", "a dog,0.jpg,1"),
    ],
)
def test_obvious_columns_are_found(photos, header, row):
    (photos / "t.csv").write_text(f"{header}\n{row}\n")
    assert load_source(photos / "t.csv")[0].captions == ("a dog",)


def test_numbered_columns_and_lists_are_several_captions(photos):
    (photos / "t.csv").write_text("image,caption_1,caption_0,caption_10,split\n0.jpg,b,a,c,dev\n")
    record = load_source(photos / "t.csv")[0]
    assert record.captions == ("a", "b", "c") and record.split == "validation"
    row = {"image": "0.jpg", "sentences": ["a", {"raw": "b"}, 3, None], "image_id": 12, "place": "Rome"}
    (photos / "t.jsonl").write_text(json.dumps(row) + "\n")
    found = Rejections()
    record = load_source(photos / "t.jsonl", rejections=found)[0]
    assert record.captions == ("a", "b") and record.image_id == "12" and record.metadata == {"place": "Rome"}
    assert found.counts == {"caption is not text": 1}
    (photos / "t.json").write_text(json.dumps([row]))
    assert load_source(photos / "t.json", captions_per_image=1)[0].captions == ("a",)


def test_what_is_not_obvious_is_asked_for(photos):
    (photos / "t.csv").write_text("datei,beschriftung\n0.jpg,ein Hund\n")
    with pytest.raises(SourceFormatError, match="which column holds the image.*'datei', 'beschriftung'.*image_column"):
        load_source(photos / "t.csv")
    with pytest.raises(SourceFormatError, match="which column holds the caption"):
        load_source(photos / "t.csv", image_column="datei")
    with pytest.raises(SourceFormatError, match="no column 'Datei'. It has the columns 'datei'"):
        load_source(photos / "t.csv", image_column="Datei")
    records = load_source(photos / "t.csv", image_column="datei", caption_column="beschriftung")
    assert records[0].captions == ("ein Hund",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "no rows"),
        ("t.csv", "image,caption\n", "no rows"),
        ("t.csv", "image,caption\n0.jpg,a,dog\n", "line 2: 3 cells under 2 column names.*double quotes"),
        ("t.csv", b"image,caption\n0.jpg,caf\xe9\n", "not UTF-8"),
        ("t.jsonl", '{"image": 1}\n{"image"\n', "line 2: not JSON"),
        ("t.jsonl", "[1]\n", "line 1: expected a JSON object"),
        ("t.json", "[1, 2]", "expected a list of objects"),
        ("t.json", "nope", "not JSON"),
        ("t.parquet", "nope", "not a Parquet file"),
        ("t.xlsx", "nope", "of no known form.*csv"),
        ("t.jsonl", '{"image": 3, "caption": "a"}\n', "path or the bytes of a file, not a int"),
        ("t.csv", "image,caption\nhttps://x.org/a.jpg,a dog\n", "is the URL 'https://x.org/a.jpg'.*Download"),
    ],
)
def test_broken_tables_are_named_with_the_line(photos, name, content, message):
    path = photos / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SourceFormatError, match=rf"{name}.*{message}"):
        load_source(path)


def test_rows_without_an_image_are_counted(photos):
    (photos / "t.csv").write_text("image,caption\n0.jpg,a\n,b\ngone.jpg,c\n")
    found = Rejections()
    assert len(load_source(photos / "t.csv", rejections=found)) == 1
    assert found.counts == {"no image named": 1, "missing image": 1}
    (photos / "t.csv").write_text("image,caption\ngone.jpg,c\n")
    with pytest.raises(SourceNotFoundError, match="Not one of the 1 images.*'gone.jpg'.*image_dir"):
        load_source(photos / "t.csv")


def test_one_image_is_one_record_whatever_the_rows(photos):
    """A set of five captions an image cannot be had by row: what comes out of every source is grouped by image."""
    (photos / "t.csv").write_text("image,caption\n" + "".join(f"{k % 4}.jpg,caption {k}\n" for k in range(20)))
    records = load_source(photos / "t.csv")
    assert len(records) == 4 and Counter(len(record.captions) for record in records) == {5: 4}
    train, test = (
        load_source(photos / "t.csv", split=name, ratios={"train": 1, "test": 1}) for name in ("train", "test")
    )
    assert not set(ids(train)) & set(ids(test)) and len(train) + len(test) == 4


def moved_table(folder, *named):
    (folder / "captions.csv").write_text("image,caption\r\n" + "".join(f"{one},what it is\r\n" for one in named))
    rejections = Rejections()
    records = load_source(folder, rejections=rejections)
    return {record.image_id: len(record.captions) for record in records}, len(rejections.of("missing image"))


def test_paths_of_another_machine_are_found_by_their_end(tmp_path, caplog):
    for number, name in enumerate(("Photos/A 1.JPG", "Photos/Summer/b.jpg", "c.jpg")):
        write_photo(tmp_path / name, seed=number)
    found, missing = moved_table(
        tmp_path,
        "C:\\Users\\Eva\\Photos\\A 1.JPG",
        "photos/a 1.jpg",
        "b.jpg",
        "/home/eva/c.jpg",
        "Photos/b.jpg",
        "d.jpg",
    )
    # One image under two names is one record; a folder that contradicts, and a name that is nowhere, are not guessed.
    assert found == {"Photos/A 1.JPG": 2, "Photos/Summer/b.jpg": 1, "c.jpg": 1} and missing == 2
    assert "4 images are not under the path that is named" in caplog.text


def test_a_name_that_could_mean_two_pictures_finds_none(tmp_path):
    for number, name in enumerate(("x/1.jpg", "y/1.jpg", "y/2.jpg", "z/3.jpg", "3.jpg")):
        write_photo(tmp_path / name, seed=number)
    # "2.jpg" is there once, but in this folder a name alone says little.
    found, missing = moved_table(tmp_path, "1.jpg", "2.jpg", "old/x/1.jpg", "old/3.jpg", "y/1.jpg")
    assert found == {"x/1.jpg": 1, "y/1.jpg": 1} and missing == 3


def test_the_same_name_for_two_images_is_refused(photos):
    (photos / "t.csv").write_text("image,caption,image_id\n0.jpg,a,1\n1.jpg,b,1\n")
    with pytest.raises(SourceFormatError, match="both called '1'.*row 2 and t.csv, row 3.*id_column"):
        load_source(photos / "t.csv")


def test_an_image_in_two_splits_stays_in_the_first(photos):
    (photos / "t.csv").write_text("image,caption,split\n0.jpg,a,train\n0.jpg,b,test\n1.jpg,c,test\n")
    found = Rejections()
    records = load_source(photos / "t.csv", rejections=found)
    assert [record.split for record in records] == ["train", "test"] and found.counts == {"image in two splits": 1}


# WebDataset


def write_tar(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_webdataset_tars_as_img2dataset_writes_them(tmp_path):
    for shard in range(2):
        members = []
        for n in range(3):
            key = f"{shard:05d}{n:04d}"
            meta = {"caption": f"dog {n}", "url": f"https://x/{key}", "key": key, "status": "success", "width": 40}
            members += [
                (f"{key}.jpg", encode(make_photo(shard * 3 + n, (40, 30)))),
                (f"{key}.txt", f"dog {n}".encode()),
                (f"{key}.json", json.dumps(meta).encode()),
            ]
        write_tar(tmp_path / f"{shard:05d}.tar", members)
    records = load_source(tmp_path)
    assert len(records) == 6 and records[0].captions == ("dog 0",)  # not twice, from .txt and .json
    assert records[4].image_id == "000010001" and records[4].metadata["url"] == "https://x/000010001"
    assert difference(load_image(records[4].image), make_photo(4, (40, 30))) < 8
    again = pickle.loads(pickle.dumps(records))
    assert content_hash(again[5].image) == content_hash(records[5].image)
    for pattern in ("*.tar", "{00000..00001}.tar"):
        assert ids(load_source(str(tmp_path / pattern))) == ids(records)
    assert len(load_source(tmp_path / "00001.tar")) == 3


def test_odd_samples_in_a_tar(tmp_path):
    photo = encode(make_photo(0, (40, 30)))
    write_tar(
        tmp_path / "a.tar",
        [
            ("train/1.jpg", photo),
            ("train/1.captions.json", b"not looked at"),
            ("train/1.json", json.dumps({"captions": ["one", {"raw": "two"}]}).encode()),
            ("2.jpg", photo),
            ("3.txt", b"no picture"),
            ("4.jpg", photo),
            ("4.png", photo),
            ("4.txt", b"\xff\xfe"),
            ("4.json", b"{"),
            ("4.caption", b"fine"),
            (".DS_Store", b"x"),
        ],
    )
    found = Rejections()
    records = load_source(tmp_path / "a.tar", rejections=found)
    assert {record.image_id: record.captions for record in records} == {"train/1": ("one", "two"), "4": ("fine",)}
    assert found.counts == {
        "second image of a sample": 1, "broken caption file": 1, "broken JSON": 1, "image without caption": 1,
        "sample without image": 1,
    }  # fmt: skip


def test_a_tar_cannot_lead_outside(tmp_path):
    """Links and absolute names in a tar are never followed, since nothing is unpacked."""
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encode(make_photo(1)))
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("1.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        tar.addfile(link)
        for name, data in (("/../2.jpg", encode(make_photo(2))), ("/../2.txt", b"a dog")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    records = load_source(path)
    assert len(records) == 1 and difference(load_image(records[0].image), make_photo(2)) < 8


def test_broken_and_missing_tars_are_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"nonsense" * 200)
    with pytest.raises(SourceFormatError, match="a.tar is no plain tar"):
        load_source(tmp_path / "a.tar")
    write_tar(tmp_path / "b.tar", [("1.jpg", b"x"), ("1.txt", b"a dog")], "w:gz")
    with pytest.raises(SourceFormatError, match="gunzip"):
        load_source(tmp_path / "b.tar")
    write_tar(tmp_path / "c.tar", [("readme.md", b"hello")])
    with pytest.raises(SourceFormatError, match="no sample with an image and a caption"):
        load_source(tmp_path / "c.tar")
    with pytest.raises(SourceNotFoundError, match="no tar at"):
        load_source(str(tmp_path / "nothing-*.tar"))
    with pytest.raises(SourceNotFoundError, match="3 of the 3 tars"):
        load_source(str(tmp_path / "{0..2}.tar"))


# Data sets in memory


@pytest.fixture
def dataset():
    from datasets import Dataset

    pictures = [{"bytes": encode(make_photo(n // 5, (40, 30))), "path": f"{n // 5}.jpg"} for n in range(20)]
    from datasets import Image as ImageFeature

    rows = Dataset.from_dict({"image": pictures, "caption": [f"caption {n}" for n in range(20)]})
    return rows.cast_column("image", ImageFeature())


def test_rows_of_one_image_are_one_record(dataset):
    records = load_source(dataset)
    assert ids(records) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert records[1].captions == tuple(f"caption {n}" for n in range(5, 10))
    assert load_image(records[1].image).size == (40, 30)
    assert pickle.loads(pickle.dumps(records[1].image)).read_bytes() == records[1].image.read_bytes()
    shuffled = load_source(dataset.shuffle(seed=1))
    assert sorted(map(sorted, (record.captions for record in shuffled))) == sorted(
        map(sorted, (record.captions for record in records))
    )


def test_a_dataset_dict_brings_its_splits(dataset):
    from datasets import DatasetDict

    parts = DatasetDict(train=dataset.select(range(10)), test=dataset.select(range(10, 20)))
    assert [record.split for record in load_source(parts)] == ["train", "train", "test", "test"]
    assert ids(load_source(parts, split="test")) == ["2.jpg", "3.jpg"]
    with pytest.raises(ConfigurationError, match="has no split 'validation'; it has 'test', 'train'.*ratios"):
        load_source(parts, split="validation")
    leaking = DatasetDict(train=dataset.select(range(10)), test=dataset.select(range(8, 20)))
    found = Rejections()
    records = load_source(leaking, rejections=found)
    assert [record.split for record in records] == ["train", "train", "test", "test"]
    assert found.counts == {"image in two splits": 2}


def test_pictures_paths_and_lists_in_memory(photos):
    from datasets import Dataset

    decoded = Dataset.from_dict({"img": [str(photos / "0.jpg"), str(photos / "1.jpg")], "texts": [["a", "b"], ["c"]]})
    records = load_source(decoded)
    assert [record.captions for record in records] == [("a", "b"), ("c",)]
    assert load_image(records[0].image).size == (40, 30)
    with pytest.raises(SourceFormatError, match="which column holds the image.*'x'"):
        load_source(Dataset.from_dict({"x": [1], "caption": ["a"]}))


def test_an_iterable_dataset_is_read_row_by_row(dataset):
    records = list(iterate_source(dataset.to_iterable_dataset()))
    assert ids(records) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"] and len(records[3].captions) == 5
    assert difference(load_image(records[2].image), make_photo(2, (40, 30))) < 8
    assert isinstance(load_image(records[0].image), Image.Image)


# Several


def test_mixtures_have_the_wanted_shares_and_repeat_nothing():
    from blip_refine.data.sources.scenes import load_scenes

    parts = {"a": load_scenes(count=40, split="train"), "b": load_scenes("adventure", count=100, split="train")}
    mixed = mix_records(parts, {"a": 3, "b": 1})
    counts = Counter(record.image_id.split("/")[0] for record in mixed)
    assert counts == {"a": 40, "b": 13} and len(set(ids(mixed))) == len(mixed)
    assert len(mix_records(parts)) == 140
    assert ids(mix_records(parts, {"a": 1, "b": 1})) == ids(mix_records(parts, {"a": 1, "b": 1}))
    with pytest.raises(ConfigurationError, match="Weights are given for"):
        mix_records(parts, {"a": 1})
    with pytest.raises(ConfigurationError, match="positive"):
        mix_records(parts, {"a": 1, "b": 0})


def test_a_mixture_is_a_source(photos):
    (photos / "metadata.csv").write_text("file_name,text\n" + "".join(f"{n}.jpg,photo {n}\n" for n in range(4)))
    mixed = load_source({str(photos): 1, "scenes:everyday": {"weight": 2, "count": 20}}, split="train")
    counts = Counter(record.source for record in mixed)
    assert counts[photos.name] * 2 == counts["scenes:everyday"]
    with pytest.raises(ConfigurationError, match="weight of 'scenes:everyday' is a number"):
        load_source({"scenes:everyday": "much", str(photos): 1})
    with pytest.raises(ConfigurationError, match="own data_dir"):
        load_source({"scenes:everyday": 1, str(photos): 1}, data_dir=photos)


def test_copies_of_a_picture_fall_on_one_side_across_mixed_sources(tmp_path):
    """The same photos in two folders, in one of them re-encoded, resized and renamed."""
    for n in range(40):
        for folder, picture in (("a", make_photo(n)), ("b", make_photo(n).resize((80, 60)))):
            path = tmp_path / folder / f"{folder}{n}.jpg"
            path.parent.mkdir(exist_ok=True)
            picture.save(path, quality=80)
            path.with_suffix(".txt").write_text(f"photo number {n}")
    sources = {str(tmp_path / "a"): 1, str(tmp_path / "b"): 1}
    shares = {"train": 0.5, "test": 0.5}
    train, test = (
        {record.captions for record in load_source(sources, split=split, ratios=shares)} for split in ("train", "test")
    )
    assert len(train) > 5 and len(test) > 5 and not train & test and len(train | test) == 40
    assert load_source({str(tmp_path / "a"): 1}, split="validation", ratios={"train": 1, "validation": 0}) == []
    with pytest.raises(ConfigurationError, match="has no split 'dev2'"):
        load_source(sources, split="dev2")
    # Beside a source with splits of its own, they go to the side of their copies there.
    for n in range(40):
        target = tmp_path / "official" / ("train" if n % 2 else "test") / f"{n}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        make_photo(n).save(target)
        target.with_suffix(".txt").write_text(f"photo number {n}")
    records = load_source({str(tmp_path / "official"): 1, str(tmp_path / "b"): 1}, split="test")
    assert {record.captions for record in records} == {(f"photo number {n}",) for n in range(0, 40, 2)}
    assert Counter(record.source for record in records) == {"official": 20, "b": 20}


# What is not there


def test_unknown_sources_name_what_is_known_and_near(photos):
    with pytest.raises(SourceNotFoundError, match="'flickr8'.*Did you mean 'flickr8k'.*coco.*Hub id"):
        load_source("flickr8")
    (photos / "captions.csv").write_text("image,caption\n0.jpg,a\n")
    with pytest.raises(SourceNotFoundError, match=r"Did you mean '.*captions\.csv'"):
        load_source(str(photos / "caption.csv"))
    with pytest.raises(SourceNotFoundError, match="A int is no source"):
        load_source(3)
    with pytest.raises(ConfigurationError, match="no option caption_colum=;.*Did you mean caption_column="):
        load_source(photos / "captions.csv", caption_colum="x")
    with pytest.raises(ConfigurationError, match="captions_per_image must be at least 1"):
        load_source(photos / "captions.csv", captions_per_image=0)
    with pytest.raises(SourceNotFoundError, match="Where are the files of visual_genome"):
        load_source("visual_genome")
    with pytest.raises(ConfigurationError, match="has no split 'dev2'"):
        load_source(photos / "captions.csv", split="dev2")
