"""`compare`, `ablate`, `caption`, `rate` and `train` with captioners that are not ours."""

from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main
from blip_refine.cli.rate import _begin
from blip_refine.errors import ConfigurationError

from ..refine.server import FakeModel
from ..report.run_folder import make_run
from .vision_server import seeing


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


@pytest.fixture
def dataset(photos):
    """The photos with captions."""
    rows = [f"{name}.jpg,a {name} picture of 10 by 10,test" for name in ("red", "green", "blue")]
    (photos / "captions.csv").write_text("\n".join(["image,caption,split", *rows]) + "\n")
    return photos / "captions.csv"


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_caption_resumes(photos, tmp_path, capsys, other):
    out = tmp_path / "captions.jsonl"
    arguments = (
        "caption",
        photos,
        "--model",
        f"hf:{other('git')}",
        "--num-beams",
        2,
        "--max-new-tokens",
        6,
        "-o",
        out,
    )
    code, printed, error = command(capsys, *arguments)
    assert code == 0, error
    assert "3 captioned" in printed and "Captioner: 18 tokens." in printed
    assert all(row["caption"] and row["tokens"] == 6 for row in rows_of(out))
    code, printed, _ = command(capsys, *arguments)
    assert code == 0 and "0 captioned" in printed and "3 done before" in printed
    code, _, error = command(capsys, *arguments[:-2], "--prompt", "a photo of", "-o", out)
    assert code == 2 and "made with other settings" in error


def test_caption_by_a_server(photos, tmp_path, capsys):
    out = tmp_path / "captions.jsonl"
    (photos / "broken.jpg").write_bytes(b"no picture")
    with seeing() as model:
        arguments = ("caption", photos, "--model", f"openai:m@{model.url},prices=1,2", "-o", out, "--refiner", "rules")
        code, printed, error = command(capsys, *arguments)
        assert code == 0, error
        assert "3 captioned" in printed and "1 failed" in printed and "330 tokens, $0.0004" in printed
        code, printed, _ = command(capsys, "--json", *arguments)
        assert code == 0 and json.loads(printed)["done_before"] == 3
        assert json.loads(printed)["captioner"]["server"] == model.url
    assert len(model.calls) == 2 + 3  # a question at the start of each run, and an image once
    assert {row["caption"].split()[1] for row in rows_of(out) if not row.get("error")} == {"red", "green", "blue"}


def test_the_flag_that_was_typed_is_the_one_refused(photos, tmp_path, capsys):
    name = "openai:m@http://127.0.0.1:9/v1"
    arguments = ("caption", photos, "--model", name, "-o", tmp_path / "c.jsonl", "--temperature", "0.5")
    code, _, error = command(capsys, *arguments)
    assert code == 2 and "--temperature has no effect with the captioner openai:m" in error


def test_a_server_that_answers_nothing_fails_the_command(photos, tmp_path, capsys):
    with seeing(FakeModel(lambda call: "long_rate_limit" if call.number else "answer")) as model:
        name = f"openai:m@{model.url}"
        code, _, error = command(capsys, "caption", photos, "--model", name, "-o", tmp_path / "c.jsonl")
    assert code == 1 and "openai:m captioned none of the 3 images" in error and "Traceback" not in error
    with seeing(FakeModel(lambda call: "unauthorized")) as model:
        code, _, error = command(capsys, "caption", photos, "--model", f"openai:m@{model.url}")
    assert code == 2 and "Incorrect API key" in error


def test_compare(dataset, tmp_path, capsys, other):
    folder = tmp_path / "out"
    with seeing() as model:
        code, printed, error = command(
            capsys, "compare", dataset, "ours=starter", f"git=hf:{other('git')},max_new_tokens=6",
            f"server=openai:m@{model.url},prices=1,2", f"refined=openai:m@{model.url} > rules",
            "--metrics", "Bleu,CIDEr", "-o", folder, "--data-dir", dataset.parent,
        )  # fmt: skip
    assert code == 0, error
    assert "Captioners (seconds and tokens per image, dollars per 1,000 images)" in printed and "110.0" in printed
    systems = json.loads((folder / "coco_metrics.json").read_text())["systems"]
    facts = {name: row["captioner"] for name, row in systems.items()}
    assert facts["ours"]["model"] == "starter" and "tokens" not in facts["ours"]
    assert facts["git"]["tokens"] == 6 and facts["git"]["decoding"]["max_new_tokens"] == 6
    assert facts["server"]["cost"] == pytest.approx(120e-6) and facts["server"]["prompt"].startswith("Describe")
    assert "cost" not in facts["refined"] and all(one["seconds"] > 0 for one in facts.values())
    assert systems["server"]["Bleu_4"] > systems["git"]["Bleu_4"]
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "<h3>Captioners</h3>" in page and f"openai:m at {model.url}" in page


def test_compare_ends_where_a_server_answers_nothing(dataset, capsys):
    with seeing(FakeModel(lambda call: "long_rate_limit" if call.number else "answer")) as model:
        code, _, error = command(
            capsys, "compare", dataset, f"a=openai:m@{model.url}", "--data-dir", dataset.parent, "--metrics", "CIDEr"
        )
    assert code == 1 and "The captioner of 'a' gave none of the 3 captions" in error


def test_compare_finds_bad_systems_before_anything_is_captioned(dataset, capsys, tmp_path):
    with seeing() as model:
        for bad, message in (
            ("hf:nobody/nothing", "nobody/nothing"),
            ("openai:m@http://127.0.0.1:9/v1", "not answer"),
        ):
            code, _, error = command(
                capsys, "compare", dataset, f"a=openai:m@{model.url}", f"b={bad},max_retries=0"
                if bad.startswith("openai") else f"b={bad}", "--data-dir", dataset.parent,
            )  # fmt: skip
            assert code == 2 and message in error and "Traceback" not in error
    assert len(model.calls) == 2, "a question each time, and no image"


def test_ablate(dataset, tmp_path, capsys, other):
    common = ("--dataset", dataset, "--data-dir", dataset.parent, "--split", "test", "--metrics", "Bleu")
    code, printed, error = command(
        capsys, "ablate", f"hf:{other('git')}", *common, "--decoding", "fast", "--decoding", "accurate",
        "--refiner", "rules", "-o", tmp_path / "hf",
    )  # fmt: skip
    assert code == 0, error
    cells = json.loads((tmp_path / "hf" / "ablation.json").read_text())["cells"]
    assert [cell["name"] for cell in cells] == ["fast", "fast | rules", "accurate", "accurate | rules"]
    assert cells[0]["tokens"] > 0 and cells[0]["cost"] == 0
    with seeing() as model:
        arguments = ("ablate", f"openai:m@{model.url}", *common, "--refiner", "rules", "-o", tmp_path / "server")
        code, _, error = command(capsys, *arguments, "--prices", "1,2")
        assert code == 0, error
        cells = json.loads((tmp_path / "server" / "ablation.json").read_text())["cells"]
        assert [cell["name"] for cell in cells] == ["server", "server | rules"]
        assert [cell["tokens"] for cell in cells] == [110, 110]
        assert all(cell["cost"] == pytest.approx(120e-6) for cell in cells)
        code, _, error = command(capsys, *arguments, "--decoding", "fast")
    assert code == 2 and "--decoding has no effect" in error
    assert len(model.calls) == 1 + 3


def test_ablate_with_a_refiner_that_needs_candidates(dataset, tmp_path, capsys, other):
    common = ("--dataset", dataset, "--data-dir", dataset.parent, "--split", "test", "--metrics", "Bleu")
    common = (*common, "--refiner", "consensus")
    code, _, error = command(
        capsys, "ablate", f"hf:{other('git')}", *common, "--decoding", "num_beams=2", "-o", tmp_path / "hf"
    )
    assert code == 0, error
    cells = json.loads((tmp_path / "hf" / "ablation.json").read_text())["cells"]
    assert cells[1]["name"] == "num_beams=2 | consensus" and cells[1]["refinement"]["asked"] == 3
    wide = [row for path in (tmp_path / "hf" / "drafts").glob("*/*.jsonl") for row in rows_of(path)]
    assert max(len(row["candidates"]) for row in wide) > 2
    with seeing() as model:
        code, _, error = command(capsys, "ablate", f"openai:m@{model.url}", *common, "-o", tmp_path / "server")
    assert code == 2 and "'consensus' needs 5 captions per image" in " ".join(error.split())
    assert len(model.calls) == 1, "the question before the run"


def test_rate(tmp_path, capsys):
    run = make_run(tmp_path / "run", images=4)
    with seeing() as model:
        study = _begin(run, run / "r.sqlite", "refined", 3, 1, 0, 0, captioners=[f"server=openai:m@{model.url}"])
        assert study.systems == ("refined", "server") and len(model.calls) == 4
        with study.connect() as database:
            captions = [json.loads(row["captions"]) for row in database.execute("SELECT captions FROM items")]
        assert all("picture of" in one["server"] for one in captions) and len(captions) == 3
        with pytest.raises(ConfigurationError, match="has a system 'refined' already"):
            _begin(run, run / "s.sqlite", None, 3, 1, 0, 0, captioners=[f"refined=openai:m@{model.url}"])
    code, _, error = command(capsys, "rate", run, "--database", run / "r.sqlite", "--captioner", "a=hf:x/y")
    assert code == 2 and "is one already" in error


def test_they_are_not_trained(dataset, capsys, tmp_path):
    code, _, error = command(
        capsys, "train", "--model", "hf:microsoft/git-base", "--dataset", dataset, "--output", tmp_path / "run"
    )
    assert code == 2 and "cannot be trained" in error and not (tmp_path / "run").exists()
