"""Data sets by their Hub id: the real `datasets` library, in a process of its own, against a Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from blip_refine.data.sources import load_source
from blip_refine.data.sources.hub import coco_rows
from blip_refine.errors import ConfigurationError, HubError, SourceFormatError

from .dataset_hub import DatasetHub
from .image_server import ImageServer
from .photos import encode, make_photo, write_photo

SCRIPT = """
import json, os, sys
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.registry import iterate_source
from blip_refine.data.images import load_image
from blip_refine.errors import BlipRefineError

def show(records):
    return [[r.image_id, r.split, list(r.captions), list(load_image(r.image).size)] for r in records]

import io, logging
log = io.StringIO()
logging.getLogger("blip_refine").addHandler(logging.StreamHandler(log))
answers = {}
answers["flickr8k"] = show(load_source("flickr8k"))
parts = [load_source("flickr8k", split=s, ratios={"train": 1, "test": 1}) for s in ("train", "test")]
answers["parts"] = [[r.image_id for r in part] for part in parts]
load_source("flickr8k", split="train")
official = {s: load_source("flickr8k", split=s, split_lists=os.environ["LISTS"]) for s in ("test", "train")}
answers["official"] = {s: [r.image_id for r in part] for s, part in official.items()}
for name, folder in (("no lists", "COCO"), ("other names", "OTHER_LISTS")):
    try:
        load_source("flickr8k", split="test", split_lists=os.environ[folder])
    except BlipRefineError as error:
        answers[name] = f"{type(error).__name__}: {error}"
answers["streamed"] = show(iterate_source("ariG23498/flickr8k", split="train"))
answers["coco"] = show(load_source("coco", image_dir=os.environ["COCO"], restval="train"))
found = Rejections()
download = {"download_dir": os.environ["DOWNLOAD"], "allow_private": True}
answers["downloaded"] = show(load_source("coco", **download, rejections=found))
answers["failed"] = found.counts

from torch.utils.data import DataLoader
from blip_refine.data.streaming import ShardedCaptionStream
stream = ShardedCaptionStream.from_source("someone/shards", shuffle_buffer=0)
answers["shards"] = len(stream.shards)
loader = DataLoader(stream, batch_size=2, num_workers=2, collate_fn=lambda items: [i["image_id"] for i in items])
answers["sharded"] = [name for batch in loader for name in batch]

try:
    load_source("no-one/nothing")
except BlipRefineError as error:
    answers["nothing"] = f"{type(error).__name__}: {error}"
answers["log"] = log.getvalue()
print(json.dumps(answers))
"""


def parquet(rows: list[dict], folder, image: bool = True) -> bytes:
    import datasets

    table = datasets.Dataset.from_list(rows)
    if image:
        table = table.cast_column("image", datasets.Image())
    path = folder / "part.parquet"
    table.to_parquet(path)
    return path.read_bytes()


def photo_rows(numbers) -> list[dict]:
    return [
        {"image": {"bytes": encode(make_photo(n, (40, 30))), "path": f"{n}.jpg"}, "caption": f"caption {k} of {n}"}
        for n in numbers
        for k in range(5)
    ]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What a fresh process finds that reaches nothing but the two servers."""
    folder = tmp_path_factory.mktemp("hub")
    for lists, names in (("lists", ("0.jpg\n2.jpg", "3.jpg")), ("other", ("a.jpg", "b.jpg"))):
        (folder / lists).mkdir()
        for part, text in zip(("train", "test"), names, strict=True):
            (folder / lists / f"Flickr_8k.{part}Images.txt").write_text(text + "\n")
    coco = [("train", 9), ("restval", 42), ("val", 73), ("test", 74)]
    with ImageServer() as photos:
        rows = {
            split: {
                "filepath": "val2014",
                "sentids": [1, 2],
                "filename": f"COCO_val2014_{number:012d}.jpg",
                "imgid": number,
                "split": split,
                "sentences": [f"sentence {k} of {number}" for k in range(5)],
                "cocoid": number,
                "url": f"{photos.url}/{'status/404' if split == 'test' else 'ok'}/{number}.jpg",
            }
            for split, number in coco
        }
        for _, number in coco:
            write_photo(folder / "coco" / "val2014" / f"COCO_val2014_{number:012d}.jpg", number, (40, 30))
        repositories = {
            "ariG23498/flickr8k": {"data/train-00000-of-00001.parquet": parquet(photo_rows(range(4)), folder)},
            "someone/shards": {
                f"data/train-{n:05d}-of-00003.parquet": parquet(photo_rows(range(n * 3, n * 3 + 3)), folder)
                for n in range(3)
            },
            "yerevann/coco-karpathy": {
                f"data/{'validation' if split == 'val' else split}-00000-of-00001.parquet": parquet(
                    [row], folder, False
                )
                for split, row in rows.items()
            },
        }
        with DatasetHub(repositories) as hub:
            environment = {
                **os.environ,
                "HF_ENDPOINT": hub.url,
                "HF_HOME": str(folder / "home"),
                "HF_HUB_OFFLINE": "0",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "NO_PROXY": "127.0.0.1",
                "COCO": str(folder / "coco"),
                "LISTS": str(folder / "lists"),
                "OTHER_LISTS": str(folder / "other"),
                "DOWNLOAD": str(folder / "download"),
            }
            done = subprocess.run(
                [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300
            )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def five(number):
    return [f"caption {k} of {number}" for k in range(5)]


@pytest.mark.slow
def test_flickr8k_by_its_name_is_grouped_by_image(answers):
    # All rows are called "train" there, which is no split: `prepare` is to make one.
    assert answers["flickr8k"] == [[f"{n}.jpg", None, five(n), [40, 30]] for n in range(4)]


@pytest.mark.slow
def test_what_the_hub_calls_train_is_split_on_request(answers):
    train, test = map(set, answers["parts"])
    assert not train & test and train | test == {f"{n}.jpg" for n in range(4)}
    assert "the official split is not known here" in answers["log"]


@pytest.mark.slow
def test_official_lists_split_rows_that_carry_file_names(answers):
    assert answers["official"] == {"test": ["3.jpg"], "train": ["0.jpg", "2.jpg"]}
    assert answers["no lists"].startswith("SourceNotFoundError:") and "Flickr_8k.testImages.txt" in answers["no lists"]
    assert "Not one of the 4 images" in answers["other names"] and "is called '0.jpg'" in answers["other names"]


@pytest.mark.slow
def test_a_streamed_data_set_gives_the_same(answers):
    assert answers["streamed"] == [[image, "train", *rest] for image, _, *rest in answers["flickr8k"]]


@pytest.mark.slow
def test_coco_karpathy_has_all_five_sentences_and_local_photos(answers):
    assert {row[0]: row[1] for row in answers["coco"]} == {
        "9": "train", "42": "train", "73": "validation", "74": "test",
    }  # fmt: skip
    assert all(row[2] == [f"sentence {k} of {row[0]}" for k in range(5)] for row in answers["coco"])


@pytest.mark.slow
def test_coco_karpathy_can_download_its_photos(answers):
    assert {row[0] for row in answers["downloaded"]} == {"9", "42", "73"}
    assert all(len(row[2]) == 5 and row[3] == [64, 48] for row in answers["downloaded"])
    assert answers["failed"] == {"download failed: not found": 1}


@pytest.mark.slow
def test_shards_are_divided_among_workers(answers):
    assert answers["shards"] == 3
    assert sorted(answers["sharded"]) == sorted(f"{n}.jpg" for n in range(9))


@pytest.mark.slow
def test_an_unknown_id_is_said_to_be_unknown(answers):
    assert answers["nothing"].startswith("SourceNotFoundError: The Hub has no data set 'no-one/nothing'")


def test_without_a_network_the_error_is_plain():
    with pytest.raises(HubError, match="'someone/photos' is not in the local cache.*data_dir="):
        load_source("someone/photos")
    with pytest.raises(ConfigurationError, match="captions and URLs, not photos.*image_dir=.*download_dir="):
        load_source("coco")


def test_a_table_that_is_not_karpathys_is_named():
    from datasets import Dataset

    with pytest.raises(SourceFormatError, match="x/y has no column 'filename'; it has 'cocoid', 'sentences'"):
        coco_rows(Dataset.from_dict({"cocoid": [1], "sentences": [["a"]]}), "x/y")
