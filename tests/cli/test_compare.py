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
