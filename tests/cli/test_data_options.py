"""The data flags: the same in every command that reads data, and the ones that errors name."""

from __future__ import annotations

import inspect
import json
from importlib import import_module

import pytest

from blip_refine.cli.main import main
from blip_refine.data.source_options import OPTION_NAMES

from ..data.photos import encode, make_photo
from ..data.test_source_options import make_coco

READS_DATA = ("train", "doctor", "evaluate", "compare", "ablate", "prepare")


def call(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def reading(command, source, folder) -> list:
    """The command line of a command that reads a source."""
    return {
        "train": ["train", "--dataset", source, "--dry-run", "--output", folder / "run"],
        "doctor": ["doctor", "--dataset", source],
        "evaluate": ["evaluate", "starter", "--dataset", source, "--output", folder / "run"],
        "ablate": ["ablate", "starter", "--dataset", source, "--output", folder / "run"],
        "compare": ["compare", source, "a=starter"],
        "prepare": ["prepare", source, "--output", folder / "run"],
    }[command]


@pytest.mark.parametrize("command", READS_DATA)
def test_every_command_has_the_same_data_flags(command):
    parameters = inspect.signature(getattr(import_module(f"blip_refine.cli.{command}"), command)).parameters
    options = import_module("blip_refine.cli.data_options")
    for name in OPTION_NAMES:
        alias = "".join(part.capitalize() for part in name.split("_"))
        assert parameters[name].annotation in (alias, getattr(options, alias)), name
        assert parameters[name].default is None


@pytest.mark.parametrize("command", READS_DATA)
def test_a_flag_that_the_source_does_not_know_is_refused_with_those_it_knows(command, tmp_path, capsys):
    coco = make_coco(tmp_path / "coco", {"train2017": range(3), "val2017": range(3, 5)})
    line = reading(command, "coco", tmp_path)
    code, _, err = call(capsys, *line, "--data-dir", coco, "--image-column", "x")
    assert code == 2 and err.splitlines()[-1] == (
        "Error: coco takes no option --image-column; it takes --image-dir, --option restval=..., --option form=...."
    )
    code, _, err = call(capsys, *line, "--data-dir", coco, "--option", "restval=drop")
    assert code == 2 and err.splitlines()[-1].endswith("leave out --option restval=....")


def test_a_flag_of_the_command_is_not_taken_for_an_option_of_the_source(tmp_path, capsys):
    line = reading("train", "someone/photos", tmp_path)
    code, _, err = call(capsys, *line, "--image-dir", "x")
    assert code == 2 and "it takes --option config=..., --option revision=..." in err and "--image-column" in err


@pytest.mark.parametrize("command", READS_DATA)
def test_an_error_names_a_flag_that_the_command_has(command, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("bild,wort\n0.jpg,a photo\n")
    line = reading(command, tmp_path / "list.csv", tmp_path)
    for more, flag in (
        ([], "--image-column NAME"),
        (["--image-column", "bild"], "--caption-column NAME"),
        (["--image-column", "bild", "--caption-column", "wort"], "--image-dir FOLDER"),
    ):
        code, _, err = call(capsys, *line, *more)
        assert code == 2 and err.splitlines()[-1].endswith(flag), err


def test_options_reach_the_source(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for n in range(20):
        (tmp_path / f"photos/{n}.jpg").write_bytes(encode(make_photo(n)))
    rows = "".join(f"{n}.jpg,photo {n},{'train' if n < 15 else 'test'},a {n}: \n" for n in range(20))
    (tmp_path / "list.csv").write_text("bild,wort,teil,vorweg\n" + rows)
    line = reading("train", tmp_path / "list.csv", tmp_path)
    line += ["--image-dir", tmp_path / "photos", "--image-column", "bild", "--caption-column", "wort"]
    code, out, _ = call(capsys, *line, "--split-column", "teil", "--json")
    assert code == 0 and json.loads(out)["plan"] == {"train": 15, "validation": 0, "test": 5}
    code, out, err = call(capsys, *line, "--ratios", "50/50", "--prompt-column", "vorweg", "--json")
    plan = json.loads(out)["plan"]
    assert code == 0 and plan["train"] + plan["test"] == 20 and "have their own (column 'prompt')" in err
    config = tmp_path / "settings.yaml"
    config.write_text(f"image_dir: {tmp_path / 'photos'}\nratios: {{train: 1, test: 1}}\nimage_column: bild\n")
    named = ["--dataset", tmp_path / "list.csv", "--caption-column", "wort", "--output", tmp_path / "run"]
    code, out, _ = call(capsys, "train", *named, "--config", config, "--dry-run", "--json")
    assert code == 0 and json.loads(out)["plan"] == plan


def test_a_doctor_hands_the_data_flags_on_to_train(tmp_path, capsys):
    coco = make_coco(tmp_path / "coco", {"train2017": range(3), "val2017": range(3, 5)})
    code, out, _ = call(
        capsys, *reading("doctor", "coco", tmp_path), "--data-dir", coco, "--option", "form=annotations"
    )
    assert code == 0 and f"--dataset coco --data-dir {coco} --option form=annotations" in out
    code, _, err = call(capsys, "doctor", "--image-dir", "x")
    assert code == 2 and "Without --dataset no data is looked at. Leave out --image-dir." in err


def test_references_in_a_file_take_no_data_flags(tmp_path, capsys):
    (tmp_path / "r.jsonl").write_text('{"image_id": "1", "captions": ["a dog"]}\n')
    for flag in (["--image-dir", "x"], ["--split", "test"], ["--images", "3"], ["--option", "a=b"]):
        code, _, err = call(capsys, "compare", tmp_path / "r.jsonl", f"a={tmp_path / 'p.jsonl'}", *flag)
        assert code == 2 and f"r.jsonl is a file of references. Leave out {flag[0]}." in err


def test_without_a_test_split_validation_is_scored_and_called_so(tmp_path, capsys):
    coco = make_coco(tmp_path / "coco", {"train2017": range(4), "val2017": range(4, 7)})
    named = ["--dataset", "coco", "--data-dir", coco]
    run = tmp_path / "run"
    small = ["--num-train-epochs", "1", "--per-device-train-batch-size", "2", "--metrics", "CIDEr", "--output", run]
    code, out, err = call(capsys, "train", *named, *small, "--refiner", "rules")
    assert code == 0, err
    told = "scored on the validation split, on which the best checkpoint was chosen"
    assert err.count(f"Warning: There is no test split: the model is {told}.") == 1
    assert "3 images of the validation split" in out and "held-out" not in out and "refined" in out
    facts = json.loads((run / "run.json").read_text())
    assert facts["evaluation_split"] == "validation" and list(facts["splits"]) == ["train", "validation"]
    note = f"S{told[1:]}; there is no test split."
    assert facts["evaluation_note"] == note
    card = (run / "README.md").read_text()
    assert f"**{note}**" in card and "On 3 images of the `validation` split" in card and "held-out" not in card
    assert "split: validation" in card
    page = (run / "report/index.html").read_text()
    assert note in page and "on 3 images of the validation split." in page and "held-out" not in page

    scores = tmp_path / "scores"
    code, out, err = call(capsys, "evaluate", run, *named, "--metrics", "CIDEr", "--output", scores)
    assert code == 0 and "Warning: coco has no test split: the validation split is scored." in err
    assert "3 images of the validation split" in out
    assert json.loads((scores / "coco_metrics.json").read_text())["evaluation_split"] == "validation"
    code, out, err = call(capsys, "compare", "coco", f"a={run}", "--data-dir", coco, "--metrics", "CIDEr")
    assert code == 0 and "has no test split" in err and "3 images of the validation split, all references" in out
    code, _, err = call(capsys, "evaluate", run, *named, "--split", "test")
    assert code == 2 and "--ratios train=0.9,validation=0.05,test=0.05." in err


def test_a_plan_says_what_will_be_scored(tmp_path, capsys):
    coco = make_coco(tmp_path / "coco", {"train2017": range(4), "val2017": range(4, 7)})
    code, out, err = call(capsys, *reading("train", "coco", tmp_path), "--data-dir", coco, "--json")
    assert code == 0 and json.loads(out)["scored"] == "validation" and "Warning: There is no test split" in err
    code, out, err = call(
        capsys, *reading("train", "coco", tmp_path), "--data-dir", coco, "--ratios", "train=1", "--json"
    )
    assert code == 0 and json.loads(out)["scored"] is None
    assert "the model is not scored, since there is no validation split either" in err
