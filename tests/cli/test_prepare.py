"""`blip-refine prepare`, as a person types it."""

from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main

from ..data.image_server import ImageServer
from ..data.photos import encode, make_photo


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(10):
        (folder / f"{n}.jpg").write_bytes(encode(make_photo(n)))
        (folder / f"{n}.txt").write_text(f"a photo with the number {n}")
    (folder / "broken.jpg").write_bytes(b"nonsense")
    (folder / "broken.txt").write_text("a broken photo")
    return folder


def test_a_folder_is_prepared(photos, tmp_path, capsys):
    out = tmp_path / "out"
    code, said, _ = run(
        capsys, "prepare", photos, "--output", out, "--ratios", "60/40", "--preview-augment", "standard"
    )
    assert code == 0 and "unreadable image" in said and "Fingerprint: sha256:" in said
    # The starter knows no photos.
    wanted = "--model Salesforce/blip-image-captioning-base --lora --learning-rate 1e-4"
    assert f"train {wanted} --dataset {out} --output run" in said and f"reason: {out / 'rejected.jsonl'}" in said
    code, said, _ = run(capsys, "prepare", "scenes:everyday", "--option", "count=12", "--output", tmp_path / "drawn")
    assert code == 0 and f"train --dataset {tmp_path / 'drawn'} --output run" in said
    assert (out / "index.html").is_file() and (out / "augmentation.jpg").is_file()


def test_folders_of_one_name_are_told_apart(photos, tmp_path, capsys):
    other = tmp_path / "other" / "photos" / "test"
    other.mkdir(parents=True)
    for n in range(20, 23):
        (other / f"{n}.jpg").write_bytes(encode(make_photo(n)))
        (other / f"{n}.txt").write_text(f"a photo with the number {n}")
    code, said, _ = run(capsys, "prepare", photos, other.parent, "-o", tmp_path / "out", "--json", "--quiet")
    result = json.loads(said)
    assert code == 0 and len(result["sources"]) == 2 and "(none)" not in result["splits"]
    assert result["prepared"]["splits"]["made"] == [str(photos)]


def test_a_source_without_training_images_is_said_to_be_one(photos, tmp_path, capsys):
    (photos.parent / "only" / "test").mkdir(parents=True)
    photos.rename(photos.parent / "only" / "test" / "photos")
    code, said, err = run(capsys, "prepare", photos.parent / "only", "-o", tmp_path / "out")
    assert code == 0 and "Next:" not in said and "--ratios 90/5/5" in err


def test_the_result_as_json(photos, tmp_path, capsys):
    code, said, _ = run(capsys, "prepare", photos, "-o", tmp_path / "out", "--json", "--quiet")
    result = json.loads(said)
    assert code == 0 and result["images"] == 10 and result["rejected"] == {"unreadable image": 1}


def test_several_sources_and_options(photos, tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("datei,text\n" + "".join(f"photos/{n}.jpg,again number {n}\n" for n in range(4)))
    arguments = [
        "prepare",
        table,
        "-o",
        tmp_path / "out",
        "--image-column",
        "datei",
        "--option",
        "name=mine",
        "--json",
    ]
    code, said, _ = run(capsys, *arguments)
    assert code == 0 and list(json.loads(said)["sources"]) == ["mine"]
    arguments = ["prepare", "scenes:everyday", photos, "-o", tmp_path / "two", "--weight", 1, "--weight", 1, "--json"]
    code, said, _ = run(capsys, *arguments)
    assert code == 0 and len(json.loads(said)["sources"]) == 2


def test_a_list_of_urls_is_downloaded(tmp_path, capsys):
    with ImageServer() as server:
        rows = [f"a photo with number {n}\t{server.url}/ok/{n}.jpg" for n in range(4)]
        (tmp_path / "list.tsv").write_text("\n".join([*rows, f"a lost photo\t{server.url}/status/404"]) + "\n")
        arguments = ("prepare", tmp_path / "list.tsv", "--download", "-o", tmp_path / "out", "--json")
        _, _, err = run(capsys, *arguments)
        assert "private address: 5" in err and not server.requests
        code, said, err = run(capsys, *arguments, "--allow-private")
    assert code == 0 and json.loads(said)["images"] == 4
    assert json.loads(said)["rejected"] == {"download failed: not found": 1} and "4 images downloaded" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flickr8"], "Did you mean 'flickr8k'"),
        (["scenes:everyday", "--ratios", "ninety"], "--ratios is 90/5/5"),
        (["scenes:everyday", "--option", "count"], "--option is NAME=VALUE"),
        (["scenes:everyday", "--weight", "1", "--weight", "2"], "1 sources and 2 weights"),
        (["scenes:everyday", "--min-words", "9", "--max-words", "3"], "at least 9 and at most 3"),
        (["scenes:everyday", "--preview-augment", "wild"], "no augmentation 'wild'"),
        (["a", "b", "--download"], "takes one list"),
    ],
)
def test_bad_input_is_one_plain_sentence(arguments, message, tmp_path, capsys):
    code, _, err = run(capsys, "prepare", *arguments, "-o", tmp_path / "out")
    assert code == 2 and message in " ".join(err.split()) and "Traceback" not in err


def test_a_source_without_a_validation_split_can_be_trained_on(photos, capsys):
    from blip_refine.data.source_options import SourceOptions
    from blip_refine.errors import SplitNotFoundError

    folder = photos.parent / "two"
    for split, numbers in (("train", range(5)), ("test", range(5, 8))):
        (folder / split).mkdir(parents=True)
        for n in numbers:
            for suffix in ("jpg", "txt"):
                (photos / f"{n}.{suffix}").rename(folder / split / f"{n}.{suffix}")
    parts = SourceOptions().load_parts(str(folder))
    sizes = {name: part and len(part) for name, part in parts.items()}
    assert sizes == {"train": 5, "validation": None, "test": 3}
    with pytest.raises(SplitNotFoundError, match="no split 'validation'"):
        SourceOptions().load(str(folder), "validation")
