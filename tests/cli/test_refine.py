"""`blip-refine refine` as a person types it: files in and out, resuming after kill -9, no key anywhere."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from blip_refine.cli.main import main
from blip_refine.jsonlines import read_jsonl, write_jsonl

from ..refine.server import FakeModel, serving

KEY = "sk-command-0123456789SECRET"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["refine", *map(str, arguments)])
    return stopped.value.code or 0


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.jsonl"
    write_jsonl(
        path,
        [
            {"image_id": "1.jpg", "caption": "a dog dog on a a beach", "references": ["x"], "confidence": -0.5},
            {"image_id": 2, "caption": "arafed man in a red", "candidates": ["arafed man in a red", "a man", "a man"]},
            {"image_id": "3.jpg", "caption": "", "error": "cannot be read"},
        ],
    )
    return path


def test_rows_are_refined_and_keep_their_fields(captions, tmp_path, capsys):
    output = tmp_path / "out" / "refined.jsonl"
    assert run(captions, "-o", output) == 0
    first, second, third = read_jsonl(output)
    assert first["caption"] == "A dog on a beach." and first["draft"] == "a dog dog on a a beach"
    assert first["references"] == ["x"] and first["confidence"] == -0.5 and first["accepted"] is True
    assert second["image_id"] == 2 and second["caption"] == "A man."
    assert third["caption"] == "" and third["accepted"] is False and third["reason"] == "the draft is empty"
    assert third["error"] == "cannot be read"
    printed = capsys.readouterr().out
    assert "changed" in printed and "draft kept: the draft is empty" in printed and "Next: " in printed


def test_json_for_programs(captions, tmp_path, capsys):
    assert run(captions, "-o", tmp_path / "o.jsonl", "--refiner", "rules>consensus", "--json", "--quiet") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["changed"] == 2 and sum(result["kept"].values()) == 1
    assert list(read_jsonl(tmp_path / "o.jsonl"))[1]["caption"] == "A man."


def test_refining_what_was_refined_starts_from_its_caption(captions, tmp_path):
    assert run(captions, "-o", tmp_path / "a.jsonl") == 0
    assert run(tmp_path / "a.jsonl", "-o", tmp_path / "b.jsonl", "--style", "catalogue") == 0
    row = list(read_jsonl(tmp_path / "b.jsonl"))[0]
    assert row["draft"] == "A dog on a beach." and row["caption"] == "A dog on a beach"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image_id": "1"}], "row 1: `caption` must be there, as text; found nothing"),
        ([{"image_id": "1", "caption": ["a"]}], "found list"),
        ([{"caption": "a"}], "row 1: `image_id` must be there"),
        ([{"image_id": "1", "caption": "a"}, {"image_id": "1", "caption": "b"}], "row 2: the image '1' has a row"),
        ([{"image_id": "1", "caption": "a", "candidates": "b"}], "`candidates` must be a list"),
        ([{"image_id": "1", "caption": "a", "metadata": "b"}], "`metadata` must be an object"),
        ([], "holds no caption"),
    ],
)
def test_bad_rows_are_named(tmp_path, capsys, rows, message):
    path = tmp_path / "captions.jsonl"
    write_jsonl(path, rows)
    assert run(path, "-o", tmp_path / "o.jsonl") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "o.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--refiner", "poet"], "no refiner 'poet'"),
        (["--refiner", "rules>"], "empty part"),
        (["--style", "baroque"], "no 'baroque'"),
        (["--prompt", "poem"], "no option 'prompt'"),
        (["--refiner", "openai:m", "--base-url", "http://127.0.0.1:1/v1", "--prompt", "poem"], "template 'poem'"),
        (["--refiner", "openai:m", "--base-url", "http://127.0.0.1:1/v1", "--var", "brand"], "name=value"),
        (["--refiner", "openai:m", "--base-url", "http://127.0.0.1:1/v1", "--prices", "1"], "IN,OUT"),
        (["--guards", "manners"], "no guard 'manners'"),
        (["--grounding", "starter"], "no row has an `image`"),
        (["--refiner", "openai:m"], "OPENAI_API_KEY is not set"),
        (["--refiner", "openai:m", "--api-key-env", KEY], "by the name of an environment variable"),
        (["--refiner", "instruct:/nowhere"], "cannot be loaded"),
    ],
)
def test_bad_options_are_said_plainly(captions, tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert run(captions, "-o", tmp_path / "o.jsonl", *arguments) == 2
    said = capsys.readouterr().err
    assert message in said and KEY not in said and "Traceback" not in said


def test_the_drafts_are_not_overwritten(captions, capsys):
    assert run(captions, "-o", captions) == 2
    assert "would replace the drafts" in capsys.readouterr().err


def test_a_corpus_for_consensus(captions, tmp_path, capsys):
    corpus = tmp_path / "train.jsonl"
    write_jsonl(corpus, [{"image_id": "9", "captions": ["a man", "a dog"]}, {"image_id": "8", "caption": "a cat"}])
    assert run(captions, "-o", tmp_path / "o.jsonl", "--refiner", "consensus", "--corpus", corpus) == 0
    write_jsonl(corpus, [{"image_id": "9"}])
    assert run(captions, "-o", tmp_path / "o.jsonl", "--refiner", "consensus", "--corpus", corpus) == 2
    assert "neither `caption` nor" in capsys.readouterr().err


def test_the_captioner_can_veto(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), "navy").save(tmp_path / "1.png")
    path = tmp_path / "captions.jsonl"
    write_jsonl(path, [{"image_id": "1", "caption": "a boat boat on a lake", "image": "1.png"}])
    assert run(path, "-o", tmp_path / "o.jsonl", "--grounding", "starter") == 0
    row = next(read_jsonl(tmp_path / "o.jsonl"))
    # A word said twice is something that the captioner has never seen: without it the caption is more likely.
    assert row["caption"] == "A boat on a lake."


def command(path, output, model, *arguments):
    return [
        *(sys.executable, "-m", "blip_refine", "refine", str(path), "-o", str(output), "--refiner", "openai:m"),
        *("--base-url", model.url, "--api-key-env", "KEY_OF_A_TEST", *map(str, arguments)),
    ]


@pytest.mark.posix
def test_a_run_goes_on_after_kill_9_and_pays_nothing_twice(tmp_path):
    path, output = tmp_path / "captions.jsonl", tmp_path / "refined.jsonl"
    write_jsonl(path, [{"image_id": str(k), "caption": f"a man number {k // 2} on a beach"} for k in range(240)])
    cache = tmp_path / "refined.jsonl.cache.sqlite"
    environment = {**os.environ, "KEY_OF_A_TEST": KEY, "OPENAI_LOG": "debug"}
    with serving(FakeModel(lambda call: "error" if call.number % 10 == 4 else "answer", latency=0.05)) as model:
        first = subprocess.Popen(
            command(path, output, model, "--concurrency", 6),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 120
        while len(model.calls) < 50 and time.monotonic() < deadline:
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
        printed = "".join(first.communicate(timeout=60))
        assert first.returncode == -signal.SIGKILL and not output.exists()
        connection = sqlite3.connect(cache)
        known = {key for (key,) in connection.execute("SELECT key FROM answers")}
        connection.close()
        asked_before = len(model.calls)
        assert 20 < len(known) < 120

        second = subprocess.run(
            command(path, output, model, "--concurrency", 6, "--debug"),
            env=environment,
            capture_output=True,
            text=True,
        )
        assert second.returncode == 0, second.stderr
        printed += second.stdout + second.stderr
    rows = list(read_jsonl(output))
    # None lost, and each on its own row.
    assert [(row["image_id"], row["caption"]) for row in rows] == [
        (str(k), f"A man number {k // 2} on a beach.") for k in range(240)
    ]
    # What had come back was not asked again; what was under way may have been, under the same key.
    assert not known & {call.key for call in model.calls[asked_before:]}
    twice = [key for key, times in model.answered.items() if times > 1]
    assert len(twice) <= 6
    # 240 rows are 120 captions: each was asked for once.
    assert len(model.answered) == 120
    # The key is in nothing that the run has written or printed.
    for text in (printed, *(file.read_bytes().decode("latin-1") for file in tmp_path.iterdir())):
        assert KEY not in text and KEY[10:] not in text


def test_a_wrong_key_is_an_error_and_not_a_file_of_drafts(tmp_path):
    path, output = tmp_path / "captions.jsonl", tmp_path / "refined.jsonl"
    write_jsonl(path, [{"image_id": "1", "caption": "a dog"}])
    with serving(FakeModel(lambda call: "unauthorized")) as model:
        failed = subprocess.run(
            command(path, output, model, "--debug"),
            env={**os.environ, "KEY_OF_A_TEST": KEY},
            capture_output=True,
            text=True,
        )
    assert failed.returncode != 0 and "Incorrect API key provided: Bearer [key]" in failed.stderr
    assert KEY not in failed.stderr + failed.stdout and not output.exists()


def test_a_model_that_falls_silent_is_told_also_behind_other_refiners(tmp_path, capsys, monkeypatch):
    path, output = tmp_path / "captions.jsonl", tmp_path / "refined.jsonl"
    write_jsonl(path, [{"image_id": str(k), "caption": f"a man man number {k}"} for k in range(12)])
    monkeypatch.setenv("KEY_OF_A_TEST", KEY)
    with serving(FakeModel(lambda call: "answer")) as model:
        options = ("--base-url", model.url, "--api-key-env", "KEY_OF_A_TEST", "--concurrency", 1, "-o", output)
        assert run(path, *options, "--refiner", "rules>openai:m", "--max-tokens", 1) == 1
        said = capsys.readouterr().err
        assert "openai:m answered none of the 12 captions (the budget of 1 tokens is spent" in said
        assert not model.calls and not output.exists()
        assert run(path, *options, "--refiner", "rules>openai:m", "--max-tokens", 900) == 0
    captured = capsys.readouterr()
    silent = sum(row["attempts"] == 1 and "budget" in row.get("reason", "") for row in read_jsonl(output))
    assert 0 < silent < 12 and len(model.calls) == 12 - silent
    # The rules have changed every caption, so that the table alone would look like success.
    assert f"openai:m did not answer for {silent} of 12 captions: the budget of 900 tokens is spent" in captured.err
