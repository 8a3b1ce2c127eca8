"""The command line as a person meets it: plain sentences, exit codes, no traceback without --debug."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from blip_refine.cli import main as cli


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    """The real program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "blip_refine", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    """The same in this process, which has imported torch already: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def test_help_names_every_command(capsys):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    for command in cli.COMMANDS:
        assert f" {command} " in out
    for flag in cli.GLOBAL_FLAGS:
        assert flag in out


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(capsys, command):
    code, out, _ = call(capsys, command, "--help")
    assert code == 0 and "Usage: blip-refine" in out


def test_version_of_the_installed_program():
    import blip_refine

    assert run("--version").stdout.split() == ["blip_refine", blip_refine.__version__]


def test_an_unknown_command_is_refused(capsys):
    code, _, err = call(capsys, "captoin")
    assert code == 2 and "captoin" in err


BAD_INPUT = {
    "missing folder": (["caption", "/no/such/folder", "--output", "{out}/c.jsonl"], "/no/such/folder"),
    "unknown model": (
        ["evaluate", "/no/such/model", "--dataset", "scenes:everyday", "--images", "2"],
        "/no/such/model",
    ),
    "Hub id without network": (
        ["evaluate", "someone/some-captioner", "--dataset", "scenes:everyday", "--images", "2"],
        "cannot be reached",
    ),
    "unknown dataset": (["train", "--dataset", "flickr9k"], "flickr8k"),
    "dataset of the Hub without network": (["train", "--dataset", "someone/some-captions"], "someone/some-captions"),
    "no dataset": (["train"], "--dataset"),
    "unknown training argument": (["train", "--dataset", "scenes:everyday", "--lerning-rate", "1"], "--learning-rate"),
    "value of the wrong kind": (["train", "--dataset", "scenes:everyday", "--num-beams", "many"], "num"),
    "missing configuration": (["train", "--config", "/no/such.yaml"], "/no/such.yaml"),
    "wrong header": (["train", "--dataset", "{header}"], "header.csv"),
    "no images": (["train", "--dataset", "{empty}"], "empty"),
    "missing captions file": (
        ["refine", "/no/such.jsonl", "--refiner", "rules", "--output", "{out}/r.jsonl"],
        "/no/such.jsonl",
    ),
    "unknown refiner": (
        ["refine", "{captions}", "--refiner", "no-such-refiner", "--output", "{out}/r.jsonl"],
        "no-such-refiner",
    ),
    "missing run": (["report", "/no/such/run"], "/no/such/run"),
}


@pytest.mark.parametrize(("arguments", "said"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_plain_sentence_and_exit_code_2(capsys, tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "header.csv").write_text("left,right\na.jpg,a photo\n")
    (tmp_path / "captions.jsonl").write_text('{"image_id": "1", "caption": "a red red ball"}\n')
    places = {
        "out": tmp_path,
        "header": tmp_path / "header.csv",
        "empty": tmp_path / "empty",
        "captions": tmp_path / "captions.jsonl",
    }
    code, _, err = call(capsys, *(part.format(**places) for part in arguments))
    assert code == 2, err
    assert said in err and "Traceback" not in err
    assert err.strip().count("\n") <= 3, f"more than a plain sentence:\n{err}"


def test_debug_shows_the_traceback():
    quiet = run("report", "/no/such/run")
    assert quiet.returncode == 2 and "Traceback" not in quiet.stderr
    loud = run("report", "/no/such/run", "--debug")
    assert "Traceback" in loud.stderr


def test_global_flags_stand_before_or_after_the_command():
    assert cli._take_global_flags(["--json", "score", "--debug", "a"]) == (["score", "a"], {"--json", "--debug"})
    assert cli._take_global_flags(["caption", "--", "--json"]) == (["caption", "--", "--json"], set())


def test_a_configuration_file_sets_what_no_flag_sets(capsys, tmp_path):
    config = tmp_path / "settings.yaml"
    config.write_text("dataset: scenes:everyday\ntrain_images: 6\neval-images: 2\nlearning_rate: 1e-3\nbf16: false\n")
    code, out, err = call(
        capsys, "train", "--config", str(config), "--train-images", "4", "--dry-run", "--json", "--quiet"
    )
    assert code == 0, err
    assert json.loads(out)["plan"] == {"train": 4, "validation": 2, "test": 2}
    config.write_text("lerning_rate: 1\n")
    code, _, err = call(capsys, "train", "--config", str(config))
    assert code == 2 and "--learning-rate" in err and "settings.yaml" in err
    config.write_text("- a list\n")
    code, _, err = call(capsys, "train", "--config", str(config))
    assert code == 2 and "settings.yaml" in err


def test_every_training_argument_is_listed(capsys):
    code, out, _ = call(capsys, "train", "--help-all")
    assert code == 0
    for flag in ("--learning-rate", "--max-txt-len", "--captions-per-image", "--num-beams", "--freeze-vision"):
        assert flag in out
