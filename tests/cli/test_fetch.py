from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import blip_refine
from blip_refine.cli.fetch import next_command
from blip_refine.cli.main import main
from blip_refine.data.fetch.catalog import CATALOG, MIRROR
from blip_refine.data.fetch.dataset import Fetched
from blip_refine.data.sources import load_source
from blip_refine.metrics import spice

from ..data import published_files as small
from ..data.file_server import FileServer

ROOT = str(Path(blip_refine.__file__).parent.parent)


@pytest.fixture
def server(monkeypatch):
    with FileServer({**small.flickr8k_files(), **small.nocaps_files(), **small.corenlp_files()}) as running:
        monkeypatch.setenv(MIRROR, running.url)
        for name in ("flickr8k", "nocaps", "spice"):
            monkeypatch.setitem(CATALOG, name, small.with_checksums_of(name, running.files))
        yield running


def run(capsys, *arguments: str, code: int = 0):
    with pytest.raises(SystemExit) as stopped:
        main(["fetch", *arguments])
    printed = capsys.readouterr()
    assert stopped.value.code == code, printed.err
    assert "Traceback" not in printed.err
    return printed


def test_a_dataset_and_what_to_type_next(server, tmp_path, capsys):
    folder = tmp_path / "flickr8k"
    printed = run(capsys, "flickr8k", "--output", str(folder), "--accept-license")
    assert "Licence: For non-commercial research and education alone" in printed.err
    assert f"train --model Salesforce/blip-image-captioning-base --dataset flickr8k --data-dir {folder}" in printed.out
    assert len(load_source("flickr8k", data_dir=folder, split="train")) == 4
    again = json.loads(run(capsys, "flickr8k", "--output", str(folder), "--json").out.splitlines()[0])
    assert again["folder"] == str(folder) and len(again["files"]) == 2, "what was agreed to is not asked again"


def test_without_a_terminal_the_licence_must_be_agreed_to_by_a_flag(server, tmp_path, capsys):
    printed = run(capsys, "flickr8k", "-o", str(tmp_path / "out"), "--quiet", code=2)
    assert "Licence: For non-commercial" in printed.err, "it is shown, also where notes are not wanted"
    assert "The licence of flickr8k must be agreed to. Read it at https://" in printed.err
    assert "add --accept-license" in printed.err and not server.requests and not (tmp_path / "out").exists()


@pytest.mark.posix
@pytest.mark.parametrize(("answer", "code"), [(b"y\n", 0), (b"\n", 2)])
def test_on_a_terminal_it_is_asked(server, tmp_path, answer, code):
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": ROOT, "TERM": "dumb"}
    command = [sys.executable, "-m", "blip_refine", "fetch", "nocaps", "-o", str(tmp_path / "out"), "--images", "1"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    while b"Do you agree to the licence of nocaps?" not in said:
        said += os.read(ours, 1000)
    os.write(ours, answer)
    try:
        while piece := os.read(ours, 1000):
            said += piece
    except OSError:
        pass  # the other side has closed
    assert process.wait() == code, said
    assert (tmp_path / "out" / "fetched.json").exists() == (code == 0)


def test_the_plan_downloads_nothing(server, capsys):
    printed = run(capsys, "coco", "--dry-run", "--parts", "val2014,karpathy")
    assert "* val2014" in printed.out and "6.2 GiB" in printed.out and "  train2014" in printed.out
    assert "Creative Commons Attribution 4.0" in printed.out and not server.requests


def test_some_images_of_nocaps(server, tmp_path, capsys):
    printed = run(capsys, "nocaps", "-o", str(tmp_path), "--accept-license", "--images", "2")
    assert "2 images are here" in printed.out
    assert "--dataset nocaps" in printed.out and "--split validation" in printed.out
    assert "--submission" not in printed.out, "the server takes all of a split alone"


def test_spice_is_found_where_fetch_puts_it(server, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(spice.SPICE_HOME, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path))
    printed = run(capsys, "spice", "--accept-license")
    assert "GNU General Public License" in printed.err
    assert f"Folder: {tmp_path / 'blip_refine' / 'corenlp-3.6.0'}" in printed.out
    jars = spice.corenlp_jars(Path("nowhere/spice-1.0.jar"))
    assert [jar.name for jar in jars] == list(spice.CORENLP) and all(jar.is_file() for jar in jars)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["imagenet"], "Cannot fetch 'imagenet'. Known are coco"),
        (["coco", "--parts", "train2015"], "coco has no part 'train2015'"),
        (["coco", "--parts", ""], "coco has no part (none)"),
        (["flickr8k", "--images", "5"], "--images is for lists of images, and flickr8k comes in whole archives"),
        (["flickr8k", "--allow-private"], "--allow-private is for addresses that strangers wrote"),
        (
            ["flickr8k", "--accept-license", "--expect", "no.json"],
            "no.json is not the fetched.json of another machine",
        ),
    ],
)
def test_bad_input_is_one_sentence(server, capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert message in run(capsys, *arguments, code=2).err
    assert not list(tmp_path.iterdir()) and not server.requests


def test_a_missing_file_is_one_sentence(server, capsys, tmp_path):
    server.files.clear()
    printed = run(capsys, "flickr8k", "-o", str(tmp_path), "--accept-license", code=2)
    assert "Flickr8k_Dataset.zip cannot be downloaded: not found: HTTP 404 Not Found" in printed.err


@pytest.mark.posix
def test_killed_while_downloading_it_goes_on(tmp_path, monkeypatch):
    members = {f"Flicker8k_Dataset/{name}": small.photo(n) for n, name in enumerate(small.FLICKR_NAMES)}
    members |= {f"Flicker8k_Dataset/{number}_filler.jpg": os.urandom(20_000) for number in range(100)}
    files = {**small.flickr8k_files(), f"{small.GITHUB}/Flickr8k_Dataset.zip": small.zipped(members)}
    command = [sys.executable, "-m", "blip_refine", "fetch", "flickr8k", "-o", str(tmp_path), "--accept-license"]
    part = tmp_path / ".downloads" / "Flickr8k_Dataset.zip.part"
    with FileServer(files) as server:
        environment = {**os.environ, "PYTHONPATH": ROOT, MIRROR: server.url}
        # The catalogue's sizes are those of the real files: only what the disk must have room for.
        if shutil.disk_usage(tmp_path).free < 3 * 2**30:
            pytest.skip("the check of free disk space needs 3 GiB")
        server.pause = 0.1
        process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (part.is_file() and part.stat().st_size > 300_000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.pause = 0.0
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        first, second = server.asked(f"{small.GITHUB}/Flickr8k_Dataset.zip")
        assert first is None and second is not None and int(second[6:-1]) > 300_000
    assert len(load_source("flickr8k", data_dir=tmp_path)) == 6 and not part.parent.exists()
    assert len(list((tmp_path / "Flicker8k_Dataset").iterdir())) == 106


@pytest.mark.parametrize(
    ("source", "parts", "wanted"),
    [
        ("coco", ["karpathy", "train2014", "val2014"], "train"),
        ("coco", ["karpathy", "val2014"], "--split test"),
        ("coco", ["annotations2017", "val2017"], "--split validation"),
        ("coco", ["train2014"], None),
        ("nocaps", ["test"], "--split test --submission nocaps_test.json"),
        ("nocaps", ["test", "val"], "--split validation --submission nocaps_val.json"),
        ("conceptual_captions", ["validation"], "--split validation"),
        ("conceptual_captions", ["train", "validation"], "train"),
        ("flickr8k", ["images"], None),
        ("flickr30k", ["captions", "images"], "train"),
        ("", ["corenlp"], "score"),
    ],
)
def test_the_next_command_fits_what_is_here(source, parts, wanted):
    command = next_command(source, Fetched(Path("a folder"), parts, images=10600))
    assert (command is None) == (wanted is None)
    if command is not None:
        assert wanted in command and (not source or "--data-dir 'a folder'" in command)
