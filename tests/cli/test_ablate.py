from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main
from blip_refine.jsonlines import read_jsonl

from ..refine.server import FakeModel, serving
from ..refine.tiny_bart import save_tiny_bart


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["ablate", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


@pytest.mark.slow
def test_a_grid_over_the_starter(tmp_path, capsys):
    arguments = (
        "starter", "--dataset", "scenes:everyday", "--images", 6, "--decoding", "fast", "--decoding", "candidates",
        "--refiner", "rules", "--refiner", "consensus", "--metrics", "CIDEr", "--output", tmp_path / "a",
    )  # fmt: skip
    code, out, error = command(capsys, *arguments)
    assert code == 0, error
    for name in ("fast", "fast | rules", "fast | consensus", "candidates | consensus"):
        assert name in out
    assert "* no other way" in out and (tmp_path / "a" / "report" / "index.html").is_file()
    code, out, _ = command(capsys, *arguments, "--json")
    assert code == 0
    assert len(json.loads(out)["cells"]) == 6


@pytest.mark.slow
def test_a_server_that_fails_is_named(tmp_path, capsys):
    model = FakeModel()
    with serving(model) as running:
        arguments = (
            "starter", "--dataset", "scenes:everyday", "--images", 3, "--decoding", "fast", "--metrics", "Bleu",
            "--refiner", "openai:m", "--base-url", running.url, "--output", tmp_path,
        )  # fmt: skip
        model.behave = lambda call: "long_rate_limit" if model.calls[0] is not call else "answer"
        code, out, error = command(capsys, *arguments)
        assert code == 0 and "fast | openai:m: 1 of 3 answered; for the others the draft counts" in error
        assert "(1 of 3 answered)" in out and "2 unanswered (" in out
        (tmp_path / "answers.sqlite").unlink()
        model.behave = lambda call: "long_rate_limit"
        code, out, error = command(capsys, *arguments)
    assert code == 1 and error.count("Error: ") == 1 and "Traceback" not in error
    assert "'fast | openai:m' has no score: openai:m answered none of the 3 captions (" in error
    cells = json.loads((tmp_path / "ablation.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in cells["cells"]] == ["fast"] and cells["failed"][0]["name"] == "fast | openai:m"
    assert "has no score" in (tmp_path / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_bart_in_both_orders_beside_the_drafts(tmp_path, capsys):
    bart = save_tiny_bart(tmp_path / "bart")
    fuse, single = f"bart:{bart},guards=false", f"bart:{bart},mode=single,guards=false"
    arguments = (
        "starter", "--dataset", "scenes:everyday", "--images", 4, "--decoding", "fast", "--refiner", fuse,
        "--refiner", single, "--refiner", "bart:nowhere/at/all", "--metrics", "CIDEr", "--output", tmp_path / "a",
    )  # fmt: skip
    code, out, error = command(capsys, *arguments)
    assert code == 1 and "'fast | bart:nowhere/at/all' has no score" in error and "cannot be loaded" in error
    results = [
        json.loads((tmp_path / "a" / name).read_text("utf-8")) for name in ("ablation.json", "coco_metrics.json")
    ]
    plain, fused, alone = results[0]["cells"]
    assert plain["name"] == "fast" and "refinement" not in plain
    for one in (fused, alone):
        assert one["refinement"] == {"asked": 4, "changed": 4, "unchanged": 0} and one["tokens"] > 0
        assert results[1]["systems"][one["name"]]["refinement"] == one["refinement"]
        assert f"{one['name']}, refined: 4 captions: 4 changed, 0 unchanged." in out
    assert fused["tokens"] > 2 * alone["tokens"], "five captions are read, and one"
    drafts, wide = sorted((tmp_path / "a" / "drafts").glob("fast-*"), key=lambda path: len(path.name))
    rows, more = ({row["image_id"]: row for path in of.iterdir() for row in read_jsonl(path)} for of in (drafts, wide))
    assert all(len(row["candidates"]) == 1 for row in rows.values())
    assert {name: row["draft"] for name, row in more.items()} == {name: row["draft"] for name, row in rows.items()}
    assert any(len(row["candidates"]) > 1 for row in more.values())
    made = [path.stat().st_mtime_ns for path in sorted((tmp_path / "a" / "cells").iterdir())]
    code, again, _ = command(capsys, *arguments)
    assert code == 1 and again.replace("\n", "") == out.replace("\n", ""), "the counts survive"
    assert made == [path.stat().st_mtime_ns for path in sorted((tmp_path / "a" / "cells").iterdir())]


@pytest.mark.slow
def test_the_pictures_reach_the_refiner(tmp_path, capsys):
    with serving(FakeModel()) as running:
        refiner = f"openai:m,base_url={running.url},send_image=true"
        code, _, error = command(
            capsys, "starter", "--dataset", "scenes:everyday", "--images", 2, "--decoding", "fast",
            "--refiner", refiner, "--metrics", "CIDEr", "--output", tmp_path,
        )  # fmt: skip
        shown = ["data:image/jpeg;base64," in json.dumps(call.body["messages"]) for call in running.calls]
    assert code == 0 and shown and all(shown), error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--refiner", "magic"], "There is no refiner 'magic'"),
        (["--decoding", "slow"], "There is no decoding preset 'slow'"),
        (["--images", "0"], "at least 1"),
        (["--decoding", "num_beams=1,x"], "num_beams takes a whole number, not 'x'"),
        (["--decoding", "num_beams=2,3", "--num-beams", "3"], "num_beams is in --decoding 'num_beams=2' and a flag"),
        (["--length-penalty", "2", "--decoding", "fast"], "--length-penalty has no effect with one beam"),
        (["--table", "html"], "There is no table format 'html'"),
    ],
)
def test_what_cannot_be_ablated(tmp_path, capsys, options, message):
    code, _, error = command(
        capsys, "starter", "--dataset", "scenes:everyday", "--images", 2, "--output", tmp_path, *options
    )
    assert code == 2 and message in error and "Traceback" not in error


@pytest.mark.slow
def test_a_grid_of_options(tmp_path, capsys):
    arguments = (
        "starter", "--dataset", "scenes:everyday", "--images", 3, "--metrics", "CIDEr", "--output", tmp_path / "a",
        "--decoding", "num_beams=1,3 length_penalty=0.8,1.2", "--decoding", "fast top_p=0.9 num_return_sequences=2",
    )  # fmt: skip
    code, out, error = command(capsys, *arguments, "--min-new-tokens", 2, "--json")
    assert code == 0, error
    value = json.loads(out)
    assert [cell["name"] for cell in value["cells"]] == [
        "num_beams=1", "num_beams=3 length_penalty=0.8", "num_beams=3 length_penalty=1.2",
        "fast top_p=0.9 num_return_sequences=2",
    ]  # fmt: skip
    systems = json.loads((tmp_path / "a" / "coco_metrics.json").read_text())["systems"]
    assert len({row["test_loss"]["nats_per_token"] for row in systems.values()}) == 1
    assert "mBLEU_4" in systems["fast top_p=0.9 num_return_sequences=2"]["diversity"]
    code, out, _ = command(capsys, *arguments, "--min-new-tokens", 2, "--table", "latex")
    assert code == 0 and out.startswith("% needs") and r"num\_beams=3 length\_penalty=0.8 & " in out
    assert "ms per image" in out
    # Kept drafts are those of these flags.
    code, _, error = command(capsys, *arguments, "--min-new-tokens", 3)
    assert code == 2 and "name another folder" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--refiner", "rules", "--refiner-prompt", "refine"], "--refiner-prompt acts on no refiner of this grid"),
        (["--guards", "form"], "--guards acts on no refiner of this grid"),
        (["--refiner", "consensus", "--guards", "none"], "--guards acts on no refiner of this grid"),
    ],
)
def test_a_choice_that_acts_on_no_refiner_is_refused(tmp_path, capsys, arguments, said):
    asked = ("starter", "--dataset", "scenes:everyday", "--images", 2, "--output", tmp_path / "out", *arguments)
    code, out, error = command(capsys, *asked)
    assert code == 2 and said in " ".join(error.split()) and "ways of captioning" not in out + error
    assert not (tmp_path / "out").exists()
