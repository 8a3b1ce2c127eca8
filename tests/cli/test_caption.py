"""`blip-refine caption` as a person types it: resumed, killed, interrupted, and told what went wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from blip_refine.cli.main import main
from blip_refine.data.sources.scenes import make_scene
from blip_refine.jsonlines import read_jsonl


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["caption", *map(str, arguments)])
    return stopped.value.code or 0


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        make_scene("everyday", "test", number).image.save(folder / f"{number}.jpg")
    return folder


def start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "blip_refine", "caption", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_second_run_does_only_what_is_new(photos, tmp_path, capsys):
    output = tmp_path / "captions.jsonl"
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nope")
    assert run(photos, "--output", output, "--decoding", "fast") == 0
    printed = capsys.readouterr().out
    assert "6 captioned" in printed and "1 failed" in printed and "1 x cannot be decoded" in printed
    first = {row["image_id"]: row for row in read_jsonl(output)}
    assert len(first) == 7 and first[f"{photos}/broken.jpg"]["error"]
    make_scene("everyday", "test", 9).image.save(photos / "0.jpg")
    make_scene("everyday", "test", 8).image.save(photos / "broken.jpg")
    assert run(photos, "--output", output, "--decoding", "fast") == 0
    assert "2 captioned" in (text := capsys.readouterr().out) and "5 done before" in text
    second = {row["image_id"]: row for row in read_jsonl(output)}
    assert len(list(read_jsonl(output))) == 7, "what was said of the old content is gone"
    assert second[f"{photos}/0.jpg"]["content"] != first[f"{photos}/0.jpg"]["content"]
    assert second[f"{photos}/1.jpg"] == first[f"{photos}/1.jpg"] and "error" not in second[f"{photos}/broken.jpg"]


def test_without_output_captions_are_printed(photos, capsys):
    assert run(photos / "0.jpg", "--decoding", "fast", "--prefix", ">>", "--suffix", ".") == 0
    name, text = capsys.readouterr().out.strip().split(": ")
    assert name == f"{photos}/0.jpg" and text.startswith(">>") and text.endswith(".")
    assert run(photos, "--decoding", "fast", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["captioned"] == 6 and len(result["captions"]) == 6


def test_sidecars_copies_and_the_review_queue(photos, tmp_path, capsys):
    (photos / "1.txt").write_text("by hand\n")
    make_scene("everyday", "test", 7).image.save(photos / "0.png")
    options = ["--decoding", "fast", "--sidecar", "txt", "--embed-metadata", tmp_path / "copies"]
    output, queue = tmp_path / "c.csv", tmp_path / "review.jsonl"
    assert run(photos, "--output", output, *options, "--review", queue, "--abstain-below", -0.25) == 0
    waiting = list(read_jsonl(queue))
    flagged = [row for row in waiting if row["review"]]
    assert len(waiting) == 7 and 0 < len(flagged) < 7 and waiting[: len(flagged)] == flagged
    confidences = [row["confidence"] for row in flagged]
    assert confidences == sorted(confidences) and all(row["caption"] == "" for row in flagged)
    assert (photos / "1.txt").read_text() == "by hand\n", "what a person wrote is kept"
    published = {row["image_id"]: row["caption"] for row in waiting if row["caption"]}
    for image_id, caption in published.items():
        if image_id.endswith(("1.jpg", "0.png")):
            continue
        assert open(image_id.replace(".jpg", ".txt"), encoding="utf-8").read() == caption + "\n"
        assert caption.encode() in (tmp_path / "copies" / os.path.basename(image_id)).read_bytes()
    assert len(list((tmp_path / "copies").iterdir())) == len(published)
    # A second run has nothing to do, and the queue is still that of all captions.
    assert run(photos, "--output", output, *options, "--review", queue, "--abstain-below", -0.25) == 0
    assert list(read_jsonl(queue)) == waiting


def test_dry_run_loads_nothing_and_writes_nothing(photos, tmp_path, capsys):
    output = tmp_path / "captions.jsonl"
    assert run(photos, "missing.jpg", f"{photos}/*.gif", "--output", output, "--dry-run", "--model", "no/such") == 0
    printed = capsys.readouterr().out
    assert "8 inputs: 6 to caption" in printed and "No file fits the pattern" in printed
    assert "missing.jpg: there is no such file" in printed
    assert not output.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--overwrite", "--append"], "give one of them"),
        (["--sidecar", "xml"], "writes txt files"),
        (["--decoding", "best"], "no decoding preset"),
        (["--decoding", "accurate", "--seed", "3"], "no effect without"),
        (["--model", "./nowhere"], "nowhere"),
        (["--block-file", "nowhere.txt"], "There is no file"),
        (["--output", "captions.doc"], "by the name's ending"),
        (["--dtype", "int3"], "no precision"),
        (["--refiner", "poet"], "no refiner 'poet'"),
    ],
)
def test_bad_options_are_one_plain_sentence(photos, capsys, arguments, message):
    assert run(photos, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_other_settings_are_not_mixed_and_total_failure_is_told(photos, tmp_path, capsys):
    output = tmp_path / "captions.jsonl"
    assert run(photos, "--output", output, "--decoding", "fast") == 0
    assert run(photos, "--output", output, "--decoding", "fast", "--suffix", "!") == 2
    assert "--overwrite to begin anew" in capsys.readouterr().err
    assert run(photos, "--output", output, "--decoding", "fast", "--suffix", "!", "--append") == 0
    assert len(list(read_jsonl(output))) == 12
    assert run(tmp_path / "none.jpg", "--output", tmp_path / "x.jsonl") == 2
    assert "None of the 1 images could be captioned" in capsys.readouterr().err


@pytest.mark.slow
def test_kill_nine_loses_the_batch_in_flight_at_most(photos, tmp_path):
    for number in range(6, 60):
        make_scene("everyday", "test", number).image.save(photos / f"{number}.jpg")
    output = tmp_path / "captions.jsonl"
    arguments = (photos, "--output", output, "--batch-size", 2, "--quiet")
    process = start(*arguments)
    while process.poll() is None and (not output.exists() or output.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    data = output.read_bytes()
    assert data.endswith(b"\n") and all(json.loads(line)["caption"] for line in data.splitlines())
    assert data.count(b"\n") % 2 == 0 and 4 <= data.count(b"\n") < 60
    process = start(*arguments)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert output.read_bytes().startswith(data), "what was done is not done again"
    names = [row["image_id"] for row in read_jsonl(output)]
    assert len(names) == len(set(names)) == 60


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(photos, tmp_path):
    for number in range(6, 80):
        make_scene("everyday", "test", number).image.save(photos / f"{number}.jpg")
    output = tmp_path / "captions.csv"
    journal = tmp_path / ".captions.csv.rows.jsonl"
    process = start(photos, "--output", output, "--batch-size", 2)
    while process.poll() is None and (not journal.exists() or journal.stat().st_size == 0):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "Stopping after this batch" in error and "Traceback" not in error
    rows = output.read_text(encoding="utf-8").count("\n") - 1
    assert 2 <= rows < 80 and f"{rows} captioned" in printed
    assert not journal.exists()
