"""The flags of refiners are the same in every command, reach the server, and are refused where they cannot act."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
import typer
from PIL import Image

from blip_refine.cli.main import build_app, main
from blip_refine.cli.refine_options import flag_of
from blip_refine.jsonlines import read_jsonl, write_jsonl
from blip_refine.refine.options import RUN_OPTIONS

from ..refine.server import FakeModel, serving
from ..refine.tiny_bart import save_tiny_bart

COMMANDS = ("caption", "refine", "train", "compare", "ablate", "app")


def run(capsys, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stopped.value.code or 0, printed.out, printed.err


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (64, 64), "navy").save(tmp_path / "1.png")
    return tmp_path / "1.png"


def test_every_command_has_the_same_flags_with_the_same_help():
    from blip_refine.training.arguments import CaptionTrainingArguments

    assert not {field.name for field in fields(CaptionTrainingArguments)} & set(RUN_OPTIONS), "train would have two"
    commands = typer.main.get_command(build_app()).commands
    for name, option in RUN_OPTIONS.items():
        helps = set()
        for command in COMMANDS:
            parameter = next(one for one in commands[command].params if one.name == name)
            assert flag_of(option) in parameter.opts
            if (command, name) != ("ablate", "guards"):  # a dimension of the grid there
                helps.add(parameter.help)
        assert len(helps) == 1, name


OPENAI = ("--refiner", "openai:m", "--base-url", "http://127.0.0.1:9/v1")
SCENES = ("--dataset", "scenes:everyday")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("caption", "x.png", "--refiner", "rules", "--refiner-temperature", 1),
         "--refiner-temperature cannot act: the refiner 'rules' has no option 'temperature'"),
        (("caption", "x.png", "--instruction", "Be brief."), "--instruction is for a refiner, and no refiner"),
        (("caption", "x.png", "--refiner", "none", "--send-image"), "--send-image is for a refiner"),
        (("caption", "x.png", "--refiner", "rules>", "--send-image"), "empty part"),
        (("caption", "x.png", "--refiner", "openai:m,temperature=1", "--refiner-temperature", 0.5),
         "the name of the refiner sets 'temperature' already"),
        (("caption", "x.png", "--refiner", "consensus", "--guards", "form"), "--guards cannot act"),
        (("caption", "x.png", "--refiner", "consensus", "--grounding", "starter"), "--grounding cannot act"),
        (("train", *SCENES, "--refiner", "bart", "--prices", "1,2"), "--prices cannot act: the refiner 'bart'"),
        (("train", *SCENES, "--reasoning-effort", "low"), "--reasoning-effort is for a refiner"),
        (("train", *SCENES, "--dry-run", "--refiner", "rules", "--instruction", "x"), "--instruction cannot act"),
        (("compare", "scenes:everyday", "a=starter", "--send-image"), "--send-image is for a refiner"),
        (("compare", "scenes:everyday", "a=starter > rules", "b=starter > bart", "--prices", "1,2"),
         "none of the refiners 'rules', 'bart' has an option 'prices'"),
        (("ablate", "starter", *SCENES, "--refiner", "rules", "--prices", "1,2"), "--prices cannot act"),
        (("ablate", "starter", *SCENES, "--prices", "1,2"), "--prices is for a refiner"),
        (("ablate", "starter", *SCENES, "--refiner", "openai:m", "--prices", "1"), "IN,OUT"),
        (("app", "starter", "--max-output-tokens", 9), "--max-output-tokens is for a refiner"),
        (("app", "starter", "--refiner", "rules", "--base-url", "http://x/v1"), "--base-url cannot act"),
        (("caption", "x.png", *OPENAI, "--reasoning-effort", "huge"), "none, minimal, low, medium, high, xhigh"),
    ],
)  # fmt: skip
def test_a_flag_that_cannot_act_is_refused_in_one_sentence(arguments, message, capsys, photo, monkeypatch):
    monkeypatch.chdir(photo.parent)
    photo.rename(photo.with_name("x.png"))
    from blip_refine.models import captioner

    monkeypatch.setattr(captioner, "load_captioner", lambda *_, **__: pytest.fail("a model was loaded"))
    code, _, error = run(capsys, *arguments)
    assert code == 2 and message in error and error.count("Error: ") == 1 and "Traceback" not in error


def test_flags_reach_the_server(capsys, photo, tmp_path):
    write_jsonl(tmp_path / "drafts.jsonl", [{"image_id": "1", "caption": "a boat", "image": "1.png"}])
    for command in (
        ("caption", photo, "-o", tmp_path / "c.jsonl"),
        ("refine", tmp_path / "drafts.jsonl", "-o", tmp_path / "r.jsonl"),
    ):
        with serving() as model:
            code, _, error = run(
                capsys, *command, "--refiner", "rules>openai:m", "--base-url", model.url, "--max-output-tokens", 77,
                "--refiner-temperature", 0.4, "--reasoning-effort", "low", "--instruction", "Name colors first.",
                "--send-image", "--guards", "none",
            )  # fmt: skip
        assert code == 0, error
        body = model.calls[-1].body
        assert (body["max_tokens"], body["temperature"], body["reasoning_effort"]) == (77, 0.4, "low")
        assert "Name colors first." in body["messages"][0]["content"]
        assert body["messages"][-1]["content"][1]["type"] == "image_url"


def test_answers_that_were_all_cut_off_are_an_error_that_names_the_flag(capsys, photo, tmp_path):
    write_jsonl(tmp_path / "drafts.jsonl", [{"image_id": "1", "caption": "a boat"}])
    for command in (
        ("caption", photo, "-o", tmp_path / "out.jsonl"),
        ("refine", tmp_path / "drafts.jsonl", "-o", tmp_path / "out.jsonl"),
        ("compare", "scenes:everyday", "a=starter > openai:m", "--images", 2),
    ):
        with serving(FakeModel(lambda call: "think")) as model:
            code, _, error = run(
                capsys, *command, *(("--refiner", "openai:m") if command[0] != "compare" else ()),
                "--base-url", model.url, "--max-output-tokens", 50,
            )  # fmt: skip
        assert code == 1 and "cut off while the model was still reasoning (limit 50 tokens)" in error
        assert "--max-output-tokens" in error and not (tmp_path / "out.jsonl").exists()


def test_some_cut_off_answers_are_counted(capsys, tmp_path):
    write_jsonl(tmp_path / "d.jsonl", [{"image_id": str(k), "caption": f"a boat number {k}"} for k in range(4)])
    with serving(FakeModel(lambda call: "cut_off" if call.draft.endswith("2") else "answer")) as model:
        code, out, error = run(
            capsys, "refine", tmp_path / "d.jsonl", "-o", tmp_path / "o.jsonl", "--refiner", "openai:m",
            "--base-url", model.url,
        )  # fmt: skip
    assert code == 0 and "no answer: cut off (limit 200 tokens)" in " ".join(out.split())
    assert "did not answer for 1 of 4" in error
    assert [row["outcome"] for row in read_jsonl(tmp_path / "o.jsonl")] == ["changed"] * 2 + ["unanswered", "changed"]


@pytest.mark.slow
def test_a_grid_gives_each_refiner_what_it_knows(capsys, tmp_path):
    bart = save_tiny_bart(tmp_path / "bart")
    with serving() as model:
        code, _, error = run(
            capsys, "ablate", "starter", *SCENES, "--images", 3, "--decoding", "candidates", "--metrics", "CIDEr",
            "--refiner", "rules", "--refiner", f"bart:{bart}", "--refiner", "openai:m", "--output", tmp_path / "a",
            "--prices", "1,2", "--base-url", model.url, "--instruction", "Be brief.", "--grounding", "starter",
        )  # fmt: skip
    assert code == 0, error
    cells = {one["refiner"]: one for one in json.loads((tmp_path / "a" / "ablation.json").read_text())["cells"]}
    assert set(cells) == {"none", "rules", f"bart:{bart}", "openai:m"}
    assert cells["openai:m"]["cost"] == pytest.approx(120 / 1e6) and "cost" not in cells[f"bart:{bart}"]
    assert "Be brief." in model.calls[0].body["messages"][0]["content"]


def test_a_comparison_gives_each_refiner_what_it_knows(capsys):
    with serving() as model:
        code, out, error = run(
            capsys, "compare", "scenes:everyday", "a=starter > rules", "b=starter > openai:m", "--images", 3,
            "--metrics", "CIDEr", "--base-url", model.url, "--send-image",
        )  # fmt: skip
    assert code == 0, error
    assert "b, refined: 3 captions: " in out and len(model.calls) == 4


def test_a_file_of_settings_sets_the_refiner_too(tmp_path, capsys):
    path = tmp_path / "train.yaml"
    path.write_text("dataset: scenes:everyday\nrefiner: rules\nrefiner_temperature: 0.3\n")
    code, _, error = run(capsys, "train", "--config", path, "--dry-run")
    assert code == 2 and "--refiner-temperature cannot act" in error
