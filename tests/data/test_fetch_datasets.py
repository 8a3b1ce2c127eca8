"""Each dataset of the catalogue from a mirror on loopback, to what `load_source` reads of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from blip_refine.data.fetch import dataset
from blip_refine.data.fetch.catalog import CATALOG, MIRROR
from blip_refine.data.fetch.dataset import fetch_dataset, needed_bytes, read_expected
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.errors import ConfigurationError, DataError, SourceFormatError
from blip_refine.metrics.spice import CORENLP

from . import published_files as small
from .dataset_hub import DatasetHub
from .file_server import FileServer


@pytest.fixture
def server(monkeypatch):
    monkeypatch.delenv(MIRROR, raising=False)
    with FileServer({}) as running:
        yield running


def serve(monkeypatch, server, name: str, files: dict[str, bytes]) -> None:
    server.files.update(files)
    monkeypatch.setitem(CATALOG, name, small.with_checksums_of(name, files))


def get(server, name, folder, **options):
    return fetch_dataset(name, folder, accept_license=True, mirror=server.url, **options)


def splits(records) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for record in records:
        found.setdefault(str(record.split), []).append(record.image_id)
    return found


def test_coco_with_the_split_of_karpathy(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "coco", small.coco_files())
    fetched = get(server, "coco", tmp_path / "coco")
    records = load_source("coco", data_dir=tmp_path / "coco")
    assert splits(records) == {"train": ["1", "2"], "validation": ["3"], "test": ["4"]}
    assert records[0].captions == ("a photo of 1", "the picture 1")
    assert fetched.parts == ["karpathy", "train2014", "val2014"] and not (tmp_path / "coco" / ".downloads").exists()
    manifest = json.loads((tmp_path / "coco" / "fetched.json").read_text())
    entry = manifest["files"]["http://images.cocodataset.org/zips/val2014.zip"]
    data = server.files["images.cocodataset.org/zips/val2014.zip"]
    assert entry["sha256"] == hashlib.sha256(data).hexdigest() and entry["bytes"] == len(data)
    assert entry["checked"] == "published MD5, CRC of each file" and entry["unpacked"] == {"val2014": 2}
    karpathy = next(known for url, known in manifest["files"].items() if "karpathy" in url)
    assert karpathy["checked"] == "size, CRC of each file"
    asked = len(server.requests)
    get(server, "coco", tmp_path / "coco")
    assert len(server.requests) == asked


def test_coco_of_2017_and_the_test_split_of_the_server(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "coco", small.coco_files())
    get(server, "coco", tmp_path, parts=["val2017", "annotations2017"])
    assert splits(load_source("coco", data_dir=tmp_path)) == {"validation": ["5"]}
    assert (tmp_path / "annotations" / "instances_val2017.json").is_file()
    assert not list(tmp_path.rglob("person_keypoints*"))
    fetched = get(server, "coco", tmp_path, parts=["test2014"])
    assert fetched.parts == ["annotations2017", "test2014", "val2017"]
    records = load_source("coco", data_dir=tmp_path, form="test2014")
    assert splits(records) == {"test": ["8", "9"]} and records[0].captions == ()


def test_flickr8k_with_its_official_split(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "flickr8k", small.flickr8k_files())
    get(server, "flickr8k", tmp_path)
    rejections = Rejections()
    records = load_source("flickr8k", data_dir=tmp_path, rejections=rejections)
    assert [len(names) for names in splits(records).values()] == [4, 1, 1] and not rejections.counts
    assert len(records[0].captions) == 5 and not (tmp_path / "__MACOSX").exists()


def test_nocaps_with_its_domains_and_without_captions_for_the_test(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "nocaps", small.nocaps_files())
    missing = "s3.amazonaws.com/open-images-dataset/validation/0000000000000002.jpg"
    kept = server.files.pop(missing)
    fetched = get(server, "nocaps", tmp_path, parts=["val", "test"])
    assert fetched.images == 4 and list(fetched.failed.values()) == ["not found: HTTP 404 Not Found"]
    server.files[missing] = kept
    asked = len(server.requests)
    assert get(server, "nocaps", tmp_path, parts=["val", "test"]).failed == {}
    assert [path for path, _ in server.requests[asked:]] == [missing]
    records = load_source("nocaps", data_dir=tmp_path)
    assert splits(records) == {"validation": ["0", "1", "2"], "test": ["0", "1"]}
    assert len(records[0].captions) == 10 and records[0].metadata["domain"] == "in-domain"
    assert records[-1].captions == () and len(load_source(tmp_path, split="validation")) == 3
    assert (tmp_path / "val" / "0000000000000001.jpg").is_file()


def test_only_some_images_of_nocaps(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "nocaps", small.nocaps_files())
    assert get(server, "nocaps", tmp_path, images=2).images == 2
    assert len(load_source("nocaps", data_dir=tmp_path, split="validation")) == 2


def test_nocaps_that_names_files_elsewhere_is_refused(server, tmp_path, monkeypatch):
    files = small.nocaps_files()
    path = "nocaps.s3.amazonaws.com/nocaps_val_4500_captions.json"
    files[path] = files[path].replace(b"0000000000000001", b"../../../evil")
    serve(monkeypatch, server, "nocaps", files)
    with pytest.raises(SourceFormatError, match="'../../../evil' is not the id of an Open Images photo"):
        get(server, "nocaps", tmp_path / "out")
    assert not list(tmp_path.rglob("*.jpg"))


def test_conceptual_captions_with_both_lists(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "conceptual-captions", small.conceptual_files(server.url))
    fetched = get(server, "conceptual-captions", tmp_path, parts=["train", "validation"], allow_private=True)
    assert fetched.failed == {"not found": 1} and fetched.images == 4
    records = load_source("conceptual_captions", data_dir=tmp_path)
    assert {name: len(ids) for name, ids in splits(records).items()} == {"train": 2, "validation": 2}
    assert len(load_source(tmp_path, split="train")) == 2


def test_addresses_that_strangers_wrote_are_guarded_also_with_a_mirror(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "conceptual-captions", small.conceptual_files(server.url))
    assert get(server, "conceptual-captions", tmp_path).failed == {"private address": 3}
    assert not any(path.startswith("photos/") for path, _ in server.requests)


def test_flickr30k_from_the_hub(tmp_path):
    """In a process of its own: the Hub's client reads its address once."""
    code = (
        "import sys; from blip_refine.data.fetch.dataset import fetch_dataset\n"
        "from blip_refine.data.sources import load_source\n"
        "fetched = fetch_dataset('flickr30k', sys.argv[1], accept_license=True)\n"
        "records = load_source('flickr30k', data_dir=sys.argv[1])\n"
        "print([record.split for record in records], records[0].captions[0], sorted(fetched.parts))"
    )
    with DatasetHub({"nlphuji/flickr30k": small.flickr30k_files()}) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "home")}
        environment["PYTHONPATH"] = str(Path(dataset.__file__).parents[3])
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "f30k")], env=environment, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == (
            "['train', 'train', 'train', 'train', 'validation', 'test'] "
            "a \"photo\", of 1_abc.jpg ['captions', 'images']"
        )
        assert any("2b239befc81b6e3f035ce6bd52f5f4d60f5625f7" in request for request in hub.requests)
    with DatasetHub({}) as hub:
        environment["HF_ENDPOINT"] = hub.url
        run = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "no")], env=environment, capture_output=True, text=True
        )
        assert "The Hub does not give flickr30k-images.zip of 'nlphuji/flickr30k'" in run.stderr
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "off")], env=environment, capture_output=True, text=True
    )
    assert "HubError: flickr30k-images.zip of 'nlphuji/flickr30k' cannot be downloaded" in run.stderr


def test_corenlp_for_spice(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "spice", small.corenlp_files())
    get(server, "spice", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*CORENLP, "fetched.json"}


def test_a_wrong_checksum_and_one_that_another_machine_did_not_receive(server, tmp_path, monkeypatch):
    files = small.coco_files()
    serve(monkeypatch, server, "coco", files)
    get(server, "coco", tmp_path / "one", parts=["val2014", "karpathy"])
    server.files["images.cocodataset.org/zips/val2014.zip"] = small.zipped({"val2014/evil.jpg": b"evil"})
    with pytest.raises(DataError, match="val2014.zip gave a file with the wrong checksum"):
        get(server, "coco", tmp_path / "two", parts=["val2014"])
    assert not list((tmp_path / "two").rglob("*.jpg"))
    path = "cs.stanford.edu/people/karpathy/deepimagesent/caption_datasets.zip"
    server.files[path] = small.zipped({"dataset_coco.json": "{}"})
    expected = read_expected(tmp_path / "one" / "fetched.json")
    with pytest.raises(DataError, match="and the other machine received .*: the file was changed. It was removed"):
        get(server, "coco", tmp_path / "two", parts=["karpathy"], expected=expected)
    assert not list((tmp_path / "two").rglob("*.json"))
    with pytest.raises(ConfigurationError, match="is not the fetched.json of another machine"):
        read_expected(tmp_path / "two" / "nothing.json")


def test_a_truncated_zip_is_removed_and_comes_again(server, tmp_path, monkeypatch):
    files = small.flickr8k_files()
    serve(monkeypatch, server, "flickr8k", files)
    path = f"{small.GITHUB}/Flickr8k_Dataset.zip"
    server.files[path] = files[path][:-600]
    with pytest.raises(DataError, match="Flickr8k_Dataset.zip is not a whole zip file"):
        get(server, "flickr8k", tmp_path)
    server.files[path] = files[path]
    get(server, "flickr8k", tmp_path)
    assert len(load_source("flickr8k", data_dir=tmp_path)) == 6


def test_what_was_deleted_comes_again_and_archives_stay_where_that_is_asked(server, tmp_path, monkeypatch):
    serve(monkeypatch, server, "flickr8k", small.flickr8k_files())
    get(server, "flickr8k", tmp_path, keep_archives=True)
    assert (tmp_path / ".downloads" / "Flickr8k_text.zip").is_file()
    (tmp_path / "Flicker8k_Dataset" / small.FLICKR_NAMES[0]).unlink()
    asked = len(server.requests)
    get(server, "flickr8k", tmp_path, keep_archives=True)
    assert len(server.requests) == asked, "the archive is here"
    assert (tmp_path / "Flicker8k_Dataset" / small.FLICKR_NAMES[0]).is_file()


def test_a_disk_that_is_too_small_is_told_before_anything_comes(server, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "check_space", check := FullDisk())
    with pytest.raises(DataError, match="no room"):
        get(server, "coco", tmp_path)
    assert check.asked == ["fetch karpathy, train2014, val2014"] and not server.requests
    assert 25 * 2**30 < check.needed[0] < 26 * 2**30, "the archive of train2014 and its photos"


class FullDisk:
    def __init__(self):
        self.asked: list[str] = []
        self.needed: list[int] = []

    def __call__(self, folder, needed, purpose):
        self.asked.append(purpose)
        self.needed.append(needed)
        raise DataError("no room")


def test_what_is_half_here_needs_less_room(tmp_path):
    parts = CATALOG["coco"].choose(["val2014"], "coco")
    whole = needed_bytes(parts, {}, tmp_path, False, 0.0)
    with (tmp_path / "val2014.zip.part").open("wb") as file:
        file.truncate(5 * 10**9)
    assert whole - needed_bytes(parts, {}, tmp_path, False, 0.0) == 5 * 10**9


def test_two_at_once_in_one_folder(server, tmp_path):
    from filelock import FileLock

    (tmp_path / ".downloads").mkdir()
    with FileLock(tmp_path / ".downloads" / "lock"), pytest.raises(DataError, match="Another process is fetching"):
        get(server, "spice", tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imagenet", {}, "Cannot fetch 'imagenet'. Known are coco, flickr8k"),
        ("coco", {"parts": ["val2015"]}, "coco has no part 'val2015'; it has karpathy"),
        ("coco", {"images": 5}, "coco comes in whole archives"),
        ("nocaps", {"images": 0}, "must be at least 1"),
        ("coco", {"accept_license": False}, "The licence of coco must be agreed to first"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(tmp_path, name, options, message):
    with pytest.raises(ConfigurationError, match=message):
        fetch_dataset(name, tmp_path / "out", **{"accept_license": True, **options})
    assert not (tmp_path / "out").exists()


def test_the_catalogue_holds_together():
    for name, one in CATALOG.items():
        assert one.licence and one.terms.startswith("https://") and set(one.default) <= set(one.parts), name
        for part in one.parts.values():
            for file in part.files:
                assert file.bytes > 0 and file.name and (not file.members or file.unpacked > 0)
                assert file.md5 or file.url.startswith("https://"), "what comes unencrypted has a checksum"
