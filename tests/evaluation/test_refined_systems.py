"""A refiner in `train` and `compare`: it sees the pictures, its answers are counted, and silence is no result."""

from __future__ import annotations

import json

import pytest

from blip_refine import BlipCaptionDataset, CaptionTrainingArguments
from blip_refine.cli.main import main
from blip_refine.errors import ModelError, RefinerUnansweredError
from blip_refine.evaluation.compare import compare_systems
from blip_refine.finetune import finetune
from blip_refine.pipeline import CaptionPipeline
from blip_refine.report.report import write_report

from ..refine.server import FakeModel, serving
from ..refine.tiny_bart import save_tiny_bart

METRICS = ["Bleu", "CIDEr"]


@pytest.fixture(scope="module")
def bart(tmp_path_factory) -> str:
    return save_tiny_bart(tmp_path_factory.mktemp("bart"))


@pytest.fixture(scope="module")
def scenes() -> dict[str, BlipCaptionDataset]:
    return {
        split: BlipCaptionDataset.from_source("scenes:everyday", split=split, count=4)
        for split in ("train", "validation", "test")
    }


def named(model: FakeModel, *options: str) -> str:
    """The refiner that asks the server of a test."""
    return ",".join(["openai:m", f"base_url={model.url}", "max_retries=0", "retries=0", "concurrency=1", *options])


def after_the_first(behaviour: str):
    """A server that answers one question, and then misbehaves."""
    return FakeModel(lambda call: "answer" if call.number == 0 else behaviour)


def train(folder, scenes, refiner: str):
    args = CaptionTrainingArguments(str(folder), num_train_epochs=1, num_beams=2, gradient_checkpointing=False)
    return finetune("starter", args, *scenes.values(), dataset="scenes:everyday", refiner=refiner, metrics=METRICS)


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_comparison_says_over_how_many_captions_it_was_measured(tmp_path, capsys):
    folder = tmp_path / "run"
    with serving(FakeModel(lambda call: "error" if call.number == 2 else "answer")) as model:
        refined = f"refined=starter > {named(model, 'send_image=true')}"
        with pytest.raises(SystemExit) as stopped:
            main(
                ["compare", "scenes:everyday", "plain=starter", refined, "--images", "4", "--metrics", "Bleu,CIDEr"]
                + ["--output", str(folder)]
            )
        # The first call is the question before the run, without a picture.
        pictures = ["data:image/jpeg;base64," in json.dumps(call.body["messages"]) for call in model.calls]
    assert not stopped.value.code and pictures == [False, True, True, True, True]
    counts = read(folder / "coco_metrics.json")["systems"]["refined"]["refinement"]
    assert counts["asked"] == 4 and sum(counts["unanswered"].values()) == 1
    assert "refinement" not in read(folder / "coco_metrics.json")["systems"]["plain"]
    printed = capsys.readouterr().out
    assert "3 of 4" in printed and "refined, refined: 4 captions: " in printed and "1 unanswered (" in printed
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "<small>3 of 4 answered</small>" in page and "1 unanswered (" in page


@pytest.mark.parametrize("behaviour", ["error", "unauthorized"])
def test_a_comparison_with_a_silent_refiner_is_an_error(behaviour, tmp_path, capsys):
    for server, calls in ((FakeModel(lambda call: behaviour), 1), (after_the_first(behaviour), 2)):
        with serving(server) as model, pytest.raises(SystemExit) as stopped:
            main(
                ["compare", "scenes:everyday", "a=starter", f"b=starter > {named(model)}", "--images", "4"]
                + ["--output", str(tmp_path / "run")]
            )
        said = capsys.readouterr()
        assert stopped.value.code == 1 and len(model.calls) >= calls and not (tmp_path / "run").exists()
        assert said.err.count("Error: ") == 1 and "key" in said.err and "no clear difference" not in said.out


def test_training_refuses_a_refiner_that_cannot_work_before_it_trains(tmp_path, scenes):
    with serving(FakeModel(lambda call: "unauthorized")) as model:
        with pytest.raises(RefinerUnansweredError, match="Incorrect API key"):
            train(tmp_path / "run", scenes, named(model))
        assert len(model.calls) == 1
    with pytest.raises(ModelError, match="cannot be loaded"):
        train(tmp_path / "run", scenes, "bart:/nowhere/bart")
    assert not (tmp_path / "run").exists()


def test_training_shows_the_pictures_and_writes_the_counts(tmp_path, scenes):
    folder = tmp_path / "run"
    with serving(FakeModel(lambda call: "error" if call.number == 3 else "answer")) as model:
        run = train(folder, scenes, named(model, "send_image=true"))
        shown = ["data:image/jpeg;base64," in json.dumps(call.body["messages"]) for call in model.calls]
    assert shown == [False, True, True, True, True]
    facts, metrics = read(folder / "run.json"), read(folder / "coco_metrics.json")
    counts = metrics["systems"]["refined"]["refinement"]
    assert facts["refinement"] == counts == run.systems["refined"].refinement and facts["refiner"] == "openai:m"
    assert counts["asked"] == 4 and sum(counts["unanswered"].values()) == 1
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "| refined (3 of 4 answered) |" in card and "- refined: 4 captions: " in card and "1 unanswered (" in card
    assert "3 of 4 answered" in write_report(folder).read_text(encoding="utf-8")


def test_a_server_that_dies_while_training_leaves_no_refined_row(tmp_path, scenes):
    folder = tmp_path / "run"
    with serving(after_the_first("error")) as model, pytest.raises(RefinerUnansweredError) as refused:
        train(folder, scenes, named(model))
    assert "openai:m answered none of the 4 captions" in str(refused.value) and str(folder) in str(refused.value)
    assert list(read(folder / "coco_metrics.json")["systems"]) == ["before", "after"]
    facts = read(folder / "run.json")
    assert "refiner" not in facts and "refinement" not in facts
    for name in ("README.md", "predictions.jsonl"):
        assert "refined" not in (folder / name).read_text(encoding="utf-8"), name
    assert (folder / "model.safetensors").is_file() and (folder / "report" / "index.html").is_file()


def test_bart_is_given_candidates_by_whoever_runs_it(tmp_path, scenes, bart):
    folder = tmp_path / "run"
    run = train(folder, scenes, f"bart:{bart},guards=false")  # two beams: too few for five candidates
    counts = run.systems["refined"].refinement
    assert counts == {"asked": 4, "changed": 4, "unchanged": 0}
    refined = f"starter > bart:{bart}"
    comparison = compare_systems({"plain": "starter", "refined": refined}, scenes["test"], metrics=METRICS)
    counts = comparison.refinement["refined"]
    assert sum(counts["rejected"].values()) == 4, "guards reject what a random model says; it was asked every time"
    assert comparison.captions["plain"].keys() == comparison.captions["refined"].keys()


@pytest.mark.parametrize("decoding", ["accurate", "fast", "creative", "candidates"])
def test_the_draft_is_the_same_with_a_refiner_that_needs_candidates(decoding, scenes, bart):
    changes = {"seed": 0} if decoding == "creative" else {}
    images = scenes["test"].records
    alone = CaptionPipeline.from_pretrained("starter", decoding=decoding, changes=changes)(images)
    pipeline = CaptionPipeline.from_pretrained("starter", decoding=decoding, changes=changes, refiner=f"bart:{bart}")
    given = pipeline(images)
    assert [one.draft for one in given] == [one.draft for one in alone]
    for one in given:
        assert one.candidates[0] == one.draft and len(one.candidates) == len(one.candidate_confidences)
    assert any(len(one.candidates) > 1 for one in given) and all(one.outcome != "unanswered" for one in given)
    assert all(one.outcome is None for one in alone)
    single = CaptionPipeline.from_pretrained("starter", decoding="fast", refiner=f"bart:{bart},mode=single")
    assert len(single(images)[0].candidates) == 1


def test_captioning_with_a_silent_refiner_ends_with_an_error(tmp_path, scenes, capsys):
    for number, record in enumerate(scenes["test"].records):
        record.image.save(tmp_path / f"{number}.png")

    def caption(server: FakeModel) -> int:
        with serving(server) as model, pytest.raises(SystemExit) as stopped:
            main(
                ["caption", str(tmp_path), "--refiner", named(model), "--output", str(tmp_path / "out.jsonl")]
                + ["--overwrite"]
            )
        return stopped.value.code or 0

    assert caption(FakeModel(lambda call: "unauthorized")) == 1
    assert "Incorrect API key" in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()
    assert caption(after_the_first("error")) == 1
    captured = capsys.readouterr()
    assert "Refiner: 4 captions: 0 changed, 0 unchanged, 4 unanswered (" in captured.out
    assert "openai:m answered none of the 4 captions" in captured.err
    assert caption(FakeModel()) == 0
    assert "Refiner: 4 captions: 4 changed, 0 unchanged." in capsys.readouterr().out
