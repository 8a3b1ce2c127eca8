"""`blip-refine caption` as a person types it: resumed, killed, interrupted, and told what went wrong."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from blip_refine.caption_files import read_captions
from blip_refine.cli.caption_inputs import CommandInputs, Shard
from blip_refine.cli.main import main
from blip_refine.data.sources.scenes import make_scene
from blip_refine.jsonlines import dump_row, read_jsonl
from blip_refine.url_images import UrlLimits


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
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


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
        (["--block-file", "0.jpg"], "is no text in UTF-8"),
        (["--output", "captions.doc"], "by the name's ending"),
        (["--dtype", "int3"], "no precision"),
        (["--refiner", "poet"], "no refiner 'poet'"),
    ],
)
def test_bad_options_are_one_plain_sentence(photos, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(photos)
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


def test_what_is_missing_beside_photos_that_are_done_is_made_up_for(photos, tmp_path, capsys):
    output, copies = tmp_path / "c.jsonl", photos / "with alt"
    (photos / "x").mkdir()
    make_scene("everyday", "test", 7).image.save(photos / "x" / "0.jpg")
    options = [photos, "--output", output, "--decoding", "fast", "--sidecar", "txt", "--embed-metadata", copies]
    assert run(*options[:5]) == 0
    (photos / "1.txt").write_text("by hand\n")
    assert run(*options) == 0
    printed = capsys.readouterr().out
    assert "7 done before" in printed and "6 sidecars" in printed and "1 files kept" in printed
    captions = {row["image_id"]: row["caption"] for row in read_jsonl(output)}
    for image_id, caption in captions.items():
        expected = "by hand" if image_id.endswith("/1.jpg") else caption
        assert open(image_id.replace(".jpg", ".txt"), encoding="utf-8").read() == expected + "\n"
        assert caption.encode() in (copies / os.path.relpath(image_id, photos)).read_bytes()
    # Another run takes the copies, which lie below the photos, for no photos; and has nothing to do.
    assert run(*options) == 0
    text = capsys.readouterr().out
    assert "0 captioned" in text and "7 done before" in text and "sidecars" not in text and "copies" not in text
    # What an earlier run wrote of another picture is replaced.
    make_scene("everyday", "test", 9).image.save(photos / "0.jpg")
    make_scene("everyday", "test", 8).image.save(photos / "1.jpg")
    assert run(*options) == 0
    captions = {row["image_id"]: row["caption"] for row in read_jsonl(output)}
    assert (photos / "0.txt").read_text() == captions[f"{photos}/0.jpg"] + "\n"
    assert captions[f"{photos}/0.jpg"].encode() in (copies / "0.jpg").read_bytes()
    assert (photos / "1.txt").read_text() == "by hand\n"


def test_places_of_sidecars_and_copies_do_not_hang_on_what_was_done_before(photos, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for number, folder in enumerate((one, other)):
        folder.mkdir()
        for kind in ("jpg", "png"):
            make_scene("everyday", "test", number).image.save(folder / f"a.{kind}")
    output = tmp_path / "c.jsonl"
    options = ["--output", output, "--decoding", "fast", "--embed-metadata", tmp_path / "copies", "--sidecar", "txt"]
    assert run(one / "a.jpg", *options) == 0 and run(one, other, *options) == 0
    flat = "_".join(other.parts[1:])
    assert sorted(path.name for path in (tmp_path / "copies").iterdir()) == sorted(
        ["a.jpg", "a.png", f"{flat}_a.jpg", f"{flat}_a.png"]
    )
    for folder in (one, other):
        assert sorted(path.name for path in folder.iterdir()) == ["a.jpg", "a.png", "a.png.txt", "a.txt"]


def test_nothing_that_is_asked_for_replaces_an_original(photos, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    odd = photos / "photo.txt"  # a picture, whatever it is called
    odd.write_bytes(before["0.jpg"])
    options = ["--decoding", "fast", "--overwrite", "--embed-metadata"]
    assert run(photos, *options, photos) == 2 and run(photos / "0.jpg", *options, photos / ".") == 2
    assert "holds the images" in capsys.readouterr().err
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "0.jpg").symlink_to(photos / "0.jpg")
    assert run(photos, *options, tmp_path / "linked", "--sidecar", "txt") == 0
    assert "1 copies that would have replaced their photo" in capsys.readouterr().err
    assert run(odd, "--decoding", "fast", "--overwrite", "--sidecar", "txt") == 0
    assert odd.read_bytes() == before["0.jpg"] and (photos / "photo.txt.txt").read_text().strip()
    assert before == {name: (photos / name).read_bytes() for name in before}
    output = tmp_path / "c.jsonl"
    assert run(photos, "--output", output, "--review", f"{tmp_path}/../{tmp_path.name}/c.jsonl") == 2
    assert "a file of its own" in capsys.readouterr().err


def test_places_that_cannot_be_written_are_told_before_a_model_is_loaded(photos, tmp_path, capsys):
    none = ["--model", "no/such-model"]
    for option in ("--output", "--review", "--embed-metadata"):
        assert run(photos, option, photos / "0.jpg" / "x.jsonl", *none) == 2
        assert "cannot be written" in capsys.readouterr().err
    assert run(photos, "--output", "captions.doc", *none) == 2
    assert "by the name's ending" in capsys.readouterr().err
    # One sidecar that cannot be written is counted; if there is no other, the run has failed.
    (photos / "0.txt").mkdir()
    assert run(photos, "--decoding", "fast", "--sidecar", "txt", "--overwrite") == 0
    assert "1 sidecars that could not be written: Is a directory" in capsys.readouterr().err
    assert run(photos / "0.jpg", "--decoding", "fast", "--sidecar", "txt", "--overwrite") == 2
    assert "None of the files beside the images could be written" in capsys.readouterr().err


def test_shares_are_disjoint_stable_and_each_goes_on_by_itself(photos, tmp_path, capsys):
    for number in range(6, 24):
        make_scene("everyday", "test", number).image.save(photos / f"{number}.jpg")
    output = tmp_path / "captions.csv"
    options = ["--output", output, "--decoding", "fast", "--review", tmp_path / "review.jsonl", "--sidecar", "txt"]
    held = {}
    for number in (1, 2, 3):
        assert run(photos, *options, "--shard", f"{number}/3") == 0
        held[number] = {
            row["image_id"]: row["caption"] for row in read_captions(output.with_name(f"captions-{number}-of-3.csv"))
        }
        assert len(list(read_jsonl(tmp_path / f"review-{number}-of-3.jsonl"))) == len(held[number]) > 2
    names = [name for share in held.values() for name in share]
    assert len(names) == len(set(names)) == 24 and not output.exists()
    assert len(list(photos.glob("*.txt"))) == 24
    # Elsewhere, and with more photos, an image stays where it was.
    elsewhere = tmp_path / "another machine"
    photos.rename(elsewhere)
    for number in range(24, 30):
        make_scene("everyday", "test", number).image.save(elsewhere / f"{number}.jpg")
    capsys.readouterr()
    for pattern in (f"{elsewhere}/**/*.jpg", f"{elsewhere}/*.jpg"):
        inputs = CommandInputs([pattern], limits=UrlLimits())
        for number, share in held.items():
            found = {
                os.path.basename(one.image_id) for one in inputs if Shard(number, 3).holds(inputs.share_name(one))
            }
            assert {os.path.basename(name) for name in share} <= found
    elsewhere.rename(photos)
    assert run(photos, *options, "--shard", "2/3") == 0
    assert f"{len(held[2])} done before" in capsys.readouterr().out
    assert run(photos, *options, "--shard", "2/3", "--dry-run") == 0
    assert "in share 2/3: 0 to caption" in capsys.readouterr().out
    for wrong in ("0/3", "4/3", "3", "1/0", "a/b", "-1/3"):
        assert run(photos, f"--shard={wrong}") == 2
        assert "--shard is 1/16, 2/16" in capsys.readouterr().err


def test_names_that_are_trusted_are_not_read_again(photos, tmp_path, capsys):
    options = [photos, "--output", tmp_path / "c.parquet", "--decoding", "fast", "--trust-names"]
    assert run(*options) == 0
    for number in range(5):
        (photos / f"{number}.jpg").write_bytes(b"")  # whoever reads it will notice
    (photos / "new.jpg").write_bytes((photos / "5.jpg").read_bytes())
    capsys.readouterr()
    assert run(*options) == 0
    assert "1 captioned" in (text := capsys.readouterr().out) and "6 done before" in text and "failed" not in text
    assert run(photos, "--trust-names") == 2
    assert "give one" in capsys.readouterr().err


def test_a_list_on_standard_input_names_files_as_they_are(photos, tmp_path, monkeypatch, capsys):
    os.rename(photos / "0.jpg", photos / " 0.jpg")
    name = os.fsencode(photos) + b"/bad\xff.jpg"
    os.rename(photos / "1.jpg", name)
    text = os.fsencode(photos) + b"/ 0.jpg\n\n" + name + b"\r\n  " + os.fsencode(photos) + b"/2.jpg \n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text), encoding="utf-8"))
    output = tmp_path / "c.jsonl"
    assert run("-", "--output", output, "--decoding", "fast") == 0
    rows = list(read_jsonl(output))
    assert [row["image_id"] for row in rows] == [f"{photos}/ 0.jpg", f"{photos}/bad\\xff.jpg", f"{photos}/2.jpg"]
    assert all(row["caption"] for row in rows) and rows[1]["image"] == "photos/bad\\xff.jpg"


def test_a_terminal_that_lacks_a_letter_does_not_end_the_run(photos, monkeypatch):
    os.rename(photos / "0.jpg", photos / "caf\u00e9 \u72ac.jpg")
    printed = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(printed, encoding="ascii", write_through=True))
    assert run(photos, "--decoding", "fast") == 0
    assert b"/caf\\xe9 \\u72ac.jpg: " in printed.getvalue() and printed.getvalue().count(b"\n") == 6


def test_a_dry_run_knows_tables_and_what_a_killed_run_left(photos, tmp_path, capsys):
    output = tmp_path / "c.csv"
    assert run(photos / "0.jpg", photos / "1.jpg", "--output", output, "--decoding", "fast") == 0
    assert run(photos, "--output", output, "--dry-run") == 0
    assert "4 to caption, 2 with a caption" in capsys.readouterr().out
    with open(tmp_path / "c.jsonl", "w") as file:
        file.writelines([dump_row(row) for row in read_captions(output)] + ['{"image_id": "x", "ca'])
    assert run(photos, "--output", tmp_path / "c.jsonl", "--dry-run") == 0
    assert "4 to caption, 2 with a caption" in capsys.readouterr().out


@contextmanager
def signalled(number: int, when):
    """This process gets a signal as soon as `when()` is true, and none once the block has ended: the handler is gone
    by then, and the signal would end whatever test runs."""
    over, before = threading.Event(), signal.getsignal(number)

    def send():
        deadline = time.monotonic() + 60
        while not when():
            if over.wait(0.005) or time.monotonic() > deadline:
                return
        if not over.is_set() and signal.getsignal(number) is not before:
            os.kill(os.getpid(), number)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)


@pytest.mark.posix
def test_what_a_scheduler_sends_before_it_kills_ends_the_run_in_order(photos, tmp_path, capsys):
    for number in range(6, 60):
        make_scene("everyday", "test", number).image.save(photos / f"{number}.jpg")
    table, journal = tmp_path / "c.csv", tmp_path / ".c.csv.rows.jsonl"
    with signalled(signal.SIGTERM, lambda: journal.exists() and journal.stat().st_size > 0):
        assert run(photos, "--output", table, "--batch-size", 2) == 130
    assert "Stopping" in capsys.readouterr().err
    assert 2 <= len(list(read_captions(table))) < 60 and not journal.exists()


@pytest.mark.posix
def test_waiting_for_a_list_that_does_not_end_is_ended_and_what_it_named_is_captioned(photos, tmp_path, monkeypatch):
    output = tmp_path / "listed.jsonl"
    reading, writing = os.pipe()
    os.write(writing, "".join(f"{photos}/{number}.jpg\n" for number in range(3)).encode())
    with open(reading, encoding="utf-8") as listed:
        monkeypatch.setattr("sys.stdin", listed)

        def is_waiting() -> bool:
            taken = output.exists() and not select.select([reading], [], [], 0)[0]
            time.sleep(0.5 if taken else 0)  # for the lines that have been taken to be named
            return taken

        with signalled(signal.SIGINT, is_waiting):
            assert run("-", "--output", output, "--decoding", "fast") == 130
    os.close(writing)
    assert len(list(read_jsonl(output))) == 3


@pytest.mark.posix
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
    process.communicate(timeout=30)
    data = output.read_bytes()
    assert data.endswith(b"\n") and all(json.loads(line)["caption"] for line in data.splitlines())
    assert data.count(b"\n") % 2 == 0 and 4 <= data.count(b"\n") < 60
    process = start(*arguments)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert output.read_bytes().startswith(data), "what was done is not done again"
    names = [row["image_id"] for row in read_jsonl(output)]
    assert len(names) == len(set(names)) == 60


@pytest.mark.posix
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
