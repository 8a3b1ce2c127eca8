from __future__ import annotations

import json
import subprocess
import sys

import pytest

from blip_refine.cli.main import main
from blip_refine.data.sources import load_source


@pytest.fixture
def files(tmp_path):
    """References and two systems, as files."""
    things = ("ball", "house", "boat", "tree", "star", "fish", "car", "dog", "bird", "kite", "bus", "lamp")

    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return {
        "references": write(
            "references.jsonl", [{"image_id": t, "captions": [f"a {t} on grass", f"the {t} on grass"]} for t in things]
        ),
        "before": write("before.jsonl", [{"image_id": t, "caption": "a thing"} for t in things]),
        "after": write("after.jsonl", [{"image_id": t, "caption": f"the {t} on grass"} for t in things]),
    }


def run(capsys, *arguments) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


def test_files_are_compared_and_reported(files, tmp_path, capsys):
    folder = tmp_path / "out"
    code, out, _ = run(
        capsys, "compare", files["references"], f"before={files['before']}", f"after={files['after']}",
        "--metrics", "Bleu,CIDEr", "-o", folder,
    )  # fmt: skip
    assert code == 0
    assert "12 images, all references" in out and "Against the first reference alone" in out
    assert "after against before" in out and "better" in out and "12 / 0 / 0" in out
    assert "Images that gained most" in out
    assert (folder / "report" / "index.html").is_file() and (folder / "predictions.jsonl").is_file()


def test_json(files, capsys):
    code, out, _ = run(
        capsys, "--json", "compare", files["references"], files["before"], files["after"], "--metrics", "CIDEr"
    )
    value = json.loads(out)
    assert code == 0 and list(value["systems"]) == ["before", "after"]
    assert value["comparisons"][0]["wins"] == 12


def test_files_are_compared_without_the_libraries_of_models(files):
    code = (
        "import sys\nfrom blip_refine.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: assert not {'torch', 'transformers', 'datasets'} & sys.modules.keys()"
    )
    arguments = ["compare", files["references"], files["before"], files["after"], "--metrics", "CIDEr"]
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.slow
def test_models_on_a_dataset(tmp_path, capsys):
    records = load_source("scenes:everyday", split="test", count=3)
    assert len(records) == 3
    code, out, _ = run(
        capsys, "compare", "scenes:everyday", "starter=starter", "refined=starter > rules", "--images", 3,
        "--metrics", "CIDEr", "--batch-size", 3,
    )  # fmt: skip
    assert code == 0 and "refined against starter" in out


@pytest.mark.parametrize(
    ("systems", "message"),
    [
        (["a=x.jsonl", "a=y.jsonl"], "two systems called 'a'"),
        (["=x.jsonl"], "write NAME=SYSTEM"),
        (["a=none.jsonl"], "There is no file 'none.jsonl'"),
    ],
)
def test_bad_systems(files, capsys, systems, message):
    code, out, error = run(capsys, "compare", files["references"], *systems)
    assert code == 2 and message in error and "Traceback" not in error


def test_a_model_needs_images(files, capsys):
    code, _, error = run(capsys, "compare", files["references"], "a=starter")
    assert code == 2 and "name a dataset" in error


@pytest.mark.parametrize("form", ["latex", "markdown", "csv"])
def test_tables_alone_go_to_standard_output(files, tmp_path, capsys, form):
    code, out, error = run(
        capsys, "compare", files["references"], f"a_b={files['before']}", f"50%={files['after']}",
        "--metrics", "METEOR,ROUGE_L", "--table", form, "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0 and "Report:" in error and "Report:" not in out
    assert "one caption per image" in error and "one caption per image" not in out
    first = {"latex": "% needs", "markdown": "Scores against all references", "csv": "system,METEOR,METEOR_lower"}
    assert out.startswith(first[form])
    names = {"latex": (r"a\_b & ", r"50\% & "), "markdown": (r"| a\_b |", "| 50% |"), "csv": ("\na_b,", "\n50%,")}
    assert all(name in out for name in names[form])
    # Single-reference METEOR and ROUGE-L.
    assert {"latex": "% Against the first", "markdown": "Against the first", "csv": "single_METEOR,"}[form] in out


def test_several_captions_in_files_are_measured(files, tmp_path, capsys):
    rows = [json.loads(line) for line in open(files["after"])]
    path = tmp_path / "several.jsonl"
    path.write_text("".join(json.dumps({**row, "candidates": [row["caption"], "a dog"]}) + "\n" for row in rows))
    code, out, _ = run(
        capsys, "--json", "compare", files["references"], f"one={files['after']}", f"two={path}", "--metrics", "CIDEr"
    )
    systems = json.loads(out)["systems"]
    assert code == 0 and systems["two"]["diversity"]["captions_per_image"] == 2
    assert "mBLEU_4" in systems["two"]["diversity"] and "mBLEU_4" in systems["one"]["diversity"]["unavailable"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table", "html"], "there are: latex, markdown, csv"),
        (["--table", "csv", "--json"], "give one of them"),
        (["--num-beams", "2"], "No system is a model that decodes"),
    ],
)
def test_bad_options(files, capsys, flags, message):
    code, out, error = run(capsys, "compare", files["references"], files["before"], *flags)
    assert code == 2 and message in error and not out


@pytest.mark.slow
def test_decoding_of_all_models(tmp_path, capsys):
    arguments = (
        "compare", "scenes:everyday", "a=starter", "b=starter > rules", "--images", 3, "--metrics", "CIDEr",
        "--max-new-tokens", 4, "--top-p", 0.8, "--num-return-sequences", 2, "--json",
    )  # fmt: skip
    code, out, error = run(capsys, *arguments, "-o", tmp_path / "out")
    assert code == 0, error
    first = json.loads(out)["systems"]
    assert first["a"]["test_loss"]["nats_per_token"] > 0 and first["b"]["test_loss"]["unavailable"]
    assert first["a"]["diversity"]["captions_per_image"] == 2 and first["a"]["diversity"]["mean_length"] <= 4
    code, out, _ = run(capsys, *arguments)
    again = json.loads(out)["systems"]["a"]
    assert again["captioner"].pop("seconds") > 0 and first["a"]["captioner"].pop("seconds") > 0
    assert again == first["a"], "sampling is seeded"
    code, _, error = run(capsys, "compare", "scenes:everyday", "a=starter", "--top-p", "7")
    assert code == 2 and "--top-p is a probability" in error and "Loading" not in error
